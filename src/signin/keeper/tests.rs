//! What the keeper decides, event by event.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::config::Secret;
use crate::signin::{AccessToken, Meaning, NoToken};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn mailbox() -> Address {
    Address::parse("lms@contoso.com").unwrap()
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn stored(current: &str, previous: Option<&str>) -> StoredSignIn {
    StoredSignIn {
        account: mailbox(),
        current: Secret::new(current),
        previous: previous.map(Secret::new),
        signed_in_as: None,
        since: start(),
        refreshed_at: start(),
        refresh_life: None,
        access: None,
    }
}

fn tokens(access: &str, refresh: Option<&str>, life: Duration) -> Tokens {
    Tokens {
        access: Secret::new(access),
        expires_in: Some(life),
        refresh: refresh.map(Secret::new),
        refresh_life: None,
        scope: None,
        date: None,
    }
}

fn failure(meaning: Meaning) -> Failure {
    Failure { meaning, codes: vec![70008], ..Failure::passing("AADSTS70008: expired".to_owned()) }
}

/// A keeper, its clock, and what it said last.
struct Bench {
    keeper: Keeper,
    now: Timestamp,
    said: Vec<Action>,
}

impl Bench {
    /// A keeper whose shelf holds this.
    fn with(stored: Option<StoredSignIn>) -> Self {
        let mut bench = Self { keeper: Keeper::new(mailbox(), 0.0), now: start(), said: Vec::new() };
        bench.on(Event::Started);
        assert_eq!(bench.doings(), [&Action::Load]);
        bench.on(Event::Loaded(Ok(stored)));
        bench
    }

    /// A keeper with the refresh token `R1` and the access token `A1`, good for an hour.
    fn signed_in() -> Self {
        let mut bench = Self::with(Some(stored("R0", None)));
        bench.brings(&tokens("A1", Some("R1"), HOUR));
        bench.on(Event::Written { number: 1 });
        assert_eq!(bench.access(), Some("A1"));
        bench
    }

    fn on(&mut self, event: Event) -> &mut Self {
        self.said = self.keeper.on(event, self.now);
        self
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.on(Event::Tick)
    }

    fn request(&self) -> u64 {
        self.keeper.asking().expect("a request is under way")
    }

    fn brings(&mut self, tokens: &Tokens) -> &mut Self {
        let request = self.request();
        self.on(Event::TokensReceived { request, tokens: tokens.clone() })
    }

    fn fails(&mut self, meaning: Meaning) -> &mut Self {
        let request = self.request();
        self.on(Event::RefreshFailed { request, failure: failure(meaning) })
    }

    /// What it said, without what it says every time.
    fn doings(&self) -> Vec<&Action> {
        self.said.iter().filter(|action| !matches!(action, Action::Publish(_) | Action::WakeAt(_))).collect()
    }

    /// The refresh token it wants redeemed.
    fn asks_with(&self) -> Option<&str> {
        self.said.iter().find_map(|action| match action {
            Action::Refresh { refresh_token, .. } => Some(refresh_token.expose()),
            _ => None,
        })
    }

    fn writes(&self) -> Option<&StoredSignIn> {
        self.said.iter().find_map(|action| match action {
            Action::Write { stored, .. } => Some(stored.as_ref()),
            _ => None,
        })
    }

    fn told(&self) -> Option<Why> {
        self.said.iter().find_map(|action| match action {
            Action::Cleared(why) => Some(*why),
            _ => None,
        })
    }

    fn held(&self) -> Option<&HoldView> {
        self.said.iter().find_map(|action| match action {
            Action::Hold(hold) => Some(hold),
            _ => None,
        })
    }

    fn wakes_in(&self) -> Option<Duration> {
        self.said.iter().find_map(|action| match action {
            Action::WakeAt(at) => Duration::try_from(at.duration_since(self.now)).ok(),
            _ => None,
        })
    }

    fn published(&self) -> &Published {
        self.keeper.published.as_ref().expect("published from the first event on")
    }

    fn access(&self) -> Option<&str> {
        self.published().access.as_ref().map(|access| access.secret.expose())
    }

    fn answer(&self) -> Option<Result<AccessToken, NoToken>> {
        self.published().answer(self.now, 0)
    }
}

#[test]
fn a_rotated_token_is_written_before_anything_is_published() {
    let mut bench = Bench::with(Some(stored("R0", None)));
    assert_eq!(bench.asks_with(), Some("R0"));
    bench.brings(&tokens("A1", Some("R1"), HOUR));
    let written = bench.writes().expect("rotated");
    assert_eq!((written.current.expose(), written.previous.as_ref().map(Secret::expose)), ("R1", Some("R0")));
    assert_eq!(bench.access(), None, "not yet on disk");
    assert!(bench.answer().is_none(), "but worth waiting for");
    bench.on(Event::Written { number: 1 });
    assert_eq!((bench.access(), bench.told()), (Some("A1"), Some(Why::Started)));
    assert_eq!(bench.wakes_in(), Some(36 * MINUTE));
}

#[test]
fn what_was_said_of_an_earlier_sign_in_is_not_said_of_a_new_one() {
    let mut bench = Bench::with(Some(stored("R1", Some("R0"))));
    bench.fails(Meaning::SignInAgain).fails(Meaning::TryAgain);
    bench.on(Event::SignedIn(Box::new(stored("N0", None))));
    let (request, error) = (bench.request(), "AADSTS65001: no consent".to_owned());
    let failure = Failure { error: error.clone(), ..failure(Meaning::SignInAgain) };
    bench.on(Event::RefreshFailed { request, failure });
    assert_eq!(bench.held().map(|hold| &hold.error), Some(&error));
}

#[test]
fn the_predecessor_goes_once_the_new_one_has_worked() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE);
    assert_eq!(bench.asks_with(), Some("R1"));
    bench.brings(&tokens("A2", Some("R2"), HOUR));
    assert_eq!(bench.writes().and_then(|written| written.previous.as_ref()).map(Secret::expose), Some("R1"));
    bench.on(Event::Written { number: 2 }).after(36 * MINUTE);
    bench.brings(&tokens("A3", None, HOUR));
    assert_eq!(bench.writes().map(|written| (written.current.expose(), written.previous.clone())), Some(("R2", None)));
    assert_eq!(bench.access(), Some("A3"), "nothing rotated, nothing to wait for");
    assert_eq!(bench.told(), None, "a routine refresh is no news");
}

#[test]
fn a_refused_token_gives_way_to_its_predecessor() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::SignInAgain);
    assert_eq!(bench.asks_with(), Some("R0"));
    assert!(bench.held().is_none());
    bench.brings(&tokens("A2", Some("R2"), HOUR));
    assert_eq!(bench.writes().map(|written| written.current.expose()), Some("R2"));
    bench.on(Event::Written { number: 3 });
    assert_eq!(bench.access(), Some("A2"));
}

#[test]
fn a_predecessor_that_steps_back_in_without_rotating_is_written_first_and_the_refused_one_kept() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::SignInAgain).brings(&tokens("A2", None, HOUR));
    let written = bench.writes().unwrap();
    assert_eq!((written.current.expose(), written.previous.as_ref().map(Secret::expose)), ("R0", Some("R1")));
    assert_eq!(bench.access(), Some("A1"));
}

#[test]
fn only_when_both_are_refused_it_is_dead_and_mail_goes_on_with_the_access_token() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::SignInAgain).fails(Meaning::SignInAgain);
    let hold = bench.held().expect("dead");
    assert_eq!((hold.cause, hold.codes.as_slice(), hold.probes), (HoldCause::SignIn, &[70008][..], 0));
    assert!(matches!(bench.answer(), Some(Ok(_))), "A1 is good for 24 minutes more");
    assert_eq!(bench.keeper.stored, Some(stored_after_first_refresh()), "nothing is deleted");
    bench.now += 24 * MINUTE;
    assert!(matches!(bench.answer(), Some(Err(NoToken::Held { .. }))));
}

fn stored_after_first_refresh() -> StoredSignIn {
    StoredSignIn { access: Some(kept("A1", start())), ..stored("R1", Some("R0")) }
}

fn kept(token: &str, received_at: Timestamp) -> StoredAccess {
    StoredAccess { token: Secret::new(token), received_at, life: HOUR }
}

#[test]
fn a_dead_sign_in_is_probed_after_15_minutes_an_hour_and_then_every_6_hours() {
    let mut bench = Bench::with(Some(stored("R0", None)));
    for (probes, minutes) in [(0, 15), (1, 60), (2, 360), (3, 360)] {
        bench.fails(Meaning::SignInAgain);
        assert_eq!(bench.held().map(|hold| hold.probes), Some(probes));
        assert_eq!(bench.wakes_in(), Some(minutes * MINUTE));
        bench.after((minutes - 1) * MINUTE);
        assert_eq!(bench.asks_with(), None);
        bench.after(MINUTE);
        assert_eq!(bench.asks_with(), Some("R0"));
    }
    bench.brings(&tokens("A1", Some("R1"), HOUR)).on(Event::Written { number: 5 });
    assert!(bench.told().is_some());
    assert_eq!(bench.published().status.hold, None);
}

#[test]
fn a_release_tries_a_dead_sign_in_at_once_and_always_tells_what_came_of_it() {
    let mut bench = Bench::with(Some(stored("R0", None)));
    bench.fails(Meaning::SignInAgain).on(Event::Asked);
    assert_eq!(bench.asks_with(), Some("R0"));
    bench.fails(Meaning::SignInAgain);
    assert!(bench.held().is_some(), "still dead, and said again");
    bench.on(Event::Asked).brings(&tokens("A1", None, HOUR));
    assert_eq!((bench.access(), bench.told()), (Some("A1"), Some(Why::Asked)));
}

#[test]
fn a_registration_in_the_way_holds_without_trying_the_predecessor() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::FixConfiguration);
    assert_eq!(bench.held().map(|hold| hold.cause), Some(HoldCause::Registration));
    assert_eq!(bench.asks_with(), None);
    bench.on(Event::ConfigChanged);
    assert_eq!(bench.asks_with(), Some("R1"), "the change may have mended it");
}

#[test]
fn passing_failures_back_off_and_leave_everything_as_it_is() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE);
    for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 900, 900] {
        bench.fails(Meaning::TryAgain);
        let wait = Duration::from_secs(seconds);
        assert_eq!(bench.wakes_in(), Some(wait));
        assert!(bench.said.iter().any(|action| matches!(action, Action::Trouble(_))));
        bench.after(wait.checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(bench.asks_with(), None);
        bench.after(Duration::from_secs(1));
        assert_eq!(bench.asks_with(), Some("R1"));
    }
    bench.fails(Meaning::Wait(50 * MINUTE));
    assert_eq!(bench.wakes_in(), Some(50 * MINUTE), "as the endpoint asked");
    assert!(matches!(bench.answer(), Some(Err(NoToken::Unavailable { .. }))), "A1 has ended meanwhile");
    assert_eq!(bench.keeper.stored, Some(stored_after_first_refresh()));
    bench.after(50 * MINUTE).brings(&tokens("A2", None, HOUR));
    assert_eq!((bench.access(), bench.told()), (Some("A2"), Some(Why::Recovered)));
}

#[test]
fn mail_goes_on_while_the_access_token_lasts() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::TryAgain);
    assert!(matches!(bench.answer(), Some(Ok(_))));
    bench.after(22 * MINUTE);
    assert!(matches!(bench.answer(), Some(Ok(_))), "and while a request is under way");
}

#[test]
fn tokens_of_10_minutes_do_not_loop() {
    let mut bench = Bench::with(Some(stored("R0", None)));
    bench.brings(&tokens("A1", None, 10 * MINUTE));
    let mut requests = 1;
    for _ in 0..60 {
        bench.after(MINUTE);
        if bench.asks_with().is_some() {
            requests += 1;
            bench.brings(&tokens("A", None, 10 * MINUTE));
        }
    }
    assert_eq!(requests, 11, "every 6 minutes of an hour, and the first one");
}

#[test]
fn a_failed_write_is_repeated_and_its_token_not_relied_upon() {
    let mut bench = Bench::signed_in();
    let full = || "no space left".to_owned();
    bench.after(36 * MINUTE).brings(&tokens("A2", Some("R2"), HOUR));
    bench.on(Event::WriteFailed { number: 2, error: full() });
    assert_eq!(bench.access(), Some("A1"));
    assert!(bench.published().status.problem.as_ref().is_some_and(|problem| problem.error.contains("no space left")));
    assert_eq!(bench.wakes_in(), Some(Duration::from_secs(5)));
    bench.after(Duration::from_secs(5));
    assert_eq!(bench.writes().map(|written| written.current.expose()), Some("R2"));
    assert_eq!(bench.asks_with(), None, "R1 is used up: no second request");
    bench.on(Event::WriteFailed { number: 2, error: full() }).after(30 * MINUTE);
    assert!(matches!(bench.answer(), None | Some(Err(_))), "A1 has ended and A2 is not relied upon");
    bench.on(Event::Written { number: 2 });
    assert_eq!((bench.access(), bench.told()), (Some("A2"), Some(Why::Recovered)));
}

#[test]
fn answers_of_older_requests_change_nothing() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE);
    let old = bench.request();
    bench.on(Event::SignedIn(Box::new(stored("N0", None))));
    assert_eq!((bench.asks_with(), bench.told()), (Some("N0"), Some(Why::SignedIn)));
    bench.on(Event::TokensReceived { request: old, tokens: tokens("AX", Some("RX"), HOUR) });
    assert_eq!((bench.doings().len(), bench.access()), (0, Some("A1")));
    bench.on(Event::RefreshFailed { request: old, failure: failure(Meaning::SignInAgain) });
    assert_eq!(bench.doings().len(), 0);
    bench.on(Event::Written { number: old });
    bench.on(Event::Loaded(Ok(None)));
    assert_eq!(bench.doings().len(), 0);
    bench.brings(&tokens("B1", Some("N1"), HOUR));
    assert_eq!(bench.writes().and_then(|written| written.previous.as_ref()).map(Secret::expose), Some("N0"));
}

#[test]
fn a_new_sign_in_ends_a_hold_even_while_an_unwritten_one_waits() {
    let mut bench = Bench::with(None);
    assert_eq!(bench.held().map(|hold| (hold.cause, hold.probe_at)), Some((HoldCause::NotSignedIn, None)));
    assert_eq!(bench.wakes_in(), None);
    bench.on(Event::SignedIn(Box::new(stored("N0", None))));
    assert_eq!(bench.published().status.hold, None);
    bench.brings(&tokens("A1", Some("N1"), HOUR)).on(Event::WriteFailed { number: 1, error: "full".to_owned() });
    bench.on(Event::SignedIn(Box::new(stored("M0", None))));
    assert_eq!(bench.asks_with(), Some("M0"));
}

#[test]
fn a_rejected_token_is_replaced_once() {
    let mut bench = Bench::signed_in();
    bench.on(Event::Rejected { version: 1 });
    assert_eq!((bench.asks_with(), bench.access()), (Some("R1"), None));
    bench.on(Event::Rejected { version: 1 });
    assert_eq!(bench.doings().len(), 0, "199 others say the same");
    bench.brings(&tokens("A2", None, HOUR));
    assert_eq!(bench.access(), Some("A2"));
    bench.on(Event::Rejected { version: 1 });
    assert_eq!((bench.doings().len(), bench.access()), (0, Some("A2")), "a late refusal throws nothing away");
    bench.on(Event::Rejected { version: 2 });
    assert_eq!((bench.asks_with(), bench.access()), (None, Some("A2")), "a second one would not help");
    bench.on(Event::Rejected { version: 2 });
    assert_eq!(bench.doings().len(), 0);
    bench.after(11 * MINUTE).on(Event::Rejected { version: 2 });
    assert_eq!(bench.asks_with(), Some("R1"), "but later it may");
}

#[test]
fn a_rejection_does_not_break_the_endpoints_peace() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).fails(Meaning::Wait(10 * MINUTE)).on(Event::Rejected { version: 1 });
    assert_eq!((bench.asks_with(), bench.wakes_in()), (None, Some(10 * MINUTE)));
    assert!(matches!(bench.answer(), Some(Err(NoToken::Unavailable { .. }))));
}

#[test]
fn a_clock_that_goes_back_makes_no_wait_longer() {
    let mut bench = Bench::signed_in();
    bench.after(10 * MINUTE);
    bench.now = start() - 24 * 365 * HOUR;
    bench.on(Event::Tick);
    assert_eq!(bench.wakes_in(), Some(26 * MINUTE));
    assert!(matches!(bench.answer(), Some(Ok(_))));
    bench.after(26 * MINUTE);
    assert_eq!(bench.asks_with(), Some("R1"));
    bench.fails(Meaning::TryAgain);
    bench.now -= 24 * HOUR;
    bench.on(Event::Tick);
    assert_eq!(bench.wakes_in(), Some(Duration::from_secs(5)));
}

#[test]
fn a_clock_that_goes_forward_costs_one_request() {
    let mut bench = Bench::signed_in();
    bench.after(24 * 365 * HOUR);
    assert_eq!(bench.asks_with(), Some("R1"));
    bench.brings(&tokens("A2", None, HOUR)).after(MINUTE);
    assert_eq!(bench.doings().len(), 0);
    bench.now -= 24 * 365 * HOUR;
    bench.on(Event::Tick);
    assert_eq!((bench.doings().len(), bench.wakes_in()), (0, Some(35 * MINUTE)));
}

#[test]
fn a_change_of_configuration_in_mid_flight_keeps_the_answer_and_asks_again() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE).on(Event::ConfigChanged);
    assert_eq!(bench.asks_with(), None);
    bench.brings(&tokens("A2", Some("R2"), HOUR)).on(Event::Written { number: 2 });
    assert_eq!((bench.access(), bench.asks_with()), (Some("A2"), Some("R2")));
    bench.on(Event::ConfigChanged).fails(Meaning::FixConfiguration);
    assert_eq!((bench.held(), bench.asks_with()), (None, Some("R2")), "that was the old configuration's fault");
}

#[test]
fn a_sign_in_that_cannot_be_opened_is_held_and_looked_at_again() {
    let mut bench = Bench { keeper: Keeper::new(mailbox(), 0.0), now: start(), said: Vec::new() };
    bench.on(Event::Started).on(Event::Loaded(Err(ShelfError::WrongKey("sealed with another key".to_owned()))));
    assert_eq!(bench.held().map(|hold| hold.cause), Some(HoldCause::Key));
    let advice = bench.held().map(|hold| hold.advice.to_string()).unwrap_or_default();
    for command in ["xoauth2-relay account release lms@contoso.com", "xoauth2-relay login lms@contoso.com"] {
        assert!(advice.contains(command), "{advice}");
    }
    bench.on(Event::Asked);
    assert_eq!(bench.doings(), [&Action::Load]);
    bench.on(Event::Loaded(Err(ShelfError::Unavailable("busy".to_owned()))));
    assert_eq!(bench.wakes_in(), Some(Duration::from_secs(5)));
    bench.after(Duration::from_secs(5)).on(Event::Loaded(Ok(Some(stored("R0", None)))));
    assert_eq!(bench.asks_with(), Some("R0"));
}

#[test]
fn the_sign_in_of_another_instance_is_never_asked_with_until_a_person_says_whose_it_is() {
    let mut bench = Bench { keeper: Keeper::new(mailbox(), 0.0), now: start(), said: Vec::new() };
    let foreign = || Event::Loaded(Err(ShelfError::Foreign("it belongs to \"production\"".to_owned())));
    bench.on(Event::Started).on(foreign());
    assert_eq!(bench.held().map(|hold| (hold.cause, hold.probe_at)), Some((HoldCause::Clone, None)));
    for _ in 0..100 {
        bench.after(24 * HOUR);
        assert_eq!(bench.doings().len(), 0, "not once in a hundred days");
    }
    for asked in [Event::Asked, Event::ConfigChanged] {
        bench.on(asked);
        assert_eq!(bench.doings(), [&Action::Load]);
        bench.on(foreign());
        assert_eq!((bench.asks_with(), bench.held().map(|hold| hold.cause)), (None, Some(HoldCause::Clone)));
    }
    // Released: from here on the hold is no longer said, even if the endpoint is away.
    bench.on(Event::Asked).on(Event::Loaded(Ok(Some(stored("R0", None)))));
    assert_eq!(bench.asks_with(), Some("R0"));
    assert_eq!(bench.published().status.hold, None);
    bench.fails(Meaning::TryAgain);
    assert!(bench.published().status.hold.is_none() && bench.published().status.problem.is_some());
}

#[test]
fn the_person_is_taken_from_a_token_that_can_be_decoded_and_kept_otherwise() {
    use base64::Engine;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"upn":"lms@contoso.com"}"#);
    let mut bench = Bench::with(Some(stored("R0", None)));
    bench.brings(&tokens(&format!("e30.{claims}.s"), None, HOUR));
    assert_eq!(bench.published().status.signed_in_as.as_deref(), Some("lms@contoso.com"));
    bench.after(36 * MINUTE).brings(&tokens("opaque", None, HOUR));
    assert_eq!(bench.published().status.signed_in_as.as_deref(), Some("lms@contoso.com"));
}

/// A keeper of the application grant; it has asked for its first token.
fn application() -> Bench {
    let keeper = Keeper::new(mailbox(), 0.0).granted_by(Grant::Application);
    let mut bench = Bench { keeper, now: start(), said: Vec::new() };
    bench.on(Event::Started);
    bench
}

fn applies(bench: &Bench) -> bool {
    bench.said.iter().any(|action| matches!(action, Action::Apply { .. }))
}

#[test]
fn an_application_asks_at_once_writes_nothing_and_renews_at_60_percent() {
    let mut bench = application();
    assert_eq!(bench.doings(), [&Action::Apply { request: 1 }]);
    bench.brings(&tokens("A1", None, HOUR));
    assert_eq!((bench.access(), bench.told(), bench.writes()), (Some("A1"), Some(Why::Started), None));
    assert_eq!(bench.wakes_in(), Some(36 * MINUTE));
    bench.after(35 * MINUTE);
    assert!(!applies(&bench));
    bench.after(MINUTE);
    assert!(applies(&bench));
    bench.brings(&tokens("A2", Some("never-asked-for"), HOUR));
    assert_eq!((bench.access(), bench.told(), bench.writes()), (Some("A2"), None, None));
    let status = &bench.published().status;
    assert_eq!(status.grant, Grant::Application);
    assert_eq!((status.since, status.last_refresh), (Some(start()), Some(start() + 36 * MINUTE)));
}

#[test]
fn an_application_that_is_refused_is_held_for_its_registration_probed_and_never_not_signed_in() {
    for meaning in [Meaning::FixConfiguration, Meaning::SignInAgain] {
        let mut bench = application();
        bench.fails(meaning);
        assert_eq!(bench.held().map(|hold| hold.cause), Some(HoldCause::Registration));
        assert_eq!(bench.wakes_in(), Some(15 * MINUTE));
        bench.after(15 * MINUTE);
        assert!(applies(&bench));
        bench.fails(meaning).on(Event::Asked);
        assert!(applies(&bench), "a release tries it at once");
        bench.brings(&tokens("A1", None, HOUR));
        assert_eq!((bench.access(), bench.told()), (Some("A1"), Some(Why::Asked)));
        assert_eq!(bench.published().status.hold, None);
    }
}

#[test]
fn an_applications_mail_goes_on_while_the_endpoint_is_away_and_a_rejected_token_is_replaced_once() {
    let mut bench = application();
    bench.brings(&tokens("A1", None, HOUR)).after(36 * MINUTE).fails(Meaning::TryAgain);
    assert!(matches!(bench.answer(), Some(Ok(_))));
    assert_eq!(bench.wakes_in(), Some(Duration::from_secs(5)));
    bench.after(Duration::from_secs(5)).brings(&tokens("A2", None, HOUR));
    let version = bench.published().access.as_ref().unwrap().version;
    bench.on(Event::Rejected { version });
    assert!(applies(&bench));
    bench.brings(&tokens("A3", None, HOUR));
    let version = bench.published().access.as_ref().unwrap().version;
    bench.on(Event::Rejected { version });
    assert!(!applies(&bench));
    assert_eq!(bench.access(), Some("A3"), "the token is not what is wrong");
}

#[test]
fn another_grant_in_the_configuration_takes_effect_at_once() {
    let mut bench = Bench::with(None);
    assert_eq!(bench.published().status.hold.as_ref().map(|hold| hold.cause), Some(HoldCause::NotSignedIn));
    bench.keeper.change_grant(Grant::Application);
    bench.on(Event::ConfigChanged);
    assert!(applies(&bench));
    bench.brings(&tokens("A1", None, HOUR));
    assert_eq!((bench.access(), bench.told()), (Some("A1"), Some(Why::Started)));

    bench.after(36 * MINUTE);
    let late = bench.request();
    bench.keeper.change_grant(Grant::Delegated);
    bench.on(Event::ConfigChanged);
    assert_eq!((bench.doings(), bench.access()), (vec![&Action::Load], None));
    bench.on(Event::TokensReceived { request: late, tokens: tokens("A2", None, HOUR) });
    assert_eq!(bench.access(), None, "of the grant before");
    bench.on(Event::Loaded(Ok(Some(stored("R0", None)))));
    assert!(bench.request() > late);
    assert_eq!(bench.asks_with(), Some("R0"));
    bench.keeper.change_grant(Grant::Delegated);
    bench.on(Event::ConfigChanged);
    assert_eq!(bench.asks_with(), None, "the same grant changes nothing");
}

/// A keeper that was started with this on its shelf, at this time after it was written.
fn restarted(access: StoredAccess, after: jiff::SignedDuration) -> Bench {
    let sign_in = StoredSignIn { access: Some(access), ..stored("R1", Some("R0")) };
    let mut bench = Bench { keeper: Keeper::new(mailbox(), 0.0), now: start() + after, said: Vec::new() };
    bench.on(Event::Started).on(Event::Loaded(Ok(Some(sign_in))));
    bench
}

#[test]
fn after_a_restart_mail_leaves_at_once_with_the_token_that_was_kept() {
    let mut bench = restarted(kept("A1", start()), 10 * jiff::SignedDuration::from_mins(1));
    assert_eq!((bench.access(), bench.asks_with()), (Some("A1"), Some("R1")), "and it is asked for another one");
    for _ in 0..5 {
        bench.fails(Meaning::TryAgain).after(10 * MINUTE);
    }
    assert!(bench.answer().is_none_or(|answer| answer.is_err()), "an hour after it came it has ended");
    bench.brings(&tokens("A2", None, HOUR));
    assert_eq!(bench.writes().unwrap().access, Some(StoredAccess { ..kept("A2", bench.now) }));
    assert_eq!(bench.told(), Some(Why::Started));
}

#[test]
fn a_kept_token_is_worth_no_more_than_it_was_given_however_the_calendar_jumped() {
    let minutes = jiff::SignedDuration::from_mins;
    for (after, left) in [(minutes(0), 59), (minutes(58), 1), (minutes(-5), 59), (minutes(-60 * 24 * 400), 59)] {
        let mut bench = restarted(kept("A1", start()), after);
        bench.fails(Meaning::TryAgain);
        bench.now += (left * MINUTE).saturating_sub(Duration::from_secs(1));
        assert!(matches!(bench.answer(), Some(Ok(_))), "{after}");
        bench.now += Duration::from_secs(1);
        assert!(matches!(bench.answer(), Some(Err(_))), "{after}");
    }
    for after in [minutes(59), minutes(60 * 24 * 400)] {
        assert_eq!(restarted(kept("A1", start()), after).access(), None, "{after}");
    }
}

#[test]
fn a_rejected_token_is_not_kept() {
    let mut bench = restarted(kept("A1", start()), jiff::SignedDuration::ZERO);
    bench.on(Event::Rejected { version: 1 });
    let written = bench.writes().expect("without the token").clone();
    assert_eq!((written.current.expose(), written.access), ("R1", None));
    assert_eq!(bench.access(), None);
    bench.on(Event::Written { number: 0 });
    assert!(bench.keeper.asking().is_some(), "the request under way goes on");
    bench.brings(&tokens("A2", Some("R2"), HOUR)).on(Event::Rejected { version: 1 });
    assert_eq!(bench.writes(), None, "a late refusal does not overwrite what is being written");
    bench.on(Event::Written { number: 2 });
    bench.on(Event::Rejected { version: 2 });
    assert_eq!(bench.access(), Some("A2"), "it took the place of a rejected one a moment ago");
    assert_eq!(bench.writes().map(|written| written.access.clone()), Some(None), "but it is not kept either");
}

#[test]
fn when_both_are_refused_the_cause_is_what_was_said_of_the_token_in_use() {
    let mut bench = Bench::signed_in();
    bench.after(36 * MINUTE);
    let request = bench.request();
    let revoked =
        Failure { meaning: Meaning::SignInAgain, codes: vec![50173], ..Failure::passing("revoked".to_owned()) };
    bench.on(Event::RefreshFailed { request, failure: revoked });
    bench.fails(Meaning::SignInAgain);
    assert_eq!(bench.held().map(|hold| hold.codes.as_slice()), Some(&[50173][..]));
    bench.on(Event::Asked).fails(Meaning::SignInAgain).fails(Meaning::SignInAgain);
    assert_eq!(bench.held().map(|hold| hold.codes.as_slice()), Some(&[70008][..]), "and not that of an earlier probe");
}

#[test]
fn a_token_that_replaced_a_rejected_one_is_known_as_such_even_if_the_predecessor_brought_it() {
    let mut bench = Bench::signed_in();
    bench.on(Event::Rejected { version: 1 }).fails(Meaning::SignInAgain).brings(&tokens("A2", Some("R2"), HOUR));
    let number = bench.request();
    bench.on(Event::Written { number }).on(Event::Rejected { version: number });
    assert_eq!((bench.asks_with(), bench.access()), (None, Some("A2")));
}

#[test]
fn how_long_a_sign_in_is_good_at_least_is_said_where_somebody_promises_it() {
    let good_until = |bench: &Bench| bench.published().status.good_until_at_least;
    let days = |days: u32| start() + days * 24 * HOUR;
    let mut bench = Bench::signed_in();
    assert_eq!(good_until(&bench), None, "nobody promised anything");
    bench.keeper.expect_refresh_life(Some(90 * 24 * HOUR));
    bench.on(Event::Tick);
    assert_eq!(good_until(&bench), Some(days(90)));
    bench.after(36 * MINUTE).fails(Meaning::TryAgain);
    assert_eq!(good_until(&bench), Some(days(90)), "a failure changes nothing");
    bench.on(Event::Asked);
    bench.brings(&Tokens { refresh_life: Some(24 * HOUR), ..tokens("A2", Some("R2"), HOUR) });
    let number = bench.request();
    bench.on(Event::Written { number });
    assert_eq!(good_until(&bench), Some(days(1) + 36 * MINUTE), "the endpoint knows better");
    bench.now = start();
    bench.on(Event::Tick);
    assert_eq!(good_until(&bench), Some(days(1)), "a calendar that went back promises no more than there is");
    bench.after(HOUR).fails(Meaning::FixConfiguration);
    assert_eq!(good_until(&bench), None, "refused");
}

#[test]
fn a_refresh_token_that_was_never_tried_promises_nothing() {
    let unproven = StoredSignIn { refresh_life: Some(Duration::ZERO), ..stored("R0", None) };
    let mut bench = Bench::with(Some(unproven));
    bench.keeper.expect_refresh_life(Some(90 * 24 * HOUR));
    bench.fails(Meaning::TryAgain);
    assert_eq!(bench.published().status.good_until_at_least, None);
}
