//! The page on which a person types the device code in and says as whom they sign in, and what all pages look like. Plain forms: they work
//! in a browser, without a mouse, and with curl.

use std::fmt::Write as _;

use axum::response::Html;

use super::super::cloud::Cloud;

const STYLE: &str = "\
    :root{color-scheme:light dark;--edge:#8886;--do:light-dark(#0b5cad,#8ec1ff);--on:light-dark(#fff,#06203d)}\
    *{box-sizing:border-box}body{font:1rem/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;\
    background:light-dark(#f3f3f5,#17181b);color:light-dark(#1c1d21,#e8e8ea)}\
    main{width:min(27rem,100% - 2rem);padding:2rem;border:1px solid var(--edge);border-radius:.6rem;margin:1rem;\
    background:light-dark(#fff,#202227);overflow-wrap:anywhere}\
    h1{font-size:1.35rem;line-height:1.3;margin:0 0 1rem}p{margin:.6rem 0}ul{padding-left:1.3rem}\
    input[type=text]{font:1.4rem monospace;letter-spacing:.15em;width:100%;padding:.4rem .5rem;border:1px solid #8889;border-radius:.3rem}\
    input[type=text].name{font:inherit;letter-spacing:normal}label{display:block;margin:1rem 0 .3rem}label:has(input){margin:.4rem 0}\
    button{font:inherit;padding:.45rem 1.4rem;margin:1rem .5rem 0 0;border:1px solid var(--edge);border-radius:.3rem;\
    background:transparent;color:inherit;cursor:pointer}\
    button.first{background:var(--do);border-color:var(--do);color:var(--on)}\
    button.tile{display:block;width:100%;text-align:left;margin:.5rem 0 0;padding:.7rem .8rem}\
    button:hover,button.tile:hover{border-color:var(--do)}:focus-visible{outline:3px solid var(--do);outline-offset:2px}\
    .problem{color:light-dark(#b3261e,#ff9d94)}.who{opacity:.8}small{opacity:.75}\
    footer{border-top:1px solid var(--edge);margin-top:1.8rem;padding-top:.4rem}";

/// Asks for the code.
pub(super) fn ask_for_code(problem: Option<&str>) -> Html<String> {
    let problem =
        problem.map(|problem| format!("<p class=problem role=alert>{}</p>", escaped(problem))).unwrap_or_default();
    page(
        "Enter code",
        &format!(
            "{problem}<form method=get><label for=code>The code that your program shows</label>\
             <input type=text id=code name=user_code autocomplete=off autocapitalize=characters required autofocus>\
             <button type=submit class=first>Next</button></form>"
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
             <button type=submit name=action value=approve class=first>Continue</button>\
             <button type=submit name=action value=deny>Cancel</button></form>"
        ),
    )
}

/// Says what became of it.
pub(super) fn done(title: &str, text: &str) -> Html<String> {
    page(title, &format!("<p>{}</p>", escaped(text)))
}

pub(super) fn page(title: &str, content: &str) -> Html<String> {
    Html(format!(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>{content}\
         <footer><small>This is the simulator of xoauth2-relay, not Microsoft: no password is asked for.</small></footer></main></body></html>\n"
    ))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
