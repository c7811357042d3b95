//! What one queue owes, as its clients know it.

use super::Findings;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Acknowledgements are lazy: what was handled this shortly before a kill may come back. The broker promises 0.2 seconds; the
/// rest is for a machine on which a thread waits for its turn.
const ACK_GRACE: Duration = Duration::from_millis(2_000);

/// A delivery is recorded with the next commit, which nobody waits for.
const FLAG_GRACE: Duration = Duration::from_millis(2_000);

/// Who published a message stands above this bit of its number, and the count of that publisher below.
const PUBLISHER_SHIFT: u32 = 40;

/// Numbers for the messages of one publisher, in rising order.
pub fn number(publisher: u64, count: u64) -> u64 {
    publisher << PUBLISHER_SHIFT | count
}

/// The body of a message: its number and a filling that depends on it, from nothing to 20 KB.
pub fn body_of(number: u64) -> Vec<u8> {
    let filling = match number % 50 {
        0 => (number * 7919 % 20_000) as usize,
        digit => digit as usize * 5,
    };
    let mut body = number.to_be_bytes().to_vec();
    body.resize(8 + filling, number as u8);
    body
}

/// The number of a message, if its body is what was published.
pub fn number_of(body: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*body.first_chunk::<8>()?);
    (body == body_of(number)).then_some(number)
}

/// A queue's debts.
#[derive(Debug)]
pub struct QueueLedger {
    pub name: String,
    /// How many priorities there are: the one of a message is the rest of its number. Order is promised within each.
    ranks: u64,
    entries: BTreeMap<u64, Entry>,
    /// What was missing after a crash, rightly: it must not turn up again.
    ended: HashSet<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Confirmed, or seen after a crash.
    owed: bool,
    /// When a client first had it since the last crash.
    delivered: Option<Instant>,
    must_be_flagged: bool,
    gone: Gone,
}

/// Whether a message may, or must, be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gone {
    #[default]
    No,
    /// An acknowledgement is on its way.
    Asked,
    /// The broker had it at this moment, at the latest.
    Handled(Instant),
    /// The crash came too soon after to tell.
    MayReturn,
    /// It must not come back.
    ForEver,
}

impl QueueLedger {
    pub fn new(name: impl Into<String>) -> Self {
        Self::ranked(name, 1)
    }

    /// Of a queue with priorities.
    pub fn ranked(name: impl Into<String>, ranks: u64) -> Self {
        Self {
            name: name.into(),
            ranks,
            entries: BTreeMap::new(),
            ended: HashSet::new(),
        }
    }

    /// About to be published.
    pub fn sending(&mut self, number: u64) {
        self.entries.insert(number, Entry::default());
    }

    pub fn confirmed(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.owed = true;
        }
    }

    /// A client has it.
    pub fn delivered(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.delivered.get_or_insert_with(Instant::now);
        }
    }

    /// About to be acknowledged, or dropped in another way.
    pub fn settling(&mut self, number: u64) {
        self.set_gone(number, Gone::Asked);
    }

    /// The broker has answered something that was sent after the acknowledgements.
    pub fn settled(&mut self, numbers: &[u64]) {
        let now = Instant::now();
        for number in numbers {
            self.set_gone(*number, Gone::Handled(now));
        }
    }

    /// What removed it was confirmed as durable: a commit, a purge, a deletion.
    pub fn removed(&mut self, number: u64) {
        self.set_gone(number, Gone::ForEver);
    }

    /// All that the queue owes now.
    pub fn owed(&self) -> Vec<u64> {
        let owed = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owed && entry.gone == Gone::No);
        owed.map(|(number, _)| *number).collect()
    }

    /// Everything that may be in the queue is gone with it.
    pub fn remove_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.gone = Gone::ForEver);
    }

    fn set_gone(&mut self, number: u64, gone: Gone) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.gone = gone;
        }
    }

    /// The broker was killed, or stopped in an orderly way, at this moment.
    pub fn crashed(&mut self, at: Instant, orderly: bool) {
        for entry in self.entries.values_mut() {
            let long_ago = |since: Instant, grace| orderly || at.saturating_duration_since(since) > grace;
            // A delivery so short before a crash that it is not recorded stays unrecorded, however often the broker starts.
            let delivered = entry.delivered.take();
            entry.must_be_flagged |= delivered.is_some_and(|since| long_ago(since, FLAG_GRACE));
            entry.gone = match entry.gone {
                Gone::Asked => Gone::MayReturn,
                Gone::Handled(since) if long_ago(since, ACK_GRACE) => Gone::ForEver,
                Gone::Handled(_) => Gone::MayReturn,
                gone => gone,
            };
        }
    }

    /// Compares what the queue gave after a crash, each with its redelivered flag, with what it owed.
    pub fn check(&mut self, found: &[(u64, bool)], findings: &mut Findings) {
        let name = &self.name;
        let mut last: HashMap<(u64, u64), u64> = HashMap::new();
        if !found.is_sorted_by(|(one, _), (next, _)| one % self.ranks >= next % self.ranks) {
            findings.object(format!("{name}: a lower priority came first"));
        }
        let mut present = HashSet::new();
        findings.checked += found.len() as u64;
        for &(number, flagged) in found {
            let lane = (number >> PUBLISHER_SHIFT, number % self.ranks);
            if !present.insert(number) {
                findings.duplicate(format!("{name}: {number} is there twice"));
            } else if last.insert(lane, number).is_some_and(|before| before > number) {
                findings.object(format!("{name}: {number} is out of order"));
            }
            let Some(entry) = self.entries.get(&number) else {
                if self.ended.contains(&number) {
                    findings.duplicate(format!("{name}: {number} had ended and is back"));
                } else {
                    findings.object(format!("{name}: {number} comes from nowhere"));
                }
                continue;
            };
            if entry.gone == Gone::ForEver {
                findings.duplicate(format!("{name}: {number} was settled and is back: {entry:?}"));
            }
            if entry.must_be_flagged && !flagged {
                findings.object(format!("{name}: {number} was delivered and is not flagged: {entry:?}"));
            }
        }
        for (number, entry) in &self.entries {
            if entry.owed && entry.gone == Gone::No && !present.contains(number) {
                findings.lose(format!("{name}: {number} was confirmed and is lost: {entry:?}"));
            }
        }
        let ended = &mut self.ended;
        self.entries.retain(|number, entry| {
            // What is there after a crash is on disk, and owed like what was confirmed.
            entry.owed = true;
            entry.gone = Gone::No;
            let stays = present.contains(number);
            if !stays {
                ended.insert(*number);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_kill(prepare: impl FnOnce(&mut QueueLedger), found: &[(u64, bool)]) -> Findings {
        let mut ledger = QueueLedger::new("q");
        for number in 1..=3 {
            ledger.sending(number);
        }
        ledger.confirmed(1);
        ledger.confirmed(2);
        prepare(&mut ledger);
        ledger.crashed(Instant::now(), false);
        let mut findings = Findings::default();
        ledger.check(found, &mut findings);
        findings
    }

    #[test]
    fn what_was_not_confirmed_may_be_there_or_not() {
        for found in [&[(1, false), (2, false)][..], &[(1, false), (2, false), (3, false)]] {
            assert!(after_a_kill(|_| (), found).is_clean());
        }
    }

    #[test]
    fn every_broken_promise_is_found() {
        let lost = after_a_kill(|_| (), &[(2, false)]);
        assert_eq!((lost.lost.len(), lost.is_clean()), (1, false));
        let twice = after_a_kill(|_| (), &[(1, false), (2, false), (2, false)]);
        assert_eq!(twice.duplicated.len(), 1);
        let swapped = after_a_kill(|_| (), &[(2, false), (1, false)]);
        assert_eq!(swapped.other.len(), 1);
        let purged = after_a_kill(|ledger| ledger.remove_all(), &[(1, false)]);
        assert_eq!(purged.duplicated.len(), 1);
        let strange = after_a_kill(|_| (), &[(1, false), (2, false), (9, false)]);
        assert_eq!(strange.other.len(), 1);
    }

    #[test]
    fn a_delivery_just_before_a_kill_need_never_be_flagged() {
        let delivered = |ledger: &mut QueueLedger| {
            ledger.delivered(1);
            ledger.crashed(Instant::now(), false);
        };
        assert!(after_a_kill(delivered, &[(1, false), (2, false)]).is_clean());
        let before_a_stop = |ledger: &mut QueueLedger| {
            ledger.delivered(1);
            ledger.crashed(Instant::now(), true);
        };
        assert_eq!(after_a_kill(before_a_stop, &[(1, false), (2, false)]).other.len(), 1);
    }

    #[test]
    fn an_acknowledgement_just_before_the_kill_may_be_forgotten() {
        let acked = |ledger: &mut QueueLedger| {
            ledger.delivered(1);
            ledger.settling(1);
            ledger.settled(&[1]);
        };
        assert!(after_a_kill(acked, &[(2, false)]).is_clean());
        assert!(after_a_kill(acked, &[(1, true), (2, false)]).is_clean());
    }
}
