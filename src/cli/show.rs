//! What the commands print for people.

use std::fmt::Write;
use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};

use crate::message::Address;
use crate::ops::{AccountStatus, AccountView, AlertTested, MessageDetail, MessageView, QueueCounts, Status, Tested};

/// `1 message`, `2 messages`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A local time, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
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

/// `status`.
pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    let since = time(status.started_at);
    let _ = writeln!(text, "xoauth2-relay {} on {}, running since {since}", status.version, status.hostname);
    let _ = writeln!(text, "queue: {}", counts(&status.queue));
    if let Some((key, since)) = status.key.as_ref().and_then(|key| Some((key, key.since?))) {
        let _ = writeln!(text, "sign-ins are sealed with the key {} since {}", key.id, time(since));
    }
    for account in &status.accounts {
        text.push('\n');
        text.push_str(&account_status(account));
    }
    for removed in &status.removed_accounts {
        let queue = counts(&removed.queue);
        let _ = writeln!(text, "\n{}: HELD: no longer in the configuration\n  queue: {queue}", removed.mailbox);
        let _ = writeln!(text, "  to do: put the account back into the configuration, or delete its mail");
    }
    if status.queue.dead > 0 {
        let _ = writeln!(text, "\ndead letters: see `xoauth2-relay queue list`, and `queue show ID` for the reason");
    }
    text
}

fn counts(queue: &QueueCounts) -> String {
    let mut parts = vec![format!("{} waiting", queue.waiting)];
    if let Some(oldest) = queue.oldest {
        parts.push(format!("the oldest since {}", time(oldest)));
    }
    if queue.held > 0 {
        parts.push(format!("{} held", queue.held));
    }
    parts.push(format!("{} dead", queue.dead));
    parts.join(", ")
}

fn account_status(account: &AccountStatus) -> String {
    let mut text = String::new();
    let state = match (&account.hold, &account.pause) {
        (Some(hold), _) => format!("HELD since {}: {}", time(hold.since), hold.text),
        (None, Some(pause)) => format!("pausing until {}", time(pause.until)),
        (None, None) => "good".to_owned(),
    };
    let _ = writeln!(text, "{}: {state}", account.mailbox);
    if let Some(hold) = &account.hold {
        for said in hold.reply.iter().chain(&hold.error) {
            let _ = writeln!(text, "  said: {}", printable(said));
        }
        let _ = writeln!(text, "  to do: {}", hold.remedy);
        if let Some(at) = hold.probe_at {
            let _ = writeln!(text, "  the relay itself tries again at {}", time(at));
        }
    } else if let Some(pause) = &account.pause {
        let _ = writeln!(text, "  because: {}", printable(&pause.error));
    }
    match &account.sign_in {
        Some(sign_in) if account.grant == "application" => {
            let until = sign_in.access_token_until.map(|at| format!(", good until {}", time(at))).unwrap_or_default();
            let next = sign_in.next_refresh.map(|at| format!(", next {}", time(at))).unwrap_or_default();
            let _ =
                writeln!(text, "  signs in by itself: last access token {}{until}{next}", time(sign_in.last_refresh));
        }
        None if account.grant == "application" => {
            let _ = writeln!(text, "  signs in by itself: no access token yet");
        }
        Some(sign_in) => {
            let who = sign_in.signed_in_as.as_ref().unwrap_or(&account.login);
            let _ = writeln!(text, "  signed in as {} since {}", printable(who), time(sign_in.since));
            let next = sign_in.next_refresh.map(|at| format!(", next {}", time(at))).unwrap_or_default();
            let _ = writeln!(text, "  last refresh {}{next}", time(sign_in.last_refresh));
        }
        None => {
            let _ = writeln!(text, "  not signed in");
        }
    }
    if let Some(trouble) = &account.trouble {
        let _ = writeln!(text, "  refresh fails: {}", printable(trouble));
    }
    if let Some(day) = &account.client_secret_expires {
        let _ = writeln!(text, "  the client secret expires on {day}");
    }
    let _ = writeln!(text, "  queue: {}", counts(&account.queue));
    let pace = &account.pace;
    let _ = writeln!(
        text,
        "  pace: {} of {} messages in the last minute, {} of {} recipients in the last 24 hours",
        pace.last_minute, pace.messages_per_minute, pace.last_day, pace.recipients_per_day
    );
    if let Some(at) = account.empty_at {
        let _ = writeln!(text, "  empty at about {}", time(at));
    }
    text
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
            let _ = writeln!(text, "    {} {}{reply}", recipient.address, recipient.state);
        }
    }
    let _ = writeln!(text, "{}", count(messages.len(), "message"));
    text
}

fn message_line(message: &MessageView) -> String {
    let sender = if message.sender.is_empty() { "<>" } else { &message.sender };
    let mut line = format!("{}  {}  {}  from {sender}", message.id, time(message.received_at), message.state);
    if let (Some(due_at), true) = (message.due_at, message.tries > 0) {
        let tries = if message.tries == 1 { "1 try" } else { &format!("{} tries", message.tries) };
        let _ = write!(line, "  {tries}, next at {}", time(due_at));
    }
    if let Some(subject) = &message.subject {
        let _ = write!(line, "  “{}”", printable(subject.trim()));
    }
    line
}

/// `queue show`.
pub(super) fn details(details: &[MessageDetail]) -> String {
    let mut text = String::new();
    for detail in details {
        let message = &detail.message;
        let _ = writeln!(text, "{}", message_line(message));
        let _ = writeln!(text, "  app {}, account {}, {} octets", message.app, message.account, message.size);
        for (name, value) in [("ENVID", &message.envid), ("RET", &message.ret)] {
            if let Some(value) = value {
                let _ = writeln!(text, "  {name}={value}");
            }
        }
        for recipient in &message.recipients {
            let _ = write!(text, "  {} {}", recipient.address, recipient.state);
            for (name, value) in [("NOTIFY", &recipient.notify), ("ORCPT", &recipient.orcpt)] {
                let _ = value.as_ref().map_or(Ok(()), |value| write!(text, "  {name}={value}"));
            }
            text.push('\n');
        }
        let _ = writeln!(text, "  journal:");
        for entry in &detail.journal {
            let _ = writeln!(text, "    {}  {}", time(entry.at), printable(&entry.text));
        }
    }
    text
}

/// `account list`.
pub(super) fn accounts(accounts: &[AccountView]) -> String {
    let mut text = String::new();
    for account in accounts {
        let state = match &account.hold {
            Some(hold) => format!("HELD: {}", hold.text),
            None if account.signed_in => "good".to_owned(),
            None if account.grant == "application" => "no access token yet".to_owned(),
            None => "not signed in".to_owned(),
        };
        let waiting = account.waiting;
        let _ = writeln!(text, "{}  {state}  {waiting} waiting  through {}", account.mailbox, account.smtp);
        if let Some(hold) = &account.hold {
            let _ = writeln!(text, "    to do: {}", hold.remedy);
        }
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
        "refused" => format!("REFUSED by Exchange through {}: {said}", tested.account),
        state => format!(
            "not sent yet ({state}): {said}\nThe mail is in the queue as {}; see `xoauth2-relay status`.",
            tested.id
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{JournalView, RecipientView};

    #[test]
    fn a_message_is_shown_with_its_wishes_and_its_journal() {
        let recipient = |address: &str, notify: Option<&str>, orcpt: Option<&str>| RecipientView {
            address: address.to_owned(),
            state: "waiting".to_owned(),
            reply: None,
            notify: notify.map(str::to_owned),
            orcpt: orcpt.map(str::to_owned),
        };
        let message = MessageView {
            id: "1".to_owned(),
            app: "moodle".to_owned(),
            account: "lms@contoso.com".to_owned(),
            lane: "normal".to_owned(),
            state: "waiting".to_owned(),
            received_at: Timestamp::UNIX_EPOCH,
            due_at: None,
            tries: 0,
            sender: String::new(),
            subject: None,
            size: 7,
            envid: Some("QQ+2B1".to_owned()),
            ret: Some("HDRS".to_owned()),
            recipients: vec![
                recipient("a@example.com", Some("NEVER"), None),
                recipient("b@example.com", None, Some("rfc822;b")),
                recipient("c@example.com", None, None),
            ],
        };
        let journal =
            vec![JournalView { at: Timestamp::UNIX_EPOCH, text: "bare CR or LF made CRLF\x1b[2J".to_owned() }];
        let shown = details(&[MessageDetail { message, journal }]);
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert_eq!(
            lines[..7],
            [
                "  app moodle, account lms@contoso.com, 7 octets",
                "  ENVID=QQ+2B1",
                "  RET=HDRS",
                "  a@example.com waiting  NOTIFY=NEVER",
                "  b@example.com waiting  ORCPT=rfc822;b",
                "  c@example.com waiting",
                "  journal:",
            ]
        );
        assert!(lines[7].ends_with("  bare CR or LF made CRLF [2J"), "{shown}");
    }
}
