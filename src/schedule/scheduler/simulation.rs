//! Hours of mail in simulated time.

mod budget;
mod carriers;
mod forecast;
mod properties;
mod world;

use self::world::{LIST, LMS, MINUTE, World, account, address, config, one, pace};
use super::*;
use crate::config::{Account, App};
use crate::message::Lane;
use crate::store::HoldCause;

#[test]
fn two_thousand_messages_leave_at_the_pace_that_exchange_allows_and_none_is_refused() {
    let mut world = World::new(&one());
    for _ in 0..2_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (2_000, 0));
    assert!(pace(&world) > 30.0 * 0.98, "{} a minute", pace(&world));
    assert!(world.left.iter().map(|left| left.id).is_sorted(), "the oldest first");
}

#[test]
fn a_password_reset_is_the_next_to_leave_though_twenty_thousand_digests_of_the_same_moodle_wait() {
    let mut world = World::new(&one());
    for _ in 0..20_000 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
    }
    world.run_for(MINUTE * 5);
    for _ in 0..20 {
        world.run_for(Duration::from_secs(17));
        let from = world.left.len();
        let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
        world.run_for(MINUTE);
        assert_eq!(world.since(from)[0], reset);
    }
    assert_eq!(world.refused(), 0);
}

#[test]
fn twenty_apps_of_unequal_load_share_fairly_within_a_lane() {
    let mut world = World::new(&one());
    let app = |n: u32| format!("app{n}");
    // Some come with a hundred times as much as others, all with more than their share; some write to many at once.
    for n in 0..20 {
        let recipients = [1, 1, 3, 10][n as usize % 4];
        for _ in 0..(200 + (n * n) * 20) {
            world.accept(LMS, &app(n), Lane::Normal, recipients);
        }
    }
    world.run_for(MINUTE * 60);
    let reached = |app: &str| -> u32 {
        let left = world.left.iter().filter(|left| &*left.flow.app == app);
        left.map(|left| left.recipients).sum()
    };
    let reached: Vec<u32> = (0..20).map(|n| reached(&app(n))).collect();
    let fair = f64::from(reached.iter().sum::<u32>()) / 20.0;
    assert!(reached.iter().all(|&n| (f64::from(n) - fair).abs() <= fair * 0.1), "fair is {fair}: {reached:?}");
    assert_eq!(world.refused(), 0);
}

#[test]
fn bulk_mail_never_starves_under_endless_normal_mail() {
    let mut world = World::new(&one());
    for _ in 0..300 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
        world.accept(LMS, "erp", Lane::Normal, 1);
    }
    for _ in 0..60 {
        for _ in 0..40 {
            world.accept(LMS, "erp", Lane::Normal, 1);
        }
        world.run_for(MINUTE);
    }
    let bulk = world.left_of("moodle");
    assert!((200..=240).contains(&bulk), "every eighth of 1,800: {bulk}");
}

#[test]
fn after_a_hold_of_ten_days_everything_leaves_oldest_first_within_its_lane() {
    let mut world = World::new(&one());
    world.run_for(MINUTE);
    world.hold(LMS, HoldCause::SignIn);
    for n in 0..600 {
        world.accept(LMS, ["moodle", "erp"][n % 2], Lane::ALL[n % 3], 1);
        world.run_for(MINUTE * 24);
    }
    assert!(world.left.is_empty());
    world.release(LMS);
    world.run_until_empty();
    assert_eq!(world.left.len(), 600);
    for lane in Lane::ALL {
        for app in ["moodle", "erp"] {
            let order = world.left.iter().filter(|left| left.flow == Flow::new(app, lane)).map(|left| left.id);
            assert!(order.is_sorted(), "{lane} of {app}");
        }
    }
    let last_urgent = world.left.iter().rposition(|left| left.flow.lane == Lane::Urgent).unwrap();
    assert!(last_urgent < 220, "urgent mail was through after {last_urgent}");
}

#[test]
fn an_app_over_its_own_rate_waits_whoever_carries_it_and_the_others_do_not() {
    let accounts = LIST.map(address).to_vec();
    let moodle = App { name: "moodle".to_owned(), accounts, messages_per_minute: 10, ..App::default() };
    let mut world = World::new(&config(LIST.map(account).to_vec(), vec![moodle]));
    for _ in 0..400 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
        world.accept(LMS, "erp", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 10);
    let (moodle, erp) = (world.left_of("moodle"), world.left_of("erp"));
    assert!((100..=103).contains(&moodle), "{moodle}");
    assert!(erp > 250, "{erp}");
}

#[test]
fn near_the_end_of_the_day_an_urgent_message_is_the_next_to_leave() {
    let limited = Account { recipients_per_day: 100, ..account(LMS) };
    let mut world = World::new(&config(vec![limited], Vec::new()));
    for _ in 0..200 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
    }
    world.run_for(MINUTE * 60);
    assert_eq!(world.left.len(), 90, "a tenth of the day is kept");
    let (from, at) = (world.left.len(), world.now);
    let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
    world.run_for(MINUTE);
    assert_eq!(world.since(from), [reset]);
    assert!(world.left[from].at.duration_since(at) <= Duration::from_secs(2).try_into().unwrap());
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (201, 0), "and the day after the rest");
}
