//! Whom a refusal means that is said once of several recipients. In memory; rules only.
//!
//! Exchange says most refusals behind the final dot, of all recipients of the transaction, also where it means one of them. Then nobody got the
//! message, and one bad address must not refuse it to all. If the reply names whom it means, that is the one, and the others are next. If not, half
//! of them are next, and half of those until one is alone; then the rest, by ever more. One among `n` costs about `2 log2 n` transactions, many
//! cost little more than one each, and they come in bursts of [`AT_ONCE`] at the most, between which the message waits like any that failed.
//!
//! Who was accepted or refused is settled in the store, and nobody is tried again who was. Only how far the search is gets lost at a restart: it
//! begins anew with those who are left.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Class, Scope, Verdict};
use crate::message::{Address, QueueId};
use crate::store::Stored;

/// Transactions of a message that follow each other without a wait.
const AT_ONCE: u32 = 32;
/// How many messages are searched at a time. One that is forgotten begins anew.
const REMEMBERED: usize = 1024;

/// The messages that go out in parts.
#[derive(Debug, Default)]
pub struct Parts {
    searches: Mutex<BTreeMap<QueueId, Search>>,
}

/// How far one of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Search {
    /// So many recipients are tried at once, while nothing is known of them.
    at_most: usize,
    /// Somebody of the first so many is meant.
    suspects: usize,
    /// Transactions since it waited last.
    rounds: u32,
    /// Who was answered alone, with something that passes: the others come first.
    aside: BTreeMap<usize, Verdict>,
}

/// An attempt, as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers<'a> {
    /// By place in the envelope.
    pub(super) verdicts: &'a [(usize, Verdict)],
    /// Who of them were refused together, by a reply that is about one of them.
    pub(super) together: &'a [usize],
    /// Whom such a reply may name without meaning the recipient of that address.
    pub(super) senders: &'a [&'a Address],
}

/// What an attempt means for each of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sifted {
    pub(super) verdicts: Vec<(usize, Verdict)>,
    /// Nothing has failed that has to be waited for: the others are next.
    pub(super) goes_on: bool,
    /// For the journal.
    pub(super) note: Option<String>,
}

impl Parts {
    /// Whom the next attempt is for, by place in the envelope; `None`: everybody who waits.
    pub(super) fn next(&self, stored: &Stored) -> Option<Vec<usize>> {
        let searches = self.lock();
        let search = searches.get(&stored.id)?;
        let open = waiting(stored).filter(|place| !search.is_aside(stored, *place));
        Some(open.take(search.size()).collect()).filter(|places: &Vec<usize>| !places.is_empty())
    }

    /// Takes in an attempt, and says what it means for whom.
    pub(super) fn sift(&self, stored: &Stored, answers: Answers<'_>) -> Sifted {
        let mut searches = self.lock();
        let (search, sifted) = sift(searches.remove(&stored.id), stored, answers);
        if let Some(search) = search {
            searches.insert(stored.id, search);
            if searches.len() > REMEMBERED {
                searches.pop_first();
            }
        }
        sifted
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueId, Search>> {
        self.searches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search {
    fn new() -> Self {
        Self { at_most: usize::MAX, suspects: 0, rounds: 0, aside: BTreeMap::new() }
    }

    /// How many are tried next.
    fn size(&self) -> usize {
        if self.suspects > 0 { self.suspects.div_ceil(2) } else { self.at_most }
    }

    /// So many were refused together, and nobody knows whom that means.
    fn refused(&mut self, together: usize) {
        (self.at_most, self.suspects) = (1, together);
    }

    /// So many have an answer of their own. `is_found`: it was one, alone, and it was no.
    fn answered(&mut self, count: usize, is_found: bool) {
        match self.suspects {
            0 if !is_found => self.at_most = self.at_most.saturating_mul(2),
            _ if is_found => self.suspects = 0,
            suspects => self.suspects = suspects.saturating_sub(count),
        }
    }

    /// Whether this recipient waits because of what was said of it: no longer, once somebody gave it another address or something else was said.
    fn is_aside(&self, stored: &Stored, place: usize) -> bool {
        let (verdict, row) = (self.aside.get(&place), stored.recipients.get(place));
        verdict.zip(row).is_some_and(|(verdict, row)| {
            row.state.is_tried() && row.reply.as_ref().is_some_and(|reply| *reply == verdict.reply.to_string())
        })
    }
}

fn sift(before: Option<Search>, stored: &Stored, answers: Answers<'_>) -> (Option<Search>, Sifted) {
    let Answers { verdicts, together, .. } = answers;
    if before.is_none() && together.is_empty() {
        return (None, Sifted { verdicts: verdicts.to_vec(), goes_on: false, note: None });
    }
    let mut search = before.unwrap_or_else(Search::new);
    let stale: Vec<usize> = search.aside.keys().copied().filter(|place| !search.is_aside(stored, *place)).collect();
    search.aside.retain(|place, _| !stale.contains(place));
    let named = named(stored, answers);
    let is_spared = |place: &usize| together.contains(place) && !named.contains(place);
    let mut verdicts = verdicts.to_vec();
    for (_, verdict) in verdicts.iter_mut().filter(|(place, _)| is_spared(place)) {
        // The reply stays beside them, as what came of this try.
        (verdict.scope, verdict.class, verdict.row) = (Scope::Message, Class::Later, None);
    }
    let is_its_own = |verdict: &Verdict| verdict.scope == Scope::Recipient && verdict.class == Class::Later;
    let own = verdicts.iter().filter(|(_, verdict)| is_its_own(verdict));
    search.aside.extend(own.cloned());
    let is_settled = |verdict: &Verdict| matches!(verdict.class, Class::Accepted | Class::Refused);
    let is_answered = |(place, verdict): &&(usize, Verdict)| is_settled(verdict) || search.aside.contains_key(place);
    let answered = verdicts.iter().filter(is_answered).count();
    if !together.is_empty() && named.is_empty() {
        search.refused(together.len());
    } else if answered > 0 {
        let is_found = matches!(&verdicts[..], [(_, verdict)] if verdict.class != Class::Accepted);
        search.answered(answered, is_found);
    }

    let is_clear = verdicts
        .iter()
        .all(|(place, verdict)| is_settled(verdict) || is_spared(place) || search.aside.contains_key(place));
    let settled: Vec<usize> =
        verdicts.iter().filter(|(_, verdict)| is_settled(verdict)).map(|(place, _)| *place).collect();
    let others = waiting(stored).filter(|place| !settled.contains(place) && !search.aside.contains_key(place)).count();
    if others == 0 {
        // Whoever is left has an answer of his own, and waits for what it asks.
        let new = search.aside.into_iter().filter(|(place, _)| !verdicts.iter().any(|(other, _)| other == place));
        verdicts.extend(new.collect::<Vec<_>>());
        return (None, Sifted { verdicts, goes_on: false, note: None });
    }
    let goes_on = is_clear && search.rounds < AT_ONCE;
    search.rounds = if goes_on { search.rounds + 1 } else { 0 };
    let note = (!together.is_empty()).then(|| note(stored, &named, search.size()));
    (Some(search), Sifted { verdicts, goes_on, note })
}

/// The recipients that an attempt would try, by place.
fn waiting(stored: &Stored) -> impl Iterator<Item = usize> + '_ {
    stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_tried()).map(|(place, _)| place)
}

/// Whom the reply names of those that it was said of.
fn named(stored: &Stored, answers: Answers<'_>) -> Vec<usize> {
    let Answers { verdicts, together, senders } = answers;
    let reply =
        verdicts.iter().find(|(place, _)| together.contains(place)).map(|(_, verdict)| verdict.reply.to_string());
    let text = reply.unwrap_or_default().to_lowercase();
    let is_named = |place: &usize| {
        let address = stored.recipients.get(*place).map(|row| &row.address);
        address.is_some_and(|address| !senders.contains(&address) && names(&text, address))
    };
    together.iter().copied().filter(is_named).collect()
}

/// Whether a text, in lower case, has this address in it, and not only as a part of a longer one.
fn names(text: &str, address: &Address) -> bool {
    let address = address.as_str().to_lowercase();
    text.match_indices(&address).any(|(at, _)| {
        let mut before = text[..at].chars().rev();
        let begins = match before.next() {
            // An apostrophe quotes, or is a part of a name such as o'neil.
            Some('\'') => before.next().is_none_or(|c| !c.is_alphanumeric()),
            Some(c) => !c.is_alphanumeric() && !"!#$%&*+-/=?^_`{|}~.@\"\\".contains(c),
            None => true,
        };
        let mut behind = text[at + address.len()..].chars();
        let ends = match behind.next() {
            Some('.') => behind.next().is_none_or(|c| !c.is_alphanumeric()),
            Some(c) => !c.is_alphanumeric() && !"-_@".contains(c),
            None => true,
        };
        begins && ends
    })
}

fn note(stored: &Stored, named: &[usize], at_most: usize) -> String {
    let named = named.iter().filter_map(|place| stored.recipients.get(*place)).map(|row| row.address.as_str());
    let named = named.collect::<Vec<_>>().join(", ");
    if named.is_empty() {
        let how = match at_most {
            1 => "one by one".to_owned(),
            _ => format!("with {at_most} at a time"),
        };
        format!("nobody got it, and the reply does not say whom of them it means: tried again {how}")
    } else {
        format!("nobody got it, and the reply names {named}: the others are next")
    }
}

#[cfg(test)]
mod tests;
