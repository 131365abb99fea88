use super::super::{Pace, Throttle};
use super::*;

const EXCHANGE: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

impl Outlook {
    /// When a queue of this load, which is not urgent, will be empty if it is all that the login carries.
    pub(in crate::schedule::pace) fn empty(&self, load: Load, now: Timestamp) -> Option<Forecast> {
        forecasts(&[self], &[Stream { lane: Lane::Normal, load, logins: vec![0] }], &[], now)[0]
    }
}

fn outlook(limits: Limits) -> Outlook {
    Outlook { at_once: 0, ..Pace::new(limits).outlook(now()) }
}

fn stream(lane: Lane, messages: u64, logins: &[usize]) -> Stream {
    Stream { lane, load: Load { messages, recipients: messages }, logins: logins.to_vec() }
}

/// Minutes until each stream is empty, through as many logins with these limits as the streams name; and what that depends on.
fn run(limits: Limits, streams: &[Stream], shared: &[Shared]) -> Vec<(f64, Bound)> {
    let logins = streams.iter().flat_map(|stream| &stream.logins).max().map_or(0, |last| last + 1);
    let outlooks = vec![outlook(limits); logins];
    let found = forecasts(&outlooks.iter().collect::<Vec<_>>(), streams, shared, now());
    found.into_iter().flatten().map(|found| (from_now(found.empty_at, now()), found.bound)).collect()
}

fn assert_minutes(found: &[(f64, Bound)], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((minutes, _), expected) in found.iter().zip(expected) {
        assert!((minutes - expected).abs() <= expected * 0.02 + 0.02, "{found:?}, {expected} of {expected:?}");
    }
}

#[test]
fn the_rates_of_several_logins_add_up_and_who_has_a_choice_leaves_the_rest_to_who_has_none() {
    let normal = |messages, logins: &[usize]| stream(Lane::Normal, messages, logins);
    assert_minutes(&run(EXCHANGE, &[normal(900, &[0, 1, 2])], &[]), &[10.1]);
    // The first could do with either, the second cannot: each has a login to itself.
    assert_minutes(&run(EXCHANGE, &[normal(300, &[0, 1]), normal(300, &[0])], &[]), &[10.1, 10.1]);
    // When one is through, the other has both.
    assert_minutes(&run(EXCHANGE, &[normal(600, &[0, 1]), normal(300, &[0])], &[]), &[15.1, 10.1]);
    let chain = [normal(300, &[0, 1]), normal(300, &[1, 2]), normal(300, &[2])];
    assert_minutes(&run(EXCHANGE, &chain, &[]), &[10.1; 3]);
}

#[test]
fn streams_of_one_login_share_it_by_recipients() {
    let streams = [
        stream(Lane::Normal, 30, &[0]),
        Stream { load: Load { messages: 30, recipients: 300 }, ..stream(Lane::Normal, 30, &[0]) },
    ];
    // Ten for one of the other, then the rest.
    assert_minutes(&run(EXCHANGE, &streams, &[]), &[1.11, 2.02]);
}

#[test]
fn urgent_mail_comes_first_and_bulk_mail_has_an_eighth_beside_normal_mail() {
    let lanes = [stream(Lane::Normal, 210, &[0]), stream(Lane::Bulk, 210, &[0])];
    assert_minutes(&run(EXCHANGE, &lanes, &[]), &[8.07, 14.1]);
    // Beside urgent mail, and for ten minutes after it, a sixth of the minute is kept free.
    let lanes = [stream(Lane::Urgent, 28, &[0]), stream(Lane::Normal, 300, &[0])];
    assert_minutes(&run(EXCHANGE, &lanes, &[]), &[1.0, 12.8]);
}

#[test]
fn the_tenth_of_the_day_that_is_kept_is_there_for_urgent_mail() {
    let small = Limits { recipients_per_day: 100, ..EXCHANGE };
    let lanes = [stream(Lane::Urgent, 10, &[0]), stream(Lane::Normal, 95, &[0])];
    let found = run(small, &lanes, &[]);
    assert_minutes(&found[..1], &[0.35]);
    assert_minutes(&found[1..], &[1_441.0]);
    assert_eq!((found[0].1, found[1].1), (Bound::Rate, Bound::Day));
}

#[test]
fn what_takes_months_is_told_by_what_a_day_allows_and_what_takes_for_ever_by_ten_years() {
    let normal = |messages, logins: &[usize]| stream(Lane::Normal, messages, logins);
    let streams = [normal(500_000, &[0, 1]), normal(90_000, &[2])];
    let found = run(EXCHANGE, &streams, &[]);
    // Two of 9,000 a day, and one.
    assert_minutes(&found, &[500_000.0 / 18_000.0 * 1_441.0, 9.0 * 1_441.0 + 300.0]);
    assert!(found.iter().all(|(_, bound)| *bound == Bound::Day));
    let slow = Limits { messages_per_minute: 1, ..EXCHANGE };
    assert_eq!(run(slow, &[normal(4_000_000_000_000, &[0])], &[]), [(FAR, Bound::Rate)]);
}

#[test]
fn streams_that_share_a_limit_have_it_between_them_whoever_carries_them() {
    let streams = [stream(Lane::Normal, 50, &[0]), stream(Lane::Bulk, 100, &[1]), stream(Lane::Normal, 300, &[0, 1])];
    // Ten a minute for the first two, most of it the first one's, since bulk mail gives way to the third; and that has what they leave.
    let found = run(EXCHANGE, &streams, &[Shared::rate(10, vec![0, 1])]);
    assert_minutes(&found, &[8.5, 15.0, 6.0]);
    let day = outlook(Limits { recipients_per_day: 100, ..EXCHANGE }).day;
    let streams = [stream(Lane::Normal, 50, &[0]), stream(Lane::Normal, 100, &[1]), stream(Lane::Normal, 300, &[0, 1])];
    let found = run(EXCHANGE, &streams, &[Shared::day(day, vec![0, 1])]);
    assert_minutes(&found[1..2], &[1_442.0]);
    assert_eq!(found[1].1, Bound::Budget);
    assert!(found[2].0 < 10.1 && found[2].1 == Bound::Rate, "it is not meant: {found:?}");
}

#[test]
fn a_slowdown_of_one_login_is_made_up_for_by_the_others() {
    let mut slow = Pace::new(EXCHANGE);
    slow.throttled(now(), Throttle::Rate, "421 4.4.2 rate");
    let (slow, well) = (slow.outlook(now()), outlook(EXCHANGE));
    let streams = [stream(Lane::Normal, 60, &[0, 1]), stream(Lane::Normal, 60, &[0])];
    let found = forecasts(&[&slow, &well], &streams, &[], now());
    let minutes = |n: usize| from_now(found[n].unwrap().empty_at, now());
    assert!(minutes(0) < 2.1 && minutes(1) > 2.5, "{found:?}");
}

#[test]
fn what_nobody_carries_and_what_is_empty_has_no_forecast() {
    let streams = [stream(Lane::Normal, 10, &[]), stream(Lane::Normal, 0, &[0]), stream(Lane::Normal, 10, &[0])];
    let found = forecasts(&[&outlook(EXCHANGE)], &streams, &[], now());
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(forecasts(&[], &[], &[], now()), []);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However streams and logins are connected: everything leaves, nothing sooner than with all logins to itself, and the last of it not
        /// sooner than they can carry it all, nor later than if they had to do it one after the other.
        #[test]
        fn whatever_the_streams_share_no_login_is_quicker_than_it_may_be(
            streams in prop::collection::vec((0usize..3, 1u64..2_000, 1u64..4, prop::collection::btree_set(0usize..4, 1..4)), 1..8)
        ) {
            let streams: Vec<Stream> = streams.into_iter().map(|(lane, messages, each, logins)| Stream {
                lane: Lane::ALL[lane],
                load: Load { messages, recipients: messages * each },
                logins: logins.into_iter().collect(),
            }).collect();
            let all = streams.iter().map(|stream| number(stream.load.messages)).sum::<f64>();
            let found = run(EXCHANGE, &streams, &[]);
            prop_assert_eq!(found.len(), streams.len());
            for ((minutes, _), stream) in found.iter().zip(&streams) {
                let messages = number(stream.load.messages);
                prop_assert!(*minutes >= messages / 30.0 / number(stream.logins.len() as u64));
            }
            let last = found.iter().map(|(minutes, _)| *minutes).fold(0.0, f64::max);
            prop_assert!(last >= all / 120.0, "{last} for {all}");
            let is_by_rate = found.iter().all(|(_, bound)| *bound == Bound::Rate);
            prop_assert!(!is_by_rate || last <= all / 25.0 * 1.02 + 1.0, "{last} for {all}");
        }
    }
}
