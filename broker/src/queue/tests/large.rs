//! Many messages, many consumers, many queues: costs that must not grow with the size of the queue.

use super::properties::Counting;
use super::*;

#[test]
fn an_idle_queue_is_small() {
    let size = size_of::<Queue<std::sync::Arc<()>, std::sync::Arc<()>>>();
    assert!(size <= 784, "{size} bytes");
}

/// With a cost per message that grows with the queue, this test would take hours.
#[test]
fn requeuing_hundreds_of_thousands_of_messages_in_any_order_takes_linear_time() {
    const MESSAGES: u64 = 300_000;
    let mut queue = Queue::new(QueueOptions::default());
    let mut sink = Counting::default();
    let key = queue.add_consumer(spec(0)).unwrap();
    queue.resume(key, &mut sink);
    queue.publish((0..MESSAGES).map(Number), &mut sink);
    queue.remove_consumer(key, &mut sink);
    assert_eq!(queue.counts().unacked as u64, MESSAGES);

    // Backwards, every second one, then the others forwards.
    let (odd, even): (Vec<_>, Vec<_>) = sink.slots.iter().partition(|(_, position)| position.0 % 2 == 1);
    assert_eq!(queue.requeue(odd.into_iter().rev(), false, &mut sink), 0);
    assert_eq!(queue.requeue(even, false, &mut sink), 0);
    for position in 0..MESSAGES {
        let GetOutcome::Got(got) = queue.get(true, &mut sink).unwrap() else {
            panic!("the queue is empty too early");
        };
        assert_eq!((got.position, got.redelivered), (Position(position), true));
    }
    assert_eq!(queue.counts(), Counts::default());
}

#[test]
fn a_queue_of_a_hundred_million_paged_messages_is_small() {
    let options = QueueOptions {
        durable: true,
        ..QueueOptions::default()
    };
    let mut queue: Queue<Number, usize> = Queue::new(options);
    queue.recover(Recovered {
        until: Position(100_000_000),
        count: 100_000_000,
        body_bytes: 1 << 40,
        ..Recovered::default()
    });
    queue.allow(0);
    queue.publish((0..100_000).map(Number), &mut Counting::default());
    // Every second one is persisted: they are one stretch all the same.
    queue.allow(16_000);
    queue.publish((0..100_000).map(Number), &mut Counting::default());
    assert!(queue.ready.paged_ranges().len() < 5);
    queue.allow(0);
    let Counts {
        ready,
        paged,
        memory_bytes,
        ..
    } = queue.counts();
    assert_eq!(ready, 100_200_000);
    assert!(memory_bytes <= 16_000 && paged as u64 >= 100_200_000 - memory_bytes / 8);
}

#[test]
fn ten_thousand_consumers_of_as_many_priorities_come_and_go() {
    const CONSUMERS: usize = 10_000;
    let mut queue = Queue::new(QueueOptions::default());
    let mut sink = Counting::default();
    let keys: Vec<_> = (0..CONSUMERS)
        .map(|consumer| {
            let spec = ConsumerSpec {
                priority: (consumer % 5_000) as i32,
                prefetch_count: 1,
                ..spec(consumer)
            };
            queue.add_consumer(spec).unwrap()
        })
        .collect();
    for key in &keys {
        queue.resume(*key, &mut sink);
    }
    queue.publish((0..CONSUMERS as u64).map(Number), &mut sink);
    assert_eq!(sink.taken.len(), CONSUMERS, "each has its one message");
    queue.publish([Number(0)], &mut sink);
    assert_eq!(queue.counts().ready, 1);
    for key in keys {
        assert!(queue.remove_consumer(key, &mut sink).is_some());
    }
    assert_eq!(queue.counts().consumers, 0);
}

#[test]
fn ten_thousand_equal_consumers_get_one_message_each() {
    const CONSUMERS: usize = 10_000;
    let mut queue = Queue::new(QueueOptions::default());
    let mut sink = Counting::default();
    for consumer in 0..CONSUMERS {
        let key = queue.add_consumer(spec(consumer)).unwrap();
        queue.resume(key, &mut sink);
    }
    queue.publish((0..2 * CONSUMERS as u64).map(Number), &mut sink);
    assert!(sink.taken.len() == CONSUMERS && sink.taken.values().all(|count| *count == 2));
}
