//! Every reply that is known of Exchange Online, played at its phase against a whole relay: what becomes of the mail, what is held, and what an
//! administrator is told. What is meant is in `replies.txt`.

mod intended;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use xoauth2_relay::alert::look;
use xoauth2_relay::ops::{AccountStatus, MessageDetail, MessageView, Selection};
use xoauth2_relay::outbound::{Step, judge};
use xoauth2_relay::simulator::{Phase, ReplyRow, replies};
use xoauth2_relay::smtp::Reply;

use self::intended::meant;
use crate::support::{LISTENER, MAILBOX, PATIENCE, Rig, checked, configuration, mailbox, quick};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";
/// Relays that work through the replies beside each other.
const RELAYS: usize = 6;
/// Replies that come at once or as a mail to the mailbox.
const EITHER: [&str; 4] =
    ["5.4.1-recipient-rejected", "5.6.11-bare-lf", "5.7.512-from-missing", "550-5.1.20-multi-from"];

/// What `replies.txt` says of a reply.
#[derive(Clone, Copy)]
struct Meaning {
    class: &'static str,
    cause: &'static str,
    row: &'static str,
    command: &'static str,
}

/// One wording at one moment.
#[derive(Clone, Copy)]
struct Case {
    number: usize,
    /// The first is 1.
    wording: usize,
    row: &'static ReplyRow,
    moment: Phase,
    meant: Meaning,
}

impl Case {
    fn name(&self) -> String {
        format!("{}={}#{}", self.moment, self.row.id, self.wording)
    }

    fn text(&self) -> &'static str {
        &self.row.texts[self.wording - 1]
    }

    fn recipient(&self) -> String {
        format!("case{}@example.com", self.number)
    }

    /// Before MAIL nothing is said of a message.
    fn is_login(&self) -> bool {
        matches!(self.moment, Phase::Connect | Phase::Ehlo | Phase::StartTls | Phase::Auth)
    }

    /// What the row that fits says is wrong.
    fn what(&self) -> String {
        let step = match self.moment {
            Phase::Connect => Step::Greeting,
            Phase::Ehlo => Step::Ehlo,
            Phase::StartTls => Step::StartTls,
            Phase::Auth => Step::Auth,
            Phase::Mail => Step::Mail,
            Phase::Rcpt => Step::Rcpt,
            Phase::Data => Step::Data,
            _ => Step::DataEnd,
        };
        let (code, text) = self.text().split_once(' ').unwrap();
        let row = judge(step, &Reply::new(code.parse().unwrap(), text)).row.unwrap();
        assert_eq!(row.id(), Some(self.meant.row), "{}", self.name());
        row.what().to_owned()
    }
}

/// Every refusal in every wording, at every moment at which it may come.
fn cases() -> Vec<Case> {
    const ANY: [Phase; 6] = [Phase::Ehlo, Phase::Auth, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::DataEnd];
    let mut cases = Vec::new();
    for row in replies() {
        for wording in 1..=row.texts.len() {
            let [_, class, _, cause, _, meant_row, command] = meant(&row.id, wording);
            if matches!(class, "accepted" | "goodbye") {
                continue;
            }
            let meant = Meaning { class, cause, row: meant_row, command };
            let moments = match row.phase {
                Phase::Any => ANY.to_vec(),
                own if EITHER.contains(&row.id.as_str()) && own != Phase::DataEnd => vec![own, Phase::DataEnd],
                own => vec![own],
            };
            for moment in moments {
                cases.push(Case { number: cases.len(), wording, row, moment, meant });
            }
        }
    }
    cases
}

async fn account(rig: &Rig) -> AccountStatus {
    rig.relay.ops().status().await.unwrap().accounts.remove(0)
}

async fn detail(rig: &Rig, message: &MessageView) -> MessageDetail {
    rig.relay.ops().queue_show(message.id.parse().unwrap()).await.unwrap()
}

/// The mail of a case, once the reply is written beside it.
async fn answered(rig: &Rig, case: &Case) -> MessageView {
    let (name, address) = (case.name(), case.recipient());
    let is_it = |message: &MessageView| {
        let recipient = &message.recipients[0];
        recipient.address == address && recipient.reply.as_deref() == Some(case.text())
    };
    let mut queue = rig.until_queue(&name, |queue| queue.iter().any(is_it)).await;
    queue.retain(is_it);
    queue.remove(0)
}

async fn held(rig: &Rig, case: &Case) {
    let name = case.name();
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!(hold.cause, case.meant.cause, "{name}");
    assert_eq!(hold.reply.as_deref(), Some(case.text()), "{name}: word for word");
    assert!(hold.remedy.starts_with(case.meant.command), "{name}: {}", hold.remedy);
    assert!(hold.text.starts_with(&case.what()), "{name}: {}", hold.text);
    let status = rig.relay.ops().status().await.unwrap();
    let looked = look(&status, &[], true, Timestamp::now());
    let [alert] = looked.troubles.as_slice() else { panic!("{name}: {:?}", looked.troubles) };
    assert_eq!(alert.text, hold.text, "{name}");
    if hold.remedy == "xoauth2-relay status" {
        assert!(alert.todo.starts_with("Nothing: it is tried again by itself, the next time at 20"), "{}", alert.todo);
    } else {
        assert_eq!(alert.todo, hold.remedy, "{name}");
    }
    let queue = rig.until_queue(&name, |queue| queue.iter().all(|message| message.state == "held")).await;
    assert!(queue.iter().all(|message| message.tries == 0), "{name}: a hold costs no try: {queue:#?}");
}

async fn play(rig: &Rig, case: &Case) {
    let name = case.name();
    if case.is_login() {
        // Of the session that is kept nothing is left, so that there is a login.
        rig.simulator.fault("mail=drop*1".parse().unwrap());
    }
    rig.simulator.fault(name.parse().unwrap());
    rig.submit(MAILBOX, &[&case.recipient()], MAIL).await;
    let message = answered(rig, case).await;
    match case.meant.class {
        "refused" => {
            assert_eq!((message.state.as_str(), message.recipients[0].state.as_str()), ("dead", "refused"), "{name}");
        }
        "held" => held(rig, case).await,
        _ => {
            assert_eq!(
                (message.state.as_str(), message.recipients[0].state.as_str()),
                ("waiting", "waiting"),
                "{name}"
            );
            assert_eq!(account(rig).await.hold, None, "{name}");
        }
    }
    told(rig, case, &message).await;
    recover(rig, &name).await;
}

/// What `queue show` says.
async fn told(rig: &Rig, case: &Case, message: &MessageView) {
    let (name, what) = (case.name(), case.what());
    let detail = detail(rig, message).await;
    let recipient = &detail.message.recipients[0];
    let remedy = recipient.remedy.as_deref().unwrap_or_default();
    let of_message = case.meant.command == "xoauth2-relay queue show";
    let command =
        if of_message { format!("{} {}", case.meant.command, message.id) } else { case.meant.command.to_owned() };
    assert!(remedy.starts_with(&command), "{name}: {remedy}");
    assert!(recipient.meaning.as_ref().is_some_and(|meaning| meaning.len() > 40), "{name}: {recipient:?}");
    let journal: Vec<&str> = detail.journal.iter().map(|entry| entry.text.as_str()).collect();
    assert!(journal.iter().any(|text| text.contains(case.text()) && text.contains(&what)), "{name}: {journal:#?}");
}

/// All is well again: whatever waits leaves, and nothing is left of the case.
async fn recover(rig: &Rig, name: &str) {
    rig.simulator.clear_faults();
    let since = Instant::now();
    loop {
        let ops = rig.relay.ops();
        if rig.queue().await.iter().any(|message| message.state == "dead") {
            ops.queue_delete(Selection::Dead).await.unwrap();
        }
        ops.account_release(&mailbox()).await.unwrap();
        ops.queue_retry(Selection::All).await.unwrap();
        for _ in 0..20 {
            if rig.queue().await.is_empty() && account(rig).await.hold.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(since.elapsed() < PATIENCE, "{name}: {:#?}", rig.queue().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_known_reply_does_to_the_mail_and_the_account_what_is_meant() {
    let cases = cases();
    assert!(cases.len() > 80, "{}", cases.len());
    let mut relays = JoinSet::new();
    for first in 0..RELAYS {
        let cases: Vec<Case> = cases.iter().skip(first).step_by(RELAYS).copied().collect();
        relays.spawn(async move {
            let rig = Rig::start().await;
            rig.submit(MAILBOX, &["first@example.com"], MAIL).await;
            rig.until_accepted(1).await;
            for case in &cases {
                play(&rig, case).await;
            }
            rig.until_queue_is_empty().await;
            rig.stop().await;
        });
    }
    while let Some(done) = relays.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_comes_later_as_a_mail_is_an_acceptance_for_us() {
    let rig = Rig::start().await;
    let rows: Vec<_> = replies().iter().filter(|row| row.ndr || EITHER.contains(&row.id.as_str())).collect();
    assert!(rows.len() > 18, "{}", rows.len());
    for (n, row) in rows.iter().enumerate() {
        rig.simulator.fault(format!("ndr:{},to=case{n}@example.com", row.id).parse().unwrap());
        rig.submit(MAILBOX, &[&format!("case{n}@example.com")], MAIL).await;
    }
    let accepted = rig.until_accepted(rows.len()).await;
    for (n, row) in rows.iter().enumerate() {
        let address = format!("case{n}@example.com");
        let mail = accepted.iter().find(|mail| mail.recipients == [address.as_str()]).unwrap();
        assert_eq!(mail.notice.as_ref(), Some(&row.texts[0]), "{}", row.id);
    }
    rig.until_queue_is_empty().await;
    assert_eq!(account(&rig).await.hold, None);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_accept_are_taken_for_it_in_every_wording_and_a_goodbye_is_not() {
    let rig = Rig::start().await;
    let mut sent = 0;
    for row in replies() {
        for n in 1..=row.texts.len() {
            let [_, class, ..] = meant(&row.id, n);
            if !matches!(class, "accepted" | "goodbye") {
                continue;
            }
            // A session that is kept would not come by its greeting again.
            rig.simulator.fault("mail=drop*1".parse().unwrap());
            match row.id.as_str() {
                // The second EHLO comes behind TLS.
                "ehlo-after-starttls" => {
                    rig.simulator.fault("ehlo=ehlo-before-starttls*1".parse().unwrap());
                    rig.simulator.fault("ehlo=ehlo-after-starttls*1".parse().unwrap());
                }
                // In place of an answer to the message: whether it has it nobody has said.
                "quit-ok" => rig.simulator.fault("data_end=quit-ok*1".parse().unwrap()),
                id => rig.simulator.fault(format!("{id}#{n}*1").parse().unwrap()),
            }
            rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
            sent += 1;
            rig.until_accepted(sent).await;
            rig.until_queue_is_empty().await;
            rig.simulator.clear_faults();
        }
    }
    assert!(sent > 10);
    assert_eq!(account(&rig).await.hold, None);
    assert!(rig.simulator.statistics().refused >= 1, "the goodbye");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_table_waits_until_the_administrator_says_what_it_means() {
    let rig = Rig::start().await;
    let text = "554 5.2.0 STOREDRV.Submission.Exception:BrandNewException; Failed to process message";
    rig.simulator.fault(format!("data_end=\"{text}\"").parse().unwrap());
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let waits = |queue: &[MessageView]| queue.first().is_some_and(|message| message.tries > 0);
    let queue = rig.until_queue("a try", waits).await;
    assert_eq!(queue[0].recipients[0].state, "waiting");
    let unknown = detail(&rig, &queue[0]).await;
    assert!(unknown.journal.iter().any(|entry| entry.text.contains("unknown to this version")), "{unknown:#?}");
    let meaning = unknown.message.recipients[0].meaning.as_deref().unwrap();
    assert!(
        meaning.starts_with("This reply is unknown to this version; the server says \"5.2.0 STOREDRV"),
        "{meaning}"
    );
    let remedy = unknown.message.recipients[0].remedy.as_deref().unwrap();
    assert!(remedy.contains("[[reply]]"), "{remedy}");

    let rule = "[[reply]]\nphase = [\"data_end\"]\nwords = [\"BrandNewException\"]\nscope = \"message\"\nclass = \"refused\"\n\
                sentence = \"The new rule of 2027: write shorter mails\"\ncommand = \"xoauth2-relay queue delete {id}\"\n";
    let extra = format!("[queue]\nretry = [\"1s\"]\n{rule}{LISTENER}");
    let text = configuration(&rig.simulator, rig.folder.path(), &extra);
    rig.relay.configure(checked(&text)).await.unwrap();
    let queue = rig.until_queue("a dead letter", |queue| queue[0].state == "dead").await;
    let known = detail(&rig, &queue[0]).await;
    let recipient = &known.message.recipients[0];
    assert_eq!(recipient.meaning.as_deref(), Some("The new rule of 2027: write shorter mails (your own rule)"));
    assert_eq!(recipient.remedy, Some(format!("xoauth2-relay queue delete {}", queue[0].id)));
    let own = "by your own rule: The new rule of 2027";
    assert!(known.journal.iter().any(|entry| entry.text.contains(own)), "{known:#?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_reason_for_refusing_the_login_holds_the_account_and_is_said_to_be_unknown() {
    let rig = Rig::with(quick(), "").await;
    let text = "535 5.7.139 Authentication unsuccessful, the moon is full. [host.outlook.com]";
    rig.simulator.fault(format!("auth=\"{text}\"").parse().unwrap());
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!((hold.cause.as_str(), hold.reply.as_deref()), ("login", Some(text)));
    assert!(hold.text.contains("unknown to this version") && hold.text.contains("the moon is full"), "{}", hold.text);
    assert_eq!(hold.remedy, format!("change what the reply names, then: xoauth2-relay account release {MAILBOX}"));
    rig.stop().await;
}
