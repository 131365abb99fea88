//! Anything at all.

use proptest::prelude::*;

use super::*;
use crate::config::keys::SCOPES;

proptest! {
    #[test]
    fn no_text_whatever_makes_it_panic(text in any::<String>()) {
        drop(load(&text));
    }

    #[test]
    fn no_heap_of_fragments_makes_it_panic(parts in prop::collection::vec(fragment(), 0..40)) {
        if let Err(problems) = load(&parts.concat()) {
            let lines = parts.concat().lines().count().max(1);
            for problem in problems.iter() {
                prop_assert!(!problem.text.is_empty());
                if let Place::Line(line) = problem.place {
                    prop_assert!((1..=lines).contains(&line), "{problem} of {lines}");
                }
            }
        }
    }
}

/// Pieces of files, so that what is put together at random gets beyond the first line.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        " = ",
        ",",
        ".",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\\",
        " ",
        "é",
        "\u{feff}",
        "\0",
        "1",
        "-1",
        "1.5",
        "true",
        "2027-01-01",
        "\"5d\"",
        "\"::1\"",
        "\"a@b.de\"",
        "[\"1m\"",
        "inf",
    ];
    let keys: Vec<&str> = SCOPES.iter().flat_map(|scope| scope.keys.iter().map(|key| key.name)).collect();
    prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        prop::sample::select(keys.clone()).prop_map(str::to_owned),
        prop::sample::select(keys).prop_map(|key| format!("\n{key} = ")),
        prop::sample::select(SCOPES.to_vec()).prop_map(|scope| format!("\n{}\n", scope.heading)),
    ]
}
