//! Flow control under a scheduler that gives every connection one turn after the other: publishers that always have more
//! to send do not starve the consumers of their queues, and consumers that stand still do not hold publishers up.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a client that cannot be served fails its test"
)]

mod virtual_broker;

use std::time::Duration;

use virtual_broker::client::{PROTOCOL_HEADER, octets};
use virtual_broker::words::Words;
use virtual_broker::{Wire, World};

/// Publishes that one turn of a publisher brings, about as many small ones as one read takes.
const PUBLISHES_PER_TURN: usize = 2_000;
/// Time that passes while everybody has one turn.
const ROUND: Duration = Duration::from_micros(200);
/// More than a queue may hold for consumers before its publishers wait.
const BACKLOG_MESSAGES: usize = 33_000;
const PREFETCH: usize = 200;
/// Long enough for several pauses.
const ROUNDS: usize = 500;
/// Rounds that are long enough, together, for waiting in vain and going on without it for a while.
const LONG_ROUND: Duration = Duration::from_millis(4);
const LONG_ROUNDS: usize = 200;

/// A broker and its clients. The first wire is the one who declares and consumes.
struct Hall {
    world: World,
    wires: Vec<Wire>,
    publishes: Vec<u8>,
}

impl Hall {
    fn new() -> Hall {
        let publish = octets(1, "publish", &Words::of("x q body"));
        let mut hall = Hall {
            world: World::new(World::config(), World::options()),
            wires: Vec::new(),
            publishes: publish.repeat(PUBLISHES_PER_TURN),
        };
        hall.connect();
        hall.say(0, "exchange.declare x fanout");
        hall.say(0, "queue.declare q");
        hall.say(0, "queue.bind q x");
        hall
    }

    /// A client with channel 1 open; its number.
    fn connect(&mut self) -> usize {
        self.wires.push(Wire::accept(&self.world.broker, self.world.now));
        let number = self.wires.len() - 1;
        self.wires[number].send(PROTOCOL_HEADER);
        for (channel, line) in [
            (0, "connection.start-ok"),
            (0, "connection.tune-ok"),
            (0, "connection.open /"),
            (1, "channel.open"),
        ] {
            self.say_on(number, channel, line);
        }
        number
    }

    fn say(&mut self, number: usize, line: &str) {
        self.say_on(number, 1, line);
    }

    fn say_on(&mut self, number: usize, channel: u16, line: &str) {
        let mut words = Words::of(line);
        let command = words.take_first();
        self.wires[number].send(&octets(channel, &command, &words));
        while self.wires[number].turn(&self.world.broker, self.world.now) {}
    }

    /// A publisher's turn, if it is read; how much it published.
    fn publish(&mut self, number: usize) -> usize {
        let wire = &mut self.wires[number];
        let reads = wire.accepts_input();
        if reads {
            wire.send(&self.publishes);
        }
        wire.turn(&self.world.broker, self.world.now);
        if reads { PUBLISHES_PER_TURN } else { 0 }
    }

    /// A consumer's turn: it acknowledges all that it was sent; how much that was.
    fn consume(&mut self, number: usize) -> usize {
        let wire = &mut self.wires[number];
        let deliveries = count_deliveries(&std::mem::take(&mut wire.received));
        if deliveries > 0 {
            wire.send(&octets(1, "ack", &Words::of("0 multiple")));
        }
        wire.turn(&self.world.broker, self.world.now);
        deliveries
    }

    fn pass_time(&mut self, duration: Duration) {
        self.world.now += duration;
        for wire in &mut self.wires {
            if wire.deadline().is_some_and(|deadline| deadline <= self.world.now) {
                wire.timeout(self.world.now);
            }
        }
    }

    fn ready(&self, queue: &str) -> usize {
        let vhost = self.world.broker.vhost("/").unwrap();
        let queues = vhost.queues();
        let found = queues.iter().find(|handle| &*handle.name == queue).unwrap();
        found.counts().ready
    }

    /// How much of so many turns a publisher is read in, in percent, while time passes.
    fn percent_read(
        &mut self,
        publisher: usize,
        (turns, turn): (usize, Duration),
        mut meanwhile: impl FnMut(&mut Hall),
    ) -> usize {
        let mut read = 0;
        for _ in 0..turns {
            read += usize::from(self.publish(publisher) > 0);
            meanwhile(self);
            self.pass_time(turn);
        }
        read * 100 / turns
    }
}

/// Counts basic.deliver among whole frames.
fn count_deliveries(mut frames: &[u8]) -> usize {
    let mut deliveries = 0;
    while let [kind, _, _, a, b, c, d, payload @ ..] = frames {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        deliveries += usize::from(*kind == 1 && payload.starts_with(&[0, 60, 0, 60]));
        frames = &payload[length + 1..];
    }
    deliveries
}

#[test]
fn publishers_at_full_speed_leave_a_bounded_backlog_to_a_consumer_that_keeps_going() {
    for publishers in [1, 4] {
        let mut hall = Hall::new();
        hall.say(0, &format!("qos {PREFETCH}"));
        hall.say(0, "consume q tag");
        let publishers: Vec<usize> = (0..publishers).map(|_| hall.connect()).collect();
        let (mut published, mut consumed, mut most) = (0, 0, 0);
        for _ in 0..ROUNDS {
            for publisher in &publishers {
                published += hall.publish(*publisher);
            }
            consumed += hall.consume(0);
            most = most.max(hall.ready("q"));
            hall.pass_time(ROUND);
        }
        // Its acknowledgements take one turn, what comes for them another.
        assert!(
            consumed >= ROUNDS * PREFETCH * 45 / 100,
            "the consumer had nothing to do: {consumed}"
        );
        assert!(
            most <= BACKLOG_MESSAGES + publishers.len() * PUBLISHES_PER_TURN,
            "{published} published, {most} in the queue"
        );
        assert!(hall.world.broker.connections()[publishers[0]].is_in_flow(hall.world.now));
    }
}

#[test]
fn consumers_whose_turn_is_late_now_and_then_are_not_taken_for_slow() {
    let mut hall = Hall::new();
    hall.say(0, &format!("qos {PREFETCH}"));
    hall.say(0, "consume q tag");
    let publisher = hall.connect();
    let (mut published, mut consumed, mut most) = (0, 0, 0);
    for round in 0..4 * ROUNDS {
        published += hall.publish(publisher);
        // A busy machine keeps the consumer from running for 18 ms out of 24.
        if round % 120 >= 90 {
            consumed += hall.consume(0);
            most = most.max(hall.ready("q"));
        }
        hall.pass_time(ROUND);
    }
    assert!(most <= BACKLOG_MESSAGES + PUBLISHES_PER_TURN, "{most} in the queue");
    assert!(consumed * 2 >= published, "{consumed} of {published}");
}

#[test]
fn a_consumer_without_acknowledgements_is_not_starved_either() {
    let mut hall = Hall::new();
    hall.say(0, "consume q tag no_ack");
    let publishers = [hall.connect(), hall.connect()];
    // Its line takes less than half of what comes.
    let mut most = 0;
    for _ in 0..200 {
        for publisher in publishers {
            hall.publish(publisher);
        }
        hall.wires[0].readable_bytes = Some(50_000);
        hall.consume(0);
        most = most.max(hall.ready("q"));
        hall.pass_time(ROUND);
    }
    assert!(most <= BACKLOG_MESSAGES + 2 * PUBLISHES_PER_TURN, "{most} in the queue");
}

#[test]
fn a_queue_without_consumers_takes_all_it_is_given() {
    let mut hall = Hall::new();
    let publisher = hall.connect();
    assert_eq!(hall.percent_read(publisher, (100, ROUND), |_| {}), 100);
    assert_eq!(hall.ready("q"), 100 * PUBLISHES_PER_TURN);
}

#[test]
fn consumers_that_stand_still_hold_nobody_up() {
    for prefetch in [1, PREFETCH] {
        let mut hall = Hall::new();
        hall.say(0, &format!("qos {prefetch}"));
        hall.say(0, "consume q tag");
        let publisher = hall.connect();
        let read = hall.percent_read(publisher, (LONG_ROUNDS, LONG_ROUND), |_| {});
        assert!(read >= 90, "read in {read} % of its turns");
    }
}

#[test]
fn a_consumer_that_reads_nothing_holds_nobody_up() {
    let mut hall = Hall::new();
    hall.say(0, "consume q tag no_ack");
    hall.wires[0].readable_bytes = Some(0);
    let publisher = hall.connect();
    let read = hall.percent_read(publisher, (LONG_ROUNDS, LONG_ROUND), |_| {});
    assert!(read >= 90, "read in {read} % of its turns");
}

#[test]
fn a_slow_consumer_of_one_queue_does_not_slow_the_consumers_of_another() {
    let mut hall = Hall::new();
    hall.say(0, "queue.declare other");
    hall.say(0, "queue.bind other x");
    hall.say(0, "consume other tag no_ack");
    let slow = hall.connect();
    hall.say(slow, "qos 50");
    hall.say(slow, "consume q tag");
    let publisher = hall.connect();
    let read = hall.percent_read(publisher, (100, ROUND), |hall| {
        hall.consume(0);
        hall.consume(slow);
    });
    assert_eq!(read, 100);
}

#[test]
fn a_light_publisher_is_not_held_up_by_the_backlog_of_others() {
    let mut hall = Hall::new();
    hall.say(0, &format!("qos {PREFETCH}"));
    hall.say(0, "consume q tag");
    let heavy = hall.connect();
    for _ in 0..20 {
        hall.publish(heavy);
        hall.pass_time(Duration::from_secs(1));
    }
    assert!(hall.ready("q") > BACKLOG_MESSAGES);
    let light = hall.connect();
    for _ in 0..500 {
        hall.say(light, "publish x q body");
        assert!(hall.wires[light].accepts_input());
    }
}

#[test]
fn a_connection_that_consumes_is_read_because_its_acknowledgements_stand_behind_its_publishes() {
    let mut hall = Hall::new();
    hall.say(0, &format!("qos {PREFETCH}"));
    hall.say(0, "consume q tag");
    assert_eq!(hall.percent_read(0, (100, ROUND), |_| {}), 100);
}

#[test]
fn a_pause_ends_when_what_it_waits_for_is_gone() {
    for last_words in ["cancel tag", "queue.delete q", "queue.purge q"] {
        let mut hall = Hall::new();
        hall.say(0, &format!("qos {PREFETCH}"));
        hall.say(0, "consume q tag");
        let publisher = hall.connect();
        while hall.wires[publisher].accepts_input() {
            hall.publish(publisher);
        }
        hall.say(0, last_words);
        hall.pass_time(Duration::from_millis(20));
        hall.wires[publisher].turn(&hall.world.broker, hall.world.now);
        assert!(hall.wires[publisher].accepts_input(), "after {last_words}");
    }
}

#[test]
fn a_paused_publisher_can_be_closed_and_leaves_nothing_behind() {
    let mut hall = Hall::new();
    hall.say(0, &format!("qos {PREFETCH}"));
    hall.say(0, "consume q tag");
    let publisher = hall.connect();
    while hall.wires[publisher].accepts_input() {
        hall.publish(publisher);
    }
    hall.wires[publisher].close(&hall.world.broker);
    while hall.ready("q") > 0 {
        hall.consume(0);
    }
}

#[test]
fn a_flood_of_methods_is_worked_off_in_turns() {
    let mut hall = Hall::new();
    let flooder = hall.connect();
    let flood: Vec<u8> = (0..1_000)
        .flat_map(|number| octets(1, "queue.declare", &Words::of(&format!("q{number} nowait"))))
        .collect();
    hall.wires[flooder].send(&flood);
    let queues = |hall: &Hall| hall.world.broker.vhost("/").unwrap().queues().len() - 1;
    let (mut turns, mut before) = (0, 0);
    while queues(&hall) < 1_000 {
        assert!(hall.wires[flooder].turn(&hall.world.broker, hall.world.now));
        assert!(queues(&hall) - before <= 256);
        (turns, before) = (turns + 1, queues(&hall));
    }
    assert!(turns >= 4);
}
