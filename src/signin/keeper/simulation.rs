//! Two years with a moody endpoint, a jumping clock, a disk that is full now and then, and a process that is killed at any moment.
//!
//! Each week the endpoint is away for one to six hours; half of the requests get there all the same, and only the answers are lost. Each
//! month the calendar jumps by minutes, hours or days. The process is killed every few days, and now and then at every step of a
//! refresh: before the request, before the answer is written, behind that. Sometimes a token just issued is refused.
//!
//! *Mail can leave* while a process runs that hands out an access token which Exchange takes. What may interrupt that:
//! - there is no process;
//! - an outage, from 20 minutes after its beginning (so much any token has left) until the longest pause between two tries after its end.
//!   A restart within it changes nothing: the access token is kept;
//! - a jump forward, for the minute until it is noticed, or until the end of the outage it falls into: the token counts as expired;
//! - a start with no token that is good any more, for its first request, and as long as the disk is full.
//!
//! Everything else is a gap, and there must be none. Every single request is compared with the moment at which the rules have it due.

mod entra;
mod world;

use std::time::Duration;

use entra::Ms;
use world::{DAY, HOUR, Kind, MINUTE, Reason, SECOND, SLOWEST, World, backoff_of, rest_of};

/// The longest pause between two tries, and the last try.
const LONGEST_PAUSE: Ms = 15 * MINUTE + SLOWEST;
/// How long the disk may be full at a start: it is so once in a hundred writes, and tried again after 5, 10, 20 seconds.
const FULL_DISK: Ms = 35 * SECOND;

/// What may interrupt mail, as spans.
fn excuses(world: &World, left: Ms) -> Vec<(Ms, Ms)> {
    let mut excuses = Vec::new();
    for (from, to) in &world.plan.outages {
        let jumped = world.plan.jumps.iter().map(|(at, _)| *at).find(|at| (from - 2 * MINUTE..*to).contains(at));
        excuses.push(((from + left).min(jumped.unwrap_or(*to)), to + LONGEST_PAUSE));
    }
    excuses.extend(world.plan.jumps.iter().map(|(at, _)| (*at, at + MINUTE + SLOWEST + FULL_DISK)));
    excuses.extend(world.downs.iter().map(|(from, to)| (*from, to + SLOWEST * 2 + FULL_DISK)));
    excuses.sort_unstable();
    excuses
}

fn is_excused(gap: (Ms, Ms), excuses: &[(Ms, Ms)]) -> bool {
    let mut at = gap.0;
    for (from, to) in excuses {
        if *from <= at {
            at = at.max(*to);
        }
    }
    at >= gap.1
}

fn count(world: &World, wanted: Reason) -> usize {
    world.requests.iter().filter(|reason| **reason == wanted).count()
}

/// So many tokens come into use: one each mean rest. A start or a jump forward falls into the middle of a rest and begins another one, which
/// makes half a token more. An outage holds up the next refresh, if that falls into it, until a pause (half of one, on average) after its end.
fn expected_tokens(world: &World, kind: Kind) -> f64 {
    let lives = kind.lives.0..=kind.lives.1;
    let rests = lives.clone().map(|minutes| rest_of(Duration::from_mins(minutes.unsigned_abs()), world.jitter()));
    let rest = float(rests.sum::<Ms>()) / float(lives.count().try_into().unwrap()) + float(SLOWEST) / 2.0;
    let half_a_pause = float(backoff_of(99, world.jitter())) / 2.0;
    let lost = world.plan.outages.iter().map(|(from, to)| {
        let away = float(to - from);
        let hit = rest.min(away);
        hit / rest * (away - hit / 2.0 + half_a_pause)
    });
    let disturbed = world.plan.kills.len() + world.plan.jumps.len() / 2;
    (float(kind.days * DAY) - lost.sum::<f64>()) / rest + 0.5 * float(disturbed.try_into().unwrap())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(n: Ms) -> f64 {
    n as f64
}

fn live(seed: u64, kind: Kind, left: Ms) -> World {
    let mut world = World::new(seed, kind);
    world.live();
    let excuses = excuses(&world, left);
    for gap in &world.gaps {
        assert!(is_excused(*gap, &excuses), "seed {seed}: no mail could leave from {} to {} ms", gap.0, gap.1);
    }
    world
}

/// The fewest and the most tries in vain: in each outage the pauses grow to a quarter of an hour within nine tries. The first try comes at
/// the latest when a rest is over; a start begins anew.
fn tries_in_vain(world: &World, kind: Kind) -> (Ms, Ms) {
    let pause = |failures| backoff_of(failures, world.jitter());
    let longest_rest = rest_of(Duration::from_mins(kind.lives.1.unsigned_abs()), 0.0);
    let growing: Ms = (1..9).map(pause).sum();
    let (mut least, mut most) = (0, 0);
    for (from, to) in &world.plan.outages {
        let starts = world.downs.iter().filter(|(_, up)| (from..to).contains(&up)).count();
        // A failure takes up to 30 seconds.
        least += ((to - from - longest_rest - growing) / (pause(99) + 30 * SECOND)).max(0);
        most += 9 + (to - from) / pause(99) + 9 * i64::try_from(starts).unwrap_or(0);
    }
    (least, most)
}

#[test]
fn two_years_of_outages_jumps_and_kills_lose_no_sign_in_and_leave_no_gap() {
    for seed in 0..8 {
        let kind = Kind { days: 730, lives: (60, 90), busy: seed % 2 == 0 };
        let world = live(seed, kind, 20 * MINUTE);
        assert!(world.plan.outages.len() == 104 && world.plan.jumps.len() == 24, "it was put to the test");
        assert!(world.downs.len() > 250 && world.predecessors_used > 20, "seed {seed}: it was put to the test");
        as_many_requests_as_computed(seed, &world, kind);
    }
}

#[test]
fn tokens_of_ten_minutes_do_not_make_it_loop_and_tokens_of_days_are_renewed_daily() {
    // So much is left of a token of ten minutes when an outage begins: 40 %, less a margin and a slow answer or two.
    let kind = Kind { days: 90, lives: (10, 10), busy: true };
    as_many_requests_as_computed(1, &live(1, kind, 2 * MINUTE), kind);
    for hours in [24, 28, 72] {
        let kind = Kind { days: 730, lives: (hours * 60, hours * 60), busy: false };
        let world = live(2, kind, HOUR);
        as_many_requests_as_computed(2, &world, kind);
        let days = usize::try_from(kind.days).unwrap();
        assert!(world.tokens_relied_upon >= days, "{hours} hours: {} tokens in {days} days", world.tokens_relied_upon);
    }
}

fn as_many_requests_as_computed(seed: u64, world: &World, kind: Kind) {
    let (tokens, expected) = (float(world.tokens_relied_upon.try_into().unwrap()), expected_tokens(world, kind));
    assert!((tokens / expected - 1.0).abs() < 0.005, "seed {seed}, {kind:?}: {tokens} tokens, {expected} expected");
    let in_vain = Ms::try_from(count(world, Reason::Retry)).unwrap();
    let (least, most) = tries_in_vain(world, kind);
    assert!((least..=most).contains(&in_vain), "seed {seed}, {kind:?}: {in_vain} tries, {least} to {most} expected");
    // Everything that was asked is one of these, and came when it was due.
    assert!(count(world, Reason::Predecessor) <= world.predecessors_used + world.downs.len());
    assert!(count(world, Reason::Rejected) <= world.plan.jumps.len());
}
