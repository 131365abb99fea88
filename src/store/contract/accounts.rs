//! What is kept beside the messages: holds, sign-ins, facts, the pace.

use std::time::Duration;

use super::*;
use crate::store::samples::{address, at, hold, record, wait};

pub fn a_hold_is_journalled_once_and_released_once(subject: &mut Subject) {
    let login = Hold {
        account: address("LMS@contoso.com"),
        reply: Some("535 5.7.3 Authentication unsuccessful".to_owned()),
        codes: vec![70043, 7_000_215],
        probe_at: Some(at(70)),
        ..hold(HoldCause::Login, at(10))
    };
    let probed = Hold { probe_at: None, probes: 1, ..login.clone() };
    subject.commit(&[Change::Hold(Box::new(login)), Change::Hold(Box::new(probed.clone()))]);
    assert_eq!(subject.read().holds().unwrap(), std::slice::from_ref(&probed));
    let sign_in = Hold { cause: HoldCause::SignIn, reply: None, error: Some("expired".to_owned()), ..probed };
    subject.commit(&[Change::Hold(Box::new(sign_in))]);
    let release = Change::Release { account: lms(), at: at(90), why: "signed in again".to_owned() };
    subject.commit(&[release.clone(), release]);
    assert_eq!(subject.read().holds().unwrap(), []);
    let journal = subject.read().account_journal(&lms(), 10).unwrap();
    let lines: Vec<_> = journal.iter().map(|entry| entry.text.as_str()).collect();
    let expected = [
        "held, Exchange refuses the login: 535 5.7.3 Authentication unsuccessful",
        "held, the sign-in no longer works: expired",
        "released: signed in again",
    ];
    assert_eq!(lines, expected);
}

pub fn the_last_sign_in_counts(subject: &mut Subject) {
    assert!(!subject.read().has_sign_ins().unwrap());
    let first = SealedSignIn {
        account: address("LMS@contoso.com"),
        current: vec![0, 1, 255],
        previous: None,
        signed_in_as: None,
        since: at(1),
        refreshed_at: at(1),
        refresh_life: None,
        access: None,
    };
    let second = SealedSignIn {
        current: vec![2],
        previous: Some(vec![0, 1, 255]),
        signed_in_as: Some("jane@contoso.com".to_owned()),
        refreshed_at: at(3),
        refresh_life: Some(Duration::from_hours(24)),
        access: Some(SealedAccess { token: vec![3], received_at: at(3), life: Duration::from_mins(75) }),
        ..first.clone()
    };
    subject.commit(&[Change::SignIn(Box::new(first)), Change::SignIn(Box::new(second.clone()))]);
    assert_eq!(subject.read().sign_in(&lms()).unwrap(), Some(second.clone()));
    let without_access = SealedSignIn { access: None, ..second };
    subject.commit(&[Change::SignIn(Box::new(without_access.clone()))]);
    assert_eq!(subject.read().sign_in(&lms()).unwrap(), Some(without_access));
    assert_eq!(subject.read().sign_in(&address("erp@contoso.com")).unwrap(), None);
    assert!(subject.read().has_sign_ins().unwrap());
}

pub fn sign_ins_are_sealed_anew_together_and_none_is_brought_back(subject: &mut Subject) {
    let sealed = |account: &str, octet: u8| SealedSignIn {
        account: address(account),
        current: vec![octet],
        previous: Some(vec![octet, octet]),
        signed_in_as: None,
        since: at(1),
        refreshed_at: at(2),
        refresh_life: None,
        access: Some(SealedAccess {
            token: vec![octet, octet, octet],
            received_at: at(2),
            life: Duration::from_hours(1),
        }),
    };
    let sign_in = |account, octet| Change::SignIn(Box::new(sealed(account, octet)));
    subject.commit(&[sign_in("lms@contoso.com", 1), sign_in("erp@contoso.com", 1), sign_in("old@contoso.com", 1)]);
    let key = Fact { account: None, name: "vault/key".to_owned(), value: Some("2".to_owned()), at: at(3) };
    let entry = JournalEntry { at: at(3), message: None, account: None, text: "a new key".to_owned() };
    let anew = ["lms@contoso.com", "ERP@contoso.com", "gone@contoso.com"].map(|account| sealed(account, 2)).into();
    subject.commit(&[Change::Reseal(Box::new(Resealed { sign_ins: anew, key: key.clone(), entry: entry.clone() }))]);
    let expected = [sealed("ERP@contoso.com", 2), sealed("lms@contoso.com", 2), sealed("old@contoso.com", 1)];
    assert_eq!(subject.read().sign_ins().unwrap(), expected);
    assert_eq!(subject.read().facts().unwrap(), [key]);
    assert_eq!(subject.read().recent_journal(1).unwrap(), [entry]);
}

pub fn what_was_learnt_is_known_until_it_is_forgotten(subject: &mut Subject) {
    let fact = |account: Option<&str>, name: &str, value: Option<&str>, n| Fact {
        account: account.map(address),
        name: name.to_owned(),
        value: value.map(str::to_owned),
        at: at(n),
    };
    let own = fact(None, "instance", Some("production"), 1);
    let lms = fact(Some("LMS@contoso.com"), "user", Some("it's \0 ü"), 3);
    let erp = fact(Some("erp@contoso.com"), "user", Some(""), 2);
    subject.commit(&[
        Change::Learn(fact(Some("lms@contoso.com"), "user", Some("earlier"), 1)),
        Change::Learn(lms.clone()),
        Change::Learn(own.clone()),
        Change::Learn(erp.clone()),
    ]);
    assert_eq!(subject.read().facts().unwrap(), [own.clone(), erp.clone(), lms]);
    subject.commit(&[Change::Learn(fact(Some("lms@CONTOSO.com"), "user", None, 4))]);
    assert_eq!(subject.read().facts().unwrap(), [own, erp]);
}

pub fn the_pace_is_remembered_by_login(subject: &mut Subject) {
    let use_of = |login: &str, when, recipients, outside| {
        let mut record = record(99, when, &[], wait(0));
        record.sent = Some(Sent { login: address(login), at: at(when), recipients, outside });
        Change::Record(Box::new(record))
    };
    subject.commit(&[
        use_of("LMS@contoso.com", 30, 5, 3),
        use_of("lms@contoso.com", 10, 1, 0),
        use_of("lms@contoso.com", 20, 0, 0),
        use_of("erp@contoso.com", 30, 7, 7),
    ]);
    let sent = subject.read().sent_since(&lms(), at(20)).unwrap();
    let of = |when, recipients, outside| Sent { login: lms(), at: at(when), recipients, outside };
    assert_eq!(sent, [of(20, 0, 0), of(30, 5, 3)]);
    assert_eq!(subject.read().recipients_since(&lms(), at(10)).unwrap(), 6);
    assert_eq!(subject.read().recipients_since(&lms(), at(31)).unwrap(), 0);
}
