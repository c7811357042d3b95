//! Messages in memory that were never handed out, in a handle each.

use std::collections::VecDeque;

use super::Position;

/// A buffer that once grew beyond this many messages gives the memory back when it is nearly empty.
pub(super) const KEPT_CAPACITY_MESSAGES: usize = 256;

/// Memory is given back when less than one part in this many is used.
const SPARSE_FACTOR: usize = 8;

/// Messages never handed out. There is a second run only after a recovery in which some positions were already
/// settled.
pub(super) struct Fresh<M> {
    pub(super) messages: VecDeque<M>,
    first_run: Run,
    later_runs: VecDeque<Run>,
}

/// So many messages with consecutive positions.
#[derive(Clone, Copy, Default)]
struct Run {
    first: u64,
    length: u64,
}

impl<M> Fresh<M> {
    pub(super) fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            first_run: Run::default(),
            later_runs: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, position: Position, message: M) {
        self.messages.push_back(message);
        let last_run = self.later_runs.back_mut().unwrap_or(&mut self.first_run);
        if last_run.length == 0 {
            *last_run = Run {
                first: position.0,
                length: 1,
            };
        } else if last_run.first + last_run.length == position.0 {
            last_run.length += 1;
        } else {
            self.later_runs.push_back(Run {
                first: position.0,
                length: 1,
            });
        }
    }

    /// Takes in what stands behind all that is here.
    pub(super) fn append(&mut self, mut behind: Fresh<M>) {
        if self.messages.is_empty() {
            *self = behind;
            return;
        }
        while let Some((position, message)) = behind.pop() {
            self.push(position, message);
        }
    }

    pub(super) fn pop(&mut self) -> Option<(Position, M)> {
        let message = self.messages.pop_front()?;
        let position = Position(self.first_run.first);
        self.first_run.first += 1;
        self.first_run.length -= 1;
        if self.first_run.length == 0 {
            self.first_run = self.later_runs.pop_front().unwrap_or_default();
        }
        Some((position, message))
    }

    pub(super) fn peek(&self) -> Option<(Position, &M)> {
        self.messages
            .front()
            .map(|message| (Position(self.first_run.first), message))
    }

    pub(super) fn release_spare_memory(&mut self) {
        let capacity = self.messages.capacity();
        if capacity > KEPT_CAPACITY_MESSAGES && self.messages.len() < capacity / SPARSE_FACTOR {
            self.messages
                .shrink_to((self.messages.len() * 2).max(KEPT_CAPACITY_MESSAGES));
        }
        if self.later_runs.is_empty() && self.later_runs.capacity() > 0 {
            self.later_runs = VecDeque::new();
        }
    }
}
