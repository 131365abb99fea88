//! A keeper, its endpoint, its disk and its calendar, from event to event. True time and the calendar are two things here.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use super::entra::{Entra, Ms, number};
use crate::config::Secret;
use crate::signin::Meaning;

pub const SECOND: Ms = 1_000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;
/// The longest that an endpoint which is there takes to answer.
pub const SLOWEST: Ms = 3 * SECOND;

/// Kinds of life.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How long it goes on.
    pub days: i64,
    /// The shortest and the longest life of an access token, in minutes.
    pub lives: (i64, i64),
    /// Whether somebody wants a token at any moment, or nobody ever does.
    pub busy: bool,
}

/// Why a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Start,
    Routine,
    Retry,
    Predecessor,
    Rejected,
}

/// What disturbs it, known beforehand.
pub struct Plan {
    pub outages: Vec<(Ms, Ms)>,
    /// When, and by how much the calendar is set on (or back).
    pub jumps: Vec<(Ms, Ms)>,
    pub kills: Vec<Ms>,
}

impl Plan {
    fn new(random: &mut StdRng, days: i64) -> Self {
        let week = |n: i64, random: &mut StdRng| {
            let from = n * 7 * DAY + random.random_range(DAY..6 * DAY);
            (from, from + random.random_range(HOUR..6 * HOUR))
        };
        let outages = (0..days / 7).map(|n| week(n, random)).collect();
        let jump = |n: i64, random: &mut StdRng| {
            let at = n * 30 * DAY + random.random_range(DAY..29 * DAY);
            // As many of minutes as of hours as of days.
            let by = [MINUTE, HOUR, DAY][usize::try_from(n / 2 % 3).unwrap_or(0)] * random.random_range(1..20);
            (at, if n % 2 == 0 { by } else { -by })
        };
        let jumps = (0..days / 30).map(|n| jump(n, random)).collect();
        let kills = (0..days / 4).map(|n| n * 4 * DAY + random.random_range(0..4 * DAY)).collect();
        Self { outages, jumps, kills }
    }

    pub fn is_outage(&self, at: Ms) -> bool {
        self.outages.iter().any(|(from, to)| (*from..*to).contains(&at))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Answer,
    Wake,
    Look,
    Jump,
    Kill,
    Start,
    TokenEnds,
}

/// A request on its way.
struct Flight {
    request: u64,
    token: Secret,
    which: Which,
    ends_at: Ms,
}

pub struct World {
    pub plan: Plan,
    pub requests: Vec<Reason>,
    /// From when to when no mail could leave.
    pub gaps: Vec<(Ms, Ms)>,
    /// From when to when no process ran.
    pub downs: Vec<(Ms, Ms)>,
    pub tokens_relied_upon: usize,
    pub predecessors_used: usize,
    kind: Kind,
    random: StdRng,
    jitter: f64,
    entra: Entra,
    /// What is on disk.
    shelf: StoredSignIn,
    /// `None`: it does not run, and starts again then.
    keeper: Result<Keeper, Ms>,
    now: Ms,
    /// The calendar less the true time.
    offset: Ms,
    wake_at: Option<Timestamp>,
    flight: Option<Flight>,
    /// The next looks at the clock around a jump; until the one behind it, no other wake is noticed.
    looks: VecDeque<Ms>,
    jumps: VecDeque<(Ms, Ms)>,
    kills: VecDeque<Ms>,
    /// When the next request has to come by the rules, how late it may be, and why it comes.
    due: Option<(Ms, Ms, Reason)>,
    received: (Ms, Duration),
    failures: u32,
    jumped_at: Ms,
    /// The calendar has jumped, and the keeper sleeps on.
    unnoticed: bool,
    /// When the keeper last looked at the clock.
    looked_at: Ms,
    without_since: Option<Ms>,
}

impl World {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::new(&mut random, kind.days);
        let at = Timestamp::from_second(1_800_000_000).expect("a time");
        let shelf = StoredSignIn {
            account: Address::parse("lms@contoso.com").expect("an address"),
            current: Secret::new("R0"),
            previous: None,
            signed_in_as: None,
            since: at,
            refreshed_at: at,
            refresh_life: None,
            access: None,
        };
        Self {
            jumps: plan.jumps.iter().copied().collect(),
            kills: plan.kills.iter().copied().collect(),
            jitter: random.random_range(0.0..1.0),
            plan,
            requests: Vec::new(),
            gaps: Vec::new(),
            downs: vec![(0, 0)],
            tokens_relied_upon: 0,
            predecessors_used: 0,
            kind,
            random,
            entra: Entra::new(),
            shelf,
            keeper: Err(0),
            now: 0,
            offset: 0,
            wake_at: None,
            flight: None,
            looks: VecDeque::new(),
            due: None,
            received: (0, Duration::ZERO),
            failures: 0,
            jumped_at: -1,
            unnoticed: false,
            looked_at: 0,
            without_since: None,
        }
    }

    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    pub fn live(&mut self) {
        self.plan_looks();
        loop {
            let (at, moment) = self.next();
            if at >= self.kind.days * DAY {
                return;
            }
            self.pass_until(at);
            self.now = at;
            match moment {
                Moment::Answer => self.answer(),
                Moment::Wake => self.feed(Event::Tick),
                Moment::Look => {
                    self.looks.pop_front();
                    self.feed(Event::Tick);
                }
                Moment::Jump => self.jump(),
                Moment::Kill => {
                    self.kills.pop_front();
                    self.die();
                }
                Moment::Start => self.start(),
                Moment::TokenEnds => self.reject(),
            }
            self.close_gap();
        }
    }

    fn calendar(&self) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000 * SECOND + self.now + self.offset).expect("a time")
    }

    /// The true time at which the calendar shows this, in whole milliseconds, as the clock tells it.
    fn true_time(&self, at: Timestamp) -> Ms {
        let part = Ms::from(at.subsec_nanosecond() % 1_000_000 > 0);
        at.as_millisecond() + part - 1_800_000_000 * SECOND - self.offset
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_range(0..n) == 0
    }

    fn next(&self) -> (Ms, Moment) {
        let mut moments = Vec::new();
        if let Err(starts_at) = &self.keeper {
            moments.push((*starts_at, Moment::Start));
        } else {
            moments.extend(self.flight.as_ref().map(|flight| (flight.ends_at, Moment::Answer)));
            moments.extend(self.kills.front().map(|at| (*at, Moment::Kill)));
            moments.extend(self.looks.front().map(|at| (*at, Moment::Look)));
            let wake_at = self.wake_at.filter(|_| !self.unnoticed);
            moments.extend(wake_at.map(|at| (self.true_time(at).max(self.now), Moment::Wake)));
            let ended = self.token_ends().filter(|(handed_out, really)| really < handed_out);
            moments.extend(ended.map(|(_, really)| (really.max(self.now), Moment::TokenEnds)));
        }
        moments.extend(self.jumps.front().map(|(at, _)| (*at, Moment::Jump)));
        moments.into_iter().min_by_key(|(at, _)| *at).expect("a process runs or starts")
    }

    /// Until when the token is handed out, and when Exchange stops taking it.
    fn token_ends(&self) -> Option<(Ms, Ms)> {
        let access = self.keeper.as_ref().ok()?.published.as_ref()?.access.as_ref()?;
        Some((self.true_time(access.expires_at), self.entra.end_of(&access.secret)))
    }

    /// Until when mail can leave.
    fn usable_until(&self) -> Ms {
        self.token_ends().map_or(Ms::MIN, |(handed_out, really)| handed_out.min(really))
    }

    fn pass_until(&mut self, at: Ms) {
        let until = self.usable_until();
        if until < at && self.without_since.is_none() {
            self.without_since = Some(until.max(self.now));
        }
    }

    fn close_gap(&mut self) {
        if self.usable_until() > self.now
            && let Some(since) = self.without_since.take()
            && since < self.now
        {
            self.gaps.push((since, self.now));
        }
    }

    /// A look at the clock comes at least every minute; those right before and behind a jump are the ones that matter.
    fn plan_looks(&mut self) {
        self.looks.clear();
        if let Some((at, _)) = self.jumps.front() {
            let before = at - self.random.random_range(0..MINUTE);
            if before >= self.now {
                self.looks.push_back(before);
            }
        }
    }

    fn jump(&mut self) {
        let Some((at, by)) = self.jumps.pop_front() else { return };
        let woken_anyway = self.wake_at.map(|wake_at| self.true_time(wake_at));
        self.offset += by;
        self.jumped_at = at;
        self.unnoticed = true;
        if let Some((due, slack, _)) = &mut self.due {
            *due = if by > 0 { (*due - by).max(at) } else { *due };
            *slack += MINUTE;
        }
        let look = if self.kind.busy { at } else { at.max(self.looked_at + MINUTE) };
        let look = woken_anyway.filter(|woken| *woken >= at).map_or(look, |woken| woken.min(look));
        self.looks = VecDeque::from([look]);
    }

    fn die(&mut self) {
        self.flight = None;
        self.wake_at = None;
        self.due = None;
        let down = self.random.random_range(SECOND..2 * MINUTE);
        self.downs.push((self.now, self.now + down));
        self.without_since.get_or_insert(self.now);
        self.keeper = Err(self.now + down);
    }

    fn start(&mut self) {
        self.failures = 0;
        self.due = Some((self.now, 0, Reason::Start));
        self.keeper = Ok(Keeper::new(self.shelf.account.clone(), self.jitter));
        let kept = self.shelf.access.as_ref().map(|access| self.entra.end_of(&access.token));
        let is_certain = self.jumped_at < self.received.0;
        self.feed(Event::Started);
        if kept.is_some_and(|end| end > self.now + 65 * SECOND) && is_certain && self.keeper.is_ok() {
            assert!(self.usable_until() > self.now, "mail leaves at once after a restart at {}", self.now);
        }
    }

    fn reject(&mut self) {
        let Ok(keeper) = &self.keeper else { return };
        let Some(access) = keeper.published.as_ref().and_then(|published| published.access.as_ref()) else { return };
        let version = access.version;
        if self.failures == 0 && self.flight.is_none() {
            self.due = Some((self.now, 0, Reason::Rejected));
        }
        self.feed(Event::Rejected { version });
    }

    /// Tells the keeper and does what it says.
    fn feed(&mut self, event: Event) {
        if std::mem::take(&mut self.unnoticed) {
            // It has looked at the clock: what comes from here on is noticed in time.
            self.plan_looks();
        }
        self.looked_at = self.now;
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now = self.calendar();
            let Ok(keeper) = &mut self.keeper else { return };
            self.wake_at = None;
            for action in keeper.on(event, now) {
                match action {
                    Action::Load => events.push(Event::Loaded(Ok(Some(self.shelf.clone())))),
                    Action::Refresh { request, which, refresh_token } => self.send(request, which, refresh_token),
                    Action::Apply { .. } => panic!("nobody asked for the application grant"),
                    Action::Write { number, stored } => events.extend(self.write(number, *stored)),
                    Action::Publish(published) => self.check(&published),
                    Action::Hold(hold) => panic!("held at {}: {}", self.now, hold.error),
                    Action::WakeAt(at) => self.wake_at = Some(at),
                    Action::Cleared(_) | Action::Trouble(_) => {}
                }
                if self.keeper.is_err() {
                    return;
                }
            }
        }
    }

    fn send(&mut self, request: u64, which: Which, token: Secret) {
        assert!(self.flight.is_none(), "one refresh at a time");
        let (due, slack, reason) = self.due.take().unwrap_or_else(|| panic!("no request is due at {}", self.now));
        let late = self.now - due;
        assert!((0..=slack + 5).contains(&late), "{reason:?} due at {due} came {late} ms late");
        self.requests.push(reason);
        if self.one_in(400) {
            return self.die();
        }
        let takes = if self.plan.is_outage(self.now) { 200..30 * SECOND } else { 200..SLOWEST };
        let ends_at = self.now + self.random.random_range(takes);
        self.flight = Some(Flight { request, token, which, ends_at });
    }

    fn answer(&mut self) {
        let Some(Flight { request, token, which, .. }) = self.flight.take() else { return };
        let minutes = self.random.random_range(self.kind.lives.0..=self.kind.lives.1);
        if self.plan.is_outage(self.now) {
            // Half of the requests get there all the same; only their answers are lost.
            if self.one_in(2) {
                self.entra.redeem(&token, minutes, self.now);
            }
            self.failures += 1;
            self.due = Some((self.now + backoff_of(self.failures, self.jitter), 0, Reason::Retry));
            return self.feed(Event::RefreshFailed { request, failure: Failure::passing("no answer".to_owned()) });
        }
        let Some(tokens) = self.entra.redeem(&token, minutes, self.now) else {
            assert_eq!(which, Which::Current, "the predecessor is good as long as it is needed");
            self.due = Some((self.now, 0, Reason::Predecessor));
            let failure = Failure { meaning: Meaning::SignInAgain, ..Failure::passing("unknown".to_owned()) };
            return self.feed(Event::RefreshFailed { request, failure });
        };
        if self.one_in(400) {
            return self.die();
        }
        self.predecessors_used += usize::from(which == Which::Previous);
        if self.one_in(400) {
            self.entra.lose_the_last();
        }
        self.received = (self.now, tokens.life());
        self.feed(Event::TokensReceived { request, tokens });
    }

    fn write(&mut self, number: u64, stored: StoredSignIn) -> Option<Event> {
        if self.one_in(400) {
            self.die();
            return None;
        }
        if self.one_in(100) {
            return Some(Event::WriteFailed { number, error: "disk full".to_owned() });
        }
        self.shelf = stored;
        if self.one_in(400) {
            self.die();
            return None;
        }
        if number > 0 {
            self.failures = 0;
            self.tokens_relied_upon += 1;
            let (at, life) = self.received;
            let slack = if self.jumped_at >= at { MINUTE } else { 0 };
            self.due = Some((at + rest_of(life, self.jitter), slack, Reason::Routine));
        }
        Some(Event::Written { number })
    }

    /// Nothing is relied upon that is not on disk.
    fn check(&self, published: &Published) {
        if let Some(access) = &published.access {
            assert!(number(&self.shelf.current) >= number(&access.secret), "relied upon before it was written");
        }
    }
}

/// By the rules, in words: at 60 % of its life, at least 15 minutes or 40 % before its end, at least daily; all of it earlier by up to a sixth.
pub fn rest_of(life: Duration, jitter: f64) -> Ms {
    let life = life.as_secs_f64();
    let about = (0.6 * life).min(life - 900.0_f64.min(0.4 * life)).min(86_400.0);
    ms(about * (1.0 - jitter / 6.0))
}

/// By the rules: 5 seconds, doubled up to 15 minutes; earlier by up to a fifth.
pub fn backoff_of(failures: u32, jitter: f64) -> Ms {
    ms((5.0 * f64::from(failures.min(20) - 1).exp2()).min(900.0) * (1.0 - 0.2 * jitter))
}

#[expect(clippy::cast_possible_truncation, reason = "a day at the most")]
fn ms(seconds: f64) -> Ms {
    (seconds * 1000.0) as Ms
}
