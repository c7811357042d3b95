//! Flow control, seen from outside: publishers at full speed do not starve consumers that keep going.

use leveret_integration_tests::broker::binary;
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::{Broker, wait};
use std::process::{Child, Command, Stdio};

/// Publishes and consumes through one queue for some seconds, as fast as it goes.
fn perf(broker: &Broker, options: &[&str]) -> Child {
    let uri = format!("amqp://guest:guest@{}/%2f", broker.amqp());
    Command::new(binary())
        .args([
            "perf",
            "throughput",
            "--quiet",
            "--json",
            "--uri",
            &uri,
            "--duration",
            "3",
        ])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What was published and consumed.
fn counts(perf: Child) -> (u64, u64) {
    let output = perf.wait_with_output().unwrap();
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    (count("published"), count("received"))
}

/// Runs on a machine that others use too may be unlucky; a broker that starves consumers does it in each.
const RUNS_MAX: usize = 5;

/// A matter of rates; what holds whatever the machine does is in `broker/tests/flow.rs`.
#[test]
fn publishers_at_full_speed_leave_consumers_their_turn() {
    for options in [
        &["--publishers", "2", "--prefetch", "200", "--ack-every", "1"][..],
        &[
            "--publishers",
            "2",
            "--persistent",
            "--prefetch",
            "200",
            "--ack-every",
            "10",
        ],
        &["--publishers", "2"],
    ] {
        let fair = (0..RUNS_MAX).any(|_| {
            let broker = Broker::start();
            let (published, received) = counts(perf(&broker, options));
            println!("{published} published, {received} received with {options:?}");
            published > 0 && received * 4 >= published
        });
        assert!(fair, "consumers are starved with {options:?}");
    }
}

#[test]
fn a_publisher_that_waits_for_consumers_is_in_flow() {
    let broker = Broker::start();
    let perf = perf(&broker, &["--publishers", "2", "--prefetch", "1", "--ack-every", "1"]);
    wait::until("a connection in flow", || {
        let states = broker.ctl().run(&["list_connections", "state"]);
        let shown = states.lines().any(|state| state.trim() == "flow");
        let counted = Metrics::fetch(broker.metrics()).value("leveret_connections_in_flow") > 0.0;
        (shown && counted).then_some(())
    });
    let _ = counts(perf);
}
