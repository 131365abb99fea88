//! What the forecast says when hours or days of mail lie ahead, and what then comes true.

use super::super::*;
use super::world::{LIST, LMS, MINUTE, World, account, address, config, three};
use crate::config::{Account, App, testing};
use crate::message::Lane;
use crate::ops::forecast::{ForecastView, Forecasts, forecasts};
use crate::store::{Count, HoldCause, MessageState};

const ERP: &str = "erp@contoso.com";

/// How far it may be off: of the way, and beside that.
const OFF: f64 = 0.03;
const BESIDE: Duration = Duration::from_secs(20);

impl World {
    /// What `status` would say now.
    fn told(&mut self, config: &Config) -> Forecasts {
        let mut counts: BTreeMap<(&Address, &Flow), Count> = BTreeMap::new();
        for (queue, Waiting { due_at, recipients, flow, .. }) in self.store.values() {
            let count = counts.entry((queue, flow)).or_insert_with(|| Count {
                account: queue.clone(),
                state: MessageState::Waiting,
                flow: flow.clone(),
                messages: 0,
                by_rule: 0,
                by_order: 0,
                oldest: *due_at,
                recipients: 0,
                last_due: *due_at,
            });
            count.messages += 1;
            count.recipients += u64::from(*recipients);
            count.last_due = count.last_due.max(*due_at);
        }
        let counts: Vec<Count> = counts.into_values().collect();
        let standings = self.scheduler.standings(self.now).into_iter();
        let standings = standings.map(|standing| (standing.account.clone(), standing)).collect();
        forecasts(config, &counts, &standings, self.now)
    }

    /// Says when each queue will be empty, and sees to it that this is so.
    fn comes_true(&mut self, config: &Config) -> HashMap<Address, ForecastView> {
        self.comes_about(config, OFF)
    }

    /// The same; single queues may be off by this part of the way.
    fn comes_about(&mut self, config: &Config, off: f64) -> HashMap<Address, ForecastView> {
        let (from, begins) = (self.left.len(), self.now);
        let queues: HashMap<i64, Address> = self.store.iter().map(|(id, (queue, _))| (*id, queue.clone())).collect();
        let told = self.told(config);
        while !self.store.is_empty() {
            assert!(self.step(begins + Duration::from_hours(24 * 60)), "{} are left", self.store.len());
        }
        let mut came: BTreeMap<&Address, Timestamp> = BTreeMap::new();
        for left in &self.left[from..] {
            came.insert(&queues[&left.id], left.at);
        }
        let last = came.values().max().copied().unwrap();
        let of_queues = came.into_iter().map(|(queue, at)| (queue.as_str(), &told.queues[queue], at, off));
        for (queue, told, at, off) in of_queues.chain([("all", told.all.as_ref().unwrap(), last, OFF)]) {
            let (told, came) = (told.empty_at.duration_since(begins), at.duration_since(begins));
            assert!(
                (told - came).as_secs_f64().abs() <= came.as_secs_f64() * off + BESIDE.as_secs_f64(),
                "{queue}: {told:#} told, {came:#} came true"
            );
        }
        told.queues
    }

    fn fill(&mut self, queue: &str, app: &str, lane: Lane, messages: u32) {
        for _ in 0..messages {
            self.accept(queue, app, lane, 1);
        }
    }
}

fn app(name: &str, accounts: &[&str]) -> App {
    let accounts = accounts.iter().map(|mailbox| address(mailbox)).collect();
    App { name: name.to_owned(), accounts, ..App::default() }
}

/// Accounts with another number of recipients a day.
fn with_day(accounts: &[&str], recipients_per_day: u32) -> Vec<Account> {
    accounts.iter().map(|mailbox| Account { recipients_per_day, ..account(mailbox) }).collect()
}

#[test]
fn of_one_queue_that_three_accounts_carry() {
    let mut world = World::new(&three());
    world.fill(LMS, "moodle", Lane::Normal, 3_000);
    let told = world.comes_true(&three());
    assert_eq!(told[&address(LMS)].carried_by, LIST);
}

#[test]
fn of_two_apps_that_share_some_of_their_accounts() {
    let [a, b, c] = LIST;
    let config = config(LIST.map(account).to_vec(), vec![app("moodle", &[a, b]), app("erp", &[b, c])]);
    for (moodle, erp) in [(900, 900), (1_500, 300), (300, 1_800)] {
        let mut world = World::new(&config);
        world.fill(a, "moodle", Lane::Normal, moodle);
        world.fill(b, "erp", Lane::Normal, erp);
        world.comes_true(&config);
    }
}

#[test]
fn of_two_accounts_that_share_a_login() {
    let config = config(vec![account(LMS), testing::account(ERP, LMS)], Vec::new());
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Normal, 900);
    world.fill(ERP, "erp", Lane::Normal, 400);
    world.comes_true(&config);
}

#[test]
fn of_an_app_that_shares_a_login_with_others_and_has_one_for_itself() {
    let accounts = vec![account(LMS), testing::account(ERP, LMS), account(LIST[1])];
    let config = config(accounts, vec![app("moodle", &[LMS, LIST[1]])]);
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Normal, 900);
    world.fill(ERP, "erp", Lane::Normal, 400);
    // In the forecast it leaves the shared one to the others. In truth it has a turn there now and then, whenever the other login is late.
    world.comes_about(&config, 0.2);
}

#[test]
fn of_a_queue_that_takes_its_accounts_several_days() {
    let config = config(with_day(&LIST[..2], 200), vec![app("moodle", &LIST[..2])]);
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Normal, 1_500);
    let told = world.comes_true(&config);
    assert_eq!(told[&address(LMS)].limited_by, "day");
}

#[test]
fn of_a_queue_that_is_half_empty_on_its_second_day() {
    let config = config(with_day(&[LMS, ERP], 300), vec![app("moodle", &[LMS, ERP])]);
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Bulk, 700);
    world.run_for(MINUTE * 60 * 30);
    world.fill(LMS, "moodle", Lane::Normal, 300);
    world.fill(ERP, "erp", Lane::Normal, 200);
    world.comes_true(&config);
}

#[test]
fn of_lanes_and_recipients_of_different_numbers() {
    let config = config(LIST.map(account).to_vec(), vec![app("moodle", &LIST[..2])]);
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Bulk, 1_200);
    world.fill(LMS, "moodle", Lane::Urgent, 60);
    world.fill(LIST[1], "erp", Lane::Normal, 300);
    for _ in 0..150 {
        world.accept(LIST[1], "crm", Lane::Normal, 8);
    }
    world.comes_true(&config);
}

#[test]
fn of_a_held_account_whose_mail_the_others_carry_and_of_one_whose_urgent_mail_has_a_fallback() {
    let with_fallback = Account { fallback: Some(address(LIST[2])), ..account(ERP) };
    let mut accounts = LIST.map(account).to_vec();
    accounts.push(with_fallback);
    let config = config(accounts, vec![app("moodle", &LIST[..2])]);
    let mut world = World::new(&config);
    world.hold(LMS, HoldCause::Login);
    world.hold(ERP, HoldCause::Login);
    world.fill(LMS, "moodle", Lane::Normal, 500);
    world.fill(ERP, "erp", Lane::Urgent, 200);
    world.fill(LIST[2], "crm", Lane::Normal, 300);
    let told = world.comes_true(&config);
    assert_eq!(told[&address(LMS)].carried_by, [LIST[1]]);
    assert_eq!(told[&address(ERP)].carried_by, [LIST[2]]);
}

#[test]
fn of_an_app_that_may_not_do_as_much_as_its_accounts() {
    let slow = App { messages_per_minute: 20, ..app("moodle", &LIST) };
    let config = config(LIST.map(account).to_vec(), vec![slow]);
    let mut world = World::new(&config);
    world.fill(LMS, "moodle", Lane::Normal, 400);
    world.fill(LMS, "erp", Lane::Normal, 400);
    world.comes_true(&config);
}
