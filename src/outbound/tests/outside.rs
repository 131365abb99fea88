//! What of an attempt a tenant's budget counts.

use super::super::sender::{other_flow, reached_outside};
use super::super::{Class, Scope, Verdict};
use super::{address, stored};
use crate::config::testing;
use crate::message::Address;
use crate::smtp::Reply;
use crate::store::{RecipientState, RecipientUpdate, Stored};

fn verdict(class: Class) -> Verdict {
    Verdict { scope: Scope::Recipient, class, throttle: None, row: None, reply: Reply::new(250, "2.0.0 whatever") }
}

fn reached(divert_to: Option<Address>) -> u32 {
    let mut config = testing::of_tenant("contoso.onmicrosoft.com", &["lms@contoso.com"], 5_000);
    let app = crate::config::App { divert_to, ..crate::config::App::default_app() };
    config.default_app = std::sync::Arc::new(app);
    let everybody =
        ["taken@example.com", "doubt@example.com", "refused@example.com", "later@example.com", "in@contoso.com"];
    let classes = [Class::Accepted, Class::InDoubt, Class::Refused, Class::Later, Class::Accepted];
    let verdicts: Vec<_> = classes.into_iter().map(verdict).enumerate().collect();
    reached_outside(&config, &config.accounts[0], &stored(&everybody, 10), &verdicts)
}

#[test]
fn whoever_is_outside_and_has_the_mail_or_may_have_it_is_counted() {
    assert_eq!(reached(None), 2);
}

#[test]
fn what_is_diverted_reaches_one_whoever_it_was_for() {
    assert_eq!(reached(Some(address("dev@example.com"))), 1);
    assert_eq!(reached(Some(address("dev@contoso.com"))), 0);
}

#[test]
fn a_message_of_which_only_recipients_within_are_left_waits_for_no_budget() {
    let config = testing::of_tenant("contoso.onmicrosoft.com", &["lms@contoso.com"], 5_000);
    let message = Stored { outside: true, ..stored(&["out@example.com", "in@contoso.com"], 10) };
    let after = |index, state| other_flow(&config, &message, &[RecipientUpdate { index, state, reply: String::new() }]);
    assert_eq!(after(0, RecipientState::Accepted), Some(false));
    assert_eq!(after(0, RecipientState::InDoubt), None, "it is tried again");
    assert_eq!(after(1, RecipientState::Accepted), None);
    let within = Stored { outside: false, ..message.clone() };
    assert_eq!(other_flow(&config, &within, &[]), Some(true));
    assert_eq!(other_flow(&testing::config(Vec::new()), &within, &[]), None, "nobody counts");
}
