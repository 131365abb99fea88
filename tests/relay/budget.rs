//! A tenant's budget for recipients outside, with real sockets: two mailboxes share it, and a calendar that is moved by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment, Secret};
use xoauth2_relay::message::Address;
use xoauth2_relay::ops::{BudgetView, ReaddressOrder, Status};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Mailbox, Simulator};

use crate::support::{Client, LISTENER, MAILBOX, PATIENCE, blocking, configuration, quick};

const SECOND: &str = "second@contoso.com";
const BUDGET: u32 = 10;
const SECONDS: Duration = Duration::from_secs(5);

struct World {
    simulator: Simulator,
    relay: Relay,
    clock: Clock,
    folder: TempDir,
}

/// Both mailboxes are the tenant's.
fn config(simulator: &Simulator, folder: &Path, domains: &str) -> Config {
    let tenant = "provider = \"custom\"\ntenant = \"contoso.onmicrosoft.com\"";
    let budget = format!(
        "[[tenant]]\nname = \"contoso.onmicrosoft.com\"\nexternal_recipients_per_day = {BUDGET}\ndomains = [{domains}]\n{LISTENER}"
    );
    let text = configuration(simulator, folder, &budget).replace("provider = \"custom\"", tenant);
    let config = Config::from_text(&text, "relay.toml", &Environment::default());
    config.unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

impl World {
    async fn start() -> Self {
        let mut options = quick();
        options.mailboxes.push(Mailbox::new(SECOND));
        let simulator = Simulator::start(options).await.unwrap();
        let (folder, clock) = (TempDir::new().unwrap(), Clock::manual(Timestamp::now()));
        let config = config(&simulator, folder.path(), "");
        let relay = Relay::start(config, Environment::default(), clock.clone()).await.unwrap();
        for mailbox in [MAILBOX, SECOND] {
            let token = Secret::new(simulator.issue_refresh_token(mailbox));
            relay.ops().login_take_in(&Address::parse(mailbox).unwrap(), token).await.unwrap();
        }
        Self { simulator, relay, clock, folder }
    }

    async fn restart(self) -> Self {
        self.relay.stop().await;
        let config = config(&self.simulator, self.folder.path(), "\"example.org\"");
        let relay = Relay::start(config, Environment::default(), self.clock.clone()).await.unwrap();
        Self { relay, ..self }
    }

    /// A mail to each of these through one mailbox after the other.
    async fn submit(&self, recipients: &[String]) {
        let (door, recipients) = (self.relay.listeners()[0], recipients.to_vec());
        blocking(move || {
            let mut client = Client::greeted(door);
            for (recipient, mailbox) in recipients.into_iter().zip([MAILBOX, SECOND].into_iter().cycle()) {
                let mail = format!("From: {mailbox}\r\nTo: {recipient}\r\nSubject: hello\r\n\r\nIt works.\r\n");
                client.submit(mailbox, &[recipient], &mail);
            }
        })
        .await;
    }

    /// How many of the accepted went to this domain.
    fn accepted(&self, domain: &str) -> usize {
        let all = self.simulator.accepted();
        all.iter().flat_map(|mail| &mail.recipients).filter(|recipient| recipient.ends_with(domain)).count()
    }

    /// Waits until so many were accepted and nothing is under way, while the calendar goes on in such steps.
    async fn until_accepted(&self, count: usize, step: Duration) -> Status {
        let since = Instant::now();
        loop {
            let accepted = self.simulator.accepted_count();
            // Behind the count: what is no longer under way by then is on disk.
            let status = self.relay.ops().status().await.unwrap();
            if accepted >= count && status.accounts.iter().all(|account| account.pace.under_way == 0) {
                assert_eq!(accepted, count, "{:#?}", self.simulator.accepted());
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "{accepted} of {count} were accepted: {status:#?}");
            self.clock.advance(step);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn budget(last_day: u64) -> BudgetView {
    let tenant = "contoso.onmicrosoft.com".to_owned();
    BudgetView { tenant, last_day, external_recipients_per_day: BUDGET }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_to_the_outside_waits_for_the_budget_of_the_tenant_and_what_is_within_does_not() {
    let world = World::start().await;
    let began = world.clock.now();
    world.submit(&(0..12).map(|n| format!("user{n}@example.com")).collect::<Vec<_>>()).await;
    world.until_accepted(9, SECONDS).await;
    let school = (0..2).map(|n| format!("pupil{n}@example.org"));
    world.submit(&school.chain((0..4).map(|n| format!("user{n}@contoso.com"))).collect::<Vec<_>>()).await;
    let status = world.until_accepted(13, SECONDS).await;
    assert_eq!((world.accepted("@example.com"), world.accepted("@contoso.com")), (9, 4));
    for account in &status.accounts {
        assert_eq!(account.budget, Some(budget(9)), "both tell the same");
    }

    // The school is a part of the organisation after all: its mail waits for nothing, nor does what is readdressed.
    let followed = world.relay.configure(config(&world.simulator, world.folder.path(), "\"example.org\"")).await;
    assert_eq!(followed.unwrap(), Vec::<String>::new());
    world.until_accepted(15, SECONDS).await;
    assert_eq!(world.accepted("@example.org"), 2);
    let waiting = world.relay.ops().queue_list().await.unwrap();
    assert_eq!(waiting.len(), 3, "{waiting:#?}");
    let shown = world.relay.ops().queue_show(waiting[0].id.parse().unwrap()).await.unwrap();
    let why = shown.message.recipients[0].meaning.as_deref().unwrap_or_default();
    assert!(why.starts_with("9 of 10 recipients outside contoso.onmicrosoft.com"), "{shown:#?}");
    let (ids, from) = (vec![waiting[0].id.clone()], waiting[0].recipients[0].address.clone());
    let order = ReaddressOrder { ids, from, to: "someone@contoso.com".to_owned() };
    assert_eq!(world.relay.ops().queue_readdress(&order).await.unwrap().done, 1);
    world.until_accepted(16, SECONDS).await;
    assert!(world.clock.now().duration_since(began).as_hours() < 1);

    let world = world.restart().await;
    let status = world.until_accepted(16, Duration::ZERO).await;
    assert_eq!(status.accounts[0].budget, Some(budget(9)), "a restart forgets nothing");
    world.until_accepted(18, Duration::from_mins(10)).await;
    assert!(world.clock.now().duration_since(began).as_hours() >= 24, "{began} {}", world.clock.now());
    assert_eq!(world.accepted("@example.com"), 11);
    world.relay.stop().await;
    world.simulator.stop().await;
}
