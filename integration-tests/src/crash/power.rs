//! Power cuts under the store, again and again: what was not synced is gone, or torn.
//!
//! One cut of two is made on the disk in memory, which keeps any number of the unsynced writes; the other under RocksDB, by
//! cutting its log at any byte after the last sync, and sometimes writing rubbish behind the cut.

use super::Findings;
use super::ledger::body_of;
use crate::random::Random;
use leveret_storage::{
    BodyId, Crash, Definition, DefinitionKey, MemoryDisk, Position, QueueId, Store, StoreOptions, Ticket, VhostRecord,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// Steps between two cuts.
const STEPS_MAX: usize = 40;
const QUEUES_MAX: usize = 5;
/// A cycle begins on an empty disk this often.
const NEW_DISK_PERCENT: usize = 5;

/// So many steps in a hundred are followed by a look for table files of which nothing lives.
const RECLAIM_PERCENT: usize = 4;

enum Disk {
    Memory(MemoryDisk),
    Rocks {
        dir: TempDir,
        /// How long the log was at the last sync.
        synced: u64,
    },
}

/// What became of a message, and with which ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Alive,
    /// Nobody waited: it may come back.
    Lazily,
    /// It must not come back once this ticket is durable.
    Durably(Ticket),
}

#[derive(Clone, Debug)]
struct Message {
    ticket: Ticket,
    fate: Fate,
    delivery_count: u32,
    /// What its payload is filled with: that of another message too if they share a body.
    filling: u64,
    /// The body, if it is stored apart.
    body: Option<BodyId>,
}

impl Message {
    fn new(ticket: Ticket, filling: u64, body: Option<BodyId>) -> Self {
        Self {
            ticket,
            fate: Fate::Alive,
            delivery_count: 0,
            filling,
            body,
        }
    }
}

#[derive(Default)]
struct Queue {
    messages: BTreeMap<u64, Message>,
    delivered: Option<u64>,
    deleted: Option<Ticket>,
}

/// What was asked of the store since it was opened.
#[derive(Default)]
struct Model {
    queues: BTreeMap<u64, Queue>,
    last_queue: u64,
    /// Virtual hosts by name: the last change of each, and whether it is there after it.
    vhosts: BTreeMap<String, Vec<(Ticket, bool)>>,
    /// Dead letters: left the one queue and entered the other in one commit. Queue and position of each.
    moves: Vec<[(u64, u64); 2]>,
    /// Nothing happened since everything was flushed.
    settled_down: bool,
}

fn options() -> StoreOptions {
    StoreOptions {
        manual_commit: true,
        ..StoreOptions::restless()
    }
}

impl Disk {
    fn new(memory: bool) -> Self {
        if memory {
            return Self::Memory(MemoryDisk::new());
        }
        Self::Rocks {
            dir: temporary_directory(),
            synced: 0,
        }
    }

    fn open(&self) -> Result<Store, leveret_storage::StorageError> {
        match self {
            Self::Memory(disk) => Store::on_memory_disk(disk, options()),
            Self::Rocks { dir, .. } => Store::open(dir.path(), options()),
        }
    }

    /// Everything written so far survives from now on.
    fn note_synced(&mut self) {
        if let Self::Rocks { dir, synced } = self {
            *synced = newest_log(dir).map_or(0, |log| fs::metadata(log).unwrap().len());
        }
    }

    fn cut_power(&mut self, store: Store, random: &mut Random) {
        match self {
            Self::Memory(disk) => {
                let left = disk.crash(Crash::PowerCutAfter(random.below(disk.unsynced_writes() + 1)));
                drop(store);
                *disk = left;
            }
            Self::Rocks { dir, synced } => {
                let log = newest_log(dir);
                drop(store);
                let Some(log) = log else { return };
                let mut bytes = fs::read(&log).unwrap();
                let unsynced = bytes.len() - *synced as usize;
                let cut = *synced as usize + random.below(unsynced + 1);
                bytes.truncate(cut);
                // Blocks that reached the disk out of order, or were never written.
                if random.chance(30) && unsynced > 0 {
                    bytes.extend(match random.below(2) {
                        0 => random.bytes(1 + unsynced.min(500)),
                        _ => vec![0; 1 + unsynced.min(500)],
                    });
                }
                fs::write(&log, bytes).unwrap();
                *synced = 0;
            }
        }
    }
}

/// In memory if possible: what a cut leaves is decided here, so a real sync would only take time.
fn temporary_directory() -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("leveret-power-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

fn newest_log(dir: &TempDir) -> Option<PathBuf> {
    let files = fs::read_dir(dir.path().join("db"))
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
}

/// The beginning of a payload is known from its place.
fn head(queue: u64, position: u64) -> [u8; 8] {
    number(queue, position).to_be_bytes()
}

fn number(queue: u64, position: u64) -> u64 {
    queue << 32 | position
}

/// The rest of a payload.
fn filling(number: u64) -> Vec<u8> {
    body_of(number).split_off(8)
}

/// Appends one message with a body that others may have too. Returns where the body is.
fn share(store: &Store, model: &mut Model, id: u64, rest: u64, known: Option<BodyId>) -> Option<BodyId> {
    let position = store.next_position(QueueId(id));
    let mut writer = store.writer();
    let parts = [&head(id, position.0)[..], &filling(rest)];
    let body = writer.append_shared(QueueId(id), position, parts, known);
    let message = Message::new(writer.submit(), rest, body);
    if let Some(queue) = model.queues.get_mut(&id) {
        queue.messages.insert(position.0, message);
    }
    body
}

/// One random change. Every ticket is at most the one returned.
fn step(store: &Store, model: &mut Model, random: &mut Random) {
    model.settled_down = false;
    let alive: Vec<u64> = model
        .queues
        .iter()
        .filter(|(_, queue)| queue.deleted.is_none())
        .map(|(id, _)| *id)
        .collect();
    if alive.len() < QUEUES_MAX && (alive.is_empty() || random.chance(10)) {
        model.last_queue += 1;
        model.queues.insert(model.last_queue, Queue::default());
        return;
    }
    let id = alive[random.below(alive.len())];
    let Some(queue) = model.queues.get_mut(&id) else { return };
    let queue_id = QueueId(id);
    let living: Vec<u64> = queue
        .messages
        .iter()
        .filter(|(_, message)| message.fate == Fate::Alive)
        .map(|(position, _)| *position)
        .collect();
    let mut writer = match random.below(20) {
        0..8 => {
            let next = store.next_position(queue_id).0;
            let mut writer = store.writer();
            let count = 1 + random.below(8) as u64;
            for position in next..next + count {
                let rest = filling(number(id, position));
                writer.append(queue_id, Position(position), &[&head(id, position), &rest]);
            }
            let ticket = writer.submit();
            for position in next..next + count {
                let message = Message::new(ticket, number(id, position), None);
                queue.messages.insert(position, message);
            }
            return;
        }
        8 => return change_vhost(store, model, random),
        9 | 10 if alive.len() > 1 && !living.is_empty() => {
            let other = alive[(random.below(alive.len() - 1) + 1 + alive.partition_point(|at| *at < id)) % alive.len()];
            return move_message(store, model, (id, living[random.below(living.len())]), other);
        }
        11 | 12 => {
            let rest = number(id, store.next_position(queue_id).0);
            let mut known = None;
            for id in alive.iter().filter(|other| **other == id || random.chance(50)) {
                known = share(store, model, *id, rest, known);
            }
            return;
        }
        _ => store.writer(),
    };
    match random.below(20) {
        0..7 if !living.is_empty() => {
            for _ in 0..1 + random.below(living.len()) {
                let position = living[random.below(living.len())];
                writer.settle(queue_id, Position(position));
                if let Some(message) = queue.messages.get_mut(&position) {
                    message.fate = Fate::Lazily;
                }
            }
            writer.submit();
        }
        7..10 if !living.is_empty() => {
            let position = living[random.below(living.len())];
            writer.settle_durably(queue_id, Position(position));
            let ticket = writer.submit();
            if let Some(message) = queue.messages.get_mut(&position) {
                message.fate = Fate::Durably(ticket);
            }
        }
        10..13 if !living.is_empty() => {
            let position = living[random.below(living.len())];
            writer.delivered(queue_id, Position(position));
            queue.delivered = queue.delivered.max(Some(position));
            if let Some(message) = queue.messages.get_mut(&position) {
                message.delivery_count += 1;
                writer.requeued(queue_id, Position(position), message.delivery_count);
            }
            writer.submit();
        }
        13 => {
            let below = living.get(living.len() / 2).copied().unwrap_or(0);
            let except: Vec<Position> = living.first().map(|first| Position(*first)).into_iter().collect();
            writer.purge(queue_id, Position(below), &except);
            let ticket = writer.submit();
            for position in living.iter().skip(1).filter(|position| **position < below) {
                if let Some(message) = queue.messages.get_mut(position) {
                    message.fate = Fate::Durably(ticket);
                }
            }
        }
        14 if random.chance(30) => {
            writer.delete_queue(queue_id);
            queue.deleted = Some(writer.submit());
        }
        _ => drop(writer),
    }
}

/// A dead letter leaves its queue and enters another, with one hold around both as in the broker.
fn move_message(store: &Store, model: &mut Model, from: (u64, u64), to: u64) {
    let hold = store.hold();
    let mut writer = store.writer();
    writer.settle(QueueId(from.0), Position(from.1));
    writer.submit();
    let moved = model.queues.get(&from.0).and_then(|queue| queue.messages.get(&from.1));
    let (rest, body) = moved.map_or((0, None), |moved| (moved.filling, moved.body));
    let position = store.next_position(QueueId(to));
    if body.is_some() {
        share(store, model, to, rest, body);
    } else {
        let mut writer = store.writer();
        writer.append(QueueId(to), position, &[&head(to, position.0), &filling(rest)]);
        let entered = Message::new(writer.submit(), rest, None);
        if let Some(queue) = model.queues.get_mut(&to) {
            queue.messages.insert(position.0, entered);
        }
    }
    drop(hold);
    if let Some(left) = model
        .queues
        .get_mut(&from.0)
        .and_then(|queue| queue.messages.get_mut(&from.1))
    {
        // Should the copy be settled before it is written, nobody waits for that commit, and both may come back as the one.
        left.fate = Fate::Lazily;
    }
    model.moves.push([from, (to, position.0)]);
}

fn change_vhost(store: &Store, model: &mut Model, random: &mut Random) {
    let name = format!("vhost {}", random.below(4));
    let there = random.chance(60);
    let mut writer = store.writer();
    if there {
        let vhost = VhostRecord {
            name: name.clone(),
            ..VhostRecord::default()
        };
        writer.put(&Definition::Vhost(vhost));
    } else {
        writer.delete(&DefinitionKey::Vhost { name: name.clone() });
    }
    let ticket = writer.submit();
    model.vhosts.entry(name).or_default().push((ticket, there));
}

/// Compares what a store has after a cut with what it had promised, and takes what it has as the new beginning.
fn check(store: &Store, model: &mut Model, durable: Ticket, what: &str, findings: &mut Findings) {
    // Commits are in order: whatever is there proves that everything before it is there.
    let mut reached = durable;
    let mut found: BTreeMap<u64, BTreeMap<u64, (bool, u32)>> = BTreeMap::new();
    for (id, queue) in &model.queues {
        let mut last = None;
        let seen = found.entry(*id).or_default();
        let recovered = store.recover_queue(QueueId(*id), &mut |message| {
            let position = message.position.0;
            findings.checked += 1;
            if last.replace(position).is_some_and(|before| before >= position) {
                findings.object(format!("{what}: queue {id} is out of order at {position}"));
            }
            let known = queue.messages.get(&position);
            let expected = known.map(|known| [&head(*id, position)[..], &filling(known.filling)].concat());
            if expected.is_some_and(|expected| message.payload != expected) {
                findings.object(format!("{what}: message {position} of queue {id} is damaged"));
            }
            seen.insert(position, (message.redelivered, message.delivery_count));
        });
        if let Err(error) = recovered {
            findings.object(format!("{what}: queue {id}: {error}"));
        }
        let tickets = seen.keys().filter_map(|position| queue.messages.get(position));
        reached = tickets
            .map(|message| message.ticket)
            .chain([reached])
            .max()
            .unwrap_or(reached);
    }
    check_moves(model, &found, what, findings);
    for (id, queue) in &mut model.queues {
        let seen = found.remove(id).unwrap_or_default();
        check_queue(*id, queue, &seen, durable, reached, model.settled_down, what, findings);
        let next = store.next_position(QueueId(*id)).0;
        if queue.messages.keys().any(|position| *position >= next) && queue.deleted.is_none() {
            findings.object(format!("{what}: queue {id} would use a position again: {next}"));
        }
    }
    model.queues.retain(|_, queue| queue.deleted.is_none());
    check_vhosts(store, model, durable, what, findings);
}

/// A message that moved is in one of its queues, unless something else happened to it there.
fn check_moves(
    model: &mut Model,
    found: &BTreeMap<u64, BTreeMap<u64, (bool, u32)>>,
    what: &str,
    findings: &mut Findings,
) {
    for [from, to] in std::mem::take(&mut model.moves) {
        let is_there =
            |(queue, position): (u64, u64)| found.get(&queue).is_some_and(|seen| seen.contains_key(&position));
        let untouched = |(id, position): (u64, u64)| {
            let queue = model.queues.get(&id).filter(|queue| queue.deleted.is_none());
            let message = queue.and_then(|queue| queue.messages.get(&position));
            message.is_some_and(|message| message.fate == Fate::Alive)
        };
        let was_there = model.queues.get(&from.0).is_some_and(|queue| {
            let before = queue.messages.get(&from.1);
            queue.deleted.is_none() && before.is_some_and(|message| message.ticket == Ticket::NONE)
        });
        match (is_there(from), is_there(to)) {
            (true, true) => findings.duplicate(format!("{what}: {from:?} moved to {to:?} and is in both")),
            (false, false) if was_there && untouched(to) => {
                findings.lose(format!("{what}: {from:?} moved to {to:?} and is in neither"));
            }
            _ => {}
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a look at one queue needs all that is known")]
fn check_queue(
    id: u64,
    queue: &mut Queue,
    seen: &BTreeMap<u64, (bool, u32)>,
    durable: Ticket,
    reached: Ticket,
    exactly: bool,
    what: &str,
    findings: &mut Findings,
) {
    for position in seen.keys().filter(|position| !queue.messages.contains_key(position)) {
        findings.object(format!("{what}: message {position} of queue {id} comes from nowhere"));
    }
    if let Some(ticket) = queue.deleted {
        if ticket <= durable && !seen.is_empty() {
            findings.duplicate(format!("{what}: queue {id} was deleted and has messages"));
        }
        if seen.is_empty() {
            return;
        }
        queue.deleted = None;
    }
    let delivered = queue.delivered;
    queue.messages.retain(|position, message| {
        let describe = || format!("{what}: message {position} of queue {id}, {message:?}, durable up to {durable:?}");
        let Some((redelivered, count)) = seen.get(position) else {
            if message.fate == Fate::Alive && message.ticket <= reached {
                findings.lose(describe());
            }
            return false;
        };
        match message.fate {
            Fate::Durably(ticket) if ticket <= durable => findings.duplicate(describe()),
            Fate::Lazily if exactly => findings.duplicate(describe()),
            _ => {}
        }
        if exactly {
            let flag = delivered.is_some_and(|up_to| *position <= up_to);
            if (*redelivered, *count) != (flag, message.delivery_count) {
                findings.object(format!("{}: has {redelivered} and {count}", describe()));
            }
        }
        message.ticket = Ticket::NONE;
        message.fate = Fate::Alive;
        message.delivery_count = *count;
        true
    });
    // What survived says how far the mark got.
    let flagged = seen
        .iter()
        .filter(|(_, (flagged, _))| *flagged)
        .map(|(position, _)| *position);
    queue.delivered = flagged.max();
}

fn check_vhosts(store: &Store, model: &mut Model, durable: Ticket, what: &str, findings: &mut Findings) {
    let definitions = match store.definitions() {
        Ok(definitions) => definitions,
        Err(error) => return findings.object(format!("{what}: definitions: {error}")),
    };
    let names: Vec<String> = definitions
        .into_iter()
        .filter_map(|definition| match definition {
            Definition::Vhost(vhost) => Some(vhost.name),
            _ => None,
        })
        .collect();
    for (name, changes) in &mut model.vhosts {
        let there = names.contains(name);
        let last = changes.iter().rposition(|(ticket, _)| *ticket <= durable);
        let before = last.and_then(|last| changes.get(last)).is_some_and(|(_, there)| *there);
        let later = changes.iter().skip(last.map_or(0, |last| last + 1));
        if there != before && !later.into_iter().any(|(_, after)| *after == there) {
            findings.lose(format!("{what}: virtual host {name}: there {there}, after {changes:?}"));
        }
        *changes = vec![(Ticket::NONE, there)];
    }
}

/// Cuts the power so many times, and adds what was found. Stops at the first cut that is not clean.
pub fn run(cuts: u64, random: &mut Random, findings: &mut Findings) {
    let mut disks = [Disk::new(true), Disk::new(false)];
    let mut models = [Model::default(), Model::default()];
    for cut in 1..=cuts {
        let which = random.below(2);
        if random.chance(NEW_DISK_PERCENT) {
            disks[which] = Disk::new(which == 0);
            models[which] = Model::default();
        }
        let (disk, model) = (&mut disks[which], &mut models[which]);
        let what = format!("power cut {cut} ({})", ["memory", "RocksDB"][which]);
        let store = match disk.open() {
            Ok(store) => store,
            Err(error) => return findings.object(format!("{what}: the store does not open: {error}")),
        };
        let confirmed = work(&store, disk, model, random);
        let durable = store.durable();
        disk.cut_power(store, random);
        match disk.open() {
            Ok(store) => check(&store, model, durable, &what, findings),
            Err(error) => findings.object(format!("{what}: the store does not open: {error}")),
        }
        findings.power_cuts += 1;
        findings.confirmed += confirmed;
        if !findings.is_clean() {
            return;
        }
    }
}

/// Random changes with commits between them. Returns how many messages became durable.
fn work(store: &Store, disk: &mut Disk, model: &mut Model, random: &mut Random) -> u64 {
    for _ in 0..1 + random.below(STEPS_MAX) {
        step(store, model, random);
        if random.chance(40) {
            let syncs = store.statistics().syncs;
            store.commit(random.chance(40));
            if store.statistics().syncs > syncs {
                disk.note_synced();
            }
        }
        if random.chance(RECLAIM_PERCENT) {
            store.reclaim();
            disk.note_synced();
        }
    }
    if random.chance(30) {
        store.flush().unwrap();
        disk.note_synced();
        model.settled_down = true;
    }
    let durable = store.durable();
    let messages = model.queues.values().flat_map(|queue| queue.messages.values());
    messages
        .filter(|message| message.ticket > Ticket::NONE && message.ticket <= durable)
        .count() as u64
}
