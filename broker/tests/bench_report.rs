//! The report of `make bench` says of every target whether it is met, and the plots are drawings.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail them")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What jq makes of lines of results; nothing where jq is not installed, as `make bench` would install it first.
fn jq(arguments: &[&str], lines: &[Value]) -> Option<String> {
    let started = Command::new("jq")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["-r", "-L", "scripts"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut jq) = started else {
        eprintln!("skipped: jq is not installed");
        return None;
    };
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    jq.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = jq.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A report of `leveret perf throughput` with so many messages per second, each at so much of the broker's CPU time.
fn report(per_second: f64, cpu_us: f64) -> Value {
    let latency =
        json!({"count": 1, "p50_us": 300.0, "p95_us": 400.0, "p99_us": 500.0, "p99_9_us": 600.0, "max_us": 700.0});
    json!({
        "published": per_second, "received": per_second, "confirmed": 0,
        "published_per_second": per_second, "received_per_second": per_second, "confirmed_per_second": 0,
        "latency": latency, "confirm_latency": latency, "own_cpu_us_per_message": 0.1,
        "broker": {"cpu_seconds": per_second * cpu_us / 1e6, "cpu_us_per_message": cpu_us, "peak_memory_bytes": 1 << 20},
    })
}

fn result(broker: &str, round: u32, workload: &str, report: Value) -> Value {
    json!({"broker": broker, "round": round, "workload": workload, "report": report})
}

#[test]
fn a_target_is_met_or_missed_by_the_medians_of_the_rounds() {
    let mut results = Vec::new();
    // One round in three went wrong for Leveret, which a median forgives.
    for (round, rate) in [(1, 2_000_000.0), (2, 5_000.0), (3, 1_900_000.0)] {
        results.push(result("rabbitmq", round, "auto16", report(100_000.0, 12.0)));
        results.push(result("leveret", round, "auto16", report(rate, 0.6)));
        for broker in ["rabbitmq", "leveret"] {
            let started = json!({"broker": broker, "round": round, "workload": "start", "start_seconds": 0.2, "idle_bytes": 10 << 20});
            results.push(started);
            results.push(result(broker, round, "conf1", report(2_000.0, 100.0)));
            let sync = json!({"sync_latency": {"p50_us": 250.0, "p99_us": 900.0}});
            results.push(result(broker, round, "sync", sync));
        }
    }
    let names = ["machine", "rabbitmq", "leveret", "commands", "date", "note", "seconds"];
    let mut arguments: Vec<&str> = names.iter().flat_map(|name| ["--arg", name, "text"]).collect();
    arguments.extend(["-s", "-f", "scripts/bench-report.jq"]);
    let Some(page) = jq(&arguments, &results) else { return };
    for line in [
        "| auto16 | rate | at least 11 x | 19.0 x | met |",
        "| auto16 | CPU per message | at most 1/30 | 1/20.0 | **missed** |",
        "| topic | rate | at least 12 x | – | not measured |",
        "| conf1 | confirm p50 to one fdatasync | at most 1.30 x | 1.20 x | met |",
        "| start | until AMQP answers | at most 0.150 s | 0.200 s | **missed** |",
        "| start | resident when idle | at most 20 MiB | 10.0 MiB | met |",
    ] {
        assert!(page.lines().any(|there| there == line), "{line}\nis not in\n{page}");
    }
}

#[test]
fn growth_is_held_against_the_logarithm_and_drawn() {
    let point = |work: &str, n: u64, cpu_us: f64| json!({"scaling": work, "series": work, "n": n, "report": report(1000.0, cpu_us)});
    let results = [
        point("queues", 1, 0.5),
        // Of two passes the cheaper one counts.
        point("queues", 10_000, 9.0),
        point("queues", 10_000, 1.0),
        point("backlogs", 0, 0.1),
        point("backlogs", 1000, 2.0),
        point("sizes", 65_536, 40.0),
        point("sizes", 1_048_576, 800.0),
    ];
    let section = r#"include "bench-scaling"; section("plots"; "date"; "leveret"; "machine"; "commands")"#;
    let Some(page) = jq(&["-s", section], &results) else {
        return;
    };
    for line in [
        "| queues | 1 | 10 k | 2.00 x | 14.3 x | met |",
        "| backlog | 0 | 1 k | 20.0 x | 11.0 x | **faster** |",
        "| message size, per octet | 64 KiB | 1 MiB | 1.25 x | 5.00 x | met |",
        "![Queues: broker CPU per message and rate](plots/queues.svg)",
    ] {
        assert!(page.lines().any(|there| there == line), "{line}\nis not in\n{page}");
    }
    let plot = jq(&["-s", r#"include "bench-scaling"; plot("queues")"#], &results).unwrap();
    let drawing = jq(
        &["-f", "scripts/bench-plot.jq"],
        &[serde_json::from_str(&plot).unwrap()],
    )
    .unwrap();
    assert!(
        drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"),
        "{drawing}"
    );
    // Cost and rate, each with its own axis.
    assert_eq!(drawing.matches("<polyline").count(), 2, "{drawing}");
    assert!(drawing.contains(">10 k</text>"), "{drawing}");
}
