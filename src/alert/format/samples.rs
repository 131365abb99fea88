//! Notices for the tests.

use jiff::{Timestamp, tz::TimeZone};

use crate::alert::notice::{Item, Notice, State};
use crate::alert::trouble::{Cause, Kind, Severity};
use crate::message::Address;

fn account() -> Address {
    Address::parse("lms@contoso.com").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(in crate::alert) fn notice(items: Vec<Item>) -> Notice {
    Notice { relay: "relay.contoso.com".to_owned(), at: at("2026-11-21T22:41:00Z"), items, zone: TimeZone::UTC }
}

pub(in crate::alert) fn dead_item() -> Item {
    Item {
        cause: Some(Cause::of(Kind::Held, &account())),
        state: State::Raised,
        severity: Severity::Critical,
        title: "Mail through lms@contoso.com has stopped".to_owned(),
        text: "The password was changed or the sessions were revoked: sign in again, and ask who did it".to_owned(),
        since: at("2026-11-21T22:40:00Z"),
        ends: None,
        waiting: Some(12),
        error: Some(
            "AADSTS50173: The provided grant has expired due to it being <revoked> & a *fresh* auth_token is needed.\r\n Trace ID: 1 \
             Correlation ID: 2"
                .to_owned(),
        ),
        codes: vec![50173],
        todo: "xoauth2-relay login lms@contoso.com".to_owned(),
    }
}

pub(in crate::alert) fn dead_sign_in() -> Notice {
    notice(vec![dead_item()])
}

pub(in crate::alert) fn solved() -> Notice {
    let (error, codes, todo, waiting) = (None, Vec::new(), String::new(), None);
    let title = Cause::of(Kind::Held, &account()).solved();
    let text = "It lasted 3 hours and 2 minutes".to_owned();
    notice(vec![Item { state: State::Solved, title, text, error, codes, todo, waiting, ..dead_item() }])
}

pub(in crate::alert) fn secret_ends() -> Notice {
    notice(vec![Item {
        cause: Some(Cause::of(Kind::ClientSecret, &account())),
        severity: Severity::Warning,
        title: "The client secret of lms@contoso.com ends in 14 days".to_owned(),
        text: "From then on Microsoft gives no access token, and mail stops".to_owned(),
        ends: Some(at("2026-12-05T00:00:00Z")),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "Make a new client secret".to_owned(),
        ..dead_item()
    }])
}
