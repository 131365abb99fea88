//! Entra ID, as far as it matters here.

use std::time::Duration;

use crate::config::Secret;
use crate::signin::answer::Tokens;

/// A moment or a span in milliseconds of true time.
pub type Ms = i64;

/// Rotates at every refresh. Refresh token `n` is good until a later one is used: what a client that may be killed at any moment needs,
/// and no more than that.
pub struct Entra {
    issued: u64,
    used: u64,
    /// Issued, but not known everywhere: refused however often it is shown.
    strayed: Vec<u64>,
    /// When access token `n` really ends.
    ends: Vec<Ms>,
}

impl Entra {
    pub fn new() -> Self {
        Self { issued: 0, used: 0, strayed: Vec::new(), ends: vec![0] }
    }

    /// `None`: refused for certain.
    pub fn redeem(&mut self, token: &Secret, minutes: i64, now: Ms) -> Option<Tokens> {
        let number = number(token);
        if number < self.used || self.strayed.contains(&number) {
            return None;
        }
        self.used = number;
        self.issued += 1;
        let life = minutes * 60_000;
        self.ends.push(now + life);
        Some(Tokens {
            access: Secret::new(format!("A{}", self.issued)),
            expires_in: Some(Duration::from_millis(life.unsigned_abs())),
            refresh: Some(Secret::new(format!("R{}", self.issued))),
            refresh_life: None,
            scope: None,
            date: None,
        })
    }

    /// The refresh token given out last is refused from now on, though nobody has used it.
    pub fn lose_the_last(&mut self) {
        self.strayed.push(self.issued);
    }

    /// When this access token really ends.
    pub fn end_of(&self, access: &Secret) -> Ms {
        usize::try_from(number(access)).map_or(0, |number| self.ends[number])
    }
}

/// The number in the name of a token.
pub fn number(token: &Secret) -> u64 {
    token.expose()[1..].parse().expect("a letter and a number")
}
