//! Looks in simulated time, on a store in memory.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::config::testing::config_with;
use crate::journal::Feed;
use crate::message::Notify;
use crate::report::affair::samples::{UNKNOWN, at};
use crate::schedule;
use crate::store::samples::{self, address};
use crate::store::{HoldCause, Incoming, Next, RecipientUpdate, Record};

const JANE: &str = "jane@school.org";

/// A store, a clock, and what looks at them.
struct World {
    task: Task,
    config: watch::Sender<Arc<Config>>,
    /// The other side of the inbox: without it nobody could be told.
    _letters: Box<dyn std::any::Any>,
}

impl World {
    async fn new(config: &str) -> Self {
        let (sender, config) = watch::channel(Arc::new(config_with(config)));
        let (schedule, letters) = schedule::inbox();
        let store = Store::in_memory(None).unwrap();
        let intake = QueueIntake { store, schedule, feed: Feed::default(), config };
        let desk = Desk { intake, clock: Clock::manual(at(0)) };
        Self { task: Task::recall(desk).await, config: sender, _letters: Box::new(letters) }
    }

    /// As after a crash: what was in memory is gone.
    async fn restarted(&mut self) {
        self.task = Task::recall(self.task.desk.clone()).await;
    }

    fn store(&self) -> &Store {
        self.task.store()
    }

    fn now(&self) -> Timestamp {
        self.task.desk.clock.now()
    }

    async fn pass(&mut self, span: Duration) {
        self.task.desk.clock.advance(span);
        self.task.look().await.unwrap();
    }

    async fn accept(&self, sender: Option<&str>, to: &str, change: impl FnOnce(&mut Incoming)) -> QueueId {
        let id = self.store().next_id(self.now());
        let body = Bytes::from(format!("Subject: mail\r\nMessage-ID: <{id}@school.org>\r\n\r\ntext of it\r\n"));
        let mut incoming = samples::incoming(0, &[to]);
        (incoming.id, incoming.received_at) = (id, self.now());
        incoming.envelope.sender = sender.map(address);
        incoming.subject = Some("mail".to_owned());
        incoming.size = u64::try_from(body.len()).unwrap();
        incoming.body = Body::Inline(body);
        change(&mut incoming);
        self.store().commit(Change::Accept(Box::new(incoming))).await.unwrap();
        id
    }

    async fn record(&self, id: QueueId, state: RecipientState, reply: &str, next: Next) {
        let recipients = vec![RecipientUpdate { index: 0, state, reply: reply.to_owned() }];
        let record = Record { id, at: self.now(), recipients, ..samples::record(0, 0, &[], next) };
        self.store().commit(Change::Record(Box::new(record))).await.unwrap();
    }

    async fn refuse(&self, id: QueueId) {
        self.record(id, RecipientState::Refused, UNKNOWN, Next::Dead).await;
    }

    async fn refused(&self, sender: Option<&str>, to: &str) -> QueueId {
        let id = self.accept(sender, to, |_| {}).await;
        self.refuse(id).await;
        id
    }

    /// Notices in the queue: to whom, and their text.
    async fn notices(&self) -> Vec<(String, String)> {
        let mut notices = Vec::new();
        for stored in self.store().list(None, 1000).await.unwrap() {
            if stored.app == App::RELAY {
                assert_eq!(stored.envelope.sender, None, "no notice is ever sent about a notice");
                let Some(Body::Inline(bytes)) = self.store().body(stored.id).await.unwrap() else { panic!("inline") };
                let to = stored.envelope.recipients[0].address.to_string();
                notices.push((to, String::from_utf8(bytes.to_vec()).unwrap()));
            }
        }
        notices
    }

    async fn journal(&self, id: QueueId) -> String {
        let lines = self.store().journal(id).await.unwrap();
        lines.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_sender_is_told_once_over_any_number_of_looks_and_restarts() {
    let mut world = World::new("").await;
    let id = world.refused(Some(JANE), "gone@example.com").await;
    world.pass(MINUTE).await;
    for _ in 0..3 {
        world.restarted().await;
        world.pass(HOUR * 2).await;
    }
    let notices = world.notices().await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].0, JANE);
    assert!(notices[0].1.contains("Subject: Not delivered to gone@example.com: mail"), "{}", notices[0].1);
    let journal = world.journal(id).await;
    assert!(
        journal.contains("the sender jane@school.org was told that it did not reach gone@example.com"),
        "{journal}"
    );
    assert_eq!(world.store().told_nobody().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_retried_or_deleted_before_it_was_told_is_not_told_and_a_new_refusal_is() {
    let mut world = World::new("").await;
    let (retried, deleted) =
        (world.refused(Some(JANE), "a@example.com").await, world.refused(Some(JANE), "b@example.com").await);
    world.store().commit(Change::Retry { ids: vec![retried], at: world.now() }).await.unwrap();
    world.store().commit(Change::Delete { ids: vec![deleted], at: world.now() }).await.unwrap();
    world.pass(MINUTE).await;
    assert_eq!(world.notices().await, []);
    world.refuse(retried).await;
    world.pass(MINUTE).await;
    assert_eq!(world.notices().await.len(), 1);
    // Told, retried and refused once more: told once more, but not twice within the hour.
    world.store().commit(Change::Retry { ids: vec![retried], at: world.now() }).await.unwrap();
    world.refuse(retried).await;
    world.pass(MINUTE).await;
    assert_eq!(world.notices().await.len(), 1);
    world.pass(HOUR).await;
    assert_eq!(world.notices().await.len(), 2);
}

#[tokio::test]
async fn a_storm_becomes_one_notice_and_one_an_hour_later() {
    let mut world = World::new("").await;
    world.refused(Some(JANE), "gone0@example.com").await;
    world.pass(MINUTE).await;
    for n in 1..200 {
        world.refused(Some(JANE), &format!("gone{n}@example.com")).await;
    }
    for _ in 0..59 {
        world.pass(MINUTE).await;
        world.restarted().await;
    }
    assert_eq!(world.notices().await.len(), 1);
    world.pass(MINUTE).await;
    world.pass(HOUR * 24).await;
    let notices = world.notices().await;
    assert_eq!(notices.len(), 2);
    assert!(notices[1].1.contains("Subject: 199 mails were not delivered"), "{}", notices[1].1);
}

#[tokio::test]
async fn a_notice_that_is_refused_ends_there_and_is_counted() {
    let mut world = World::new("postmaster = \"it@contoso.com\"").await;
    world.refused(Some(JANE), "gone@example.com").await;
    world.pass(MINUTE).await;
    let notice =
        world.store().list(None, 10).await.unwrap().into_iter().find(|stored| stored.app == App::RELAY).unwrap();
    world.refuse(notice.id).await;
    world.pass(MINUTE).await;
    world.pass(HOUR * 48).await;
    assert_eq!(world.notices().await.len(), 1);
    assert_eq!(world.store().told_nobody().await.unwrap(), 1);
    let journal = world.journal(notice.id).await;
    assert!(journal.contains("nobody was told: the mail has the null sender"), "{journal}");
    assert!(journal.contains("a notice to jane@school.org about message"), "{journal}");
}

#[tokio::test]
async fn the_postmaster_gets_a_digest_after_minutes_then_hourly_then_daily() {
    let mut world = World::new("postmaster = \"it@contoso.com\"").await;
    for n in 0..20 {
        world.refused(Some("noreply@contoso.com"), &format!("gone{n}@example.com")).await;
    }
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.notices().await, []);
    world.restarted().await;
    world.pass(MINUTE * 5).await;
    let notices = world.notices().await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].0, "it@contoso.com");
    assert!(notices[0].1.contains("20 mails, the first of them with this answer"), "{}", notices[0].1);
    // One refusal every ten minutes for two days.
    for n in 0..288 {
        world.refused(Some("noreply@contoso.com"), &format!("later{n}@example.com")).await;
        world.pass(MINUTE * 10).await;
    }
    assert_eq!(world.notices().await.len(), 3, "one after the first hour, one a day later");
}

#[tokio::test]
async fn without_a_postmaster_nobody_is_told_and_it_is_counted() {
    let mut world = World::new("").await;
    let id = world.refused(Some("noreply@contoso.com"), "gone@example.com").await;
    world.pass(MINUTE).await;
    assert_eq!(world.notices().await, []);
    assert_eq!(world.store().told_nobody().await.unwrap(), 1);
    let journal = world.journal(id).await;
    assert!(
        journal.contains("nobody was told: nobody reads the address of the sender, and no postmaster is configured")
    );
    // One who is configured later is told of what happens from then on.
    world.config.send_replace(Arc::new(config_with("postmaster = \"it@contoso.com\"")));
    world.refused(Some("noreply@contoso.com"), "gone@example.com").await;
    world.pass(MINUTE).await;
    world.pass(HOUR).await;
    assert_eq!(world.notices().await.len(), 1);
}

#[tokio::test]
async fn moodle_hears_of_each_user_at_the_address_that_it_made_for_the_bounce() {
    let verp = |n: u32| format!("moodleAABAAAAA{n}==0123456789abcdef0123456789abcdef@school.example");
    let mut world = World::new("postmaster = \"it@contoso.com\"").await;
    for n in 0..3 {
        world.refused(Some(&verp(n)), &format!("learner{n}@example.com")).await;
    }
    world.pass(MINUTE).await;
    let to: Vec<String> = world.notices().await.into_iter().map(|(to, _)| to).collect();
    assert_eq!(to.len(), 3);
    assert!((0..3).all(|n| to.contains(&verp(n))), "{to:?}");
}

#[tokio::test]
async fn the_whole_mail_comes_back_if_the_sender_wants_it() {
    for (ret, whole) in [(None, false), (Some(Return::Headers), false), (Some(Return::Full), true)] {
        let mut world = World::new("").await;
        let id = world.accept(Some(JANE), "gone@example.com", |mail| mail.envelope.ret = ret).await;
        world.refuse(id).await;
        world.pass(MINUTE).await;
        let (_, notice) = world.notices().await.remove(0);
        assert_eq!(notice.contains("text of it"), whole, "{ret:?}");
        assert_eq!(notice.contains("message/rfc822"), whole);
        assert!(notice.contains(&format!("Message-ID: <{id}@school.org>")));
    }
    let mut world = World::new("").await;
    let large = Bytes::from(format!("Subject: large\r\n\r\n{}", "a line\r\n".repeat(200_000)));
    let id = world
        .accept(Some(JANE), "gone@example.com", |mail| {
            mail.envelope.ret = Some(Return::Full);
            mail.size = u64::try_from(large.len()).unwrap();
            mail.body = Body::Inline(large);
        })
        .await;
    world.refuse(id).await;
    world.pass(MINUTE).await;
    let (_, notice) = world.notices().await.remove(0);
    assert!(notice.len() < 4000 && notice.contains("text/rfc822-headers"), "more than 1 MiB: its header");
}

#[tokio::test]
async fn who_waits_four_hours_is_warned_once() {
    let mut world = World::new("").await;
    let waits = Next::Wait { due_at: at(60), tries: 1, tried_for: MINUTE };
    let id = world.accept(Some(JANE), "slow@example.com", |_| {}).await;
    world.record(id, RecipientState::Waiting, "451 4.3.2 busy", waits).await;
    world.accept(Some("noreply@contoso.com"), "slow@example.com", |_| {}).await;
    world.accept(Some("joe@school.org"), "slow@example.com", |mail| mail.lane = Lane::Bulk).await;
    let never = |mail: &mut Incoming| mail.envelope.recipients[0].notify = Notify::parse("FAILURE");
    world.accept(Some("ann@school.org"), "slow@example.com", never).await;
    for _ in 0..16 {
        world.pass(MINUTE * 15).await;
    }
    assert_eq!(world.notices().await, [], "not before four hours are over");
    world.pass(MINUTE * 15).await;
    world.restarted().await;
    world.pass(HOUR * 24).await;
    let notices = world.notices().await;
    assert_eq!(notices.iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>(), [JANE]);
    let text = &notices[0].1;
    assert!(text.contains("Action: delayed") && text.contains("Will-Retry-Until: "), "{text}");
    assert!(text.contains("Subject: Delayed, not lost: mail"), "{text}");
    assert!(world.journal(id).await.contains("the sender jane@school.org was warned that it takes long"));
    assert_eq!(world.store().told_nobody().await.unwrap(), 0);
}

#[tokio::test]
async fn a_thousand_mails_behind_a_hold_are_one_warning_through_another_account() {
    const OTHER: &str = "\n[[account]]\nmailbox = \"erp@contoso.com\"\nprovider = \"custom\"\nclient_id = \"x\"\n\
                         token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n";
    for (config, notices) in [("", 0), (OTHER, 1)] {
        let mut world = World::new(config).await;
        for _ in 0..1000 {
            world.accept(Some(JANE), "slow@example.com", |_| {}).await;
        }
        world.store().commit(Change::Hold(Box::new(samples::hold(HoldCause::Login, at(0))))).await.unwrap();
        world.pass(HOUR * 5).await;
        world.pass(MINUTE * 20).await;
        let found: Vec<_> = world.store().list(None, 2000).await.unwrap();
        let found: Vec<_> = found.iter().filter(|stored| stored.app == App::RELAY).collect();
        assert_eq!(found.len(), notices);
        assert!(found.iter().all(|stored| stored.account == address("erp@contoso.com")));
    }
}

#[tokio::test]
async fn a_relay_that_was_away_gets_rid_of_its_mail_before_it_warns() {
    let mut world = World::new("").await;
    world.accept(Some(JANE), "slow@example.com", |_| {}).await;
    world.task.desk.clock.advance(HOUR * 10);
    world.restarted().await;
    world.pass(MINUTE * 9).await;
    assert_eq!(world.notices().await, []);
    world.pass(MINUTE).await;
    assert_eq!(world.notices().await.len(), 1);
}
