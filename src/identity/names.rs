//! Which account belongs to which instance: the rule alone.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::message::Address;
use crate::store::Fact;

/// The name of the instance that the data folder, or one account of it, belongs to.
pub(super) const INSTANCE: &str = "identity/instance";
/// The mark of the machine of the last start.
pub(super) const MACHINE: &str = "identity/machine";

/// Who owns what, as far as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// What the configuration calls this relay.
    pub(super) configured: Option<String>,
    /// What the data folder says of itself.
    pub(super) of_folder: Option<String>,
    /// Accounts that say otherwise, by [`Address::key`].
    pub(super) of_accounts: HashMap<String, String>,
    /// Accounts that were held as another instance's while there was a name to compare. To take the name out of the configuration is
    /// no answer to the question whose they are.
    pub(super) still_held: HashSet<String>,
}

/// An account that belongs to another instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Whose it is.
    pub owner: String,
    /// Who asks.
    pub configured: Option<String>,
}

impl Names {
    /// What the store knows, for a relay of this name.
    pub(super) fn known(facts: &[Fact], configured: Option<String>) -> Self {
        let mut names = Self { configured, ..Self::default() };
        for fact in facts.iter().filter(|fact| fact.name == INSTANCE) {
            match &fact.account {
                None => names.of_folder.clone_from(&fact.value),
                Some(account) => {
                    names.of_accounts.extend(fact.value.clone().map(|owner| (account.key(), owner)));
                }
            }
        }
        names
    }

    /// Whether the account belongs to another instance. Without a name there is nothing to compare.
    pub(super) fn foreign(&self, account: &Address) -> Option<Foreign> {
        let owner = self.owner(account)?;
        let is_foreign = match &self.configured {
            Some(configured) => owner != configured,
            None => self.still_held.contains(&account.key()),
        };
        is_foreign.then(|| Foreign { owner: owner.clone(), configured: self.configured.clone() })
    }

    fn owner(&self, account: &Address) -> Option<&String> {
        self.of_accounts.get(&account.key()).or(self.of_folder.as_ref())
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = &self.owner;
        match &self.configured {
            Some(configured) => {
                write!(f, "this account belongs to the instance \"{owner}\", and this relay is \"{configured}\"")
            }
            None => write!(f, "this account belongs to the instance \"{owner}\", and this relay has no name any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn fact(account: Option<&str>, value: &str) -> Fact {
        Fact {
            account: account.map(|account| Address::parse(account).unwrap()),
            name: INSTANCE.to_owned(),
            value: Some(value.to_owned()),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn whose_an_account_is() {
        let folder = fact(None, "production");
        let own = fact(Some("LMS@contoso.com"), "staging");
        let (plain, marked) = (vec![folder.clone()], vec![folder, own.clone()]);
        for (facts, configured, lms, erp) in [
            (&vec![], Some("staging"), None, None),
            (&vec![own], Some("staging"), None, None),
            (&plain, Some("production"), None, None),
            (&plain, Some("staging"), Some("production"), Some("production")),
            (&marked, Some("staging"), None, Some("production")),
            (&marked, Some("production"), Some("staging"), None),
            (&marked, None, None, None),
        ] {
            let names = Names::known(facts, configured.map(str::to_owned));
            let owner = |account: &str| names.foreign(&Address::parse(account).unwrap()).map(|foreign| foreign.owner);
            let found = (owner("lms@contoso.com"), owner("erp@contoso.com"));
            assert_eq!(found, (lms.map(str::to_owned), erp.map(str::to_owned)), "{configured:?} {facts:?}");
        }
    }

    #[test]
    fn an_account_that_is_held_stays_so_when_the_name_is_taken_away() {
        let mut names = Names::known(&[fact(None, "production")], None);
        let lms = Address::parse("lms@contoso.com").unwrap();
        assert_eq!(names.foreign(&lms), None);
        names.still_held.insert(lms.key());
        let said = names.foreign(&lms).unwrap().to_string();
        assert!(said.ends_with("\"production\", and this relay has no name any more"), "{said}");
    }
}
