//! What becomes of mail that Exchange refuses for reasons of its own: held, split, retried for the rest, in doubt.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::ops::{Selection, Status};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Effect, Fault, Options, Phase, Simulator};

use crate::alerts::Listener;
use crate::support::{
    Client, LISTENER, MAILBOX, PATIENCE, Rig, blocking, configuration, mailbox, quick, sign_in, start_relay_at,
    until_queue,
};

const MAIL: &str = "From: Moodle <lms@contoso.com>\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nIt works.\r\n";

/// A relay whose calendar stands still until it is moved.
struct World {
    simulator: Simulator,
    relay: Relay,
    clock: Clock,
    _folder: TempDir,
}

impl World {
    async fn start(extra: &str) -> Self {
        let simulator = Simulator::start(quick()).await.unwrap();
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual(Timestamp::now());
        let text = configuration(&simulator, folder.path(), &format!("{extra}\n{LISTENER}"));
        let relay = start_relay_at(&text, clock.clone()).await;
        sign_in(&simulator, &relay, MAILBOX).await;
        Self { simulator, relay, clock, _folder: folder }
    }

    async fn submit(&self, count: usize) {
        let door = self.relay.listeners()[0];
        blocking(move || {
            let mut client = Client::greeted(door);
            for n in 0..count {
                client.submit(MAILBOX, &[format!("user{n}@example.com")], MAIL);
            }
        })
        .await;
    }

    async fn submit_to(&self, to: &str) {
        let (door, to) = (self.relay.listeners()[0], to.to_owned());
        blocking(move || Client::greeted(door).submit(MAILBOX, &[to], MAIL)).await;
    }

    /// Waits for the status to be like this; with `step` the calendar goes on meanwhile.
    async fn until(&self, what: &str, step: Duration, is_so: impl Fn(&Status) -> bool) -> Status {
        let since = Instant::now();
        loop {
            let status = self.relay.ops().status().await.unwrap();
            if is_so(&status) {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "{what} never came true: {status:#?}");
            self.clock.advance(step);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.relay.stop().await;
        self.simulator.stop().await;
    }
}

/// The alerts that tell of the account's mail, and whether they begin or end it.
fn alerts(listener: &Listener) -> Vec<(String, String)> {
    let told = listener.all().into_iter().map(|call| serde_json::from_str::<serde_json::Value>(&call.body).unwrap());
    let told = told.map(|json| (json["alerts"][0]["state"].clone(), json["alerts"][0]["error"].clone()));
    told.map(|(state, error)| (state.as_str().unwrap().to_owned(), error.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_the_account_holds_it_word_for_word_and_a_message_that_is_taken_frees_it() {
    for (row, cause) in [
        ("554-5.2.0-quota", "quota"),
        ("554-5.2.0-outbound-spam", "blocked"),
        ("554-5.2.2-mailbox-full", "mailbox_full"),
        ("430-4.2.0-logon", "permission"),
        ("5.7.705", "blocked"),
    ] {
        let (listener, address) = Listener::start().await;
        let world = World::start(&format!("[alert]\nwebhook = [{{ url = \"{address}/json\" }}]\n")).await;
        world.simulator.fault(Fault::row(row).unwrap());
        world.submit(3).await;
        let status = world.until("a hold", Duration::ZERO, |status| status.accounts[0].hold.is_some()).await;
        let hold = status.accounts[0].hold.clone().unwrap();
        assert_eq!(hold.cause, cause, "{row}");
        let reply = hold.reply.clone().unwrap();
        assert!(row.starts_with(&reply[..3]) || row.starts_with("5.7"), "{row}: {reply}");
        assert!(hold.probe_at.is_some(), "{row}");
        let is_idle = |status: &Status| status.accounts[0].pace.under_way == 0;
        world.until("quiet", Duration::ZERO, is_idle).await;
        let queue = world.relay.ops().queue_list().await.unwrap();
        assert_eq!(queue.len(), 3);
        for message in &queue {
            assert_eq!((message.state.as_str(), message.tries), ("held", 0), "{row}: {message:#?}");
        }
        let replied = |message: &xoauth2_relay::ops::MessageView| message.recipients[0].reply.clone();
        assert!(queue.iter().any(|message| replied(message).as_ref() == Some(&reply)), "word for word: {queue:#?}");

        world.until("an alert", Duration::ZERO, |_| !alerts(&listener).is_empty()).await;
        world.simulator.clear_faults();
        assert_eq!(world.simulator.accepted_count(), 0);
        let is_free = |status: &Status| status.accounts[0].hold.is_none() && status.accounts[0].queue.waiting == 0;
        world.until("freedom", Duration::from_mins(1), is_free).await;
        assert_eq!(world.simulator.accepted_count(), 3, "{row}");
        let is_solved = |_: &Status| alerts(&listener).iter().any(|(state, _)| state == "solved");
        world.until("the end of the alert", Duration::from_secs(1), is_solved).await;
        let told = alerts(&listener);
        assert_eq!(told.iter().map(|(state, _)| state.as_str()).collect::<Vec<_>>(), ["raised", "solved"], "{row}");
        assert_eq!(told[0].1, reply, "{row}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_or_login_that_was_one_too_many_pauses_the_account_and_leaves_it_fewer_sessions() {
    for (phase, reply, what) in [
        (
            "connect",
            "421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit, closing transmission channel",
            "connections",
        ),
        ("ehlo", "421 4.7.0 mx.example.com Error: too many connections from 192.0.2.1", "connections"),
        ("auth", "454 4.7.0 Too many login attempts, please try again later. 4-20020a05 - gsmtp", "connections"),
        (
            "auth",
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
            "connections",
        ),
        ("auth", "451 4.7.500 Access denied, please try again later", "messages_per_minute"),
    ] {
        let world = World::start("").await;
        world.simulator.fault(format!("{phase}=\"{reply}\"").parse().unwrap());
        world.submit(1).await;
        let is_slowed = |status: &Status| status.accounts[0].pause.is_some() && status.accounts[0].pace.under_way == 0;
        let status = world.until("a pause", Duration::ZERO, is_slowed).await;
        let [slowed] = &status.accounts[0].pace.slowed[..] else { panic!("{phase} {reply}: {status:#?}") };
        assert_eq!((slowed.what.as_str(), slowed.said.as_str()), (what, reply));
        assert!(slowed.level < if what == "connections" { 3 } else { 1_000_000 }, "{slowed:?}");
        let queue = world.relay.ops().queue_list().await.unwrap();
        assert_eq!((queue[0].state.as_str(), queue[0].tries), ("waiting", 0), "{phase} {reply}");
        world.simulator.clear_faults();
        let has_left = |status: &Status| status.accounts[0].queue.waiting == 0;
        world.until("the mail's leaving", Duration::from_mins(1), has_left).await;
        assert_eq!(world.simulator.accepted_count(), 1, "{phase} {reply}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_locked_is_not_tried_again_at_once() {
    for (row, logins) in [("535-5.7.139-account-locked", 1), ("535-5.7.3-generic", 2)] {
        let world = World::start("").await;
        world.simulator.fault(Fault::row(row).unwrap());
        world.submit(1).await;
        let is_held = |status: &Status| status.accounts[0].hold.is_some() && status.accounts[0].pace.under_way == 0;
        world.until("a hold", Duration::ZERO, is_held).await;
        assert_eq!(world.simulator.statistics().auth_refused, logins, "{row}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_released_too_soon_comes_back_after_one_message() {
    let world = World::start("").await;
    world.simulator.fault(Fault::row("554-5.2.0-quota").unwrap());
    world.submit(10).await;
    let is_held = |status: &Status| status.accounts[0].hold.is_some() && status.accounts[0].pace.under_way == 0;
    world.until("a hold", Duration::ZERO, is_held).await;
    let tried = |queue: &[xoauth2_relay::ops::MessageView]| {
        queue.iter().filter(|message| message.recipients[0].reply.is_some()).count()
    };
    let before = tried(&world.relay.ops().queue_list().await.unwrap());
    assert!(before <= 3, "no more than were under way together: {before}");
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(1));
        let since = world.clock.now();
        world.relay.ops().account_release(&mailbox()).await.unwrap();
        let is_back = |status: &Status| {
            status.accounts[0].pace.under_way == 0
                && status.accounts[0].hold.as_ref().is_some_and(|hold| hold.since >= since)
        };
        world.until("the hold again", Duration::ZERO, is_back).await;
    }
    let queue = world.relay.ops().queue_list().await.unwrap();
    assert!(tried(&queue) <= before + 3, "one message at a time: {queue:#?}");
    assert!(queue.iter().all(|message| message.tries == 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_delivered_mail_is_retried_only_for_the_rest() {
    let rig = Rig::start().await;
    let later = Effect::Reply("450 4.2.1 The recipient is receiving mail too quickly".to_owned());
    rig.simulator.fault(Fault::at(Phase::Rcpt, later).unwrap().for_recipient("slow@example.com").times(2));
    rig.submit(MAILBOX, &["one@example.com", "slow@example.com", "two@example.com"], MAIL).await;
    let accepted = rig.until_accepted(2).await;
    assert_eq!(accepted[0].recipients, ["one@example.com", "two@example.com"]);
    assert_eq!(accepted[1].recipients, ["slow@example.com"]);
    rig.until_queue_is_empty().await;
    assert_eq!(rig.simulator.accepted_count(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_recipients_than_exchange_takes_at_once_go_in_several_rounds() {
    let rig = Rig::with(Options { max_recipients: 100, ..quick() }, "[queue]\nretry = [\"1h\"]\n").await;
    let to: Vec<String> = (0..430).map(|n| format!("user{n}@example.com")).collect();
    rig.submit(MAILBOX, &to.iter().map(String::as_str).collect::<Vec<_>>(), MAIL).await;
    let accepted = rig.until_accepted(5).await;
    let counts: Vec<usize> = accepted.iter().map(|mail| mail.recipients.len()).collect();
    assert_eq!(counts, [100, 100, 100, 100, 30]);
    let mut got: Vec<String> = accepted.into_iter().flat_map(|mail| mail.recipients).collect();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), to.len(), "each once");
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_behind_the_final_dot_that_means_one_recipient_is_not_everybodys() {
    for (text, most) in [
        ("550 5.1.10 Recipient not found", 14),
        ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient gone@example.com not found by SMTP address lookup", 2),
    ] {
        // No wait is needed.
        let rig = Rig::with(quick(), "[queue]\nretry = [\"1h\"]\n").await;
        let reply = Effect::Reply(text.to_owned());
        rig.simulator.fault(Fault::at(Phase::DataEnd, reply).unwrap().for_recipient("gone@example.com"));
        let mut to: Vec<String> = (10..50).map(|n| format!("user{n}@example.com")).collect();
        to.insert(23, "gone@example.com".to_owned());
        rig.submit(MAILBOX, &to.iter().map(String::as_str).collect::<Vec<_>>(), MAIL).await;
        let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|mail| mail.state == "dead")).await;
        let dead = queue.iter().find(|mail| mail.state == "dead").unwrap();
        let refused = dead.recipients.iter().filter(|recipient| recipient.state != "accepted");
        let refused: Vec<_> = refused.map(|no| (no.address.as_str(), no.state.as_str(), no.reply.as_deref())).collect();
        assert_eq!(refused, [("gone@example.com", "refused", Some(text))]);
        assert_eq!(dead.tries, 0, "{text}");
        let mut got: Vec<String> = rig.simulator.accepted().into_iter().flat_map(|mail| mail.recipients).collect();
        got.retain(|address| address.starts_with("user"));
        got.sort();
        to.remove(23);
        assert_eq!(got, to, "each once");
        let refusals = rig.simulator.statistics().refused;
        assert!(refusals <= most / 2, "{refusals} for {text}");
        let detail = rig.relay.ops().queue_show(dead.id.parse().unwrap()).await.unwrap();
        let tried = detail.journal.iter().filter(|entry| entry.text.starts_with("try ")).count();
        assert!(tried <= usize::try_from(most).unwrap(), "{tried} for {text}");
        assert!(detail.journal.iter().any(|entry| entry.text.contains("nobody got it, and the reply")), "{detail:#?}");
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_is_held_for_a_person_where_the_app_says_so() {
    let rig = Rig::with(quick(), "[queue]\nretry = [\"1s\"]\n[[app]]\nname = \"default\"\nin_doubt = \"hold\"\n").await;
    rig.simulator.fault(Fault::at(Phase::DataEnd, Effect::KeepAndDrop).unwrap().times(1));
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let queue = rig.until_queue("a hold", |queue| queue.iter().any(|message| message.state == "held")).await;
    assert_eq!(queue[0].recipients[0].state, "in_doubt");
    // Mail behind it goes on.
    rig.submit(MAILBOX, &["other@example.com"], MAIL).await;
    rig.until_accepted(2).await;
    let id = queue[0].id.clone();
    let detail = rig.relay.ops().queue_show(id.parse().unwrap()).await.unwrap();
    let recipient = &detail.message.recipients[0];
    assert!(recipient.meaning.as_deref().is_some_and(|why| why.contains("message trace")), "{recipient:?}");
    assert!(
        recipient.remedy.as_deref().is_some_and(|what| what.contains(&format!("queue delete {id}"))),
        "{recipient:?}"
    );
    let journal = detail.journal.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
    let sent = String::from_utf8_lossy(&rig.simulator.accepted()[0].bytes).into_owned();
    let message_id = sent.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().trim().to_owned();
    for part in ["message trace", &format!("queue retry {id}"), &format!("Message-ID {message_id}"), "over "] {
        assert!(journal.contains(part), "{part} is not in {journal}");
    }
    rig.relay.ops().queue_retry(Selection::Ids(vec![id])).await.unwrap();
    let again = rig.until_accepted(3).await;
    let again = again.iter().filter(|mail| String::from_utf8_lossy(&mail.bytes).contains(&message_id)).count();
    assert_eq!(again, 2, "with the same Message-ID");
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_in_doubt_counts_for_the_day_each_time_it_may_have_been_taken() {
    let world = World::start("").await;
    world.simulator.fault(Fault::at(Phase::DataEnd, Effect::KeepAndDrop).unwrap().times(1));
    world.submit(1).await;
    let counted = |count: u64| move |status: &Status| status.accounts[0].pace.last_day == count;
    world.until("the doubt's counting", Duration::ZERO, counted(1)).await;
    let queue = world.relay.ops().queue_list().await.unwrap();
    assert_eq!(queue[0].recipients[0].state, "in_doubt");
    // A refusal is no doubt more.
    world.simulator.fault(Fault::row("451-4.3.111-mrh1").unwrap().times(1));
    let is_tried = |status: &Status| status.accounts[0].pace.under_way == 0 && world.simulator.statistics().refused > 0;
    world.until("another try", Duration::from_mins(1), is_tried).await;
    world.until("the same count", Duration::ZERO, counted(1)).await;
    world.until("the second mail's counting", Duration::from_mins(1), counted(2)).await;
    assert_eq!(world.simulator.accepted_count(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_stops_an_account_which_takes_others_is_left_behind_them() {
    let world = World::start("").await;
    world.simulator.fault(Fault::row("554-5.2.0-outbound-spam").unwrap().for_recipient("user0@example.com"));
    world.submit(5).await;
    let others = |status: &Status| status.accounts[0].queue.waiting == 1 && status.accounts[0].hold.is_none();
    world.until("the others", Duration::from_mins(1), others).await;
    assert_eq!(world.simulator.accepted_count(), 4);
    // From now on it is the message that is tried, in its own time, and what comes is not stopped by it.
    for n in 0..20 {
        world.clock.advance(Duration::from_mins(10));
        world.submit_to(&format!("later{n}@example.com")).await;
        let count = 5 + n;
        let since = Instant::now();
        while world.simulator.accepted_count() < count {
            assert!(since.elapsed() < PATIENCE, "{:#?}", world.relay.ops().status().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Exchange counts the last one before that is on record here.
    let is_alone = |queue: &[xoauth2_relay::ops::MessageView]| queue.len() == 1;
    let queue = until_queue(&world.relay, "one message alone", is_alone).await;
    assert!(queue[0].tries > 0, "{queue:#?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_exchange_looks_at_what_is_sent_the_account_waits_half_an_hour_and_goes_on_more_slowly() {
    let world = World::start("").await;
    world.simulator.fault(Fault::row("4.7.500").unwrap().times(1));
    world.submit(1).await;
    let is_paused = |status: &Status| status.accounts[0].pause.is_some() && status.accounts[0].pace.under_way == 0;
    let status = world.until("a pause", Duration::ZERO, is_paused).await;
    assert_eq!(status.accounts[0].pause.as_ref().unwrap().until, world.clock.now() + Duration::from_mins(30));
    assert_eq!(status.accounts[0].pace.slowed[0].what, "messages_per_minute");
    world.submit_to("later@example.com").await;
    let has_left = |status: &Status| status.accounts[0].queue.waiting == 0;
    world.until("both leaving", Duration::from_mins(1), has_left).await;
    assert_eq!(world.simulator.accepted_count(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_always_looked_at_stops_the_others_for_an_hour_at_most() {
    let world = World::start("").await;
    let since = world.clock.now();
    world.simulator.fault(Fault::row("4.7.500").unwrap().for_recipient("user0@example.com"));
    world.submit(4).await;
    let others = |status: &Status| status.accounts[0].queue.waiting == 1;
    world.until("the others", Duration::from_mins(1), others).await;
    assert!(world.clock.now() < since + Duration::from_mins(70), "{since} {}", world.clock.now());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_whose_hour_is_full_is_left_alone_for_an_hour() {
    let world = World::start("").await;
    let sent_at = world.clock.now();
    world.simulator.fault(Fault::row("5.2.121").unwrap().times(1));
    world.submit(1).await;
    let is_tried = |queue: &[xoauth2_relay::ops::MessageView]| queue.iter().any(|message| message.tries == 1);
    let queue = until_queue(&world.relay, "a try", is_tried).await;
    let wait = queue[0].due_at.unwrap().duration_since(sent_at).as_secs() / 60;
    assert!((60..=72).contains(&wait), "{wait} minutes");
    let has_left = |status: &Status| status.accounts[0].queue.waiting == 0;
    world.until("its leaving", Duration::from_mins(5), has_left).await;
    assert!(world.clock.now() >= sent_at + Duration::from_hours(1));
    assert_eq!(world.simulator.accepted_count(), 1);
    world.stop().await;
}
