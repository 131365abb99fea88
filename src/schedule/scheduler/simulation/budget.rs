//! A tenant's budget for recipients outside, shared by its accounts.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::*;
use super::world::{Fate, LIST, LMS, Left, MINUTE, World, address, start};
use crate::config::testing;
use crate::message::Lane;

const TENANT: &str = "contoso.com";
const SECOND: &str = LIST[1];
const DAY: Duration = Duration::from_hours(24);

/// Two accounts of one tenant.
fn two(budget: u32) -> Config {
    testing::of_tenant(TENANT, &[LMS, SECOND], budget)
}

impl World {
    /// A message to recipients outside comes.
    fn accept_outside(&mut self, queue: &str, app: &str, lane: Lane, recipients: u32) -> i64 {
        self.next += 1;
        let (id, flow) = (QueueId::from_number(self.next), Flow::new(app, lane).to_outside(true));
        let waiting = Waiting { id, due_at: self.now, recipients, flow };
        self.store.insert(self.next, (address(queue), waiting.clone()));
        self.on(Event::Accepted { account: address(queue), waiting });
        self.next
    }

    /// The relay stops in order, and is started again a minute later.
    fn restart(&mut self, config: &Config) {
        let left = self.left.len();
        while let Some((at, ..)) = self.under_way.first() {
            self.step(*at);
        }
        assert_eq!(left, self.left.len(), "nothing is begun for this to be a stop in order");
        let outside = |left: &Left| if left.flow.outside { left.recipients } else { 0 };
        let row = |left: &Left| Sent {
            login: left.carrier.clone(),
            at: left.at + Duration::from_millis(400),
            recipients: left.recipients,
            outside: outside(left),
        };
        let sent: Vec<Sent> = self.left.iter().filter(|left| left.at + DAY * 2 > self.now).map(row).collect();
        self.now += MINUTE;
        self.scheduler = Scheduler::new(config, Vec::new(), &sent, false, self.now);
        self.on(Event::Woken);
    }

    /// Recipients outside so far.
    fn outside(&self) -> u32 {
        self.left.iter().filter(|left| left.flow.outside).map(|left| left.recipients).sum()
    }

    /// The same within the 24 hours that were the fullest.
    fn most_outside_in_a_day(&self) -> u32 {
        let (mut day, mut sum, mut most) = (VecDeque::new(), 0, 0);
        for left in self.left.iter().filter(|left| left.flow.outside) {
            while let Some((_, recipients)) = day.pop_front_if(|(at, _): &mut (Timestamp, u32)| *at + DAY <= left.at) {
                sum -= recipients;
            }
            day.push_back((left.at, left.recipients));
            sum += left.recipients;
            most = most.max(sum);
        }
        most
    }
}

#[test]
fn no_tenant_is_over_its_budget_and_mail_within_the_organisation_does_not_wait_for_it() {
    let config = two(1_000);
    let mut world = World::new(&config);
    for n in 0..2_200 {
        world.accept_outside(if n % 2 == 0 { LMS } else { SECOND }, "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 30);
    assert_eq!(world.outside(), 900, "a tenth is kept for urgent mail");

    let from = world.left.len();
    for _ in 0..600 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 20 + MINUTE / 2);
    assert_eq!(world.left.len() - from, 600, "30 a minute");

    for _ in 0..150 {
        world.accept_outside(LMS, "moodle", Lane::Urgent, 1);
    }
    world.run_for(MINUTE * 10);
    assert_eq!(world.outside(), 1_000);
    world.restart(&config);
    world.run_for(Duration::from_hours(22));
    assert_eq!(world.outside(), 1_000, "a restart forgets nothing");

    world.run_until_empty();
    assert_eq!((world.outside(), world.refused()), (2_350, 0), "all of it leaves in the end");
    assert!(world.most_outside_in_a_day() <= 1_000, "{}", world.most_outside_in_a_day());
}

#[test]
fn large_messages_wait_for_room_and_one_that_is_larger_than_the_budget_goes_with_an_empty_one() {
    let mut world = World::new(&two(100));
    world.accept_outside(LMS, "moodle", Lane::Normal, 60);
    let too_large = world.accept_outside(LMS, "erp", Lane::Normal, 500);
    world.accept_outside(SECOND, "moodle", Lane::Normal, 60);
    world.accept_outside(SECOND, "crm", Lane::Normal, 30);
    world.run_for(MINUTE * 10);
    assert_eq!(world.outside(), 90);
    world.run_until_empty();
    assert_eq!(world.left.len(), 4);
    let of_others: Vec<Left> = world.left.iter().filter(|left| left.id != too_large).cloned().collect();
    world.left = of_others;
    assert!(world.most_outside_in_a_day() <= 100);
}

#[test]
fn what_is_outside_has_no_share_of_its_own_and_an_apps_mail_leaves_in_its_order() {
    let mut world = World::new(&two(10_000));
    for n in 0..600 {
        if n % 3 == 0 {
            world.accept(LMS, "moodle", Lane::Normal, 1);
        } else {
            world.accept_outside(LMS, "moodle", Lane::Normal, 1);
        }
        world.accept(LMS, "erp", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 10);
    let (moodle, erp) = (world.left_of("moodle"), world.left_of("erp"));
    assert!(moodle.abs_diff(erp) <= 2, "{moodle} and {erp}");
    let ids: Vec<i64> = world.left.iter().filter(|left| &*left.flow.app == "moodle").map(|left| left.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(world.refused(), 0);
}

#[test]
fn what_waits_for_a_budget_leaves_once_that_is_gone_or_larger() {
    for (budget, leave) in [(None, 200), (Some(100), 90), (Some(10), 9)] {
        let mut world = World::new(&two(10));
        for _ in 0..200 {
            world.accept_outside(LMS, "moodle", Lane::Normal, 1);
        }
        world.run_for(MINUTE);
        assert_eq!(world.outside(), 9);
        let mut config = two(budget.unwrap_or(1));
        if budget.is_none() {
            config.tenants.clear();
        }
        world.on(Event::Configured { config: Arc::new(config), sent: Vec::new() });
        world.run_for(MINUTE * 15);
        assert_eq!(world.outside(), leave, "{budget:?}");
    }
}

#[test]
fn a_message_that_is_found_in_the_wrong_flow_waits_in_the_right_one() {
    let mut world = World::new(&two(10));
    for _ in 0..9 {
        world.accept_outside(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE);
    assert!(world.store.is_empty());
    // It is outside after all, and the budget is used.
    world.fates = VecDeque::from([Fate::OtherFlow]);
    world.accept(LMS, "moodle", Lane::Normal, 1);
    world.run_for(Duration::from_hours(23));
    assert_eq!((world.store.len(), world.left.len()), (1, 10), "tried once, and not again");
    world.run_until_empty();
    assert!(world.left[10].flow.outside && world.left[10].at >= start() + DAY, "{:?}", world.left[10]);

    // It is within the house after all, which an attempt finds out once the budget lets it.
    world.fates = VecDeque::from([Fate::OtherFlow]);
    world.accept_outside(LMS, "moodle", Lane::Normal, 1);
    world.run_for(MINUTE);
    assert!(world.store.is_empty() && world.left[11].flow.outside && !world.left[12].flow.outside);
}

#[test]
fn a_crash_is_taken_to_have_used_the_budget_too() {
    let mut scheduler = Scheduler::new(&two(100), Vec::new(), &[], true, start());
    let standings = scheduler.standings(start());
    let used: Vec<u64> = standings.iter().filter_map(|standing| Some(standing.allowance.as_ref()?.last_day)).collect();
    assert_eq!(used, [6, 6], "three sessions of each of the two, and both tell the same");
}

#[test]
fn an_account_that_joins_the_tenant_brings_what_it_has_sent() {
    let mut scheduler = Scheduler::new(&testing::of_tenant(TENANT, &[LMS], 100), Vec::new(), &[], false, start());
    let row = |login: &str, outside| Sent { login: address(login), at: start() - MINUTE * 90, recipients: 50, outside };
    let sent = vec![row(SECOND, 7)];
    scheduler.on(Event::Configured { config: Arc::new(two(100)), sent: sent.clone() }, start());
    scheduler.on(Event::Configured { config: Arc::new(two(100)), sent }, start());
    assert_eq!(scheduler.standings(start())[0].allowance.as_ref().unwrap().last_day, 7, "once");
}
