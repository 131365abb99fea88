//! What of an attempt a tenant's budget counts.

use super::super::sender::reached_outside;
use super::super::{Class, Scope, Verdict};
use super::{address, stored};
use crate::config::testing;
use crate::message::Address;
use crate::smtp::Reply;

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
