//! What comes of a request that brought nothing: another try, or a hold.

use jiff::Timestamp;

use super::{Action, Failure, Keeper, Which, Work};
use crate::config::Grant;
use crate::signin::errors::Meaning;
use crate::signin::status::{HoldView, Problem};
use crate::signin::timing::{backoff, later, probe};
use crate::store::HoldCause;

impl Keeper {
    pub(super) fn failed(
        &mut self,
        request: u64,
        failure: Failure,
        now: Timestamp,
        told: &mut Vec<Action>,
    ) -> Vec<Action> {
        let (which, after_rejection) = match self.work {
            Work::Asking { request: asked, which, after_rejection } if asked == request => (which, after_rejection),
            _ => return Vec::new(),
        };
        self.work = Work::Idle;
        self.answered = request;
        if std::mem::take(&mut self.ask_again) {
            return self.ask(Which::Current, false);
        }
        let has_previous = self.stored.as_ref().is_some_and(|stored| stored.previous.is_some());
        match failure.meaning {
            Meaning::TryAgain | Meaning::Wait(_) => self.try_later(failure, now, told),
            Meaning::SignInAgain if which == Which::Current && has_previous => {
                self.refused = Some(failure);
                return self.ask(Which::Previous, after_rejection);
            }
            // Nobody has signed in, so nobody can again.
            Meaning::SignInAgain if self.grant == Grant::Application => {
                self.hold(HoldCause::Registration, failure, now, told);
            }
            Meaning::SignInAgain => {
                // Its predecessor may be refused because it was used up: the cause is what was said of the token in use.
                let failure = self.refused.take().unwrap_or(failure);
                self.hold(HoldCause::SignIn, failure, now, told);
            }
            Meaning::FixConfiguration => self.hold(HoldCause::Registration, failure, now, told),
        }
        Vec::new()
    }

    /// A failure that passes: everything stays as it is, and later it is tried again.
    pub(super) fn try_later(&mut self, failure: Failure, now: Timestamp, told: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        let asked = if let Meaning::Wait(wait) = failure.meaning { Some(wait) } else { None };
        let retry_at = later(now, backoff(self.failures, asked, self.jitter));
        self.trouble(failure, retry_at, told);
    }

    pub(super) fn trouble(&mut self, failure: Failure, retry_at: Timestamp, told: &mut Vec<Action>) {
        self.next_at = Some(retry_at);
        let Failure { error, codes, advice, .. } = failure;
        let problem = Problem { error, codes, advice, retry_at };
        self.problem = Some(problem.clone());
        told.push(Action::Trouble(problem));
    }

    /// A definite no. The sign-in stays where it is and is tried again on a schedule.
    pub(super) fn hold(&mut self, cause: HoldCause, failure: Failure, now: Timestamp, told: &mut Vec<Action>) {
        let (since, probes) = match &self.hold {
            Some(hold) if hold.cause == cause => (hold.since, hold.probes.saturating_add(1)),
            _ => (now, 0),
        };
        let is_tried = !matches!(cause, HoldCause::NotSignedIn | HoldCause::Clone);
        let probe_at = is_tried.then(|| later(now, probe(probes)));
        self.next_at = probe_at;
        self.failures = 0;
        self.problem = None;
        let hold = HoldView {
            cause,
            error: failure.error,
            codes: failure.codes,
            advice: failure.advice,
            since,
            probe_at,
            probes,
        };
        self.hold = Some(hold.clone());
        told.push(Action::Hold(hold));
    }
}
