//! `log` and `log_format`.

use tracing_subscriber::filter::Targets;

use crate::config::Log;
use crate::config::keys::nearest;
use crate::config::review::Review;
use crate::config::section::{Section, choice, parsed};
use crate::config::units::quoted;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn log(top: &Section<'_>, review: &mut Review) -> Log {
    let filter = top.read("log", parsed(filter), review);
    let json = top.read("log_format", choice(&[("text", false), ("json", true)], &[]), review);
    Log { filter: filter.unwrap_or_else(|| "info".to_owned()), json: json.unwrap_or(false) }
}

/// A level, or directives such as `xoauth2_relay::outbound=trace,info`.
fn filter(text: &str) -> Result<String, String> {
    for part in text.split(',').map(str::trim) {
        // To the filter a lone word that is no level is the name of a module: `inof` would log nothing at all.
        let word = part.bytes().all(|b| b.is_ascii_alphanumeric());
        if word && !LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level)) {
            return Err(match nearest(part, LEVELS.into_iter()) {
                Some(near) => format!("{} is no level; did you mean {near:?}?", quoted(part)),
                None => format!("{} is no level: use {}", quoted(part), LEVELS.join(", ")),
            });
        }
    }
    match text.parse::<Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err(format!("{} is no filter: write a level, or \"xoauth2_relay::outbound=trace,info\"", quoted(text)))
        }
    }
}
