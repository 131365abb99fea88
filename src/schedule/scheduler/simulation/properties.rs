//! Whatever happens, in any order.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::*;
use super::world::{Fate, LIST, World, address, three};
use crate::config::Account;
use crate::message::Lane;
use crate::store::HoldCause;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Mail of three apps in three lanes and two queues, holds, releases, changes, lost announcements: in the end each message has left
    /// once. That none leaves twice or through a held account is asserted where it begins.
    #[test]
    fn whatever_happens_nothing_is_lost_or_sent_twice(steps in prop::collection::vec((0u8..8, 0usize..60), 1..60)) {
        let mut world = World::new(&three());
        for (step, value) in steps {
            let mailbox = LIST[value % 3];
            match step {
                0..=2 => for n in 0..value {
                    let app = ["moodle", "erp", "default"][(n + value) % 3];
                    world.accept(mailbox, app, Lane::ALL[n % 3], 1 + u32::try_from(n % 4).unwrap());
                },
                3 if !world.held.contains(&address(mailbox)) => world.hold(mailbox, HoldCause::Login),
                4 => world.release(mailbox),
                5 => world.on(Event::Changed { account: address(mailbox) }),
                6 => world.on(Event::Overflowed),
                _ => world.run_for(Duration::from_secs(u64::try_from(value).unwrap())),
            }
        }
        for mailbox in LIST {
            world.release(mailbox);
        }
        let all = usize::try_from(world.next).unwrap();
        world.run_until_empty();
        prop_assert_eq!(world.left.len(), all);
        prop_assert_eq!(world.refused(), 0);
    }

    /// Attempts fail in every way, people hold and release: nothing is under way twice, the scheduler never wants to be woken for what it
    /// does not begin (both asserted where it happens), and whatever Exchange has stopped goes on without anybody's help.
    #[test]
    fn no_failure_stops_an_account_for_ever(
        steps in prop::collection::vec((0u8..6, 0usize..60, any_fate()), 1..50),
    ) {
        let mut config = three();
        let tenant = |account: &Arc<Account>| {
            let fallback = Some(address("lms3@contoso.com")).filter(|_| account.mailbox != address("lms3@contoso.com"));
            Arc::new(Account { tenant: "contoso.onmicrosoft.com".to_owned(), fallback, ..Account::clone(account) })
        };
        config.accounts = config.accounts.iter().map(tenant).collect();
        let mut world = World::new(&config);
        for (step, value, fate) in steps {
            let mailbox = LIST[value % 3];
            match step {
                0 => for n in 0..value {
                    world.accept(mailbox, ["moodle", "erp"][n % 2], Lane::ALL[n % 3], 1);
                },
                1 if !world.held.contains(&address(mailbox)) => world.hold(mailbox, HoldCause::Manual),
                2 => world.release(mailbox),
                3 => world.on(Event::Changed { account: address(mailbox) }),
                4 => world.fates.extend([fate; 3]),
                _ => world.run_for(Duration::from_secs(20 * u64::try_from(value).unwrap())),
            }
        }
        for mailbox in LIST.iter().filter(|mailbox| world.held.contains(&address(mailbox))).collect::<Vec<_>>() {
            world.release(mailbox);
        }
        world.run_until_empty();
        prop_assert_eq!(world.refused(), 0);
        prop_assert_eq!(world.scheduler.under_way(), 0);
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop::sample::select(vec![
        Fate::Unreachable,
        Fate::Login,
        Fate::Quota,
        Fate::TenantBlocked,
        Fate::Busy,
        Fate::NotDue,
        Fate::Failed,
    ])
}
