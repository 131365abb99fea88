//! What the commands print for people.

use std::fmt::Write;
use std::path::Path;

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

pub(super) use super::standing::{account, status};
use super::when::localised;
pub(super) use super::when::time;
use crate::message::Address;
use crate::ops::{
    AccountView, AlertTested, HoldView, JournalView, MessageDetail, MessageView, Ordered, RecipientView, ReleaseOrder,
    Released, STATUS, Tested,
};

/// `1 message`, `2 messages`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Text from the network on one line of a terminal: nothing in it can move the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `alert test`.
pub(super) fn alerts_tested(tested: &[AlertTested]) -> String {
    let line = |one: &AlertTested| {
        format!("{}: {}: {}", one.receiver, if one.ok { "ok" } else { "FAILED" }, printable(&one.answer))
    };
    tested.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `queue list`.
pub(super) fn messages(messages: &[MessageView]) -> String {
    if messages.is_empty() {
        return "the queue is empty".to_owned();
    }
    let mut text = String::new();
    for message in messages {
        let _ = writeln!(text, "{}", message_line(message));
        for recipient in &message.recipients {
            let reply = recipient.reply.as_deref().map(|reply| format!(": {}", printable(reply))).unwrap_or_default();
            let _ = writeln!(text, "    {} {}{reply}", recipient.address, in_words(&recipient.state));
        }
    }
    let _ = writeln!(text, "{}", count(messages.len(), "message"));
    text
}

fn message_line(message: &MessageView) -> String {
    let sender = if message.sender.is_empty() { "<>" } else { &message.sender };
    let mut line = format!(
        "{}  {}  {}  {}  from {sender}",
        message.id,
        time(message.received_at),
        in_words(&message.state),
        message.lane
    );
    if let (Some(due_at), true) = (message.due_at, message.tries > 0) {
        let tries = if message.tries == 1 { "1 try" } else { &format!("{} tries", message.tries) };
        let _ = write!(line, "  {tries}, next at {}", time(due_at));
    }
    if let Some(subject) = &message.subject {
        let _ = write!(line, "  “{}”", printable(&decoded(subject)));
    }
    line
}

/// A subject as its reader sees it, encoded words decoded (RFC 2047).
fn decoded(subject: &str) -> String {
    // The decoder wants the line's end.
    let line = [subject, "\r\n"].concat();
    match MessageStream::new(line.as_bytes()).parse_unstructured() {
        HeaderValue::Text(text) => text.trim().to_owned(),
        _ => subject.trim().to_owned(),
    }
}

/// `queue show`.
pub(super) fn details(details: &[MessageDetail]) -> String {
    let mut text = String::new();
    for detail in details {
        let message = &detail.message;
        let _ = writeln!(text, "{}", message_line(message));
        let _ = writeln!(text, "  app {}, account {}, {} octets", message.app, message.account, message.size);
        match &message.lane_why {
            Some(why) => _ = writeln!(text, "  lane {}: {}", message.lane, printable(why)),
            None => _ = writeln!(text, "  lane {}", message.lane),
        }
        for (name, value) in [("ENVID", &message.envid), ("RET", &message.ret)] {
            if let Some(value) = value {
                let _ = writeln!(text, "  {name}={value}");
            }
        }
        recipients(&mut text, message);
        let _ = writeln!(text, "  journal:");
        for entry in &detail.journal {
            let _ = writeln!(text, "    {}", journal_line(entry));
        }
    }
    text
}

/// `2026-11-21 10:00:00  accepted …`
pub(super) fn journal_line(entry: &JournalView) -> String {
    format!("{}  {}", time(entry.at), printable(&localised(&entry.text, entry.at)))
}

/// Each recipient; what a reply means and what to do about it stands below the last of those in a row that it is said of.
fn recipients(text: &mut String, message: &MessageView) {
    // Whoever reads this has just typed it.
    let shown = format!("xoauth2-relay queue show {}", message.id);
    for (n, recipient) in message.recipients.iter().enumerate() {
        let _ = write!(text, "  {} {}", recipient.address, in_words(&recipient.state));
        for (name, value) in [("NOTIFY", &recipient.notify), ("ORCPT", &recipient.orcpt)] {
            let _ = value.as_ref().map_or(Ok(()), |value| write!(text, "  {name}={value}"));
        }
        text.push('\n');
        if message.recipients.get(n + 1).is_some_and(|next| is_said_alike(next, recipient)) {
            continue;
        }
        let remedy = recipient.remedy.as_deref().filter(|remedy| *remedy != STATUS && *remedy != shown);
        let why = recipient.meaning.as_deref().or_else(|| in_our_words(recipient));
        for (name, value) in [("why", why), ("to do", remedy)] {
            if let Some(value) = value {
                let _ = writeln!(text, "    {name}: {}", printable(value));
            }
        }
    }
}

fn is_said_alike(one: &RecipientView, other: &RecipientView) -> bool {
    one.state == other.state
        && (&one.meaning, &one.remedy, in_our_words(one)) == (&other.meaning, &other.remedy, in_our_words(other))
}

/// What the relay itself has written in the place of a reply: that needs no explanation.
fn in_our_words(recipient: &RecipientView) -> Option<&str> {
    let reply = recipient.reply.as_deref().filter(|_| recipient.state != "accepted")?;
    match reply.split_once("xoauth2-relay: ") {
        Some((_, words)) => Some(words),
        None => Some(reply).filter(|reply| !reply.starts_with(|c: char| c.is_ascii_digit()) && !reply.is_empty()),
    }
}

/// A state as people read it: `in doubt` rather than `in_doubt`.
fn in_words(state: &str) -> String {
    state.replace('_', " ")
}

/// `account list`.
pub(super) fn accounts(accounts: &[AccountView]) -> String {
    let mut text = String::new();
    for account in accounts {
        let state = match &account.hold {
            Some(hold) => format!("HELD: {}", hold.text),
            None => match &account.pause {
                Some(pause) => format!("pausing: {}", printable(&pause.error)),
                None if account.signed_in || account.grant == "none" => "good".to_owned(),
                None if account.grant == "application" => "no access token yet".to_owned(),
                None => "not signed in".to_owned(),
            },
        };
        let waiting = account.waiting;
        let _ = writeln!(text, "{}  {state}  {waiting} waiting  through {}", account.mailbox, account.smtp);
        if let Some(hold) = &account.hold {
            let _ = writeln!(text, "    to do: {}", to_do(hold));
        }
    }
    text
}

/// What an administrator does about a hold.
pub(super) fn to_do(hold: &HoldView) -> &str {
    if hold.remedy == STATUS { "nothing: it is tried again by itself" } else { &hold.remedy }
}

/// `2 messages deleted`; or that the order was for none.
pub(super) fn counted(number: usize, done: &str) -> String {
    match number {
        0 => "nothing was done: there is no such message; `xoauth2-relay queue list` shows what there is".to_owned(),
        number => format!("{} {done}", count(number, "message")),
    }
}

/// What came of an order about messages: what was done to how many, and what was left as it is.
pub(super) fn ordered(ordered: &Ordered, done: &str) -> String {
    let mut text =
        if ordered.left.is_empty() || ordered.done > 0 { counted(ordered.done, done) + "\n" } else { String::new() };
    for left in &ordered.left {
        let _ = writeln!(text, "{} {}", left.id, printable(&left.why));
    }
    text
}

/// `account release`.
pub(super) fn released(mailbox: &Address, order: &ReleaseOrder, released: &Released) -> String {
    let mut text = match &released.sign_in_problem {
        None if !released.has_sign_in => format!("{mailbox} is released; see `xoauth2-relay status`\n"),
        None => format!("{mailbox} is released, and its sign-in works; see `xoauth2-relay status`\n"),
        Some(problem) => format!(
            "{mailbox} was released, but its sign-in does not work: {}\n\
             If that does not pass by itself, `xoauth2-relay status` says what to do\n",
            printable(problem)
        ),
    };
    if order.newer_than.is_some() {
        let _ = match released.dead_letters {
            0 => writeln!(text, "Nothing older was waiting"),
            number => writeln!(
                text,
                "Not sent, but kept as dead letters: {}; `xoauth2-relay queue retry ID` sends one after all",
                count(number, "older message")
            ),
        };
    }
    text
}

/// `account drop-secret`.
pub(super) fn dropped_secret(mailbox: &Address, config: &Path) -> String {
    format!(
        "The old client secret of {mailbox} is no longer used: only next_client_secret is.\n\
         When it suits you, change {} and reload:\n  \
         client_secret          what next_client_secret says now\n  \
         client_secret_expires  the day on which that one ends\n  \
         next_client_secret     remove the line\n\
         Then delete the old secret in the app registration (Certificates & secrets).\n",
        config.display()
    )
}

/// `send-test`.
pub(super) fn tested(tested: &Tested) -> String {
    let reply = tested.reply.as_deref().map(printable);
    let said = reply.as_deref().unwrap_or("nothing yet");
    match tested.state.as_str() {
        "accepted" => format!("accepted by Exchange through {}: {said}", tested.account),
        "refused" => format!(
            "REFUSED by Exchange through {}: {said}\nWhat that means, and what to do: xoauth2-relay queue show {}",
            tested.account, tested.id
        ),
        // The account is at fault.
        "held" => format!(
            "not sent yet (held): {said}\nThe mail is in the queue as {}. What to do: xoauth2-relay account show {}",
            tested.id, tested.account
        ),
        state => format!(
            "not sent yet ({}): {said}\nThe mail is in the queue as {id}. How it goes on: xoauth2-relay queue show {id}",
            in_words(state),
            id = tested.id
        ),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn message() -> MessageView {
        MessageView {
            id: "1".to_owned(),
            app: "moodle".to_owned(),
            account: "lms@contoso.com".to_owned(),
            lane: "urgent".to_owned(),
            lane_why: Some("a link to /login/forgot_password.php".to_owned()),
            state: "waiting".to_owned(),
            received_at: Timestamp::UNIX_EPOCH,
            due_at: None,
            tries: 0,
            sender: String::new(),
            subject: None,
            size: 7,
            envid: Some("QQ+2B1".to_owned()),
            ret: Some("HDRS".to_owned()),
            recipients: Vec::new(),
        }
    }

    #[test]
    fn a_message_is_shown_with_its_wishes_and_its_journal() {
        let recipient = |address: &str, notify: Option<&str>, orcpt: Option<&str>| RecipientView {
            address: address.to_owned(),
            state: "waiting".to_owned(),
            reply: None,
            meaning: None,
            remedy: None,
            notify: notify.map(str::to_owned),
            orcpt: orcpt.map(str::to_owned),
        };
        let message = MessageView {
            recipients: vec![
                recipient("a@example.com", Some("NEVER"), None),
                recipient("b@example.com", None, Some("rfc822;b")),
                recipient("c@example.com", None, None),
            ],
            ..message()
        };
        let journal =
            vec![JournalView { at: Timestamp::UNIX_EPOCH, text: "bare CR or LF made CRLF\x1b[2J".to_owned() }];
        let shown = details(&[MessageDetail { message, journal }]);
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert_eq!(
            lines[..8],
            [
                "  app moodle, account lms@contoso.com, 7 octets",
                "  lane urgent: a link to /login/forgot_password.php",
                "  ENVID=QQ+2B1",
                "  RET=HDRS",
                "  a@example.com waiting  NOTIFY=NEVER",
                "  b@example.com waiting  ORCPT=rfc822;b",
                "  c@example.com waiting",
                "  journal:",
            ]
        );
        assert!(lines[8].ends_with("  bare CR or LF made CRLF [2J"), "{shown}");
    }

    #[test]
    fn what_a_reply_means_is_said_once_and_never_to_type_what_was_typed() {
        let recipient = |address: &str, state: &str, meaning: &str, remedy: &str| RecipientView {
            address: address.to_owned(),
            state: state.to_owned(),
            reply: None,
            meaning: Some(meaning.to_owned()),
            remedy: Some(remedy.to_owned()),
            notify: None,
            orcpt: None,
        };
        let ours = |address: &str, state: &str, reply: &str| RecipientView {
            reply: Some(reply.to_owned()),
            meaning: None,
            remedy: None,
            ..recipient(address, state, "", "")
        };
        let unblock = "Remove-BlockedSenderAddress";
        let message = MessageView {
            state: "in_doubt".to_owned(),
            subject: Some("=?UTF-8?Q?Pr=C3=BCfung?= 1".to_owned()),
            recipients: vec![
                recipient("a@example.com", "held", "Blocked", unblock),
                recipient("b@example.com", "held", "Blocked", unblock),
                recipient("c@example.com", "in_doubt", "It passes by itself", "xoauth2-relay status"),
                recipient("d@example.com", "refused", "Nobody has this address", "xoauth2-relay queue show 1"),
                ours("e@example.com", "waiting", "no access token: no answer"),
                ours("f@example.com", "held", "451 4.4.2 xoauth2-relay: lost the connection"),
                ours("g@example.com", "accepted", "250 2.0.0 OK"),
            ],
            ..message()
        };
        let shown = details(&[MessageDetail { message, journal: Vec::new() }]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("  in doubt  ") && lines[0].ends_with("  “Prüfung 1”"), "{shown}");
        assert_eq!(
            lines[lines.len() - 14..],
            [
                "  a@example.com held",
                "  b@example.com held",
                "    why: Blocked",
                "    to do: Remove-BlockedSenderAddress",
                "  c@example.com in doubt",
                "    why: It passes by itself",
                "  d@example.com refused",
                "    why: Nobody has this address",
                "  e@example.com waiting",
                "    why: no access token: no answer",
                "  f@example.com held",
                "    why: lost the connection",
                "  g@example.com accepted",
                "  journal:",
            ]
        );
    }
}
