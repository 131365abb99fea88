//! What a receiver is told: one alert or several at once, in words for somebody who is tired.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};

use super::trouble::{Cause, Severity};
use crate::config::Config;

/// The longest error that is repeated, in characters.
const LONGEST_ERROR: usize = 400;
/// More than this many alerts at once are counted, not listed, for people.
const MOST_LISTED: usize = 20;

/// Whether it begins, goes on or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is new, or its form is.
    Raised,
    /// It was told before and still lasts.
    Reminder,
    /// It is over.
    Solved,
    /// It is only a try.
    Test,
}

impl State {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Reminder => "reminder",
            Self::Solved => "solved",
            Self::Test => "test",
        }
    }
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is about; `None`: a test.
    pub cause: Option<Cause>,
    /// Whether it begins, goes on or is over.
    pub state: State,
    /// How bad it is, or was.
    pub severity: Severity,
    /// A headline, without the state.
    pub title: String,
    /// One sentence, without a full stop.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends or has ended, for countdowns.
    pub ends: Option<Timestamp>,
    /// How many messages wait because of it; `None` where that says nothing.
    pub waiting: Option<u64>,
    /// The reply or error, word for word.
    pub error: Option<String>,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// The one thing to do; empty if it is over.
    pub todo: String,
}

/// What is told to one receiver in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The relay's name.
    pub relay: String,
    /// When this was put together.
    pub at: Timestamp,
    /// At least one.
    pub items: Vec<Item>,
    /// For the times that people read.
    pub zone: TimeZone,
}

impl Item {
    /// What `alert test` sends.
    pub fn test(at: Timestamp) -> Self {
        Self {
            cause: None,
            state: State::Test,
            severity: Severity::Warning,
            title: "This is a test: alerts of the relay arrive here".to_owned(),
            text: "Nothing is wrong".to_owned(),
            since: at,
            ends: None,
            waiting: None,
            error: None,
            codes: Vec::new(),
            todo: String::new(),
        }
    }

    /// The headline with its state.
    pub fn headline(&self) -> String {
        match self.state {
            State::Raised | State::Test => self.title.clone(),
            State::Reminder => format!("Still: {}", uncapitalised(&self.title)),
            State::Solved => format!("Solved: {}", uncapitalised(&self.title)),
        }
    }

    /// The error on one line and cut to what can be read: Microsoft's own sentence, without the numbers behind it.
    pub fn short_error(&self) -> Option<String> {
        let error = self.error.as_deref()?;
        let error = error.split(" Trace ID:").next().unwrap_or(error);
        let line: String = error.split_whitespace().collect::<Vec<_>>().join(" ");
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        if line.is_empty() {
            return None;
        }
        let is_long = line.chars().count() > LONGEST_ERROR;
        let cut: String = line.chars().take(LONGEST_ERROR).collect();
        Some(if is_long { format!("{cut} …") } else { cut })
    }

    /// `12 messages wait; none is lost`.
    pub fn waiting_text(&self) -> Option<String> {
        Some(match self.waiting? {
            0 => "No mail waits yet".to_owned(),
            1 => "1 message waits; it is not lost".to_owned(),
            n => format!("{n} messages wait; none is lost"),
        })
    }

    /// Labels and values, in the order in which somebody wants to know them.
    pub fn details(&self, zone: &TimeZone) -> Vec<(&'static str, String)> {
        let time = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        let mut details = Vec::new();
        match self.ends {
            _ if self.state == State::Test => {}
            Some(ends) if self.state != State::Solved => details.push(("Ends", time(ends))),
            _ => details.push(("Since", time(self.since))),
        }
        if let Some(waiting) = self.waiting_text().filter(|_| self.state != State::Solved) {
            details.push(("Mail", waiting));
        }
        if let Some(error) = self.short_error() {
            details.push(("Error", error));
        }
        if !self.todo.is_empty() {
            details.push(("To do", self.todo.clone()));
        }
        details
    }
}

impl Notice {
    /// These alerts of the relay with this configuration.
    pub fn new(config: &Config, at: Timestamp, items: Vec<Item>) -> Self {
        let relay = match &config.instance {
            Some(instance) => format!("{} ({instance})", config.hostname),
            None => config.hostname.clone(),
        };
        Self { relay, at, items, zone: TimeZone::system() }
    }

    /// A headline for all of it.
    pub fn title(&self) -> String {
        if let [item] = self.items.as_slice() {
            return item.headline();
        }
        let solved = self.items.iter().filter(|item| item.state == State::Solved).count();
        match (self.items.len() - solved, solved) {
            (0, solved) => format!("{solved} alerts are solved"),
            (open, 0) => format!("{open} alerts"),
            (open, solved) => format!("{open} alert{}, and {solved} solved", if open == 1 { "" } else { "s" }),
        }
    }

    /// Which of its alerts are listed for people, and how many are not.
    pub fn listed(&self) -> (&[Item], usize) {
        let (listed, rest) = self.items.split_at(self.items.len().min(MOST_LISTED));
        (listed, rest.len())
    }

    /// The worst of it; nothing that is over is bad.
    pub fn severity(&self) -> Severity {
        let open = self.items.iter().filter(|item| item.state != State::Solved);
        open.map(|item| item.severity).max().unwrap_or(Severity::Warning)
    }

    /// Whether all of it is over.
    pub fn is_solved(&self) -> bool {
        self.items.iter().all(|item| item.state == State::Solved)
    }

    /// All of it as plain text, the headline of a single alert left out: that is the title.
    pub fn text(&self) -> String {
        let (listed, rest) = self.listed();
        let mut text = String::new();
        for item in listed {
            if self.items.len() > 1 {
                let _ = writeln!(text, "* {}", item.headline());
            }
            if !item.text.is_empty() {
                let _ = writeln!(text, "{}.", item.text.trim_end_matches('.'));
            }
            for (label, value) in item.details(&self.zone) {
                let _ = writeln!(text, "{label}: {value}");
            }
            text.push('\n');
        }
        if rest > 0 {
            let _ = writeln!(text, "… and {rest} more: xoauth2-relay status\n");
        }
        let _ = write!(text, "Relay: {}", self.relay);
        text
    }
}

/// `Mail through …` behind `Still: `. Names stay as they are.
fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("{}{}", first.to_lowercase(), chars.as_str())
        }
        _ => text.to_owned(),
    }
}
