//! Consumers of one connection whose deliveries were refused, in the order in which they began to wait.
//!
//! A consumer is refused when the socket is behind or its channel has as much as it may hold. When there is room again,
//! one queue after the other is let deliver for as long as there is room: the others keep their places, so that each
//! has its turn, and a connection with thousands of consumers does not ask them all for the sake of a few.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::queue::ConsumerKey;

/// How far behind a consumer others of its queue are looked for: a queue is refused all its consumers at a stretch, and only
/// other threads put somebody between them.
const QUEUE_MATES_WITHIN: usize = 32;

/// A consumer that waits to be resumed.
pub struct Stalled<Q> {
    /// Where it consumes.
    pub queue: Arc<Q>,
    /// Who it is there.
    pub key: ConsumerKey,
    /// Its channel.
    pub channel: u16,
    /// It does not count towards the channel's prefetch limit.
    pub no_ack: bool,
}

/// All that wait, the longest first.
pub struct StalledConsumers<Q> {
    line: VecDeque<Stalled<Q>>,
}

/// How far one pass over those that wait has come.
pub struct Pass {
    /// Those before this place may not go yet.
    passed: usize,
    /// Those who waited when the pass began and have not been looked at; who is refused again meanwhile has the next pass.
    left: usize,
}

impl<Q> Default for StalledConsumers<Q> {
    fn default() -> Self {
        Self { line: VecDeque::new() }
    }
}

impl<Q> StalledConsumers<Q> {
    /// Sends a consumer to the end of the line.
    pub fn push(&mut self, consumer: Stalled<Q>) {
        self.line.push_back(consumer);
    }

    /// Forgets those of a channel.
    pub fn forget_channel(&mut self, number: u16) {
        self.line.retain(|consumer| consumer.channel != number);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.line = VecDeque::new();
    }

    /// A pass over those that wait now, if anyone does.
    pub fn pass(&self) -> Option<Pass> {
        let left = self.line.len();
        (left > 0).then_some(Pass { passed: 0, left })
    }

    /// Takes the one that has waited longest of those that may go, and its queue's other consumers: resumed alone it would
    /// take all that the queue has. Their keys are put into `keys`, which must be empty.
    pub fn next(
        &mut self,
        pass: &mut Pass,
        may_go: impl Fn(&Stalled<Q>) -> bool,
        keys: &mut Vec<ConsumerKey>,
    ) -> Option<Arc<Q>> {
        while pass.left > 0 && !may_go(self.line.get(pass.passed)?) {
            pass.passed += 1;
            pass.left -= 1;
        }
        if pass.left == 0 {
            return None;
        }
        let first = self.line.remove(pass.passed)?;
        pass.left -= 1;
        keys.push(first.key);
        let mut place = pass.passed;
        for _ in 0..QUEUE_MATES_WITHIN.min(pass.left) {
            let Some(next) = self.line.get(place) else { break };
            if Arc::ptr_eq(&next.queue, &first.queue) && may_go(next) {
                keys.push(next.key);
                self.line.remove(place);
                pass.left -= 1;
            } else {
                place += 1;
            }
        }
        Some(first.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = StalledConsumers<char>;

    fn waits(line: &mut Line, queue: &Arc<char>, consumer: u32, channel: u16) {
        line.push(Stalled {
            queue: queue.clone(),
            key: ConsumerKey::numbered(consumer),
            channel,
            no_ack: false,
        });
    }

    /// The queues that are resumed in one pass, each with its consumers.
    fn pass(line: &mut Line, channels_with_room: &[u16], turns: usize) -> Vec<(char, Vec<ConsumerKey>)> {
        let mut resumed = Vec::new();
        let Some(mut pass) = line.pass() else { return resumed };
        for _ in 0..turns {
            let mut keys = Vec::new();
            let may_go = |consumer: &Stalled<_>| channels_with_room.contains(&consumer.channel);
            match line.next(&mut pass, may_go, &mut keys) {
                Some(queue) => resumed.push((*queue, keys)),
                None => break,
            }
        }
        resumed
    }

    fn keys(numbers: &[u32]) -> Vec<ConsumerKey> {
        numbers.iter().copied().map(ConsumerKey::numbered).collect()
    }

    #[test]
    fn those_that_waited_longest_go_first_and_the_others_keep_their_places() {
        let (a, b, c) = (Arc::new('a'), Arc::new('b'), Arc::new('c'));
        let mut line = Line::default();
        for (number, queue) in [&a, &b, &c].into_iter().enumerate() {
            waits(&mut line, queue, number as u32, 1);
        }
        assert_eq!(pass(&mut line, &[1], 1), [('a', keys(&[0]))]);
        waits(&mut line, &a, 0, 1);
        assert_eq!(pass(&mut line, &[1], 1), [('b', keys(&[1]))]);
        waits(&mut line, &b, 1, 1);
        assert_eq!(
            pass(&mut line, &[1], 9),
            [('c', keys(&[2])), ('a', keys(&[0])), ('b', keys(&[1]))]
        );
    }

    #[test]
    fn consumers_of_one_queue_go_together_though_others_stand_between_them() {
        let (a, b) = (Arc::new('a'), Arc::new('b'));
        let mut line = Line::default();
        waits(&mut line, &a, 0, 1);
        waits(&mut line, &b, 1, 1);
        waits(&mut line, &a, 2, 1);
        waits(&mut line, &a, 3, 2);
        assert_eq!(pass(&mut line, &[1], 9), [('a', keys(&[0, 2])), ('b', keys(&[1]))]);
        assert_eq!(pass(&mut line, &[1, 2], 9), [('a', keys(&[3]))]);
    }

    #[test]
    fn a_channel_that_has_all_it_may_hold_keeps_nobody_else_waiting() {
        let (a, b) = (Arc::new('a'), Arc::new('b'));
        let mut line = Line::default();
        waits(&mut line, &a, 0, 1);
        waits(&mut line, &b, 1, 2);
        assert_eq!(pass(&mut line, &[2], 9), [('b', keys(&[1]))]);
        assert_eq!(pass(&mut line, &[2], 9), []);
        assert_eq!(pass(&mut line, &[1, 2], 9), [('a', keys(&[0]))]);
    }

    #[test]
    fn who_is_refused_again_waits_for_the_next_pass() {
        let a = Arc::new('a');
        let mut line = Line::default();
        waits(&mut line, &a, 0, 1);
        let mut pass = line.pass().unwrap();
        for _ in 0..2 {
            let mut taken = Vec::new();
            if line.next(&mut pass, |_| true, &mut taken).is_some() {
                waits(&mut line, &a, 0, 1);
            }
        }
        assert_eq!(pass.left, 0);
        assert!(line.pass().is_some());
    }

    #[test]
    fn a_closed_channel_leaves_nobody_in_the_line() {
        let a = Arc::new('a');
        let mut line = Line::default();
        waits(&mut line, &a, 0, 1);
        waits(&mut line, &a, 1, 2);
        line.forget_channel(1);
        assert_eq!(pass(&mut line, &[1, 2], 9), [('a', keys(&[1]))]);
    }
}
