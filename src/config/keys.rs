//! Every key of the configuration: where it belongs, what form its value has, and whether it has a meaning in this version.
//!
//! Adding a key? Also extend `config/relay.toml` and `docs/configuration.md`; tests compare both with these tables.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Number,
    Switch,
    Date,
    List,
    /// A text or a table that says where the secret is.
    Secret,
    /// A table with the files of a certificate and its key.
    Certificate,
    /// `[name]`.
    Table,
    /// `[[name]]`, any number of times.
    Tables,
}

/// Whether a key does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Now,
    /// Part of the design, but without effect in this version: refused, never ignored.
    Later,
    /// As `Later`, but its default, the empty list, may be written down.
    Empty,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub form: Form,
    pub meaning: Meaning,
}

/// The keys that may stand below one heading.
#[derive(Debug)]
pub(super) struct Scope {
    /// As it is written in the file; empty for the top.
    pub heading: &'static str,
    pub keys: &'static [Key],
}

impl Scope {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// For messages: `[queue]`, or `the top of the file`.
    pub fn place_name(&self) -> &'static str {
        if self.heading.is_empty() { "the top of the file" } else { self.heading }
    }
}

const fn now(name: &'static str, form: Form) -> Key {
    Key { name, form, meaning: Meaning::Now }
}

const fn later(name: &'static str, form: Form) -> Key {
    Key { name, form, meaning: Meaning::Later }
}

const fn empty(name: &'static str) -> Key {
    Key { name, form: Form::List, meaning: Meaning::Empty }
}

pub(super) static ROOT: Scope = Scope {
    heading: "",
    keys: &[
        now("hostname", Form::Text),
        now("instance", Form::Text),
        now("data_dir", Form::Text),
        now("database", Form::Text),
        now("key", Form::Secret),
        now("postmaster", Form::Text),
        now("default_domain", Form::Text),
        now("log", Form::Text),
        now("log_format", Form::Text),
        now("listener", Form::Tables),
        now("account", Form::Tables),
        now("tenant", Form::Tables),
        now("app", Form::Tables),
        now("reply", Form::Tables),
        now("queue", Form::Table),
        now("admin", Form::Table),
        now("alert", Form::Table),
    ],
};

pub(super) static LISTENER: Scope = Scope {
    heading: "[[listener]]",
    keys: &[
        now("address", Form::Text),
        now("tls", Form::Text),
        now("require_tls", Form::Switch),
        now("certificate", Form::Text),
        now("key", Form::Text),
        now("allow", Form::List),
        now("password", Form::Text),
        now("proxy_protocol_from", Form::List),
        now("max_message_size", Form::Text),
        now("max_recipients", Form::Number),
        now("max_connections", Form::Number),
        now("max_connections_per_address", Form::Number),
        now("idle_timeout", Form::Text),
    ],
};

pub(super) static ACCOUNT: Scope = Scope {
    heading: "[[account]]",
    keys: &[
        now("mailbox", Form::Text),
        now("login", Form::Text),
        now("provider", Form::Text),
        now("cloud", Form::Text),
        now("password", Form::Secret),
        now("grant", Form::Text),
        now("tenant", Form::Text),
        now("client_id", Form::Text),
        now("client_secret", Form::Secret),
        now("next_client_secret", Form::Secret),
        now("client_secret_expires", Form::Date),
        now("certificate", Form::Certificate),
        now("federated_token", Form::Secret),
        now("send_as", Form::List),
        now("messages_per_minute", Form::Number),
        now("connections", Form::Number),
        now("recipients_per_day", Form::Number),
        now("fallback", Form::Text),
        now("authorize_url", Form::Text),
        now("token_url", Form::Text),
        now("device_url", Form::Text),
        now("scopes", Form::List),
        now("smtp", Form::Text),
        now("smtp_tls", Form::Text),
        now("ca_file", Form::Text),
    ],
};

pub(super) static TENANT: Scope = Scope {
    heading: "[[tenant]]",
    keys: &[now("name", Form::Text), now("external_recipients_per_day", Form::Number), now("domains", Form::List)],
};

pub(super) static APP: Scope = Scope {
    heading: "[[app]]",
    keys: &[
        now("name", Form::Text),
        now("description", Form::Text),
        now("allow", Form::List),
        now("password", Form::Secret),
        now("account", Form::Text),
        now("accounts", Form::List),
        now("senders", Form::List),
        now("sender", Form::Text),
        now("lane", Form::Text),
        now("lane_rule", Form::Tables),
        now("in_doubt", Form::Text),
        now("messages_per_minute", Form::Number),
        now("divert_to", Form::Text),
        now("recipients_allow", Form::List),
    ],
};

/// One rule of an app.
pub(super) static LANE_RULE: Scope = Scope {
    heading: "[[app.lane_rule]]",
    keys: &[now("header", Form::Text), now("matches", Form::Text), now("lane", Form::Text)],
};

pub(super) static REPLY: Scope = Scope {
    heading: "[[reply]]",
    keys: &[
        now("phase", Form::List),
        now("code", Form::Number),
        now("enhanced", Form::Text),
        now("words", Form::List),
        now("scope", Form::Text),
        now("class", Form::Text),
        now("cause", Form::Text),
        now("throttle", Form::Text),
        now("wait", Form::Text),
        now("sentence", Form::Text),
        now("command", Form::Text),
    ],
};

pub(super) static QUEUE: Scope = Scope {
    heading: "[queue]",
    keys: &[
        now("retry", Form::List),
        now("give_up_after", Form::Text),
        now("journal_days", Form::Number),
        now("dead_letter_days", Form::Number),
        now("record_subjects", Form::Switch),
        now("min_free_disk", Form::Text),
    ],
};

pub(super) static ADMIN: Scope = Scope {
    heading: "[admin]",
    keys: &[
        now("address", Form::Text),
        later("url", Form::Text),
        later("certificate", Form::Text),
        later("key", Form::Text),
        empty("trusted_proxies"),
    ],
};

pub(super) static ALERT: Scope = Scope {
    heading: "[alert]",
    keys: &[
        now("webhook", Form::List),
        now("command", Form::List),
        now("mail_to", Form::List),
        now("heartbeat_url", Form::Secret),
    ],
};

/// One item of `webhook`; also as `[[alert.webhook]]`.
pub(super) static WEBHOOK: Scope =
    Scope { heading: "webhook = [{ … }]", keys: &[now("url", Form::Secret), now("format", Form::Text)] };

/// All of them.
pub(super) static SCOPES: [&Scope; 10] =
    [&ROOT, &LISTENER, &ACCOUNT, &TENANT, &APP, &LANE_RULE, &REPLY, &QUEUE, &ADMIN, &ALERT];

/// The scope below `[name]` or `[[name]]`.
pub(super) fn below(name: &str) -> Option<&'static Scope> {
    match name {
        "listener" => Some(&LISTENER),
        "account" => Some(&ACCOUNT),
        "tenant" => Some(&TENANT),
        "app" => Some(&APP),
        "reply" => Some(&REPLY),
        "queue" => Some(&QUEUE),
        "admin" => Some(&ADMIN),
        "alert" => Some(&ALERT),
        _ => None,
    }
}

/// What to say of a key that does not belong to `scope`.
pub(super) fn unknown(name: &str, scope: &Scope) -> String {
    let here = scope.place_name();
    if let Some(near) = nearest(name, scope.keys.iter().map(|key| key.name)) {
        return format!("is unknown; did you mean {near}?");
    }
    match SCOPES.iter().find(|other| other.key(name).is_some()) {
        Some(other) if other.heading.is_empty() => {
            format!("does not belong below {here}, but at the top of the file, above the first [heading]")
        }
        Some(other) => format!("does not belong to {here}, but below {}", other.heading),
        None => {
            let all: Vec<_> = scope.keys.iter().filter(|key| key.meaning == Meaning::Now).map(|key| key.name).collect();
            format!("is unknown; {here} knows {}", all.join(", "))
        }
    }
}

/// The candidate that was probably meant: `clientId`, `client-id` and `cliend_id` are all `client_id`.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' ', '.'], "");
    let word = plain(word);
    // A word of any length can come from a file; only one about as long as a key can be a misspelt key.
    if word.is_empty() || word.chars().count() > 40 {
        return None;
    }
    let scored = candidates.map(|candidate| (distance(&word, &plain(candidate)), candidate));
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= word.chars().count().max(3)).then_some(best)
}

/// How many letters have to be inserted, left out, replaced or swapped with their neighbour to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_recognised() {
        for (written, meant) in [
            ("clientid", "client_id"),
            ("client-id", "client_id"),
            ("clientSecret", "client_secret"),
            ("mailbx", "mailbox"),
            ("teannt", "tenant"),
            ("TENANT", "tenant"),
            ("message_per_minute", "messages_per_minute"),
        ] {
            assert_eq!(nearest(written, ACCOUNT.keys.iter().map(|key| key.name)), Some(meant), "{written}");
        }
    }

    #[test]
    fn what_resembles_nothing_gets_no_guess() {
        for written in ["", "x", "user", "é", &"client_id".repeat(1000)] {
            assert_eq!(nearest(written, ACCOUNT.keys.iter().map(|key| key.name)), None, "{written}");
        }
    }

    #[test]
    fn distances_count_swapped_letters_once() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
