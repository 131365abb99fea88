//! What happened, for whoever watches: a line for a person, a value for a test. Tokens, secrets and bodies are in none.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use jiff::Timestamp;

/// A message that Exchange took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When the final dot was answered.
    pub at: Timestamp,
    /// Who was signed in.
    pub mailbox: String,
    /// MAIL FROM without its brackets; empty for `<>`.
    pub mail_from: String,
    /// What stood behind the address in MAIL: `SIZE=1000 BODY=8BITMIME`.
    pub mail_params: String,
    /// Every recipient accepted, without brackets, in the order of RCPT.
    pub recipients: Vec<String>,
    /// What stood behind each recipient's address: `NOTIFY=NEVER`; one for each of `recipients`.
    pub recipient_params: Vec<String>,
    /// What came, dots unstuffed, nothing else touched.
    pub bytes: Bytes,
    /// The session it came in, as in the greeting.
    pub session: String,
    /// The reply to the final dot. With a fault that keeps the message and drops the connection, the one never sent.
    pub reply: String,
    /// The refusal that comes back to the mailbox as a mail, where a fault said so.
    pub notice: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client connected to Exchange.
    Connected {
        /// The session.
        session: String,
        /// The client.
        peer: SocketAddr,
    },
    /// An SMTP session is over.
    Disconnected {
        /// The session.
        session: String,
    },
    /// The TLS handshake failed.
    TlsFailed {
        /// The session.
        session: String,
        /// What rustls said.
        error: String,
    },
    /// AUTH was accepted.
    SignedIn {
        /// The session.
        session: String,
        /// Who.
        mailbox: String,
    },
    /// AUTH was refused.
    SignInRefused {
        /// The session.
        session: String,
        /// `user=`, where one could be read.
        user: Option<String>,
        /// What the client was told.
        reply: String,
        /// What it was not told.
        reason: String,
    },
    /// MAIL was refused.
    SenderRefused {
        /// The session.
        session: String,
        /// The address, or the whole argument where none could be read.
        sender: String,
        /// The reply.
        reply: String,
    },
    /// A RCPT was refused.
    RecipientRefused {
        /// The session.
        session: String,
        /// The address, or the whole argument where none could be read.
        recipient: String,
        /// The reply.
        reply: String,
    },
    /// A message was refused at DATA or behind the final dot.
    MessageRefused {
        /// The session.
        session: String,
        /// Who was signed in.
        mailbox: String,
        /// MAIL FROM.
        mail_from: String,
        /// Its accepted recipients.
        recipients: Vec<String>,
        /// The reply.
        reply: String,
    },
    /// A message was accepted.
    MessageAccepted {
        /// The session.
        session: String,
        /// Who was signed in.
        mailbox: String,
        /// MAIL FROM.
        mail_from: String,
        /// Its recipients.
        recipients: Vec<String>,
        /// How long it was, in octets.
        size: usize,
        /// The reply.
        reply: String,
        /// The refusal that comes back to the mailbox as a mail.
        notice: Option<String>,
    },
    /// A fault closed the connection, or let it wait for ever.
    Broken {
        /// The session, or `entra id`.
        session: String,
        /// Where.
        phase: &'static str,
    },
    /// A device code was handed out.
    CodeIssued {
        /// What a person types in.
        user_code: String,
        /// Where.
        page: String,
    },
    /// A person typed it in and agreed.
    CodeApproved {
        /// The code.
        user_code: String,
        /// Who.
        mailbox: String,
    },
    /// A person typed it in and said no.
    CodeDenied {
        /// The code.
        user_code: String,
    },
    /// A person signed in with a browser and agreed.
    Consented {
        /// Who.
        mailbox: String,
    },
    /// A person signed in with a browser and said no.
    ConsentDenied {
        /// Who.
        mailbox: String,
    },
    /// Tokens were issued.
    TokenIssued {
        /// `authorization_code`, `device_code` or `refresh_token`.
        grant: String,
        /// For whom.
        mailbox: String,
    },
    /// A token or a device code was refused.
    TokenRefused {
        /// `device_code`, `refresh_token`, `devicecode` (asking for a code), `authorize` (in a browser), or what was asked for.
        grant: String,
        /// The OAuth error, or the HTTP status.
        error: String,
        /// The AADSTS number; 0: none.
        aadsts: u32,
    },
}

/// One line for a person.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { session, peer } => write!(f, "{session}: {peer} connected"),
            Self::Disconnected { session } => write!(f, "{session}: closed"),
            Self::TlsFailed { session, error } => write!(f, "{session}: TLS failed: {error}"),
            Self::SignedIn { session, mailbox } => write!(f, "{session}: {mailbox} signed in"),
            Self::SignInRefused { session, user, reply, reason } => {
                let user = user.as_deref().unwrap_or("nobody");
                write!(f, "{session}: {user} was not let in ({reason}): {reply}")
            }
            Self::SenderRefused { session, sender, reply } => write!(f, "{session}: sender {sender} refused: {reply}"),
            Self::RecipientRefused { session, recipient, reply } => {
                write!(f, "{session}: recipient {recipient} refused: {reply}")
            }
            Self::MessageRefused { session, mail_from, recipients, reply, .. } => {
                write!(f, "{session}: mail from <{mail_from}> to {} refused: {reply}", recipients.join(", "))
            }
            Self::MessageAccepted { session, mail_from, recipients, size, notice, .. } => {
                write!(f, "{session}: mail from <{mail_from}> to {} accepted, {size} octets", recipients.join(", "))?;
                notice.as_ref().map_or(Ok(()), |notice| write!(f, "; a notice follows: {notice}"))
            }
            Self::Broken { session, phase } => write!(f, "{session}: a fault struck at {phase}"),
            Self::CodeIssued { user_code, page } => write!(f, "entra id: code {user_code} to be typed in at {page}"),
            Self::CodeApproved { user_code, mailbox } => write!(f, "entra id: code {user_code} approved by {mailbox}"),
            Self::CodeDenied { user_code } => write!(f, "entra id: code {user_code} denied"),
            Self::Consented { mailbox } => write!(f, "entra id: {mailbox} agreed in the browser"),
            Self::ConsentDenied { mailbox } => write!(f, "entra id: {mailbox} said no in the browser"),
            Self::TokenIssued { grant, mailbox } => write!(f, "entra id: tokens for {mailbox} ({grant})"),
            Self::TokenRefused { grant, error, aadsts: 0 } => write!(f, "entra id: {grant} refused: {error}"),
            Self::TokenRefused { grant, error, aadsts } => {
                write!(f, "entra id: {grant} refused: {error}, AADSTS{aadsts}")
            }
        }
    }
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// SMTP connections opened.
    pub connections: u64,
    /// SMTP connections open now.
    pub open: u64,
    /// The most that were open at once.
    pub most_open: u64,
    /// Credentials shown by AUTH.
    pub auth_attempts: u64,
    /// Of these, refused.
    pub auth_refused: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages refused at DATA or behind the final dot.
    pub refused: u64,
    /// Of these, with a `432`: the client went too fast, or had too many sessions.
    pub throttled: u64,
    /// Recipients accepted in accepted messages.
    pub recipients: u64,
    /// Requests to the token endpoint by grant, refused ones too.
    pub token_requests: BTreeMap<String, u64>,
    /// Device codes handed out.
    pub device_codes: u64,
    /// SMTP commands by verb; `other` for unknown ones.
    pub commands: BTreeMap<&'static str, u64>,
}
