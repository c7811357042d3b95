//! Many of everything, idle: they cost memory only, and little of it.

use leveret_integration_tests::Broker;
use leveret_integration_tests::raw::{RawClient, make, queue};
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::wait::until;

const QUEUES: usize = 10_000;
const CONNECTIONS: usize = 5_000;
const MEMORY_BYTES_MAX: f64 = 600.0 * 1024.0 * 1024.0;

/// Descriptors that the test process and the broker need for other things.
const SPARE_DESCRIPTORS: usize = 300;

/// How many connections the limit on file descriptors allows, which both processes have.
fn connections_allowed() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft_limit = line.split_whitespace().nth(3).unwrap();
    let descriptors = soft_limit.parse().unwrap_or(usize::MAX);
    CONNECTIONS.min(descriptors.saturating_sub(SPARE_DESCRIPTORS))
}

#[test]
fn ten_thousand_idle_queues_and_five_thousand_idle_connections_fit_in_600_mebibytes() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    for number in 0..QUEUES {
        let declare = queue::Declare {
            nowait: true,
            ..make::queue_declare(&format!("idle-{number}"))
        };
        client.send(1, declare);
    }
    let last = client.call(1, make::queue_declare_passive(&format!("idle-{}", QUEUES - 1)));
    assert_eq!(last.message_count, 0);

    let count = connections_allowed();
    let connections: Vec<RawClient> = (0..count).map(|_| RawClient::with_channel(broker.amqp())).collect();
    let metrics = Metrics::fetch(broker.metrics());
    assert_eq!(metrics.value("rabbitmq_queues"), QUEUES as f64);
    assert_eq!(metrics.value("rabbitmq_connections"), (count + 1) as f64);
    let memory = metrics.value("rabbitmq_process_resident_memory_bytes");
    println!(
        "{QUEUES} queues and {count} connections: {:.0} MiB",
        memory / 1024.0 / 1024.0
    );
    assert!(memory < MEMORY_BYTES_MAX, "{memory} bytes");

    // All of that is still quick to use.
    client.publish_to(1, "", "idle-5000", b"not so idle");
    let _ok = client.call(1, make::basic_consume("idle-5000"));
    assert_eq!(client.expect_content(1).body, b"not so idle");
    drop(connections);
    client.close();
}

#[test]
fn what_checking_a_password_took_is_given_back() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    drop(RawClient::with_channel(broker.amqp()));
    // One check takes 19 MiB, and the broker makes one of its own after the start to see whether guest's password is the default.
    let path = format!("/proc/{}/status", broker.process_id());
    until("the memory of the checks to be given back", || {
        let status = std::fs::read_to_string(&path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        (kib < 16 << 10).then_some(())
    });
}

#[test]
fn a_thousand_consumers_of_one_queue_take_turns() {
    const CONSUMERS: usize = 1_000;
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue.to_string();
    let tags: Vec<_> = (0..CONSUMERS)
        .map(|_| client.call(1, make::basic_consume(&queue)).consumer_tag)
        .collect();
    for _ in 0..2 * CONSUMERS {
        client.publish_to(1, "", &queue, b"next, please");
    }
    let mut served = Vec::new();
    for _ in 0..2 * CONSUMERS {
        let method = client.expect_content(1).method;
        let leveret_integration_tests::raw::AMQPClass::Basic(
            leveret_integration_tests::raw::basic::AMQPMethod::Deliver(deliver),
        ) = method
        else {
            panic!("no delivery: {method:?}")
        };
        served.push(deliver.consumer_tag);
    }
    assert!(
        served[..CONSUMERS] == tags[..] && served[CONSUMERS..] == tags[..],
        "not in turn"
    );
}
