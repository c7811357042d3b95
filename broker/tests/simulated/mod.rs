//! A broker under random clients, commits and crashes, all of it decided by a seed.

mod model;
mod random;
mod reading;

use std::collections::BTreeMap;

use leveret::protocol::message::Message;
use leveret_storage::Crash;

use crate::virtual_broker::client::{PROTOCOL_HEADER, octets};
use crate::virtual_broker::words::Words;
use crate::virtual_broker::{Wire, World};
pub use model::Seen;
use model::{Entry, Id, Model, Promise};
use random::Random;
use reading::{Heard, heard};

const DURABLE: [&str; 3] = ["d0", "d1", "d2"];
const TRANSIENT: &str = "t0";
const QUEUES: [&str; 4] = ["d0", "d1", "d2", TRANSIENT];
/// A durable fanout exchange that is bound to the first two queues.
const FANOUT: &str = "both";

const PUBLISHERS: [usize; 2] = [0, 1];
/// Gets a message, publishes others and acknowledges it, in one transaction.
const TRANSACTOR: usize = 2;
const CONSUMERS: [usize; 3] = [3, 4, 5];
const CLIENTS: usize = 6;

/// Everybody declares the transient queue, which no crash survives.
const HANDSHAKE: [(u16, &str, &str); 5] = [
    (0, "connection.start-ok", ""),
    (0, "connection.tune-ok", ""),
    (0, "connection.open", "/"),
    (1, "channel.open", ""),
    (1, "queue.declare", TRANSIENT),
];

/// Small, so that publishers do meet congestion.
const PENDING_BYTES_MAX: usize = 2_000;
/// More than any publisher has publishes waiting.
const COMMITS_AT_THE_END_MAX: usize = 10_000;
/// Some messages are this long, most are short.
const LONG_BODY_BYTES: usize = 1_500;

pub struct Simulation {
    world: World,
    wires: Vec<Wire>,
    clients: Vec<Client>,
    model: Model,
    random: Random,
    sequences: [u64; CLIENTS],
}

#[derive(Default)]
struct Client {
    /// The rest of octets of which the beginning is sent.
    tail: Vec<u8>,
    /// Publishes that wait for their confirm, by number.
    unconfirmed: BTreeMap<u64, Promise>,
    published: u64,
    transaction: Option<Promise>,
    /// The queue it just asked for a message.
    gets_from: Option<&'static str>,
}

impl Simulation {
    pub fn new(seed: u64) -> Simulation {
        let options = leveret_storage::StoreOptions {
            pending_bytes_max: PENDING_BYTES_MAX,
            ..World::options()
        };
        // In every second one queues hold next to nothing in memory.
        let mut config = World::config();
        if seed % 2 == 1 {
            config.queue_memory_budget = 0;
        }
        let mut simulation = Simulation {
            world: World::new(config, options),
            wires: Vec::new(),
            clients: Vec::new(),
            model: Model::default(),
            random: Random::new(seed),
            sequences: [0; CLIENTS],
        };
        simulation.define();
        simulation.connect_all();
        simulation
    }

    /// What survives every crash.
    fn define(&mut self) {
        let mut wires = [Wire::accept(&self.world.broker, self.world.now)];
        wires[0].send(PROTOCOL_HEADER);
        let handshake = HANDSHAKE.map(|(channel, command, words)| octets(channel, command, &Words::of(words)));
        let durable = DURABLE.map(|queue| octets(1, "queue.declare", &Words::of(&format!("{queue} durable"))));
        let exchange = octets(1, "exchange.declare", &Words::of(&format!("{FANOUT} fanout durable")));
        let bindings = ["d0", "d1"].map(|queue| octets(1, "queue.bind", &Words::of(&format!("{queue} {FANOUT} key"))));
        for octets in handshake.into_iter().chain(durable).chain([exchange]).chain(bindings) {
            wires[0].send(&octets);
            self.world.settle(&mut wires);
            self.world.commit(false);
            self.world.settle(&mut wires);
        }
        wires[0].close(&self.world.broker);
    }

    /// One random thing happens.
    pub fn step(&mut self) {
        match self.random.below(100) {
            0..35 => self.publish(),
            35..65 => self.settle_some(),
            65..72 => self.transact(),
            72..84 => self.commit(false),
            84..88 => self.commit(true),
            88..92 => self.change_consumer(),
            92..95 => self.lose_connection(),
            95..98 => self.stop_or_start_reading(),
            98 if self.random.one_in(2) => self.crash(),
            _ => self.recover_deliveries(),
        }
        self.settle();
    }

    /// Lets everything come to its end and looks at what is left in the queues.
    pub fn finish(mut self) -> Seen {
        for client in 0..CLIENTS {
            self.wires[client].readable_bytes = None;
            self.send_tail(client);
        }
        // A congested publisher takes its input in portions, one per commit.
        for _ in 0..COMMITS_AT_THE_END_MAX {
            self.settle();
            self.commit(true);
            if self
                .clients
                .iter()
                .all(|client| client.unconfirmed.is_empty() && client.transaction.is_none())
            {
                break;
            }
        }
        for publisher in PUBLISHERS {
            let unconfirmed = &self.clients[publisher].unconfirmed;
            assert!(unconfirmed.is_empty(), "never confirmed: {:?}", unconfirmed.keys());
        }
        assert!(
            self.clients[TRANSACTOR].transaction.is_none(),
            "tx.commit was never answered"
        );
        for client in CONSUMERS.into_iter().chain([TRANSACTOR]) {
            self.wires[client].close(&self.world.broker);
        }
        let mut left = Vec::new();
        for queue in QUEUES {
            while let Some(entry) = self.get(queue) {
                left.push(entry);
            }
        }
        self.model.finish(&left);
        self.model.seen
    }

    fn connect_all(&mut self) {
        self.wires.clear();
        self.clients.clear();
        for client in 0..CLIENTS {
            self.wires.push(Wire::accept(&self.world.broker, self.world.now));
            self.clients.push(Client::default());
            self.shake_hands(client);
        }
    }

    fn shake_hands(&mut self, client: usize) {
        self.wires[client].send(PROTOCOL_HEADER);
        for (channel, command, words) in HANDSHAKE {
            self.wires[client].send(&octets(channel, command, &Words::of(words)));
            self.settle();
        }
        match client {
            TRANSACTOR => self.say(client, "tx.select"),
            _ if PUBLISHERS.contains(&client) => self.say(client, "confirm.select"),
            _ => self.consume(client),
        }
    }

    /// The connection is cut, and its client comes again.
    fn reconnect(&mut self, client: usize) {
        self.wires[client].close(&self.world.broker);
        self.model.lose_client(client);
        self.wires[client] = Wire::accept(&self.world.broker, self.world.now);
        self.clients[client] = Client::default();
        self.shake_hands(client);
    }

    /// Sends a whole command on channel 1.
    fn say(&mut self, client: usize, line: &str) {
        let mut words = Words::of(line);
        let command = words.take_first();
        self.send_tail(client);
        self.wires[client].send(&octets(1, &command, &words));
        self.settle();
    }

    fn send_tail(&mut self, client: usize) {
        let tail = std::mem::take(&mut self.clients[client].tail);
        self.wires[client].send(&tail);
    }

    /// Everybody works until nobody has anything to do, and tells the model what it heard.
    fn settle(&mut self) {
        self.world.settle(&mut self.wires);
        for client in 0..self.wires.len() {
            let received = std::mem::take(&mut self.wires[client].received);
            for heard in heard(&received) {
                self.hear(client, heard);
            }
        }
    }

    fn hear(&mut self, client: usize, heard: Heard) {
        match heard {
            Heard::Delivered {
                consumer_tag,
                delivery_tag,
                redelivered,
                id,
            } => {
                let queue = QUEUES
                    .into_iter()
                    .find(|queue| consumer_tag.starts_with(queue))
                    .unwrap();
                self.model.deliver((queue, id), client, delivery_tag, redelivered);
            }
            Heard::Got {
                delivery_tag,
                redelivered,
                id,
            } => {
                let queue = self.clients[client].gets_from.take().unwrap();
                self.model.deliver((queue, id), client, delivery_tag, redelivered);
            }
            Heard::GotNothing => self.clients[client].gets_from = None,
            Heard::Confirmed { number, multiple } => {
                let unconfirmed = &mut self.clients[client].unconfirmed;
                let first = if multiple { 0 } else { number };
                let answered: Vec<u64> = unconfirmed.range(first..=number).map(|(number, _)| *number).collect();
                assert!(
                    answered.last() == Some(&number),
                    "{number} is confirmed twice, or was not published"
                );
                for promise in answered.iter().filter_map(|number| unconfirmed.remove(number)) {
                    self.model.confirm(&promise);
                }
            }
            Heard::Committed => {
                let promise = self.clients[client].transaction.take().unwrap();
                self.model.confirm(&promise);
            }
            Heard::Closed(reason) => panic!("client {client} was closed: {reason}"),
        }
    }

    /// The octets of a publish with a new message, and what its confirm will promise.
    fn message(&mut self, client: usize) -> (Vec<u8>, Promise) {
        self.sequences[client] += 1;
        let id = Id {
            publisher: client,
            sequence: self.sequences[client],
        };
        let queue = self.random.choose(&QUEUES);
        let (exchange, queues) = if self.random.one_in(5) {
            (FANOUT, &DURABLE[..2])
        } else {
            ("\"\"", &[queue][..])
        };
        let persistent = !self.random.one_in(4);
        let length = if self.random.one_in(10) { LONG_BODY_BYTES } else { 0 };
        let flag = if persistent { "persistent" } else { "" };
        let words = format!("{exchange} {queue} {}{} {flag}", id.body(), "x".repeat(length));
        let mut promise = Promise::default();
        for queue in queues {
            let entry = (*queue, id);
            let list = if persistent && *queue != TRANSIENT {
                &mut promise.durable
            } else {
                &mut promise.transient
            };
            list.push(entry);
        }
        (octets(1, "publish", &Words::of(&words)), promise)
    }

    /// Some messages in one piece, which may end in the middle of a frame.
    fn publish(&mut self) {
        let client = self.random.choose(&PUBLISHERS);
        self.send_tail(client);
        let mut all = Vec::new();
        for _ in 0..=self.random.below(4) {
            let (octets, promise) = self.message(client);
            all.extend(octets);
            let publisher = &mut self.clients[client];
            publisher.published += 1;
            publisher.unconfirmed.insert(publisher.published, promise);
        }
        if self.random.one_in(3) {
            self.clients[client].tail = all.split_off(self.random.below(all.len()));
        }
        self.wires[client].send(&all);
    }

    /// One client settles one of its deliveries, or all up to it.
    fn settle_some(&mut self) {
        let client = self.random.choose(&CONSUMERS);
        let held = self.model.held_by(client);
        let tags: Vec<u64> = held.keys().copied().collect();
        if tags.is_empty() {
            return;
        }
        let tag = self.random.choose(&tags);
        let multiple = self.random.one_in(3);
        let (command, flag, gone) = self.random.choose(&[
            ("ack", "", true),
            ("ack", "", true),
            ("ack", "", true),
            ("nack", "requeue", false),
            ("nack", "", true),
        ]);
        let chosen = if multiple {
            held.range(..=tag)
        } else {
            held.range(tag..=tag)
        };
        for (_, entry) in chosen {
            if gone {
                self.model.settle(*entry)
            } else {
                self.model.requeue(*entry)
            }
        }
        self.say(
            client,
            &format!("{command} {tag} {flag} {}", if multiple { "multiple" } else { "" }),
        );
    }

    fn transact(&mut self) {
        if self.clients[TRANSACTOR].transaction.is_some() {
            return;
        }
        let queue = self.random.choose(&DURABLE);
        self.clients[TRANSACTOR].gets_from = Some(queue);
        self.say(TRANSACTOR, &format!("get {queue}"));
        let mut promise = Promise::default();
        for _ in 0..=self.random.below(3) {
            let (octets, message) = self.message(TRANSACTOR);
            self.wires[TRANSACTOR].send(&octets);
            promise.durable.extend(message.durable);
            promise.transient.extend(message.transient);
        }
        if let Some((tag, entry)) = self.model.held_by(TRANSACTOR).into_iter().next() {
            self.model.settle(entry);
            promise.acked = Some(entry);
            self.say(TRANSACTOR, &format!("ack {tag}"));
        }
        self.clients[TRANSACTOR].transaction = Some(promise);
        self.say(TRANSACTOR, "tx.commit");
    }

    fn commit(&mut self, lazily: bool) {
        self.world.commit(lazily);
        self.model.commit(lazily, self.world.disk.unsynced_writes() == 0);
        self.settle();
    }

    fn consume(&mut self, client: usize) {
        let prefetch_count = self.random.choose(&[0, 1, 3, 10]);
        let global = if self.random.one_in(3) { "global" } else { "" };
        self.say(client, &format!("qos {prefetch_count} {global}"));
        let queue = self.random.choose(&QUEUES);
        self.say(client, &format!("consume {queue} {queue}-a"));
        if self.random.one_in(2) {
            let queue = self.random.choose(&QUEUES);
            self.say(client, &format!("consume {queue} {queue}-b"));
        }
    }

    /// A client cancels what it consumes, or closes its channel, and consumes from other queues.
    fn change_consumer(&mut self) {
        let client = self.random.choose(&CONSUMERS);
        if self.wires[client].readable_bytes.is_some() {
            return;
        }
        if self.random.one_in(2) {
            for queue in QUEUES {
                self.say(client, &format!("cancel {queue}-a"));
                self.say(client, &format!("cancel {queue}-b"));
            }
        } else {
            self.model.lose_client(client);
            self.say(client, "channel.close");
            self.say(client, "channel.open");
        }
        self.consume(client);
    }

    fn lose_connection(&mut self) {
        let client = self.random.choose(&CONSUMERS);
        self.reconnect(client);
    }

    fn stop_or_start_reading(&mut self) {
        let wire = &mut self.wires[self.random.choose(&CONSUMERS)];
        wire.readable_bytes = match wire.readable_bytes {
            None => Some(0),
            Some(_) => None,
        };
    }

    fn recover_deliveries(&mut self) {
        let client = self.random.choose(&CONSUMERS);
        if self.wires[client].readable_bytes.is_none() {
            self.model.lose_client(client);
            self.say(client, "recover requeue");
        }
    }

    fn crash(&mut self) {
        let unsynced = self.world.disk.unsynced_writes();
        let partly = Crash::PowerCutAfter(self.random.below(unsynced + 1));
        let crash = self.random.choose(&[Crash::Killed, Crash::PowerCut, partly]);
        let unanswered: Vec<Promise> = self.clients[TRANSACTOR].transaction.iter().cloned().collect();
        self.world.crash(crash);
        let left = self.stored();
        self.model.crash(crash, &left, &unanswered);
        self.connect_all();
    }

    /// What the store has, with the redelivered flag.
    fn stored(&self) -> Vec<(Entry, bool)> {
        let vhost = self.world.broker.vhost("/").unwrap();
        let mut left = Vec::new();
        for name in DURABLE {
            let queue = vhost.find_queue(name).unwrap();
            let mut visit = |stored: leveret_storage::RecoveredMessage<'_>| {
                let id = Id::of_body(Message::from_stored(stored.payload).unwrap().body());
                left.push(((name, id), stored.redelivered));
            };
            self.world.broker.store.recover_queue(queue.id, &mut visit).unwrap();
        }
        left
    }

    /// Takes one message out of a queue, without telling the model.
    fn get(&mut self, queue: &'static str) -> Option<Entry> {
        let client = PUBLISHERS[0];
        self.wires[client].send(&octets(1, "get", &Words::of(&format!("{queue} no_ack"))));
        self.world.settle(&mut self.wires);
        let received = std::mem::take(&mut self.wires[client].received);
        match heard(&received).as_slice() {
            [Heard::Got { id, .. }] => Some((queue, *id)),
            [Heard::GotNothing] => None,
            other => panic!("{other:?}"),
        }
    }
}
