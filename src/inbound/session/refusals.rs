//! Every refusal that a program may show its administrator: where it is said, and what its words have to name.
//!
//! Moodle records the text of a refused MAIL, RCPT or DATA and of a refused message, and nothing else. So what has to do with the mail or with who sends
//! it is refused there, in one line, with what is wrong, which setting it comes from, and what to do.

use super::tests::facts;
use super::*;
use crate::inbound::route::SaidIn;
use crate::message::Address;

const EHLO: &str = "EHLO x";
const MAIL: &str = "MAIL FROM:<a@b.example>";
const RCPT: &str = "RCPT TO:<c@d.example>";

/// Where a refusal is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Mail,
    Rcpt,
    Data,
    /// Behind the message's last octet.
    Message,
}

struct Refusal {
    at: At,
    facts: Facts,
    /// The last line is the one that is refused.
    lines: Vec<String>,
    room: Room,
    /// What became of the message, for [`At::Message`].
    outcome: Option<Outcome>,
    code: &'static str,
    /// What is wrong, where that is set, and what to do.
    words: &'static [&'static str],
}

fn said(at: At, lines: &[&str], code: &'static str, words: &'static [&'static str]) -> Refusal {
    let lines = lines.iter().map(|&line| line.to_owned()).collect();
    Refusal { at, facts: facts(), lines, room: Room::Enough, outcome: None, code, words }
}

fn of_message(outcome: Outcome, code: &'static str, words: &'static [&'static str]) -> Refusal {
    Refusal { outcome: Some(outcome), ..said(At::Message, &[EHLO, MAIL, RCPT, "DATA"], code, words) }
}

fn within(facts: Facts, refusal: Refusal) -> Refusal {
    Refusal { facts, ..refusal }
}

fn of_mail() -> Vec<Refusal> {
    let mail = |line: &str, code, words| said(At::Mail, &[EHLO, line], code, words);
    let stranger = &["10.2.3.4 may not send", "add its network to \"allow\" of the listener 127.0.0.1:2525"];
    let full = &["disk is too full", "make room in its data folder (queue.min_free_disk)", "try again later"];
    vec![
        mail(
            "MAIL FROM:<a@b.example> SIZE=36700161",
            "552 5.3.4",
            &["35.0 MiB are more than the 35 MiB", "max_message_size of the [[listener]] 127.0.0.1:2525", "send less"],
        ),
        mail("MAIL FROM:<a@b.example> SIZE=much", "501 5.5.4", &["the value of SIZE is wrong"]),
        mail("MAIL FROM:<a@b.example> X=1", "555 5.5.4", &["parameter X is not offered", "leave it out"]),
        mail(
            "MAIL FROM:<a@b.example> BODY=BINARYMIME",
            "555 5.5.4",
            &["BINARYMIME is not offered", "send binary parts as base64"],
        ),
        mail("MAIL FROM:<a@b.example", "501 5.5.4", &["the form is: MAIL FROM:<"]),
        mail("MAIL FROM:<a b@c.example>", "501 5.1.7", &["a b@c.example"]),
        mail(
            "MAIL FROM:<ü@b.example>",
            "553 5.6.7",
            &["is not ASCII", "has to say SMTPUTF8 in MAIL, or use another address"],
        ),
        Refusal { room: Room::None, ..mail(MAIL, "452 4.3.1", full) },
        within(Facts { welcome: Welcome::Stranger, ..facts() }, mail(MAIL, "550 5.7.1", stranger)),
        within(
            Facts { tls: Tls::Required, ..facts() },
            mail(
                MAIL,
                "530 5.7.0",
                &["set the encryption of outgoing mail to STARTTLS", "require_tls of the listener 127.0.0.1:2525"],
            ),
        ),
        within(
            Facts { password: Passwords::Checked, ..facts() },
            mail(MAIL, "530 5.7.0", &["log in first", "name and the password of an [[app]]", "password = \"checked\""]),
        ),
    ]
}

fn of_recipients() -> Vec<Refusal> {
    let rcpt = |line: &str, code, words| said(At::Rcpt, &[EHLO, MAIL, line], code, words);
    vec![
        said(
            At::Rcpt,
            &[EHLO, MAIL, RCPT, RCPT, RCPT],
            "452 4.5.3",
            &[
                "no more than 2 recipients",
                "max_recipients of the [[listener]] 127.0.0.1:2525",
                "send the rest in another one",
            ],
        ),
        rcpt(
            "RCPT TO:<root>",
            "550 5.1.3",
            &["\"root\" has no domain", "write the whole address", "set default_domain"],
        ),
        rcpt("RCPT TO:<c@d.example", "501 5.5.4", &["the form is: RCPT TO:<"]),
        rcpt("RCPT TO:<c d@e.example>", "501 5.1.3", &["c d@e.example"]),
        rcpt("RCPT TO:<ü@e.example>", "553 5.6.7", &["is not ASCII", "use another address"]),
        rcpt("RCPT TO:<c@d.example> NOTIFY=PERHAPS", "501 5.5.4", &["the value of NOTIFY is wrong"]),
        said(At::Rcpt, &[EHLO, RCPT], "503 5.5.1", &["MAIL comes first", "the reply to it tells why"]),
    ]
}

fn of_messages() -> Vec<Refusal> {
    let sender = Address::parse("a@b.example").unwrap();
    let refused = Refused { app: "moodle".into(), sender, said_in: SaidIn::Header, mailbox: None };
    let large =
        &["larger than the 35 MiB", "max_message_size of the [[listener]] 127.0.0.1:2525", "send less", "Exchange"];
    vec![
        said(At::Data, &[EHLO, "DATA"], "503 5.5.1", &["MAIL comes first"]),
        said(
            At::Data,
            &[EHLO, MAIL, "DATA"],
            "554 5.5.1",
            &["no recipient was accepted", "the reply to each RCPT tells why"],
        ),
        of_message(Outcome::TooLarge, "552 5.3.4", large),
        of_message(Outcome::Flood, "552 5.3.4", large),
        of_message(
            Outcome::Full,
            "452 4.3.1",
            &["disk is too full", "make room in its data folder", "try again later"],
        ),
        of_message(
            Outcome::Unavailable,
            "451 4.3.0",
            &["could not store the message", "see its log", "try again later"],
        ),
        of_message(Outcome::NoAccount, "451 4.3.5", &["no account to send through", "add an [[account]]"]),
        of_message(
            Outcome::Sender(refused),
            "550 5.7.60",
            &[
                "From <a@b.example> is not among the senders of the app moodle",
                "add it to \"senders\" of that [[app]]",
                "change the sender",
            ],
        ),
        of_message(
            Outcome::SenderUnseen("moodle".into()),
            "550 5.7.60",
            &[
                "longer than 128 KiB",
                "those that the app moodle may have",
                "send a shorter header",
                "remove \"senders\"",
            ],
        ),
        of_message(Outcome::LoggedOut, "421 4.7.0", &["the relay's configuration has changed", "log in again"]),
    ]
}

/// The answer to the last line, or to the message behind it; those before have to be taken.
fn answer(refusal: &Refusal) -> Reply {
    let mut session = Session::new(refusal.facts.clone());
    let (last, before) = refusal.lines.split_last().unwrap();
    for line in before {
        let Event::Reply(reply) = session.on(Ok(line.as_bytes()), Room::Enough) else { panic!("{line} ends it") };
        assert!(reply.is_positive(), "{line}: {reply}");
    }
    match (session.on(Ok(last.as_bytes()), refusal.room), &refusal.outcome) {
        (Event::Reply(reply), None) => reply,
        (Event::Body(..), Some(outcome)) => match session.on_body(outcome.clone()) {
            Event::Reply(reply) | Event::Close(reply) => reply,
            other => panic!("{other:?} is no answer to a message"),
        },
        (other, _) => panic!("{last}: {other:?}"),
    }
}

#[test]
fn each_refusal_is_said_where_it_is_kept_and_names_its_reason_and_remedy() {
    for (at, refusals) in
        [(&[At::Mail][..], of_mail()), (&[At::Rcpt], of_recipients()), (&[At::Data, At::Message], of_messages())]
    {
        for refusal in refusals {
            assert!(at.contains(&refusal.at), "{:?}", refusal.lines);
            let verb = refusal.lines.last().unwrap().split(' ').next().unwrap();
            let fits = match refusal.at {
                At::Mail => "MAIL",
                At::Rcpt => "RCPT",
                At::Data | At::Message => "DATA",
            };
            assert_eq!(verb, fits);
            let reply = answer(&refusal).to_string();
            assert!(reply.starts_with(refusal.code), "{}: {reply}", refusal.code);
            assert_eq!(reply.chars().nth(4), reply.chars().next(), "both codes are of one class: {reply}");
            for words in refusal.words {
                assert!(reply.contains(words), "{words:?} is not in {reply:?}");
            }
            // One line, as it stands in a log.
            assert!(reply.len() <= 510 && reply.is_ascii() && reply.lines().count() == 1, "{reply}");
        }
    }
}
