//! The pages of a sign-in in a browser: who, then consent; and the page that says why there is neither. Plain forms, no scripts.

use std::fmt::Write as _;

use axum::response::Html;

use super::super::cloud::Cloud;
use super::Refused;
use super::authorize::{FIELDS, Request};
use super::page::{escaped, page};

/// Asks who signs in.
pub(super) fn pick_account(cloud: &Cloud, request: &Request<'_>, problem: Option<&str>, typed: &str) -> Html<String> {
    let hidden = hidden(request);
    let problem = problem
        .map(|problem| format!("<p class=problem id=problem role=alert>{}</p>", escaped(problem)))
        .unwrap_or_default();
    let mut tiles = String::new();
    for mailbox in &cloud.options.mailboxes {
        let address = escaped(&mailbox.address);
        let hinted = request.login_hint.is_some_and(|hint| mailbox.is(hint));
        let focus = if hinted && problem.is_empty() { " autofocus" } else { "" };
        // Writing to a string cannot fail.
        let _ =
            write!(tiles, "<button class=tile type=submit name=mailbox value=\"{address}\"{focus}>{address}</button>");
    }
    let focus = if problem.is_empty() { "" } else { " autofocus aria-invalid=true aria-describedby=problem" };
    page(
        "Pick an account",
        &format!(
            "<p>to continue to <strong>xoauth2-relay</strong></p><form method=post>{hidden}{tiles}</form>\
             <form method=post>{hidden}<label for=mailbox>Use another account</label>{problem}\
             <input type=text class=name id=mailbox name=mailbox value=\"{}\" placeholder=\"someone@example.com\" \
             autocomplete=username autocapitalize=none spellcheck=false required{focus}>\
             <button type=submit class=first>Next</button></form>",
            escaped(typed)
        ),
    )
}

/// Asks whether this person agrees.
pub(super) fn consent(request: &Request<'_>, mailbox: &str) -> Html<String> {
    let (hidden, mailbox) = (hidden(request), escaped(mailbox));
    let offline = if request.offline {
        "<li>Maintain access to data you have given it access to</li>"
    } else {
        Default::default()
    };
    page(
        "Permissions requested",
        &format!(
            "<p class=who>{mailbox}</p><p><strong>xoauth2-relay</strong> would like to:</p>\
             <ul><li>Send emails from your mailbox using SMTP AUTH</li>{offline}</ul>\
             <form method=post>{hidden}<input type=hidden name=mailbox value=\"{mailbox}\">\
             <button type=submit name=action value=accept class=first autofocus>Accept</button>\
             <button type=submit name=action value=cancel>Cancel</button></form>"
        ),
    )
}

/// Why nothing can be asked: the same words as in an answer to a program, and no way on.
pub(super) fn sorry(cloud: &Cloud, refused: &Refused) -> Html<String> {
    let text = escaped(&refused.text(cloud));
    page("Sorry, but we’re having trouble signing you in.", &format!("<p class=words>{text}</p>"))
}

fn hidden(request: &Request<'_>) -> String {
    let mut fields = String::new();
    for name in FIELDS {
        if let Some(value) = request.form.get(name) {
            // Writing to a string cannot fail.
            let _ = write!(fields, "<input type=hidden name={name} value=\"{}\">", escaped(value));
        }
    }
    fields
}
