//! What needs a login: a message to hand over, or the proof that the login works. Carries out the order of [`LoginOrder`].

use std::sync::Arc;

use super::attempt::Session;
use super::login_order::{LoginOrder, Next, Refusal};
use super::{Attempt, AttemptError, Class, Credentials, Delivery, Scope, Sender, Step, judge_with};
use crate::config::{Account, App};
use crate::message::{Address, Body};
use crate::schedule::Event;
use crate::signin::{AccessToken, NoToken};
use crate::store::{Change, Hold, HoldCause, JournalEntry, Stored};

/// What the login is for.
pub(super) enum Errand<'a> {
    /// A message, its body, and the app whose rules hold for it.
    Deliver(&'a Stored, &'a Body, Option<&'a App>),
    /// AUTH, then QUIT.
    Prove,
}

/// What the login is made with.
pub(super) enum Pass {
    /// An access token of the account's sign-in.
    Token(AccessToken),
    /// What the account has by itself.
    Own(Credentials),
}

impl Pass {
    fn credentials(&self) -> Credentials {
        match self {
            Self::Token(token) => Credentials::Token(token.secret.clone()),
            Self::Own(credentials) => credentials.clone(),
        }
    }
}

/// What came of it.
pub(super) struct Done {
    pub(super) attempt: Attempt,
    /// What is to be remembered of its login, once what became of the message is on disk.
    pub(super) learnt: Vec<Change>,
    /// What follows if the login was refused for good.
    pub(super) hold: Option<Refused>,
}

/// A login that was refused for good.
pub(super) struct Refused {
    pub(super) hold: Hold,
    /// It is the tenant that is not let in.
    pub(super) of_tenant: bool,
}

impl Sender {
    /// Runs an errand with the token at hand. A refused login is tried as the other user and with a fresh token, as the order says.
    pub(super) async fn run(
        &self,
        account: &Arc<Account>,
        errand: &Errand<'_>,
        mut pass: Pass,
        mut order: LoginOrder,
    ) -> Result<Done, NoToken> {
        loop {
            let user = order.user().clone();
            let mut attempt = self.once(account, errand, &pass.credentials(), &user).await;
            self.slowed_down(account, &attempt);
            let mut learnt = if attempt.session == Session::New { self.logged_in(account, &user) } else { Vec::new() };
            let Err(AttemptError::Login { reply, verdict, .. }) = &attempt.result else {
                if let Errand::Deliver(_, _, app) = errand {
                    learnt.extend(self.sender_met(account, *app, &mut attempt));
                }
                return Ok(Done { attempt, learnt, hold: None });
            };
            let is_last = verdict.row.as_ref().is_some_and(|row| row.is_for_once());
            match if is_last { order.stopped(reply) } else { order.refused(reply) } {
                Next::OtherUser => continue,
                Next::FreshToken => {
                    // The token was believed to be good: once more with a fresh one.
                    if let Pass::Token(token) = &mut pass {
                        self.sign_ins.rejected(&account.mailbox, token.version);
                        let fresh = self.sign_ins.token(&account.mailbox).await?;
                        if fresh.version != token.version {
                            *token = fresh;
                            continue;
                        }
                    }
                }
                Next::Hold => {}
            }
            let hold = Some(self.refused(account, order.refusals()));
            return Ok(Done { attempt, learnt, hold });
        }
    }

    async fn once(
        &self,
        account: &Arc<Account>,
        errand: &Errand<'_>,
        credentials: &Credentials,
        user: &Address,
    ) -> Attempt {
        let hostname = self.config.borrow().hostname.clone();
        match errand {
            Errand::Deliver(stored, body, app) => {
                let divert_to = app.and_then(|app| app.divert_to.clone());
                let delivery = Delivery {
                    account: account.clone(),
                    user: user.clone(),
                    credentials: credentials.clone(),
                    sender: app.map(|app| app.sender).unwrap_or_default(),
                    send_as: self.permitted(account, *app),
                    only: if divert_to.is_none() { self.parts.next(stored) } else { None },
                    divert_to,
                    hostname,
                    message: (*stored).clone(),
                    body: (*body).clone(),
                };
                self.pool.attempt(delivery).await
            }
            Errand::Prove => {
                let probed = self.pool.probe(account, user, credentials, &hostname).await;
                let session = if probed.is_ok() { Session::New } else { Session::None };
                Attempt { result: probed.map(|_| Vec::new()), session, ..Attempt::default() }
            }
        }
    }

    /// A connection or a login that was one too many: whoever keeps the pace is to know.
    fn slowed_down(&self, account: &Account, attempt: &Attempt) {
        let Some(verdict) = attempt.result.as_ref().err().and_then(AttemptError::verdict) else { return };
        if let Some(throttle) = verdict.throttle {
            let (account, said) = (account.mailbox.clone(), verdict.reply.to_string());
            self.schedule.tell(Event::Throttled { account, throttle, said });
        }
    }

    /// Exchange takes the login: it is remembered as whom, and nobody needs to ask for a day.
    fn logged_in(&self, account: &Account, user: &Address) -> Vec<Change> {
        let (mailbox, at) = (account.mailbox.clone(), self.clock.now());
        let learnt = self.user_names.taken(account, user, at);
        self.schedule.tell(Event::LoginTaken { account: mailbox.clone(), at });
        let Some(learnt) = learnt else { return Vec::new() };
        let mut changes = vec![Change::Learn(learnt.fact)];
        if learnt.is_news && account.login != account.mailbox && account.signs_in() {
            let text = format!("Exchange takes the login as {user}");
            tracing::info!(account = %mailbox, %user, "Exchange takes the login");
            changes.push(Change::Note(JournalEntry { at, message: None, account: Some(mailbox), text }));
        }
        changes
    }

    /// Writes what was learnt. It waits for the disk, and a message whose outcome is not written would be sent again after a crash: so that goes
    /// first.
    pub(super) async fn learn(&self, account: &Account, learnt: Vec<Change>) {
        for change in learnt {
            // What cannot be written now is learnt again with the first login after a restart.
            if let Err(error) = self.store.commit(change).await {
                tracing::warn!(account = %account.mailbox, %error, "could not write what was learnt of the login and the sender");
            }
        }
    }

    /// The reply to the user that is tried first is the reason; what the other one met is told beside it.
    fn refused(&self, account: &Account, refusals: &[Refusal]) -> Refused {
        let others = refusals.get(1..).unwrap_or_default();
        let others = others.iter().map(|no| format!("as {}: {}", no.user, no.reply)).collect::<Vec<_>>();
        let verdict =
            refusals.first().map(|refusal| judge_with(&self.config.borrow().replies, Step::Auth, &refusal.reply));
        let cause = match verdict.as_ref().map(|verdict| verdict.class) {
            Some(Class::Held(cause)) => cause,
            _ => HoldCause::Login,
        };
        let of_tenant = verdict.is_some_and(|verdict| verdict.scope == Scope::Tenant);
        let hold = Hold {
            account: account.mailbox.clone(),
            cause,
            reply: refusals.first().map(|refusal| refusal.reply.to_string()),
            error: (!others.is_empty()).then(|| others.join("; ")),
            codes: Vec::new(),
            since: self.clock.now(),
            probe_at: None,
            probes: 0,
        };
        Refused { hold, of_tenant }
    }
}
