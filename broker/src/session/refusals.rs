//! Publishes that full queues refuse: their publishers get a basic.nack instead of the confirm.
//!
//! If any queue of a message refuses it the publish is refused, though others took it.

use super::Session;
use super::batch::ConfirmRun;
use crate::protocol::hot;

/// The refusals of one batch. Nothing is kept as long as no queue of the batch could refuse anything.
#[derive(Default)]
pub(super) struct Refusals {
    /// A queue of the batch refuses messages when it is full.
    pub(super) are_possible: bool,
    /// Which confirm numbers the publishes of the batch have, on which channel; in rising order.
    pub(super) numbers: Vec<(u64, u16, u64)>,
    /// Publishes of the batch that a queue refused.
    pub(super) refused: Vec<u64>,
}

impl Refusals {
    /// The confirm numbers to refuse, in rising order for each channel, and forgets everything.
    fn take(&mut self) -> Vec<(u16, u64)> {
        let mut refusals = std::mem::take(self);
        refusals.refused.sort_unstable();
        refusals.refused.dedup();
        let number = |publish| {
            let found = refusals.numbers.binary_search_by_key(publish, |(of, ..)| *of).ok()?;
            refusals
                .numbers
                .get(found)
                .map(|(_, channel, number)| (*channel, *number))
        };
        refusals.refused.iter().filter_map(number).collect()
    }
}

impl Session {
    /// Answers what was refused, and takes it out of what is to be confirmed.
    pub(super) fn refuse(&mut self) {
        let refusals = &mut self.publisher.batch.refusals;
        self.publisher.refused_publishes += refusals.refused.len() as u64;
        let refused = refusals.take();
        if refused.is_empty() {
            return;
        }
        let mut outbox = self.outbox.lock();
        for (channel, number) in &refused {
            hot::write_nack(outbox.bytes_mut(), *channel, *number, false);
        }
        drop(outbox);
        let runs = std::mem::take(&mut self.publisher.batch.runs);
        self.publisher.batch.runs = runs.into_iter().flat_map(|run| without(run, &refused)).collect();
    }
}

/// What is left of a run of publishes when some are refused.
fn without(run: ConfirmRun, refused: &[(u16, u64)]) -> Vec<ConfirmRun> {
    let numbers = refused
        .iter()
        .filter(|(channel, number)| *channel == run.channel && (run.first..=run.last).contains(number));
    let mut left = Vec::new();
    let mut rest = run;
    for (_, number) in numbers {
        if rest.first < *number {
            left.push(ConfirmRun {
                last: number - 1,
                ..rest
            });
        }
        rest.first = number + 1;
    }
    if rest.first <= rest.last {
        left.push(rest);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, last: u64) -> ConfirmRun {
        ConfirmRun {
            channel: 1,
            first,
            last,
            durable: true,
        }
    }

    #[test]
    fn a_run_falls_apart_where_numbers_are_refused() {
        let left = |refused: &[(u16, u64)]| {
            let runs = without(run(5, 9), refused);
            runs.iter().map(|run| (run.first, run.last)).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), [(5, 9)]);
        assert_eq!(left(&[(2, 6), (1, 4), (1, 10)]), [(5, 9)]);
        assert_eq!(left(&[(1, 5), (1, 7)]), [(6, 6), (8, 9)]);
        assert_eq!(left(&[(1, 8), (1, 9)]), [(5, 7)]);
        assert!(left(&[(1, 5), (1, 6), (1, 7), (1, 8), (1, 9)]).is_empty());
    }

    #[test]
    fn a_publish_that_two_queues_refuse_is_refused_once() {
        let mut refusals = Refusals {
            are_possible: true,
            numbers: vec![(0, 1, 11), (2, 3, 4), (3, 1, 12)],
            // Nobody waits for the confirm of publish 1.
            refused: vec![3, 1, 0, 3],
        };
        assert_eq!(refusals.take(), [(1, 11), (1, 12)]);
        assert!(!refusals.are_possible && refusals.refused.is_empty());
    }
}
