//! Exact turns: which consumer gets which message, with limits, acknowledgements and consumers that come and go.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{AMQPClass, RawClient, basic, make};

/// A client on whose channel several consumers of one queue are, so that the order of all their deliveries is seen.
struct Crowd {
    client: RawClient,
    queue: String,
    published: usize,
}

impl Crowd {
    fn new(broker: &TestBroker, prefetch_count: u16) -> Self {
        let mut client = RawClient::with_channel(broker.amqp());
        let queue = client.call(1, make::queue_declare("")).queue.to_string();
        let qos = basic::Qos {
            prefetch_count,
            global: false,
        };
        let _ok = client.call(1, qos);
        Self {
            client,
            queue,
            published: 0,
        }
    }

    fn consume(&mut self, tag: &str) {
        let consume = basic::Consume {
            consumer_tag: tag.into(),
            ..make::basic_consume(&self.queue)
        };
        let _ok = self.client.call(1, consume);
    }

    fn cancel(&mut self, tag: &str) {
        let cancel = basic::Cancel {
            consumer_tag: tag.into(),
            nowait: false,
        };
        let _ok = self.client.call(1, cancel);
    }

    /// Publishes so many messages, numbered.
    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.published += 1;
            let body = self.published.to_string();
            self.client.publish_to(1, "", &self.queue, body.as_bytes());
        }
    }

    /// Who got the next messages, as in `a1 b2`.
    #[track_caller]
    fn expect(&mut self, deliveries: &str) {
        let mut seen = Vec::new();
        for _ in deliveries.split(' ') {
            let content = self.client.expect_content(1);
            let AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) = content.method else {
                panic!("no delivery: {:?}", content.method);
            };
            seen.push(format!(
                "{}{}",
                deliver.consumer_tag,
                String::from_utf8_lossy(&content.body)
            ));
        }
        assert_eq!(seen.join(" "), deliveries);
        assert_eq!(self.unrouted_left(), self.left(deliveries), "nobody got more");
    }

    /// Nothing is to come but the answer to this.
    fn unrouted_left(&mut self) -> u32 {
        let passive = make::queue_declare_passive(&self.queue);
        self.client.call(1, passive).message_count
    }

    fn left(&self, deliveries: &str) -> u32 {
        let last = deliveries
            .split(' ')
            .filter_map(|it| it[1..].parse::<usize>().ok())
            .max();
        (self.published - last.unwrap_or(0)) as u32
    }

    fn ack(&mut self, tag: u64) {
        self.client.send(1, make::basic_ack(tag));
    }
}

#[test]
fn consumers_with_room_take_turns_and_one_that_gets_room_again_joins_at_the_end() {
    let broker = TestBroker::get();
    let mut crowd = Crowd::new(&broker, 2);
    for tag in ["a", "b", "c"] {
        crowd.consume(tag);
    }
    crowd.publish(8);
    crowd.expect("a1 b2 c3 a4 b5 c6");
    // All are full: whoever settles one gets the next.
    crowd.ack(2);
    crowd.expect("b7");
    crowd.ack(1);
    crowd.expect("a8");
    crowd.publish(3);
    for (tag, next) in [(6, "c9"), (3, "c10"), (4, "a11")] {
        crowd.ack(tag);
        crowd.expect(next);
    }
}

#[test]
fn a_cancelled_consumer_leaves_the_turns_of_the_others_as_they_are() {
    let broker = TestBroker::get();
    let mut crowd = Crowd::new(&broker, 0);
    for tag in ["a", "b", "c", "d"] {
        crowd.consume(tag);
    }
    crowd.publish(6);
    crowd.expect("a1 b2 c3 d4 a5 b6");
    crowd.cancel("d");
    crowd.publish(3);
    crowd.expect("c7 a8 b9");
    crowd.cancel("c");
    crowd.publish(3);
    crowd.expect("a10 b11 a12");
    // A newcomer is served after those who wait already.
    crowd.consume("e");
    crowd.publish(4);
    crowd.expect("b13 a14 e15 b16");
}

#[test]
fn what_a_cancelled_consumer_holds_counts_for_nobody_else() {
    let broker = TestBroker::get();
    let mut crowd = Crowd::new(&broker, 1);
    crowd.consume("a");
    crowd.consume("b");
    crowd.publish(4);
    crowd.expect("a1 b2");
    crowd.cancel("a");
    // Its delivery may still be settled, and gives nobody room.
    crowd.ack(1);
    assert_eq!(crowd.unrouted_left(), 2);
    crowd.ack(2);
    crowd.expect("b3");
    crowd.consume("c");
    crowd.expect("c4");
}

#[test]
fn a_requeued_message_goes_to_whose_turn_it_is() {
    let broker = TestBroker::get();
    let mut crowd = Crowd::new(&broker, 1);
    for tag in ["a", "b"] {
        crowd.consume(tag);
    }
    crowd.publish(2);
    crowd.expect("a1 b2");
    crowd.cancel("b");
    crowd.consume("c");
    crowd.publish(1);
    crowd.expect("c3");
    // a is the only one with room, so it gets its own message again, before what is behind it.
    crowd.publish(1);
    let reject = basic::Reject {
        delivery_tag: 1,
        requeue: true,
    };
    crowd.client.send(1, reject);
    let again = crowd.client.expect_content(1);
    assert_eq!(again.body, b"1");
    assert_eq!(crowd.unrouted_left(), 1);
}
