//! Mail made at random, in the forms that programs and people bring about: each with what it has to look like when it arrives.
//!
//! Nothing of the relay is used here. A field is made together with what is to become of it, so that no header has to be read to know
//! what to expect.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;

use super::body::{self, Entity};
use crate::support::{MAILBOX, NOREPLY};

/// A mail and what is expected of it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// MAIL FROM.
    pub sender: &'static str,
    /// As the program hands it in.
    pub bytes: Vec<u8>,
    /// The fields that have to be put on top, in this order.
    pub added: Vec<Added>,
    /// What has to follow them, but for the line ends.
    pub rest: Vec<u8>,
}

/// A field put on top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// Just these bytes, without the line end.
    Exactly(Vec<u8>),
    /// A date of now.
    Date,
    /// A message id of the relay's own.
    MessageId,
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(field) => field.escape_ascii().fmt(f),
            Self::Date => f.write_str("Date"),
            Self::MessageId => f.write_str("Message-ID"),
        }
    }
}

/// A field as it is handed in, and as it should leave: nothing if it should not.
#[derive(Clone, Debug)]
struct Field {
    sent: Vec<u8>,
    left: Vec<u8>,
}

/// What becomes of a value of `From`.
#[derive(Clone, Debug)]
struct Author {
    value: Vec<u8>,
    becomes: Vec<u8>,
    reply_to: Option<Vec<u8>>,
    needs_sender: bool,
}

/// Any mail.
pub fn mail() -> BoxedStrategy<Mail> {
    (select(vec![MAILBOX, NOREPLY, "NoReply@Contoso.com", "verp+1@school.org", ""]), form())
        .prop_map(|(sender, form)| Mail { sender, ..form })
        .boxed()
}

fn form() -> BoxedStrategy<Mail> {
    prop_oneof![
        20 => (header(), body::entity()).prop_map(|(header, entity)| header.with(&entity, b"\r\n")),
        // A bare line end in the place of the empty line.
        1 => (header(), body::entity()).prop_map(|(header, entity)| header.with(&entity, b"\n")),
        2 => header().prop_map(|header| header.with(&Entity::default(), b"")),
        // Taken from a mailbox file; the line in front goes.
        1 => (other(), header(), body::entity()).prop_map(|(first, mut header, entity)| {
            header.fields.insert(0, first);
            let mail = header.with(&entity, b"\r\n");
            Mail { bytes: [&b"From lms@contoso.com Sat Nov 21 09:00:00 2026\r\n"[..], &mail.bytes].concat(), ..mail }
        }),
        // A line that is no field ends the header.
        2 => (header(), "[a-z]{1,9}( [a-z]{1,9}){0,3}\r\n").prop_map(|(header, junk)| header.with(&Entity::default(), junk.as_bytes())),
        2 => body::text().prop_map(|text| without_header(&[b"\r\n", &text[..]].concat(), b"")),
        1 => body::text().prop_map(|text| without_header(&[b"some words", &text[..]].concat(), b"\r\n")),
        1 => body::text().prop_map(|text| without_header(&[b".\r\n", &text[..]].concat(), b"\r\n")),
        1 => Just(without_header(b"", b"")),
    ].boxed()
}

/// A mail that is all text; `parting` has to be put between it and the fields that are added.
fn without_header(text: &[u8], parting: &[u8]) -> Mail {
    Mail {
        sender: MAILBOX,
        bytes: text.to_vec(),
        added: vec![Added::Exactly(format!("From: <{MAILBOX}>").into()), Added::Date, Added::MessageId],
        rest: [parting, text].concat(),
    }
}

/// A header as it is handed in and as it should leave.
#[derive(Clone, Debug)]
struct Header {
    fields: Vec<Field>,
    added: Vec<Added>,
}

impl Header {
    fn with(&self, entity: &Entity, parting: &[u8]) -> Mail {
        let whole = |fields: Vec<&[u8]>| {
            let mut fields = fields.concat();
            if parting == b"\n" && fields.ends_with(b"\r") {
                // The two would be one line end.
                fields.push(b'\n');
            }
            [&fields, &entity.head, parting, &entity.body].concat()
        };
        Mail {
            sender: MAILBOX,
            bytes: whole(self.fields.iter().map(|field| &field.sent[..]).collect()),
            added: self.added.clone(),
            rest: whole(self.fields.iter().map(|field| &field.left[..]).collect()),
        }
    }
}

fn header() -> BoxedStrategy<Header> {
    let others = prop::collection::vec(other(), 0..8);
    let from = prop::option::weighted(0.9, from());
    let more_from = prop::collection::vec(from_field(self::from()), 0..3);
    let more_from = prop_oneof![6 => Just(Vec::new()), 1 => more_from];
    let date = prop::option::weighted(0.8, Just(&b" Sat, 21 Nov 2026 09:00:00 +0100"[..]));
    let id = prop::option::weighted(0.8, select(vec![&b" <1@lms.school.org>"[..], b"", b" not an id \xe9"]));
    let reply_to = prop::option::weighted(
        0.3,
        select(vec![&b" forum@school.org"[..], b"", b" \"=?utf-8?Q?F=C3=B6?=\" <f@s.org>"]),
    );
    let singles = (named("Date", date), named("Message-ID", id), named("Reply-To", reply_to));
    (others, from.prop_flat_map(placed), more_from, singles, prop::option::weighted(0.2, sender()), any::<u64>())
        .prop_map(|(others, from, more_from, (date, id, reply_to), sender, seed)| {
            assemble(others, from, more_from, [date, id, reply_to, sender], seed)
        })
        .boxed()
}

/// Mixes the fields, and says what has to be added to them.
fn assemble(
    others: Vec<Field>,
    from: Option<(Author, Field)>,
    more_from: Vec<Field>,
    [date, id, reply_to, sender]: [Option<Field>; 4],
    seed: u64,
) -> Header {
    let mut added = Vec::new();
    match &from {
        None => added.push(Added::Exactly(format!("From: <{MAILBOX}>").into())),
        Some((Author { reply_to: Some(value), .. }, _)) if reply_to.is_none() => {
            let space: &[u8] = if value.first().is_some_and(u8::is_ascii_whitespace) { b"" } else { b" " };
            added.push(Added::Exactly([b"Reply-To:", space, value].concat()));
        }
        Some((Author { needs_sender: true, .. }, _)) if sender.is_none() => {
            added.push(Added::Exactly(format!("Sender: <{MAILBOX}>").into()));
        }
        Some(_) => {}
    }
    added.extend(date.is_none().then_some(Added::Date));
    added.extend(id.is_none().then_some(Added::MessageId));

    let mut fields = others;
    fields.extend([date, id, reply_to, sender].into_iter().flatten());
    let mut state = seed;
    let mut place = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % (count + 1)
    };
    for n in (1..fields.len()).rev() {
        fields.swap(n, place(n));
    }
    if let Some((_, from)) = from {
        let at = place(fields.len());
        fields.insert(at, from);
        // Of several the first one counts; the others go.
        for more in more_from {
            let at = at + 1 + place(fields.len() - at - 1);
            fields.insert(at, Field { left: Vec::new(), ..more });
        }
    }
    Header { fields, added }
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")]
}

/// The name in some case, with or without the white space that was once allowed in front of the colon.
fn spelled(name: &'static str) -> impl Strategy<Value = String> {
    (select(vec![0, 1, 2]), select(vec!["", "", "", " ", "\t"])).prop_map(move |(case, space)| match case {
        0 => format!("{name}{space}:"),
        1 => format!("{}{space}:", name.to_lowercase()),
        _ => format!("{}{space}:", name.to_uppercase()),
    })
}

fn named(
    name: &'static str,
    value: impl Strategy<Value = Option<&'static [u8]>>,
) -> impl Strategy<Value = Option<Field>> {
    (spelled(name), value, line_end()).prop_map(|(name, value, end)| {
        let sent = [name.as_bytes(), value?, end.as_bytes()].concat();
        Some(Field { left: sent.clone(), sent })
    })
}

/// A field that is nobody's business.
fn other() -> BoxedStrategy<Field> {
    let name = prop_oneof![
        4 => select(vec![
            "Subject", "subject", "SUBJECT ", "X-Mailer", "Content-Language", "List-Id", "Comments", "Received", "DKIM-Signature", "Fromage",
            "X-From", "From-Line", "Reply-To-All", "Senders", "Resent-Date", "Resent-Message-ID", "Auto-Submitted", "Subject",
        ]).prop_map(|name| name.as_bytes().to_vec()),
        1 => select(vec!["To", "Cc", "Bcc", "Resent-From", "Resent-Sender", "Resent-To", "Return-Path", "X-Original-From"])
            .prop_map(|name| name.as_bytes().to_vec()),
        2 => "X-[A-Za-z0-9!#$%&'*+^_`{|}~.-]{1,30}".prop_map(String::into_bytes),
        1 => Just(b"X-\xe9t\xe9".to_vec()),
        1 => Just([b"X-", &[b'n'; 500][..]].concat()),
    ];
    (name, value(), line_end())
        .prop_map(|(name, value, end)| {
            // What Exchange would parse is left readable for the simulator, which refuses what it cannot make sense of.
            let plain =
                [&b"To"[..], b"Cc", b"Bcc", b"Resent-From", b"Resent-Sender", b"Resent-To"].contains(&&name[..]);
            let value = if plain { b" \"Doe, J\xc3\xb6hn\"\r\n\t<john@example.org>".to_vec() } else { value };
            let sent = [&name, &b":"[..], &value, end.as_bytes()].concat();
            Field { left: sent.clone(), sent }
        })
        .boxed()
}

fn value() -> BoxedStrategy<Vec<u8>> {
    let fold = || select(vec!["\r\n ", "\r\n\t", "\r\n  \t", "\n ", "\r\t"]);
    prop_oneof![
        4 => "[ -~]{0,60}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        2 => "[ \t]{1,9}[!-~\t]{0,20}[ \t]{0,3}".prop_map(String::into_bytes),
        3 => prop::collection::vec(("[!-~ ]{0,30}", fold(), "[!-~]{1,30}"), 1..4)
            .prop_map(|folds| folds.into_iter().flat_map(|(a, fold, b)| [a.as_str(), fold, &b].concat().into_bytes()).collect()),
        2 => prop::collection::vec(select((128..=255).chain(b'a'..=b'z').collect::<Vec<u8>>()), 0..60),
        1 => prop::collection::vec(select(vec![0, 1, 8, 11, 12, 27, 127, b'x']), 0..20),
        1 => (900_usize..20_000).prop_map(|size| vec![b'v'; size]),
        1 => Just([&b" "[..], &b"=?utf-8?B?w6TDtsO8?=\r\n ".repeat(40)[..], b"=?utf-8?B?w58=?="].concat()),
    ].boxed()
}

fn placed(from: Option<Author>) -> impl Strategy<Value = Option<(Author, Field)>> {
    let field = from.clone().map(|from| from_field(Just(from)));
    match field {
        None => Just(None).boxed(),
        Some(field) => field.prop_map(move |field| Some((from.clone()?, field))).boxed(),
    }
}

fn from_field(from: impl Strategy<Value = Author>) -> impl Strategy<Value = Field> {
    (spelled("From"), from, line_end()).prop_map(|(name, from, end)| Field {
        sent: [name.as_bytes(), &from.value, end.as_bytes()].concat(),
        left: [name.as_bytes(), &from.becomes, end.as_bytes()].concat(),
    })
}

fn from() -> BoxedStrategy<Author> {
    let phrases = [
        "LMS",
        "J. Doe",
        "\"=?utf-8?B?SsO8cmdlbg==?= (via LMS)\"",
        "=?utf-8?Q?J=C3=BCrgen?=",
        "Jürgen",
        "\"Müller, Hans @ School <x>\"",
        "\"a \\\"b\\\" c\"",
        "(comment) Name",
    ];
    let permitted = vec![MAILBOX, NOREPLY, "LMS@Contoso.COM"];
    let foreign = vec!["teacher@school.org", "\"john doe\"@school.org", "x+tag@sub.school.org", "o'neil@school.org"];
    let space = || select(vec!["", " ", " ", "  ", "\t"]);
    let gap = || select(vec![" ", " ", "\r\n ", "\r\n\t", ""]);
    let behind = || select(vec!["", "", " ", " (via \"x\" <y@z>)", "\r\n (fold)"]);
    let one = move |addresses: Vec<&'static str>| {
        let address = select(addresses);
        prop_oneof![
            3 => (space(), select(phrases.to_vec()), gap(), address.clone(), behind())
                .prop_map(|(a, b, c, address, e)| (format!("{a}{b}{c}<"), address, format!(">{e}"))),
            2 => (space(), address, behind()).prop_map(|(a, address, e)| (a.to_owned(), address, e.to_owned())),
        ]
    };
    prop_oneof![
        5 => one(permitted).prop_map(|(a, address, b)| {
            let value = [&a, address, &b].concat().into_bytes();
            Author { becomes: value.clone(), value, reply_to: None, needs_sender: false }
        }),
        5 => one(foreign).prop_map(|(a, address, b)| {
            let value = [&a, address, &b].concat().into_bytes();
            let becomes = [&a, MAILBOX, &b].concat().into_bytes();
            Author { reply_to: Some(value.clone()), value, becomes, needs_sender: false }
        }),
        2 => select(odd_from()),
    ]
    .boxed()
}

/// What is seen of `From`, and what becomes of it.
fn odd_from() -> Vec<Author> {
    let row = |value: &str, becomes: &str, reply_to: Option<&str>| Author {
        value: value.into(),
        becomes: becomes.into(),
        reply_to: reply_to.map(|text| text.as_bytes().to_vec()),
        needs_sender: false,
    };
    let both = " LMS <lms@contoso.com>, noreply@contoso.com";
    vec![
        Author { needs_sender: true, ..row(both, both, None) },
        row(" A <a@s.org>, B <b@s.org>", " A <lms@contoso.com>", Some(" A <a@s.org>, B <b@s.org>")),
        row(" a@s.org,\r\n b@s.org", " <lms@contoso.com>", Some(" a@s.org,\r\n b@s.org")),
        row(" Team: a@s.org, b@s.org;", " Team <lms@contoso.com>", Some(" <a@s.org>, <b@s.org>")),
        row("", " <lms@contoso.com>", None),
        row(" <>", " <lms@contoso.com>", None),
        row(" root (Cron Daemon)", " root (Cron Daemon) <lms@contoso.com>", None),
        row(" Müller, Hans <h@s.org>", " \"Müller, Hans\" <lms@contoso.com>", Some(" <h@s.org>")),
    ]
}

fn sender() -> BoxedStrategy<Field> {
    let rows = vec![
        (" noreply@contoso.com", " noreply@contoso.com"),
        (" List <list@s.org>", " List <lms@contoso.com>"),
        (" broken", " broken <lms@contoso.com>"),
    ];
    (spelled("Sender"), select(rows), line_end())
        .prop_map(|(name, (value, becomes), end)| Field {
            sent: [&name, value, end].concat().into_bytes(),
            left: [&name, becomes, end].concat().into_bytes(),
        })
        .boxed()
}
