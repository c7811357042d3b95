//! A client that is stopped, and huge messages, cost others next to nothing and the broker a bounded amount of memory.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapin::options::*;
use lapin::{BasicProperties, Channel, Consumer};
use leveret_integration_tests::broker::binary;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::{Broker, wait};

const MIB: usize = 1024 * 1024;
/// What the queues of the broker may hold in memory together.
const BUDGET: (&str, &str) = ("QUEUE_MEMORY_BUDGET", "32MiB");
/// What else it may take: buffers of sockets and commits, RocksDB, the allocator's reserve.
const GROWTH_BYTES_MAX: f64 = 320.0 * MIB as f64;
/// A round trip beside a burden may take so many times as long as on a quiet broker, plus this: a busy machine is slow too.
const SLOWER_TIMES_MAX: u32 = 20;
const SLOWER_BY_MAX: Duration = Duration::from_millis(100);

/// A publisher and a consumer with a queue of their own, who take no more than a message at a time.
struct Pair {
    channel: Channel,
    queue: String,
    consumer: Consumer,
}

impl Pair {
    async fn start(broker: &Broker) -> Pair {
        let (_, channel) = open(broker.amqp()).await;
        let queue = channel.own_queue().await;
        let consumer = channel.consume_no_ack(&queue).await;
        Pair {
            channel,
            queue,
            consumer,
        }
    }

    /// The median time of some messages from publish to delivery.
    async fn round_trip(&mut self) -> Duration {
        let mut times = Vec::new();
        for _ in 0..101 {
            let began = Instant::now();
            self.channel.publish("", &self.queue, b"small").await;
            next(&mut self.consumer).await;
            times.push(began.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    }

    async fn is_as_fast_as(&mut self, quiet: Duration) {
        let burdened = self.round_trip().await;
        println!("a round trip took {quiet:?} alone and {burdened:?} beside the burden");
        assert!(
            burdened <= quiet * SLOWER_TIMES_MAX + SLOWER_BY_MAX,
            "{quiet:?} and {burdened:?}"
        );
    }
}

/// A program that consumes from a queue of its own, and can be stopped as a whole.
struct ConsumerProgram {
    process: Child,
    queue: String,
}

impl ConsumerProgram {
    fn start(broker: &Broker, options: &[&str]) -> ConsumerProgram {
        let uri = format!("amqp://guest:guest@{}/%2f", broker.amqp());
        let process = Command::new(binary())
            .args(["perf", "throughput", "--quiet", "--json", "--uri", &uri])
            .args(["--publishers", "0", "--duration", "600"])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let queue = wait::until("the program consumes", || {
            let queues = broker.ctl().run(&["list_queues", "name", "consumers"]);
            let mut rows = queues.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            rows.find_map(|row| match *row {
                [name, "1"] if name.starts_with("perf-") => Some(name.to_owned()),
                _ => None,
            })
        });
        ConsumerProgram { process, queue }
    }

    fn signal(&self, signal: &str) {
        let process_id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &process_id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for ConsumerProgram {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn resident_bytes(broker: &Broker) -> f64 {
    Metrics::fetch(broker.metrics()).value("rabbitmq_process_resident_memory_bytes")
}

/// Publishes messages of this size and waits until the broker has confirmed all; its memory stays within bounds meanwhile.
async fn publish_all(broker: &Broker, queue: &str, count: usize, body_bytes: usize) {
    let before = resident_bytes(broker);
    let (connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let body = vec![b'x'; body_bytes];
    let mut most: f64 = 0.0;
    for number in 0..count {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publish = channel.basic_publish("".into(), queue.into(), options, &body, properties);
        drop(wait::within("basic.publish", publish).await.unwrap());
        if number % (count / 16) == 0 {
            let missing = wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
            assert!(missing.is_empty(), "{missing:?}");
            most = most.max(resident_bytes(broker) - before);
        }
    }
    let missing = wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
    assert!(missing.is_empty(), "{missing:?}");
    println!("the broker grew by {} MiB at the most", most / MIB as f64);
    assert!(most < GROWTH_BYTES_MAX, "it grew by {most} bytes");
    let _ = connection.close(200, "".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_client_that_is_stopped_slows_nobody_else_and_misses_nothing() {
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let mut pair = Pair::start(&broker).await;
    let quiet = pair.round_trip().await;
    for options in [&["--ack-every", "0"][..], &["--prefetch", "200", "--ack-every", "1"]] {
        let stopped = ConsumerProgram::start(&broker, options);
        stopped.signal("-STOP");
        let publishing = publish_all(&broker, &stopped.queue, 8_192, 16 * 1024);
        let beside = async { pair.is_as_fast_as(quiet).await };
        futures_lite::future::zip(publishing, beside).await;
        pair.is_as_fast_as(quiet).await;
        stopped.signal("-CONT");
        pair.channel.wait_for_messages(&stopped.queue, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_messages_slow_small_ones_little_and_take_a_bounded_amount_of_memory() {
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let mut pair = Pair::start(&broker).await;
    let quiet = pair.round_trip().await;
    let taking = ConsumerProgram::start(&broker, &["--prefetch", "2", "--ack-every", "1"]);
    let publishing = publish_all(&broker, &taking.queue, 48, 16 * MIB);
    futures_lite::future::zip(publishing, pair.is_as_fast_as(quiet)).await;
    pair.channel.wait_for_messages(&taking.queue, 0).await;
}
