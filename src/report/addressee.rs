//! Who would read a notice: the sender, a program that counts bounces, the postmaster, or nobody. Pure.

use crate::config::{App, Config};
use crate::message::{Address, Headers};
use crate::registry;
use crate::store::Stored;

/// Who is told what became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// Whoever stands in MAIL FROM.
    Sender(Address),
    /// The postmaster, since nobody reads what is sent to the sender; why, in words.
    Postmaster(&'static str),
    /// Nobody, although somebody should hear of it; why, in words.
    Nobody(&'static str),
    /// Nobody needs to be; why, in words.
    Needless(&'static str),
}

/// Who is told about this message, whose header is `headers`.
pub fn addressee(stored: &Stored, headers: &Headers<'_>, config: &Config) -> Addressee {
    let Some(sender) = &stored.envelope.sender else {
        return Addressee::Nobody(
            "the mail has the null sender, as notices have: a notice of a notice would never end",
        );
    };
    if stored.app == App::SEND_TEST {
        return Addressee::Needless("send-test has shown the answer");
    }
    if stored.app == App::RELAY {
        return Addressee::Postmaster("it is a warning of the relay itself");
    }
    if registry::app_named(config, &stored.app).is_some_and(|app| app.is_staging()) {
        return Addressee::Postmaster(
            "its app is a copy of a program (divert_to, recipients_allow), and its senders are real people",
        );
    }
    let local = sender.as_str().rsplit_once('@').map_or("", |(local, _)| local).to_lowercase();
    // What was made for bounces wants them, whatever the header says of the mail.
    if takes_bounces(&local) {
        return Addressee::Sender(sender.clone());
    }
    if is_read_by_nobody(&local) {
        return Addressee::Postmaster("nobody reads the address of the sender");
    }
    if is_this_machine(sender.domain(), &config.hostname) {
        return Addressee::Postmaster("the sender is a user of a machine, where no mail arrives");
    }
    if config.accounts.iter().any(|account| account.mailbox == *sender) {
        return Addressee::Postmaster("the sender is the mailbox that programs send through");
    }
    match automatic(headers) {
        Some(why) => Addressee::Postmaster(why),
        None => Addressee::Sender(sender.clone()),
    }
}

/// An address for bounces: VERP (Moodle's ends in 32 hex digits), the owner of a list, the rewritten sender of a forwarder.
fn takes_bounces(local: &str) -> bool {
    let is_hex = |tail: &str| tail.bytes().all(|octet| octet.is_ascii_hexdigit());
    let ends_in_a_hash = local.len() > 32 && local.get(local.len() - 32..).is_some_and(is_hex);
    // bob=example.com: the recipient within the sender.
    let has_a_recipient = local.split_once('=').is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'));
    let is_signed = ["prvs=", "srs0", "srs1", "btv1=="].iter().any(|start| local.starts_with(start));
    let mut words = local.split(|c: char| !c.is_alphanumeric());
    let is_named = words.any(|word| matches!(word, "bounce" | "bounces" | "owner" | "verp"));
    ends_in_a_hash || has_a_recipient || is_signed || is_named || local.ends_with("-request")
}

/// `no-reply`, in the languages and spellings it is seen in.
fn is_read_by_nobody(local: &str) -> bool {
    const NAMES: [&str; 13] = [
        "noreply",
        "donotreply",
        "dontreply",
        "noanswer",
        "nichtantworten",
        "keineantwort",
        "nepasrepondre",
        "noresponder",
        "naoresponda",
        "nonrispondere",
        "nietbeantwoorden",
        "mailerdaemon",
        "devnull",
    ];
    let squeezed: String = local.chars().filter(|c| !matches!(c, '-' | '_' | '.')).collect();
    squeezed == "nobody" || NAMES.iter().any(|name| squeezed.contains(name))
}

/// `www-data@web1.local`: the names that machines give themselves.
fn is_this_machine(domain: &str, hostname: &str) -> bool {
    let domain = domain.to_lowercase();
    let is_private = [".local", ".localdomain", ".internal", ".lan", ".home.arpa", ".localhost", ".invalid"];
    domain.eq_ignore_ascii_case(hostname)
        || !domain.contains('.') && !domain.starts_with('[')
        || is_private.iter().any(|end| domain.ends_with(end))
}

/// Whether a program says of its mail that nobody wrote it (RFC 3834 section 2, RFC 2369, and what was used before and beside them).
fn automatic(headers: &Headers<'_>) -> Option<&'static str> {
    let value = |name: &str| {
        let field = headers.first(name)?;
        Some(String::from_utf8_lossy(field.value).trim().to_lowercase())
    };
    if value("Auto-Submitted").is_some_and(|value| value.split([';', ' ', '(']).next() != Some("no")) {
        return Some("a program wrote the mail (Auto-Submitted)");
    }
    if value("Precedence").is_some_and(|value| matches!(value.as_str(), "bulk" | "list" | "junk")) {
        return Some("the mail went to many (Precedence)");
    }
    if headers.fields().iter().any(|field| field.name.len() > 5 && field.name[..5].eq_ignore_ascii_case(b"List-")) {
        return Some("the mail went to a list");
    }
    if value("X-Auto-Response-Suppress").is_some_and(|value| value.contains("all") || value.contains("ndr")) {
        return Some("the mail asks for no notices (X-Auto-Response-Suppress)");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::config_with;
    use crate::report::affair::samples::stored;

    fn whom(sender: Option<&str>, header: &str) -> Addressee {
        whom_with("postmaster = \"it@contoso.com\"", "moodle", sender, header)
    }

    fn whom_with(config: &str, app: &str, sender: Option<&str>, header: &str) -> Addressee {
        let mut stored = stored(1, sender, &["gone@example.com"]);
        app.clone_into(&mut stored.app);
        let header = format!("{header}\r\nSubject: x\r\n\r\n");
        addressee(&stored, &Headers::scan(header.trim_start().as_bytes()), &config_with(config))
    }

    fn sender(text: &str) -> Addressee {
        Addressee::Sender(Address::parse(text).unwrap())
    }

    #[test]
    fn a_person_is_told() {
        for address in ["jane@school.org", "m.owner@school.org.example", "replies@school.org", "Info@Contoso.com"] {
            let whom = whom(Some(address), "");
            assert_eq!(whom, sender(address), "{address}");
        }
        assert_eq!(whom(Some("jane@school.org"), "Auto-Submitted: no"), sender("jane@school.org"));
    }

    #[test]
    fn what_was_made_for_bounces_gets_them_even_for_bulk_mail() {
        let bulk = "Precedence: Bulk\r\nAuto-Submitted: auto-generated\r\nList-Id: x";
        for address in [
            "moodleAABAAAAAg==0123456789abcdef0123456789abcdef@school.example",
            "noreply+bob=example.com@school.example",
            "bounces-77@news.example",
            "news-bounces@lists.example",
            "owner-list@lists.example",
            "list-request@lists.example",
            "SRS0=aa=bb=example.com=x@fwd.example",
        ] {
            assert_eq!(whom(Some(address), bulk), sender(address), "{address}");
        }
    }

    #[test]
    fn what_nobody_reads_goes_to_the_postmaster() {
        for address in [
            "noreply@contoso.com",
            "No-Reply@contoso.com",
            "do_not.reply@contoso.com",
            "noreply+shop@contoso.com",
            "nicht-antworten@contoso.com",
            "nobody@contoso.com",
            "www-data@relay.test",
            "root@web1.local",
            "root@web1",
            "lms@contoso.com",
        ] {
            assert!(matches!(whom(Some(address), ""), Addressee::Postmaster(_)), "{address}");
        }
        for header in
            ["Auto-Submitted: auto-generated", "Precedence: bulk", "List-Help: x", "X-Auto-Response-Suppress: All"]
        {
            assert!(matches!(whom(Some("jane@school.org"), header), Addressee::Postmaster(_)), "{header}");
        }
    }

    #[test]
    fn of_the_mail_of_a_copy_only_the_postmaster_is_told() {
        for rule in ["divert_to = 'dev@contoso.com'", "recipients_allow = ['*@contoso.com']"] {
            let config = format!("postmaster = 'it@contoso.com'\n[[app]]\nname = 'staging'\n{rule}\n");
            for address in ["jane@school.org", "moodleAABAAAAAg==0123456789abcdef0123456789abcdef@school.example"] {
                let whom = |app| whom_with(&config, app, Some(address), "");
                assert!(matches!(whom("staging"), Addressee::Postmaster(_)), "{rule} {address}");
                assert_eq!(whom("moodle"), sender(address), "no rule of that app");
            }
        }
    }

    #[test]
    fn nobody_is_told_of_a_notice_that_did_not_arrive() {
        assert!(matches!(whom(None, ""), Addressee::Nobody(_)));
        let of_the_relay = |app| whom_with("postmaster = \"it@contoso.com\"", app, Some("lms@contoso.com"), "");
        assert!(matches!(of_the_relay("send-test"), Addressee::Needless(_)));
        assert!(matches!(of_the_relay("xoauth2-relay"), Addressee::Postmaster(_)));
    }
}
