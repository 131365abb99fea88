//! What was told, as facts that outlive a restart. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::trouble::{Cause, Kind, Severity};
use crate::store::Fact;

const PREFIX: &str = "alert/";

/// What has been told of a cause, and who has heard it. As JSON it is the value of the fact `alert/<kind>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// Since when it is wrong.
    pub since: Timestamp,
    /// When the latest edition was made.
    pub at: Timestamp,
    /// Grows with everything that is to be told of it: the alert is 1.
    pub edition: u32,
    /// Whether the latest edition says nothing new.
    pub is_reminder: bool,
    /// How many reminders there were since the last news.
    pub reminders: u32,
    /// Which form of it was told.
    pub stage: u8,
    /// How bad that was.
    pub is_critical: bool,
    /// Whether it came back soon after it was over.
    pub is_restless: bool,
    /// When it was over, if it is.
    pub solved_at: Option<Timestamp>,
    /// The latest edition that each receiver has got.
    pub heard: BTreeMap<String, u32>,
    /// Who knows that it is over.
    pub heard_solved: BTreeSet<String>,
}

impl Told {
    pub fn severity(&self) -> Severity {
        if self.is_critical { Severity::Critical } else { Severity::Warning }
    }

    /// To be kept.
    pub fn fact(&self, cause: &Cause, now: Timestamp) -> Fact {
        // Numbers, texts and times: nothing in it cannot be written as JSON.
        Fact { value: serde_json::to_string(self).ok(), ..forgotten(cause, now) }
    }
}

/// The fact of a cause of which nothing needs to be known any more.
pub(super) fn forgotten(cause: &Cause, at: Timestamp) -> Fact {
    let subject = cause.subject.as_ref().map_or_else(String::new, |subject| format!(":{subject}"));
    let name = format!("{PREFIX}{}{subject}", cause.kind.as_str());
    Fact { account: cause.account.clone(), name, value: None, at }
}

/// What an earlier process had told; `None` if the fact is not about that or cannot be understood.
pub(super) fn recalled(fact: &Fact) -> Option<(Cause, Told)> {
    let name = fact.name.strip_prefix(PREFIX)?;
    let (kind, subject) = name.split_once(':').map_or((name, None), |(kind, subject)| (kind, Some(subject.to_owned())));
    let cause = Cause { kind: Kind::parse(kind)?, account: fact.account.clone(), subject };
    Some((cause, serde_json::from_str(fact.value.as_deref()?).ok()?))
}
