//! What is to be done about each account: it is new, or it is in the configuration already.

use super::config_file::ConfigFile;
use super::{Place, Report, secret_value};
use crate::config::SecretSource;
use crate::import::{Found, Proof};

/// The accounts that can be taken over, in the order of the other program's file.
#[derive(Default)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
}

/// One account.
pub(super) struct Step {
    pub found: Found,
    /// It is not in the configuration yet.
    pub is_new: bool,
}

impl Plan {
    /// Whatever cannot be taken over is reported and left out.
    pub(super) fn of(accounts: Vec<(String, Result<Found, String>)>, file: &ConfigFile, report: &mut Report) -> Self {
        let mut plan = Self::default();
        for (name, found) in accounts {
            match found.and_then(|found| plan.step(found, file)) {
                Ok(step) => plan.steps.push(step),
                Err(why) => report.failed(name, &why),
            }
        }
        plan
    }

    fn step(&self, found: Found, file: &ConfigFile) -> Result<Step, String> {
        if self.accounts().any(|other| other.mailbox == found.mailbox) {
            return Err("it is there a second time, and only the first one counts".to_owned());
        }
        let Some(known) = file.accounts.iter().find(|account| account.mailbox == found.mailbox) else {
            file.check_block(&block(&found, None))?;
            return Ok(Step { found, is_new: true });
        };
        if known.client_id != found.client_id {
            return Err(format!(
                "{} has it with another client_id, and a sign-in belongs to the registration it was made with ({}): sign in with \
                 `xoauth2-relay login {}`, or put that client_id there",
                file.path.display(),
                found.client_id,
                found.mailbox
            ));
        }
        Ok(Step { found, is_new: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Found> {
        self.steps.iter().map(|step| &step.found)
    }

    /// The new ones.
    pub(super) fn added(&self) -> impl Iterator<Item = &Found> {
        self.steps.iter().filter(|step| step.is_new).map(|step| &step.found)
    }

    /// The text to add to the configuration. `place` says where an account's client secret is; nowhere yet: it stands in the text.
    pub(super) fn blocks(&self, place: impl Fn(&Found) -> Place) -> String {
        self.added().map(|found| block(found, place(found))).collect::<Vec<_>>().join("\n")
    }
}

fn block(found: &Found, place: Place) -> String {
    let secret = match (&found.proof, place) {
        (Proof::Secret(_), Some(file)) => secret_value(&SecretSource::File(file)),
        (Proof::Secret(secret), None) => secret_value(&SecretSource::Literal(secret.clone())),
        _ => String::new(),
    };
    found.block(&secret)
}
