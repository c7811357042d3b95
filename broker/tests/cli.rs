//! The program's command line: help, version, and one clear line for each mistake.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail them")]

use std::process::{Command, Output, Stdio};

fn leveret(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEVERET_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// What the program complained of, with exit code 2.
fn usage_error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_shows_commands_and_examples() {
    let help = leveret(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for part in [
        "serve",
        "ctl",
        "Examples:",
        "leveret serve --config",
        "LEVERET_AMQP_LISTEN",
        "Exit codes:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for command in [["serve", "--help"], ["ctl", "--help"]] {
        let help = leveret(&command);
        assert!(help.status.success() && !help.stdout.is_empty(), "{help:?}");
    }
}

#[test]
fn version_is_the_packages() {
    let version = leveret(&["--version"]);
    assert!(version.status.success());
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        format!("leveret {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn no_command_and_unknown_flags_are_wrong_usage() {
    assert!(usage_error(&leveret(&[])).contains("Usage:"));
    let unknown = usage_error(&leveret(&["serve", "--amqp-lisen", "x"]));
    assert!(unknown.contains("--amqp-listen"), "{unknown}");
}

#[test]
fn a_bad_configuration_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    std::fs::write(&file, "heartbeet = 60\n").unwrap();
    let file = file.to_str().unwrap();
    let cases = [
        (
            vec!["serve", "--config", file],
            format!("{file} line 1: unknown key 'heartbeet'; did you mean 'heartbeat'?"),
        ),
        (
            vec!["serve", "--amqp-listen", "localhost"],
            "--amqp-listen: bad value for 'amqp_listen': bad address 'localhost': the port is missing; write HOST:PORT, \
             such as 127.0.0.1:5672, [::1]:5672 or localhost:5672"
                .to_owned(),
        ),
        (
            vec!["serve", "--log-format", "xml"],
            "--log-format: bad value for 'log_format': expected one of \"text\", \"json\", found \"xml\"".to_owned(),
        ),
    ];
    for (arguments, reason) in cases {
        assert_eq!(
            usage_error(&leveret(&arguments)),
            format!("leveret: cannot read the configuration: {reason}\n"),
            "{arguments:?}"
        );
    }
}

#[test]
fn manual_pages_and_completions_know_every_command() {
    let page = leveret(&["man"]);
    assert!(page.status.success());
    let text = String::from_utf8(page.stdout).unwrap();
    assert!(text.contains(".TH leveret") && text.contains("completions"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let written = leveret(&["man", "--directory", folder.path().to_str().unwrap()]);
    assert!(written.status.success(), "{written:?}");
    for file in ["leveret.1", "leveret-serve.1", "leveret-ctl-list_queues.1"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = leveret(&["completions", shell]);
        let text = String::from_utf8(completions.stdout).unwrap();
        assert!(text.contains("list_queues") && text.contains("amqp-listen"), "{shell}");
    }
    assert!(usage_error(&leveret(&["completions", "csh"])).contains("bash"));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_mistake() {
    for arguments in [&["completions", "bash"][..], &["man"], &["config", "check"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}
