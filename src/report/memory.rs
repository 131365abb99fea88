//! What was told lately: so that notices of one cause are gathered, and there is never a storm of them. Pure; kept as facts in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::store::Fact;

/// How long notices of one cause are gathered after the first of them.
pub const GATHER: Duration = Duration::from_hours(1);
/// The most notices within [`GATHER`], whatever their causes. The others wait for their turn.
pub const MOST: usize = 100;
/// How long the first refusals for the postmaster are gathered.
pub const FIRST_DIGEST: Duration = Duration::from_mins(5);
/// How long the second digest waits behind the first.
pub const SECOND_DIGEST: Duration = Duration::from_hours(1);
/// How long every later one waits.
pub const LATER_DIGEST: Duration = Duration::from_hours(24);

/// How the names of these facts begin.
const PREFIX: &str = "notice/";
const POSTMASTER: &str = "notice/postmaster";

/// What was told when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    told: BTreeMap<String, Timestamp>,
    postmaster: Option<Digest>,
}

/// Where the postmaster's digests stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest {
    /// How many were sent without a quiet day in between.
    sent: u32,
    /// When the next may be sent.
    next: Timestamp,
}

impl Memory {
    /// As an earlier process left it.
    pub fn recall(facts: &[Fact]) -> Self {
        let mut memory = Self::default();
        for fact in facts.iter().filter(|fact| fact.account.is_none()) {
            if fact.name == POSTMASTER {
                let sent = fact.value.as_deref().and_then(|value| value.parse().ok());
                memory.postmaster = sent.map(|sent| Digest { sent, next: fact.at });
            } else if let Some(topic) = fact.name.strip_prefix(PREFIX) {
                memory.told.insert(topic.to_owned(), fact.at);
            }
        }
        memory
    }

    /// How many more notices may be sent now.
    pub fn room(&self, now: Timestamp) -> usize {
        MOST.saturating_sub(self.told.values().filter(|&&at| is_recent(at, now)).count())
    }

    /// Until when this cause is gathered, if somebody was told of it lately.
    pub fn gathers(&self, topic: &str, now: Timestamp) -> Option<Timestamp> {
        self.told.get(topic).filter(|&&at| is_recent(at, now)).map(|&at| at + GATHER)
    }

    /// A notice of this cause is sent; what has to be kept of that.
    pub fn tell(&mut self, topic: &str, now: Timestamp) -> Vec<Fact> {
        let old: Vec<String> =
            self.told.iter().filter(|&(_, &at)| !is_recent(at, now)).map(|(topic, _)| topic.clone()).collect();
        let mut facts = Vec::new();
        for topic in old {
            self.told.remove(&topic);
            facts.push(fact(format!("{PREFIX}{topic}"), None, now));
        }
        self.told.insert(topic.to_owned(), now);
        facts.push(fact(format!("{PREFIX}{topic}"), Some(String::new()), now));
        facts
    }

    /// When the postmaster is told next. The first refusal after a quiet time begins a digest: then there is something to keep.
    pub fn next_digest(&mut self, now: Timestamp) -> (Timestamp, Option<Fact>) {
        match self.postmaster {
            Some(digest) if now <= digest.next + LATER_DIGEST => (digest.next, None),
            _ => {
                let digest = Digest { sent: 0, next: now + FIRST_DIGEST };
                (digest.next, Some(self.keep(digest)))
            }
        }
    }

    /// A digest is sent; what has to be kept of that.
    pub fn digest(&mut self, now: Timestamp) -> Fact {
        let sent = self.postmaster.map_or(0, |digest| digest.sent) + 1;
        let next = now + if sent == 1 { SECOND_DIGEST } else { LATER_DIGEST };
        self.keep(Digest { sent, next })
    }

    fn keep(&mut self, digest: Digest) -> Fact {
        self.postmaster = Some(digest);
        fact(POSTMASTER.to_owned(), Some(digest.sent.to_string()), digest.next)
    }
}

/// A clock that went back must not gather for ever.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now < at + GATHER
}

fn fact(name: String, value: Option<String>, at: Timestamp) -> Fact {
    Fact { account: None, name, value, at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::affair::samples::at;

    fn hours(n: i64) -> Timestamp {
        at(n * 3600)
    }

    #[test]
    fn a_cause_is_gathered_for_an_hour_and_then_forgotten() {
        let mut memory = Memory::default();
        assert_eq!(memory.gathers("a", at(0)), None);
        let facts = memory.tell("a", at(0));
        assert_eq!(facts, [fact("notice/a".into(), Some(String::new()), at(0))]);
        assert_eq!(memory.gathers("a", at(3599)), Some(hours(1)));
        assert_eq!(memory.gathers("b", at(1)), None);
        assert_eq!(Memory::recall(&facts), memory, "over a restart");
        assert_eq!(memory.gathers("a", hours(1)), None);
        let names: Vec<_> =
            memory.tell("b", hours(1)).into_iter().map(|fact| (fact.name, fact.value.is_some())).collect();
        assert_eq!(names, [("notice/a".to_owned(), false), ("notice/b".to_owned(), true)]);
    }

    #[test]
    fn there_is_room_for_so_many_in_an_hour() {
        let mut memory = Memory::default();
        for n in 0..MOST {
            memory.tell(&n.to_string(), at(i64::try_from(n).unwrap()));
        }
        assert_eq!(memory.room(at(3599)), 0);
        assert_eq!(memory.room(at(3600)), 1);
    }

    #[test]
    fn the_postmaster_hears_soon_then_after_an_hour_then_daily() {
        let mut memory = Memory::default();
        let (first, kept) = memory.next_digest(at(0));
        assert_eq!((first, kept.is_some()), (at(300), true));
        assert_eq!(memory.next_digest(at(200)), (at(300), None));
        memory.digest(at(300));
        assert_eq!(memory.next_digest(at(301)).0, at(300 + 3600));
        let kept = memory.digest(at(3900));
        assert_eq!(memory.next_digest(at(3901)).0, at(3900) + LATER_DIGEST);
        assert_eq!(Memory::recall(&[kept]).postmaster, memory.postmaster, "over a restart");
        memory.digest(hours(26));
        assert_eq!(memory.next_digest(hours(27)).0, hours(50));
        // Nothing for more than a day after that: it begins anew.
        assert_eq!(memory.next_digest(hours(75)).0, hours(75) + FIRST_DIGEST);
    }
}
