//! The documents that name tests: whatever they name is there, and whatever is there is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the index begins; it is all that follows.
const INDEX: &str = "## Index\n\n| file | begins with |\n|---|---|\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The dialogues by name.
fn dialogues() -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join("tests/dialogues")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "txt")).collect()
}

/// The names of all functions that are tests, and of some that are not.
fn functions(folder: PathBuf, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// What stands in backquotes in the last column of every table.
fn shown_by(document: &str) -> BTreeSet<String> {
    let rows = document.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_table_of_clients_names_is_there() {
    let named = shown_by(&read("docs/clients.md"));
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let mut there = dialogues();
    for folder in ["src", "tests"] {
        functions(root().join(folder), &mut there);
    }
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "docs/clients.md names what is not there: {missing:?}");
}

#[test]
fn every_dialogue_is_in_the_index_with_its_first_sentence() {
    let row = |name: &String| {
        let text = read(Path::new("tests/dialogues").join(name));
        let remarks =
            text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let remarks = remarks.collect::<Vec<_>>().join(" ");
        let first = remarks.split_once(". ").map_or(remarks.trim_end_matches('.'), |(first, _)| first);
        format!("| `{name}` | {} |\n", first.replace('|', "\\|"))
    };
    let index: String = dialogues().iter().map(row).collect();
    let document = read("tests/dialogues/README.md");
    let (before, _) = document.split_once(INDEX).expect("the document has an index");
    let right = format!("{before}{INDEX}{index}");
    if std::env::var_os("WRITE_INDEX").is_some() {
        std::fs::write(root().join("tests/dialogues/README.md"), &right).unwrap();
    } else {
        assert!(
            document == right,
            "tests/dialogues/README.md is not up to date: WRITE_INDEX=1 cargo test --lib documents"
        );
    }
}
