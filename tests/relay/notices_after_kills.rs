//! Killed while it tells senders of refusals: afterwards each of them has been told of each refused recipient, and of none twice.
//!
//! The program itself, killed with `kill -9` when something arrives at Exchange, and in debug builds at each commit from the one that takes a mail
//! to the one that writes down that its notice has left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use xoauth2_relay::simulator::{Event, Simulator};
use xoauth2_relay::store::{MessageState, RecipientState, Store};

use crate::command_line::Daemon;
use crate::fault_scripts::told;
use crate::support::{Client, PATIENCE, blocking, quick};

/// Gets mail.
const HERE: &str = "here@example.com";
/// A start commits at least so often before a mail can be taken.
#[cfg(debug_assertions)]
const START: usize = 6;
/// By this commit the notice has left.
#[cfg(debug_assertions)]
const END: usize = 14;

/// How the program ends in a round; in any case when the notice has arrived.
#[derive(Debug)]
enum End {
    /// By itself, at this point of the writer.
    #[cfg(debug_assertions)]
    At(String),
    /// Killed once it is on disk that somebody is refused. What happens within half a second is told of together, so nobody has been told by then.
    Refused,
    /// Killed when the notice has arrived.
    Told,
}

/// What is on disk after a kill.
struct Left {
    /// Somebody is refused of whom the sender is to be told, by then or later.
    untold: bool,
    /// The notice is in the queue: the sender counts as told.
    unsent: bool,
    /// Who handed in mail, and who is refused of it, or still may be.
    mails: Vec<(String, BTreeSet<String>)>,
}

/// A sender and two who are not there, for each round its own, so that nobody's notices are gathered with others.
fn people(round: usize) -> (String, [String; 2]) {
    (format!("sender{round}@school.org"), ["one", "two"].map(|name| format!("{name}{round}@example.com")))
}

/// Hands in the round's mail, if the program still takes it; whether it was taken.
fn hand_in(door: SocketAddr, round: usize) -> bool {
    let (sender, gone) = people(round);
    let Some(mut client) = Client::try_connect(door) else { return false };
    let mail = format!("From: {sender}\r\nTo: {HERE}\r\nSubject: {round}\r\n\r\nhello\r\n.");
    let lines = ["EHLO client.example".to_owned(), format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{HERE}>")];
    let lines = lines.into_iter().chain(gone.iter().map(|gone| format!("RCPT TO:<{gone}>")));
    client.try_reply().is_some()
        && lines.chain(["DATA".to_owned(), mail]).all(|line| {
            let said = client.try_send(format!("{line}\r\n").as_bytes()).then(|| client.try_reply()).flatten();
            said.is_some_and(|reply| reply.starts_with(['2', '3']))
        })
}

/// Waits until it has died by itself or has to; then it is dead.
fn until_dead(daemon: &mut Daemon, mut events: Receiver<Event>, end: &End, sender: &str) {
    let since = Instant::now();
    let is_told = |event: &Event| matches!(event, Event::MessageAccepted { recipients, .. } if *recipients == [sender]);
    while !daemon.has_ended() {
        assert!(since.elapsed() < PATIENCE, "{end:?} never comes: {}", daemon.said());
        match events.try_recv() {
            Ok(event) if is_told(&event) => break,
            Ok(_) => {}
            Err(_) if matches!(end, End::Refused) && is_refused(daemon, sender) => break,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    daemon.kill();
}

/// Whether it is on disk that somebody does not get the mail of this sender.
fn is_refused(daemon: &Daemon, sender: &str) -> bool {
    let queue = daemon.json(&["queue", "list", "--json"]);
    queue.as_array().unwrap().iter().any(|message| message["sender"] == sender && message["state"] == "dead")
}

async fn left(folder: &Path) -> Left {
    let store = Store::open(&folder.join("data")).unwrap();
    // Tomorrow too: who is told again is told with others, an hour later.
    let untold = !store.to_tell(Timestamp::now() + Duration::from_hours(24), 1).await.unwrap().is_empty();
    let (mut unsent, mut mails) = (false, Vec::new());
    for stored in store.list(None, 1000).await.unwrap() {
        let Some(sender) = stored.envelope.sender else {
            unsent |= stored.state == MessageState::Waiting;
            continue;
        };
        let gone = stored.recipients.iter().filter(|row| row.state != RecipientState::Accepted);
        let gone = gone.map(|row| row.address.to_string()).filter(|address| address != HERE);
        mails.push((sender.to_string(), gone.collect()));
    }
    store.close().await;
    Left { untold, unsent, mails }
}

/// What is wrong with what senders were told of these mails: each of its refused recipients, by one notice.
fn wrong(simulator: &Simulator, mails: &[(String, BTreeSet<String>)]) -> Vec<String> {
    let told = told(&simulator.accepted());
    let mut wrong = Vec::new();
    for (sender, gone) in mails {
        for address in gone {
            let notices: Vec<_> = told.get(address).into_iter().flatten().collect();
            if !matches!(notices[..], [(to, _)] if *to == [sender.as_str()]) {
                wrong.push(format!("{sender} is to be told of {address}: {notices:?}"));
            }
        }
    }
    wrong
}

/// Runs it until everybody has been told and nothing waits any more, and kills it.
fn finish(daemon: &mut Daemon, simulator: &Simulator, mails: &[(String, BTreeSet<String>)]) {
    daemon.start(&[]);
    let since = Instant::now();
    loop {
        let queue = daemon.json(&["queue", "list", "--json"]);
        let is_settled = queue.as_array().unwrap().iter().all(|message| message["state"] == "dead");
        let wrong = wrong(simulator, mails);
        if is_settled && wrong.is_empty() {
            return daemon.kill();
        }
        assert!(since.elapsed() < PATIENCE, "{wrong:#?}\n{queue:#}\n{}", daemon.said());
    }
}

fn ends() -> Vec<End> {
    let mut ends = Vec::new();
    #[cfg(debug_assertions)]
    for n in START..END {
        ends.push(End::At(format!("before_commit:{n}")));
        ends.push(End::At(format!("after_commit_before_answer:{n}")));
    }
    for _ in 0..3 {
        ends.extend([End::Refused, End::Told]);
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_kill_each_sender_has_been_told_of_each_refusal_once() {
    let simulator = Arc::new(Simulator::start(quick()).await.unwrap());
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let (mut taken, mut untold, mut unsent, mut mails) = (0, 0, 0, Vec::new());
    for (round, end) in ends().into_iter().enumerate() {
        let (sender, gone) = people(round);
        for address in &gone {
            simulator.fault(format!("rcpt=5.4.1-recipient-rejected,to={address}").parse().unwrap());
        }
        let exchange = simulator.clone();
        let was_taken;
        (daemon, was_taken) = blocking(move || {
            let events = exchange.watch();
            match &end {
                #[cfg(debug_assertions)]
                End::At(point) => daemon.start(&[("XOAUTH2_RELAY_CRASH_AT", point)]),
                End::Refused | End::Told => daemon.start(&[]),
            }
            let was_taken = hand_in(daemon.door, round);
            until_dead(&mut daemon, events, &end, &sender);
            (daemon, was_taken)
        })
        .await;
        let left = left(folder.path()).await;
        taken += usize::from(was_taken);
        untold += usize::from(left.untold);
        unsent += usize::from(left.unsent);
        let is_there = left.mails.iter().any(|(sender, to)| *sender == people(round).0 && to.len() == gone.len());
        assert!(!was_taken || is_there, "the mail of round {round} was taken and is gone");
        mails.clone_from(&left.mails);
        let exchange = simulator.clone();
        daemon = blocking(move || {
            finish(&mut daemon, &exchange, &left.mails);
            daemon
        })
        .await;
        assert!(!self::left(folder.path()).await.untold, "round {round}: somebody would be told once more");
    }
    println!(
        "{taken} mails were taken; at {untold} kills somebody was to be told, at {unsent} the notice was to be sent"
    );
    assert!(taken > 0 && untold > 0 && (unsent > 0 || !cfg!(debug_assertions)), "nothing was shown by these kills");
    assert_eq!(wrong(&simulator, &mails), [""; 0]);
}
