//! Memory of many long queues that share a small budget, filled and drained at once. What of it is messages is held exactly by
//! `broker/tests/many_queues.rs`; this is what the process takes.

use std::process::Command;

use leveret_integration_tests::Broker;
use leveret_integration_tests::broker::binary;

const QUEUES: &str = "500";
const MESSAGES: u64 = 200_000;
const BODY_BYTES: u64 = 1024;
const BUDGET: (&str, &str) = ("QUEUE_MEMORY_BUDGET", "8MiB");
/// The most that the process may take. RocksDB's buffers are most of it; if each queue read back as much as is free, it would be the bodies more.
const PEAK_BYTES_MAX: u64 = 176 << 20;

#[test]
fn many_long_queues_cost_little_memory_while_they_are_filled_and_drained() {
    for consumers in ["1", "20"] {
        let Some(broker) = Broker::start_configured(&[BUDGET]) else {
            return;
        };
        let report = fill_and_drain(&broker, consumers);
        for half in ["fill", "drain"] {
            let peak = report[half]["broker"]["peak_memory_bytes"].as_u64().unwrap();
            println!("{consumers} consumers, {half}: {peak} bytes");
            assert!(peak < PEAK_BYTES_MAX, "{peak} bytes, {half} with {consumers} consumers");
        }
        assert_eq!(report["drain"]["received"], MESSAGES);
    }
}

fn fill_and_drain(broker: &Broker, consumers: &str) -> serde_json::Value {
    let uri = format!("amqp://guest:guest@{}/%2f", broker.amqp());
    let output = Command::new(binary())
        .args(["perf", "fill-drain", "--quiet", "--json", "--uri", &uri])
        .args(["--broker-pid", &broker.process_id().to_string()])
        .args(["--queues", QUEUES, "--count", &MESSAGES.to_string()])
        .args(["--size", &BODY_BYTES.to_string(), "--persistent", "--confirm", "5000"])
        .args(["--consumers", consumers])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
