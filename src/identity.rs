//! Which instance this relay is, so that a copy of it does not take away the original's sign-in or send its mail once more.
//!
//! `instance` in the configuration is compared with the name in the store. Accounts of a copy are held, and their sign-ins are not
//! given out ([`crate::shelf`]), until a person releases them or gives them a sign-in of their own. Each such account is marked with
//! the new name; once all are, the folder takes it on. The machine's id is only a hint: containers have another one at every start.

mod machine;
mod names;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use machine::mark as machine_mark;
pub use names::Foreign;

use crate::clock::Clock;
use crate::config::Config;
use crate::message::Address;
use crate::store::{Change, CommitError, Fact, Hold, HoldCause, JournalEntry, ReadError, Store};
use names::{INSTANCE, MACHINE, Names};

/// Whose accounts these are. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    config: watch::Receiver<Arc<Config>>,
    names: Mutex<Names>,
    /// One claim after the other: the last one lets the folder take on the name.
    claiming: tokio::sync::Mutex<()>,
}

/// The store could not tell or take what the identity needs.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] CommitError),
}

impl Identity {
    /// Compares the configured name with that of the store. A store without a name takes on the configured one. `machine` is the mark of
    /// this machine; another one than at the last start is told, and nothing more.
    pub async fn establish(
        store: Store,
        config: watch::Receiver<Arc<Config>>,
        clock: Clock,
        machine: Option<String>,
    ) -> Result<Self, IdentityError> {
        let facts = store.facts().await?;
        let configured = config.borrow().instance.clone();
        let mut names = Names::known(&facts, configured);
        let held = store.holds().await?.into_iter().filter(|hold| hold.cause == HoldCause::Clone);
        names.still_held = held.map(|hold| hold.account.key()).collect();
        let last_machine = facts.into_iter().find(|fact| fact.account.is_none() && fact.name == MACHINE);
        let shared = Shared { store, clock, config, names: Mutex::new(names), claiming: tokio::sync::Mutex::default() };
        let identity = Self { shared: Arc::new(shared) };
        identity.compare_names().await?;
        identity.compare_machines(last_machine.and_then(|fact| fact.value), machine).await?;
        Ok(identity)
    }

    /// Whether the account belongs to another instance: then nothing is sent through it, and no token is asked for with its sign-in.
    pub fn foreign(&self, account: &Address) -> Option<Foreign> {
        self.names().foreign(account)
    }

    /// The account is this instance's from now on: a person said so, or gave it a sign-in of its own. Nothing happens if it was already.
    ///
    /// # Errors
    ///
    /// When that could not be written; the account is still the other instance's then.
    pub async fn claim(&self, account: &Address) -> Result<(), IdentityError> {
        let _turn = self.shared.claiming.lock().await;
        if self.foreign(account).is_none() {
            return Ok(());
        }
        let configured = self.names().configured.clone();
        if let Some(name) = configured {
            self.learn(Some(account), INSTANCE, Some(&name)).await?;
            self.names().of_accounts.insert(account.key(), name);
        }
        self.names().still_held.remove(&account.key());
        self.settle().await
    }

    /// The holds as they have to be for these accounts, and what has to be written for that: accounts of another instance are held, and
    /// no longer than they are. What a person holds stays held by that person, and says whose it is: to release it is to decide that too.
    pub fn correct_holds(&self, mut holds: Vec<Hold>) -> (Vec<Hold>, Vec<Change>) {
        let now = self.shared.clock.now();
        let mut changes = Vec::new();
        let accounts = self.accounts();
        for account in &accounts {
            let place = holds.iter().position(|hold| hold.account == *account);
            let cause = place.map(|place| holds[place].cause);
            match (self.foreign(account), cause) {
                (foreign, Some(HoldCause::Manual)) => {
                    let said = foreign.map(|foreign| foreign.to_string());
                    changes.extend(place.and_then(|place| say(&mut holds[place], said)));
                }
                (Some(_), Some(HoldCause::Clone)) | (None, None) => {}
                (Some(foreign), _) => {
                    let hold = hold(account, &foreign, now);
                    changes.push(Change::Hold(Box::new(hold.clone())));
                    holds.retain(|hold| hold.account != *account);
                    holds.push(hold);
                }
                (None, Some(HoldCause::Clone)) => {
                    let why = "the relay has its own name again".to_owned();
                    changes.push(Change::Release { account: account.clone(), at: now, why });
                    holds.retain(|hold| hold.account != *account);
                }
                (None, Some(_)) => {}
            }
        }
        (holds, changes)
    }

    /// The holds of the configured accounts that belong to another instance.
    pub fn holds(&self) -> Vec<Hold> {
        let now = self.shared.clock.now();
        let accounts = self.accounts();
        accounts.iter().filter_map(|account| Some(hold(account, &self.foreign(account)?, now))).collect()
    }

    async fn compare_names(&self) -> Result<(), IdentityError> {
        let names = self.names().clone();
        match (&names.configured, &names.of_folder) {
            (None, None) => {}
            (None, Some(owner)) => tracing::info!(
                "instance is not configured any more: this data folder is that of {owner:?}, and nothing is compared"
            ),
            (Some(name), None) => {
                self.learn(None, INSTANCE, Some(name)).await?;
                self.names().of_folder = Some(name.clone());
                tracing::info!(instance = %name, "this data folder has a name from now on");
            }
            (Some(_), Some(_)) => self.settle().await?,
        }
        let foreign = self.accounts().into_iter().filter_map(|account| Some((self.foreign(&account)?, account)));
        for (foreign, account) in foreign {
            tracing::warn!(%account, "{foreign}: it is held, see `xoauth2-relay status`");
        }
        Ok(())
    }

    /// Once every configured account is this instance's, so is the folder. What it knows of other accounts stays with their owner.
    async fn settle(&self) -> Result<(), IdentityError> {
        let names = self.names().clone();
        let (Some(name), Some(owner)) = (&names.configured, &names.of_folder) else { return Ok(()) };
        let accounts = self.accounts();
        if name == owner || accounts.iter().any(|account| names.foreign(account).is_some()) {
            return Ok(());
        }
        let store = &self.shared.store;
        let with_sign_in = store.sign_ins().await?.into_iter().map(|sign_in| sign_in.account);
        let known: HashSet<Address> = with_sign_in.chain(store.accounts_with_mail().await?).collect();
        for account in known.iter().filter(|account| !accounts.contains(account)) {
            if !names.of_accounts.contains_key(&account.key()) {
                self.learn(Some(account), INSTANCE, Some(owner)).await?;
                self.names().of_accounts.insert(account.key(), owner.clone());
            }
        }
        self.learn(None, INSTANCE, Some(name)).await?;
        self.names().of_folder = Some(name.clone());
        tracing::info!(instance = %name, before = %owner, "every account is this instance's: the data folder has its name");
        for account in accounts.iter().filter(|account| names.of_accounts.contains_key(&account.key())) {
            self.learn(Some(account), INSTANCE, None).await?;
            self.names().of_accounts.remove(&account.key());
        }
        Ok(())
    }

    /// A hint only: a container or a restored backup is on another machine by right.
    async fn compare_machines(&self, last: Option<String>, now: Option<String>) -> Result<(), IdentityError> {
        let Some(mark) = now.filter(|mark| last.as_ref() != Some(mark)) else { return Ok(()) };
        if last.is_some() {
            let text = "this data folder was used on another machine before";
            if self.names().configured.is_some() {
                tracing::info!("{text}");
            } else {
                tracing::warn!(
                    "{text}; if it is a copy of a relay that still runs, stop this one and set `instance` in both configurations, a name \
                     each: the copy would take away the original's sign-in"
                );
            }
            let (at, text) = (self.shared.clock.now(), text.to_owned());
            self.shared.store.commit(Change::Note(JournalEntry { at, message: None, account: None, text })).await?;
        }
        Ok(self.learn(None, MACHINE, Some(&mark)).await?)
    }

    async fn learn(&self, account: Option<&Address>, name: &str, value: Option<&str>) -> Result<(), CommitError> {
        let fact = Fact {
            account: account.cloned(),
            name: name.to_owned(),
            value: value.map(str::to_owned),
            at: self.shared.clock.now(),
        };
        self.shared.store.commit(Change::Learn(fact)).await
    }

    fn accounts(&self) -> Vec<Address> {
        self.shared.config.borrow().accounts.iter().map(|account| account.mailbox.clone()).collect()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A person's hold with another instance's name to it, or without. `None`: so it is already.
fn say(hold: &mut Hold, said: Option<String>) -> Option<Change> {
    if hold.error == said {
        return None;
    }
    hold.error = said;
    Some(Change::Hold(Box::new(hold.clone())))
}

fn hold(account: &Address, foreign: &Foreign, since: jiff::Timestamp) -> Hold {
    Hold {
        account: account.clone(),
        cause: HoldCause::Clone,
        reply: None,
        error: Some(foreign.to_string()),
        codes: Vec::new(),
        since,
        probe_at: None,
        probes: 0,
    }
}
