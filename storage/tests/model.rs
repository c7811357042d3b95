//! Random histories with restarts, kills and power cuts, against a model that anyone can check by reading.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Disk, recover};
use leveret_storage::{BodyId, Crash, Fsync, MemoryDisk, Position, QueueId, Store, StoreOptions, Writer};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
enum Step {
    Append {
        queue: usize,
        messages: Vec<(u64, usize)>,
    },
    /// One body to several queues.
    Share {
        queues: Vec<usize>,
        size: usize,
    },
    Settle {
        queue: usize,
        which: Vec<Index>,
        durably: bool,
    },
    SettleHead {
        queue: usize,
        count: usize,
    },
    Delivered {
        queue: usize,
        up_to: Index,
    },
    Requeued {
        queue: usize,
        which: Index,
        count: u32,
    },
    Purge {
        queue: usize,
        below: Index,
        except: Vec<Index>,
    },
    Move {
        from: usize,
        to: usize,
        which: Index,
    },
    Delete {
        queue: usize,
    },
    Commit {
        lazily: bool,
    },
    Compare,
    Reclaim,
    Restart,
    Kill,
    PowerCut {
        keeping: Index,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = 0..QUEUES;
    let gap = prop_oneof![8 => Just(0u64), 1 => 0..5u64, 1 => 0..100_000u64];
    let size = prop_oneof![4 => 0..50usize, 1 => 0..3000usize];
    let some = || prop::collection::vec(any::<Index>(), 0..20);
    let step = prop_oneof![
        6 => (queue.clone(), prop::collection::vec((gap, size), 1..30))
            .prop_map(|(queue, messages)| Step::Append { queue, messages }),
        3 => (prop::collection::vec(queue.clone(), 1..4), 0..3000usize)
            .prop_map(|(queues, size)| Step::Share { queues, size }),
        4 => (queue.clone(), some(), prop::bool::weighted(0.2))
            .prop_map(|(queue, which, durably)| Step::Settle { queue, which, durably }),
        4 => (queue.clone(), 1..60usize).prop_map(|(queue, count)| Step::SettleHead { queue, count }),
        1 => (queue.clone(), any::<Index>()).prop_map(|(queue, up_to)| Step::Delivered { queue, up_to }),
        1 => (queue.clone(), any::<Index>(), 1..9u32)
            .prop_map(|(queue, which, count)| Step::Requeued { queue, which, count }),
        1 => (queue.clone(), any::<Index>(), some())
            .prop_map(|(queue, below, except)| Step::Purge { queue, below, except }),
        2 => (queue.clone(), queue.clone(), any::<Index>())
            .prop_map(|(from, to, which)| Step::Move { from, to, which }),
        1 => queue.prop_map(|queue| Step::Delete { queue }),
        8 => any::<bool>().prop_map(|lazily| Step::Commit { lazily }),
        2 => Just(Step::Compare),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<Index>().prop_map(|keeping| Step::PowerCut { keeping }),
    ];
    prop::collection::vec(step, 0..150)
}

fn options() -> impl Strategy<Value = StoreOptions> {
    let fsync = prop_oneof![3 => Just(Fsync::Always), 1 => Just(Fsync::Never)];
    let chunk_bytes = prop_oneof![Just(1usize), Just(300), Just(5000), Just(1 << 20)];
    let unjoined_chunks = prop_oneof![Just(0usize), Just(1), Just(3), Just(16)];
    (fsync, chunk_bytes, unjoined_chunks, any::<bool>()).prop_map(|(fsync, chunk_bytes, unjoined_chunks, patient)| {
        let mut options = StoreOptions {
            fsync,
            chunk_bytes,
            unjoined_chunks,
            reclaim_bytes_min: 0,
            ..common::manual()
        };
        if !patient {
            options.sparse_patience = std::time::Duration::ZERO;
        }
        options
    })
}

/// A message that is alive, or was settled in a way that a crash may undo.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    alive: bool,
    payload: Vec<u8>,
    delivery_count: u32,
    /// Where the payload goes on in a shared body, and which.
    shared: Option<(usize, BodyId)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Queue {
    messages: BTreeMap<u64, Message>,
    delivered: u64,
    next: u64,
}

/// Queues by their id. A queue is there once it had a message.
type Model = BTreeMap<u64, Queue>;

fn append(model: &mut Model, writer: &mut Writer<'_>, id: u64, messages: &[(u64, usize)]) {
    let queue = model.entry(id).or_default();
    for &(gap, size) in messages {
        let position = queue.next + gap;
        queue.next = position + 1;
        let payload: Vec<u8> = position.to_be_bytes().into_iter().cycle().take(size).collect();
        let (one, two) = payload.split_at(size / 3);
        writer.append(QueueId(id), Position(position), &[one, two]);
        queue.messages.insert(
            position,
            Message {
                alive: true,
                payload,
                delivery_count: 0,
                shared: None,
            },
        );
    }
}

/// Appends a message whose body others may have too. Returns by what the body is known.
fn append_shared(
    model: &mut Model,
    writer: &mut Writer<'_>,
    id: u64,
    body: &[u8],
    known: Option<BodyId>,
) -> Option<BodyId> {
    let queue = model.entry(id).or_default();
    let position = queue.next;
    queue.next += 1;
    let head = (position * id).to_be_bytes();
    let known = writer.append_shared(QueueId(id), Position(position), [&head, body], known);
    let message = Message {
        alive: true,
        payload: [&head, body].concat(),
        delivery_count: 0,
        shared: known.map(|known| (head.len(), known)),
    };
    queue.messages.insert(position, message);
    known
}

fn settle(model: &mut Model, writer: &mut Writer<'_>, id: u64, position: u64, strictly: bool) {
    let Some(queue) = model.get_mut(&id) else {
        return;
    };
    if strictly {
        queue.messages.remove(&position);
    } else if let Some(message) = queue.messages.get_mut(&position) {
        message.alive = false;
    }
    writer.settle(QueueId(id), Position(position));
}

struct World {
    disk: Disk,
    options: StoreOptions,
    store: Option<Store>,
    /// What the store holds now.
    now: Model,
    /// What the disk holds: as of the last sync, then after each write since.
    on_disk: Vec<Model>,
    /// The ids of the queues in use; a deleted queue gets a new one.
    ids: Vec<u64>,
}

impl World {
    fn new(disk: Disk, options: StoreOptions) -> World {
        let store = Some(disk.open(&options));
        let ids = (1..=QUEUES as u64).collect();
        World {
            disk,
            options,
            store,
            now: Model::new(),
            on_disk: vec![Model::new()],
            ids,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn alive(&self, queue: usize) -> Vec<u64> {
        let messages = self.now.get(&self.ids[queue]).map(|queue| &queue.messages);
        let alive = messages.into_iter().flatten().filter(|(_, message)| message.alive);
        alive.map(|(position, _)| *position).collect()
    }

    fn choose(&self, queue: usize, which: &[Index]) -> Vec<u64> {
        let alive = self.alive(queue);
        let mut chosen: Vec<u64> = which
            .iter()
            .filter(|_| !alive.is_empty())
            .map(|index| *index.get(&alive))
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Commit { lazily } => self.commit(*lazily),
            Step::Compare => self.compare(),
            Step::Reclaim => self.reclaim(),
            Step::Restart => self.restart(),
            Step::Kill => self.crash(Crash::Killed),
            Step::PowerCut { keeping } => {
                let kept = keeping.index(self.on_disk.len());
                self.crash(Crash::PowerCutAfter(kept));
            }
            Step::Purge { queue, below, except } => self.purge(*queue, below, except),
            _ => self.write(step),
        }
    }

    fn write(&mut self, step: &Step) {
        let store = self.store().clone();
        match step {
            Step::Append { queue, messages } => {
                append(&mut self.now, &mut store.writer(), self.ids[*queue], messages);
            }
            Step::Share { queues, size } => {
                let (mut known, body) = (None, vec![*size as u8; *size]);
                for queue in queues {
                    let (now, id) = (&mut self.now, self.ids[*queue]);
                    known = append_shared(now, &mut store.writer(), id, &body, known);
                }
            }
            Step::Settle { queue, which, durably } => {
                let (chosen, id) = (self.choose(*queue, which), self.ids[*queue]);
                let mut writer = store.writer();
                for position in chosen {
                    if *durably {
                        writer.settle_durably(QueueId(id), Position(position));
                    }
                    settle(&mut self.now, &mut writer, id, position, *durably);
                }
            }
            Step::SettleHead { queue, count } => {
                let (alive, id) = (self.alive(*queue), self.ids[*queue]);
                let mut writer = store.writer();
                for position in alive.into_iter().take(*count) {
                    settle(&mut self.now, &mut writer, id, position, false);
                }
            }
            Step::Delivered { queue, up_to } => {
                let id = self.ids[*queue];
                if let Some(queue) = self.now.get_mut(&id) {
                    let up_to = up_to.index(queue.next as usize + 2) as u64;
                    queue.delivered = queue.delivered.max(up_to + 1);
                    store.writer().delivered(QueueId(id), Position(up_to));
                }
            }
            Step::Requeued { queue, which, count } => {
                let id = self.ids[*queue];
                for position in self.choose(*queue, &[*which]) {
                    store.writer().requeued(QueueId(id), Position(position), *count);
                    let messages = &mut self.now.get_mut(&id).unwrap().messages;
                    messages.get_mut(&position).unwrap().delivery_count = *count;
                }
            }
            Step::Move { from, to, which } => {
                // A dead letter: appended there and settled here, in one commit, whatever happens.
                let hold = store.hold();
                for position in self.choose(*from, &[*which]) {
                    let message = self.now[&self.ids[*from]].messages[&position].clone();
                    let (now, to) = (&mut self.now, self.ids[*to]);
                    match message.shared {
                        Some((at, body)) => {
                            append_shared(now, &mut store.writer(), to, &message.payload[at..], Some(body));
                        }
                        None => append(now, &mut store.writer(), to, &[(0, 20)]),
                    }
                    settle(&mut self.now, &mut store.writer(), self.ids[*from], position, true);
                    store.commit(true);
                }
                drop(hold);
            }
            Step::Delete { queue } => {
                let id = self.ids[*queue];
                store.writer().delete_queue(QueueId(id));
                self.now.remove(&id);
                self.ids[*queue] = id + 100;
            }
            _ => unreachable!("writes nothing"),
        }
    }

    fn purge(&mut self, queue: usize, below: &Index, except: &[Index]) {
        let (id, except) = (self.ids[queue], self.choose(queue, except));
        let Some(queue) = self.now.get_mut(&id) else {
            return;
        };
        let below = below.index(queue.next as usize + 2) as u64;
        queue
            .messages
            .retain(|position, message| *position >= below || except.contains(position) || !message.alive);
        let except: Vec<Position> = except.into_iter().rev().map(Position).collect();
        self.store().writer().purge(QueueId(id), Position(below), &except);
    }

    fn commit(&mut self, lazily: bool) {
        let before = self.store().statistics();
        self.store().commit(lazily);
        let after = self.store().statistics();
        if lazily {
            for queue in self.now.values_mut() {
                queue.messages.retain(|_, message| message.alive);
            }
            self.compare_bodies();
        }
        if after.commits > before.commits {
            self.on_disk.push(self.now.clone());
        }
        if after.syncs > before.syncs {
            self.on_disk.drain(..self.on_disk.len() - 1);
        }
        if let Disk::Memory(disk) = &self.disk {
            assert_eq!(disk.unsynced_writes(), self.on_disk.len() - 1);
        }
    }

    /// Frees the disk space of what is gone, which commits what waits before.
    fn reclaim(&mut self) {
        let before = self.store().statistics();
        self.store().reclaim();
        let after = self.store().statistics();
        if after.commits > before.commits {
            self.on_disk.push(self.now.clone());
        }
        self.compare();
    }

    /// The store shows exactly what is alive.
    fn compare(&self) {
        for (id, queue) in &self.now {
            let seen = recover(self.store(), QueueId(*id));
            let alive = queue.messages.iter().filter(|(_, message)| message.alive);
            let expected: Vec<common::Seen> = alive
                .map(|(position, message)| {
                    let redelivered = *position < queue.delivered;
                    (*position, redelivered, message.delivery_count, message.payload.clone())
                })
                .collect();
            let positions = |all: &[common::Seen]| -> Vec<u64> { all.iter().map(|seen| seen.0).collect() };
            assert_eq!(positions(&seen), positions(&expected), "queue {id}");
            for (seen, expected) in seen.iter().zip(&expected) {
                let (position, redelivered, count, payload) = expected;
                assert_eq!(
                    (seen.1, seen.2),
                    (*redelivered, *count),
                    "message {position} of queue {id}"
                );
                assert!(seen.3 == *payload, "the payload of message {position} of queue {id}");
            }
            assert_eq!(self.store().message_count(QueueId(*id)), expected.len() as u64);
        }
        let live = self.store().statistics().messages_live;
        let expected = self.now.values().flat_map(|queue| queue.messages.values());
        assert_eq!(live, expected.filter(|message| message.alive).count() as u64);
    }

    /// Each body that a message refers to is there once, and no other.
    fn compare_bodies(&self) {
        let messages = self.now.values().flat_map(|queue| queue.messages.values());
        let bodies: BTreeSet<BodyId> = messages
            .filter(|message| message.alive)
            .filter_map(|message| Some(message.shared?.1))
            .collect();
        assert_eq!(self.store().statistics().bodies_live, bodies.len() as u64);
    }

    fn restart(&mut self) {
        self.store().close().unwrap();
        self.store = None;
        self.store = Some(self.disk.open(&self.options));
        let mut now = std::mem::take(&mut self.now);
        for (id, queue) in &mut now {
            queue.messages.retain(|_, message| message.alive);
            let next = self.store().next_position(QueueId(*id)).0;
            assert!(next >= queue.next, "queue {id} uses positions again");
            queue.next = next;
        }
        self.now = now;
        self.on_disk = vec![self.now.clone()];
        self.compare_bodies();
        self.compare();
    }

    fn crash(&mut self, crash: Crash) {
        self.store = None;
        let kept = match (&mut self.disk, crash) {
            (Disk::Memory(disk), Crash::PowerCutAfter(kept)) => {
                *disk = disk.crash(crash);
                kept
            }
            (Disk::Memory(disk), _) => {
                *disk = disk.crash(Crash::Killed);
                self.on_disk.len() - 1
            }
            (Disk::Rocks(_), _) => self.on_disk.len() - 1,
        };
        self.store = Some(self.disk.open(&self.options));
        let mut left = self.on_disk.swap_remove(kept);
        for (id, queue) in &mut left {
            let seen = recover(self.store(), QueueId(*id));
            let positions: Vec<u64> = seen.iter().map(|seen| seen.0).collect();
            queue.messages.retain(|position, message| {
                let came_back = positions.binary_search(position).is_ok();
                assert!(came_back || !message.alive, "message {position} of queue {id} is lost");
                came_back
            });
            queue.messages.values_mut().for_each(|message| message.alive = true);
            let next = self.store().next_position(QueueId(*id)).0;
            assert!(next >= queue.next, "queue {id} uses positions again");
            queue.next = next;
        }
        for queue in self.store().queues() {
            assert!(left.contains_key(&queue.0), "queue {queue} is back");
        }
        self.now = left;
        self.on_disk = vec![self.now.clone()];
        self.compare_bodies();
        self.compare();
    }
}

fn run(disk: Disk, options: StoreOptions, steps: &[Step]) {
    let mut world = World::new(disk, options);
    for step in steps {
        world.take(step);
    }
    world.compare();
    world.restart();
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_store_in_memory_agrees_with_the_model(options in options(), steps in steps()) {
        run(Disk::Memory(MemoryDisk::new()), options, &steps);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_store_on_rocksdb_agrees_with_the_model(options in options(), steps in steps()) {
        run(Disk::Rocks(tempfile::tempdir().unwrap()), options, &steps);
    }
}

/// So many histories, or as many as the environment asks for.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(usual),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

const QUEUES: usize = 3;
