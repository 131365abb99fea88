//! A notice as a mail of our own, put into our own queue: for what is still to come, while mail works.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};

use super::notice::Notice;
use super::receiver::SendError;
use crate::config::App;
use crate::inbound::{Intake, QueueIntake};
use crate::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use crate::store::Incoming;

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
    let config = intake.config.borrow().clone();
    let incoming = Incoming {
        id,
        received_at: notice.at,
        app: App::RELAY.to_owned(),
        account: through.clone(),
        lane: Lane::Urgent,
        lane_why: Some("a warning".to_owned()),
        envelope: Envelope {
            // Exchange lets a mailbox send as nobody but itself, not even as `<>`.
            sender: Some(through.clone()),
            smtputf8: !to.iter().all(Address::is_ascii),
            recipients: to.iter().cloned().map(Into::into).collect(),
            ..Envelope::default()
        },
        trace: Trace {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            helo: Some(config.hostname.clone()),
            protocol: Protocol { extended: true, tls: false, authenticated: false },
            user: None,
        },
        subject: config.queue.record_subjects.then(|| notice.title()),
        size: bytes.len() as u64,
        body: Body::Inline(bytes),
    };
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
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN);
    for to in to {
        mail = mail.to(mailbox(None, to)?);
    }
    let mail =
        mail.body(text.replace('\n', "\r\n")).map_err(|error| format!("the mail could not be composed: {error}"))?;
    Ok(Bytes::from(mail.formatted()))
}

fn mailbox(name: Option<&str>, address: &Address) -> Result<Mailbox, String> {
    let parsed = address.as_str().parse::<lettre::Address>();
    let parsed = parsed.map_err(|_| format!("{address} cannot be written into the header of a mail"))?;
    Ok(Mailbox::new(name.map(str::to_owned), parsed))
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::from(at)
}

/// RFC 3834 section 5: holiday notices are not to answer it.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
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
