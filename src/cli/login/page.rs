//! The page at which a browser ends a sign-in: what became of it, in words, and what to do next. It loads nothing and runs nothing.

use std::fmt::Write as _;

use axum::http::StatusCode;

/// One page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    status: StatusCode,
    mood: Mood,
    title: String,
    paragraphs: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Good,
    Bad,
    Neutral,
}

impl Page {
    /// Somebody signed in, and it is stored.
    pub(super) fn success(mailbox: &str, signed_in_as: Option<&str>) -> Self {
        let who = signed_in_as.filter(|who| !who.eq_ignore_ascii_case(mailbox));
        let what = match who {
            Some(who) => format!("The relay can send for {mailbox}, with the sign-in of {who}."),
            None => format!("The relay can send for {mailbox}."),
        };
        let next = "You can close this tab. Mail that waited for this leaves as soon as the relay runs.";
        Self::new(StatusCode::OK, Mood::Good, "You are signed in", &[&what, next])
    }

    /// Nobody is signed in: the sentence for the administrator, which says what to do.
    pub(super) fn failure(sentence: &str) -> Self {
        let mut lines: Vec<&str> = sentence.lines().collect();
        lines.push("You can close this tab: the same words are on the terminal.");
        Self::new(StatusCode::BAD_REQUEST, Mood::Bad, "You are not signed in", &lines)
    }

    /// The address was another one; the sign-in still waits.
    pub(super) fn not_this(sentence: &str) -> Self {
        let next = "Nothing was changed. The command on the terminal goes on waiting for the right one.";
        Self::new(StatusCode::BAD_REQUEST, Mood::Bad, "This is another sign-in", &[&format!("{sentence}."), next])
    }

    /// Somebody looks at the port without having signed in.
    pub(super) fn waiting(login: &str) -> Self {
        let text = format!(
            "The sign-in of {login} ends here. Go back to the page of your provider, or open the address on the terminal."
        );
        Self::new(StatusCode::NOT_FOUND, Mood::Neutral, "Nobody has signed in yet", &[&text])
    }

    /// The command has ended meanwhile.
    pub(super) fn over() -> Self {
        let text = "The command that began it has ended. Look at the terminal, and start again there if you have to.";
        Self::new(StatusCode::GONE, Mood::Bad, "This sign-in is over", &[text])
    }

    fn new(status: StatusCode, mood: Mood, title: &str, paragraphs: &[&str]) -> Self {
        let paragraphs = paragraphs.iter().map(|&text| capitalised(text)).collect();
        Self { status, mood, title: title.to_owned(), paragraphs }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The whole page.
    pub(super) fn html(&self) -> String {
        let (class, sign) = match self.mood {
            Mood::Good => ("good", "✓"),
            Mood::Bad => ("bad", "!"),
            Mood::Neutral => ("neutral", "…"),
        };
        let title = escaped(&self.title);
        let mut text = String::new();
        for paragraph in &self.paragraphs {
            // Writing to a string cannot fail.
            let (words, command) = with_command(paragraph);
            if !words.is_empty() {
                let _ = writeln!(text, "<p>{}</p>", escaped(&words));
            }
            if let Some(command) = command {
                let _ = writeln!(text, "<p><code>{}</code></p>", escaped(command));
            }
        }
        format!(
            "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{title} - xoauth2-relay</title>\
             <link rel=icon href=\"data:,\"><style>{STYLE}</style></head>\n\
             <body><main class={class}><div class=sign aria-hidden=true>{sign}</div><h1>{title}</h1>\n{text}\
             <footer>xoauth2-relay on this machine</footer></main></body></html>\n"
        )
    }
}

/// How a command begins.
const COMMAND: &str = "xoauth2-relay login ";

const STYLE: &str = "\
    :root{color-scheme:light dark;--tone:light-dark(#5a5f6a,#a9afbb)}\
    *{box-sizing:border-box}body{font:1.05rem/1.55 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;\
    background:light-dark(#f3f3f5,#17181b);color:light-dark(#1c1d21,#e8e8ea)}\
    main{width:min(32rem,100% - 2rem);margin:1rem;padding:2rem;border-radius:.6rem;border:1px solid #8885;\
    border-top:.3rem solid var(--tone);background:light-dark(#fff,#202227);overflow-wrap:anywhere}\
    .good{--tone:light-dark(#1a7f37,#56d37a)}.bad{--tone:light-dark(#b3261e,#ff9d94)}\
    .sign{width:2.6rem;height:2.6rem;border-radius:50%;display:grid;place-items:center;font-size:1.5rem;font-weight:700;line-height:1;\
    color:light-dark(#fff,#17181b);background:var(--tone)}\
    h1{font-size:1.5rem;line-height:1.25;margin:1rem 0 .6rem}p{margin:.6rem 0}\
    code{display:block;padding:.5rem .7rem;border-radius:.3rem;background:light-dark(#eef0f3,#15161a);font:.95rem/1.5 ui-monospace,monospace}\
    footer{margin-top:1.6rem;font-size:.85rem;opacity:.7}";

/// A sentence of a command line begins small; one of a page does not.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        // Addresses and commands stay as they are.
        Some(first) if !text.split(' ').next().is_some_and(|word| word.contains(['@', '-'])) => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A command at the end of a sentence stands on a line of its own, to be copied.
fn with_command(paragraph: &str) -> (String, Option<&str>) {
    let (words, command) = match paragraph.find(COMMAND) {
        Some(at) => (&paragraph[..at], Some(paragraph[at..].trim_end_matches('`'))),
        None => (paragraph, None),
    };
    let words = words.trim_end_matches([' ', '`']);
    let is_whole = words.is_empty() || words.ends_with(['.', ':', '!', '?']);
    (format!("{words}{}", if is_whole { "" } else { "." }), command)
}

fn escaped(text: &str) -> String {
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let escaped = printable.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_part_of_the_page() {
        let html = Page::failure("<script>alert(1)</script> & \"x\"\nxoauth2-relay login a@b").html();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("<p>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;.</p>"), "{html}");
        assert!(html.contains("<p><code>xoauth2-relay login a@b</code></p>"), "{html}");
    }

    #[test]
    fn the_person_is_named_where_it_is_another_one() {
        assert!(!Page::success("lms@contoso.com", Some("LMS@contoso.com")).html().contains("the sign-in of"));
        assert!(
            Page::success("lms@contoso.com", Some("me@contoso.com")).html().contains("the sign-in of me@contoso.com")
        );
    }
}
