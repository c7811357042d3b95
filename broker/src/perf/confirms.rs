//! What a publisher knows about its unconfirmed messages.

use std::collections::VecDeque;

/// The unconfirmed messages of a channel in the order they were published.
#[derive(Debug, Default)]
pub struct Confirms {
    /// Sequence number of the first entry, from 1 on.
    first: u64,
    /// When each was sent; nothing once it is settled out of order.
    sent_at: VecDeque<Option<u64>>,
    unconfirmed: usize,
}

impl Confirms {
    pub fn new() -> Confirms {
        Confirms {
            first: 1,
            sent_at: VecDeque::new(),
            unconfirmed: 0,
        }
    }

    /// How many are unconfirmed.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Notes one more message.
    #[inline]
    pub fn published(&mut self, nanos: u64) {
        self.sent_at.push_back(Some(nanos));
        self.unconfirmed += 1;
    }

    /// A basic.ack or basic.nack of the broker; `each` is told the time of every message it settles. How many that was.
    #[inline]
    pub fn settle(&mut self, delivery_tag: u64, multiple: bool, mut each: impl FnMut(u64)) -> u64 {
        let mut settled = 0;
        let mut note = |slot: &mut Option<u64>| {
            if let Some(nanos) = slot.take() {
                each(nanos);
                settled += 1;
            }
        };
        if multiple {
            while self.first <= delivery_tag {
                let Some(mut slot) = self.sent_at.pop_front() else {
                    break;
                };
                note(&mut slot);
                self.first += 1;
            }
        } else if let Some(index) = delivery_tag.checked_sub(self.first) {
            if let Some(slot) = usize::try_from(index)
                .ok()
                .and_then(|index| self.sent_at.get_mut(index))
            {
                note(slot);
            }
            while let Some(None) = self.sent_at.front() {
                self.sent_at.pop_front();
                self.first += 1;
            }
        }
        self.unconfirmed -= settled as usize;
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Confirms {
        let mut confirms = Confirms::new();
        for nanos in [10, 20, 30] {
            confirms.published(nanos);
        }
        confirms
    }

    fn settle(confirms: &mut Confirms, delivery_tag: u64, multiple: bool) -> Vec<u64> {
        let mut times = Vec::new();
        let count = confirms.settle(delivery_tag, multiple, |nanos| times.push(nanos));
        assert_eq!(count, times.len() as u64);
        times
    }

    #[test]
    fn confirms_may_come_in_any_order_and_each_counts_once() {
        let mut confirms = three();
        assert_eq!(settle(&mut confirms, 2, false), [20]);
        assert!(settle(&mut confirms, 2, false).is_empty());
        assert_eq!(confirms.unconfirmed(), 2);
        assert_eq!(settle(&mut confirms, 3, true), [10, 30]);
        assert_eq!(confirms.unconfirmed(), 0);
        confirms.published(40);
        assert_eq!(settle(&mut confirms, 4, false), [40]);
    }

    #[test]
    fn multiple_settles_all_up_to_the_tag() {
        let mut confirms = three();
        assert_eq!(settle(&mut confirms, 2, true), [10, 20]);
        assert!(settle(&mut confirms, 2, true).is_empty());
        assert_eq!(confirms.unconfirmed(), 1);
    }

    #[test]
    fn tags_that_were_never_published_settle_nothing() {
        let mut confirms = three();
        assert!(settle(&mut confirms, 4, false).is_empty());
        assert!(settle(&mut confirms, 0, false).is_empty());
        assert_eq!(settle(&mut confirms, 99, true), [10, 20, 30]);
        confirms.published(50);
        assert_eq!(confirms.unconfirmed(), 1);
        assert_eq!(settle(&mut confirms, 4, false), [50]);
    }
}
