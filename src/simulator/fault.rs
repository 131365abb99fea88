//! Faults on command: what goes wrong, where, for whom, how often.
//!
//! A [`Fault`] can only be built where it makes sense (an SMTP reply at an SMTP phase, an OAuth error at Entra ID), so that the two
//! servers need no answer for nonsense. How faults are written as text is in `fault_text.rs`.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::texts::{self, OAuthRow};

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Instead of Exchange's greeting.
    Connect,
    /// At EHLO or HELO.
    Ehlo,
    /// At STARTTLS.
    #[serde(rename = "starttls")]
    StartTls,
    /// At AUTH, once the credentials are there.
    Auth,
    /// At MAIL.
    Mail,
    /// At each RCPT.
    Rcpt,
    /// At DATA.
    Data,
    /// While the message comes in.
    Body,
    /// Behind the final dot.
    DataEnd,
    /// At any command behind the greeting, and behind the final dot.
    Any,
    /// At Entra ID's token endpoint.
    Token,
    /// At Entra ID's device code endpoint.
    Device,
}

impl Phase {
    /// All of them, in the order of a conversation.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Body,
        Self::DataEnd,
        Self::Any,
        Self::Token,
        Self::Device,
    ];

    /// Its name in texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::DataEnd => "data_end",
            Self::Any => "any",
            Self::Token => "token",
            Self::Device => "device",
        }
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Token | Self::Device)
    }

    /// Whether a fault of this phase strikes `now`.
    fn strikes(self, now: Self) -> bool {
        self == now || (self == Self::Any && !now.is_http() && !matches!(now, Self::Connect | Self::Body))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Effect {
    /// This reply, whole, its lines parted by line feeds. A positive one only replaces the words; `421` also ends the session.
    Reply(String),
    /// Behind the final dot: accepted as usual, but this refusal follows as a mail to the mailbox.
    Notice(String),
    /// The answer comes later; what else is at fault still is.
    Wait(Duration),
    /// No answer at all, until the client gives up.
    Silence,
    /// The connection is closed instead of an answer.
    Drop,
    /// While the message comes in: the connection is closed after so many octets of it, at the latest in place of the answer.
    DropAfter(u64),
    /// Behind the final dot: Exchange has the message, the connection is closed.
    KeepAndDrop,
    /// Behind the final dot: Exchange has the message and never says so.
    KeepAndSilence,
    /// A refusal of Entra ID.
    OAuth(&'static OAuthRow),
    /// A bare HTTP status with an HTML page, perhaps with `Retry-After` in seconds.
    Http {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<u32>,
    },
}

impl Effect {
    fn fits(&self, phase: Phase) -> bool {
        match self {
            Self::Reply(_) => !phase.is_http() && phase != Phase::Body,
            Self::Notice(_) | Self::KeepAndDrop | Self::KeepAndSilence => phase == Phase::DataEnd,
            Self::DropAfter(_) => phase == Phase::Body,
            Self::OAuth(_) | Self::Http { .. } => phase.is_http(),
            Self::Wait(_) | Self::Silence | Self::Drop => true,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Reply(_) => "an SMTP reply",
            Self::Notice(_) => "ndr",
            Self::Wait(_) => "wait",
            Self::Silence => "silence",
            Self::Drop => "drop",
            Self::DropAfter(_) => "drop:N",
            Self::KeepAndDrop => "keep-drop",
            Self::KeepAndSilence => "keep-silence",
            Self::OAuth(_) => "an OAuth error",
            Self::Http { .. } => "http",
        }
    }
}

/// Whom it strikes. Addresses are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Everyone.
    Everybody,
    /// The mailbox signed in, or signing in; at Entra ID whose token it is. Before AUTH nobody is.
    Mailbox(String),
    /// This recipient; from DATA on, a message that goes to them.
    Recipient(String),
    /// This MAIL FROM.
    Sender(String),
}

/// How often it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many times, then never again.
    Times(u32),
    /// Until [`Simulator::clear_faults`](super::Simulator::clear_faults).
    Always,
}

/// Something that goes wrong. Made by [`Fault::row`], [`Fault::at`] or from text (see its `FromStr`); strikes everybody, always,
/// unless narrowed.
#[derive(Clone, Debug)]
pub struct Fault {
    phase: Phase,
    effect: Effect,
    whom: Whom,
    times: Times,
}

impl Fault {
    /// A row of the tables at its own phase: an SMTP reply's where it was seen, a refusal of Entra ID at the token endpoint.
    ///
    /// # Errors
    /// If no row has this name; the error names those near it.
    pub fn row(id: &str) -> Result<Self, FaultError> {
        let (effect, phase) = row(id)?;
        Self::at(phase, effect)
    }

    /// An effect at a phase, if it can come there.
    ///
    /// # Errors
    /// If it cannot, or if a literal reply is none.
    pub fn at(phase: Phase, effect: Effect) -> Result<Self, FaultError> {
        if !effect.fits(phase) {
            let phases = Phase::ALL.into_iter().filter(|other| effect.fits(*other)).map(Phase::name);
            let possible = phases.collect::<Vec<_>>().join(", ");
            return Err(FaultError::Misplaced { effect: effect.name(), phase: phase.name(), possible });
        }
        if let Effect::Reply(text) | Effect::Notice(text) = &effect {
            check_reply(text)?;
        }
        Ok(Self { phase, effect, whom: Whom::Everybody, times: Times::Always })
    }

    /// Only `n` times.
    #[must_use]
    pub fn times(mut self, n: u32) -> Self {
        self.times = Times::Times(n);
        self
    }

    /// Only for these.
    #[must_use]
    pub fn whom(mut self, whom: Whom) -> Self {
        self.whom = whom;
        self
    }

    /// Only for the mailbox that is signed in.
    #[must_use]
    pub fn for_mailbox(self, address: impl Into<String>) -> Self {
        self.whom(Whom::Mailbox(address.into()))
    }

    /// Only for this recipient, or for messages that go to them.
    #[must_use]
    pub fn for_recipient(self, address: impl Into<String>) -> Self {
        self.whom(Whom::Recipient(address.into()))
    }

    /// Only for this MAIL FROM.
    #[must_use]
    pub fn for_sender(self, address: impl Into<String>) -> Self {
        self.whom(Whom::Sender(address.into()))
    }
}

/// What a row does, and where it does so by itself. `id#2` is its second wording.
pub(super) fn row(id: &str) -> Result<(Effect, Phase), FaultError> {
    if let Some(row) = texts::oauth_error(id) {
        return Ok((Effect::OAuth(row), Phase::Token));
    }
    let (name, wording) = match id.rsplit_once('#') {
        Some((name, number)) => (name, number.parse::<usize>().ok().and_then(|n| n.checked_sub(1))),
        None => (id, Some(0)),
    };
    let Some(row) = texts::reply(name) else {
        return Err(FaultError::Unknown { id: id.to_owned(), near: texts::names_near(name) });
    };
    match wording.and_then(|n| row.texts.get(n)) {
        Some(text) => Ok((Effect::Reply(text.clone()), row.phase)),
        None => Err(FaultError::NoSuchWording { id: row.id.as_str(), wordings: row.texts.len() }),
    }
}

/// Each line begins with the same three digits; all but the last go on with a dash.
fn check_reply(text: &str) -> Result<(), FaultError> {
    let wrong = || FaultError::NotAReply(text.to_owned());
    let lines: Vec<&str> = text.split('\n').collect();
    let code = text.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    if !matches!(code.as_bytes()[0], b'2'..=b'5') || text.contains('\r') {
        return Err(wrong());
    }
    for (n, line) in lines.iter().enumerate() {
        let mark = if n + 1 < lines.len() { "-" } else { " " };
        if !line.strip_prefix(code).is_some_and(|rest| rest.starts_with(mark) || (rest.is_empty() && mark == " ")) {
            return Err(wrong());
        }
    }
    Ok(())
}

/// A fault that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No row has this name.
    #[error("no reply or error is called {id:?}{}; a literal reply is written in quotes", nearby(near))]
    Unknown {
        /// What was asked for.
        id: String,
        /// Names that look like it.
        near: Vec<&'static str>,
    },
    /// The row has fewer wordings.
    #[error("{id} has {wordings} wording(s): write {id}#1 to {id}#{wordings}")]
    NoSuchWording {
        /// The row.
        id: &'static str,
        /// How many it has.
        wordings: usize,
    },
    /// The effect cannot come at that phase.
    #[error("{effect} cannot come at {phase}: it can at {possible}")]
    Misplaced {
        /// The effect.
        effect: &'static str,
        /// The phase asked for.
        phase: &'static str,
        /// Where it can come.
        possible: String,
    },
    /// The literal is not an SMTP reply.
    #[error(
        "{0:?} is not an SMTP reply: each line begins with the same code, 200 to 599, and all but the last have a dash behind it"
    )]
    NotAReply(String),
    /// No phase has this name.
    #[error("no phase is called {0:?}: the phases are {all}", all = Phase::ALL.map(Phase::name).join(", "))]
    NoSuchPhase(String),
    /// The text does not follow the syntax.
    #[error("{0}; a fault is written [PHASE=]EFFECT[*TIMES][,to=ADDRESS|,from=ADDRESS|,mailbox=ADDRESS]")]
    Syntax(String),
}

fn nearby(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!(": did you mean {}?", near.join(", ")) }
}

/// Whom a moment of a conversation is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) mailbox: Option<&'a str>,
    pub(super) sender: Option<&'a str>,
    pub(super) recipients: &'a [String],
}

impl About<'_> {
    fn concerns(&self, whom: &Whom) -> bool {
        let same = |one: Option<&str>, other: &str| one.is_some_and(|one| one.eq_ignore_ascii_case(other));
        match whom {
            Whom::Everybody => true,
            Whom::Mailbox(address) => same(self.mailbox, address),
            Whom::Sender(address) => same(self.sender, address),
            Whom::Recipient(address) => self.recipients.iter().any(|one| one.eq_ignore_ascii_case(address)),
        }
    }
}

/// What the faults make of a moment: a wait first, then perhaps something other than the usual answer.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) wait: Duration,
    pub(super) effect: Option<Effect>,
}

/// The faults in force, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Mutex<Vec<Fault>>,
    /// How many there are: without any, a busy session takes no lock.
    count: AtomicUsize,
}

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(fault);
        self.count.store(list.len(), Ordering::Release);
    }

    pub(super) fn clear(&self) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.clear();
        self.count.store(0, Ordering::Release);
    }

    /// Counts the faults that strike now: every wait, and the first one that is more than a wait.
    pub(super) fn play(&self, phase: Phase, about: About<'_>) -> Played {
        let mut played = Played::default();
        if self.count.load(Ordering::Acquire) == 0 {
            return played;
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in list.iter_mut().filter(|fault| fault.phase.strikes(phase) && about.concerns(&fault.whom)) {
            match (&fault.effect, &played.effect) {
                (Effect::Wait(wait), _) => played.wait += *wait,
                (effect, None) => played.effect = Some(effect.clone()),
                (_, Some(_)) => continue,
            }
            if let Times::Times(left) = &mut fault.times {
                *left = left.saturating_sub(1);
            }
        }
        list.retain(|fault| fault.times != Times::Times(0));
        self.count.store(list.len(), Ordering::Release);
        played
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(recipients: &[String]) -> About<'_> {
        About { mailbox: Some("lms@contoso.com"), sender: Some("noreply@contoso.com"), recipients }
    }

    #[test]
    fn every_row_can_be_played_at_its_own_phase() {
        for row in texts::replies() {
            assert_eq!(Fault::row(&row.id).unwrap().phase, row.phase, "{}", row.id);
        }
        for row in texts::oauth_errors() {
            assert_eq!(Fault::row(&row.id).unwrap().phase, Phase::Token, "{}", row.id);
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_was_told() {
        let faults = Faults::default();
        faults.add(Fault::row("554-5.2.0-quota").unwrap().times(2));
        for _ in 0..2 {
            assert!(faults.play(Phase::Rcpt, about(&[])).effect.is_none());
            assert!(matches!(faults.play(Phase::DataEnd, about(&[])).effect, Some(Effect::Reply(_))));
        }
        assert!(faults.play(Phase::DataEnd, about(&[])).effect.is_none());
        assert!(faults.list.lock().unwrap().is_empty());
    }

    #[test]
    fn a_fault_strikes_only_whom_it_is_for() {
        let recipients = ["one@example.com".to_owned(), "Two@example.com".to_owned()];
        for (whom, strikes) in [
            (Whom::Everybody, true),
            (Whom::Mailbox("LMS@contoso.com".into()), true),
            (Whom::Mailbox("other@contoso.com".into()), false),
            (Whom::Sender("noreply@contoso.com".into()), true),
            (Whom::Sender("lms@contoso.com".into()), false),
            (Whom::Recipient("two@example.com".into()), true),
            (Whom::Recipient("three@example.com".into()), false),
        ] {
            let faults = Faults::default();
            faults.add(Fault::at(Phase::Mail, Effect::Drop).unwrap().whom(whom.clone()));
            assert_eq!(faults.play(Phase::Mail, about(&recipients)).effect.is_some(), strikes, "{whom:?}");
            assert!(Faults::default().play(Phase::Mail, About::default()).effect.is_none());
        }
    }

    #[test]
    fn waits_add_up_and_the_first_other_effect_wins() {
        let faults = Faults::default();
        let second = Duration::from_secs(1);
        faults.add(Fault::at(Phase::Any, Effect::Wait(second)).unwrap().times(1));
        faults.add(Fault::at(Phase::Mail, Effect::Drop).unwrap().times(1));
        faults.add(Fault::at(Phase::Mail, Effect::Wait(second)).unwrap());
        faults.add(Fault::at(Phase::Mail, Effect::Silence).unwrap());
        let first = faults.play(Phase::Mail, About::default());
        assert_eq!(first.wait, second * 2);
        assert!(matches!(first.effect, Some(Effect::Drop)));
        let next = faults.play(Phase::Mail, About::default());
        assert_eq!(next.wait, second);
        assert!(matches!(next.effect, Some(Effect::Silence)));
    }

    #[test]
    fn any_is_any_command_but_neither_the_greeting_nor_entra_id() {
        for (phase, strikes) in
            [(Phase::Connect, false), (Phase::Ehlo, true), (Phase::DataEnd, true), (Phase::Token, false)]
        {
            let faults = Faults::default();
            faults.add(Fault::at(Phase::Any, Effect::Drop).unwrap());
            assert_eq!(faults.play(phase, About::default()).effect.is_some(), strikes, "{phase}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let quota = texts::oauth_error("50173").unwrap();
        assert!(Fault::at(Phase::Mail, Effect::OAuth(quota)).is_err());
        assert!(Fault::at(Phase::Token, Effect::Reply("550 no".into())).is_err());
        assert!(Fault::at(Phase::Mail, Effect::KeepAndDrop).is_err());
        for wrong in ["", "no", "55", "650 x", "150 x", "550x", "550-x", "550 a\n550 b", "550-a\n551 b", "550 a\r"] {
            assert!(Fault::at(Phase::Mail, Effect::Reply(wrong.into())).is_err(), "{wrong:?}");
        }
        for right in ["550", "550 ", "550 no", "550-a\n550-b\n550 c", "334 "] {
            assert!(Fault::at(Phase::Mail, Effect::Reply(right.into())).is_ok(), "{right:?}");
        }
    }
}
