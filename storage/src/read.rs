//! Reading messages back, wherever they are: in the engine, in the commit being written, or still pending.

use std::ops::{Bound, ControlFlow};

use crate::bodies::BodyReader;
use crate::chunk::{Record, messages, verify};
use crate::commit::Shared;
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId};
use crate::index::Value;
use crate::keys::{self, ChunkKey, Key};
use crate::live::LiveSet;
use crate::log::{Chunk, Place, QueueLog, SharedBytes};

/// A live message, as long as it is being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredMessage<'a> {
    /// Its place in the queue.
    pub position: Position,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The count last given to [`Writer::requeued`](crate::Writer::requeued), or 0.
    pub delivery_count: u32,
    /// The parts it was appended as, in one piece.
    pub payload: &'a [u8],
    /// The last part is stored once for several messages: see [`Writer::append_shared`](crate::Writer::append_shared).
    pub body: Option<BodyId>,
}

/// A live message read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the queue.
    pub position: Position,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The count last given to [`Writer::requeued`](crate::Writer::requeued), or 0.
    pub delivery_count: u32,
    /// The parts it was appended as, in one piece.
    pub payload: Vec<u8>,
}

/// What a reader is shown.
pub(crate) enum Shown<'a> {
    Message(RecoveredMessage<'a>),
    /// All messages of a stored value were shown, up to this position.
    EndOfValue(Position),
}

/// Shows the live messages of a queue from a position on, in order, until it is told to stop. A chunk that cannot be read is
/// given to `damaged`, which decides whether to go on with the next.
pub(crate) fn visit(
    shared: &Shared,
    queue: QueueId,
    from: Position,
    show: &mut dyn FnMut(Shown<'_>) -> ControlFlow<()>,
    damaged: &mut dyn FnMut(StorageError) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    visit_some(shared, queue, from, &|_| true, show, damaged)
}

/// Like [`visit`]; of a message whose body is stored apart, and that is not wanted by what stands before the body, only that is
/// shown.
pub(crate) fn visit_some(
    shared: &Shared,
    queue: QueueId,
    from: Position,
    wants: &dyn Fn(&[u8]) -> bool,
    show: &mut dyn FnMut(Shown<'_>) -> ControlFlow<()>,
    damaged: &mut dyn FnMut(StorageError) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    let mut reader = Reader {
        queue,
        from,
        wants,
        show,
        damaged,
        bodies: BodyReader::default(),
        whole: Vec::new(),
    };
    let mut missing = None;
    loop {
        let window = Window::take(shared, queue, reader.from);
        let Some(last) = window.chunks.last() else {
            return Ok(());
        };
        let end = last.last.next();
        // A chunk that was not there a moment ago may have been settled or rewritten since; one that still ought to be there
        // is lost.
        if let Some(key) = missing.take()
            && let Some(lost) = window.chunks.first().filter(|chunk| chunk.key == key)
        {
            let error = StorageError::corrupt(format!("chunk {} of queue {queue} is missing", key.first));
            if (reader.damaged)(error).is_break() {
                return Ok(());
            }
            reader.from = lost.last.next();
            continue;
        }
        match reader.show_window(shared, &window)? {
            Step::All => reader.from = reader.from.max(end),
            Step::Again => {}
            Step::Missing(key) => missing = Some(key),
            Step::Stopped => return Ok(()),
        }
    }
}

struct Reader<'a> {
    queue: QueueId,
    /// Everything below was shown.
    from: Position,
    wants: &'a dyn Fn(&[u8]) -> bool,
    show: &'a mut dyn FnMut(Shown<'_>) -> ControlFlow<()>,
    damaged: &'a mut dyn FnMut(StorageError) -> ControlFlow<()>,
    bodies: BodyReader,
    /// A message put together with its body.
    whole: Vec<u8>,
}

enum Step {
    All,
    /// What was about to be shown has moved: look where it is now.
    Again,
    /// The engine does not have this chunk.
    Missing(ChunkKey),
    Stopped,
}

impl Reader<'_> {
    fn show_window(&mut self, shared: &Shared, window: &Window) -> Result<Step, StorageError> {
        let mut chunks = window.chunks.as_slice();
        while let Some((first, rest)) = chunks.split_first() {
            let step = match &first.source {
                Source::Stored => {
                    let count = chunks
                        .iter()
                        .take_while(|chunk| matches!(chunk.source, Source::Stored))
                        .count();
                    let (stored, rest) = chunks.split_at(count);
                    chunks = rest;
                    self.show_stored(shared, window, stored)?
                }
                Source::Shared(bytes) => {
                    chunks = rest;
                    let bytes = bytes.lock().clone();
                    // Since the window was taken, the commit may have been written, and the bytes given back.
                    if bytes.is_empty() {
                        Step::Again
                    } else {
                        self.show_chunk(shared, window, first, &bytes)?
                    }
                }
                Source::Open(bytes) => {
                    chunks = rest;
                    self.show_chunk(shared, window, first, bytes)?
                }
            };
            if !matches!(step, Step::All) {
                return Ok(step);
            }
        }
        Ok(Step::All)
    }

    /// Shows neighbouring chunks of the engine, with one scan.
    fn show_stored(&mut self, shared: &Shared, window: &Window, chunks: &[Seen]) -> Result<Step, StorageError> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(Step::All);
        };
        let from = Key::Chunk(self.queue, first.key);
        let mut until = Key::Chunk(self.queue, last.key).encode();
        until.push(0);
        let mut expected = chunks.iter().peekable();
        let mut step = Step::All;
        let scanned = shared
            .engine
            .scan(from.space(), &from.encode(), &until, &mut |key, bytes| {
                let Some(chunk) = expected.peek() else {
                    return Ok(ControlFlow::Break(()));
                };
                let found = keys::decode_chunk(key).map(|(_, key)| key);
                if found.is_some_and(|found| found < chunk.key) {
                    return Ok(ControlFlow::Continue(()));
                }
                if found != Some(chunk.key) {
                    return Ok(ControlFlow::Break(()));
                }
                step = match verify(self.queue, chunk.key, bytes) {
                    Ok(_) => self.show_chunk(shared, window, chunk, bytes)?,
                    Err(error) => self.pass_over(chunk, error),
                };
                expected.next();
                Ok(if matches!(step, Step::All) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            });
        match (scanned, expected.peek()) {
            // The engine noticed the damage before the chunk could be looked at: what comes behind it may be well.
            (Err(error @ StorageError::Corrupt { .. }), Some(chunk)) => {
                return Ok(match self.pass_over(chunk, error) {
                    Step::All => Step::Again,
                    step => step,
                });
            }
            (scanned, _) => scanned?,
        }
        match expected.peek() {
            Some(chunk) if matches!(step, Step::All) => Ok(Step::Missing(chunk.key)),
            _ => Ok(step),
        }
    }

    fn show_chunk(
        &mut self,
        shared: &Shared,
        window: &Window,
        chunk: &Seen,
        bytes: &[u8],
    ) -> Result<Step, StorageError> {
        for message in messages(self.queue, chunk.key.first, bytes) {
            let record = match message {
                Ok(record) => record,
                Err(error) => return Ok(self.pass_over(chunk, error)),
            };
            let Record { position, body, .. } = record;
            let distance = (position.0 - chunk.key.first.0) as u32;
            if position < self.from || !chunk.live.contains(distance) {
                continue;
            }
            let redelivered = position < window.delivered;
            let count = window.counts.binary_search_by_key(&position, |(of, _)| *of);
            let delivery_count = count
                .ok()
                .and_then(|at| window.counts.get(at))
                .map_or(0, |(_, count)| *count);
            let mut whole = std::mem::take(&mut self.whole);
            let payload = match body.filter(|_| (self.wants)(record.payload)) {
                None => Ok(Some(record.payload)),
                Some(body) => {
                    whole.clear();
                    whole.extend_from_slice(record.payload);
                    let read = self.read_body(shared, position, body, &mut whole)?;
                    read.map(|read| read.then_some(whole.as_slice()))
                }
            };
            self.from = position.next();
            let step = match payload {
                Ok(Some(payload)) => (self.show)(Shown::Message(RecoveredMessage {
                    position,
                    redelivered,
                    delivery_count,
                    payload,
                    body,
                })),
                // It was settled meanwhile.
                Ok(None) => ControlFlow::Continue(()),
                Err(lost) => (self.damaged)(lost),
            };
            self.whole = whole;
            if step.is_break() {
                return Ok(Step::Stopped);
            }
        }
        self.from = self.from.max(chunk.last.next());
        Ok(match (self.show)(Shown::EndOfValue(chunk.last)) {
            ControlFlow::Continue(()) => Step::All,
            ControlFlow::Break(()) => Step::Stopped,
        })
    }

    /// Appends the body of a message. False if the message has been settled meanwhile. The inner error concerns this message only.
    fn read_body(
        &mut self,
        shared: &Shared,
        position: Position,
        body: BodyId,
        whole: &mut Vec<u8>,
    ) -> Result<Result<bool, StorageError>, StorageError> {
        let lost = match self.bodies.read(shared, body, whole) {
            Ok(true) => return Ok(Ok(true)),
            Ok(false) => "it is missing".to_owned(),
            Err(StorageError::Corrupt { what }) => what,
            Err(error) => return Err(error),
        };
        let state = shared.state.lock();
        let is_live = state.queues.get(&self.queue).is_some_and(|log| log.is_live(position));
        let queue = self.queue;
        Ok(match is_live {
            false => Ok(false),
            true => Err(StorageError::corrupt(format!(
                "the body of message {position} of queue {queue}: {lost}"
            ))),
        })
    }

    fn pass_over(&mut self, chunk: &Seen, error: StorageError) -> Step {
        self.from = chunk.last.next();
        match (self.damaged)(error) {
            ControlFlow::Continue(()) => Step::All,
            ControlFlow::Break(()) => Step::Stopped,
        }
    }
}

/// Some chunks of a queue, value by value, as they were at one moment.
struct Window {
    chunks: Vec<Seen>,
    delivered: Position,
    counts: Vec<(Position, u32)>,
}

/// A chunk, or one of its values, as it was at one moment.
struct Seen {
    key: ChunkKey,
    last: Position,
    live: LiveSet,
    source: Source,
}

enum Source {
    Stored,
    Shared(SharedBytes),
    Open(Vec<u8>),
}

impl Window {
    fn take(shared: &Shared, queue: QueueId, from: Position) -> Self {
        let state = shared.state.lock();
        let Some(log) = state.queues.get(&queue) else {
            return Self {
                chunks: Vec::new(),
                delivered: Position(0),
                counts: Vec::new(),
            };
        };
        let start = log.chunks.partition_point(|chunk| chunk.last() < from);
        let mut chunks = Vec::new();
        for chunk in log.chunks.range(start..) {
            if chunks.len() >= WINDOW_VALUES {
                break;
            }
            Seen::add(log, chunk, from, &mut chunks);
        }
        let last = chunks.last().map_or(from, |chunk| chunk.last);
        let counts = match from <= last {
            true => log.counts.range((Bound::Included(from), Bound::Included(last))),
            false => Default::default(),
        };
        Self {
            delivered: log.delivered,
            counts: counts.map(|(position, count)| (*position, *count)).collect(),
            chunks,
        }
    }
}

impl Seen {
    /// Adds the values of a chunk that have something from a position on.
    fn add(log: &QueueLog, chunk: &Chunk, from: Position, seen: &mut Vec<Self>) {
        let source = || match (chunk.place(), chunk.buffer()) {
            (Place::Open, _) => Source::Open(log.open_bytes().unwrap_or_default().to_vec()),
            (_, Some(bytes)) => Source::Shared(bytes.clone()),
            (_, None) => Source::Stored,
        };
        let values = chunk.values().filter(|value| value.last >= from);
        let some = values.take(WINDOW_VALUES.saturating_sub(seen.len()));
        seen.extend(some.map(|Value { key, last, live }| Self {
            key,
            last,
            live,
            source: source(),
        }));
    }
}

/// So many values are looked up at once: enough to make one scan pay, few enough to keep the lock briefly.
const WINDOW_VALUES: usize = 64;
