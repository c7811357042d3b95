//! Time of one route: each kind of exchange at 1, 100, 10,000 and 100,000 bindings (1 to 1000 where one of them is
//! chosen), and the cost
//! of removing a queue with many bindings from a large table.
//!
//! Every binding leads to a queue of its own, but for `remove_queue`. Keys to be routed are drawn
//! from the same distribution as the binding keys, over and over from a list of 4096, so that
//! large tables are not measured from the processor's caches alone. `matches` in the output of
//! `topic/...` is the mean number of queues found.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(unsafe_code, reason = "the standard library cannot tell a thread's CPU time")]

use std::hint::black_box;

use amq_protocol_types::{AMQPValue, FieldTable};
use criterion::{
    BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use leveret_routing::{Destination, ExchangeKind, ExchangeOptions, NoHeaders, Routable, RouteBuffer, RoutingTable};

const BINDING_COUNTS: [u32; 4] = [1, 100, 10_000, 100_000];
const KEY_COUNT: usize = 4096;

/// CPU time of the thread, in nanoseconds: what else the machine does is not counted.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        cpu_time_ns()
    }

    fn end(&self, start: u64) -> u64 {
        cpu_time_ns() - start
    }

    fn add(&self, left: &u64, right: &u64) -> u64 {
        left + right
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn cpu_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own, which the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// SplitMix64: enough randomness for a bench, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn table(kind: ExchangeKind) -> RoutingTable<u32> {
    let mut table = RoutingTable::new();
    table.declare_exchange("x", ExchangeOptions::new(kind)).unwrap();
    table
}

fn bind(table: &mut RoutingTable<u32>, queue: u32, key: &str, arguments: &FieldTable) {
    table.bind("x", Destination::Queue(queue), key, arguments).unwrap();
}

fn route_keys(
    criterion: &mut Criterion<CpuTime>,
    (group, count): (&str, u32),
    table: &RoutingTable<u32>,
    exchange: &str,
    keys: &[String],
) {
    let mut buffer = RouteBuffer::new();
    let mut route = |key: &str| {
        buffer.clear();
        let message = Routable {
            routing_key: key,
            headers: &NoHeaders,
        };
        table.route(exchange, &message, &mut buffer).unwrap();
        buffer.queues().len()
    };
    let found: usize = keys.iter().map(|key| route(key)).sum();
    println!("{group}/{count}: {:.2} matches", found as f64 / keys.len() as f64);
    let mut next = 0;
    criterion
        .benchmark_group(group)
        .bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                next = if next + 1 < keys.len() { next + 1 } else { 0 };
                black_box(route(black_box(&keys[next])))
            });
        });
}

fn default_and_direct(criterion: &mut Criterion<CpuTime>) {
    let none = FieldTable::default();
    for count in BINDING_COUNTS {
        let mut table = table(ExchangeKind::Direct);
        for queue in 0..count {
            table.add_queue(&format!("queue.{queue}"), queue);
            bind(&mut table, queue, &format!("queue.{queue}"), &none);
        }
        let mut random = Random(1);
        let keys: Vec<_> = (0..KEY_COUNT)
            .map(|_| format!("queue.{}", random.below(count.into())))
            .collect();
        route_keys(criterion, ("default", count), &table, "", &keys);
        route_keys(criterion, ("direct", count), &table, "x", &keys);
    }
}

fn fanout(criterion: &mut Criterion<CpuTime>) {
    for count in BINDING_COUNTS {
        let mut table = table(ExchangeKind::Fanout);
        for queue in 0..count {
            bind(&mut table, queue, "", &FieldTable::default());
        }
        route_keys(criterion, ("fanout", count), &table, "x", &["any.key".to_owned()]);
    }
}

/// One binding of many, by a hash: with equal weights, with different ones, and by remainder.
fn hashes(criterion: &mut Criterion<CpuTime>) {
    let none = FieldTable::default();
    let shapes = [
        ("consistent_hash", ExchangeKind::ConsistentHash, 1),
        ("consistent_hash_weighted", ExchangeKind::ConsistentHash, 3),
        ("modulus_hash", ExchangeKind::ModulusHash, 1),
        ("random", ExchangeKind::Random, 1),
    ];
    for (name, kind, weights) in shapes {
        for count in [1, 10, 100, 1000] {
            let mut table = table(kind);
            for queue in 0..count {
                table.add_queue(&format!("queue.{queue}"), queue);
                bind(&mut table, queue, &(1 + queue % weights).to_string(), &none);
            }
            let mut random = Random(4);
            let keys: Vec<_> = (0..KEY_COUNT)
                .map(|_| format!("customer.{}", random.below(1_000_000)))
                .collect();
            route_keys(criterion, (name, count), &table, "x", &keys);
        }
    }
}

/// A shape of random topic bindings: four words out of 1000, some of them wildcards.
struct Topics {
    name: &'static str,
    /// In so many patterns of a hundred, one word is `*`; in as many others the last is `#`.
    placed_percent: u64,
    /// So many words of a hundred are `*`, wherever they stand.
    stars_percent: u64,
    /// So many words of a hundred are `#`, wherever they stand.
    hashes_percent: u64,
}

const TOPICS: [Topics; 4] = [
    Topics {
        name: "topic",
        placed_percent: 10,
        stars_percent: 0,
        hashes_percent: 0,
    },
    Topics {
        name: "topic_plain",
        placed_percent: 0,
        stars_percent: 0,
        hashes_percent: 0,
    },
    Topics {
        name: "topic_scattered",
        placed_percent: 0,
        stars_percent: 5,
        hashes_percent: 1,
    },
    Topics {
        name: "topic_wild",
        placed_percent: 0,
        stars_percent: 30,
        hashes_percent: 15,
    },
];

fn topic(criterion: &mut Criterion<CpuTime>) {
    for shape in TOPICS {
        for count in BINDING_COUNTS {
            let mut random = Random(2);
            let mut table = table(ExchangeKind::Topic);
            let patterns: Vec<_> = (0..count).map(|_| shape.pattern(&mut random)).collect();
            for (queue, pattern) in (0..).zip(&patterns) {
                bind(&mut table, queue, pattern, &FieldTable::default());
            }
            // Half of the keys are those of bindings, half are any, all with wildcards filled in.
            let keys: Vec<_> = (0..KEY_COUNT)
                .map(|number| match number % 2 {
                    0 => patterns[random.below(count.into()) as usize].clone(),
                    _ => shape.pattern(&mut random),
                })
                .map(|pattern| pattern.replace(['*', '#'], "filled in"))
                .collect();
            route_keys(criterion, (shape.name, count), &table, "x", &keys);
        }
    }
}

impl Topics {
    fn pattern(&self, random: &mut Random) -> String {
        let mut words = [(); 4].map(|()| {
            let percent = random.below(100);
            if percent < self.stars_percent {
                "*".to_owned()
            } else if percent < self.stars_percent + self.hashes_percent {
                "#".to_owned()
            } else {
                format!("word{}", random.below(1000))
            }
        });
        let percent = random.below(100);
        if percent < self.placed_percent {
            words[random.below(4) as usize] = "*".to_owned();
        } else if percent < 2 * self.placed_percent {
            words[3] = "#".to_owned();
        }
        words.join(".")
    }
}

fn headers(criterion: &mut Criterion<CpuTime>) {
    let headers = |first: u64, second: u64| {
        let mut table = FieldTable::default();
        table.insert("customer".into(), AMQPValue::LongString(format!("c{first}").into()));
        table.insert("format".into(), AMQPValue::LongString(format!("f{second}").into()));
        table
    };
    for count in BINDING_COUNTS {
        let mut random = Random(3);
        let mut table = table(ExchangeKind::Headers);
        for queue in 0..count {
            bind(&mut table, queue, "", &headers(queue.into(), random.below(10)));
        }
        let mut bound = Random(3);
        let formats: Vec<_> = (0..count).map(|_| bound.below(10)).collect();
        let messages: Vec<_> = (0..KEY_COUNT)
            .map(|_| random.below(count.into()))
            .map(|customer| headers(customer, formats[customer as usize]))
            .collect();
        let mut buffer = RouteBuffer::new();
        let mut next = 0;
        criterion
            .benchmark_group("headers")
            .bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    next = if next + 1 < messages.len() { next + 1 } else { 0 };
                    buffer.clear();
                    let message = Routable {
                        routing_key: "",
                        headers: &messages[next],
                    };
                    table.route("x", &message, &mut buffer).unwrap();
                    assert_eq!(buffer.queues().len(), 1);
                });
            });
    }
}

/// A table of 100,000 bindings on one topic exchange, 3,000 of them to one queue.
fn remove_queue(criterion: &mut Criterion<CpuTime>) {
    let none = FieldTable::default();
    let build = || {
        let mut table = table(ExchangeKind::Topic);
        for number in 0..100_000_u32 {
            let queue = if number % 33 == 0 { 0 } else { number };
            bind(&mut table, queue, &format!("a.{}.*.{number}", number % 1000), &none);
        }
        table
    };
    let mut group = criterion.benchmark_group("edit");
    group.sample_size(10);
    group.bench_function("remove_queue_of_3000_bindings", |bencher| {
        bencher.iter_batched(
            build,
            |mut table| {
                let removed = table.remove_queue(0);
                (table, removed)
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = default_and_direct, fanout, hashes, topic, headers, remove_queue
}
criterion_main!(benches);
