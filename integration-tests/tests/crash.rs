//! The short form of `make crash`: a few kills of the broker, and some hundred power cuts under its store.

use leveret_integration_tests::crash::{Findings, kill, power};
use leveret_integration_tests::random::Random;
use leveret_integration_tests::shared;

const SEED: u64 = 0x5eed_c4a5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_break_no_promise() {
    let mut findings = Findings::default();
    if shared::external().is_some() {
        return;
    }
    kill::run(15, &mut Random::new(SEED), &mut findings, |line| println!("{line}")).await;
    println!("{}", findings.summary(SEED));
    assert!(findings.is_clean(), "{}", findings.summary(SEED));
}

#[test]
fn random_power_cuts_break_no_promise() {
    let mut findings = Findings::default();
    power::run(400, &mut Random::new(SEED), &mut findings);
    println!("{}", findings.summary(SEED));
    assert!(findings.is_clean(), "{}", findings.summary(SEED));
}
