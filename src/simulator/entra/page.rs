//! The page on which a person types the device code in and says as whom they sign in. Plain forms: it works in a browser, without a mouse,
//! and with curl.

use std::fmt::Write as _;

use axum::response::Html;

use super::super::cloud::Cloud;

const STYLE: &str = "\
    :root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh}\
    main{max-width:26rem;padding:2rem;border:1px solid #8886;border-radius:.5rem;margin:1rem}h1{font-size:1.3rem;margin-top:0}\
    input[type=text]{font:1.4rem monospace;letter-spacing:.15em;width:100%;box-sizing:border-box;padding:.4rem}\
    label{display:block;margin:.4rem 0}button{font:inherit;padding:.4rem 1.2rem;margin:1rem .5rem 0 0}\
    .problem{color:#c33}small{opacity:.75}";

/// Asks for the code.
pub(super) fn ask_for_code(problem: Option<&str>) -> Html<String> {
    let problem =
        problem.map(|problem| format!("<p class=problem role=alert>{}</p>", escaped(problem))).unwrap_or_default();
    page(
        "Enter code",
        &format!(
            "{problem}<form method=get><label for=code>The code that your program shows</label>\
             <input type=text id=code name=user_code autocomplete=off autocapitalize=characters required autofocus>\
             <button type=submit>Next</button></form>"
        ),
    )
}

/// Asks as whom to sign in.
pub(super) fn ask_for_mailbox(cloud: &Cloud, user_code: &str) -> Html<String> {
    let mut choices = String::new();
    for (n, mailbox) in cloud.options.mailboxes.iter().enumerate() {
        let checked = if n == 0 { " checked" } else { "" };
        let address = escaped(&mailbox.address);
        // Writing to a string cannot fail.
        let _ =
            write!(choices, "<label><input type=radio name=mailbox value=\"{address}\"{checked}> {address}</label>");
    }
    let code = escaped(user_code);
    page(
        "Are you trying to sign in to xoauth2-relay?",
        &format!(
            "<p>Code <strong>{code}</strong>. Only continue if the program in front of you shows it.</p>\
             <form method=post><input type=hidden name=user_code value=\"{code}\">{choices}\
             <button type=submit name=action value=approve>Continue</button>\
             <button type=submit name=action value=deny>Cancel</button></form>"
        ),
    )
}

/// Says what became of it.
pub(super) fn done(title: &str, text: &str) -> Html<String> {
    page(title, &format!("<p>{}</p>", escaped(text)))
}

fn page(title: &str, content: &str) -> Html<String> {
    Html(format!(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>{content}\
         <p><small>This is the simulator of xoauth2-relay, not Microsoft: no password is asked for.</small></p></main></body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
