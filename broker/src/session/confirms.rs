//! Publisher confirms of one channel: sequence numbers, and which of them wait for which commit.
//!
//! Commits come in order and so do publishes, so what waits is a short list of runs, and one `basic.ack` with
//! `multiple` answers all of a commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::confirm::{AMQPMethod, SelectOk};
use leveret_storage::Ticket;

use super::Session;
use super::channel::{ChannelMode, server_only};
use super::deliveries::Shown;
use crate::protocol::error::AmqpError;
use crate::protocol::hot;
use crate::protocol::reply_code::ReplyCode;
use crate::vhost::traffic::ExchangeTraffic;

/// Sequence numbers of one channel in confirm mode.
#[derive(Default)]
pub struct Confirms {
    last_published: u64,
    waiting: VecDeque<WaitingRun>,
    /// Where the publishes went that are not answered yet, one entry as long as the exchange is the same.
    exchanges: VecDeque<ExchangeRun>,
    /// How many publishes wait, for listings.
    count: Arc<AtomicU64>,
}

/// Publishes up to a number that become durable with one commit.
struct WaitingRun {
    first: u64,
    last: u64,
    ticket: Ticket,
}

/// Publishes to one exchange, up to the next run.
struct ExchangeRun {
    first: u64,
    exchange: Arc<ExchangeTraffic>,
}

/// What a publisher is told: all publishes from `first` to `last` are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The first number answered.
    pub first: u64,
    /// The last number answered.
    pub last: u64,
    /// May one `basic.ack` with `multiple` say it, because nothing before `first` is open?
    pub multiple: bool,
    /// How many of them were not answered before.
    pub count: u64,
}

impl Confirms {
    /// The number of the next publish; the first is 1.
    pub fn next(&mut self) -> u64 {
        self.last_published += 1;
        self.last_published
    }

    /// The next publishes go to this exchange.
    pub fn begin_run(&mut self, exchange: &Arc<ExchangeTraffic>) {
        let first = self.last_published + 1;
        if self
            .exchanges
            .back()
            .is_some_and(|run| Arc::ptr_eq(&run.exchange, exchange))
        {
            return;
        }
        if self.exchanges.back().is_some_and(|run| run.first == first) {
            self.exchanges.pop_back();
        }
        let exchange = exchange.clone();
        self.exchanges.push_back(ExchangeRun { first, exchange });
    }

    /// Publishes `first..=last` wait for a commit.
    pub fn wait(&mut self, first: u64, last: u64, ticket: Ticket) {
        self.count.fetch_add(last - first + 1, Ordering::Relaxed);
        match self.waiting.back_mut() {
            Some(run) if run.ticket == ticket && run.last + 1 == first => run.last = last,
            _ => self.waiting.push_back(WaitingRun { first, last, ticket }),
        }
    }

    /// Publishes `first..=last` need not wait. `told` hears how many of them went to which exchange.
    pub fn answer_at_once(
        &mut self,
        first: u64,
        last: u64,
        mut told: impl FnMut(&Arc<ExchangeTraffic>, u64),
    ) -> Confirmed {
        tell(&self.exchanges, first, last, &mut told);
        self.forget_exchanges(last);
        Confirmed {
            first,
            last,
            multiple: self.waiting.is_empty(),
            count: last - first + 1,
        }
    }

    /// What the store's progress up to `durable` answers. `told` hears how many of them went to which exchange.
    pub fn committed(
        &mut self,
        durable: Ticket,
        mut told: impl FnMut(&Arc<ExchangeTraffic>, u64),
    ) -> Option<Confirmed> {
        let mut answered: Option<Confirmed> = None;
        while let Some(run) = self.waiting.front()
            && run.ticket <= durable
        {
            let (first, count) = answered.map_or((run.first, 0), |confirmed| (confirmed.first, confirmed.count));
            let count = count + run.last - run.first + 1;
            tell(&self.exchanges, run.first, run.last, &mut told);
            answered = Some(Confirmed {
                first,
                last: run.last,
                multiple: true,
                count,
            });
            self.waiting.pop_front();
        }
        if let Some(confirmed) = &answered {
            self.count.fetch_sub(confirmed.count, Ordering::Relaxed);
            self.forget_exchanges(confirmed.last);
        }
        answered
    }

    /// Forgets the runs before the first publish that is not answered; all up to `answered` are, or wait.
    fn forget_exchanges(&mut self, answered: u64) {
        let open = self.waiting.front().map_or(answered + 1, |run| run.first);
        while self.exchanges.get(1).is_some_and(|next| next.first <= open) {
            self.exchanges.pop_front();
        }
    }

    /// Does anything wait for a commit?
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The commit that the first unanswered publish waits for.
    pub fn first_ticket(&self) -> Option<Ticket> {
        self.waiting.front().map(|run| run.ticket)
    }
}

/// How many of the publishes `first..=last` are in which run.
fn tell(runs: &VecDeque<ExchangeRun>, first: u64, last: u64, told: &mut impl FnMut(&Arc<ExchangeTraffic>, u64)) {
    let begin = runs.partition_point(|run| run.first <= first).saturating_sub(1);
    for (index, run) in runs.range(begin..).enumerate() {
        if run.first > last {
            break;
        }
        let next = runs.get(begin + index + 1).map_or(u64::MAX, |next| next.first);
        let count = last.min(next - 1) + 1 - first.max(run.first);
        told(&run.exchange, count);
    }
}

impl Confirmed {
    /// Appends the frames that say it; how many publishes they confirm.
    pub fn write(&self, out: &mut Vec<u8>, channel: u16) -> u64 {
        if self.multiple && self.first < self.last {
            hot::write_ack(out, channel, self.last, true);
        } else {
            for number in self.first..=self.last {
                hot::write_ack(out, channel, number, false);
            }
        }
        self.count
    }
}

impl Session {
    pub(super) fn confirm_method(&mut self, number: u16, method: AMQPMethod) -> Result<(), AmqpError> {
        let AMQPMethod::Select(select) = method else {
            return Err(server_only());
        };
        let Some(channel) = self.channel_slot(number) else {
            return Ok(());
        };
        match channel.mode {
            ChannelMode::Plain => {
                let confirms = Confirms::default();
                let count = confirms.count.clone();
                channel.mode = ChannelMode::Confirm(confirms);
                // The next publish says where it goes, if it goes on there too.
                self.publisher
                    .tally
                    .end(&mut self.publisher.batch, &self.publisher.counts, &self.outbox);
                self.show(number, |shown| shown.unconfirmed = Some(count));
            }
            ChannelMode::Confirm(_) => {}
            ChannelMode::Transaction(_) => {
                return Err(AmqpError::new(
                    ReplyCode::PreconditionFailed,
                    "cannot switch from tx to confirm mode",
                ));
            }
        }
        if !select.nowait {
            self.reply(number, AMQPClass::Confirm(AMQPMethod::SelectOk(SelectOk {})));
        }
        Ok(())
    }

    /// Changes what listings show of a channel.
    pub(super) fn show(&self, number: u16, change: impl FnOnce(&mut Shown)) {
        if let Some(channel) = self.outbox.lock().channel(number) {
            change(&mut channel.shown);
        }
    }

    /// Answers publishes whose commit is there.
    pub(super) fn emit_confirms(&mut self) {
        if self.publisher.waiting_channels.is_empty() {
            return;
        }
        let Session {
            broker,
            channels,
            outbox,
            publisher,
            ..
        } = self;
        let durable = broker.store.durable();
        let mut confirmed = 0;
        publisher.waiting_channels.retain(|&number| {
            let channel = channels.get_mut(usize::from(number)).and_then(Option::as_deref_mut);
            let Some(ChannelMode::Confirm(confirms)) = channel.map(|channel| &mut channel.mode) else {
                return false;
            };
            if confirms.first_ticket().is_some_and(|first| first <= durable) {
                let mut outbox = outbox.lock();
                let told = |exchange: &Arc<ExchangeTraffic>, count| outbox.count_confirms(number, exchange, count);
                if let Some(answer) = confirms.committed(durable, told) {
                    confirmed += outbox.confirm(number, &answer);
                }
            }
            confirms.is_waiting()
        });
        if confirmed > 0 {
            broker.counters.confirmed.inc_by(confirmed);
        }
    }

    /// Has a commit happened that answers a publish?
    pub(super) fn has_answerable_confirms(&self, durable: Ticket) -> bool {
        let channels = self.publisher.waiting_channels.iter();
        let waiting = channels.filter_map(
            |number| match &self.channels.get(usize::from(*number))?.as_deref()?.mode {
                ChannelMode::Confirm(confirms) => confirms.first_ticket(),
                ChannelMode::Plain | ChannelMode::Transaction(_) => None,
            },
        );
        waiting.min().is_some_and(|ticket| ticket <= durable)
    }

    /// Does any publish wait for a commit?
    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.publisher.waiting_channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u64) -> Ticket {
        Ticket(number)
    }

    #[test]
    fn one_answer_covers_all_runs_of_a_commit() {
        let mut confirms = Confirms::default();
        confirms.wait(1, 3, ticket(5));
        confirms.wait(4, 6, ticket(6));
        confirms.wait(7, 9, ticket(7));
        assert_eq!(confirms.committed(ticket(4), |_, _| {}), None);
        assert_eq!(
            confirms.committed(ticket(6), |_, _| {}),
            Some(Confirmed {
                first: 1,
                last: 6,
                multiple: true,
                count: 6
            })
        );
        assert_eq!(confirms.first_ticket(), Some(ticket(7)));
        assert!(confirms.is_waiting());
    }

    #[test]
    fn a_publish_that_need_not_wait_overtakes_those_that_do_one_by_one() {
        let mut confirms = Confirms::default();
        confirms.wait(1, 2, ticket(1));
        let answer = confirms.answer_at_once(3, 4, |_, _| {});
        assert_eq!(
            answer,
            Confirmed {
                first: 3,
                last: 4,
                multiple: false,
                count: 2
            }
        );
        let mut out = Vec::new();
        assert_eq!(answer.write(&mut out, 1), 2);
        let mut expected = Vec::new();
        hot::write_ack(&mut expected, 1, 3, false);
        hot::write_ack(&mut expected, 1, 4, false);
        assert_eq!(out, expected);
    }

    #[test]
    fn publishes_answered_before_their_commit_are_not_counted_with_it() {
        let mut confirms = Confirms::default();
        confirms.wait(1, 2, ticket(1));
        assert_eq!(confirms.answer_at_once(3, 5, |_, _| {}).count, 3);
        confirms.wait(6, 6, ticket(1));
        let answer = Confirmed {
            first: 1,
            last: 6,
            multiple: true,
            count: 3,
        };
        assert_eq!(confirms.committed(ticket(1), |_, _| {}), Some(answer));
    }

    #[test]
    fn a_single_publish_is_answered_without_multiple() {
        let mut out = Vec::new();
        Confirms::default().answer_at_once(1, 1, |_, _| {}).write(&mut out, 1);
        let mut expected = Vec::new();
        hot::write_ack(&mut expected, 1, 1, false);
        assert_eq!(out, expected);
    }

    #[test]
    fn each_confirm_is_told_to_the_exchange_of_its_publish() {
        let [a, b] = ["a", "b"].map(|name| Arc::new(ExchangeTraffic::of(name)));
        let mut confirms = Confirms::default();
        let mut publish = |exchange: &Arc<ExchangeTraffic>, count: u64| {
            confirms.begin_run(exchange);
            let first = confirms.last_published + 1;
            confirms.last_published += count;
            (first, confirms.last_published)
        };
        // 1..=3 to a, 4..=5 to b, nothing to b again, 6..=9 to a.
        publish(&a, 2);
        publish(&a, 1);
        publish(&b, 2);
        publish(&b, 0);
        publish(&a, 4);
        let mut told = Vec::new();
        let mut tell = |exchange: &Arc<ExchangeTraffic>, count| told.push((exchange.name.to_string(), count));
        confirms.wait(1, 4, ticket(1));
        confirms.answer_at_once(5, 6, &mut tell);
        confirms.wait(7, 9, ticket(2));
        confirms.committed(ticket(1), &mut tell);
        confirms.committed(ticket(2), &mut tell);
        let expected = [("b", 1), ("a", 1), ("a", 3), ("b", 1), ("a", 3)];
        assert_eq!(told, expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(confirms.exchanges.len(), 1, "what is answered is forgotten");
    }

    #[test]
    fn numbers_start_at_one() {
        let mut confirms = Confirms::default();
        assert_eq!((confirms.next(), confirms.next()), (1, 2));
    }
}
