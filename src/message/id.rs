//! The name of a message in the queue.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// Crockford's base 32 in lower case: no letter that is taken for a digit when read over the phone.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 13;
const RANDOM_BITS: u32 = 20;

/// Names one accepted message for ever: 13 letters and digits, in order of arrival.
///
/// A number of 63 bits: milliseconds since 1970, then 20 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(i64);

impl QueueId {
    /// The id of a message that arrived at `at`; `random` parts those of one millisecond (its lowest 20 bits count).
    pub fn new(at: Timestamp, random: u32) -> Self {
        let random = i64::from(random & ((1 << RANDOM_BITS) - 1));
        Self((at.as_millisecond().max(0) << RANDOM_BITS) | random)
    }

    /// The number as the store keeps it.
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number as the store keeps it.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The id that follows this one: for a second message within the same millisecond and the same draw.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for n in (0..LENGTH).rev() {
            let digit = usize::try_from((self.0 >> (5 * n)) & 31).unwrap_or_default();
            fmt::Write::write_char(f, char::from(ALPHABET[digit]))?;
        }
        Ok(())
    }
}

/// The text is not the id of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a message id: ids are 13 letters and digits, as shown by `queue list`")]
pub struct NotAnId(String);

impl FromStr for QueueId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let wrong = || NotAnId(text.to_owned());
        if text.len() != LENGTH {
            return Err(wrong());
        }
        let mut number: i64 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&b| b == byte.to_ascii_lowercase()).ok_or_else(wrong)?;
            let digit = i64::try_from(digit).map_err(|_| wrong())?;
            number = number.checked_mul(32).and_then(|n| n.checked_add(digit)).ok_or_else(wrong)?;
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written_and_sorts_by_arrival() {
        let at = Timestamp::from_millisecond(1_795_000_000_123).unwrap();
        let id = QueueId::new(at, 0xF_FFFF);
        assert_eq!(id.to_string().parse(), Ok(id));
        let later = QueueId::new(at + std::time::Duration::from_millis(1), 0);
        assert!(id < later);
        assert!(id.to_string() < later.to_string());
    }

    #[test]
    fn what_is_no_id_is_named() {
        for text in ["", "1", "zzzzzzzzzzzzz", "0123456789ab!"] {
            assert!(text.parse::<QueueId>().is_err(), "{text}");
        }
    }
}
