//! Ninety days with a moody endpoint, a jumping clock and a process that is killed at any moment.
//!
//! The endpoint rotates at every refresh and takes a token until its successor has been used, as Entra ID does at the least. A
//! refresh takes a step of its own and may be cut off anywhere: before the request, before the answer, before the write.

use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::Secret;

const MINUTES: u64 = 90 * 24 * 60;
const MINUTE: Duration = Duration::from_mins(1);

/// Entra ID, as far as it matters here: token `n` is good while no later one than `n + 1` was used.
struct Entra {
    issued: u64,
    used: u64,
    requests: u64,
}

impl Entra {
    fn redeem(&mut self, token: &Secret, life: Duration) -> Option<Tokens> {
        self.requests += 1;
        let number: u64 = token.expose().strip_prefix('R')?.parse().ok()?;
        // A token dies when its successor is used.
        if number < self.used {
            return None;
        }
        self.used = number;
        self.issued += 1;
        Some(Tokens {
            access: Secret::new(format!("A{}", self.issued)),
            expires_in: Some(life),
            refresh: Some(Secret::new(format!("R{}", self.issued))),
            scope: None,
            date: None,
        })
    }
}

struct World {
    random: StdRng,
    entra: Entra,
    /// What is on disk.
    shelf: StoredSignIn,
    keeper: Keeper,
    /// The machine's calendar.
    clock: Timestamp,
    /// The calendar is not the time: when the access token really ends, in minutes of the simulation.
    access_until: u64,
    minute: u64,
    outage: bool,
    restarts: u64,
    jumps: u64,
    /// Minutes without a usable token, outages and half an hour after them left out.
    gaps: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Timestamp::from_second(1_800_000_000).unwrap();
        let mailbox = Address::parse("lms@contoso.com").unwrap();
        let shelf = StoredSignIn {
            account: mailbox.clone(),
            current: Secret::new("R0"),
            previous: None,
            signed_in_as: None,
            since: clock,
            refreshed_at: clock,
        };
        Self {
            random: StdRng::seed_from_u64(seed),
            entra: Entra { issued: 0, used: 0, requests: 0 },
            shelf,
            keeper: Keeper::new(mailbox, 0.5),
            clock,
            access_until: 0,
            minute: 0,
            outage: false,
            restarts: 0,
            jumps: 0,
            gaps: 0,
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    /// Tells the keeper, and does what it says; `false` if the process was killed meanwhile.
    fn feed(&mut self, event: Event) -> bool {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.keeper.on(event, self.clock) {
                match action {
                    Action::Load => events.push(Event::Loaded(Ok(Some(self.shelf.clone())))),
                    Action::Refresh { request, refresh_token, .. } => match self.refresh(request, &refresh_token) {
                        Some(event) => events.push(event),
                        None => return false,
                    },
                    Action::Write { number, stored } => {
                        if self.chance(500) {
                            return false;
                        }
                        if self.chance(100) {
                            events.push(Event::WriteFailed { number, error: "disk full".to_owned() });
                            continue;
                        }
                        self.shelf = *stored;
                        if self.chance(500) {
                            return false;
                        }
                        events.push(Event::Written { number });
                    }
                    Action::Publish(published) => {
                        if let Some(access) = published.access {
                            let number = |text: &str| text[1..].parse::<u64>().unwrap();
                            let (access, on_disk) =
                                (number(access.secret.expose()), number(self.shelf.current.expose()));
                            assert!(on_disk >= access, "A{access} is relied upon while R{on_disk} is on disk");
                        }
                    }
                    Action::Apply { .. } => panic!("nobody asked for the application grant"),
                    Action::Hold(hold) => panic!("minute {}: held: {}", self.minute, hold.error),
                    Action::Cleared(_) | Action::Trouble(_) | Action::WakeAt(_) => {}
                }
            }
        }
        true
    }

    fn refresh(&mut self, request: u64, refresh_token: &Secret) -> Option<Event> {
        if self.chance(300) {
            return None;
        }
        let failed = |failure| Some(Event::RefreshFailed { request, failure });
        if self.outage {
            // Half of the requests get there all the same; only their answers are lost.
            if self.chance(2) {
                self.entra.redeem(refresh_token, MINUTE);
            }
            return failed(Failure::passing("no answer".to_owned()));
        }
        let minutes = self.random.random_range(60..=90);
        let life = u32::try_from(minutes).unwrap() * MINUTE;
        let Some(tokens) = self.entra.redeem(refresh_token, life) else {
            return failed(Failure { meaning: Meaning::SignInAgain, ..Failure::passing("used up".to_owned()) });
        };
        if self.chance(300) {
            return None;
        }
        self.access_until = self.minute + minutes;
        Some(Event::TokensReceived { request, tokens })
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.keeper = Keeper::new(self.shelf.account.clone(), 0.5);
        while !self.feed(Event::Started) {
            self.keeper = Keeper::new(self.shelf.account.clone(), 0.5);
        }
    }

    fn has_token(&self) -> bool {
        let published = self.keeper.published.as_ref();
        let usable = published.and_then(|published| published.access.as_ref());
        usable.is_some_and(|access| access.usable_at(self.clock)) && self.minute < self.access_until
    }

    fn live(&mut self) {
        self.restart();
        let mut calm = 0_u32;
        while self.minute < MINUTES {
            self.minute += 1;
            self.clock += MINUTE;
            // An outage of two hours each week, a jump of hours each month.
            self.outage = self.minute % (7 * 24 * 60) >= (7 * 24 - 2) * 60;
            calm = if self.outage { 0 } else { calm + 1 };
            if self.minute.is_multiple_of(30 * 24 * 60 / 2) {
                self.jumps += 1;
                let hours = Duration::from_hours(self.random.random_range(1..5000));
                self.clock = if self.jumps.is_multiple_of(2) { self.clock - hours } else { self.clock + hours };
            }
            if self.chance(2000) || !self.feed(Event::Tick) {
                self.restart();
            }
            if calm > 30 && !self.has_token() {
                self.gaps += 1;
            }
        }
    }
}

#[test]
fn ninety_days_of_outages_jumps_and_kills_lose_no_sign_in() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        world.live();
        assert!(world.restarts > 30 && world.jumps == 6, "seed {seed}: it was put to the test");
        // A failed write is repeated after five seconds, which here is the next minute.
        assert!(world.gaps <= world.restarts / 20, "seed {seed}: {} minutes without a token", world.gaps);
        // One request each 33 to 50 minutes, twelve outages with at most twelve tries, and those of the restarts.
        let least = MINUTES / 50 - 12 * 3;
        let most = MINUTES / 33 + 12 * 14 + world.restarts * 2 + world.jumps;
        let requests = world.entra.requests;
        assert!((least..=most).contains(&requests), "seed {seed}: {requests} requests, {least} to {most} expected");
    }
}
