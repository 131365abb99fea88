//! The recipients outside their organisation that all mailboxes of a tenant together may write to in 24 hours: Exchange Online's tenant
//! external recipient rate limit (TERRL). A rolling count like that of a login's day, with a tenth kept for urgent mail.
//!
//! Exchange seldom says in time that it was too much: it accepts the mail and sends a notice back. So it is counted here.

use std::collections::HashMap;

use jiff::Timestamp;

use super::day::{Allowed, Day, Used};
use super::{CLOCK_STEP, DayOutlook, Turn};
use crate::config::Config;
use crate::message::{Lane, QueueId};
use crate::schedule::event::Counted;
use crate::store::{Flow, Sent};

/// The account books of the tenants, by their name in lower case.
#[derive(Debug, Default)]
pub(in crate::schedule) struct Budgets(HashMap<String, Budget>);

#[derive(Debug, Default)]
struct Budget {
    /// As it is configured; `None`: no budget. What was counted is not forgotten by that.
    per_day: Option<u32>,
    day: Day,
    /// What each message under way may use at most.
    under_way: HashMap<QueueId, UnderWay>,
    /// When the clock was last looked at.
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    recipients: u32,
    lane: Lane,
}

/// How a tenant's budget stands.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Recipients outside the organisation in 24 hours, at most.
    pub recipients_per_day: u32,
    /// Those of the last 24 hours that count.
    pub last_day: u64,
    /// What will be left of it in the time to come.
    pub day: DayOutlook,
}

impl Budgets {
    /// As this configuration says; what was sent still counts.
    pub(in crate::schedule) fn configure(&mut self, config: &Config) {
        self.0.values_mut().for_each(|budget| budget.per_day = None);
        for account in config.accounts.iter().filter(|account| !account.tenant.is_empty()) {
            let budget = self.0.entry(account.tenant.to_ascii_lowercase()).or_default();
            budget.per_day = config.tenant(&account.tenant).map(|tenant| tenant.external_recipients_per_day);
        }
    }

    /// Takes in what a login of the tenant has sent in an earlier run. Which of it was urgent is not known: none, then.
    pub(in crate::schedule) fn restore(&mut self, tenant: &str, sent: &[Sent], now: Timestamp) {
        let Some(budget) = self.0.get_mut(tenant) else { return };
        for sent in sent {
            budget.note(sent.at.min(now), sent.outside, Lane::Normal);
        }
    }

    /// Assumes that so many messages were sent just now, unrecorded: after a crash.
    pub(in crate::schedule) fn assume_unrecorded(&mut self, tenant: &str, messages: u32, now: Timestamp) {
        if let Some(budget) = self.0.get_mut(tenant).filter(|budget| budget.per_day.is_some()) {
            budget.note(now, messages, Lane::Normal);
        }
    }

    /// When a message of this flow to so many recipients may leave, as far as the tenant's budget goes. All of them may be outside.
    ///
    /// A message with more recipients than the whole budget leaves once that is empty.
    pub(in crate::schedule) fn turn(&mut self, tenant: &str, flow: &Flow, recipients: u32, now: Timestamp) -> Turn {
        if !flow.outside {
            return Turn::Now;
        }
        let Some(budget) = self.0.get_mut(tenant) else { return Turn::Now };
        let Some(per_day) = budget.per_day else { return Turn::Now };
        budget.forget(now);
        let pending = budget.under_way.values().map(|message| Used::of(message.recipients, message.lane));
        let pending = pending.fold(Used::default(), Used::and);
        budget.day.turn(Allowed::of(per_day), pending, recipients.max(1), flow.lane, now)
    }

    /// A message leaves through an account of the tenant.
    pub(in crate::schedule) fn start(&mut self, tenant: &str, id: QueueId, flow: &Flow, recipients: u32) {
        if let Some(budget) = self.0.get_mut(tenant).filter(|_| flow.outside) {
            budget.under_way.insert(id, UnderWay { recipients: recipients.max(1), lane: flow.lane });
        }
    }

    /// It has ended. What the far side counts is the tenant's that it was begun for; if it was for nobody's budget, the carrier's.
    pub(in crate::schedule) fn finish(&mut self, tenant: &str, id: QueueId, counted: Option<Counted>) {
        let carrier = self.0.values_mut().find(|budget| budget.under_way.contains_key(&id));
        let Some((budget, lane)) = (match carrier {
            Some(budget) => budget.under_way.remove(&id).map(|message| (budget, message.lane)),
            None => self.0.get_mut(tenant).map(|budget| (budget, Lane::Normal)),
        }) else {
            return;
        };
        if let Some(Counted { at, outside, .. }) = counted {
            budget.note(at, outside, lane);
        }
    }

    /// How it stands; `None`: there is no such budget.
    pub(in crate::schedule) fn allowance(&mut self, tenant: &str, now: Timestamp) -> Option<Allowance> {
        let budget = self.0.get_mut(tenant)?;
        let recipients_per_day = budget.per_day?;
        budget.forget(now);
        let day = DayOutlook { allowed: Allowed::of(recipients_per_day), ends: budget.day.ends() };
        Some(Allowance { recipients_per_day, last_day: budget.day.used(), day })
    }
}

impl Budget {
    fn note(&mut self, at: Timestamp, recipients: u32, lane: Lane) {
        self.last = self.last.max(at);
        self.day.note(at, Used::of(recipients, lane));
    }

    /// Drops what no longer counts. When the clock has gone back, nothing has happened later than now.
    fn forget(&mut self, now: Timestamp) {
        if now + CLOCK_STEP < self.last {
            self.day.set_back(now);
        }
        self.last = now;
        self.day.forget(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::config::testing;
    use crate::message::Address;

    const CONTOSO: &str = "contoso.onmicrosoft.com";

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn id(n: i64) -> QueueId {
        QueueId::from_number(n)
    }

    fn outside(lane: Lane) -> Flow {
        Flow::new("moodle", lane).to_outside(true)
    }

    fn budgets(per_day: u32) -> Budgets {
        let mut budgets = Budgets::default();
        budgets.configure(&testing::of_tenant(CONTOSO, &["lms@contoso.com"], per_day));
        budgets
    }

    fn send(budgets: &mut Budgets, n: i64, lane: Lane, recipients: u32, at: Timestamp) {
        assert_eq!(budgets.turn(CONTOSO, &outside(lane), recipients, at), Turn::Now);
        budgets.start(CONTOSO, id(n), &outside(lane), recipients);
        budgets.finish(CONTOSO, id(n), Some(Counted { at, recipients, outside: recipients }));
    }

    #[test]
    fn what_is_under_way_counts_whole_and_what_was_taken_counts_as_it_was() {
        let (mut budgets, normal) = (budgets(100), outside(Lane::Normal));
        budgets.start(CONTOSO, id(1), &normal, 60);
        assert_eq!(budgets.turn(CONTOSO, &normal, 31, start()), Turn::Busy, "its end tells");
        assert_eq!(budgets.turn(CONTOSO, &normal, 30, start()), Turn::Now);
        budgets.finish(CONTOSO, id(1), Some(Counted { at: start(), recipients: 60, outside: 7 }));
        assert_eq!(budgets.turn(CONTOSO, &normal, 83, start()), Turn::Now);
        assert_eq!(budgets.allowance(CONTOSO, start()).unwrap().last_day, 7);
        budgets.start(CONTOSO, id(2), &normal, 60);
        budgets.finish(CONTOSO, id(2), None);
        assert_eq!(budgets.allowance(CONTOSO, start()).unwrap().last_day, 7, "the far side never saw it");
    }

    #[test]
    fn a_tenth_is_for_urgent_mail_and_all_of_it_is_free_again_a_day_later() {
        let mut budgets = budgets(100);
        send(&mut budgets, 1, Lane::Normal, 90, start());
        let Turn::At(when) = budgets.turn(CONTOSO, &outside(Lane::Bulk), 1, start()) else { panic!("none is left") };
        send(&mut budgets, 2, Lane::Urgent, 10, start());
        assert_eq!(budgets.turn(CONTOSO, &outside(Lane::Urgent), 1, start()), Turn::At(when));
        assert!(when >= start() + Duration::from_hours(24));
        assert_eq!(budgets.turn(CONTOSO, &Flow::new("moodle", Lane::Bulk), 1, start()), Turn::Now, "within the house");
        send(&mut budgets, 3, Lane::Normal, 5_000, when);
    }

    #[test]
    fn without_a_budget_nothing_waits_and_what_was_counted_counts_once_it_is_back() {
        let mut budgets = budgets(10);
        send(&mut budgets, 1, Lane::Normal, 9, start());
        let without = testing::config(vec![testing::account("lms@contoso.com", "lms@contoso.com")]);
        budgets.configure(&without);
        assert_eq!(budgets.turn(CONTOSO, &outside(Lane::Normal), 500, start()), Turn::Now);
        assert!(budgets.allowance(CONTOSO, start()).is_none());
        budgets.configure(&testing::of_tenant(CONTOSO, &["lms@contoso.com"], 10));
        assert!(matches!(budgets.turn(CONTOSO, &outside(Lane::Normal), 1, start()), Turn::At(_)));
        assert_eq!(budgets.turn("", &outside(Lane::Normal), 1, start()), Turn::Now, "a smarthost has no tenant");
    }

    #[test]
    fn what_several_logins_have_sent_is_restored_in_whatever_order_and_ends_in_its_own_time() {
        let mut budgets = budgets(10);
        let hours = |n| start() + Duration::from_hours(n);
        let row = |login: &str, at, outside| Sent { login: Address::parse(login).unwrap(), at, recipients: 9, outside };
        budgets.restore(CONTOSO, &[row("b@contoso.com", hours(10), 4)], hours(12));
        budgets.restore(CONTOSO, &[row("a@contoso.com", hours(1), 3), row("a@contoso.com", hours(11), 2)], hours(12));
        budgets.restore("fabrikam.com", &[row("x@fabrikam.com", hours(11), 9)], hours(12));
        assert_eq!(budgets.allowance(CONTOSO, hours(12)).unwrap().last_day, 9);
        assert_eq!(budgets.allowance(CONTOSO, hours(26)).unwrap().last_day, 6);
        assert_eq!(budgets.allowance(CONTOSO, hours(35)).unwrap().last_day, 2);
        budgets.assume_unrecorded(CONTOSO, 3, hours(35));
        let DayOutlook { allowed, ends } = budgets.allowance(CONTOSO, hours(35)).unwrap().day;
        assert_eq!((allowed.others, ends.iter().map(|(_, used)| used.others).sum::<u64>()), (9, 5));
    }

    #[test]
    fn a_clock_that_goes_back_neither_forgets_nor_waits_for_longer_than_a_day() {
        let mut budgets = budgets(10);
        send(&mut budgets, 1, Lane::Normal, 9, start());
        let yesterday = start() - Duration::from_hours(48);
        let Turn::At(when) = budgets.turn(CONTOSO, &outside(Lane::Normal), 1, yesterday) else {
            panic!("none is left")
        };
        assert!(when <= yesterday + Duration::from_hours(25), "{when}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn never_more_than_the_budget_leaves_in_any_day_and_nothing_waits_for_longer_than_one(
            mails in proptest::collection::vec((0u64..200, 1u32..30, any::<bool>()), 1..120)
        ) {
            let (mut budgets, mut now, mut taken) = (budgets(100), start(), Vec::new());
            for (n, (minutes, recipients, is_urgent)) in (0..).zip(mails) {
                now += Duration::from_mins(minutes);
                let lane = if is_urgent { Lane::Urgent } else { Lane::Bulk };
                if let Turn::At(when) = budgets.turn(CONTOSO, &outside(lane), recipients, now) {
                    prop_assert!(when > now && when <= now + Duration::from_hours(25), "{} at {}", when, now);
                    now = when;
                }
                send(&mut budgets, n, lane, recipients, now);
                taken.push((now, recipients));
                let day = taken.iter().filter(|(at, _)| *at + Duration::from_hours(24) > now);
                prop_assert!(day.map(|(_, recipients)| recipients).sum::<u32>() <= 100);
            }
        }
    }
}
