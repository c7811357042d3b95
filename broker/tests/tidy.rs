//! Rules about the repository itself: what may be named where, how long files and functions may be, and that the documents
//! know every file and bound.
//!
//! Rules about names look at code without comments, texts and unit tests, so a rule may be explained where it holds. What
//! cannot be told by words (who calls what through a handle, which lock is taken in which order) is left to ARCHITECTURE.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use text::{blanked, functions, names, without_inline_tests};

#[path = "tidy/text.rs"]
mod text;

/// Packages whose sources the rules are about.
const PACKAGES: [&str; 5] = [
    "broker",
    "routing",
    "storage",
    "integration-tests",
    "rabbitmq-tutorials",
];
/// Longest file, inline tests not counted.
const FILE_LINES_MAX: usize = 800;
/// Longest function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;
/// Functions that are longer do not fit a screen; they are printed, and wait to be split.
const FUNCTION_LINES_WISHED: usize = 70;

/// One Rust file.
struct Source {
    /// Path from the root of the repository, with `/` between its parts.
    path: String,
    text: String,
    /// The text with comments, texts and inline test modules blanked, line for line.
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder with one of these extensions, by path from the root.
fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            let extension = Path::new(&path).extension().and_then(|extension| extension.to_str());
            if entry.file_type().unwrap().is_dir() {
                // What cargo and package managers put there is not ours.
                if !["target", "node_modules", ".venv"]
                    .iter()
                    .any(|foreign| path.ends_with(&format!("/{foreign}")))
                {
                    folders.push(path);
                }
            } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The Rust files below some folders of every package, such as `src`.
fn sources(folders: &[&str]) -> Vec<Source> {
    let folders = PACKAGES
        .iter()
        .flat_map(|package| folders.iter().map(move |folder| format!("{package}/{folder}")));
    let paths: Vec<String> = folders.flat_map(|folder| files(&folder, &["rs"])).collect();
    assert!(!paths.is_empty(), "no sources below {}", root().display());
    let source = |path: String| {
        let text = read(&path);
        let code = without_inline_tests(&blanked(&text));
        Source { path, text, code }
    };
    paths.into_iter().map(source).collect()
}

/// What is compiled into the programs: no test modules in files of their own.
fn production_sources() -> Vec<Source> {
    let all = sources(&["src"]);
    let tests: Vec<String> = all.iter().flat_map(test_modules).collect();
    let is_test = |path: &str| {
        tests
            .iter()
            .any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    all.into_iter().filter(|source| !is_test(&source.path)).collect()
}

/// The modules that a file declares under `#[cfg(test)]`, as paths without extension.
fn test_modules(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap();
    let own = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let lines: Vec<&str> = source.text.lines().collect();
    let declared = lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]");
    declared
        .filter_map(|pair| {
            let declaration = pair[1]
                .trim()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            Some(format!(
                "{own}/{}",
                declaration.strip_prefix("mod ")?.strip_suffix(';')?
            ))
        })
        .collect()
}

/// Fails with everything that was found, so that one run shows all of it.
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn what_is_pure_names_no_task_socket_file_clock_or_randomness() {
    let pure = ["broker/src/protocol/", "broker/src/session/", "broker/src/queue/"];
    let forbidden = [
        "tokio",
        "mio",
        "socket2",
        "rustix",
        "libc",
        "std::net",
        "std::fs",
        "std::io",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime",
        "clock",
        "rand",
        "getrandom",
        "rocksdb",
        "axum",
    ];
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for source in production_sources() {
        let Some(folder) = pure.iter().find(|folder| source.path.starts_with(*folder)) else {
            continue;
        };
        seen.insert(*folder);
        found.extend(
            forbidden
                .iter()
                .filter(|name| names(&source.code, name))
                .map(|name| format!("{}: {name}", source.path)),
        );
    }
    assert_eq!(seen.len(), pure.len(), "a pure folder has moved");
    expect_none("named in a pure module", &found);
}

#[test]
fn users_and_permissions_are_checked_without_tasks_files_or_clocks() {
    let forbidden = [
        "tokio",
        "std::fs",
        "TcpStream",
        "UnixStream",
        "Instant::now",
        "SystemTime",
        "clock",
    ];
    let mut found = Vec::new();
    for source in production_sources()
        .iter()
        .filter(|source| source.path.starts_with("broker/src/auth/"))
    {
        found.extend(
            forbidden
                .iter()
                .filter(|name| names(&source.code, name))
                .map(|name| format!("{}: {name}", source.path)),
        );
    }
    expect_none("named in auth", &found);
}

#[test]
fn routing_names_nothing_of_the_world() {
    let forbidden = [
        "tokio",
        "std::net",
        "std::fs",
        "std::io",
        "std::thread",
        "Instant",
        "SystemTime",
        "leveret_storage",
    ];
    let mut found = Vec::new();
    for source in production_sources()
        .iter()
        .filter(|source| source.path.starts_with("routing/src/"))
    {
        found.extend(
            forbidden
                .iter()
                .filter(|name| names(&source.code, name))
                .map(|name| format!("{}: {name}", source.path)),
        );
    }
    expect_none("named in routing", &found);
}

#[test]
fn only_one_file_names_rocksdb() {
    let naming: Vec<String> = production_sources()
        .into_iter()
        .filter(|source| names(&source.code, "rocksdb"))
        .map(|source| source.path)
        .collect();
    assert_eq!(naming, ["storage/src/rocks.rs"]);
    let depending: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|package| names(&read(&format!("{package}/Cargo.toml")), "rocksdb"))
        .collect();
    assert_eq!(depending, ["storage"]);
}

#[test]
fn the_broker_reads_the_clock_in_one_file() {
    // The ctl client is another process, which waits for the broker and does nothing else.
    let allowed = ["broker/src/clock.rs", "broker/src/ctl/client.rs"];
    let reads_clock = |source: &Source| {
        ["Instant::now", "SystemTime::now", "UNIX_EPOCH"]
            .iter()
            .any(|name| names(&source.code, name))
    };
    let reading = production_sources()
        .into_iter()
        .filter(|source| source.path.starts_with("broker/src/") && reads_clock(source));
    let found: Vec<String> = reading
        .map(|source| source.path)
        .filter(|path| !allowed.contains(&path.as_str()))
        .collect();
    expect_none("reads the clock itself; ask crate::clock, or be told the time", &found);
}

#[test]
fn files_are_short_enough_to_read() {
    let lines = |source: &Source| {
        let text = without_inline_tests(&source.text);
        text.trim_end().lines().count()
    };
    let all = sources(&["src", "tests", "benches"]);
    let long = all.iter().filter(|source| lines(source) > FILE_LINES_MAX);
    let found: Vec<String> = long
        .map(|source| format!("{}: {} lines", source.path, lines(source)))
        .collect();
    expect_none(
        &format!("files beyond {FILE_LINES_MAX} lines without their inline tests"),
        &found,
    );
}

#[test]
fn functions_are_short_enough_to_read() {
    let mut measured = Vec::new();
    for source in production_sources() {
        let functions = functions(&source.code).into_iter();
        measured.extend(
            functions.map(|(name, line, lines)| (lines, format!("{}:{line}: {name} has {lines} lines", source.path))),
        );
    }
    assert!(
        measured.len() > 500,
        "only {} functions were found: the counting is broken",
        measured.len()
    );
    let longer_than = |limit: usize| -> Vec<String> {
        measured
            .iter()
            .filter(|(lines, _)| *lines > limit)
            .map(|(_, text)| text.clone())
            .collect()
    };
    for function in longer_than(FUNCTION_LINES_WISHED) {
        println!("longer than {FUNCTION_LINES_WISHED} lines: {function}");
    }
    expect_none(
        &format!("functions beyond {FUNCTION_LINES_MAX} lines"),
        &longer_than(FUNCTION_LINES_MAX),
    );
}

#[test]
fn nothing_is_left_to_do_in_comments() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    let mut paths: Vec<String> = PACKAGES
        .iter()
        .chain(&["scripts", "docs", "interop"])
        .flat_map(|folder| files(folder, &["rs", "sh", "toml", "md", "py"]))
        .collect();
    paths.extend(
        [
            "Makefile",
            ".ci/run",
            "Cargo.toml",
            "README.md",
            "ARCHITECTURE.md",
            "CHANGELOG.md",
        ]
        .map(String::from),
    );
    for path in paths {
        for (number, line) in read(&path).lines().enumerate() {
            if marks.iter().any(|mark| names(line, mark)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    expect_none("left to do", &found);
}

#[test]
fn every_program_obeys_the_lints_of_the_workspace() {
    // The harness of the integration tests may panic: that is how it fails a test.
    let programs = PACKAGES.into_iter().filter(|package| *package != "integration-tests");
    let without =
        programs.filter(|package| !read(&format!("{package}/Cargo.toml")).contains("[lints]\nworkspace = true"));
    let found: Vec<String> = without.map(String::from).collect();
    expect_none("no `[lints] workspace = true`", &found);
}

/// The text under the heading of the code map for one folder of sources.
fn code_map_section<'a>(architecture: &'a str, folder: &str) -> &'a str {
    let heading = format!("\n### `{folder}`\n");
    let Some((_, section)) = architecture.split_once(&heading) else {
        return "";
    };
    section.split_once("\n#").map_or(section, |(section, _)| section)
}

#[test]
fn the_code_map_of_the_architecture_knows_every_module_and_no_other() {
    let architecture = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    let mut sections: BTreeSet<String> = BTreeSet::new();
    let mut modules: BTreeSet<String> = BTreeSet::new();
    for source in production_sources() {
        let (package, rest) = source.path.split_once("/src/").unwrap();
        if !["broker", "routing", "storage"].contains(&package) {
            continue;
        }
        // Folders of the broker have sections of their own; the other two packages have one each.
        let (folder, module) = match rest.split_once('/') {
            Some((folder, module)) if package == "broker" => (format!("broker/src/{folder}/"), module),
            _ => (format!("{package}/src/"), rest),
        };
        let described = module == "mod.rs" || code_map_section(&architecture, &folder).contains(&format!("`{module}`"));
        if !described {
            missing.push(format!("{} under the heading ### `{folder}`", source.path));
        }
        modules.insert(format!("{folder}{module}"));
        sections.insert(folder);
    }
    expect_none("missing in the code map", &missing);
    let named = |folder: &String| {
        let section = code_map_section(&architecture, folder);
        let quoted: Vec<String> = section.split('`').skip(1).step_by(2).map(String::from).collect();
        let folder = folder.clone();
        quoted
            .into_iter()
            .filter(|name| name.ends_with(".rs"))
            .map(move |name| format!("{folder}{name}"))
    };
    let stale: Vec<String> = sections
        .iter()
        .flat_map(named)
        .filter(|module| !modules.contains(module))
        .collect();
    expect_none("in the code map, but not in the sources", &stale);
}

/// Constants of the broker's code, with their files; the load generator is no part of the broker.
fn constants() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for source in production_sources() {
        let Some((package, _)) = source.path.split_once("/src/") else {
            continue;
        };
        let is_broker = ["broker", "routing", "storage"].contains(&package);
        if !is_broker || source.path.starts_with("broker/src/perf/") {
            continue;
        }
        for (at, _) in source.code.match_indices("const ") {
            let name: String = source.code[at + 6..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            if name.len() > 1 {
                found.insert((source.path.clone(), name));
            }
        }
    }
    found
}

#[test]
fn every_bound_is_listed_in_the_page_of_limits() {
    let page = read("docs/limits.md");
    let is_bound = |name: &str| {
        let words: Vec<&str> = name.split('_').collect();
        [
            "MAX", "MIN", "MOST", "LEAST", "KEPT", "TIMEOUT", "DELAY", "CEILING", "WAIT", "PAUSE",
        ]
        .iter()
        .any(|word| words.contains(word))
    };
    let known = constants();
    let missing = known
        .iter()
        .filter(|(_, name)| is_bound(name) && !page.contains(&format!("`{name}`")));
    let missing: Vec<String> = missing.map(|(path, name)| format!("{name} of {path}")).collect();
    expect_none("not in docs/limits.md", &missing);
    let reply_codes = read("broker/src/protocol/reply_code.rs");
    let is_constant = |name: &&str| {
        let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_upper) && name.contains('_') && !reply_codes.contains(&format!("\"{name}\""))
    };
    let quoted = page.split('`').skip(1).step_by(2).filter(is_constant);
    let stale = quoted.filter(|name| !known.iter().any(|(_, constant)| constant == name));
    let stale: Vec<String> = stale.map(String::from).collect();
    expect_none("in docs/limits.md, but not in the sources", &stale);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages = files("docs", &["md"]);
    pages.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(String::from));
    let mut broken = Vec::new();
    for page in &pages {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (at, _) in read(page).match_indices("](") {
            let text = read(page);
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") {
                continue;
            }
            let file = match path {
                "" => page.clone(),
                path => format!("{folder}/{path}").trim_start_matches('/').to_owned(),
            };
            let exists = root().join(&file).exists();
            if !exists || (!anchor.is_empty() && !anchors(&read(&file)).contains(anchor)) {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    expect_none("broken links", &broken);
}

/// What the headings of a page are linked as.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}
