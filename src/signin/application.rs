//! Trying an account of the application grant without a running relay: what `login` does where nobody has to sign in.

use super::credential::{Credential, Offer};
use super::endpoint::TokenEndpoint;
use super::errors::{Advice, Flow, Meaning, judge};
use super::keeper::Failure;
use super::login::{Asked, LoginError, LoginTools};
use super::round::without_person;
use crate::config::Account;

/// Asks once for an access token of the registration's own, and keeps nothing of it.
///
/// # Errors
/// As [`LoginError`] says; with the refusal of the secret that was asked with last.
pub async fn try_application(account: &Account, tools: &LoginTools) -> Result<(), LoginError> {
    let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
    let endpoint = &endpoint;
    let ask = |proof: Credential| async move { endpoint.apply(&proof).await };
    let Asked { credential, answer, .. } = tools.ask(account, Offer::first(account), ask).await?;
    let Err(error) = answer else { return Ok(()) };
    let circumstances = Flow::ClientCredentials.into();
    if let Meaning::TryAgain | Meaning::Wait(_) = judge(&error, &circumstances).meaning {
        return Err(LoginError::Unreachable(error));
    }
    let failure = without_person(Failure::of(&error, account, &circumstances), account).with(&credential, account);
    let advice = Advice { command: format!("xoauth2-relay login {}", account.mailbox), ..failure.advice };
    Err(LoginError::Refused { error, advice })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{Grant, Secret, SecretSource};
    use crate::signin::scripted::{Answer, Scripted, tools};

    #[tokio::test]
    async fn an_application_is_tried_with_each_secret_and_says_what_is_wrong() {
        let scripted = Scripted::start().await;
        let tools = tools(&Clock::system());
        let mut account = scripted.account("lms@contoso.com");
        account.grant = Grant::Application;
        account.client_secret = Some(SecretSource::Literal(Secret::new("old~secret")));
        try_application(&account, &tools).await.unwrap();
        assert_eq!(scripted.asked()[0]["grant_type"], "client_credentials");

        account.next_client_secret = Some(SecretSource::Literal(Secret::new("new~secret")));
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
        try_application(&account, &tools).await.unwrap();
        let asked: Vec<_> = scripted.asked().iter().map(|form| form["client_secret"].clone()).collect();
        assert_eq!(asked, ["old~secret", "new~secret", "old~secret"]);

        scripted.then(Answer::refusal("invalid_client", 7_000_215)).then(Answer::refusal("invalid_client", 7_000_222));
        let text = try_application(&account, &tools).await.unwrap_err().to_string();
        assert!(text.contains("AADSTS7000222") && text.contains("has expired"), "{text}");
        scripted.then(Answer::Text(503, &[], String::new()));
        assert!(matches!(try_application(&account, &tools).await, Err(LoginError::Unreachable(_))));

        account.next_client_secret = None;
        account.client_secret = Some(SecretSource::Literal(Secret::new("00000000-1111-2222-3333-444444444444")));
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
        let text = try_application(&account, &tools).await.unwrap_err().to_string();
        assert!(text.contains("has the form of a Secret ID"), "{text}");
        assert!(text.ends_with("xoauth2-relay login lms@contoso.com"), "{text}");
        scripted.then(Answer::refusal("invalid_grant", 50013));
        let text = try_application(&account, &tools).await.unwrap_err().to_string();
        assert!(!text.contains("sign in again"), "{text}");
        account.client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        assert!(matches!(try_application(&account, &tools).await, Err(LoginError::Credential(_))));
    }
}
