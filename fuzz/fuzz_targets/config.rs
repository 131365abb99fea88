//! The configuration: no text makes it panic, and every problem says where it is and what to do, on one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::config::{Config, Environment, Place};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let loaded = Config::from_text(text, "relay.toml", &Environment::default());
    let lines = text.split('\n').count();
    let problems: Vec<_> = match &loaded {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.accounts.is_empty() && !config.queue.retry.is_empty());
            config.warnings.iter().collect()
        }
        Err(problems) => problems.iter().collect(),
    };
    assert!(loaded.is_ok() || !problems.is_empty());
    for problem in problems {
        assert!(!problem.text.is_empty());
        match problem.place {
            Place::Line(line) => assert!((1..=lines).contains(&line), "{problem} of {lines} lines"),
            Place::File => {}
            Place::Variable(_) => panic!("no variable is set: {problem}"),
        }
        assert!(!problem.to_string().chars().any(char::is_control), "{:?} goes to a terminal", problem.to_string());
    }
});
