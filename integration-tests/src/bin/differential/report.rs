//! What a run found.

use crate::known::KNOWN;
use crate::settings::Settings;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What came of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// It ended with a difference of this name, which is meant.
    Known(&'static str),
    Different,
    /// It differed once, but not when it was played again.
    Unsteady,
    /// It differed, but not when it rested longer: one of the brokers was late with what has its time.
    Late,
}

#[derive(Debug, Default)]
pub struct Report {
    pub seconds: u64,
    sequences: usize,
    steps: usize,
    known: BTreeMap<&'static str, usize>,
    different: usize,
    unsteady: usize,
    late: usize,
}

impl Report {
    pub fn add(&mut self, steps: usize, verdict: Verdict) {
        self.sequences += 1;
        self.steps += steps;
        match verdict {
            Verdict::Same => {}
            Verdict::Known(name) => *self.known.entry(name).or_default() += 1,
            Verdict::Different => self.different += 1,
            Verdict::Unsteady => self.unsteady += 1,
            Verdict::Late => self.late += 1,
        }
    }

    pub fn differing(&self) -> usize {
        self.different + self.unsteady
    }

    pub fn is_clean(&self) -> bool {
        self.differing() == 0
    }

    pub fn summary(&self, settings: &Settings) -> String {
        let mut text = format!(
            "\nseeds from {}: {} sequences with {} steps at both brokers in {} seconds\n",
            settings.seed, self.sequences, self.steps, self.seconds
        );
        for known in KNOWN {
            if let Some(times) = self.known.get(known.name) {
                let _ = writeln!(
                    text,
                    "known difference, {times} times: {}: {}",
                    known.name, known.reason
                );
            }
        }
        if self.unsteady > 0 {
            let _ = writeln!(text, "{} differed once, but not when played again", self.unsteady);
        }
        if self.late > 0 {
            let _ = writeln!(text, "{} differed until they rested longer", self.late);
        }
        let passed = self.sequences - self.differing();
        let _ = writeln!(text, "{passed} passed, {} failed", self.differing());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_difference_passes_and_an_unknown_one_fails() {
        let mut report = Report::default();
        report.add(10, Verdict::Same);
        report.add(10, Verdict::Known(KNOWN[0].name));
        report.add(10, Verdict::Late);
        assert!(report.is_clean());
        report.add(10, Verdict::Different);
        assert!(!report.is_clean());
    }
}
