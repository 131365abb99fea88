//! Dates as mail writes them (RFC 5322 section 3.3).

use jiff::Timestamp;

/// `Mon, 4 Aug 2025 11:15:30 +0000`. Always in UTC: the machine's own zone is nobody's business.
pub fn date(at: Timestamp) -> String {
    at.strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_5322_says() {
        let at: Timestamp = "2025-08-04T11:15:30.999Z".parse().unwrap();
        assert_eq!(date(at), "Mon, 4 Aug 2025 11:15:30 +0000");
        assert_eq!(date(Timestamp::UNIX_EPOCH), "Thu, 1 Jan 1970 00:00:00 +0000");
    }
}
