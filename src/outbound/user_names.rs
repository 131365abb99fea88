//! As which user Exchange takes each account's login, and when it last did. Outlives a restart as a [`Fact`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::login_order::users;
use crate::config::Account;
use crate::message::Address;
use crate::store::Fact;

/// The fact's name.
const FACT: &str = "xoauth2/user";
/// How old the time on disk may get while logins succeed: a busy relay is not to write it with every session.
const WRITE_EVERY: Duration = Duration::from_mins(10);

/// What is known of the logins. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct UserNames {
    /// By mailbox.
    known: Arc<Mutex<HashMap<Address, Known>>>,
}

/// A login that Exchange took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLogin {
    /// What `user=` was.
    pub user: Address,
    /// When.
    pub at: Timestamp,
}

/// Something that is to be written.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) fact: Fact,
    /// Exchange takes another user than was known so far.
    pub(super) is_news: bool,
}

#[derive(Clone, Debug)]
struct Known {
    /// As configured then: under another login, all of this counts for nothing.
    login: Address,
    last: LastLogin,
    written_at: Timestamp,
}

/// The fact's value.
#[derive(Serialize, Deserialize)]
struct Value {
    login: String,
    user: String,
}

impl UserNames {
    /// What an earlier run has learnt.
    pub fn from_facts(facts: &[Fact]) -> Self {
        let known = facts.iter().filter(|fact| fact.name == FACT).filter_map(|fact| {
            let value: Value = serde_json::from_str(fact.value.as_deref()?).ok()?;
            let login = Address::parse(&value.login).ok()?;
            let last = LastLogin { user: Address::parse(&value.user).ok()?, at: fact.at };
            Some((fact.account.clone()?, Known { login, last, written_at: fact.at }))
        });
        Self { known: Arc::new(Mutex::new(known.collect())) }
    }

    /// The last login of this account that Exchange took; `None` if there was none since its `login` is what it is.
    pub fn last(&self, account: &Account) -> Option<LastLogin> {
        let known = self.lock();
        let known = known.get(&account.mailbox)?;
        let counts = known.login == account.login && users(account).contains(&known.last.user);
        counts.then(|| known.last.clone())
    }

    /// Exchange has just taken the login as `user`.
    pub(super) fn taken(&self, account: &Account, user: &Address, at: Timestamp) -> Option<Learnt> {
        let before = self.last(account);
        let is_news = before.is_none_or(|before| before.user != *user);
        let mut known = self.lock();
        let last = LastLogin { user: user.clone(), at };
        let written_at = known.get(&account.mailbox).map(|known| known.written_at);
        // A clock that was set back would otherwise keep it unwritten until that time comes again.
        let fresh = |written: &Timestamp| *written <= at && at < *written + WRITE_EVERY;
        let keep = written_at.filter(fresh).filter(|_| !is_news);
        let written_at = keep.unwrap_or(at);
        known.insert(account.mailbox.clone(), Known { login: account.login.clone(), last, written_at });
        keep.is_none().then(|| Learnt { fact: fact(account, user, at), is_news })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fact(account: &Account, user: &Address, at: Timestamp) -> Fact {
    let value = Value { login: account.login.to_string(), user: user.to_string() };
    Fact {
        account: Some(account.mailbox.clone()),
        name: FACT.to_owned(),
        // Two strings can always be written.
        value: serde_json::to_string(&value).ok(),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    const LOGIN: &str = "svc@contoso.com";
    const MAILBOX: &str = "lms@contoso.com";

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    #[test]
    fn the_user_that_worked_is_known_after_a_restart_until_the_login_is_another_one() {
        let (account, names) = (testing::account(MAILBOX, LOGIN), UserNames::default());
        assert_eq!(names.last(&account), None);
        let learnt = names.taken(&account, &account.mailbox, start()).unwrap();
        assert!(learnt.is_news);

        let names = UserNames::from_facts(&[learnt.fact]);
        let last = LastLogin { user: account.mailbox.clone(), at: start() };
        assert_eq!(names.last(&account), Some(last));
        for other in [testing::account(MAILBOX, "other@contoso.com"), testing::account("erp@contoso.com", LOGIN)] {
            assert_eq!(names.last(&other), None, "{other:?}");
        }
        let other = testing::account(MAILBOX, "other@contoso.com");
        assert!(names.taken(&other, &other.login, start()).unwrap().is_news, "and forgotten for good");
        assert_eq!(names.last(&account), None);
    }

    #[test]
    fn a_busy_account_writes_every_ten_minutes_and_a_clock_set_back_does_not_stop_it() {
        let (account, names) = (testing::account(MAILBOX, MAILBOX), UserNames::default());
        let taken = |at| names.taken(&account, &account.login, at).map(|learnt| learnt.is_news);
        assert_eq!(taken(start()), Some(true));
        assert_eq!(taken(start() + Duration::from_mins(9)), None);
        assert_eq!(taken(start() + Duration::from_mins(10)), Some(false));
        assert_eq!(taken(start() - Duration::from_hours(1)), Some(false));
        assert_eq!(names.last(&account).unwrap().at, start() - Duration::from_hours(1));
    }
}
