//! The pages for browsers: they are there, lead nowhere else, and name no resource that the API does not have.

use std::collections::BTreeSet;

use leveret::management::ROUTES;

use super::api::{Answer, Api};

const SCRIPTS: [&str; 8] = [
    "app.js",
    "api.js",
    "elements.js",
    "graph.js",
    "definitions.js",
    "lists.js",
    "objects.js",
    "admin.js",
];

fn page(api: &Api, path: &str) -> Answer {
    let answer = api.ask_as(None, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer
}

#[test]
fn pages_are_there_without_a_login_and_let_nothing_foreign_in() {
    let api = Api::start();
    let first = page(&api, "/");
    assert!(first.head.contains("text/html"), "{first:?}");
    assert!(
        first.body.contains(r#"<script type="module" src="app.js">"#),
        "{first:?}"
    );
    for path in SCRIPTS
        .map(|script| format!("/{script}"))
        .iter()
        .map(String::as_str)
        .chain(["/", "/style.css"])
    {
        let answer = page(&api, path);
        for policy in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "nosniff",
        ] {
            assert!(answer.head.contains(policy), "{path}: {}", answer.head);
        }
        // The name of a kind of elements, which is no place to ask.
        let body = answer.body.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "innerHTML", "eval("] {
            assert!(!body.contains(foreign), "{path} has {foreign}");
        }
    }
    assert_eq!(api.ask_as(None, "POST", "/", "").status, 405);
    assert_eq!(api.ask_as(None, "GET", "/other.js", "").status, 404);
}

#[test]
fn every_module_that_a_page_imports_is_served() {
    let api = Api::start();
    for script in SCRIPTS {
        let body = page(&api, &format!("/{script}")).body;
        let imports = body
            .lines()
            .filter_map(|line| line.strip_prefix("import ")?.split('"').nth(1));
        for import in imports {
            let name = import.trim_start_matches("./");
            assert!(SCRIPTS.contains(&name), "{script} imports {import}");
        }
    }
}

/// What a script asks for, as far as it is written out: `queues/...` becomes `queues`.
fn resources(script: &str) -> BTreeSet<String> {
    let begins = [
        "ask(\"GET\", `",
        "ask(\"PUT\", `",
        "ask(\"POST\", `",
        "ask(\"DELETE\", `",
        "get(`",
        "get(\"",
        "list(desk, \"",
        "at = `",
    ];
    let places = begins
        .iter()
        .flat_map(|begin| script.match_indices(begin).map(|(place, found)| place + found.len()));
    let nouns = places.map(|place| {
        script[place..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect()
    });
    nouns.filter(|noun: &String| !noun.is_empty()).collect()
}

#[test]
fn pages_ask_for_nothing_that_the_api_does_not_have() {
    let api = Api::start();
    let all: Vec<_> = SCRIPTS
        .iter()
        .map(|script| page(&api, &format!("/{script}")).body)
        .collect();
    let asked: BTreeSet<String> = all.iter().flat_map(|script| resources(script)).collect();
    assert!(
        asked.contains("queues") && asked.contains("whoami") && asked.len() > 10,
        "{asked:?}"
    );
    for noun in asked {
        let path = format!("/api/{noun}");
        let known =
            |route: &&leveret::management::Route| route.path == path || route.path.starts_with(&format!("{path}/"));
        assert!(ROUTES.iter().any(|route| known(&route)), "{path}");
    }
}
