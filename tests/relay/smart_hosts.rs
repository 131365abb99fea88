//! Mail servers that nobody here wrote hand over what programs leave with them: Postfix and Exim, each with its own queue.

use std::collections::BTreeSet;

use crate::letters;
use crate::machine::Machine;
use crate::support::{Client, LISTENER, MAILBOX, Rig, blocking, quick};
use crate::tap::Tap;

/// A Postfix that hands everything to this port.
fn postfix(port: &str) -> Option<Machine> {
    let main = include_str!("clients/postfix-client.cf").replace("{port}", port);
    let master = include_str!("clients/postfix-master.cf").to_owned();
    let mut machine = Machine::start(&["postfix"], &[("postfix/main.cf", main), ("postfix/master.cf", master)])?;
    machine.run("mkdir /var/spool/postfix && install -d -o postfix /var/lib/postfix && postfix start");
    Some(machine)
}

/// An Exim that hands everything to this port, and looks through its queue every second.
fn exim(port: &str) -> Option<Machine> {
    let config = include_str!("clients/exim.conf").replace("{port}", port);
    let mut machine = Machine::start(&["exim"], &[("exim4/exim4.conf", config)])?;
    machine.run("install -d -o Debian-exim /var/spool/exim4 && exim4 -q1s");
    Some(machine)
}

/// Leaves mail of every kind with the machine's `sendmail`, and then one to many people. How many mails they are.
fn leave_letters(machine: &mut Machine) -> usize {
    let letters = letters::of_every_kind();
    for letter in &letters {
        std::fs::write(machine.path("var/tmp/letter"), letter).unwrap();
        machine.run(&format!("sendmail -i -f {MAILBOX} you@example.com me@example.com < /var/tmp/letter"));
    }
    leave_for_many(machine);
    letters.len() + 1
}

/// Leaves one mail to many people. How many they are.
fn leave_for_many(machine: &mut Machine) -> usize {
    let people: Vec<String> = (0..60).map(|n| format!("learner{n}@example.com")).collect();
    std::fs::write(machine.path("var/tmp/letter"), &letters::of_every_kind()[0]).unwrap();
    machine.run(&format!("sendmail -i -f {MAILBOX} {} < /var/tmp/letter", people.join(" ")));
    people.len()
}

/// Whether the relay takes mail in chunks. A client that can is then to use them.
async fn offers_chunking(rig: &Rig) -> bool {
    let door = rig.door();
    blocking(move || {
        let mut client = Client::connect(door);
        client.reply();
        client.ask("EHLO client.example").contains("CHUNKING")
    })
    .await
}

fn everybody(rig: &Rig) -> BTreeSet<String> {
    rig.simulator.accepted().into_iter().flat_map(|accepted| accepted.recipients).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_hands_over_mail_of_every_kind() {
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let Some(mut postfix) = postfix(&tap.port()) else { return rig.stop().await };
    let left = leave_letters(&mut postfix);
    // It cuts 60 recipients into two transactions.
    tap.assert_all_arrived(&rig, left + 1).await;
    assert_eq!(everybody(&rig).len(), 62);
    assert!(tap.said().contains("AUTH PLAIN "), "{}", tap.said());
    postfix.until("postqueue -p", |queue| queue.contains("Mail queue is empty")).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_hands_over_mail_of_every_kind_in_chunks_where_they_are_offered() {
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let Some(mut exim) = exim(&tap.port()) else { return rig.stop().await };
    let left = leave_letters(&mut exim);
    tap.assert_all_arrived(&rig, left).await;
    assert_eq!(everybody(&rig).len(), 62);
    assert!(tap.said().contains("AUTH PLAIN "), "{}", tap.said());
    assert_eq!(tap.chunks() > 0, offers_chunking(&rig).await, "{}", tap.said());
    exim.until("exim4 -bpc", |count| count == "0\n").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_keeps_mail_until_there_is_a_relay() {
    let tap = Tap::before_nobody();
    let Some(mut postfix) = postfix(&tap.port()) else { return };
    let left = leave_letters(&mut postfix);
    postfix.until("cat /var/log/postfix.log", |log| log.matches("status=deferred").count() >= left).await;
    let rig = Rig::start().await;
    tap.lead_to(rig.door());
    tap.assert_all_arrived(&rig, left + 1).await;
    assert_eq!(everybody(&rig).len(), 62);
    postfix.until("postqueue -p", |queue| queue.contains("Mail queue is empty")).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_keeps_mail_until_there_is_a_relay() {
    let tap = Tap::before_nobody();
    let Some(mut exim) = exim(&tap.port()) else { return };
    let left = leave_letters(&mut exim);
    exim.until("exim4 -bpc", |count| count.trim() == left.to_string()).await;
    exim.until("cat /var/log/exim-mainlog", |log| log.contains(" == you@example.com R=relay T=relay defer")).await;
    let rig = Rig::start().await;
    tap.lead_to(rig.door());
    tap.assert_all_arrived(&rig, left).await;
    assert_eq!(everybody(&rig).len(), 62);
    exim.until("exim4 -bpc", |count| count == "0\n").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_brings_recipients_that_were_too_many_for_one_mail_in_others() {
    let rig = Rig::with_listener(quick(), &format!("{LISTENER}max_recipients = 10\n")).await;
    let tap = Tap::before(rig.door());
    let Some(mut postfix) = postfix(&tap.port()) else { return rig.stop().await };
    let people = leave_for_many(&mut postfix);
    postfix.until("postqueue -p", |queue| queue.contains("Mail queue is empty")).await;
    assert_each_once(&rig, &tap, people).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_brings_recipients_that_were_too_many_for_one_mail_in_others() {
    let rig = Rig::with_listener(quick(), &format!("{LISTENER}max_recipients = 10\n")).await;
    let tap = Tap::before(rig.door());
    let Some(mut exim) = exim(&tap.port()) else { return rig.stop().await };
    let people = leave_for_many(&mut exim);
    exim.until("exim4 -bpc", |count| count == "0\n").await;
    assert_each_once(&rig, &tap, people).await;
    rig.stop().await;
}

/// Everything has left the mail server: everybody has got it, nobody twice, and no mail had more recipients than the relay takes.
async fn assert_each_once(rig: &Rig, tap: &Tap, people: usize) {
    rig.until_queue_is_empty().await;
    let accepted = rig.simulator.accepted();
    assert!(accepted.iter().all(|accepted| accepted.recipients.len() <= 10), "{accepted:#?}");
    assert_eq!(accepted.iter().map(|accepted| accepted.recipients.len()).sum::<usize>(), people);
    assert_eq!(everybody(rig).len(), people);
    tap.assert_all_arrived(rig, accepted.len()).await;
}
