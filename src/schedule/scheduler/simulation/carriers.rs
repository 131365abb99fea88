//! Several accounts that carry the same mail.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::*;
use super::world::{Fate, LIST, LMS, MINUTE, World, account, address, config, pace, three};
use crate::config::{Account, App};
use crate::message::Lane;
use crate::store::HoldCause;

#[test]
fn three_accounts_carry_three_times_as_much_and_none_is_refused() {
    let mut world = World::new(&three());
    for _ in 0..6_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (6_000, 0));
    assert!(pace(&world) > 90.0 * 0.98, "{} a minute", pace(&world));
    for mailbox in LIST {
        let carried = world.left.iter().filter(|left| left.carrier == address(mailbox)).count();
        assert!((1_900..2_100).contains(&carried), "{mailbox} carried {carried}");
    }
}

#[test]
fn mail_goes_on_at_once_through_the_other_accounts_while_one_is_held_and_when_it_is_gone() {
    let mut world = World::new(&three());
    for _ in 0..1_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE);
    world.hold(LMS, HoldCause::Login);
    let from = world.left.len();
    world.run_for(MINUTE * 5);
    assert!(world.left.len() - from > 290, "two of three go on: {}", world.left.len() - from);
    assert!(world.left[from..].iter().all(|left| left.carrier != address(LMS)));

    // Of a list without it: what waits in its queue is not forgotten, not even by a restart.
    let accounts = LIST[1..].iter().map(|mailbox| address(mailbox)).collect();
    let moodle = App { name: "moodle".to_owned(), accounts, ..App::default() };
    let without = Arc::new(config(LIST[1..].iter().map(|mailbox| account(mailbox)).collect(), vec![moodle]));
    world.on(Event::Configured { config: without.clone(), sent: Vec::new() });
    world.run_for(MINUTE * 2);
    assert_eq!(world.refused(), 0);
    while !world.under_way.is_empty() {
        let end = world.now + MINUTE;
        world.step(end);
    }
    let restarted = Scheduler::new(&without, Vec::new(), &[], false, world.now);
    world.scheduler = restarted.with_queues(&[address(LMS)], world.now);
    world.exchanges.clear();
    world.on(Event::Woken);
    world.run_until_empty();
    assert_eq!(world.left.len(), 1_000);
}

#[test]
fn who_has_tried_for_all_in_vain_does_not_wait_for_the_mail_of_another_account_that_shares_its_login() {
    let shared = Account { login: address(LMS), ..account(LIST[1]) };
    let mut world = World::new(&config(vec![account(LMS), shared], Vec::new()));
    world.fates = VecDeque::from([Fate::Busy, Fate::Busy]);
    let alone = world.accept(LMS, "erp", Lane::Normal, 1);
    world.run_for(MINUTE * 2);
    assert!(world.fates.is_empty() && world.store.len() == 1, "twice, and the second time for all");
    for _ in 0..600 {
        world.accept(LIST[1], "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 10);
    assert!(!world.store.is_empty(), "the other one has mail for longer than that");
    assert_eq!(world.left.iter().filter(|left| left.id == alone).count(), 3, "once the pause is over");
}

#[test]
fn while_an_account_is_held_its_urgent_mail_leaves_through_the_fallback_and_the_rest_waits() {
    let with_fallback = || Account { fallback: Some(address("way-out@contoso.com")), ..account(LMS) };
    for (cause, goes) in [
        (HoldCause::Login, true),
        (HoldCause::Registration, true),
        (HoldCause::Manual, false),
        (HoldCause::Clone, false),
    ] {
        let mut world = World::new(&config(vec![with_fallback(), account("way-out@contoso.com")], Vec::new()));
        world.hold(LMS, cause);
        world.accept(LMS, "moodle", Lane::Normal, 1);
        world.accept(LMS, "moodle", Lane::Bulk, 1);
        let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
        world.run_for(MINUTE * 10);
        assert_eq!(world.since(0), if goes { vec![reset] } else { Vec::new() }, "{cause:?}");
        assert!(world.left.iter().all(|left| left.carrier == address("way-out@contoso.com")));
        world.release(LMS);
        let from = world.left.len();
        world.run_until_empty();
        assert!(
            world.left[from..].iter().all(|left| left.carrier == address(LMS)),
            "released, it carries its own mail"
        );
    }
}

#[test]
fn a_message_that_two_queues_know_for_a_moment_is_begun_once() {
    let mut world = World::new(&config(vec![account(LMS), account("erp@contoso.com")], Vec::new()));
    let erp = address("erp@contoso.com");
    let id = world.accept(LMS, "moodle", Lane::Normal, 1);
    // It was moved, and its new queue hears of it before the old one does.
    let (_, waiting) = world.store[&id].clone();
    world.store.insert(id, (erp.clone(), waiting.clone()));
    world.on(Event::Accepted { account: erp.clone(), waiting });
    assert_eq!(world.left.len(), 1);
    let (_, _, carrier) = world.under_way.pop_first().unwrap();
    world.on(Event::Finished { account: carrier, id: QueueId::from_number(id), outcome: Outcome::Gone });
    assert_eq!(world.left.last().unwrap().carrier, erp, "and then by whose it is");
    world.run_until_empty();
    assert_eq!(world.scheduler.under_way(), 0);
}

#[test]
fn a_message_that_is_moved_while_it_is_tried_is_not_tried_by_both() {
    let mut world = World::new(&config(vec![account(LMS), account("erp@contoso.com")], Vec::new()));
    let id = world.accept(LMS, "moodle", Lane::Normal, 1);
    assert_eq!(world.left.len(), 1);
    world.store.get_mut(&id).unwrap().0 = address("erp@contoso.com");
    for account in [LMS, "erp@contoso.com"] {
        world.on(Event::Changed { account: address(account) });
    }
    assert_eq!(world.left.len(), 1, "it is still under way");
    // That ends without an answer: now the other one may.
    let (_, _, carrier) = world.under_way.pop_first().unwrap();
    let gone = Event::Finished { account: carrier, id: QueueId::from_number(id), outcome: Outcome::Gone };
    world.on(gone);
    assert_eq!(world.left.iter().map(|left| left.carrier.as_str()).collect::<Vec<_>>(), [LMS, "erp@contoso.com"]);
}
