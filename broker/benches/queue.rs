//! What a message costs on its way through a queue, and through whole sessions: published, delivered, acknowledged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench may panic")]

#[path = "../tests/virtual_broker/mod.rs"]
mod virtual_broker;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::protocol::{Message, hot, wire};
use leveret::queue::{
    Accept, ConsumerSpec, Delivery, DropReason, ExpiresAt, Load, Position, Queue, QueueOptions, Search, Sink, Slot,
};
use virtual_broker::client::octets;
use virtual_broker::words::Words;
use virtual_broker::{Wire, World};

/// Messages that come with one read.
const BATCH: usize = 100;
/// A content header of 100 octets with nothing but a delivery mode: transient.
const HEADER: [u8; 15] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0x10, 0, 1];

/// A world that takes every delivery.
#[derive(Default)]
struct Taken(Vec<(Slot, Position)>);

impl Sink<Message, ()> for Taken {
    fn now_millis(&mut self) -> u64 {
        0
    }

    fn search(&mut self, _search: Search) {}

    fn settle_spilled(&mut self, _position: Position, _message: &Message) {}

    fn deliver(&mut self, _consumer: &(), delivery: Delivery<'_, Message>) -> Accept {
        self.0.push((delivery.slot, delivery.position));
        Accept::Taken
    }

    fn persist(&mut self, _position: Position, _message: &Message, _expires_at: ExpiresAt) {}

    fn spill(&mut self, _position: Position, _message: &Message, _expires_at: ExpiresAt) {}

    fn load(&mut self, _load: Load) {}

    fn late(&mut self, _consumer: &(), _slot: Slot, _position: Position) {}

    fn settle(&mut self, _position: Position, _body_len: usize) {}

    fn purge(&mut self, _below: Position, _kept: Vec<(Position, usize)>) {}

    fn delivered_up_to(&mut self, _position: Position) {}

    fn requeued(&mut self, _position: Position, _delivery_count: u32) {}

    fn dropped(&mut self, _message: Message, _reason: DropReason) {}
}

fn queue(consumers: usize) -> Queue<Message, ()> {
    let mut queue = Queue::new(QueueOptions::default());
    for _ in 0..consumers {
        let key = queue
            .add_consumer(ConsumerSpec {
                handle: (),
                no_ack: false,
                prefetch_count: 0,
                exclusive: false,
                priority: 0,
                timeout_millis: None,
            })
            .unwrap();
        queue.resume(key, &mut Taken::default());
    }
    queue
}

fn queues(criterion: &mut Criterion) {
    let names = wire::exchange_and_key("", "q").unwrap();
    let message = Message::new(&names, &HEADER, &[7; 100]);
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH as u64));
    for consumers in [1, 10, 1000] {
        let (mut queue, mut taken) = (queue(consumers), Taken::default());
        group.bench_function(BenchmarkId::new("publish_deliver_ack", consumers), |bencher| {
            bencher.iter(|| {
                queue.publish(std::iter::repeat_n(message.clone(), BATCH), &mut taken);
                let mut deliveries = std::mem::take(&mut taken.0);
                assert_eq!(queue.ack(deliveries.drain(..), &mut taken), 0);
                taken.0 = deliveries;
            });
        });
    }
    group.finish();
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [16, 1024] {
        for no_ack in [true, false] {
            let world = World::new(World::config(), World::options());
            let (mut publisher, mut consumer) = (Wire::connected(&world), Wire::connected(&world));
            publisher.command(&world, "queue.declare q");
            consumer.command(
                &world,
                if no_ack {
                    "consume q tag no_ack"
                } else {
                    "consume q tag"
                },
            );
            let publishes = octets(1, "publish", &Words::of(&format!("\"\" q x*{size}"))).repeat(BATCH);
            let (mut sending, mut last_tag, mut acks) = (Vec::new(), 0, Vec::new());
            let name = if no_ack {
                "publish_deliver"
            } else {
                "publish_deliver_ack"
            };
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    publisher.take(world.now, &publishes);
                    consumer.write_into(world.now, &mut sending);
                    if !no_ack {
                        acks.clear();
                        (0..BATCH).for_each(|_| {
                            last_tag += 1;
                            hot::write_ack(&mut acks, 1, last_tag, false);
                        });
                        consumer.take(world.now, &acks);
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, queues, sessions);
criterion_main!(benches);
