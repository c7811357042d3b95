//! Tests of the queue as a whole. What it does step by step is told by the scripts in `tests/scripts/queue`.

mod arguments;
mod expiry;
mod large;
mod model;
mod properties;

use super::*;

/// A message that is nothing but a number; odd ones are persistent, pairs have priorities from 0 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number(u64);

impl QueueMessage for Number {
    fn body_len(&self) -> usize {
        (self.0 % 7) as usize
    }

    fn is_persistent(&self) -> bool {
        self.0 % 2 == 1
    }

    fn priority(&self) -> u8 {
        (self.0 / 2 % 5) as u8
    }

    fn memory_size(&self) -> usize {
        8
    }

    fn time_to_live_millis(&self) -> Option<u64> {
        None
    }
}

fn spec(handle: usize) -> ConsumerSpec<usize> {
    ConsumerSpec {
        handle,
        no_ack: false,
        prefetch_count: 0,
        exclusive: false,
        priority: 0,
        timeout_millis: None,
    }
}
