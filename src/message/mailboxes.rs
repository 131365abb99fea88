//! The mailboxes of an address field (RFC 5322 section 3.4), found in its bytes without changing or decoding any.
//!
//! Programs write odd things into `From`: encoded words inside quotes, unquoted commas and colons, raw 8-bit names, no address at
//! all. What can be told for sure is told; the rest is called unsound, and what could be shown as a name is picked out.

use std::ops::Range;

use super::Address;

/// What an address field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailboxes {
    /// Those with an address, in the order of the field; members of groups too.
    pub list: Vec<Mailbox>,
    /// The field is a list of mailboxes and nothing else: no group, nothing broken, at least one.
    pub sound: bool,
    /// The display name to use when the field has to be written anew: the first phrase, byte for byte, put in quotes only where
    /// it could not stand without. `None` if there is none that is safe to use.
    pub name: Option<Vec<u8>>,
}

/// One mailbox, by its places in the field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The address.
    pub address: Address,
    /// The bytes that another address would replace: what is between the angle brackets, or the bare address.
    pub place: Range<usize>,
    /// The phrase in front of the angle bracket, white space around it left out; empty if there is none.
    pub phrase: Range<usize>,
}

impl Mailboxes {
    /// Looks through the value of an address field, folds and comments included.
    pub fn find(value: &[u8]) -> Self {
        let tokens = tokens(value);
        let mut list = Vec::new();
        let mut sound = true;
        for part in tokens.split(|token| token.kind.parts()) {
            match mailbox(value, part) {
                Part::Mailbox(mailbox) => list.push(mailbox),
                Part::OddPhrase(mailbox) => {
                    sound = false;
                    list.push(mailbox);
                }
                Part::Nothing => {}
                Part::Unsound => sound = false,
            }
        }
        sound &= !list.is_empty();
        sound &= !tokens.iter().any(|t| !t.closed || matches!(t.kind, Kind::Colon | Kind::Semicolon | Kind::Stray));
        let name = match list.first() {
            Some(first) if sound => Some(value[first.phrase.clone()].to_vec()).filter(|name| !name.is_empty()),
            _ => name(value, &tokens),
        };
        Self { list, sound, name }
    }
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    span: Range<usize>,
    /// Its closing quote, bracket or parenthesis is there.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Text,
    Quoted,
    Comment,
    Angle,
    Comma,
    Colon,
    Semicolon,
    /// A closing bracket that nothing opened.
    Stray,
}

impl Kind {
    fn parts(self) -> bool {
        matches!(self, Self::Comma | Self::Colon | Self::Semicolon)
    }

    /// Space and comments: what may stand anywhere and means nothing (CFWS).
    fn is_filler(self) -> bool {
        matches!(self, Self::Space | Self::Comment)
    }
}

fn tokens(value: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let (kind, length, closed) = token(&value[at..]);
        tokens.push(Token { kind, span: at..at + length, closed });
        at += length;
    }
    tokens
}

/// The kind and length of the token at the beginning of `rest`, which is not empty, and whether it is closed.
fn token(rest: &[u8]) -> (Kind, usize, bool) {
    let run = |fits: fn(u8) -> bool| rest.iter().position(|&b| !fits(b)).unwrap_or(rest.len());
    match rest[0] {
        b' ' | b'\t' | b'\r' | b'\n' => (Kind::Space, run(is_space), true),
        b'"' => enclosed(Kind::Quoted, rest),
        b'(' => enclosed(Kind::Comment, rest),
        b'<' => enclosed(Kind::Angle, rest),
        b',' => (Kind::Comma, 1, true),
        b':' => (Kind::Colon, 1, true),
        b';' => (Kind::Semicolon, 1, true),
        b'>' | b')' => (Kind::Stray, 1, true),
        _ => (Kind::Text, text(rest), true),
    }
}

/// The length of a run of text. A domain literal belongs to it with its colons: `a@[IPv6:::1]`.
fn text(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && !is_space(rest[at]) && !b"\"(<,:;>)".contains(&rest[at]) {
        let literal = rest[at..].starts_with(b"@[");
        let closing = rest[at..].iter().take_while(|&&b| !is_space(b)).position(|&b| b == b']');
        at += closing.filter(|_| literal).unwrap_or(0) + 1;
    }
    at
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// A quoted string, a comment (they nest) or what is in angle brackets (quoted strings in it are skipped).
fn enclosed(kind: Kind, rest: &[u8]) -> (Kind, usize, bool) {
    let (mut depth, mut quoted) = (0_usize, kind == Kind::Quoted);
    let mut at = usize::from(quoted);
    while at < rest.len() {
        let b = rest[at];
        at += 1;
        match b {
            b'\\' if quoted || kind == Kind::Comment => at += 1,
            b'"' if kind == Kind::Quoted => return (kind, at, true),
            b'"' if kind == Kind::Angle => quoted = !quoted,
            b'(' if kind == Kind::Comment => depth += 1,
            b')' if kind == Kind::Comment && depth > 1 => depth -= 1,
            b')' if kind == Kind::Comment => return (kind, at, true),
            b'>' if kind == Kind::Angle && !quoted => return (kind, at, true),
            _ => {}
        }
    }
    (kind, rest.len(), false)
}

enum Part {
    Mailbox(Mailbox),
    /// In front of its address stands an `@` without quotes, which is no phrase (RFC 5322 section 3.2.3): some readers put what is around it
    /// together with the address.
    OddPhrase(Mailbox),
    /// An empty element, allowed of old (RFC 5322 section 4.4).
    Nothing,
    Unsound,
}

/// What stands between two commas.
fn mailbox(value: &[u8], part: &[Token]) -> Part {
    let Some(first) = part.iter().find(|token| !token.kind.is_filler()) else { return Part::Nothing };
    let Some(angle) = part.iter().position(|token| token.kind == Kind::Angle) else {
        return match bare(value, part) {
            Some((address, place)) => Part::Mailbox(Mailbox { address, phrase: place.start..place.start, place }),
            None => Part::Unsound,
        };
    };
    let behind = part[angle + 1..].iter().all(|token| token.kind.is_filler());
    let span = &part[angle].span;
    let place = span.start + 1..if part[angle].closed { span.end - 1 } else { span.end };
    let phrase_end =
        part[..angle].iter().rev().find(|t| t.kind != Kind::Space).map_or(first.span.start, |t| t.span.end);
    let phrase_start = part[..angle].iter().find(|t| t.kind != Kind::Space).map_or(first.span.start, |t| t.span.start);
    let is_odd = part[..angle].iter().any(|t| t.kind == Kind::Text && value[t.span.clone()].contains(&b'@'));
    match address(&value[place.clone()]) {
        Some(address) if behind => {
            let mailbox = Mailbox { address, place, phrase: phrase_start.min(phrase_end)..phrase_end };
            if is_odd { Part::OddPhrase(mailbox) } else { Part::Mailbox(mailbox) }
        }
        _ => Part::Unsound,
    }
}

/// The address between angle brackets; a source route (RFC 5322 section 4.4) is skipped.
fn address(inside: &[u8]) -> Option<Address> {
    let mut inside = inside.trim_ascii();
    if inside.first() == Some(&b'@') {
        let colon = inside.iter().position(|&b| b == b':')?;
        inside = &inside[colon + 1..];
    }
    bare(inside, &tokens(inside)).map(|(address, _)| address)
}

/// An address without brackets, and its place. Comments in it are skipped, white space too where it may stand: around `@` and dots.
fn bare(value: &[u8], part: &[Token]) -> Option<(Address, Range<usize>)> {
    let mut joined: Vec<u8> = Vec::new();
    let mut place: Option<Range<usize>> = None;
    let mut spaced = false;
    for token in part {
        let text = &value[token.span.clone()];
        match token.kind {
            Kind::Space => spaced = true,
            Kind::Comment => {}
            Kind::Text | Kind::Quoted => {
                let joint = |b: Option<&u8>| matches!(b, None | Some(b'@' | b'.'));
                if spaced && !joint(joined.last()) && !joint(text.first()) {
                    return None;
                }
                spaced = false;
                joined.extend_from_slice(text);
                place = Some(place.map_or(token.span.start, |place| place.start)..token.span.end);
            }
            _ => return None,
        }
    }
    let address = Address::parse(std::str::from_utf8(&joined).ok()?).ok()?;
    Some((address, place?))
}

/// What of an unsound field can be shown as a name.
fn name(value: &[u8], tokens: &[Token]) -> Option<Vec<u8>> {
    let angle = tokens.iter().position(|token| token.kind == Kind::Angle);
    let colon = tokens.iter().position(|token| token.kind == Kind::Colon);
    let in_front = &tokens[..angle.unwrap_or(tokens.len())];
    let is_group = tokens.iter().any(|token| token.kind == Kind::Semicolon);
    let Some(colon) = colon.filter(|&colon| is_group && colon < in_front.len()) else {
        return shown(value, in_front, angle.is_some());
    };
    // A group: its first member's phrase, else its own.
    let member = if angle.is_some() { shown(value, &in_front[colon + 1..], true) } else { None };
    member.or_else(|| shown(value, &tokens[..colon], true))
}

/// These tokens as a phrase: as they are, or in quotes if they could not stand without, or `None` if neither is safe. Without an
/// angle bracket behind it, what holds an `@` is rather a broken address than a name.
fn shown(value: &[u8], tokens: &[Token], bracket_follows: bool) -> Option<Vec<u8>> {
    let start = tokens.iter().find(|token| token.kind != Kind::Space)?.span.start;
    let end = tokens.iter().rfind(|token| token.kind != Kind::Space)?.span.end;
    let text = &value[start..end];
    let has = |kinds: &[Kind]| tokens.iter().any(|token| kinds.contains(&token.kind));
    let special =
        tokens.iter().any(|t| t.kind == Kind::Text && value[t.span.clone()].iter().any(|b| b"@[]\\".contains(b)));
    let parted = has(&[Kind::Comma, Kind::Colon, Kind::Semicolon]);
    if tokens.iter().any(|token| !token.closed) || has(&[Kind::Angle]) {
        return None;
    }
    if text.contains(&b'@') && (parted || !bracket_follows) {
        return None;
    }
    if !parted && !special && !has(&[Kind::Stray]) {
        return has(&[Kind::Text, Kind::Quoted]).then(|| text.to_vec());
    }
    let quotable = !text.iter().any(|b| b"\"\\\r\n".contains(b));
    quotable.then(|| [b"\"", text, b"\""].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(value: &str) -> (Vec<String>, bool, String) {
        let found = Mailboxes::find(value.as_bytes());
        let name = String::from_utf8(found.name.unwrap_or_default()).unwrap();
        (found.list.into_iter().map(|mailbox| mailbox.address.to_string()).collect(), found.sound, name)
    }

    #[test]
    fn mailboxes_as_programs_write_them_are_found() {
        for (value, addresses, name) in [
            (" a@b.c", &["a@b.c"][..], ""),
            (" <a@b.c>", &["a@b.c"], ""),
            (" Moodle <a@b.c>", &["a@b.c"], "Moodle"),
            (" \"=?utf-8?B?SsO8cmdlbg==?= (via M)\" <a@b.c>", &["a@b.c"], "\"=?utf-8?B?SsO8cmdlbg==?= (via M)\""),
            (" =?utf-8?Q?M=C3=BCller?=\r\n <a@b.c>", &["a@b.c"], "=?utf-8?Q?M=C3=BCller?="),
            (" \"Last, First\" <a@b.c>, d@e.f", &["a@b.c", "d@e.f"], "\"Last, First\""),
            ("a@b.c (Old (nested \\) form) way)", &["a@b.c"], ""),
            (" Jürgen Groß <a@b.c> (hi)", &["a@b.c"], "Jürgen Groß"),
            (" [LMS] x <a@b.c>", &["a@b.c"], "[LMS] x"),
            (" \"odd@local\"@b.c", &["\"odd@local\"@b.c"], ""),
            (" a @ b . c", &["a@b.c"], ""),
            (" x <@r1,@r2:a@b.c>", &["a@b.c"], "x"),
            (" <\"a>b\"@c.d>", &["\"a>b\"@c.d"], ""),
            (" a@[IPv6:::1], ,b@c", &["a@[IPv6:::1]", "b@c"], ""),
            (" J. R. Doe <a(comment)@b.c>", &["a@b.c"], "J. R. Doe"),
        ] {
            let expected = (addresses.iter().map(ToString::to_string).collect(), true, name.to_owned());
            assert_eq!(show(value), expected, "{value}");
        }
    }

    #[test]
    fn of_what_is_unsound_as_much_is_kept_as_is_safe() {
        for (value, addresses, name) in [
            ("", &[][..], ""),
            (" ", &[], ""),
            (" Name", &[], "Name"),
            (" root (Cron Daemon)", &[], "root (Cron Daemon)"),
            (" (Cron Daemon)", &[], ""),
            (" Name <>", &[], "Name"),
            (" Name <not an address>", &[], "Name"),
            (" noreply@x <>", &[], "\"noreply@x\""),
            (" a b@c d", &[], ""),
            (" \"Name <a@b.c>", &[], ""),
            (" Name (open <a@b.c>", &[], ""),
            (" Name <a@b.c", &["a@b.c"], "Name"),
            // Readers differ: to some these are the addresses @a@b.c and a@b.ca@b.c.
            ("@((a) b)<a@b.c>", &["a@b.c"], "\"@((a) b)\""),
            ("a@b.c\r\n <a@b.c>", &["a@b.c"], "\"a@b.c\""),
            (" [LMS] x@y <a@b.c>", &["a@b.c"], "\"[LMS] x@y\""),
            (" Müller, Hans <a@b.c>", &["a@b.c"], "\"Müller, Hans\""),
            (" Moodle: Support <a@b.c>", &["a@b.c"], "\"Moodle: Support\""),
            (" \"M\", Hans <a@b.c>", &["a@b.c"], ""),
            (" x@y, Hans <>", &["x@y"], ""),
            (" Team: Bob <a@b.c>, d@e.f;", &["a@b.c", "d@e.f"], "Bob"),
            (" Team: a@b.c, d@e.f;", &["a@b.c", "d@e.f"], "Team"),
            (" Undisclosed recipients:;", &[], "Undisclosed recipients"),
            (" Hans> <a@b.c>", &["a@b.c"], "\"Hans>\""),
            (" Hans <a@b.c> <d@e.f>", &[], "Hans"),
            (" Hans <a@b.c> jr", &[], "Hans"),
        ] {
            let expected = (addresses.iter().map(ToString::to_string).collect(), false, name.to_owned());
            assert_eq!(show(value), expected, "{value}");
        }
    }

    #[test]
    fn the_places_are_those_of_the_bytes() {
        let value = b" \"A B\"\t<@r:a@b.c> (x), d@e.f";
        let found = Mailboxes::find(value);
        assert_eq!(&value[found.list[0].phrase.clone()], b"\"A B\"");
        assert_eq!(&value[found.list[0].place.clone()], b"@r:a@b.c");
        assert_eq!(&value[found.list[1].place.clone()], b"d@e.f");
        assert!(found.list[1].phrase.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in "[ -~äß\r\n\t\"(<,:;>)@\\\\\\[\\]a]{0,60}") {
            let found = Mailboxes::find(value.as_bytes());
            for mailbox in &found.list {
                prop_assert!(mailbox.place.end <= value.len() && mailbox.phrase.end <= value.len());
            }
        }
    }
}
