//! Holds FEATURES.md to what docs/compatibility.md says works, and to the tests and pages that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of every row of the tables in `text` that has three of them.
fn rows(text: &str) -> impl Iterator<Item = [&str; 3]> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_head = cells[0] == "feature" || cells[0].starts_with("---");
        <[&str; 3]>::try_from(cells).ok().filter(|_| !is_head)
    })
}

/// The page of features in two: features, and the tables of arguments and keys.
fn compatibility() -> (String, String) {
    let (mut features, mut arguments) = (String::new(), String::new());
    let mut of_arguments = false;
    for line in read("../docs/compatibility.md").lines() {
        if line.starts_with('#') {
            of_arguments = line.starts_with("### ");
        }
        let part = if of_arguments { &mut arguments } else { &mut features };
        part.push_str(line);
        part.push('\n');
    }
    (features, arguments)
}

#[test]
fn every_feature_that_works_has_a_test_and_a_page() {
    let (features, _) = compatibility();
    let works = rows(&features).filter(|[_, state, _]| *state == "works");
    let works: BTreeSet<&str> = works.map(|[feature, ..]| feature).collect();
    assert!(works.len() > 50, "only {} features", works.len());
    let page = read("FEATURES.md");
    let known: BTreeMap<&str, (&str, &str)> = rows(&page)
        .map(|[feature, tests, page]| (feature, (tests, page)))
        .collect();
    let missing: Vec<_> = works.iter().filter(|feature| !known.contains_key(**feature)).collect();
    assert!(missing.is_empty(), "not in FEATURES.md: {missing:#?}");
    let modules = read("tests/main.rs");
    for (feature, (tests, page)) in known {
        let files: Vec<&str> = tests.split('`').filter(|part| part.ends_with(".rs")).collect();
        assert!(!files.is_empty(), "{feature} names no test");
        for file in files {
            let module = file.trim_end_matches(".rs");
            let is_there = file == "main.rs" || modules.contains(&format!("mod {module};"));
            assert!(is_there, "{feature}: there is no test {file}");
        }
        let link = page.split(['(', ')']).nth(1).unwrap_or_default();
        assert!(folder().join(link).is_file(), "{feature}: there is no page {page}");
    }
}

#[test]
fn every_argument_that_works_is_used_by_a_test() {
    let (_, arguments) = compatibility();
    let mut tests = String::new();
    for entry in std::fs::read_dir(folder().join("tests")).unwrap() {
        tests.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let works = rows(&arguments).filter(|[_, state, _]| *state == "works");
    let names: Vec<&str> = works.map(|[name, ..]| name.trim_matches('`')).collect();
    assert!(names.len() > 30, "only {} arguments", names.len());
    let unused: Vec<_> = names
        .iter()
        .filter(|name| !tests.contains(&format!("\"{name}\"")))
        .collect();
    assert!(unused.is_empty(), "no test uses {unused:?}");
}
