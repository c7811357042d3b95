//! Simulation: sessions, queues and a store in memory in one thread. A seed decides who says what, when the store
//! commits, who reads, whose connection is cut and when the broker dies. The model of `simulated/model.rs` holds it to
//! its promises:
//!
//! - what is confirmed and persistent is there after every crash, and in the end;
//! - what was settled, and is on the disk, does not come back;
//! - what was delivered, and is on the disk, comes back with the redelivered flag;
//! - messages of one publisher keep their order in every queue;
//! - nobody has a message that another has, and what is delivered again says so;
//! - a transaction happens wholly or not at all, and every publish is confirmed.
//!
//! `SIMULATION_SEED=7` runs one seed, `SIMULATION_SEEDS=1000` more of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a simulation that goes wrong fails its test"
)]

mod simulated;
mod virtual_broker;

use std::panic::{AssertUnwindSafe, catch_unwind};

use simulated::{Seen, Simulation};

const SEEDS: u64 = 40;
const STEPS: usize = 400;

#[test]
fn promises_are_kept_through_random_operations_commits_and_crashes() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut total = Seen::default();
    for seed in seeds.clone() {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let seen = result.unwrap_or_else(|_| panic!("seed {seed} fails; SIMULATION_SEED={seed} repeats it"));
        total.add(seen);
    }
    println!("{total:?}");
    if seeds.end - seeds.start >= SEEDS {
        total.assert_something_happened();
    }
}

fn run(seed: u64) -> Seen {
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.finish()
}
