//! What a mail says about itself, without what came before it. Pure.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::rules::RULES;
use super::text::{self, decoded, has_code, links};
use crate::config::{App, Glob};
use crate::message::{Headers, Lane};

/// How much of an address field is looked at: one may have hundreds of recipients.
const ADDRESS_FIELD: usize = 512;
/// With more recipients than these nobody waits for it: a person, and who gets a copy.
const MOST_RECIPIENTS: usize = 3;
/// The longest value of a field that is looked at.
const FIELD: usize = 4096;

/// What a mail says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its lane, whatever came before it.
    Certain(Lane, String),
    /// Somebody waits for it, unless it is one of many.
    Urgent(String),
    /// Nothing; it may be the one that somebody waits for if it came so.
    Open,
    /// Nothing, and nobody waits for it.
    Plain,
}

/// What a mail says about itself, in the order that `docs/lanes.md` tells.
pub(super) fn of(start: &[u8], headers: &Headers<'_>, recipients: usize, app: &App) -> Sign {
    if let Some(rule) = app.lane_rules.iter().find(|rule| any_fits(headers, &rule.header, &rule.matches)) {
        return Sign::Certain(
            rule.lane,
            format!("the rule of the app {}: {} is {}", app.name, rule.header, rule.matches),
        );
    }
    if let Some(why) = bulk(headers) {
        return Sign::Certain(Lane::Bulk, why);
    }
    // Answers quote what they answer.
    if recipients > MOST_RECIPIENTS || has(headers, "In-Reply-To") || has(headers, "References") {
        return Sign::Plain;
    }
    let texts = text::texts(start, headers);
    let mut weak = None;
    for text in &texts {
        let searched = text.for_links();
        for link in links(&searched) {
            let Some(rule) = RULES.link.iter().find(|rule| rule.fits(&link)) else { continue };
            // Never the link itself: whoever reads it could use it.
            let why = format!("a link to {} ({})", rule.path.core(), rule.what);
            if !rule.bursts {
                return Sign::Certain(Lane::Urgent, why);
            }
            weak = weak.or(Some(why));
        }
    }
    let script =
        || RULES.header.iter().find(|rule| any_fits(headers, &rule.name, &rule.matches)).map(|rule| rule.what.clone());
    let subject = headers.first("Subject").map(|field| decoded(cut(field.value, FIELD))).unwrap_or_default();
    let code = || {
        let is_code = !has(headers, "X-Cron-Env")
            && texts.first().is_some_and(|text| has_code(&text.plain(), &subject, &RULES.code.words));
        is_code.then(|| "a short mail with a one-time code".to_owned())
    };
    let words = || {
        let subject = subject.to_lowercase();
        let rule = RULES.subject.iter().flat_map(|rule| &rule.matches).find(|glob| glob.fits_lower(&subject));
        rule.map(|glob| format!("its subject says “{}”", glob.core()))
    };
    weak.or_else(script).or_else(code).or_else(words).map_or(Sign::Open, Sign::Urgent)
}

/// Why it is certainly bulk. Presence is all that counts: Moodle writes some of these fields so that nobody could parse them.
fn bulk(headers: &Headers<'_>) -> Option<String> {
    for field in headers.fields() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        let value = field.value.trim_ascii();
        if let Some(name) = ["List-Id", "List-Unsubscribe", "X-Course-Id"].into_iter().find(|name| is(name)) {
            return Some(format!("its field {name}"));
        }
        if is("Precedence")
            && let Some(word) =
                ["bulk", "list", "junk"].into_iter().find(|word| value.eq_ignore_ascii_case(word.as_bytes()))
        {
            return Some(format!("its field Precedence: {word}"));
        }
        if is("X-Priority")
            && let Some(&digit @ (b'4' | b'5')) = value.first()
        {
            return Some(format!("its field X-Priority: {}", char::from(digit)));
        }
        if is("Importance") && value.eq_ignore_ascii_case(b"low") {
            return Some("its field Importance: low".to_owned());
        }
        if is("Message-ID") && is_hash(value) {
            return Some("its Message-ID, which is one of a forum post".to_owned());
        }
    }
    None
}

/// 64 hex digits in front of the @: a hash of post and recipient.
fn is_hash(id: &[u8]) -> bool {
    let id = id.strip_prefix(b"<").unwrap_or(id);
    id.get(64) == Some(&b'@') && id[..64].iter().all(u8::is_ascii_hexdigit)
}

/// The subject once digits and the names of sender and recipient are folded, as a number; `None` without a subject.
pub(super) fn shape(headers: &Headers<'_>) -> Option<u64> {
    let subject = decoded(cut(headers.first("Subject")?.value, FIELD)).to_lowercase();
    let names: Vec<String> = ["To", "From"]
        .iter()
        .filter_map(|name| headers.first(name))
        .map(|field| decoded(cut(field.value, ADDRESS_FIELD)).to_lowercase())
        .collect();
    let words: HashSet<&str> =
        names.iter().flat_map(|names| words(names)).filter(|word| word.chars().count() > 1).collect();
    let mut hasher = DefaultHasher::new();
    let mut is_empty = true;
    for word in self::words(&subject) {
        is_empty = false;
        if words.contains(word) {
            '@'.hash(&mut hasher);
        } else if !word.is_ascii() && words.iter().any(|name| !name.is_ascii() && word.contains(name)) {
            // Scripts without spaces: the name is in the middle of a sentence.
            let rest = words
                .iter()
                .filter(|name| !name.is_ascii())
                .fold(word.to_owned(), |rest, name| rest.replace(name, "@"));
            rest.hash(&mut hasher);
        } else {
            let mut last = ' ';
            for c in word.chars().map(|c| if c.is_numeric() { '0' } else { c }) {
                if !(c == '0' && last == '0') {
                    c.hash(&mut hasher);
                }
                last = c;
            }
            ' '.hash(&mut hasher);
        }
    }
    (!is_empty).then(|| hasher.finish())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn has(headers: &Headers<'_>, name: &str) -> bool {
    headers.first(name).is_some()
}

fn any_fits(headers: &Headers<'_>, name: &str, glob: &Glob) -> bool {
    headers.all(name).any(|field| glob.fits(&decoded(cut(field.value, FIELD))))
}

fn cut(value: &[u8], most: usize) -> &[u8] {
    &value[..value.len().min(most)]
}
