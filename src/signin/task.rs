//! Carries out what a keeper decides: asks the endpoint, commits to the shelf, publishes, tells. Decides nothing itself.
//!
//! Everything of one account happens here one after the other, but for the requests to the endpoint: so a new sign-in cannot be
//! overwritten by the write of an old one, and 200 callers cause one request.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::credential::{CredentialFiles, files_of};
use super::endpoint::{EndpointUnusable, SecretReader, Timeouts, TokenEndpoint};
use super::keeper::{Action, Event, Keeper};
use super::observer::Observer;
use super::round::{Round, Want};
use super::shelf::{Shelf, ShelfError, StoredSignIn};
use super::status::{HoldView, Problem, Published, Why};
use super::timing::later;
use super::{SignInEvent, SignInParts};
use crate::clock::Clock;
use crate::config::{Account, Grant, Provider};
use crate::store::HoldCause;

/// A keeper looks at the wall clock at least this often, so that suspends and jumps are noticed.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// How long a stop waits for a refresh under way: its answer may hold the only good token. Less than the relay gives all of its work.
const GRACE: Duration = Duration::from_secs(10);

/// What others want of a keeper.
pub(super) enum Command {
    /// Try now; answers with the number of the request to wait for, if one is made.
    Ask(oneshot::Sender<Option<u64>>),
    /// Commit this sign-in and use it.
    Adopt(Box<StoredSignIn>, oneshot::Sender<Result<(), ShelfError>>),
    /// The account's configuration from now on.
    Account(Arc<Account>),
}

/// One account's keeper with its hands.
pub(super) struct KeeperTask {
    account: Arc<Account>,
    endpoint: Result<TokenEndpoint, EndpointUnusable>,
    keeper: Keeper,
    observer: Arc<Observer>,
    timeouts: Timeouts,
    secrets: SecretReader,
    shelf: Arc<dyn Shelf>,
    clock: Clock,
    events: mpsc::UnboundedSender<SignInEvent>,
    publish: watch::Sender<Published>,
    hears: Option<Hears>,
    jobs: JoinSet<Event>,
    wake_at: Option<Timestamp>,
    /// The files that were read for the last request.
    asked_with: Option<CredentialFiles>,
    stop: CancellationToken,
    after: Option<JoinHandle<()>>,
}

struct Hears {
    commands: mpsc::Receiver<Command>,
    rejections: watch::Receiver<u64>,
    nudge: Arc<Notify>,
}

impl KeeperTask {
    pub(super) fn new(parts: &SignInParts, account: Arc<Account>, publish: watch::Sender<Published>) -> Self {
        let mut keeper = Keeper::new(account.mailbox.clone(), rand::random()).granted_by(account.grant);
        keeper.expect_refresh_life(refresh_life(&account));
        Self {
            endpoint: TokenEndpoint::new(&account, parts.timeouts),
            keeper,
            observer: Arc::default(),
            account,
            timeouts: parts.timeouts,
            secrets: Arc::clone(&parts.secrets),
            shelf: Arc::clone(&parts.shelf),
            clock: parts.clock.clone(),
            events: parts.events.clone(),
            publish,
            hears: None,
            jobs: JoinSet::new(),
            wake_at: None,
            asked_with: None,
            stop: parts.stop.clone(),
            after: None,
        }
    }

    pub(super) fn hearing(
        self,
        commands: mpsc::Receiver<Command>,
        rejections: watch::Receiver<u64>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self { hears: Some(Hears { commands, rejections, nudge }), ..self }
    }

    pub(super) fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// An earlier keeper of the same account must have ended first.
    pub(super) fn after(self, earlier: Option<JoinHandle<()>>) -> Self {
        Self { after: earlier, ..self }
    }

    /// Runs until stopped. A panic does not go unnoticed.
    pub(super) async fn run_watched(self) {
        let (account, events) = (self.account.mailbox.clone(), self.events.clone());
        if AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            tracing::error!(%account, "the keeper of this sign-in has panicked: this is a bug");
            // Nobody listening means that the relay is ending anyway.
            let _ = events.send(SignInEvent::Broken { account });
        }
    }

    async fn run(mut self) {
        if let Some(earlier) = self.after.take() {
            // However it ended, it has ended.
            let _ = earlier.await;
        }
        let Some(mut hears) = self.hears.take() else { return };
        self.feed(Event::Started).await;
        loop {
            let look_again = later(self.clock.now(), LOOK_AGAIN);
            let wake_at = self.wake_at.map_or(look_again, |at| at.min(look_again));
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(done) = self.jobs.join_next() => self.feed(event_of(done)).await,
                Ok(()) = hears.rejections.changed() => {
                    let version = *hears.rejections.borrow_and_update();
                    self.feed(Event::Rejected { version }).await;
                }
                Some(command) = hears.commands.recv() => self.obey(command).await,
                () = hears.nudge.notified() => self.feed(Event::Tick).await,
                () = self.clock.sleep_until(wake_at) => {
                    self.look_at_files().await;
                    self.feed(Event::Tick).await;
                }
            }
        }
        if tokio::time::timeout(GRACE, self.finish()).await.is_err() {
            tracing::warn!(account = %self.account.mailbox, "stopping without the answer of the token endpoint");
        }
    }

    /// A refused secret or certificate whose file was replaced since is tried at once: nobody should have to wait for the next probe.
    async fn look_at_files(&mut self) {
        let is_refused =
            self.publish.borrow().status.hold.as_ref().is_some_and(|hold| hold.cause == HoldCause::Registration);
        if is_refused && self.asked_with.is_some() && self.asked_with != self.files().await {
            tracing::info!(account = %self.account.mailbox, "the registration's files have changed: trying them");
            self.feed(Event::ConfigChanged).await;
        }
    }

    async fn files(&self) -> Option<CredentialFiles> {
        let account = Arc::clone(&self.account);
        tokio::task::spawn_blocking(move || files_of(&account)).await.ok()
    }

    /// Lets a request under way end and its token be written. What the shelf did not take so far is offered once more: it is nowhere else.
    async fn finish(&mut self) {
        if self.keeper.has_unwritten() {
            self.feed(Event::Asked).await;
        }
        while self.keeper.is_busy() {
            let Some(done) = self.jobs.join_next().await else { return };
            self.feed(event_of(done)).await;
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Ask(reply) => {
                self.feed(Event::Asked).await;
                // Nobody may be waiting for the number.
                let _ = reply.send(self.keeper.asking());
            }
            Command::Adopt(stored, reply) => {
                let saved = self.shelf.save((*stored).clone()).await;
                if saved.is_ok() {
                    self.feed(Event::SignedIn(stored)).await;
                }
                // Whoever asked may have gone; the sign-in is committed all the same.
                let _ = reply.send(saved);
            }
            Command::Account(account) => {
                if account.grant != self.account.grant {
                    // What is under way may be the only good refresh token, should the grant be changed back. Should that take too long, the
                    // next start makes do with its predecessor.
                    let _ = tokio::time::timeout(GRACE, self.finish()).await;
                }
                self.endpoint = TokenEndpoint::new(&account, self.timeouts);
                self.keeper.change_grant(account.grant);
                self.keeper.expect_refresh_life(refresh_life(&account));
                self.account = account;
                self.feed(Event::ConfigChanged).await;
            }
        }
    }

    /// Tells the keeper, and does what it says until it says nothing more.
    async fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.wake_at = None;
            for action in self.keeper.on(event, self.clock.now()) {
                events.extend(self.carry_out(action).await);
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Load => return Some(Event::Loaded(self.shelf.load(&self.account.mailbox).await)),
            Action::Refresh { request, refresh_token, .. } => self.ask(request, Want::Refresh(refresh_token)).await,
            Action::Apply { request } => self.ask(request, Want::Application).await,
            Action::Write { number, stored } => return Some(self.write(number, *stored).await),
            Action::Publish(mut published) => {
                self.observer.annotate(&mut published.status);
                self.publish.send_replace(*published);
            }
            Action::Hold(hold) => self.tell_dead(hold),
            Action::Cleared(why) => self.tell_good(why),
            Action::Trouble(problem) => self.tell_trouble(problem),
            Action::WakeAt(at) => self.wake_at = Some(at),
        }
        None
    }

    async fn ask(&mut self, request: u64, want: Want) {
        // Before they are read: what is replaced meanwhile is a change.
        self.asked_with = self.files().await;
        let round = Round {
            endpoint: self.endpoint.clone(),
            account: Arc::clone(&self.account),
            secrets: Arc::clone(&self.secrets),
            shelf: Arc::clone(&self.shelf),
            observer: Arc::clone(&self.observer),
            clock: self.clock.clone(),
        };
        tracing::debug!(account = %self.account.mailbox, request, "refreshing the sign-in");
        self.jobs.spawn(async move {
            match round.ask(want).await {
                Ok(tokens) => Event::TokensReceived { request, tokens },
                Err(failure) => Event::RefreshFailed { request, failure },
            }
        });
    }

    async fn write(&self, number: u64, stored: StoredSignIn) -> Event {
        match self.shelf.save(stored).await {
            Ok(()) => Event::Written { number },
            Err(error) => {
                tracing::error!(account = %self.account.mailbox, %error, "cannot write the renewed sign-in");
                Event::WriteFailed { number, error: error.to_string() }
            }
        }
    }

    fn tell(&self, event: SignInEvent) {
        // Nobody listening means that the relay is ending.
        let _ = self.events.send(event);
    }

    fn tell_dead(&self, hold: HoldView) {
        let account = self.account.mailbox.clone();
        let error = one_line(&hold.error);
        tracing::debug!(%account, cause = %hold.cause, %error, advice = %hold.advice, "the sign-in is of no use");
        let HoldView { cause, error, codes, advice, probe_at, probes, .. } = hold;
        self.tell(SignInEvent::Dead { account, cause, error, codes, advice, probe_at, probes });
    }

    fn tell_good(&self, why: Why) {
        let account = self.account.mailbox.clone();
        tracing::info!(%account, "{why}");
        self.tell(SignInEvent::Good { account, why });
    }

    fn tell_trouble(&self, problem: Problem) {
        let account = self.account.mailbox.clone();
        let Problem { error, advice, retry_at, .. } = problem;
        let advice = &advice.sentence;
        tracing::warn!(%account, error = %one_line(&error), %advice, %retry_at, "could not refresh the sign-in");
        self.tell(SignInEvent::Trouble { account, error, retry_at });
    }
}

/// How long a person's sign-in may lie unused: 90 days at Microsoft
/// (<https://learn.microsoft.com/entra/identity-platform/refresh-tokens#token-lifetime>); nobody else promises anything.
fn refresh_life(account: &Account) -> Option<Duration> {
    match (account.provider, account.grant) {
        (Provider::Microsoft, Grant::Delegated) => Some(Duration::from_hours(90 * 24)),
        _ => None,
    }
}

/// For the log: Microsoft's descriptions have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A panicked request is the keeper's panic: otherwise it would wait for the answer for ever.
fn event_of(done: Result<Event, tokio::task::JoinError>) -> Event {
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(error) => resume_unwind(Box::new(error.to_string())),
    })
}
