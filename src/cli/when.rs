//! Times for people: on the clock of their machine, and how far away.

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};

/// A local time, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A local time to the minute; the day only if it is another one than today.
pub(super) fn clock(at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (at.to_zoned(TimeZone::system()), now.to_zoned(TimeZone::system()));
    let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

/// A local time with the distance to it: `2026-11-21 10:00:00 (5 minutes ago)`.
pub(super) fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", time(at), distance(at, now))
}

/// `5 minutes ago`, `in 3 hours`, `just now`.
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let span = span(seconds.unsigned_abs());
    match (seconds, span) {
        (_, None) => "just now".to_owned(),
        (..0, Some(span)) => format!("{span} ago"),
        (_, Some(span)) => format!("in {span}"),
    }
}

/// How far away a day is, in days however many they are: for what ends on a known day.
pub(super) fn days(day: Date, today: Date) -> String {
    match today.until(day).map_or(0, |span| span.get_days()) {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        -1 => "yesterday".to_owned(),
        days @ 2.. => format!("in {days} days"),
        days => format!("{} days ago", -days),
    }
}

/// A line of the journal as people read it: the times that the relay has named in it are those of this machine, the day only if it is another
/// one than `at`'s. Whatever a server has said stays word for word.
pub(super) fn localised(text: &str, at: Timestamp) -> String {
    /// What stands before such a time.
    const NAMED: [&str; 3] = ["next try at ", "next try from ", "is told of it at "];
    let mut text = text.to_owned();
    for words in NAMED {
        let Some((before, behind)) = text.rsplit_once(words) else { continue };
        let Some(end) = behind.find('Z').map(|zone| zone + 1) else { continue };
        let Ok(named) = behind[..end].parse::<Timestamp>() else { continue };
        let zone = TimeZone::system;
        let is_same_day = named.to_zoned(zone()).date() == at.to_zoned(zone()).date();
        let format = if is_same_day { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        text = format!("{before}{words}{}{}", named.to_zoned(zone()).strftime(format), &behind[end..]);
    }
    text
}

/// The largest unit that there are two of, so that nothing is off by more than a third; below two minutes seconds.
fn span(seconds: u64) -> Option<String> {
    const UNITS: [(u64, &str); 5] =
        [(365 * 86_400, "years"), (30 * 86_400, "months"), (86_400, "days"), (3600, "hours"), (60, "minutes")];
    if seconds < 5 {
        return None;
    }
    let unit = UNITS.iter().find(|(unit, _)| seconds >= 2 * unit);
    Some(unit.map_or_else(|| format!("{seconds} seconds"), |(unit, name)| format!("{} {name}", seconds / unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_counted_in_days() {
        let today: Date = "2026-11-21".parse().unwrap();
        for (day, told) in [
            ("2027-05-01", "in 161 days"),
            ("2026-11-22", "tomorrow"),
            ("2026-11-21", "today"),
            ("2026-11-20", "yesterday"),
            ("2025-11-21", "365 days ago"),
        ] {
            assert_eq!(days(day.parse().unwrap(), today), told);
        }
    }

    #[test]
    fn times_in_the_journal_are_those_of_this_machine_and_a_servers_stay_as_they_are() {
        let at: Timestamp = "2026-11-21T15:54:51Z".parse().unwrap();
        let said = "450 4.7.0 try again at 2026-11-21T16:00:00Z [AM5.outlook.com 2026-11-21T15:54:51.123Z 08DC]";
        let line =
            |when: &str| format!("try 1 through lms@contoso.com: you@example.com not yet: {said}; next try {when}");
        let soon: Timestamp = "2026-11-21T15:55:51.123Z".parse().unwrap();
        let zoned = soon.to_zoned(TimeZone::system());
        let told = localised(&line(&format!("at {soon}")), at);
        assert_eq!(told, line(&format!("at {}", zoned.strftime("%H:%M:%S"))));
        let told = localised(&line(&format!("from {soon} on; more")), at - std::time::Duration::from_hours(48));
        assert_eq!(told, line(&format!("from {} on; more", zoned.strftime("%Y-%m-%d %H:%M:%S"))));
        for text in ["next try at noon", "next try at Z", "next try at ", "2026-11-21T15:55:51.123Z"] {
            assert_eq!(localised(text, at), text);
        }
    }

    #[test]
    fn a_distance_is_told_in_the_unit_that_fits() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        for (seconds, told) in [
            (0, "just now"),
            (-4, "just now"),
            (-60, "60 seconds ago"),
            (-119, "119 seconds ago"),
            (120, "in 2 minutes"),
            (-7_199, "119 minutes ago"),
            (7_200, "in 2 hours"),
            (-2 * 86_400, "2 days ago"),
            (59 * 86_400, "in 59 days"),
            (60 * 86_400, "in 2 months"),
            (-729 * 86_400, "24 months ago"),
            (-730 * 86_400, "2 years ago"),
        ] {
            assert_eq!(distance(Timestamp::from_second(1_795_000_000 + seconds).unwrap(), now), told);
        }
    }
}
