//! A notice as a mail of our own, put into our own queue: for what is still to come, while mail works.

use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::header::ContentType;

use super::notice::Notice;
use super::receiver::SendError;
use crate::config::App;
use crate::inbound::{Intake, QueueIntake};
use crate::message::{Address, Lane, QueueId};
use crate::own_mail::{AutoSubmitted, OwnMail, mailbox};

/// Puts it into the queue of the account `through`; says which message it is.
pub(super) async fn put(
    intake: &QueueIntake,
    to: &[Address],
    through: Option<&Address>,
    notice: &Notice,
) -> Result<String, SendError> {
    let through = through.ok_or_else(|| SendError::new("no account can send mail just now"))?;
    let id = intake.next_id(notice.at);
    let bytes = compose(id, to, through, notice).map_err(SendError::new)?;
    let mail = OwnMail {
        id,
        at: notice.at,
        app: App::RELAY,
        through: through.clone(),
        // Exchange lets a mailbox send as nobody but itself, not even as `<>`.
        sender: Some(through.clone()),
        to: to.to_vec(),
        lane: Lane::Urgent,
        lane_why: "a warning",
        subject: notice.title(),
        bytes,
    };
    let incoming = mail.incoming(&intake.config.borrow().clone());
    intake.accept(incoming).await.map_err(|error| SendError::new(error.to_string()))?;
    Ok(format!("put into the queue of {through} as message {id}"))
}

/// The mail, or why there is none.
fn compose(id: QueueId, to: &[Address], from: &Address, notice: &Notice) -> Result<Bytes, String> {
    let text = format!(
        "{}\n\n{}\n\n-- \nSent by xoauth2-relay on {}, because mail_to in its configuration says so.\n",
        notice.title(),
        notice.text(),
        notice.relay
    );
    let mut mail = lettre::Message::builder()
        .from(mailbox(Some("xoauth2-relay"), from)?)
        .subject(format!("[xoauth2-relay] {}", notice.title()))
        .date(system_time(notice.at))
        .message_id(Some(format!("<{id}@{}>", from.domain())))
        .header(AutoSubmitted::Generated)
        .header(ContentType::TEXT_PLAIN);
    for to in to {
        mail = mail.to(mailbox(None, to)?);
    }
    let mail =
        mail.body(text.replace('\n', "\r\n")).map_err(|error| format!("the mail could not be composed: {error}"))?;
    Ok(Bytes::from(mail.formatted()))
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::from(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::format::samples;

    #[test]
    fn a_warning_is_a_mail_that_says_all_in_its_subject() {
        let to = [Address::parse("it@example.com").unwrap(), Address::parse("me@example.com").unwrap()];
        let from = Address::parse("lms@contoso.com").unwrap();
        let id = QueueId::from_number(1 << 40);
        let mail = compose(id, &to, &from, &samples::secret_ends()).unwrap();
        let mail = String::from_utf8(mail.to_vec()).unwrap().replace("\r\n", "\n");
        let (head, text) = mail.split_once("\n\n").unwrap();
        let head = head.replace("\n ", " ");
        for line in [
            "From: xoauth2-relay <lms@contoso.com>",
            "To: it@example.com, me@example.com",
            "Subject: [xoauth2-relay] The client secret of lms@contoso.com ends in 14 days",
            "Date: Sat, 21 Nov 2026 22:41:00 +0000",
            &format!("Message-ID: <{id}@contoso.com>"),
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
        }
        assert!(text.starts_with("The client secret of lms@contoso.com ends in 14 days\n"), "{text}");
    }
}
