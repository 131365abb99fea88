//! `[[reply]]`.

use super::*;

#[test]
fn rows_are_read_in_their_order() {
    let config = with_account(
        "[[reply]]\nphase = ['rcpt', 'data_end']\ncode = 550\nenhanced = '5.1.10-19'\nwords = ['not found', 'Hosted']\n\
         scope = 'recipient'\nclass = 'later'\nthrottle = 'rate'\nwait = '1h30m'\nsentence = 'A new mailbox takes a while.'\n\
         command = 'Get-Mailbox {mailbox} | % { $_.Name }'\n\
         [[reply]]\nwords = ['no more today']\nscope = 'tenant'\nclass = 'held'\ncause = 'quota'\nsentence = 'Wait'\n",
    )
    .unwrap();
    let [first, second] = &config.replies[..] else { panic!("{:?}", config.replies) };
    assert_eq!(first.phases, [ReplyPhase::Rcpt, ReplyPhase::DataEnd]);
    assert_eq!((first.code, first.enhanced.unwrap().to_string().as_str()), (Some(550), "5.1.10-19"));
    assert_eq!((first.scope, first.class), (ReplyScope::Recipient, ReplyClass::Later));
    assert_eq!((first.throttle, first.sentence.as_str()), (Some(ReplyThrottle::Rate), "A new mailbox takes a while"));
    assert_eq!((first.wait, second.wait), (Some(std::time::Duration::from_mins(90)), None));
    assert_eq!(first.command.as_deref(), Some("Get-Mailbox {mailbox} | % { $_.Name }"));
    assert_eq!((second.scope, second.class), (ReplyScope::Tenant, ReplyClass::Held(ReplyCause::Quota)));
    assert_eq!((second.phases.len(), second.command.as_deref()), (0, None));
}

#[test]
fn all_that_is_wrong_with_rows_is_said_at_once() {
    assert_listing(
        &format!(
            "{ACCOUNT}[[reply]]\n\
             [[reply]]\ncode = 250\nenhanced = '2.0.0'\nphase = ['dataend']\nscope = 'mailbox'\nclass = 'accepted'\n\
             sentence = \"two\\nlines\"\ncommand = 'type {{adress}}'\n\
             [[reply]]\nwords = []\nphase = 'auth'\nscope = 'message'\nclass = 'held'\nthrottle = 'slow'\nsentence = 'x'\n\
             [[reply]]\nwords = ['x']\nphase = ['auth']\nscope = 'recipient'\nclass = 'refused'\ncause = 'login'\nsentence = 'x'\n\
             [[reply]]\nwords = ['x']\nscope = 'account'\nclass = 'refused'\nsentence = 'x'\n\
             [[reply]]\nwords = ['x']\nscope = 'recipient'\nclass = 'held'\ncause = 'quota'\nsentence = 'x'\n\
             [[reply]]\nwords = ['x']\nscope = 'account'\nclass = 'held'\ncause = 'quota'\nwait = '1h'\nsentence = 'x'\n\
             [[reply]]\nwords = ['x']\nscope = 'account'\nclass = 'later'\nwait = '2d'\nsentence = 'x'\n\
             [[reply]]\nwords = ['', '[AM5.outlook.com]', '[LMS] no']\nscope = 'message'\nclass = 'later'\nsentence = 'x'\n"
        ),
        &[
            r#"6: reply[0].scope: is missing: write whom the reply is about: "recipient", "message", "connection", "account" or "tenant""#,
            r#"6: reply[0].class: is missing: write what is done: "later", "refused" or "held""#,
            "6: reply[0].sentence: is missing: write for people what is wrong and what helps",
            "6: reply[0].words: is missing: write by what the reply is known: code, enhanced or words",
            "8: reply[1].code: is no refusal: write a code from 400 to 599",
            r#"9: reply[1].enhanced: is no enhanced code of a refusal: write one such as "5.7.139", or a range of its last part such as "4.7.500-699""#,
            r#"10: reply[1].phase[0]: "dataend" is unknown; did you mean "data_end"?"#,
            r#"11: reply[1].scope: "mailbox" is unknown: use "recipient", "message", "connection", "account", "tenant""#,
            r#"12: reply[1].class: cannot be "accepted": only the server accepts; use "later", "refused" or "held""#,
            "13: reply[1].sentence: has several lines: write one",
            r#"14: reply[1].command: has an unknown name, "{adress}": the names are {mailbox}, {login}, {client_id}, {smtp}, {id}, {sender}"#,
            r#"15: reply[2].cause: is missing: with class = "held" write why: "login", "quota", "blocked", "mailbox_full", "permission" or "connection""#,
            "16: reply[2].words: is empty: remove the line, or write words of the reply",
            r#"17: reply[2].phase: is a text: write a list, as in phase = ["…"]"#,
            r#"20: reply[2].throttle: "slow" is unknown: use "rate", "sessions""#,
            r#"24: reply[3].phase: has a phase in which nothing is said of a message yet: write "mail", "rcpt", "data" or "data_end", or another scope"#,
            r#"27: reply[3].cause: belongs to class = "held": remove it, or write that class"#,
            r#"31: reply[4].scope: cannot be refused: only a message or a recipient can; write class = "held" to stop the account"#,
            r#"36: reply[5].scope: cannot be held: write scope = "account", "tenant" or "connection", or class = "later""#,
            r#"45: reply[6].wait: belongs to class = "later": remove it; a hold is tried again by its cause, and what is refused never is"#,
            r#"51: reply[7].wait: is too long: at most 24h; write class = "held" for what a person ends"#,
            "54: reply[8].words[0]: is empty: remove it or complete it",
            r#"54: reply[8].words[1]: "[AM5.outlook.com]" has a host name in brackets, which does not count: leave it out"#,
        ],
    );
}
