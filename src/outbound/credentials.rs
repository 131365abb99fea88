//! How a session is logged in: with an access token, with a user name and a password, or not at all; and the lines of AUTH (RFC 4954) that
//! say so. They are wiped once they were sent.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::AttemptError;
use crate::config::{Account, PasswordLogin, Secret};
use crate::message::Address;
use crate::signin::SecretReader;

/// What a new session is logged in with.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// XOAUTH2 with this token.
    Token(Secret),
    /// A user name and a password. Read anew for each session, so that a replaced file counts at once.
    Password(PasswordSource),
    /// The server takes mail without a login.
    Nothing,
}

/// A password and who reads it.
#[derive(Clone)]
pub struct PasswordSource {
    login: PasswordLogin,
    secrets: SecretReader,
}

/// It says where the password is, never what it is.
impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PasswordSource").field(&self.login).finish()
    }
}

/// What is shown to the server.
#[derive(Debug)]
pub(super) enum Login {
    Token { user: Address, token: Secret },
    Password { user: String, password: Secret },
    Nothing,
}

impl Credentials {
    /// What an account has by itself, without a sign-in.
    pub(super) fn own(account: &Account, secrets: &SecretReader) -> Self {
        match &account.password {
            Some(login) => Self::Password(PasswordSource { login: login.clone(), secrets: secrets.clone() }),
            None => Self::Nothing,
        }
    }

    /// All that is needed for a login as `user`.
    pub(super) async fn read(&self, user: &Address) -> Result<Login, AttemptError> {
        match self {
            Self::Token(token) => Ok(Login::Token { user: user.clone(), token: token.clone() }),
            Self::Nothing => Ok(Login::Nothing),
            Self::Password(PasswordSource { login, secrets }) => {
                let (secrets, source) = (secrets.clone(), login.password.clone());
                let unreadable = |problem: String| AttemptError::Password { problem };
                let read = tokio::task::spawn_blocking(move || secrets(&source)).await;
                let read = read.map_err(|_panic| unreadable("reading it failed within the relay".to_owned()))?;
                let password = read.map_err(|error| unreadable(error.to_string()))?;
                Ok(Login::Password { user: login.user.clone(), password })
            }
        }
    }
}

/// The line with the token (<https://developers.google.com/gmail/imap/xoauth2-protocol>).
pub(super) fn xoauth2(user: &Address, token: &Secret) -> Zeroizing<Vec<u8>> {
    encoded("", &["user=", user.as_str(), "\x01auth=Bearer ", token.expose(), "\x01\x01"])
}

/// The command with user name and password (RFC 4616), in one line as every server takes it.
pub(super) fn plain(user: &str, password: &Secret) -> Zeroizing<Vec<u8>> {
    encoded("AUTH PLAIN ", &["\0", user, "\0", password.expose()])
}

/// An answer to one of the two questions of AUTH LOGIN, which is in no RFC.
pub(super) fn answer(text: &str) -> Zeroizing<Vec<u8>> {
    encoded("", &[text])
}

/// A line of the command and the parts in base64.
fn encoded(command: &str, parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    // With room for all of it from the start: a text that grows leaves copies behind.
    let mut plain = Zeroizing::new(String::with_capacity(length));
    for part in parts {
        plain.push_str(part);
    }
    let mut line = Zeroizing::new(String::with_capacity(command.len() + length.div_ceil(3) * 4 + 2));
    line.push_str(command);
    STANDARD.encode_string(plain.as_bytes(), &mut line);
    line.push_str("\r\n");
    Zeroizing::new(std::mem::take(&mut *line).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use std::sync::Arc;

    #[test]
    fn each_line_is_what_its_mechanism_wants() {
        let (user, secret) = (Address::parse("lms@contoso.com").unwrap(), Secret::new("TOKEN"));
        assert_eq!(*xoauth2(&user, &secret), *b"dXNlcj1sbXNAY29udG9zby5jb20BYXV0aD1CZWFyZXIgVE9LRU4BAQ==\r\n");
        // The example of RFC 4616 section 4.
        assert_eq!(*plain("tim", &Secret::new("tanstaaftanstaaf")), *b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
        assert_eq!(*answer("tim"), *b"dGlt\r\n");
    }

    #[tokio::test]
    async fn a_password_is_read_for_each_login_and_never_printed() {
        let login =
            PasswordLogin { user: "apikey".to_owned(), password: SecretSource::Literal(Secret::new("hunter2")) };
        let secrets: SecretReader = Arc::new(|source| source.read(&crate::config::Environment::default()));
        let credentials = Credentials::Password(PasswordSource { login, secrets });
        let read = credentials.read(&Address::parse("lms@contoso.com").unwrap()).await.unwrap();
        assert!(
            matches!(&read, Login::Password { user, password } if user == "apikey" && password.expose() == "hunter2")
        );
        assert!(!format!("{credentials:?} {read:?}").contains("hunter2"));
    }
}
