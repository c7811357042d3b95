//! What figures were at times in the past, for graphs: often lately, seldom long ago.
//!
//! ```text
//!   a period of ten minutes   every 5 seconds      ─────────────────┤ now
//!   a period of an hour       every minute    ──────────────────────┤ now
//! ```
//!
//! Figures that stay as they are cost nothing: a sample is kept when it differs from the one before.

use std::collections::VecDeque;

/// The figures of one object at one moment, in an order that whoever keeps them knows.
pub type Figures = Box<[u64]>;

/// Samples of one period: a step, and how long they are kept, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub step_seconds: u64,
    pub seconds: u64,
}

/// Times at which somebody wants to know figures, in seconds since 1970: from `last` back to `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub last: u64,
    pub step_seconds: u64,
}

/// What the figures of one object were.
pub struct History(Vec<Samples>);

struct Samples {
    period: Period,
    /// When the first was taken, and the last, whether it is kept or not.
    since: Option<u64>,
    last: u64,
    /// Those that differ from the one before, oldest first.
    changes: VecDeque<(u64, Figures)>,
}

impl History {
    /// Nothing is known yet; the shortest period comes first.
    pub fn new(periods: &[Period]) -> History {
        let samples = periods.iter().map(|period| Samples {
            period: *period,
            since: None,
            last: 0,
            changes: VecDeque::new(),
        });
        History(samples.collect())
    }

    /// Takes a sample for each period of which the time has come.
    pub fn note(&mut self, now_seconds: u64, figures: &[u64]) {
        for samples in &mut self.0 {
            samples.note(now_seconds, figures);
        }
    }

    /// What was known at the times of a range, newest first. It ends where nothing is known.
    pub fn samples(&self, range: Range) -> Vec<(u64, &[u64])> {
        let steps = (range.last.saturating_sub(range.first)) / range.step_seconds.max(1);
        let times = (0..=steps).map(|step| range.last.saturating_sub(step * range.step_seconds));
        times.map_while(|time| Some((time, self.at(time)?))).collect()
    }

    fn at(&self, seconds: u64) -> Option<&[u64]> {
        self.0.iter().find_map(|samples| samples.at(seconds))
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.0.iter().map(|samples| samples.changes.len()).sum()
    }
}

impl Samples {
    fn note(&mut self, now_seconds: u64, figures: &[u64]) {
        let time = now_seconds - now_seconds % self.period.step_seconds;
        if self.since.is_some() && time <= self.last {
            return;
        }
        // The first is not made to wait for its time.
        let begun = *self.since.get_or_insert(now_seconds);
        self.last = time;
        if self.changes.back().is_none_or(|(_, before)| **before != *figures) {
            self.changes.push_back((time.max(begun), figures.into()));
        }
        let forgotten = time.saturating_sub(self.period.seconds);
        while self.changes.get(1).is_some_and(|(next, _)| *next <= forgotten) {
            self.changes.pop_front();
        }
    }

    fn at(&self, seconds: u64) -> Option<&[u64]> {
        let oldest = self.since?.max(self.last.saturating_sub(self.period.seconds));
        if seconds < oldest {
            return None;
        }
        let behind = self.changes.partition_point(|(time, _)| *time <= seconds);
        let (_, figures) = self.changes.get(behind.checked_sub(1)?)?;
        Some(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIODS: [Period; 2] = [
        Period {
            step_seconds: 5,
            seconds: 20,
        },
        Period {
            step_seconds: 20,
            seconds: 100,
        },
    ];

    fn range(first: u64, last: u64, step_seconds: u64) -> Range {
        Range {
            first,
            last,
            step_seconds,
        }
    }

    fn told(history: &History, range: Range) -> Vec<(u64, u64)> {
        let samples = history.samples(range);
        samples.into_iter().map(|(time, figures)| (time, figures[0])).collect()
    }

    #[test]
    fn figures_of_lately_come_in_small_steps_and_older_ones_in_large_ones() {
        let mut history = History::new(&PERIODS);
        for second in 1000..1200 {
            history.note(second, &[second]);
        }
        assert_eq!(
            told(&history, range(1180, 1195, 5)),
            [(1195, 1195), (1190, 1190), (1185, 1185), (1180, 1180)]
        );
        let older = told(&history, range(1000, 1195, 15));
        assert_eq!(older[..4], [(1195, 1195), (1180, 1180), (1165, 1160), (1150, 1140)]);
        assert_eq!(
            older.last(),
            Some(&(1090, 1080)),
            "before that nothing is known any more"
        );
        assert!(history.kept() <= 6 + 7, "{}", history.kept());
    }

    #[test]
    fn the_first_figures_are_known_at_once_and_nothing_before_them() {
        let mut history = History::new(&PERIODS);
        history.note(1003, &[7]);
        assert_eq!(told(&history, range(990, 1005, 1)), [(1005, 7), (1004, 7), (1003, 7)]);
        history.note(1004, &[8]);
        assert_eq!(
            told(&history, range(1004, 1004, 1)),
            [(1004, 7)],
            "its time has not come"
        );
        history.note(1006, &[9]);
        assert_eq!(told(&history, range(1000, 1010, 5)), [(1010, 9), (1005, 9)]);
    }

    #[test]
    fn what_stays_as_it_is_is_kept_once() {
        let mut history = History::new(&PERIODS);
        for second in 1000..5000 {
            history.note(second, &[1, 2, 3]);
        }
        assert_eq!(history.kept(), 2);
        assert_eq!(told(&history, range(4900, 4999, 33)).len(), 4);
    }

    #[test]
    fn a_clock_that_goes_back_loses_samples_and_nothing_else() {
        let mut history = History::new(&PERIODS);
        history.note(1000, &[1]);
        history.note(500, &[2]);
        history.note(1005, &[3]);
        assert_eq!(told(&history, range(990, 1005, 5)), [(1005, 3), (1000, 1)]);
        assert!(told(&history, range(0, 400, 100)).is_empty());
    }
}
