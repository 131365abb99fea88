//! Why an attempt ended before any recipient had an answer.

use std::io;

use super::verdict::{Step, Verdict};
use crate::config::HostPort;
use crate::smtp::Reply;

/// Why an attempt ended before any recipient had an answer. Nothing was accepted: the whole message may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The login was refused for good: the account is held, and the message loses none of its tries.
    #[error("{host} refused the login of {user}: {reply}{}", meaning(verdict))]
    Login {
        /// The server.
        host: HostPort,
        /// As whom it was.
        user: String,
        /// Word for word.
        reply: Reply,
        /// What it means.
        verdict: Box<Verdict>,
    },
    /// The password cannot be read, so nobody was asked. Passes once it can be.
    #[error("the password cannot be read: {problem}")]
    Password {
        /// Where it was looked for, and what was found.
        problem: String,
    },
    /// Another reply that ends the connection: to the greeting, EHLO or STARTTLS, or a login that may work later.
    #[error("{host} refused {step}: {reply}{}", meaning(verdict))]
    Refused {
        /// The server.
        host: HostPort,
        /// What was answered.
        step: Step,
        /// Word for word.
        reply: Reply,
        /// What it means.
        verdict: Box<Verdict>,
    },
    /// The name does not resolve, or no address answers.
    #[error("could not connect to {host}: {source}")]
    Unreachable {
        /// The server.
        host: HostPort,
        /// Of the last address tried.
        #[source]
        source: io::Error,
    },
    /// The connection was lost, or nothing came within the time allowed. The message's final dot had not left.
    #[error("lost the connection to {host} while {doing}: {source}")]
    Network {
        /// The server.
        host: HostPort,
        /// What was being done.
        doing: &'static str,
        /// How it was noticed.
        #[source]
        source: io::Error,
    },
    /// The connection cannot be protected; nothing secret was sent.
    #[error("no protected connection to {host}: {problem}")]
    Tls {
        /// The server.
        host: HostPort,
        /// What is wrong, and what helps.
        problem: String,
    },
    /// The server does not speak as it has to; the connection was ended.
    #[error("{host} does not speak SMTP as expected: {problem}")]
    Protocol {
        /// The server.
        host: HostPort,
        /// What it did.
        problem: String,
    },
    /// The stored body cannot be read. Nothing is wrong with the server or the account. `NotFound` and `UnexpectedEof` will not
    /// pass: the file is gone, or shorter than what was accepted. Half a message is never sent.
    #[error("could not read the stored message: {source}")]
    Body {
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl AttemptError {
    /// What the server's reply means, if it was one that ended the attempt.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Login { verdict, .. } | Self::Refused { verdict, .. } => Some(Verdict::clone(verdict)),
            _ => None,
        }
    }

    /// The server's reply, if it was one that ended the attempt.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Login { reply, .. } | Self::Refused { reply, .. } => Some(reply),
            _ => None,
        }
    }
}

/// Behind the reply: what it means.
fn meaning(verdict: &Verdict) -> String {
    verdict.meaning().map(|meaning| format!(" ({meaning})")).unwrap_or_default()
}
