//! What is known of a queue, and when it is asked for.

use super::testing::answer;
use super::*;
use crate::message::Lane;

fn waiting(n: i64, due: i64) -> Waiting {
    of(Flow::default(), n, due)
}

pub(super) fn of(flow: Flow, n: i64, due: i64) -> Waiting {
    let due_at = Timestamp::from_second(1_795_000_000 + due).unwrap();
    Waiting { id: QueueId::from_number(n), due_at, recipients: 1, flow }
}

/// What is due first of the one flow.
fn take(window: &mut Window) -> Option<Waiting> {
    window.take_first(&Flow::default())
}

fn load(window: &mut Window, load: &Load, messages: &[Waiting]) {
    window.loaded(load, &answer(load, messages));
}

fn loaded(messages: &[Waiting]) -> Window {
    let mut window = Window::default();
    let asked = window.load().expect("nothing is known yet");
    load(&mut window, &asked, messages);
    window
}

#[test]
fn a_new_queue_is_read_first_and_known_whole_if_it_is_short() {
    let mut window = loaded(&[waiting(1, 5), waiting(2, 9)]);
    assert_eq!(window.load(), None);
    window.insert(&waiting(3, 7));
    let order: Vec<i64> = std::iter::from_fn(|| take(&mut window)).map(|w| w.id.number()).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn an_apps_two_flows_of_a_lane_have_one_share_as_long_as_one_of_them_waits() {
    let (rest, outside) = (Flow::new("moodle", Lane::Normal), Flow::new("moodle", Lane::Normal).to_outside(true));
    let mut window = loaded(&[of(rest.clone(), 1, 5), of(outside.clone(), 2, 3)]);
    window.share(&rest).earn(7);
    assert!(window.firsts().all(|first| first.share == *window.clone().share(&outside)));
    assert_eq!(window.take_first(&rest).unwrap().id.number(), 1);
    assert_ne!(*window.clone().share(&outside), Share::default(), "the other one still waits");
    assert_eq!(window.take_first(&outside).unwrap().flow, outside);
    assert_eq!(*window.share(&rest), Share::default());
}

#[test]
fn an_answer_older_than_the_end_of_an_attempt_does_not_bring_the_message_back() {
    let mut window = loaded(&[waiting(1, 0)]);
    take(&mut window);
    window.forget();
    let asked = window.load().unwrap();
    window.ended(QueueId::from_number(1));
    load(&mut window, &asked, &[waiting(1, 0)]);
    assert!(window.is_empty());
}

#[test]
fn what_arrives_during_a_load_is_not_lost_though_the_answer_does_not_have_it() {
    let mut window = Window::default();
    let asked = window.load().unwrap();
    window.insert(&waiting(9, 50));
    load(&mut window, &asked, &[waiting(1, 0)]);
    assert_eq!(window.len(), 2);
}

#[test]
fn an_answer_from_before_the_queue_was_changed_is_dropped() {
    let mut window = Window::default();
    let asked = window.load().unwrap();
    window.forget();
    load(&mut window, &asked, &[waiting(1, 0)]);
    assert!(window.is_empty());
    assert!(window.load().is_some());
}

#[test]
fn a_message_that_is_to_be_tried_again_before_its_end_was_announced_is_not_forgotten() {
    let mut window = loaded(&[waiting(1, 0)]);
    take(&mut window);
    // Its end is in the store, somebody has it tried again, and only then its end is announced.
    window.forget();
    let asked = window.load().unwrap();
    window.ended(QueueId::from_number(1));
    load(&mut window, &asked, &[waiting(1, 0)]);
    let asked = window.load().expect("the store is asked once more");
    load(&mut window, &asked, &[waiting(1, 0)]);
    assert_eq!(window.len(), 1);
    assert!(window.load().is_none());
}

#[test]
fn no_more_than_its_size_is_ever_known() {
    let mut window = loaded(&[]);
    for n in 0..5_000 {
        window.insert(&waiting(n, 5_000 - n));
    }
    assert_eq!(window.len(), LARGEST);
    assert_eq!(take(&mut window).unwrap().id.number(), 4_999);
}

#[test]
fn what_finds_no_place_during_a_load_is_looked_for_though_the_answer_was_short() {
    let mut window = Window::default();
    let asked = window.load().unwrap();
    for n in 0..=i64::try_from(LARGEST).unwrap() {
        window.insert(&waiting(n, n));
    }
    load(&mut window, &asked, &[]);
    while take(&mut window).is_some() {}
    assert!(window.load().is_some(), "one is known to the store alone");
}

#[test]
fn lost_news_are_looked_for_at_once_even_behind_many_that_wait_for_their_time() {
    let later: Vec<Waiting> = (0..300).map(|n| waiting(n, 3_600)).collect();
    let mut window = loaded(&later);
    window.forget();
    let asked = window.load().expect("the lost one may be due now");
    window.forget();
    load(&mut window, &asked, &[]);
    assert!(window.load().is_some(), "and news lost during that load, too");
}

#[test]
fn a_small_flow_is_known_beside_a_large_one() {
    let urgent = Flow { lane: Lane::Urgent, ..Flow::default() };
    let mut queue: Vec<Waiting> = (0..5_000).map(|n| waiting(n, n)).collect();
    queue.push(of(urgent.clone(), 9_000, 9_000));
    let mut window = loaded(&queue);
    assert_eq!(window.firsts().count(), 2);
    window.insert(&of(urgent.clone(), 9_001, 9_001));
    assert_eq!(window.take_first(&urgent).unwrap().id.number(), 9_000);
    assert_eq!(window.take_first(&urgent).unwrap().id.number(), 9_001);
}

#[test]
fn only_the_flow_that_runs_out_is_asked_for_again() {
    let bulk = Flow { lane: Lane::Bulk, ..Flow::default() };
    let both = |n| [waiting(n, n), of(bulk.clone(), 2_000 + n, n)];
    let queue: Vec<Waiting> = (0..1_500).flat_map(both).collect();
    let mut window = loaded(&queue);
    for _ in 0..LARGEST / 2 {
        assert_eq!(window.load(), None);
        take(&mut window);
    }
    assert_eq!(window.load().unwrap().flows, Some(vec![Flow::default()]));
}

#[test]
fn however_many_apps_there_are_memory_is_bounded_and_none_is_forgotten() {
    let app = |n: i64| Flow { app: format!("app{n}").into(), ..Flow::default() };
    let mut window = loaded(&[]);
    for n in 0..40_000 {
        window.insert(&of(app(n % 200), n, n));
    }
    assert_eq!(window.firsts().count(), 200);
    assert!(window.len() <= SIZE, "{}", window.len());
    let queue: Vec<Waiting> = (0..40_000).map(|n| of(app(n % 200), n, n)).collect();
    let window = loaded(&queue);
    assert_eq!(window.firsts().count(), 200);
    assert!(window.len() <= SIZE, "{}", window.len());
}
