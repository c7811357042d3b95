//! `make crash`: kills the broker and cuts the power under its store, again and again, and looks whether anything is lost.
//!
//! `crash [--cycles N] [--power-cuts N] [--seed S]`; the exit code is 0 when nothing is wrong.

use leveret_integration_tests::crash::{Findings, kill, power};
use leveret_integration_tests::random::Random;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

const CYCLES: u64 = 100;
const POWER_CUTS: u64 = 4_000;

fn main() -> ExitCode {
    let Some((cycles, power_cuts, seed)) = arguments() else {
        eprintln!("usage: crash [--cycles N] [--power-cuts N] [--seed S]");
        return ExitCode::from(2);
    };
    println!("seed {seed}");
    let mut findings = Findings::default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(kill::run(cycles, &mut Random::new(seed), &mut findings, |line| {
        println!("{line}")
    }));
    if findings.is_clean() {
        power::run(power_cuts, &mut Random::new(seed), &mut findings);
    }
    println!("{}", findings.summary(seed));
    ExitCode::from(u8::from(!findings.is_clean()))
}

/// Cycles, power cuts and the seed.
fn arguments() -> Option<(u64, u64, u64)> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_nanos() as u64);
    let (mut cycles, mut power_cuts, mut seed) = (CYCLES, POWER_CUTS, now | 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--cycles" => cycles = value,
            "--power-cuts" => power_cuts = value,
            "--seed" if value > 0 => seed = value,
            _ => return None,
        }
    }
    Some((cycles, power_cuts, seed))
}
