//! What can be read of a mail: decoded header fields, its text, the links and the one-time code in it. Pure; nothing of the mail is changed,
//! and rubbish is only text in which nothing is found.

use std::borrow::Cow;
use std::mem;

use mail_parser::decoders::html::html_to_text;
use mail_parser::parsers::MessageStream;
use mail_parser::{HeaderValue, MessageParser, PartType};
use memchr::memmem;

use crate::message::Headers;

/// Links that are looked at; a mail with more of them is a newsletter.
const MOST_LINKS: usize = 64;
/// The longest link that is looked at, in octets.
const LONGEST_LINK: usize = 2048;
/// What is between a link's scheme and its host.
const SCHEME_END: &[u8] = b"://";
/// A mail with a one-time code says little else, in characters.
const LONGEST_CODE_MAIL: usize = 1500;
/// And it says something, in letters: a number alone is the output of some program.
const FEWEST_LETTERS: usize = 5;

/// A header field's value, unfolded and decoded (RFC 2047).
pub(super) fn decoded(value: &[u8]) -> String {
    // The decoder wants the line's end.
    let line = [value, b"\r\n"].concat();
    match MessageStream::new(&line).parse_unstructured() {
        HeaderValue::Text(text) => text.trim().to_owned(),
        _ => String::new(),
    }
}

/// The texts of a mail that a person reads first, decoded: neither attachments nor other mails in it.
pub(super) fn texts<'a>(start: &'a [u8], headers: &Headers<'a>) -> Vec<Text<'a>> {
    as_it_is(start, headers).map_or_else(|| taken_apart(start), |text| vec![text])
}

fn taken_apart(start: &[u8]) -> Vec<Text<'_>> {
    let Some(mut message) = MessageParser::new().with_mime_headers().parse(start) else { return Vec::new() };
    let mut places: Vec<u32> = message.text_body.iter().chain(&message.html_body).copied().collect();
    places.sort_unstable();
    places.dedup();
    let mut texts = Vec::new();
    for place in places {
        let Some(part) = message.parts.get_mut(place as usize) else { continue };
        match mem::take(&mut part.body) {
            PartType::Text(text) => texts.push(Text::Plain(text)),
            PartType::Html(text) => texts.push(Text::Html(text)),
            _ => {}
        }
    }
    texts
}

/// The body, if it is one text in which nothing is encoded: what most programs send, and there is no need to take it apart.
fn as_it_is<'a>(start: &'a [u8], headers: &Headers<'a>) -> Option<Text<'a>> {
    let one = |name: &str| match (headers.all(name).next(), headers.all(name).nth(1)) {
        (None, _) => Some(&b""[..]),
        (Some(field), None) => Some(field.value.trim_ascii()),
        (Some(_), Some(_)) => None,
    };
    let encoding = one("Content-Transfer-Encoding")?;
    let is_plain = |name: &&str| encoding.eq_ignore_ascii_case(name.as_bytes());
    ["", "7bit", "8bit", "binary"].iter().find(|name| is_plain(name))?;
    let kind = std::str::from_utf8(one("Content-Type")?).ok()?.to_ascii_lowercase();
    let (kind, parameter) = kind.split_once(';').unwrap_or((&kind, ""));
    let body = &start[headers.end()..];
    let body = body.strip_prefix(b"\r\n").or_else(|| body.strip_prefix(b"\n"))?;
    let parameter = parameter.split(';').next().unwrap_or_default().trim();
    let is_read_so = match parameter.strip_prefix("charset=").map(|charset| charset.trim_matches('"')) {
        Some("utf-8") => true,
        Some("us-ascii" | "iso-8859-1" | "iso-8859-15" | "windows-1252") => body.is_ascii(),
        Some(_) => false,
        None => parameter.is_empty() && body.is_ascii(),
    };
    let text = std::str::from_utf8(body).ok().filter(|_| is_read_so)?;
    match kind.trim_end() {
        "" | "text/plain" => Some(Text::Plain(text.into())),
        "text/html" => Some(Text::Html(text.into())),
        _ => None,
    }
}

/// A decoded text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Plain(Cow<'a, str>),
    Html(Cow<'a, str>),
}

impl Text<'_> {
    /// The text to look for links in: what is quoted from another mail is left out, as far as that can be seen.
    pub(super) fn for_links(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) if text.contains('>') => {
                text.lines().filter(|line| !line.starts_with('>')).collect::<Vec<_>>().join("\n").into()
            }
            Self::Html(text) if text.contains("&amp;") => text.replace("&amp;", "&").into(),
            Self::Plain(text) | Self::Html(text) => Cow::Borrowed(text),
        }
    }

    /// The text as it is read.
    pub(super) fn plain(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Html(text) => html_to_text(&in_lines(text)).into(),
        }
    }
}

/// HTML with a `<br>` in front of whatever is shown in lines of its own: the decoder knows only paragraphs.
fn in_lines(html: &str) -> String {
    const BLOCKS: [&str; 10] = ["h1", "h2", "h3", "h4", "div", "table", "tr", "td", "li", "p"];
    let mut text = String::with_capacity(html.len() + html.len() / 8);
    for (n, part) in html.split('<').enumerate() {
        if n > 0 {
            let name = part.strip_prefix('/').unwrap_or(part);
            let name = &name[..name.bytes().take_while(u8::is_ascii_alphanumeric).count()];
            let is_block = BLOCKS.iter().any(|block| block.eq_ignore_ascii_case(name));
            text.push_str(if is_block { "<br><" } else { "<" });
        }
        text.push_str(part);
    }
    text
}

/// A link without scheme and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link<'a> {
    /// In lower case, from its first slash on.
    pub(super) path: String,
    /// What is behind the question mark.
    pub(super) query: &'a str,
}

/// The links in a text.
pub(super) fn links(text: &str) -> impl Iterator<Item = Link<'_>> {
    let is_http = |at: usize| {
        let before = text.as_bytes()[at.saturating_sub(5)..at].to_ascii_lowercase();
        before.ends_with(b"http") || before == b"https"
    };
    let schemes = memmem::find_iter(text.as_bytes(), SCHEME_END).filter(move |&at| is_http(at));
    schemes.take(MOST_LINKS).filter_map(|at| {
        let rest = &text[at + SCHEME_END.len()..];
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
        let end = rest.char_indices().take_while(|&(at, c)| at < LONGEST_LINK && !ends(c)).last();
        let link = &rest[..end.map_or(0, |(at, c)| at + c.len_utf8())];
        let link = link.split('#').next().unwrap_or_default();
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        let path = path[path.find('/')?..].to_lowercase();
        Some(Link { path, query })
    })
}

/// Whether a short text brings a one-time code: one number of 4 to 8 digits, which stands alone in its line, is in the subject too, or comes
/// with one of these words.
pub(super) fn has_code(text: &str, subject: &str, words: &[String]) -> bool {
    let text = text.trim();
    if text.chars().count() > LONGEST_CODE_MAIL
        || text.chars().filter(|c| c.is_alphabetic()).take(FEWEST_LETTERS).count() < FEWEST_LETTERS
    {
        return false;
    }
    let (text, subject) = (plain_digits(text), plain_digits(subject));
    let mut found: Vec<(String, bool)> = text.lines().flat_map(codes).collect();
    found.sort();
    found.dedup_by(|later, earlier| {
        later.0 == earlier.0 && {
            earlier.1 |= later.1;
            true
        }
    });
    let [(code, stands_alone)] = &found[..] else { return false };
    let in_subject = || subject.split_whitespace().flat_map(codes).any(|(other, _)| other == *code);
    let has_word = |text: &str| words.iter().any(|word| text.contains(word.as_str()));
    *stands_alone || in_subject() || has_word(&text.to_lowercase()) || has_word(&subject.to_lowercase())
}

/// What could be a code in a line, each with whether there is nothing else in the line.
fn codes(line: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for word in joined(line).split_whitespace().filter(|word| !word.contains("://") && !word.contains('@')) {
        let inner =
            word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '#' | '$' | '€' | '£' | '%' | '+' | '-'));
        // As in "code:123456" and "コード：123456", or between letters of a script without spaces.
        let digits = inner.rsplit([':', '：']).next().unwrap_or_default();
        let digits = digits.trim_matches(|c: char| !c.is_ascii() && c.is_alphabetic());
        let is_number = (4..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let is_year = digits.len() == 4 && (digits.starts_with("19") || digits.starts_with("20"));
        if is_number
            && !is_year
            && !inner.split_once(':').is_some_and(|(before, _)| before.ends_with(|c: char| c.is_ascii_digit()))
        {
            let alone = joined(line).chars().filter(|c| c.is_alphanumeric()).eq(digits.chars());
            found.push((digits.to_owned(), alone));
        }
    }
    found
}

/// The line with `123 456` and `123-456` in one.
fn joined(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
    let three = |from: usize| (from..from + 3).all(|at| digit(Some(at)));
    let mut text = String::with_capacity(line.len());
    for (at, &c) in chars.iter().enumerate() {
        let is_gap = matches!(c, ' ' | '-' | '\u{a0}')
            && at >= 3
            && three(at - 3)
            && three(at + 1)
            && !digit(at.checked_sub(4))
            && !digit(Some(at + 4));
        if !is_gap {
            text.push(c);
        }
    }
    text
}

/// Digits of other scripts as ours: Arabic, Persian, full width.
fn plain_digits(text: &str) -> String {
    let plain = |c: char| {
        let zero = match c {
            '\u{660}'..='\u{669}' => 0x660,
            '\u{6f0}'..='\u{6f9}' => 0x6f0,
            '\u{ff10}'..='\u{ff19}' => 0xff10,
            _ => return c,
        };
        char::from_digit(u32::from(c) - zero, 10).unwrap_or(c)
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::rules::RULES;

    #[test]
    fn links_are_taken_apart() {
        let text = "a https://lms.example/sub/login/forgot_password.php?token=x&y=1, <HTTP://h/P#f> http://host ftp://h/no \"https://q/r?s\"'";
        let found: Vec<_> = links(text).map(|link| (link.path, link.query)).collect();
        let expected = [("/sub/login/forgot_password.php", "token=x&y=1,"), ("/p", ""), ("/r", "s")];
        assert_eq!(found, expected.map(|(path, query)| (path.to_owned(), query)));
    }

    #[test]
    fn a_body_that_is_one_text_is_read_as_it_would_be_taken_apart() {
        let kinds = [
            ("", true),
            ("Content-Type: text/plain\r\n", true),
            ("Content-Type: text/html; charset=utf-8\r\n", true),
            (
                "content-type:TEXT/Plain;\r\n\tcharset=\"UTF-8\"; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n",
                true,
            ),
            ("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 7Bit \r\n", true),
            ("Content-Type: text/plain; format=flowed; charset=utf-16\r\n", false),
            ("Content-Type: text/plain; charset=utf-7\r\n", false),
            ("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", false),
            ("Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n", false),
            ("Content-Type: text/x-log\r\n", false),
            ("Content-Type: multipart/mixed; boundary=b\r\n", false),
        ];
        for (kind, is_simple) in kinds {
            for body in
                ["A link: https://lms.example/a?b=3D1&amp;c=2\r\n\r\n> quoted\r\n", "<p>482913</p>\n--b\n\nc", ""]
            {
                let mail = format!("Subject: x\r\n{kind}\r\n{body}");
                let direct = as_it_is(mail.as_bytes(), &Headers::scan(mail.as_bytes()));
                assert_eq!(direct.is_some(), is_simple, "{kind}");
                if let Some(direct) = direct {
                    assert_eq!(taken_apart(mail.as_bytes()), [direct], "{mail}");
                }
            }
        }
        let is_direct = |mail: &str| as_it_is(mail.as_bytes(), &Headers::scan(mail.as_bytes())).is_some();
        assert!(is_direct("Content-Type: text/plain; charset=utf-8\r\n\r\nGrüße"));
        assert!(!is_direct("Content-Type: text/plain\r\n\r\nGrüße"), "nobody knows what it means");
        assert!(!is_direct("Content-Type: text/plain; charset=us-ascii\r\n\r\nGrüße"));
        assert!(!is_direct("Subject: no body"));
    }

    #[test]
    fn a_code_is_known_by_its_shape() {
        for (text, subject, is) in [
            ("Your verification code is 482913. It expires in 10 minutes.", "Sign in", true),
            ("Hello Anna,\r\n\r\n  482 913\r\n\r\nIgnore this if it was not you.", "", true),
            ("Ihr Code lautet: 4829-1377 oder 48291377", "Anmeldung", true),
            ("認証コード：482913\r\n有効期限は10分です。", "ログイン", true),
            ("رمز التحقق الخاص بك هو ٤٨٢٩١٣ صالح لعشر دقائق", "", true),
            ("Use 482913 to sign in", "482913 is for you", true),
            ("Your order 482913 has left our house.", "Your order", false),
            ("Backup of 2026 done: 48291 files, 48292 directories, code 0", "", false),
            ("12345", "Cron job", false),
            ("Call +49 30 482913 about the code", "", true),
            ("the code is in https://x.example/482913", "", false),
            ("invoice code 482913,50 EUR", "", false),
            ("at 10:4829 the code", "", false),
        ] {
            assert_eq!(has_code(text, subject, &RULES.code.words), is, "{text}");
        }
        let long = format!("the code is 482913 {}", "and so on ".repeat(200));
        assert!(!has_code(&long, "", &RULES.code.words));
    }

    #[test]
    fn header_fields_are_decoded() {
        for (value, text) in [
            (&b" =?utf-8?Q?Zur=C3=BCck?=\r\n =?utf-8?B?c2V0emVu?="[..], "Zurücksetzen"),
            (b" plain\r\n folded", "plain folded"),
            (b" =?iso-8859-1?Q?Zur=FCck?= jetzt", "Zurück jetzt"),
            (b"", ""),
            (b"=?utf-8?Q?broken", "=?utf-8?Q?broken"),
        ] {
            assert_eq!(decoded(value), text);
        }
    }
}
