//! What is learnt from what, in the words that Exchange has been seen to use.

use super::*;
use crate::config::testing;
use crate::outbound::{Step, judge};

const MAILBOX: &str = "lms@contoso.com";
const NOREPLY: &str = "noreply@contoso.com";
const MINUTE: Duration = Duration::from_mins(1);

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn account() -> Account {
    Account { send_as: vec![address(NOREPLY), address("help@contoso.com")], ..testing::account(MAILBOX, MAILBOX) }
}

fn denied(sender: &str) -> Reply {
    Reply::new(
        554,
        format!(
            "5.2.252 SendAsDenied; {MAILBOX} not allowed to send as {sender}; STOREDRV.Submission [BeginDiagnosticData]x"
        ),
    )
}

/// A message of these senders meets this reply: when it is tried again, and what is written.
fn meet(known: &SendAs, policy: SenderPolicy, senders: &[&str], reply: &Reply, now: Timestamp) -> (Class, Met) {
    let senders: Vec<Address> = senders.iter().map(|sender| address(sender)).collect();
    let mut verdicts = vec![(0, judge(Step::DataEnd, reply))];
    let met = known.met(&account(), policy, &senders, &mut verdicts, MINUTE, now);
    (verdicts[0].1.class, met)
}

fn refuse(known: &SendAs, sender: &str, now: Timestamp) -> Option<Timestamp> {
    meet(known, SenderPolicy::Rewrite, &[sender], &denied(sender), now).1.again_at
}

fn permitted(known: &SendAs, now: Timestamp) -> Vec<String> {
    known.permitted(&account(), now).iter().map(ToString::to_string).collect()
}

fn facts(changes: &[Change]) -> Vec<Fact> {
    let fact = |change: &Change| if let Change::Learn(fact) = change { Some(fact.clone()) } else { None };
    changes.iter().filter_map(fact).collect()
}

#[test]
fn a_first_refusal_may_be_chance_and_the_second_is_believed() {
    let known = SendAs::default();
    assert_eq!(refuse(&known, NOREPLY, start()), Some(start() + MINUTE));
    assert_eq!(
        refuse(&known, NOREPLY, start() + MINUTE / 2),
        Some(start() + MINUTE),
        "another message of the same minute"
    );
    assert_eq!(permitted(&known, start()).len(), 2, "nothing is known for sure");
    let (class, met) = meet(&known, SenderPolicy::Rewrite, &[NOREPLY], &denied(NOREPLY), start() + MINUTE);
    assert_eq!((class, met.again_at), (Class::Later, Some(start() + MINUTE)), "at once, rewritten");
    assert_eq!(permitted(&known, start() + MINUTE), ["help@contoso.com"]);
    let standing = &known.standings(&address(MAILBOX), start() + MINUTE)[0];
    assert_eq!(standing.since, start() + MINUTE);
    assert_eq!(
        standing.refused.as_deref(),
        Some(
            "554 5.2.252 SendAsDenied; lms@contoso.com not allowed to send as noreply@contoso.com; STOREDRV.Submission"
        )
    );

    let after_a_restart = SendAs::from_facts(&facts(&met.learnt));
    assert_eq!(after_a_restart.standings(&address(MAILBOX), start() + MINUTE)[0], *standing);
    assert_eq!(permitted(&after_a_restart, start() + MINUTE), ["help@contoso.com"]);
}

#[test]
fn a_refusal_that_does_not_come_again_leaves_nothing_behind() {
    let known = SendAs::default();
    refuse(&known, NOREPLY, start());
    let ok = Reply::new(250, "2.0.0 OK");
    let (class, met) = meet(&known, SenderPolicy::Rewrite, &[NOREPLY], &ok, start() + MINUTE);
    assert_eq!((class, met.again_at, facts(&met.learnt).len()), (Class::Accepted, None, 1));
    assert_eq!(refuse(&known, NOREPLY, start() + 2 * MINUTE), Some(start() + 3 * MINUTE), "a first one again");
    let late = start() + Duration::from_hours(5);
    assert_eq!(refuse(&known, NOREPLY, late), Some(late + MINUTE), "and so is one of hours later");
    let (_, met) = meet(&known, SenderPolicy::Rewrite, &[NOREPLY], &ok, late + MINUTE);
    assert_eq!(facts(&met.learnt), [], "what is known need not be written again");
}

#[test]
fn a_refused_sender_is_tried_once_a_day_and_when_somebody_says_so() {
    let known = SendAs::default();
    refuse(&known, NOREPLY, start());
    refuse(&known, NOREPLY, start() + MINUTE);
    let day = start() + MINUTE + Duration::from_hours(24);
    assert_eq!(permitted(&known, day - MINUTE).len(), 1);
    assert_eq!(permitted(&known, day).len(), 2);
    assert_eq!(refuse(&known, NOREPLY, day), Some(day), "rewritten at once: it is no first refusal");
    assert_eq!(permitted(&known, day).len(), 1);
    assert_eq!(known.standings(&address(MAILBOX), day)[0].since, start() + MINUTE, "since the beginning");

    known.try_again(Some(&address("erp@contoso.com")));
    assert_eq!(permitted(&known, day).len(), 1);
    known.try_again(Some(&address(MAILBOX)));
    assert_eq!(permitted(&known, day).len(), 2);
    let (_, met) = meet(&known, SenderPolicy::Rewrite, &[NOREPLY], &Reply::new(250, "2.0.0 OK"), day);
    assert!(met.learnt.iter().any(|change| matches!(change, Change::Note(_))), "{met:?}");
    assert_eq!(known.standings(&address(MAILBOX), day)[0].refused, None);
}

#[test]
fn what_is_kept_is_refused_once_it_is_sure() {
    for policy in [SenderPolicy::Keep, SenderPolicy::Refuse] {
        let known = SendAs::default();
        let dean = "dean@contoso.com";
        let again = |now| meet(&known, policy, &[dean], &denied(dean), now);
        assert_eq!(again(start()).1.again_at, Some(start() + MINUTE));
        let (class, met) = again(start() + MINUTE);
        assert_eq!((class, met.again_at), (Class::Refused, None));
        let (class, met) = again(start() + 2 * MINUTE);
        assert_eq!((class, met.again_at), (Class::Refused, None), "and from then on at once");
    }
}

#[test]
fn the_sender_that_is_named_is_blamed_and_else_the_one_that_is_new() {
    let known = SendAs::default();
    let unnamed = Reply::new(550, "5.7.60 SMTP; Client does not have permissions to send as this sender");
    meet(&known, SenderPolicy::Keep, &[NOREPLY], &Reply::new(250, "OK"), start());
    for now in [start(), start() + MINUTE] {
        meet(&known, SenderPolicy::Keep, &[NOREPLY, "dean@contoso.com"], &unnamed, now);
    }
    let refused = |now| {
        let standings = known.standings(&address(MAILBOX), now).into_iter();
        standings.filter(|one| one.refused.is_some()).map(|one| one.sender.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(refused(start()), ["dean@contoso.com"]);
    for now in [start(), start() + MINUTE] {
        meet(&known, SenderPolicy::Keep, &[NOREPLY, "bob@contoso.com"], &denied(NOREPLY), now);
    }
    assert_eq!(refused(start()), ["dean@contoso.com", NOREPLY]);
    assert_eq!(refused(start() + Duration::from_hours(24 * 8)), [""; 0], "nothing was heard of them for a week");
    // About the mailbox itself, or about nothing of ours.
    assert_eq!(meet(&known, SenderPolicy::Keep, &["x@contoso.com"], &denied(MAILBOX), start()).1.again_at, None);
    assert_eq!(meet(&known, SenderPolicy::Rewrite, &[], &unnamed, start()).1.again_at, None);
    let busy = Reply::new(451, "4.3.2 busy");
    assert_eq!(meet(&known, SenderPolicy::Rewrite, &[NOREPLY], &busy, start()).1.again_at, None);
}

#[test]
fn every_wording_of_the_refusal_is_known_and_no_other_reply() {
    for (code, text) in [
        (550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
        (554, "5.2.252 SendAsDenied; a not allowed to send as b"),
        (554, "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed"),
        (554, "storedrv: SENDASDENIED"),
    ] {
        assert!(is_about_sender(&Reply::new(code, text)), "{text}");
    }
    for (code, text) in
        [(550, "5.4.1 Recipient address rejected"), (250, "2.0.0 OK"), (554, "5.2.0 STOREDRV.Submission")]
    {
        assert!(!is_about_sender(&Reply::new(code, text)), "{text}");
    }
}

#[test]
fn a_program_that_makes_up_senders_does_not_fill_the_memory() {
    let known = SendAs::default();
    for n in 0..200 {
        let sender = format!("user{n}@contoso.com");
        meet(&known, SenderPolicy::Keep, &[&sender], &Reply::new(250, "OK"), start());
    }
    assert_eq!(known.standings(&address(MAILBOX), start()).len(), MOST);
    let mut forgotten = 0;
    for n in 0..100 {
        let sender = format!("refused{n}@contoso.com");
        for now in [start(), start() + MINUTE] {
            let met = meet(&known, SenderPolicy::Keep, &[&sender], &denied(&sender), now).1;
            forgotten += facts(&met.learnt).iter().filter(|fact| fact.value.is_none()).count();
        }
    }
    assert_eq!((known.standings(&address(MAILBOX), start()).len(), forgotten), (MOST, 100));
}
