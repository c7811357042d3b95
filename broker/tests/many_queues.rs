//! Memory of many long queues, which share a budget that is much too small for all: while they fill, while they wait, and while one
//! connection or several drain them all at once. The threads that read back are done by hand, so nothing here depends on time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a client that cannot be served fails its test"
)]

mod virtual_broker;

use leveret::config::Config;
use virtual_broker::client::octets;
use virtual_broker::words::Words;
use virtual_broker::{Wire, World};

const QUEUES: usize = 150;
const MESSAGES_EACH: usize = 80;
const BODY_BYTES: usize = 1024;
/// Half of it is for messages that are on disk anyway.
const BUDGET_BYTES: u64 = 512 << 10;
/// What a queue may have in memory however many there are: what it holds anyway, or what it reads at once, and the message that passes
/// the bound.
const QUEUE_BYTES: u64 = 6 << 10;

/// A broker with long queues.
struct Hall {
    world: World,
    drainers: Vec<Wire>,
}

impl Hall {
    /// All queues are full. As many connections as are said will drain them.
    fn filled(drainers: usize) -> Hall {
        let config = Config {
            queue_memory_budget: BUDGET_BYTES,
            ..World::config()
        };
        let world = World::new(config, World::options());
        let mut publisher = Wire::connected(&world);
        for queue in 0..QUEUES {
            publisher.command(&world, &format!("queue.declare q{queue} durable"));
            // The answer waits for the disk.
            world.commit(false);
            world.settle(std::slice::from_mut(&mut publisher));
        }
        let drainers = (0..drainers).map(|_| Wire::connected(&world)).collect();
        let hall = Hall { world, drainers };
        for _ in 0..MESSAGES_EACH {
            for queue in 0..QUEUES {
                let words = Words::of(&format!("\"\" q{queue} x*{BODY_BYTES} persistent"));
                publisher.send(&octets(1, "publish", &words));
            }
            hall.world.settle(std::slice::from_mut(&mut publisher));
            hall.world.commit(false);
            hall.check();
        }
        assert_eq!(hall.waiting(), QUEUES * MESSAGES_EACH);
        hall
    }

    /// Each queue is drained by one of them.
    fn consume(&mut self, prefetch: usize) {
        let drainers = self.drainers.len();
        for drainer in &mut self.drainers {
            drainer.command(&self.world, &format!("qos {prefetch}"));
        }
        for queue in 0..QUEUES {
            let drainer = &mut self.drainers[queue % drainers];
            drainer.command(&self.world, &format!("consume q{queue} c{queue}"));
            self.check();
        }
    }

    /// Everybody acknowledges all that has come, and gets more, while nothing is read back; then all that was asked for is.
    fn acknowledge(&mut self) {
        let ack = octets(1, "ack", &Words::of("0 multiple"));
        self.world.loads_are_held = true;
        for drainer in &mut self.drainers {
            drainer.received.clear();
            drainer.send(&ack);
        }
        self.world.settle(&mut self.drainers);
        self.check();
        self.world.loads_are_held = false;
        while self.world.broker.paging.load_next() {
            self.check();
        }
        self.world.settle(&mut self.drainers);
        self.world.commit(true);
        self.check();
    }

    fn waiting(&self) -> usize {
        let vhosts = self.world.broker.vhosts();
        let queues = vhosts.iter().flat_map(|vhost| vhost.queues());
        queues
            .map(|queue| queue.counts())
            .map(|counts| counts.ready + counts.unacked)
            .sum()
    }

    fn memory_bytes(&self) -> u64 {
        let vhosts = self.world.broker.vhosts();
        let queues = vhosts.iter().flat_map(|vhost| vhost.queues());
        queues.map(|queue| queue.counts().memory_bytes).sum()
    }

    fn check(&self) {
        let (held, most) = (self.memory_bytes(), BUDGET_BYTES / 2 + QUEUES as u64 * QUEUE_BYTES);
        assert!(
            held <= most,
            "{held} bytes, {most} allowed; {} messages wait",
            self.waiting()
        );
    }

    fn drain(&mut self, prefetch: usize) {
        self.consume(prefetch);
        let mut left = self.waiting();
        while left > 0 {
            self.acknowledge();
            let now = self.waiting();
            assert!(now < left, "{now} messages are stuck");
            left = now;
        }
    }
}

#[test]
fn many_long_queues_share_their_budget_while_one_connection_drains_them_all() {
    Hall::filled(1).drain(1000);
}

#[test]
fn many_long_queues_share_their_budget_while_many_connections_drain_them() {
    Hall::filled(20).drain(1000);
}

#[test]
fn consumers_that_take_one_message_at_a_time_cost_no_more_memory() {
    Hall::filled(5).drain(1);
}
