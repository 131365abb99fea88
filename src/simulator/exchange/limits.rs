//! What Exchange allows a mailbox: sessions at once, messages in any minute, recipients in any day. Time is an argument.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::super::options::Options;

const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// The day is counted in minutes, so that it takes no more memory than it has of them.
const DAY_IN_MINUTES: i64 = 24 * 60;

/// What each mailbox has used.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    mailboxes: HashMap<String, Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    /// The sessions that may send, by number. The first ones keep their place until they close.
    seats: Vec<u64>,
    /// When the messages of the last minute were accepted; not kept where there is no limit.
    minute: VecDeque<Timestamp>,
    /// Recipients by minute since the epoch.
    day: VecDeque<(i64, u64)>,
    today: u64,
}

/// Why a message is not taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Sessions,
    Minute,
    Day,
}

impl Limits {
    /// A session signed in: it takes a seat if one is free.
    pub(super) fn enter(&mut self, options: &Options, mailbox: &str, session: u64) -> bool {
        let usage = self.usage(mailbox);
        if usage.seats.contains(&session) {
            return true;
        }
        let free = options.connections == 0 || usage.seats.len() < options.connections as usize;
        if free {
            usage.seats.push(session);
        }
        free
    }

    /// A session closed.
    pub(super) fn leave(&mut self, mailbox: &str, session: u64) {
        self.usage(mailbox).seats.retain(|seat| *seat != session);
    }

    /// Counts a message for so many recipients, if it may be taken.
    pub(super) fn admit(
        &mut self,
        options: &Options,
        mailbox: &str,
        session: u64,
        recipients: usize,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        if !self.enter(options, mailbox, session) {
            return Err(Exceeded::Sessions);
        }
        let usage = self.usage(mailbox);
        if options.messages_per_minute > 0 {
            while usage.minute.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
                usage.minute.pop_front();
            }
            if usage.minute.len() >= options.messages_per_minute as usize {
                return Err(Exceeded::Minute);
            }
        }
        if options.recipients_per_day > 0 {
            usage.count_day(now, recipients as u64, u64::from(options.recipients_per_day))?;
        }
        if options.messages_per_minute > 0 {
            usage.minute.push_back(now);
        }
        Ok(())
    }

    /// A session of its own takes the message at this time, or says what is exceeded: for whoever wants to know whether it would.
    #[cfg(test)]
    pub(crate) fn take(
        &mut self,
        options: &Options,
        session: u64,
        recipients: usize,
        now: Timestamp,
    ) -> Result<(), String> {
        self.admit(options, "", session, recipients, now).map_err(|exceeded| format!("{exceeded:?}"))
    }

    /// A session opens.
    #[cfg(test)]
    pub(crate) fn open(&mut self, options: &Options, session: u64) -> bool {
        self.enter(options, "", session)
    }

    /// It closes.
    #[cfg(test)]
    pub(crate) fn close(&mut self, session: u64) {
        self.leave("", session);
    }

    fn usage(&mut self, mailbox: &str) -> &mut Usage {
        // Not the entry API: it would copy the name for every message.
        if !self.mailboxes.contains_key(mailbox) {
            self.mailboxes.insert(mailbox.to_owned(), Usage::default());
        }
        self.mailboxes.get_mut(mailbox).expect("put there by the line above")
    }
}

impl Usage {
    fn count_day(&mut self, now: Timestamp, recipients: u64, limit: u64) -> Result<(), Exceeded> {
        let minute = now.as_second().div_euclid(60);
        while let Some((_, old)) = self.day.pop_front_if(|(at, _)| minute - *at >= DAY_IN_MINUTES) {
            self.today -= old;
        }
        if self.today + recipients > limit {
            return Err(Exceeded::Day);
        }
        match self.day.back_mut() {
            Some((at, count)) if *at == minute => *count += recipients,
            _ => self.day.push_back((minute, recipients)),
        }
        self.today += recipients;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_secs(seconds)
    }

    #[test]
    fn no_minute_takes_more_than_its_messages() {
        let (mut limits, options) = (Limits::default(), Options { messages_per_minute: 2, ..Options::default() });
        let mut admit = |seconds| limits.admit(&options, "a@b", 1, 1, at(seconds));
        assert_eq!(admit(0), Ok(()));
        assert_eq!(admit(59), Ok(()));
        assert_eq!(admit(59), Err(Exceeded::Minute));
        assert_eq!(admit(60), Ok(()), "the first one is a minute old");
        assert_eq!(admit(118), Err(Exceeded::Minute));
        assert_eq!(admit(119), Ok(()));
    }

    #[test]
    fn the_first_sessions_keep_their_seats_until_they_close() {
        let (mut limits, options) = (Limits::default(), Options { connections: 2, ..Options::default() });
        assert!(limits.enter(&options, "a@b", 1) && limits.enter(&options, "a@b", 2));
        assert!(!limits.enter(&options, "a@b", 3));
        assert!(limits.enter(&options, "c@d", 3), "another mailbox has seats of its own");
        assert_eq!(limits.admit(&options, "a@b", 3, 1, at(0)), Err(Exceeded::Sessions));
        assert_eq!(limits.admit(&options, "a@b", 1, 1, at(0)), Ok(()));
        limits.leave("a@b", 1);
        assert_eq!(limits.admit(&options, "a@b", 3, 1, at(0)), Ok(()));
    }

    #[test]
    fn no_day_takes_more_than_its_recipients() {
        let (mut limits, options) = (Limits::default(), Options { recipients_per_day: 10, ..Options::default() });
        let mut admit = |seconds, recipients| limits.admit(&options, "a@b", 1, recipients, at(seconds));
        assert_eq!(admit(0, 8), Ok(()));
        assert_eq!(admit(3600, 3), Err(Exceeded::Day));
        assert_eq!(admit(3600, 2), Ok(()));
        assert_eq!(admit(86_399 - 60, 1), Err(Exceeded::Day));
        assert_eq!(admit(86_400, 8), Ok(()));
    }

    #[test]
    fn zero_is_no_limit() {
        let options = Options { messages_per_minute: 0, connections: 0, recipients_per_day: 0, ..Options::default() };
        let mut limits = Limits::default();
        for session in 0..100 {
            assert_eq!(limits.admit(&options, "a@b", session, 1000, at(0)), Ok(()));
        }
        assert!(limits.usage("a@b").minute.is_empty());
    }
}
