//! Copies of programs: nothing leaves but what may, decided at each attempt by the configuration in force.

use xoauth2_relay::config::Config;
use xoauth2_relay::ops::{Selection, SendTest};
use xoauth2_relay::simulator::Fault;

use crate::support::{LISTENER, MAILBOX, Rig, checked, configuration, id_of, mailbox, quick, without_received};

const DEV: &str = "dev-team@contoso.com";
const MAIL: &str = "From: Moodle <lms@contoso.com>\r\nTo: you@example.com\r\nCc: dean@school.example\r\nSubject: hello\r\n\
                    Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <one@moodle.example>\r\n\r\nhello\r\n";
const PEOPLE: [&str; 3] = ["you@example.com", "dean@school.example", "secret@example.com"];

fn default_app(rules: &str) -> String {
    format!("[queue]\nretry = [\"1s\"]\n[[app]]\nname = \"default\"\n{rules}\n")
}

/// The rig's configuration with other rules, and some of its text replaced.
pub(crate) fn read(rig: &Rig, rules: &str, changes: &[(&str, &str)]) -> Config {
    let mut text = configuration(&rig.simulator, rig.folder.path(), rules);
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    checked(&text)
}

async fn configure(rig: &Rig, rules: &str) {
    let config = read(rig, &format!("{}\n{LISTENER}", default_app(rules)), &[]);
    assert_eq!(rig.relay.configure(config).await.unwrap(), [""; 0], "nothing of it needs a restart");
}

/// Everybody to whom anything has ever gone.
fn reached(rig: &Rig) -> Vec<String> {
    let mut all: Vec<String> = rig.simulator.accepted().into_iter().flat_map(|one| one.recipients).collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn diverted_mail_goes_to_one_address_and_tells_whom_it_was_for() {
    let rig = Rig::with(quick(), &default_app(&format!("divert_to = \"{DEV}\""))).await;
    rig.simulator.fault(Fault::row("451-4.3.111-mrh1").unwrap().times(1));
    rig.submit(MAILBOX, &PEOPLE, MAIL).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!(accepted[0].recipients, [DEV], "once, also after a try that failed");
    let fields = PEOPLE.map(|one| format!("X-Original-To: {one}\r\n")).concat();
    assert_eq!(String::from_utf8_lossy(without_received(&accepted[0].bytes)), format!("{fields}{MAIL}"));
    rig.until_queue_is_empty().await;
    let shown = rig.relay.ops().queue_show(id_of(&accepted[0])).await.unwrap();
    assert!(shown.message.recipients.iter().all(|one| one.state == "accepted"), "{:?}", shown.message.recipients);
    let journal = format!("{:?}", shown.journal);
    assert!(journal.contains("diverted to dev-team@contoso.com"), "{journal}");
    assert_eq!(rig.relay.ops().status().await.unwrap().accounts[0].pace.last_day, 1, "Exchange counts one recipient");

    // The relay's own mail is nobody's to divert.
    let order = SendTest { to: "it@example.com".to_owned(), account: None };
    let own = rig.relay.ops().send_test(&order).await;
    assert!(own.is_ok(), "{own:?}");
    assert_eq!(reached(&rig), [DEV, "it@example.com"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diversion_that_is_refused_is_refused_for_all() {
    let rig = Rig::with(quick(), &default_app(&format!("divert_to = \"{DEV}\""))).await;
    rig.simulator.fault(Fault::row("5.4.1-recipient-rejected").unwrap().for_recipient(DEV));
    rig.submit(MAILBOX, &PEOPLE, MAIL).await;
    let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|one| one.state == "dead")).await;
    assert!(queue[0].recipients.iter().all(|one| one.state == "refused"), "{:?}", queue[0].recipients);
    assert_eq!(reached(&rig), [""; 0]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_list_does_not_name_gets_nothing_until_it_does() {
    let rig = Rig::with(quick(), &default_app("recipients_allow = [\"*@school.example\"]")).await;
    rig.simulator.fault(Fault::row("451-4.3.111-mrh1").unwrap().times(1));
    rig.submit(MAILBOX, &PEOPLE, MAIL).await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let is_held =
        |queue: &[xoauth2_relay::ops::MessageView]| queue.len() == 2 && queue.iter().all(|one| one.state == "held");
    let queue = rig.until_queue("two held messages", is_held).await;
    assert_eq!(reached(&rig), ["dean@school.example"]);
    let states: Vec<&str> = queue[0].recipients.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["held", "accepted", "held"]);
    let reason = queue[0].recipients[0].reply.as_deref().unwrap();
    for words in ["recipients_allow of the app default", "queue retry", "queue delete", &queue[0].id] {
        assert!(reason.contains(words), "{words} is not in {reason}");
    }
    let counts = rig.relay.ops().status().await.unwrap().queue;
    assert_eq!((counts.held, counts.held_by_rule), (2, 2), "on purpose: nobody has to be alarmed");

    // Asked again, after a restart and from another account's queue it is the same.
    rig.relay.ops().queue_retry(Selection::All).await.unwrap();
    rig.until_queue("two held messages", is_held).await;
    let rig = rig.restart().await;
    rig.relay.ops().queue_retry(Selection::All).await.unwrap();
    rig.until_queue("two held messages", is_held).await;
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    assert_eq!((reached(&rig), rig.simulator.accepted_count()), (vec!["dean@school.example".to_owned()], 1));

    configure(&rig, "recipients_allow = [\"*@school.example\", \"you@example.com\"]").await;
    rig.relay.ops().queue_retry(Selection::All).await.unwrap();
    rig.until_accepted(3).await;
    rig.until_queue("one held message", |queue| queue.len() == 1 && queue[0].state == "held").await;
    assert_eq!(reached(&rig), ["dean@school.example", "you@example.com"]);
    rig.relay.ops().queue_delete(Selection::All).await.unwrap();
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_in_force_count_for_mail_that_was_taken_before_them() {
    let rig = Rig::with(quick(), &default_app("")).await;
    rig.simulator.go_away().await.unwrap();
    rig.submit(MAILBOX, &PEOPLE, MAIL).await;
    rig.until_queue("a first try", |queue| queue.iter().any(|one| one.recipients[0].reply.is_some())).await;
    // As in a copy of a site whose configuration is made fit for staging, with what waited in its queue.
    configure(&rig, &format!("divert_to = \"{DEV}\"\nrecipients_allow = [\"*@nowhere.example\"]")).await;
    rig.simulator.come_back().await.unwrap();
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.until_accepted(1).await;
    rig.until_queue_is_empty().await;
    assert_eq!(reached(&rig), [DEV], "divert_to comes before recipients_allow");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_an_app_that_is_no_longer_described_keeps_to_the_rules_of_the_default_one() {
    let rules = |rest: &str| {
        format!(
            "{}[[app]]\nname = \"moodle\"\nallow = [\"127.0.0.1\"]\n{rest}",
            default_app("recipients_allow = [\"*@school.example\"]")
        )
    };
    let rig = Rig::with(quick(), &rules("")).await;
    rig.simulator.go_away().await.unwrap();
    rig.submit(MAILBOX, &PEOPLE, MAIL).await;
    rig.until_queue("a first try", |queue| queue.iter().any(|one| one.recipients[0].reply.is_some())).await;
    configure(&rig, "recipients_allow = [\"*@school.example\"]").await;
    rig.simulator.come_back().await.unwrap();
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.until_queue("a held message", |queue| queue.len() == 1 && queue[0].state == "held").await;
    assert_eq!(reached(&rig), ["dean@school.example"]);
    rig.stop().await;
}
