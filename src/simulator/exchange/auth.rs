//! AUTH: two-step and one-step XOAUTH2, and the refusal of everything else.

use super::super::entra::Bearer;
use super::super::event::Event;
use super::super::options::Mailbox;
use super::super::texts::{fill, words};
use super::command::Credentials;
use super::session::{Expecting, Session, Text};

impl Session {
    /// Why AUTH is not possible now.
    pub(super) fn why_no_auth(&self) -> Option<Text> {
        if !self.greeted {
            return Some("503 5.5.2 Send hello first".into());
        }
        if self.offers_starttls() {
            return Some("530 5.7.0 Must issue a STARTTLS command first".into());
        }
        (self.mailbox.is_some() || self.mail.is_some()).then(|| "503 5.5.2 Already authenticated".into())
    }

    /// Answers AUTH that did not bring its credentials along.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Text {
        if let Some(reply) = self.why_no_auth() {
            return reply;
        }
        match mechanism.to_ascii_uppercase().as_str() {
            "XOAUTH2" => {
                self.expecting = Expecting::Token;
                words().challenge.into()
            }
            "LOGIN" if initial.is_some() => {
                self.expecting = Expecting::LoginPassword;
                "334 UGFzc3dvcmQ6".into()
            }
            "LOGIN" => {
                self.expecting = Expecting::LoginUser;
                "334 VXNlcm5hbWU6".into()
            }
            _ => self.authentication(words().auth_unknown).into(),
        }
    }

    /// Answers the credentials of XOAUTH2; `None`: they could not be understood.
    pub(super) fn sign_in(&mut self, credentials: Option<Credentials>) -> Text {
        match self.check(credentials.as_ref()) {
            Ok(mailbox) => {
                self.cloud.count(|statistics| statistics.auth_attempts += 1);
                let address = mailbox.address.clone();
                self.cloud.limits().enter(&self.cloud.options, &address, self.number);
                self.cloud.emit(|| Event::SignedIn { session: self.id.clone(), mailbox: address });
                self.mailbox = Some(mailbox);
                words().auth_ok.into()
            }
            Err(reason) => {
                let text = self.authentication(words().auth_failed);
                self.refuse_sign_in(credentials.map(|credentials| credentials.user), text, &reason)
            }
        }
    }

    /// The mailbox that is opened, or what the client is never told.
    fn check(&self, credentials: Option<&Credentials>) -> Result<Mailbox, String> {
        let credentials = credentials.ok_or("what was sent is no XOAUTH2")?;
        let ledger = self.cloud.ledger();
        let bearer = ledger.bearer(&credentials.token, self.cloud.now())?;
        let mailbox = self.cloud.options.mailbox(&credentials.user).ok_or("there is no such mailbox")?;
        let Bearer::Person(owner) = bearer else { return Ok(mailbox.clone()) };
        let options = &self.cloud.options;
        let has_shared = options.mailboxes.iter().any(|other| other.is_shared_with(owner));
        let may_open = if has_shared { options.shared_login.lets_in(owner, mailbox) } else { mailbox.is(owner) };
        if may_open { Ok(mailbox.clone()) } else { Err(format!("the token belongs to {owner}")) }
    }

    /// Refuses credentials, for a `reason` that the client does not hear.
    pub(super) fn refuse_sign_in(&mut self, user: Option<String>, reply: String, reason: &str) -> Text {
        self.cloud.count(|statistics| {
            statistics.auth_attempts += 1;
            statistics.auth_refused += 1;
        });
        let (session, reason) = (self.id.clone(), reason.to_owned());
        self.cloud.emit(|| Event::SignInRefused { session, user, reply: reply.clone(), reason });
        self.refused_with = Some(reply.clone());
        reply.into()
    }

    /// Fills in the host, the time and the session.
    pub(super) fn authentication(&self, text: &'static str) -> String {
        let time = self.cloud.now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        fill(text, &[("host", &self.cloud.host), ("time", &time), ("session", &self.id)]).into_owned()
    }
}
