//! Every text the door can answer with. An administrator reads them in a program's log: they name the thing and the remedy.

use std::net::IpAddr;

use ipnet::IpNet;

use super::route::Refused;
use super::session::{Facts, Tls};
use crate::config::Passwords;
use crate::message::QueueId;
use crate::smtp::{CommandError, LineError, PathError, Reply};

/// So that a reply stays within RFC 5321's 512 octets a line whatever it quotes.
const MAX_QUOTED: usize = 400;

/// `text` without control characters, cut to at most `max` bytes.
pub(super) fn printable(text: &str, max: usize) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    out.truncate(out.floor_char_boundary(max));
    out
}

/// `text` as it may stand in a reply or a header: ASCII without control characters, cut to a reasonable length.
pub(super) fn ascii(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(MAX_QUOTED).collect()
}

/// Octets for people.
pub(super) fn size(octets: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| octets >= *unit) {
        None => format!("{octets} octets"),
        Some((unit, name)) if octets.is_multiple_of(*unit) => format!("{} {name}", octets / unit),
        Some((unit, name)) => format!("{}.{} {name}", octets / unit, octets % unit * 10 / unit),
    }
}

pub(super) fn greeting(facts: &Facts) -> Reply {
    Reply::new(220, format!("{} ESMTP xoauth2-relay", facts.hostname))
}

pub(super) fn ehlo(facts: &Facts) -> Reply {
    let mut lines = vec![
        facts.hostname.clone(),
        "PIPELINING".to_owned(),
        format!("SIZE {}", facts.max_message_size),
        "8BITMIME".to_owned(),
        "SMTPUTF8".to_owned(),
        "CHUNKING".to_owned(),
        "ENHANCEDSTATUSCODES".to_owned(),
        "DSN".to_owned(),
    ];
    if matches!(facts.tls, Tls::Offered | Tls::Required) {
        lines.push("STARTTLS".to_owned());
    }
    if facts.tls != Tls::Required {
        lines.push("AUTH PLAIN LOGIN".to_owned());
        // As programs from before RFC 2554 look for it, Outlook Express among them.
        lines.push("AUTH=PLAIN LOGIN".to_owned());
    }
    Reply::with_lines(250, lines)
}

pub(super) fn helo(facts: &Facts) -> Reply {
    Reply::new(250, facts.hostname.clone())
}

pub(super) fn ok() -> Reply {
    Reply::new(250, "2.0.0 OK")
}

pub(super) fn sender_ok() -> Reply {
    Reply::new(250, "2.1.0 sender OK")
}

pub(super) fn recipient_ok() -> Reply {
    Reply::new(250, "2.1.5 recipient OK")
}

pub(super) fn go_ahead() -> Reply {
    Reply::new(354, "end the message with <CRLF>.<CRLF>")
}

pub(super) fn queued(id: QueueId) -> Reply {
    Reply::new(250, format!("2.0.0 OK queued as {id}"))
}

pub(super) fn bye() -> Reply {
    Reply::new(221, "2.0.0 bye")
}

pub(super) fn help() -> Reply {
    Reply::new(
        214,
        "2.0.0 this is xoauth2-relay: EHLO, AUTH, MAIL, RCPT, DATA, BDAT, RSET, NOOP and QUIT are what it knows",
    )
}

pub(super) fn vrfy() -> Reply {
    Reply::new(252, "2.0.0 addresses are not looked up here, but mail for them is taken")
}

pub(super) fn not_offered() -> Reply {
    Reply::new(502, "5.5.1 this command is not offered")
}

pub(super) fn no_tls() -> Reply {
    Reply::new(502, format!("5.5.1 {NO_TLS}"))
}

const NO_TLS: &str = "this listener has no TLS: set the encryption of outgoing mail to \"none\" in the program";

/// A TLS handshake where a command should be.
pub(super) fn unexpected_tls(tls: Tls) -> Reply {
    let text = match tls {
        Tls::None => NO_TLS,
        Tls::Offered | Tls::Required => {
            "TLS begins with STARTTLS here: set the encryption of outgoing mail to STARTTLS in the program, not SSL"
        }
        Tls::Started | Tls::Implicit => "this is TLS within TLS",
    };
    Reply::new(421, format!("4.7.0 {text}"))
}

pub(super) fn start_tls() -> Reply {
    Reply::new(220, "2.0.0 ready for TLS")
}

pub(super) fn tls_again() -> Reply {
    Reply::new(503, "5.5.1 TLS is already on")
}

pub(super) fn tls_within_mail() -> Reply {
    Reply::new(503, "5.5.1 STARTTLS cannot stand between MAIL and the end of the message")
}

/// RFC 3207 section 6: what stands behind STARTTLS in the clear may be another's, and would be taken for the client's own.
pub(super) fn bytes_behind_starttls() -> Reply {
    Reply::new(554, "5.5.1 nothing may be sent behind STARTTLS before its answer; closing, and nothing of it was done")
}

/// RFC 3207 section 4.
pub(super) fn mail_needs_tls(facts: &Facts) -> Reply {
    let text = format!(
        "5.7.0 this relay takes mail with TLS only: set the encryption of outgoing mail to STARTTLS in the program \
         (require_tls of the listener {})",
        facts.listener
    );
    Reply::new(530, text)
}

/// RFC 4954 section 6.
pub(super) fn auth_needs_tls() -> Reply {
    Reply::new(538, "5.7.11 not in the clear: set the encryption of outgoing mail to STARTTLS in the program")
}

pub(super) fn chunk(size: u64) -> Reply {
    Reply::new(250, format!("2.0.0 {size} octets taken"))
}

pub(super) fn within_chunks() -> Reply {
    Reply::new(503, "5.5.1 the message has begun with BDAT: BDAT with LAST ends it, RSET gives it up")
}

pub(super) fn http() -> Reply {
    Reply::new(421, "4.7.0 this is a mail server, not a web server")
}

pub(super) fn too_many_errors() -> Reply {
    Reply::new(421, "4.7.0 too many wrong commands, closing")
}

pub(super) fn bad_line(error: LineError) -> Reply {
    match error {
        LineError::TooLong => Reply::new(500, "5.5.2 line too long"),
        LineError::BareLf => Reply::new(
            500,
            "5.5.2 a line must end with CRLF, and this one has a line feed alone (with nc, use its option -C)",
        ),
        LineError::BareCr => Reply::new(500, "5.5.2 a carriage return without a line feed cannot be part of a command"),
        LineError::Control(0) => Reply::new(500, "5.5.2 a NUL cannot be part of a command"),
        LineError::Control(_) => Reply::new(500, "5.5.2 a control character cannot be part of a command"),
        LineError::NotLines => Reply::new(421, "4.7.0 lines must end with CRLF, closing"),
        LineError::Endless => Reply::new(421, "4.7.0 a line without an end, closing"),
        LineError::Chunk => Reply::new(501, "5.5.4 the size of this chunk cannot be told, closing"),
        LineError::Tls => unexpected_tls(Tls::None),
    }
}

pub(super) fn bad_command(error: &CommandError) -> Reply {
    let text = ascii(&error.to_string());
    match error {
        CommandError::Unknown => Reply::new(500, "5.5.1 unknown command"),
        CommandError::Syntax(_) | CommandError::Value { .. } | CommandError::Twice(_) => {
            Reply::new(501, format!("5.5.4 {text}"))
        }
        CommandError::Chunk => {
            Reply::new(501, format!("5.5.4 {text}, closing, because its octets would be taken for commands"))
        }
        CommandError::Parameter(_) => Reply::new(555, format!("5.5.4 {text}")),
        CommandError::Sender(_) => Reply::new(501, format!("5.1.7 {text}")),
        CommandError::Recipient(PathError::NoDomain(_)) => Reply::new(550, format!("5.1.3 {text}")),
        CommandError::Recipient(_) => Reply::new(501, format!("5.1.3 {text}")),
    }
}

pub(super) fn no_binary() -> Reply {
    Reply::new(555, "5.5.4 BODY=BINARYMIME is not offered: send binary parts as base64, without this parameter")
}

pub(super) fn needs_smtputf8(address: &str) -> Reply {
    let address = ascii(address);
    Reply::new(
        553,
        format!("5.6.7 {address} is not ASCII: the program has to say SMTPUTF8 in MAIL, or use another address"),
    )
}

pub(super) fn stranger(peer: IpAddr, facts: &Facts, code: u16) -> Reply {
    let text = format!(
        "{}.7.1 {peer} may not send through this relay: add its network to \"allow\" of the listener {}",
        code / 100,
        facts.listener
    );
    Reply::new(code, text)
}

pub(super) fn no_room() -> Reply {
    Reply::new(
        452,
        "4.3.1 the relay's disk is too full to take mail: make room in its data folder (queue.min_free_disk); try again later",
    )
}

pub(super) fn too_large(facts: &Facts) -> Reply {
    let limit = size(facts.max_message_size);
    let text = format!("5.3.4 the message is larger than the {limit} that this relay takes: {}", smaller(facts));
    Reply::new(552, text)
}

pub(super) fn announced_too_large(announced: u64, facts: &Facts) -> Reply {
    let (announced, limit) = (size(announced), size(facts.max_message_size));
    let text = format!("5.3.4 {announced} are more than the {limit} that this relay takes: {}", smaller(facts));
    Reply::new(552, text)
}

/// What is done about a message that is too large. Exchange has a limit of its own: to raise only ours moves the refusal to where the program
/// does not see it.
fn smaller(facts: &Facts) -> String {
    format!(
        "send less, such as a link in place of a file, or raise max_message_size of the [[listener]] {}, if Exchange takes more from \
         the mailbox",
        facts.listener
    )
}

/// RFC 5321 section 4.5.3.1.10: 452, so that a program which knows it sends the rest by itself.
pub(super) fn too_many_recipients(facts: &Facts) -> Reply {
    let limit = facts.max_recipients;
    let recipients = if limit == 1 { "recipient" } else { "recipients" };
    let text = format!(
        "4.5.3 no more than {limit} {recipients} a message: send the rest in another one, or raise max_recipients of the [[listener]] {}",
        facts.listener
    );
    Reply::new(452, text)
}

pub(super) fn already_begun() -> Reply {
    Reply::new(503, "5.5.1 a message has already begun: RSET ends it")
}

pub(super) fn mail_first() -> Reply {
    Reply::new(503, "5.5.1 MAIL comes first; if it was said, the reply to it tells why it was refused")
}

pub(super) fn no_recipients() -> Reply {
    Reply::new(554, "5.5.1 no recipient was accepted: the reply to each RCPT tells why")
}

pub(super) fn unavailable() -> Reply {
    Reply::new(451, "4.3.0 the relay could not store the message, see its log; try again later")
}

pub(super) fn no_account() -> Reply {
    Reply::new(451, "4.3.5 the relay has no account to send through: add an [[account]] to its configuration")
}

pub(super) fn authenticated() -> Reply {
    Reply::new(235, "2.7.0 welcome")
}

pub(super) fn challenge(text: &str) -> Reply {
    Reply::new(334, text)
}

pub(super) fn log_in_first(facts: &Facts) -> Reply {
    let text = format!(
        "5.7.0 log in first: AUTH with the name and the password of an [[app]]; the listener {} has password = \"checked\"",
        facts.listener
    );
    Reply::new(530, text)
}

/// Does not tell which of the two is wrong; the log does.
pub(super) fn login_refused() -> Reply {
    Reply::new(
        535,
        "5.7.8 user name or password is wrong: they are the name and the password of an [[app]] of the relay, whose log says more",
    )
}

pub(super) fn logins_refused() -> Reply {
    Reply::new(421, "4.7.0 user name or password is wrong, too often in this session; the relay's log says more")
}

pub(super) fn login_unavailable() -> Reply {
    Reply::new(454, "4.7.0 passwords cannot be checked at the moment, see the relay's log; try again later")
}

pub(super) fn logged_out() -> Reply {
    Reply::new(421, "4.7.0 the login is no longer good, since the relay's configuration has changed: log in again")
}

pub(super) fn sender_refused(refused: &Refused) -> Reply {
    let Refused { app, sender, said_in, mailbox } = refused;
    let sender = ascii(sender.as_str());
    let text = match mailbox {
        None => format!(
            "5.7.60 {said_in} <{sender}> is not among the senders of the app {app}: add it to \"senders\" of that [[app]], or change the \
             sender in the program"
        ),
        Some(mailbox) => format!(
            "5.7.60 {said_in} <{sender}> is not the mailbox {mailbox} nor in its send_as: grant it Send As in Exchange and add it to \
             send_as, or send as the mailbox, or set sender = \"rewrite\" for the app {app}"
        ),
    };
    Reply::new(550, text)
}

pub(super) fn sender_unseen(app: &str) -> Reply {
    let text = format!(
        "5.7.60 the header is longer than {} KiB: its senders cannot be compared with those that the app {app} may have; \
         send a shorter header, or remove \"senders\" and \"sender\" from that [[app]]",
        crate::store::INLINE_LIMIT / 1024
    );
    Reply::new(550, text)
}

pub(super) fn auth_again() -> Reply {
    Reply::new(503, "5.5.1 AUTH was already done")
}

pub(super) fn auth_within_mail() -> Reply {
    Reply::new(503, "5.5.1 AUTH cannot stand between MAIL and the end of the message")
}

pub(super) fn auth_malformed() -> Reply {
    Reply::new(501, "5.5.2 the response to AUTH is not what it should be, base64 of a user name and a password")
}

pub(super) fn auth_cancelled() -> Reply {
    Reply::new(501, "5.7.0 AUTH cancelled")
}

pub(super) fn other_mechanism(facts: &Facts) -> Reply {
    let with = match facts.password {
        Passwords::Any => ", with any user name and password",
        Passwords::Checked => "",
    };
    Reply::new(504, format!("5.5.4 only AUTH PLAIN and LOGIN are offered{with}"))
}

pub(super) fn idle() -> Reply {
    Reply::new(421, "4.4.2 nothing was heard for too long, closing (listener.idle_timeout)")
}

pub(super) fn lone_dot() -> Reply {
    Reply::new(
        554,
        "5.5.2 the message was not taken: every line, and the dot that ends it, must end with CRLF, and these end otherwise; closing",
    )
}

pub(super) fn restarting() -> Reply {
    Reply::new(421, "4.3.2 the service is restarting")
}

pub(super) fn busy(limit: usize) -> Reply {
    Reply::new(421, format!("4.3.2 all {limit} connections of this listener are in use (listener.max_connections)"))
}

/// `customer` is an address, or a network that counts as one.
pub(super) fn busy_for(customer: IpNet, limit: usize) -> Reply {
    let is_one = customer.prefix_len() == customer.max_prefix_len();
    let customer = if is_one { customer.addr().to_string() } else { customer.to_string() };
    let connections = if limit == 1 { "connection" } else { "connections" };
    let text = format!(
        "4.7.0 {customer} already has {limit} {connections}, as many as one address may have: raise \
         listener.max_connections_per_address if these are several programs"
    );
    Reply::new(421, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_for_people() {
        for (octets, text) in
            [(0, "0 octets"), (36_700_160, "35 MiB"), (1536, "1.5 KiB"), (u64::MAX, "17179869183.9 GiB")]
        {
            assert_eq!(size(octets), text);
        }
    }

    #[test]
    fn nothing_a_client_says_can_break_out_of_a_reply() {
        let error = CommandError::Recipient(PathError::NoDomain("a\r\n250 ok\u{85}é".into()));
        let wire = bad_command(&error).wire();
        assert_eq!(wire.matches("\r\n").count(), 1);
        assert!(wire.is_ascii());
        assert!(bad_command(&CommandError::Parameter("X".repeat(2000))).wire().len() <= 512);
    }
}
