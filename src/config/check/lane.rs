//! `lane` and `[[app.lane_rule]]`.

use crate::config::document::{Node, Value};
use crate::config::keys::LANE_RULE;
use crate::config::lane::{Glob, LaneRule};
use crate::config::review::Review;
use crate::config::section::{Section, choice, parsed, text};
use crate::config::units::quoted;
use crate::message::Lane;

const LANES: [(&str, Lane); 3] = [("urgent", Lane::Urgent), ("normal", Lane::Normal), ("bulk", Lane::Bulk)];
/// More rules than anybody wants to read.
const MOST_RULES: usize = 100;
/// Longer than any subject that is worth a rule.
const LONGEST: usize = 400;

/// The lane of all its mail; `None` where each mail has to be looked at.
pub(super) fn lane(app: &Section<'_>, review: &mut Review) -> Option<Lane> {
    let choices: Vec<_> = [("auto", None)].into_iter().chain(LANES.map(|(name, lane)| (name, Some(lane)))).collect();
    let lane = app.read("lane", choice(&choices, &[]), review).flatten();
    if let (Some(lane), true) = (lane, app.has("lane_rule")) {
        let text =
            format!("is not looked at, because lane = \"{lane}\" is for all mail of the app: remove one of the two");
        app.warning("lane_rule", text, review);
    }
    lane
}

/// The rules that are good; of the others every problem is told.
pub(super) fn rules(app: &Section<'_>, review: &mut Review) -> Vec<LaneRule> {
    const HOW: &str =
        "write [[app.lane_rule]] below its [[app]], with header = \"Subject\", matches = \"*…*\" and lane = \"urgent\"";
    let Some(node) = app.node("lane_rule") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        app.problem("lane_rule", format!("is {}: {HOW}", node.value.form()), review);
        return Vec::new();
    };
    if items.len() > MOST_RULES {
        let text = format!("are {}: at most {MOST_RULES} are looked at for each mail; join some with *", items.len());
        app.problem("lane_rule", text, review);
    }
    let mut rules = Vec::new();
    for (n, Node { place, value }) in items.iter().enumerate() {
        let path = app.key_path(&format!("lane_rule[{n}]"));
        match value {
            Value::Table(table) => {
                rules.extend(rule(&Section::open(path, place.clone(), table, &LANE_RULE, review), review));
            }
            other => review.problem(place, path, format!("is {}: {HOW}", other.form())),
        }
    }
    rules
}

fn rule(rule: &Section<'_>, review: &mut Review) -> Option<LaneRule> {
    for (key, text) in [
        ("header", "the rule has to look at a field of the header, for example header = \"Subject\""),
        ("matches", "say what its value looks like, for example matches = \"*password reset*\", or \"*\" for any"),
        ("lane", "say where such mail travels: \"urgent\", \"normal\" or \"bulk\""),
    ] {
        if !rule.has(key) {
            rule.missing(key, text, review);
        }
    }
    let header = rule.read("header", parsed(header), review);
    let matches = rule.read("matches", matches, review);
    let lane = rule.read("lane", choice(&LANES, &[]), review);
    Some(LaneRule { header: header?, matches: matches?, lane: lane? })
}

/// RFC 5322 section 2.2: printable ASCII without spaces and colons.
fn header(text: &str) -> Result<String, String> {
    let name = text.trim();
    if let Some(name) = name.strip_suffix(':') {
        return Err(format!("{} has a colon: write the name alone, {}", quoted(text), quoted(name)));
    }
    if name.len() > 70 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        return Err(format!("{} is no name of a header field: write one such as \"Subject\"", quoted(text)));
    }
    Ok(name.to_owned())
}

fn matches(value: &Value) -> Result<Glob, String> {
    if matches!(value, Value::Text(text) if text.trim().is_empty()) {
        return Err("is empty: write what the value looks like, for example \"*exam*\", or \"*\" for any".to_owned());
    }
    let text = text(value)?.trim();
    if text.len() > LONGEST {
        return Err(format!("is too long: at most {LONGEST} octets; put * in the place of what differs"));
    }
    Ok(Glob::new(text))
}
