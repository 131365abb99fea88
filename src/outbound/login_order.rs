//! As whom the relay logs in to Exchange, and what it tries when the answer is no. Rules only.
//!
//! `user=` of XOAUTH2 is the person who signed in. For a shared mailbox (`login` differs from `mailbox`) Microsoft's page says to put the shared
//! mailbox there; Exchange has been seen to want one or the other. So both are tried, and the one that works comes first from then on
//! ([`UserNames`](super::UserNames)).
//!
//! | | token at hand | fresh token | then |
//! |---|---|---|---|
//! | `login` = `mailbox` | login | login | hold |
//! | they differ | login, mailbox | login, mailbox | hold |
//! | they differ, the mailbox worked last | mailbox, login | mailbox, login | hold |
//!
//! So a message, or a probe, causes four logins and one request for a token at the most. A token that was fresh to begin with has the middle column
//! only. Another user is tried only after `535`: other replies are not about who it is. After a reply whose row says `once` nothing more is tried:
//! a user who is locked stays so for longer with every login.

use crate::config::{Account, Grant};
use crate::message::Address;
use crate::smtp::Reply;

/// What comes after a refused login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same token as the other user.
    OtherUser,
    /// A fresh token, as the first user again.
    FreshToken,
    /// Nothing more to try: the account is held.
    Hold,
}

/// A login that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// As whom.
    pub(super) user: Address,
    /// Word for word.
    pub(super) reply: Reply,
}

/// Where one attempt is in the order of its logins.
#[derive(Clone, Debug)]
pub(super) struct LoginOrder {
    users: Vec<Address>,
    at: usize,
    is_fresh: bool,
    /// With the token in use.
    refusals: Vec<Refusal>,
}

/// Whom Exchange may want to hear in `user=`, the likeliest first.
pub(super) fn users(account: &Account) -> Vec<Address> {
    match account.grant {
        Grant::Delegated if account.login != account.mailbox => vec![account.login.clone(), account.mailbox.clone()],
        // A smarthost has no `user=`: its sessions are known by whom their limits belong to.
        Grant::Delegated | Grant::None => vec![account.login.clone()],
        // Nobody has signed in: the mailbox is the only name there is.
        Grant::Application => vec![account.mailbox.clone()],
    }
}

impl LoginOrder {
    /// Before the first login with the token at hand. `remembered` is the user that worked last.
    pub(super) fn new(account: &Account, remembered: Option<&Address>) -> Self {
        let mut users = users(account);
        if let Some(known) = users.iter().position(|user| Some(user) == remembered) {
            users.swap(0, known);
        }
        Self { users, at: 0, is_fresh: false, refusals: Vec::new() }
    }

    /// The token has just been issued: another one would be no better.
    pub(super) fn with_fresh_token(self) -> Self {
        Self { is_fresh: true, ..self }
    }

    /// As whom to log in now.
    pub(super) fn user(&self) -> &Address {
        // `at` is the place of an element: it grows only as far as there is one.
        &self.users[self.at]
    }

    /// Takes in that the login as [`Self::user`] was refused, and says what to try next.
    pub(super) fn refused(&mut self, reply: &Reply) -> Next {
        self.note(reply);
        if reply.code() == 535 && self.at + 1 < self.users.len() {
            self.at += 1;
            return Next::OtherUser;
        }
        if self.is_fresh {
            return Next::Hold;
        }
        self.at = 0;
        self.is_fresh = true;
        Next::FreshToken
    }

    /// The same of a refusal that another login at once would make worse.
    pub(super) fn stopped(&mut self, reply: &Reply) -> Next {
        self.note(reply);
        Next::Hold
    }

    fn note(&mut self, reply: &Reply) {
        if !self.refusals.is_empty() && self.at == 0 {
            self.refusals.clear();
        }
        self.refusals.push(Refusal { user: self.user().clone(), reply: reply.clone() });
    }

    /// What was answered to the last token, in the order in which it was tried.
    pub(super) fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    const LOGIN: &str = "svc@contoso.com";
    const MAILBOX: &str = "lms@contoso.com";

    /// What is tried if everything is refused with `code`: `1` and `2` are the token at hand and the fresh one.
    fn tried(order: LoginOrder, code: u16) -> Vec<String> {
        let mut order = order;
        let (mut token, mut tried) = (1, Vec::new());
        loop {
            assert!(tried.len() < 10, "without end: {tried:?}");
            let user = order.user().as_str().split('@').next().unwrap();
            tried.push(format!("{token} {user}"));
            match order.refused(&Reply::new(code, "5.7.3 Authentication unsuccessful")) {
                Next::OtherUser => {}
                Next::FreshToken => token += 1,
                Next::Hold => return tried,
            }
        }
    }

    #[test]
    fn each_token_is_tried_once_as_each_user_and_one_fresh_token_is_asked_for() {
        let (own, shared) = (testing::account(MAILBOX, MAILBOX), testing::account(MAILBOX, LOGIN));
        let mailbox = Address::parse(MAILBOX).unwrap();
        let login = Address::parse(LOGIN).unwrap();
        let stranger = Address::parse("somebody@contoso.com").unwrap();
        let new = LoginOrder::new;
        for (order, code, expected) in [
            (new(&own, None), 535, "1 lms, 2 lms"),
            (new(&own, Some(&mailbox)), 535, "1 lms, 2 lms"),
            (new(&own, None).with_fresh_token(), 535, "1 lms"),
            (new(&shared, None), 535, "1 svc, 1 lms, 2 svc, 2 lms"),
            (new(&shared, Some(&login)), 535, "1 svc, 1 lms, 2 svc, 2 lms"),
            (new(&shared, Some(&mailbox)), 535, "1 lms, 1 svc, 2 lms, 2 svc"),
            (new(&shared, Some(&mailbox)).with_fresh_token(), 535, "1 lms, 1 svc"),
            // Somebody from an earlier configuration.
            (new(&shared, Some(&stranger)), 535, "1 svc, 1 lms, 2 svc, 2 lms"),
            // Not about who it is.
            (new(&shared, None), 550, "1 svc, 2 svc"),
        ] {
            assert_eq!(tried(order, code).join(", "), expected);
        }
    }

    #[test]
    fn a_refusal_that_another_login_makes_worse_is_the_last_word() {
        let mut order = LoginOrder::new(&testing::account(MAILBOX, LOGIN), None);
        let locked = Reply::new(535, "5.7.139 Authentication unsuccessful, account locked.");
        assert_eq!(order.stopped(&locked), Next::Hold);
        assert_eq!((order.refusals().len(), &order.refusals()[0].reply), (1, &locked));
    }

    #[test]
    fn what_is_told_is_what_the_last_token_met() {
        let mut order = LoginOrder::new(&testing::account(MAILBOX, LOGIN), None);
        for n in 1..=4 {
            order.refused(&Reply::new(535, format!("5.7.{n} no")));
        }
        let told: Vec<String> = order.refusals().iter().map(|no| format!("{}: {}", no.user, no.reply)).collect();
        assert_eq!(told, ["svc@contoso.com: 535 5.7.3 no", "lms@contoso.com: 535 5.7.4 no"]);
    }
}
