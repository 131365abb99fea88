//! One round of requests for tokens: with the next client secret if there is one, then with the current one, until one is taken. A secret
//! that is replaced so leaves no gap, whichever of the two works.
//!
//! What it learns of the secrets is kept as fingerprints (`secrets`); what it cannot keep or recall only costs a request.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{EndpointError, Tokens};
use super::credential::{Credential, CredentialError, Offer, credential};
use super::endpoint::{EndpointUnusable, SecretReader, TokenEndpoint};
use super::errors::{Advice, Meaning, advice, meaning};
use super::keeper::Failure;
use super::secrets::KnownSecrets;
use super::shelf::Shelf;
use crate::clock::Clock;
use crate::config::{Account, Grant, Provider, Secret};
use crate::store::Fact;

/// The secret is expired, or has no business there: time does not change that.
const NOT_FOR_NEWNESS: [u32; 3] = [7_000_222, 700_025, 7_000_218];
/// The secret is another one than Entra ID knows.
const WRONG_SECRET: [u32; 2] = [7_000_215, 70002];
/// How long is waited before a new secret is tried again.
const WHILE_NEW: Duration = Duration::from_mins(1);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// New tokens for this refresh token.
    Refresh(Secret),
    /// An access token of the registration's own.
    Application,
}

/// What a round works with.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) endpoint: Result<TokenEndpoint, EndpointUnusable>,
    pub(super) account: Arc<Account>,
    pub(super) secrets: SecretReader,
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) clock: Clock,
}

impl Round {
    /// Asks until there are tokens, or nothing is left to ask with.
    pub(super) async fn ask(self, want: Want) -> Result<Tokens, Failure> {
        // Not the endpoint's own answer, so it does not mark the sign-in dead.
        let endpoint = self.endpoint.as_ref().map_err(|error| Failure::passing(error.to_string()))?;
        let mut known = self.recall().await;
        let mut refused: Option<Failure> = None;
        for &offer in Offer::all(&self.account) {
            let credential = match self.credential(offer).await {
                Ok(credential) => credential,
                Err(error) => {
                    refused = Some(and_then(refused, Failure::passing(error.to_string())));
                    continue;
                }
            };
            if self.is_dropped(offer, &credential, &known) {
                continue;
            }
            self.note(&mut known, |known, account, now| match &credential {
                Credential::Secret(secret) => known.seen(account, offer, secret, now),
                Credential::None | Credential::Assertion(_) => None,
            })
            .await;
            let answer = match &want {
                Want::Refresh(refresh_token) => endpoint.refresh(refresh_token, &credential).await,
                Want::Application => endpoint.apply(&credential).await,
            };
            match answer {
                Ok(tokens) => {
                    self.it_works(offer, &credential, &mut known).await;
                    return Ok(tokens);
                }
                Err(error) => {
                    // The far side is in trouble: another secret would fare no better.
                    let is_passing = matches!(meaning(&error), Meaning::TryAgain | Meaning::Wait(_));
                    let failure = self.failure(&error, offer, &credential, &known);
                    refused = Some(and_then(refused.filter(|_| !is_passing), failure));
                    if is_passing {
                        break;
                    }
                }
            }
        }
        Err(refused.unwrap_or_else(|| Failure::passing("there is no client secret left to ask with".to_owned())))
    }

    fn has_next(&self) -> bool {
        self.account.next_client_secret.is_some()
    }

    async fn credential(&self, offer: Offer) -> Result<Credential, CredentialError> {
        credential(&self.secrets, &self.account, offer, self.clock.now()).await
    }

    /// The old secret, once there is another one and somebody said so.
    fn is_dropped(&self, offer: Offer, credential: &Credential, known: &KnownSecrets) -> bool {
        let Credential::Secret(secret) = credential else { return false };
        offer == Offer::Current && self.has_next() && known.is_dropped(secret)
    }

    async fn it_works(&self, offer: Offer, credential: &Credential, known: &mut KnownSecrets) {
        let (Offer::Next, Credential::Secret(secret)) = (offer, credential) else { return };
        let account = &self.account.mailbox;
        if known.worked(account, secret, self.clock.now()).is_some() {
            tracing::info!(%account, "next_client_secret works and is used from now on; `xoauth2-relay account drop-secret {account}` ends the old one");
        }
        self.note(known, |known, account, now| known.worked(account, secret, now)).await;
    }

    fn failure(&self, error: &EndpointError, offer: Offer, credential: &Credential, known: &KnownSecrets) -> Failure {
        let mut failure = Failure::of(error, &self.account).with(credential, &self.account);
        let EndpointError::Answer(answer) = error else { return failure };
        if self.account.grant == Grant::Application {
            failure = without_person(failure, &self.account);
        }
        if answer.error != "invalid_client" {
            return failure;
        }
        if failure.advice.sentence == SECRET_ID {
            // No time makes an id a secret.
        } else if let Credential::Secret(secret) = credential
            && known.is_new(offer, secret, self.clock.now())
            && !answer.codes.iter().any(|code| NOT_FOR_NEWNESS.contains(code))
        {
            failure.meaning = Meaning::Wait(WHILE_NEW);
            failure.error = format!("the client secret is new and perhaps not known everywhere yet: {}", failure.error);
        }
        if self.has_next() {
            let key = if offer == Offer::Next { "next_client_secret" } else { "client_secret" };
            failure.error = format!("{key}: {}", failure.error);
        }
        failure
    }

    /// What is known of the secrets. Without any there is nothing to know.
    async fn recall(&self) -> KnownSecrets {
        if self.account.client_secret.is_none() {
            return KnownSecrets::default();
        }
        let facts = self.shelf.facts(&self.account.mailbox).await.unwrap_or_else(|error| {
            tracing::debug!(account = %self.account.mailbox, %error, "cannot recall what is known of the secrets");
            Vec::new()
        });
        KnownSecrets::of(facts)
    }

    async fn note(
        &self,
        known: &mut KnownSecrets,
        news: impl FnOnce(&KnownSecrets, &crate::message::Address, jiff::Timestamp) -> Option<Fact>,
    ) {
        let Some(fact) = news(known, &self.account.mailbox, self.clock.now()) else { return };
        known.learn(fact.clone());
        if let Err(error) = self.shelf.learn(fact).await {
            tracing::debug!(account = %self.account.mailbox, %error, "cannot remember what was learnt of a secret");
        }
    }
}

const SECRET_ID: &str = "The client secret has the form of a Secret ID: paste the secret's Value instead; it is only shown when the secret \
    is made, so make a new one if it is gone";
const FIX: &str = "The app registration, the tenant or this configuration refuses it: correct what the message names, then release the account";

/// Both failures of a round as one: what the current secret was told, with that of the next one in front. It passes if one of them does.
fn and_then(first: Option<Failure>, second: Failure) -> Failure {
    let Some(first) = first else { return second };
    let mut codes = first.codes;
    codes.extend(second.codes);
    codes.sort_unstable();
    codes.dedup();
    let passes = |meaning| matches!(meaning, Meaning::TryAgain | Meaning::Wait(_));
    let meaning = if passes(first.meaning) { first.meaning } else { second.meaning };
    let error = if first.error == second.error { second.error } else { format!("{}; {}", first.error, second.error) };
    Failure { meaning, error, codes, advice: second.advice }
}

/// For an account to which nobody signs in: whatever the table advises, signing in is no remedy.
pub(super) fn without_person(failure: Failure, account: &Account) -> Failure {
    let Failure { meaning, error, codes, advice: Advice { sentence, command } } = failure;
    let meaning = if meaning == Meaning::SignInAgain { Meaning::FixConfiguration } else { meaning };
    let sentence = if sentence.to_ascii_lowercase().contains("sign in") { FIX.to_owned() } else { sentence };
    let command = if command.contains(" login ") {
        format!("xoauth2-relay account release {}", account.mailbox)
    } else {
        command
    };
    Failure { meaning, error, codes, advice: Advice { sentence, command } }
}

impl Failure {
    /// What an answer of the endpoint, or the lack of one, means for this account.
    pub(super) fn of(error: &EndpointError, account: &Account) -> Self {
        let (text, codes) = match error {
            EndpointError::Answer(answer) if !answer.description.is_empty() => {
                (answer.description.clone(), answer.codes.clone())
            }
            EndpointError::Answer(answer) => (answer.error.clone(), answer.codes.clone()),
            other => (other.to_string(), Vec::new()),
        };
        Self { meaning: meaning(error), error: text, codes, advice: advice(error, &account.mailbox) }
    }

    /// The same, said of a credential that was refused.
    pub(super) fn with(mut self, credential: &Credential, account: &Account) -> Self {
        let is_refused = self.codes.iter().any(|code| WRONG_SECRET.contains(code));
        if is_refused && account.provider == Provider::Microsoft && credential.is_secret_id() {
            self.advice.sentence = SECRET_ID.to_owned();
        }
        self
    }
}
