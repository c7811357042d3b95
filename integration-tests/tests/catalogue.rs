//! Holds ERRORS.md and the tests that bear the numbers of its rows together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files of tests by the number of the row they name.
type Coverage = BTreeMap<u32, BTreeSet<String>>;

/// What the page calls a script without a socket.
const SCRIPT: &str = "session script";
/// Begins the reason why a row has no test: what it is about cannot happen.
const DOES_NOT_APPLY: &str = "does not apply: ";
/// A reason has at least so many words.
const WORDS_MIN: usize = 4;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the page. Those without tests have to say why, and have no files here.
fn rows_of_the_page() -> Coverage {
    let page = std::fs::read_to_string(folder().join("ERRORS.md")).unwrap();
    let mut rows = Coverage::new();
    for line in page.lines() {
        let Some(number) = line.split('|').nth(1).and_then(|cell| cell.trim().parse().ok()) else {
            continue;
        };
        let tests = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let files: BTreeSet<String> = tests
            .split('`')
            .filter(|part| part.ends_with(".rs"))
            .map(str::to_owned)
            .collect();
        assert!(
            !files.is_empty() || is_reason(tests) || (tests == SCRIPT && has_script(number)),
            "row {number}: {tests:?} says nothing, or what is not so"
        );
        assert!(rows.insert(number, files).is_none(), "row {number} is there twice");
    }
    rows
}

fn is_reason(tests: &str) -> bool {
    let reason = tests.strip_prefix(DOES_NOT_APPLY);
    reason.is_some_and(|reason| reason.split(' ').count() >= WORDS_MIN)
}

/// Is there a session script about the row?
fn has_script(row: u32) -> bool {
    let scripts = folder().join("../broker/tests/scripts/session");
    let begin = format!("row_{row:03}_");
    let mut names = std::fs::read_dir(scripts)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.any(|name| name.to_str().unwrap().starts_with(&begin))
}

/// The rows that tests name, as in `fn row_043_...` or `fn rows_053_and_054_...`.
fn rows_of_the_tests() -> Coverage {
    let mut rows = Coverage::new();
    for entry in std::fs::read_dir(folder().join("tests")).unwrap() {
        let entry = entry.unwrap();
        let (file, text) = (entry.file_name(), std::fs::read_to_string(entry.path()).unwrap());
        let functions = text
            .lines()
            .filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
        for name in functions.filter(|name| name.starts_with("row_") || name.starts_with("rows_")) {
            let name = name.split('(').next().unwrap();
            for number in name
                .split('_')
                .filter(|word| word.len() == 3)
                .filter_map(|word| word.parse().ok())
            {
                rows.entry(number)
                    .or_default()
                    .insert(file.to_str().unwrap().to_owned());
            }
        }
    }
    rows
}

#[test]
fn every_row_of_the_catalogue_names_its_tests_and_every_test_its_row() {
    let (page, tests) = (rows_of_the_page(), rows_of_the_tests());
    assert_eq!(page.keys().copied().collect::<Vec<_>>(), (1..=148).collect::<Vec<_>>());
    for (number, files) in page {
        assert_eq!(files, tests.get(&number).cloned().unwrap_or_default(), "row {number}");
    }
}
