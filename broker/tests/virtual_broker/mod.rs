//! A broker without sockets, tasks and clock: sessions over a store in memory, moved by hand.

#![allow(dead_code, reason = "every test uses its part of it")]

pub mod client;
mod wire;
pub mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret::auth::HashingAlgorithm;
use leveret::broker::Broker;
use leveret::config::Config;
use leveret::startup;
use leveret::vhost::Vhost;
use leveret_storage::{Crash, MemoryDisk, Store, StoreOptions};
use prometheus::Registry;

pub use wire::{Wire, encoded};

/// One broker and everything it can touch.
pub struct World {
    pub broker: Arc<Broker>,
    pub disk: MemoryDisk,
    /// The virtual time.
    pub now: Instant,
    /// How far the time of day was moved.
    ahead: Duration,
    /// Nobody reads paged messages back.
    pub loads_are_held: bool,
    config: Config,
    options: StoreOptions,
}

impl World {
    /// A broker at its first start. Its store commits when it is told to.
    pub fn new(config: Config, options: StoreOptions) -> World {
        let disk = MemoryDisk::new();
        let broker = start(&config, &options, &disk);
        World {
            broker,
            disk,
            now: Instant::now(),
            ahead: Duration::ZERO,
            loads_are_held: false,
            config,
            options,
        }
    }

    /// The settings of a broker under test: nothing in them depends on the machine.
    pub fn config() -> Config {
        Config {
            node_name: "rabbit@test".into(),
            product_version: "test".into(),
            password_hashing: HashingAlgorithm::Sha256,
            ..Config::default()
        }
    }

    /// A store that commits only in [`World::commit`].
    pub fn options() -> StoreOptions {
        StoreOptions {
            manual_commit: true,
            weigh: leveret::vhost::effects::weigh,
            ..StoreOptions::default()
        }
    }

    /// Lets the store commit what waits; with `lazily`, also what nobody waits for.
    pub fn commit(&self, lazily: bool) {
        self.broker.store.commit(lazily);
    }

    /// The broker dies and a new one starts from what is left on the disk. Its connections are for the caller to drop.
    pub fn crash(&mut self, crash: Crash) {
        self.disk = self.disk.crash(crash);
        self.broker = start(&self.config, &self.options, &self.disk);
        self.broker.timer.set_ahead(self.ahead);
    }

    /// Moves the time to `target`, calling every connection's timeout on its way, and lets each do what follows.
    pub fn advance(&mut self, duration: Duration, wires: &mut [Wire]) {
        let target = self.now + duration;
        loop {
            self.settle(wires);
            let next = wires
                .iter()
                .filter_map(Wire::deadline)
                .min()
                .filter(|deadline| *deadline <= target);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for wire in wires
                .iter_mut()
                .filter(|wire| wire.deadline().is_some_and(|deadline| deadline <= self.now))
            {
                wire.timeout(self.now);
            }
        }
        self.now = target;
        self.ahead += duration;
        self.broker.timer.set_ahead(self.ahead);
        self.do_what_is_due();
    }

    /// What the broker's timer would do by now.
    pub fn do_what_is_due(&self) {
        let due = |vhost: &Arc<Vhost>| vhost.do_what_is_due(self.broker.timer.now_millis());
        while self.broker.vhosts().iter().map(due).sum::<usize>() > 0
            || (!self.loads_are_held && self.broker.paging.load_next())
        {}
    }

    /// Lets all connections work until none has anything to do.
    pub fn settle(&self, wires: &mut [Wire]) {
        // All of them take their turn before anybody takes another.
        while wires
            .iter_mut()
            .filter_map(|wire| wire.turn(&self.broker, self.now).then_some(()))
            .count()
            > 0
            || (!self.loads_are_held && self.broker.paging.load_next())
        {}
    }
}

fn start(config: &Config, options: &StoreOptions, disk: &MemoryDisk) -> Arc<Broker> {
    let store = Store::on_memory_disk(disk, options.clone()).unwrap();
    startup::start(config.clone(), store, &Registry::new()).unwrap()
}
