//! One round of requests for tokens: with the next client secret if there is one, then with the current one, until one is taken. A secret
//! that is replaced so leaves no gap, whichever of the two works.
//!
//! What it learns of the secrets is kept as fingerprints (`secrets`); what it cannot keep or recall only costs a request.

use std::sync::Arc;

use jiff::Timestamp;

use super::answer::{EndpointError, Tokens};
use super::credential::{Credential, CredentialError, Offer, credential};
use super::endpoint::{EndpointUnusable, SecretReader, TokenEndpoint};
use super::errors::{Advice, Circumstances, Flow, Meaning, judge};
use super::keeper::Failure;
use super::observer::{Asking, Observer};
use super::secrets::KnownSecrets;
use super::shelf::Shelf;
use crate::clock::Clock;
use crate::config::{Account, Grant, Provider, Secret};
use crate::message::Address;
use crate::store::Fact;

/// The secret is another one than Entra ID knows.
const WRONG_SECRET: [u32; 2] = [7_000_215, 70002];

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// New tokens for this refresh token.
    Refresh(Secret),
    /// An access token of the registration's own.
    Application,
}

impl Want {
    fn flow(&self) -> Flow {
        match self {
            Self::Refresh(_) => Flow::RefreshToken,
            Self::Application => Flow::ClientCredentials,
        }
    }
}

/// What a round works with.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) endpoint: Result<TokenEndpoint, EndpointUnusable>,
    pub(super) account: Arc<Account>,
    pub(super) secrets: SecretReader,
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) observer: Arc<Observer>,
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
            self.note(&mut known, |known, account, now| known.seen(account, offer, &credential.lasting()?, now)).await;
            let asking = Asking::now(want.flow(), self.clock.now());
            let answer = match &want {
                Want::Refresh(refresh_token) => endpoint.refresh(refresh_token, &credential).await,
                Want::Application => endpoint.apply(&credential).await,
            };
            let now = self.clock.now();
            let circumstances = Circumstances {
                secret_age: known.age(offer, &credential, now),
                ..self.observer.answered(asking, &answer, &self.account, now)
            };
            match answer {
                Ok(tokens) => {
                    self.it_works(offer, &credential, &mut known).await;
                    return Ok(tokens);
                }
                Err(error) => {
                    // That this secret is new is no trouble of the far side's.
                    let of_any_age = Circumstances { secret_age: None, ..circumstances };
                    let meaning = judge(&error, &of_any_age).meaning;
                    let is_passing = matches!(meaning, Meaning::TryAgain | Meaning::Wait(_));
                    let failure = self.failure(&error, offer, &credential, &circumstances);
                    refused = Some(and_then(refused.filter(|_| !is_passing), failure));
                    // Another secret would fare no better: the far side is in trouble, or has taken this one and refused the sign-in.
                    if is_passing || meaning == Meaning::SignInAgain {
                        break;
                    }
                    if offer == Offer::Next {
                        tracing::info!(account = %self.account.mailbox, %error, "next_client_secret does not work yet");
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

    fn failure(
        &self,
        error: &EndpointError,
        offer: Offer,
        credential: &Credential,
        circumstances: &Circumstances,
    ) -> Failure {
        let mut failure = Failure::of(error, &self.account, circumstances).with(credential, &self.account);
        let EndpointError::Answer(answer) = error else { return failure };
        if self.account.grant == Grant::Application {
            failure = without_person(failure, &self.account);
        }
        if answer.error != "invalid_client" {
            return failure;
        }
        if self.has_next() {
            let key = if offer == Offer::Next { "next_client_secret" } else { "client_secret" };
            failure.error = format!("{key}: {}", failure.error);
        }
        failure
    }

    /// What is known of the secrets. Without any there is nothing to know.
    async fn recall(&self) -> KnownSecrets {
        let Account { client_secret, certificate, federated_token, .. } = &*self.account;
        if client_secret.is_none() && certificate.is_none() && federated_token.is_none() {
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
        news: impl FnOnce(&KnownSecrets, &Address, Timestamp) -> Option<Fact>,
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
const FIX: &str = "The app registration, the tenant or this configuration refuses it: correct what the message names";

/// Both failures of a round as one: what the current secret was told, with that of the next one in front. It passes if the current one's
/// does, or if the next one has to be waited for. That the next one cannot be read makes no refusal of the current one pass, and no secret
/// brings a dead sign-in back.
fn and_then(first: Option<Failure>, second: Failure) -> Failure {
    let Some(first) = first else { return second };
    let mut codes = first.codes;
    codes.extend(second.codes);
    codes.sort_unstable();
    codes.dedup();
    let meaning = match (first.meaning, second.meaning) {
        (wait @ Meaning::Wait(_), Meaning::FixConfiguration) => wait,
        (_, of_current) => of_current,
    };
    let advice = if first.advice.sentence == SECRET_ID { first.advice } else { second.advice };
    let error = if first.error == second.error { second.error } else { format!("{}; {}", first.error, second.error) };
    Failure { meaning, error, codes, advice }
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
    pub(super) fn of(error: &EndpointError, account: &Account, circumstances: &Circumstances) -> Self {
        let (text, codes) = match error {
            EndpointError::Answer(answer) if !answer.description.is_empty() => {
                (answer.description.clone(), answer.codes.clone())
            }
            EndpointError::Answer(answer) => (answer.error.clone(), answer.codes.clone()),
            other => (other.to_string(), Vec::new()),
        };
        let judgement = judge(error, circumstances);
        Self { meaning: judgement.meaning, error: text, codes, advice: judgement.advice(account) }
    }

    /// The same, said of a credential that was refused. No time makes an id a secret.
    pub(super) fn with(mut self, credential: &Credential, account: &Account) -> Self {
        let is_refused = self.codes.iter().any(|code| WRONG_SECRET.contains(code));
        if is_refused && account.provider == Provider::Microsoft && credential.is_secret_id() {
            self.meaning = Meaning::FixConfiguration;
            self.advice = Advice {
                sentence: SECRET_ID.to_owned(),
                command: format!("xoauth2-relay account release {}", account.mailbox),
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SecretSource;
    use crate::signin::MemoryShelf;
    use crate::signin::endpoint::Timeouts;
    use crate::signin::scripted::{Answer, Scripted, literals};

    /// Rounds of one account at a scripted endpoint.
    struct Bench {
        scripted: Scripted,
        round: Round,
    }

    impl Bench {
        async fn with(secret: &str, next: Option<&str>) -> Self {
            let scripted = Scripted::start().await;
            let mut account = scripted.account("lms@contoso.com");
            account.client_secret = Some(SecretSource::Literal(Secret::new(secret)));
            account.next_client_secret = next.map(|next| SecretSource::Literal(Secret::new(next)));
            account.grant = Grant::Application;
            let round = Round {
                endpoint: TokenEndpoint::new(&account, Timeouts::default()),
                account: Arc::new(account),
                secrets: literals(),
                shelf: Arc::new(MemoryShelf::default()),
                observer: Arc::default(),
                clock: Clock::manual(Timestamp::from_second(1_800_000_000).unwrap()),
            };
            Self { scripted, round }
        }

        /// Asks once, after these refusals; the secrets it asked with, and what came of it.
        async fn ask(&self, refusals: &[(&str, u32)]) -> (Vec<String>, Result<Tokens, Failure>) {
            self.ask_for(Want::Application, refusals).await
        }

        async fn ask_for(&self, want: Want, refusals: &[(&str, u32)]) -> (Vec<String>, Result<Tokens, Failure>) {
            for (error, code) in refusals {
                self.scripted.then(Answer::refusal(error, *code));
            }
            let before = self.scripted.asked().len();
            let outcome = self.round.clone().ask(want).await;
            let asked = self.scripted.asked().split_off(before);
            (asked.iter().map(|form| form["client_secret"].clone()).collect(), outcome)
        }

        fn account(&mut self) -> &mut Account {
            Arc::make_mut(&mut self.round.account)
        }
    }

    const WRONG: (&str, u32) = ("invalid_client", 7_000_215);
    const EXPIRED: (&str, u32) = ("invalid_client", 7_000_222);

    #[tokio::test]
    async fn the_old_secret_carries_on_until_the_next_one_works() {
        let bench = Bench::with("old", Some("next")).await;
        let (asked, outcome) = bench.ask(&[WRONG]).await;
        assert_eq!((asked, outcome.is_ok()), (vec!["next".to_owned(), "old".to_owned()], true), "in the same round");
        let (asked, outcome) = bench.ask(&[]).await;
        assert_eq!((asked, outcome.is_ok()), (vec!["next".to_owned()], true), "as soon as it works");
        let facts = bench.round.shelf.facts(&bench.round.account.mailbox).await.unwrap();
        assert!(KnownSecrets::of(facts.clone()).has_worked(&Secret::new("next")));
        assert!(!format!("{facts:?}").contains("\"next\""));
        let (asked, outcome) = bench.ask(&[EXPIRED]).await;
        assert_eq!((asked.len(), outcome.is_ok()), (2, true), "whichever of the two works");
    }

    #[tokio::test]
    async fn a_dropped_secret_is_never_sent_again() {
        let bench = Bench::with("old", Some("next")).await;
        let account = bench.round.account.mailbox.clone();
        let dropped = KnownSecrets::drop_it(&account, &Secret::new("old"), bench.round.clock.now());
        bench.round.shelf.learn(dropped).await.unwrap();
        let (asked, outcome) = bench.ask(&[EXPIRED]).await;
        assert_eq!(asked, ["next"]);
        let failure = outcome.unwrap_err();
        assert_eq!((failure.meaning, failure.codes.as_slice()), (Meaning::FixConfiguration, &[7_000_222][..]));
    }

    #[tokio::test]
    async fn both_refused_says_both_and_waits_while_one_of_them_is_new() {
        let bench = Bench::with("old", Some("next")).await;
        let (_, outcome) = bench.ask(&[WRONG, EXPIRED]).await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.meaning, Meaning::Wait(Duration::from_mins(1)));
        assert_eq!(failure.codes, [7_000_215, 7_000_222]);
        let parts: Vec<&str> = failure.error.split("; ").collect();
        assert!(parts[0].starts_with("next_client_secret: AADSTS7000215"), "{parts:?}");
        assert!(parts[1].starts_with("client_secret: AADSTS7000222"), "{parts:?}");
        bench.round.clock.advance(Duration::from_mins(15));
        let failure = bench.ask(&[WRONG, EXPIRED]).await.1.unwrap_err();
        assert_eq!(failure.meaning, Meaning::FixConfiguration);
        assert!(failure.advice.sentence.contains("expired"), "{}", failure.advice);
    }

    #[tokio::test]
    async fn a_refused_sign_in_is_blamed_on_neither_secret() {
        for (refusals, secrets) in
            [(&[("invalid_grant", 50173)][..], &["next"][..]), (&[WRONG, ("invalid_grant", 50173)], &["next", "old"])]
        {
            let mut bench = Bench::with("old", Some("next")).await;
            bench.account().grant = Grant::Delegated;
            let (asked, outcome) = bench.ask_for(Want::Refresh(Secret::new("refresh-0")), refusals).await;
            assert_eq!(asked, secrets);
            let failure = outcome.unwrap_err();
            assert_eq!(failure.meaning, Meaning::SignInAgain, "{failure:?}");
            assert!(failure.advice.command.contains(" login "), "{}", failure.advice);
        }
    }

    #[tokio::test]
    async fn a_new_secret_alone_is_given_time_but_an_expired_one_is_not() {
        let bench = Bench::with("new", None).await;
        assert_eq!(bench.ask(&[WRONG]).await.1.unwrap_err().meaning, Meaning::Wait(Duration::from_mins(1)));
        assert_eq!(bench.ask(&[EXPIRED]).await.1.unwrap_err().meaning, Meaning::FixConfiguration);
        bench.round.clock.advance(Duration::from_mins(15));
        let failure = bench.ask(&[WRONG]).await.1.unwrap_err();
        assert_eq!(
            (failure.meaning, failure.error.as_str()),
            (Meaning::FixConfiguration, "AADSTS7000215: no.\r\nTrace ID: t")
        );
    }

    #[tokio::test]
    async fn the_id_of_a_secret_is_named_and_given_no_time() {
        let mut bench = Bench::with("00000000-1111-2222-3333-444444444444", None).await;
        let failure = bench.ask(&[WRONG]).await.1.unwrap_err();
        assert_eq!(failure.meaning, Meaning::FixConfiguration);
        assert!(failure.advice.sentence.contains("paste the secret's Value"), "{}", failure.advice);
        bench.account().provider = Provider::Custom;
        let failure = bench.ask(&[WRONG]).await.1.unwrap_err();
        assert!(!failure.advice.sentence.contains("has the form of a Secret ID"), "{}", failure.advice);
    }

    #[tokio::test]
    async fn trouble_is_not_asked_twice_and_a_secret_that_cannot_be_read_is_passed_over() {
        let mut bench = Bench::with("old", Some("next")).await;
        bench.scripted.then(Answer::Text(503, &[], String::new()));
        let (asked, outcome) = bench.ask(&[]).await;
        assert_eq!((asked.len(), outcome.unwrap_err().meaning), (1, Meaning::TryAgain));
        bench.account().next_client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        let (asked, outcome) = bench.ask(&[]).await;
        assert_eq!((asked, outcome.is_ok()), (vec!["old".to_owned()], true));
        let failure = bench.ask(&[EXPIRED]).await.1.unwrap_err();
        assert_eq!(failure.meaning, Meaning::FixConfiguration, "an expired secret is expired");
        bench.account().client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        let (asked, outcome) = bench.ask(&[]).await;
        let failure = outcome.unwrap_err();
        assert_eq!((asked.len(), failure.meaning), (0, Meaning::TryAgain));
        assert!(failure.error.contains("cannot read next_client_secret"), "{}", failure.error);
    }

    #[tokio::test]
    async fn nobody_is_told_to_sign_in_where_nobody_does() {
        let bench = Bench::with("secret", None).await;
        for (error, code) in [("invalid_grant", 4_242_424), ("invalid_grant", 65001), ("interaction_required", 50076)] {
            let failure = bench.ask(&[(error, code)]).await.1.unwrap_err();
            assert_eq!(failure.meaning, Meaning::FixConfiguration, "{code}");
            let advice = failure.advice.to_string();
            assert!(!advice.to_lowercase().contains("sign in"), "{advice}");
            assert_eq!(failure.advice.command, "xoauth2-relay account release lms@contoso.com");
        }
    }
}
