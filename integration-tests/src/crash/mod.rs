//! Crashes at random moments, and an independent ledger of what must be there afterwards.
//!
//! - [`kill`] kills the real broker with SIGKILL while clients publish, consume, reject, purge, declare and
//!   delete, with queues in memory and on disk only.
//! - [`power`] cuts the power under the store: writes that were not synced are gone or torn.
//! - [`ledger`] knows what was promised, and nothing of how the broker works.
//!
//! `make crash` runs many of them; `tests/crash.rs` a few.

pub mod attempts;
pub mod dead_letters;
pub mod given_up;
pub mod kill;
pub mod later;
pub mod ledger;
pub mod life;
pub mod once;
pub mod power;
pub mod transactions;
pub mod workers;

use std::fmt::Display;

/// What was found in all cycles together.
#[derive(Debug, Default)]
pub struct Findings {
    /// Kills of the broker, and orderly stops.
    pub kills: u64,
    /// Power cuts under the store.
    pub power_cuts: u64,
    /// Messages that were confirmed, or whose transaction was.
    pub confirmed: u64,
    /// Messages looked at after a crash.
    pub checked: u64,
    /// Confirmed messages that are gone.
    pub lost: Vec<String>,
    /// Messages that came back although they must not.
    pub duplicated: Vec<String>,
    /// Everything else: order, flags, bodies, halves of transactions, definitions.
    pub other: Vec<String>,
}

impl Findings {
    pub fn lose(&mut self, what: impl Display) {
        self.lost.push(what.to_string());
    }

    pub fn duplicate(&mut self, what: impl Display) {
        self.duplicated.push(what.to_string());
    }

    pub fn object(&mut self, what: impl Display) {
        self.other.push(what.to_string());
    }

    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.other.is_empty()
    }

    /// The last line of a run, and before it the first of what is wrong.
    pub fn summary(&self, seed: u64) -> String {
        let wrong = self.lost.iter().chain(&self.duplicated).chain(&self.other);
        let mut text: String = wrong.take(SHOWN_MAX).map(|line| format!("  {line}\n")).collect();
        text += &format!(
            "{} kills, {} power cuts, {} messages confirmed, {} checked, lost {}, duplicated beyond the rule {}, \
             otherwise wrong {}, seed {seed}",
            self.kills,
            self.power_cuts,
            self.confirmed,
            self.checked,
            self.lost.len(),
            self.duplicated.len(),
            self.other.len(),
        );
        text
    }
}

const SHOWN_MAX: usize = 30;
