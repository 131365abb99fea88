//! Without any mail: whether Exchange still takes the login is found out about once a day, with the clock in the test's hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::ops::AccountStatus;
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Effect, Fault, Options, Phase, Simulator};

use crate::support::{LISTENER, MAILBOX, PATIENCE, configuration, mailbox, quick, sign_in, start_relay_at};

/// Longer than any two proofs are apart.
const A_DAY: Duration = Duration::from_hours(27);

struct Idle {
    simulator: Simulator,
    relay: Relay,
    clock: Clock,
    folder: TempDir,
}

impl Idle {
    async fn start() -> Self {
        let clock = Clock::manual(Timestamp::now());
        let now = clock.clone();
        let simulator = Simulator::start(Options { now: Arc::new(move || now.now()), ..quick() }).await.unwrap();
        let folder = TempDir::new().unwrap();
        let relay = relay(&simulator, &folder, &clock).await;
        sign_in(&simulator, &relay, MAILBOX).await;
        Self { simulator, relay, clock, folder }
    }

    async fn restart(self) -> Self {
        self.relay.stop().await;
        let relay = relay(&self.simulator, &self.folder, &self.clock).await;
        Self { relay, ..self }
    }

    /// Lets time pass, but not in the middle of a request for a token: its end would be reckoned from another time than it was issued at.
    async fn pass(&self, span: Duration) {
        self.relay.ops().sign_ins.token(&mailbox()).await.unwrap();
        self.clock.advance(span);
    }

    /// Waits until the account looks like this; the clock may have to go on for that, in small steps.
    async fn until(&self, what: &str, step: Duration, is_so: impl Fn(&AccountStatus) -> bool) -> AccountStatus {
        let since = Instant::now();
        loop {
            let account = self.relay.ops().status().await.unwrap().accounts.remove(0);
            if is_so(&account) {
                return account;
            }
            assert!(since.elapsed() < PATIENCE, "{what} never came true of {account:#?}");
            self.clock.advance(step);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_proven_after(&self, before: Option<Timestamp>) -> Timestamp {
        let is_so = |account: &AccountStatus| account.last_login.as_ref().map(|login| login.at) > before;
        let account = self.until("a login", Duration::from_secs(1), is_so).await;
        assert_eq!(account.hold, None);
        account.last_login.unwrap().at
    }

    fn logins(&self) -> u64 {
        self.simulator.statistics().auth_attempts
    }
}

async fn relay(simulator: &Simulator, folder: &TempDir, clock: &Clock) -> Relay {
    start_relay_at(&configuration(simulator, folder.path(), LISTENER), clock.clone()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mail_the_login_is_proven_after_the_sign_in_and_once_a_day_and_a_restart_is_no_reason_to() {
    let idle = Idle::start().await;
    idle.pass(Duration::from_mins(5)).await;
    let first = idle.until_proven_after(None).await;
    assert_eq!(idle.logins(), 1);

    let idle = idle.restart().await;
    idle.pass(Duration::from_hours(12)).await;
    let account = idle.until("a restart", Duration::ZERO, |account| account.next_probe.is_some()).await;
    assert_eq!(account.last_login.unwrap().at, first, "remembered");
    assert!(account.next_probe.unwrap() >= first + Duration::from_hours(22));

    idle.pass(A_DAY).await;
    idle.until_proven_after(Some(first)).await;
    let statistics = idle.simulator.statistics();
    assert_eq!(statistics.auth_attempts, 2, "neither the start nor the day brought more");
    assert_eq!((statistics.commands.get("MAIL"), statistics.commands.get("QUIT")), (None, Some(&2)));
    idle.relay.stop().await;
    idle.simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_no_longer_taken_is_found_without_a_mail_and_freed_by_the_next_good_probe() {
    let idle = Idle::start().await;
    idle.pass(Duration::from_mins(5)).await;
    idle.until_proven_after(None).await;

    idle.simulator.fault(Fault::row("535-5.7.139-smtpauth-mailbox").unwrap());
    idle.pass(A_DAY).await;
    let account = idle.until("a hold", Duration::from_secs(1), |account| account.hold.is_some()).await;
    let hold = account.hold.unwrap();
    assert_eq!((hold.cause.as_str(), account.next_probe), ("login", None));
    assert!(hold.reply.unwrap().contains("SmtpClientAuthentication is disabled"));
    assert_eq!(idle.logins(), 3, "once more with a fresh token, as in an attempt");

    idle.simulator.clear_faults();
    idle.pass(Duration::from_mins(5)).await;
    idle.until("a release", Duration::from_secs(1), |account| account.hold.is_none()).await;
    assert_eq!(idle.logins(), 4);
    idle.relay.stop().await;
    idle.simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_away_holds_nothing_and_is_noted_after_a_while() {
    let idle = Idle::start().await;
    idle.pass(Duration::from_mins(5)).await;
    let first = idle.until_proven_after(None).await;
    // Only Exchange: without a token there would be no login to make.
    let no_answer = Fault::at(Phase::Connect, Effect::Drop);
    idle.simulator.fault(no_answer.unwrap());
    idle.pass(A_DAY).await;
    let told = |account: &AccountStatus| account.probe_trouble.is_some();
    let account = idle.until("a note", Duration::from_mins(2), told).await;
    assert_eq!(account.hold, None);
    assert!(account.probe_trouble.unwrap().starts_with("lost the connection to 127.0.0.1:"));

    idle.simulator.clear_faults();
    idle.pass(Duration::from_hours(1)).await;
    idle.until_proven_after(Some(first)).await;
    idle.until("the note gone", Duration::ZERO, |account| account.probe_trouble.is_none()).await;
    idle.relay.stop().await;
    idle.simulator.stop().await;
}
