//! `[[reply]]`.

use super::*;

#[test]
fn rows_are_read_in_their_order() {
    let config = with_account(
        "[[reply]]\nphase = ['rcpt', 'data_end']\ncode = 550\nenhanced = '5.1.10-19'\nwords = ['not found', 'Hosted']\n\
         scope = 'recipient'\nclass = 'later'\nthrottle = 'rate'\nsentence = 'A new mailbox takes a while.'\n\
         command = 'Get-Mailbox {mailbox} | % { $_.Name }'\n\
         [[reply]]\nwords = ['no more today']\nscope = 'tenant'\nclass = 'held'\ncause = 'quota'\nsentence = 'Wait'\n",
    )
    .unwrap();
    let [first, second] = &config.replies[..] else { panic!("{:?}", config.replies) };
    assert_eq!(first.phases, [ReplyPhase::Rcpt, ReplyPhase::DataEnd]);
    assert_eq!((first.code, first.enhanced.unwrap().to_string().as_str()), (Some(550), "5.1.10-19"));
    assert_eq!((first.scope, first.class), (ReplyScope::Recipient, ReplyClass::Later));
    assert_eq!((first.throttle, first.sentence.as_str()), (Some(ReplyThrottle::Rate), "A new mailbox takes a while"));
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
             [[reply]]\nwords = ['x']\nscope = 'account'\nclass = 'refused'\nsentence = 'x'\n"
        ),
        &[],
    );
}
