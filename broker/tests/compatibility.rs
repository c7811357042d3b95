//! Holds the tables of docs/compatibility.md and those in the code together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use leveret::policy::policy_keys;
use leveret::queue::{ByPolicy, STREAM_ARGUMENTS, Support, known_arguments};
use leveret_routing::{ALTERNATE_EXCHANGE, EXCHANGE_ARGUMENTS, IGNORED_EXCHANGE_ARGUMENTS};

/// Names with their state and who may set them by policy.
type Rows = BTreeMap<String, (String, String)>;

const STATES: [&str; 3] = ["works", "accepted and ignored", "not yet"];

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of all table rows under a heading, the heads of the tables left out.
fn rows_under(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    let section = lines.take_while(|line| heading.is_empty() || !line.starts_with('#'));
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let rows: Vec<Vec<String>> = section.filter(|line| line.starts_with('|')).map(cells).collect();
    rows.into_iter()
        .filter(|cells| cells[1] != "state" && !cells[1].starts_with("---"))
        .collect()
}

fn table(heading: &str) -> Rows {
    let mut table = Rows::new();
    for cells in rows_under(heading) {
        let name = cells[0].trim_matches('`').to_owned();
        let before = table.insert(name.clone(), (cells[1].clone(), cells[2].clone()));
        assert!(before.is_none(), "{name} is there twice");
    }
    assert!(!table.is_empty(), "no table under {heading}");
    table
}

fn row(name: &str, support: Support, policy: ByPolicy) -> (String, (String, String)) {
    let state = match support {
        Support::Works => STATES[0],
        Support::Ignored => STATES[1],
        Support::NotYet => STATES[2],
    };
    let who = match policy {
        ByPolicy::Nobody => "no",
        ByPolicy::Users => "users",
        ByPolicy::UsersAndOperators => "users and operators",
    };
    (name.to_owned(), (state.to_owned(), who.to_owned()))
}

#[test]
fn every_row_has_one_of_three_states() {
    let page = page();
    let headings = page.lines().filter(|line| line.starts_with("##"));
    let rows: Vec<_> = headings.flat_map(rows_under).collect();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    for cells in rows {
        assert_eq!(cells.len(), 3, "{cells:?}");
        assert!(STATES.contains(&cells[1].as_str()), "{cells:?}");
    }
}

#[test]
fn the_page_knows_the_arguments_of_queues_as_the_code_does() {
    let known = known_arguments().map(|(name, support, policy)| row(name, support, policy));
    let of_streams = STREAM_ARGUMENTS.map(|name| row(name, Support::NotYet, ByPolicy::Nobody));
    let expected: Rows = known.chain(of_streams).collect();
    assert_eq!(table("### Arguments of queue.declare"), expected);
}

#[test]
fn the_page_knows_the_arguments_of_exchanges_as_the_code_does() {
    let policy = |name: &str| match name {
        ALTERNATE_EXCHANGE => ByPolicy::Users,
        _ => ByPolicy::Nobody,
    };
    let works = EXCHANGE_ARGUMENTS.map(|name| row(name, Support::Works, policy(name)));
    let ignored = IGNORED_EXCHANGE_ARGUMENTS.map(|name| row(name, Support::Ignored, ByPolicy::Nobody));
    let expected: Rows = works.into_iter().chain(ignored).collect();
    assert_eq!(table("### Arguments of exchange.declare"), expected);
}

#[test]
fn the_page_knows_the_keys_of_policies_as_the_code_does() {
    let expected: Rows = policy_keys()
        .map(|(name, support, policy)| row(name, support, policy))
        .collect();
    assert_eq!(table("### Keys of policies"), expected);
}
