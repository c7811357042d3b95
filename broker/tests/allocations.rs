//! What the hot path asks of the allocator, counted: sessions over a store in memory, in one thread.
//!
//! Once everything is warm, a message costs one allocation, the message itself, whoever gets it and however often; a
//! delivery and an acknowledgement cost none. A commit costs a few, however many messages are in it.

#![expect(
    unsafe_code,
    reason = "a counting allocator can only be had by implementing GlobalAlloc"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod virtual_broker;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use leveret::protocol::hot;
use virtual_broker::client::octets;
use virtual_broker::words::Words;
use virtual_broker::{Wire, World};

/// Messages that arrive with one read.
const BATCH: usize = 100;
/// Batches until all buffers have their size, and batches that are counted.
const ROUNDS: usize = 8;
/// Allocations of a batch of persistent messages with its confirms, apart from the messages: the chunk that they
/// become, and the commit, those of the engine in memory included.
const PER_COMMIT: usize = 40;

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged. `realloc` is not: the default, which allocates
// anew, makes growth count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// A publisher and a consumer of the queue `q`, and the buffer that the consumer's task would write from.
struct Pair {
    world: World,
    publisher: Wire,
    consumer: Wire,
    sending: Vec<u8>,
    last_tag: u64,
}

impl Pair {
    /// `declare` are the options of the queue, `consume` those of the consumer.
    fn new(declare: &str, consume: &str) -> Pair {
        let world = World::new(World::config(), World::options());
        let (mut publisher, mut consumer) = (Wire::connected(&world), Wire::connected(&world));
        publisher.command(&world, &format!("queue.declare q {declare}"));
        world.commit(false);
        publisher.command(&world, "queue.declare q passive");
        consumer.command(&world, &format!("consume q tag {consume}"));
        Pair {
            world,
            publisher,
            consumer,
            sending: Vec::new(),
            last_tag: 0,
        }
    }

    fn publish(&mut self, batch: &[u8]) -> usize {
        allocations_of(|| self.publisher.take(self.world.now, batch))
    }

    /// The consumer's task writes what was delivered.
    fn deliver(&mut self) -> usize {
        let allocations = allocations_of(|| self.consumer.write_into(self.world.now, &mut self.sending));
        assert!(self.sending.len() > 16 * BATCH, "nothing was delivered");
        allocations
    }

    /// The consumer acknowledges a whole batch, one by one or at once.
    fn ack(&mut self, multiple: bool) -> usize {
        let mut acks = Vec::new();
        for tag in self.last_tag + 1..=self.last_tag + BATCH as u64 {
            if !multiple || tag == self.last_tag + BATCH as u64 {
                hot::write_ack(&mut acks, 1, tag, multiple);
            }
        }
        self.last_tag += BATCH as u64;
        allocations_of(|| self.consumer.take(self.world.now, &acks))
    }
}

/// A batch of publishes as it comes with one read.
fn batch(publish: &str) -> Vec<u8> {
    octets(1, "publish", &Words::of(publish)).repeat(BATCH)
}

/// The most that any of the later rounds says; the first ones warm up.
fn most(mut round: impl FnMut() -> usize) -> usize {
    (0..ROUNDS).for_each(|_| {
        round();
    });
    (0..ROUNDS).map(|_| round()).max().unwrap()
}

#[test]
fn a_transient_message_costs_one_allocation_and_its_delivery_none() {
    let batch = batch("\"\" q 0123456789abcdef");
    let mut pair = Pair::new("", "no_ack");
    let most = most(|| pair.publish(&batch) + pair.deliver());
    assert_eq!(most, BATCH);
}

#[test]
fn an_acknowledgement_costs_none_alone_or_with_others() {
    let batch = batch("\"\" q 0123456789abcdef");
    let mut pair = Pair::new("", "");
    for multiple in [false, true] {
        let most = most(|| pair.publish(&batch) + pair.deliver() + pair.ack(multiple));
        assert_eq!(most, BATCH, "multiple: {multiple}");
    }
}

#[test]
fn a_message_that_waited_for_its_consumer_is_delivered_without_allocating() {
    let batch = batch("\"\" q 0123456789abcdef");
    let mut pair = Pair::new("", "");
    pair.consumer.command(&pair.world, "cancel tag");
    pair.consumer.command(&pair.world, &format!("qos {BATCH}"));
    // More than are delivered, because a queue that has become short gives memory back.
    (0..4 * ROUNDS).for_each(|_| {
        pair.publish(&batch);
    });
    pair.consumer.command(&pair.world, "consume q tag");
    // The first batch was delivered by basic.consume.
    let most = most(|| pair.ack(false) + pair.deliver());
    assert_eq!(most, 0);
}

#[test]
fn a_message_for_many_queues_is_one_allocation() {
    let batch = batch("amq.fanout key 0123456789abcdef");
    let mut pair = Pair::new("", "no_ack");
    for queue in ["q", "r", "s", "t"] {
        pair.publisher.command(&pair.world, &format!("queue.declare {queue}"));
        pair.publisher
            .command(&pair.world, &format!("queue.bind {queue} amq.fanout key"));
        if queue != "q" {
            pair.consumer
                .command(&pair.world, &format!("consume {queue} {queue} no_ack"));
        }
    }
    let most = most(|| pair.publish(&batch) + pair.deliver());
    assert_eq!(most, BATCH);
}

#[test]
fn properties_and_headers_cost_nothing_more() {
    let batch = batch("\"\" q 0123456789abcdef correlation_id=17 reply_to=answers x-trace=abc expiration=60000");
    let mut pair = Pair::new("", "no_ack");
    let most = most(|| pair.publish(&batch) + pair.deliver());
    assert_eq!(most, BATCH);
}

#[test]
fn confirms_of_transient_messages_cost_nothing() {
    let batch = batch("\"\" q 0123456789abcdef");
    let mut pair = Pair::new("", "no_ack");
    pair.publisher.command(&pair.world, "confirm.select");
    let mut answers = Vec::new();
    let most = most(|| {
        let published = pair.publish(&batch) + pair.deliver();
        published + allocations_of(|| pair.publisher.write_into(pair.world.now, &mut answers))
    });
    assert!(!answers.is_empty());
    assert_eq!(most, BATCH);
}

#[test]
fn a_batch_of_persistent_messages_with_confirms_costs_one_allocation_each_and_few_for_its_commit() {
    let batch = batch("\"\" q 0123456789abcdef persistent");
    let mut pair = Pair::new("durable", "");
    pair.publisher.command(&pair.world, "confirm.select");
    let mut answers = Vec::new();
    let mut round = || {
        let published = pair.publish(&batch) + pair.deliver();
        let committed = allocations_of(|| pair.world.commit(false));
        let confirmed = allocations_of(|| {
            pair.publisher.wake(pair.world.now);
            pair.publisher.write_into(pair.world.now, &mut answers);
        });
        assert!(!answers.is_empty(), "nothing was confirmed");
        let acked = pair.ack(false);
        published + committed + confirmed + acked
    };
    let most = most(&mut round);
    assert!(most <= BATCH + PER_COMMIT, "{most} allocations");
}

#[test]
fn the_end_of_a_connection_concerns_its_own_queues_only() {
    let world = World::new(World::config(), World::options());
    let mut client = Wire::connected(&world);
    for number in 0..100 {
        client.command(&world, &format!("queue.declare q{number}"));
    }
    let vhost = world.broker.vhost("/").unwrap();
    let nobody = world.broker.next_connection_id();
    assert_eq!(allocations_of(|| vhost.delete_queues_of(nobody)), 0);
}
