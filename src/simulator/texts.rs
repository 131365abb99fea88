//! What Microsoft says, as data: `replies.toml` (SMTP) and `oauth_errors.toml` (OAuth), one row an answer.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;

use super::fault::Phase;

/// One answer of Exchange Online.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyRow {
    /// Its name.
    pub id: String,
    /// Where it comes.
    pub phase: Phase,
    /// Whole replies as they were seen; lines parted by a line feed. Never empty.
    pub texts: Vec<String>,
    /// The simulator's own words for it, with `{names}` to be filled in.
    #[serde(default)]
    says: Option<String>,
    /// It usually comes back as a mail to the mailbox.
    #[serde(default)]
    pub ndr: bool,
}

/// One refusal of Entra ID.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthRow {
    /// Its name.
    pub id: String,
    /// The OAuth error; `None`: a bare HTTP answer with an HTML page.
    pub error: Option<String>,
    /// The AADSTS number; 0: none.
    #[serde(default)]
    pub aadsts: u32,
    /// The HTTP status.
    pub status: u16,
    /// `error_description` without its `AADSTSnnn: `, with `{names}` to be filled in.
    pub description: String,
    /// Microsoft's `suberror`.
    pub suberror: Option<String>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
}

#[derive(Deserialize)]
struct ReplyFile {
    reply: Vec<ReplyRow>,
}

#[derive(Deserialize)]
struct OAuthFile {
    error: Vec<OAuthRow>,
}

static REPLIES: LazyLock<Vec<ReplyRow>> = LazyLock::new(|| {
    let file: ReplyFile =
        toml::from_str(include_str!("replies.toml")).expect("shipped with the program and read by a test");
    file.reply
});

static OAUTH: LazyLock<Vec<OAuthRow>> = LazyLock::new(|| {
    let file: OAuthFile =
        toml::from_str(include_str!("oauth_errors.toml")).expect("shipped with the program and read by a test");
    file.error
});

/// Every SMTP reply the simulator knows.
pub fn replies() -> &'static [ReplyRow] {
    &REPLIES
}

/// Every refusal of Entra ID the simulator knows.
pub fn oauth_errors() -> &'static [OAuthRow] {
    &OAUTH
}

/// The SMTP reply of this name.
pub fn reply(id: &str) -> Option<&'static ReplyRow> {
    replies().iter().find(|row| row.id == id)
}

/// The refusal of Entra ID of this name, or with this number: `50173`, `aadsts50173`.
pub fn oauth_error(id: &str) -> Option<&'static OAuthRow> {
    let named = oauth_errors().iter().find(|row| row.id == id);
    named.or_else(|| {
        let digits = id.get(..6).filter(|prefix| prefix.eq_ignore_ascii_case("aadsts")).map_or(id, |_| &id[6..]);
        let number: u32 = digits.parse().ok().filter(|number| *number != 0)?;
        oauth_errors().iter().find(|row| row.aadsts == number)
    })
}

/// Names of rows that look like `id`, the likest first: for the one who mistyped it.
pub(super) fn names_near(id: &str) -> Vec<&'static str> {
    let wanted = id.to_ascii_lowercase();
    let names = replies().iter().map(|row| row.id.as_str()).chain(oauth_errors().iter().map(|row| row.id.as_str()));
    let mut near: Vec<(usize, &str)> = names
        .map(|name| {
            let lower = name.to_ascii_lowercase();
            let related = !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            (if related { 0 } else { edits(&wanted, &lower) }, name)
        })
        .filter(|(distance, name)| *distance <= (name.len() / 2).max(2))
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(5).map(|(_, name)| name).collect()
}

/// How many single-letter changes part two words (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, one) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(one != *other);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Puts values in the place of their `{names}`. What has no value stays as it is.
pub(super) fn fill<'a>(text: &'a str, values: &[(&str, &str)]) -> Cow<'a, str> {
    if !text.contains('{') {
        return Cow::Borrowed(text);
    }
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let close = rest.find('}').map_or(rest.len(), |close| close + 1);
        let name = &rest[..close];
        let value = values.iter().find(|(key, _)| name.get(1..name.len().saturating_sub(1)) == Some(key));
        filled.push_str(value.map_or(name, |(_, value)| value));
        rest = &rest[close..];
    }
    filled.push_str(rest);
    Cow::Owned(filled)
}

/// The simulator's own SMTP answers, found in the table once.
pub(super) struct Words {
    pub(super) banner: &'static str,
    pub(super) ehlo_plain: &'static str,
    pub(super) ehlo_secure: &'static str,
    pub(super) starttls: &'static str,
    pub(super) challenge: &'static str,
    pub(super) auth_ok: &'static str,
    pub(super) auth_failed: &'static str,
    pub(super) auth_basic: &'static str,
    pub(super) auth_unknown: &'static str,
    pub(super) not_authenticated: &'static str,
    pub(super) recipient_ok: &'static str,
    pub(super) too_many_recipients: &'static str,
    pub(super) data_go: &'static str,
    pub(super) accepted: &'static str,
    pub(super) quit: &'static str,
    pub(super) unrecognized: &'static str,
    pub(super) concurrent: &'static str,
    pub(super) too_fast: &'static str,
    pub(super) send_as_denied: &'static str,
    pub(super) quota: &'static str,
    pub(super) bare_line_end: &'static str,
    pub(super) from_missing: &'static str,
    pub(super) many_from: &'static str,
    pub(super) too_large: &'static str,
    pub(super) idle: &'static str,
    pub(super) session_over: &'static str,
}

/// The simulator's own words. All are looked up together, so that the first test to speak SMTP proves that each is there.
pub(super) fn words() -> &'static Words {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
        banner: own("banner"),
        ehlo_plain: own("ehlo-before-starttls"),
        ehlo_secure: own("ehlo-after-starttls"),
        starttls: own("starttls-ready"),
        challenge: own("auth-challenge-empty"),
        auth_ok: own("auth-ok"),
        auth_failed: own("535-5.7.3-generic"),
        auth_basic: own("535-5.7.139-basic-disabled"),
        auth_unknown: own("504-5.7.4"),
        not_authenticated: own("530-5.7.57"),
        recipient_ok: own("rcpt-ok"),
        too_many_recipients: own("4.5.3-too-many-rcpt"),
        data_go: own("data-go"),
        accepted: own("accepted"),
        quit: own("quit-ok"),
        unrecognized: own("500-5.3.3-unrecognized"),
        concurrent: own("432-4.3.2-concurrent"),
        too_fast: own("432-4.3.2-sender-thread"),
        send_as_denied: own("554-5.2.252-sendas"),
        quota: own("554-5.2.0-quota"),
        bare_line_end: own("5.6.11-bare-lf"),
        from_missing: own("5.7.512-from-missing"),
        many_from: own("550-5.1.20-multi-from"),
        too_large: own("552-5.3.4-size"),
        idle: own("451-4.7.0-idle"),
        session_over: own("421-4.4.1-session-20min"),
    });
    &WORDS
}

fn own(id: &str) -> &'static str {
    let row = reply(id).expect("the rows named in `words` are in the shipped table: a test looks them up");
    row.says.as_deref().unwrap_or(row.texts[0].as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_row_of_the_tables_is_whole() {
        words();
        for row in replies() {
            assert!(!row.texts.is_empty(), "{}", row.id);
            for text in &row.texts {
                let code: u16 = text[..3].parse().unwrap();
                assert!((200..600).contains(&code), "{}", row.id);
                for (n, line) in text.lines().enumerate() {
                    let last = n + 1 == text.lines().count();
                    assert_eq!(&line[3..4], if last { " " } else { "-" }, "{}: {line}", row.id);
                }
            }
        }
        for row in oauth_errors() {
            assert!((400..600).contains(&row.status), "{}", row.id);
            assert!(!row.description.starts_with("AADSTS"), "{}", row.id);
            assert!(row.error.is_some() || row.aadsts == 0, "{}", row.id);
        }
        let ids = replies().iter().map(|row| &row.id).chain(oauth_errors().iter().map(|row| &row.id));
        let distinct: BTreeSet<_> = ids.clone().collect();
        assert_eq!(distinct.len(), ids.count(), "an id names one row of both tables");
    }

    /// The facts that the tables were made from lie beside a checkout of the project's authors; elsewhere there is nothing to compare.
    fn facts(name: &str) -> Vec<serde_json::Value> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/microsoft").join(name);
        std::fs::read_to_string(file).map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default()
    }

    fn ids_of_the_facts(name: &str) -> Vec<String> {
        facts(name).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_tables_have_every_row_of_the_facts() {
        for id in ids_of_the_facts("replies.json") {
            assert!(reply(&id).is_some(), "replies.toml has no {id}");
        }
        for id in ids_of_the_facts("oauth_errors.json") {
            assert!(oauth_error(&id).is_some(), "oauth_errors.toml has no {id}");
        }
    }

    #[test]
    fn a_refusal_is_served_as_the_facts_have_it() {
        for fact in facts("oauth_errors.json") {
            let id = fact["id"].as_str().unwrap();
            let row = oauth_error(id).unwrap();
            assert_eq!(row.error.as_deref(), fact["error"].as_str(), "{id}");
            assert_eq!(u64::from(row.aadsts), fact["aadsts"].as_u64().unwrap_or(0), "{id}");
            assert_eq!(row.suberror.as_deref(), fact["suberror"].as_str(), "{id}");
            // 401 for client authentication, 429 and 5xx as their names say, 400 otherwise.
            let status = match (id, row.error.as_deref()) {
                ("http-429", _) => 429,
                ("http-5xx", _) => 503,
                (_, Some("invalid_client")) => 401,
                _ => 400,
            };
            assert_eq!(
                row.status,
                fact["http_status"].as_u64().map_or(status, |seen| u16::try_from(seen).unwrap()),
                "{id}"
            );
            assert_eq!(row.status, status, "{id}");
            if let Some(words) = fact["needs_words"].as_str().filter(|words| *words != "otherwise") {
                assert!(row.description.contains(words), "{id}");
            }
        }
    }

    #[test]
    fn a_refusal_is_found_by_its_name_and_by_its_number() {
        for (name, id) in [
            ("50173", "50173"),
            ("aadsts50173", "50173"),
            ("AADSTS700082", "700082"),
            ("aadsts70016", "authorization_pending"),
            ("70000-abuse", "70000-abuse"),
            ("aadsts70000", "70000"),
        ] {
            assert_eq!(oauth_error(name).map(|row| row.id.as_str()), Some(id), "{name}");
        }
        for name in ["aadsts", "aadsts0", "0", "aadsts123", "aadstü50173", ""] {
            assert!(oauth_error(name).is_none(), "{name}");
        }
    }

    #[test]
    fn values_are_put_in_and_unknown_names_stay() {
        assert_eq!(fill("250 {a} and {b} {a}", &[("a", "x"), ("b", "{a}")]), "250 x and {a} x");
        assert_eq!(fill("{what} {", &[("a", "x")]), "{what} {");
        assert_eq!(fill("plain", &[]), "plain");
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbours() {
        assert_eq!(names_near("554-5.2.0-qouta").first(), Some(&"554-5.2.0-quota"));
        assert!(names_near("sendas").contains(&"554-5.2.252-sendas"));
        assert!(names_near("something else altogether, really").is_empty());
    }
}
