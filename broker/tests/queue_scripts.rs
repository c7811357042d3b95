//! Golden scripts for the queue: every file in `scripts/queue` tells one story, named by what happens.
//!
//! A script is a list of blocks: commands, a line of dashes, the effects that must follow, an empty line. The first
//! command of a script makes the queue. `UPDATE_SCRIPTS=1` writes the effects anew, for a person to read before
//! committing them.
//!
//! ```text
//! queue [durable] [max-priority=N] [single-active] [first=POSITION]
//! recover POSITION MESSAGE [redelivered] [count=N] [until=N]       the store has it; it is paged
//! room BYTES | load [N]            what may be in memory | the store answers the oldest load, with N messages or all
//! lose MESSAGE                                                     the store cannot read it
//! delivery-limit N | delivery-limit none                           deliveries of a message that may fail
//! dead-letters                     what is given up is wanted, and read if it must be
//! retry all|failed|returned|disabled [min=N] [max=N]               which messages that come back wait
//! consumer-timeout N | consumer-timeout none                       how long consumers may have a message
//! add CONSUMER [no_ack] [exclusive] [prefetch=N] [priority=N] [timeout=N]   basic.consume; nothing is delivered yet
//! resume CONSUMER                                                  it may have messages (again)
//! consume CONSUMER ...                                             add and resume
//! refuse CONSUMER | allow CONSUMER                                 from now on its outbox is full | has room
//! cancel CONSUMER | consumers          who is active
//! publish MESSAGE ...              NAME, NAME! is persistent, NAME:5 has a body of 5 bytes, NAME~9 expires after 9 ms, NAME^3 has priority 3
//! ttl N | ttl none | at N          how long messages live that are published from now on | the time is N ms
//! search [N]                       the store answers the search for what has expired on disk, with N messages or all
//! max [length=N] [bytes=N] [refuse] [refuse-dlx]   how long the queue may get, and whether it refuses what is too much
//! due                              the queue does what it has to do by itself; after each command it releases what it gave up
//! ack MESSAGE ... | requeue MESSAGE ... [failed] | reject MESSAGE ...
//! get [no_ack] | purge | delete | counts | totals | whereabouts
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a script that cannot be replayed fails its test"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use leveret::queue::{
    Accept, ConsumerKey, ConsumerSpec, DelayedRetry, Delivery, DropReason, ExpiresAt, Found, GetOutcome, History,
    LengthLimit, Load, Loaded, NO_SLOT, Overflow, Position, Queue, QueueMessage, QueueOptions, Recovered, RetryDelay,
    Search, Sink, Slot,
};

#[test]
fn every_queue_script_has_the_effects_it_tells() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/queue");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let replayed = replay(&script);
        if update {
            fs::write(&path, &replayed).unwrap();
        }
        assert!(
            update || script == replayed,
            "{} differs; it should be:\n\n{replayed}",
            path.display()
        );
    }
}

/// The script with the effects that its commands really have.
fn replay(script: &str) -> String {
    let mut runner = Runner::default();
    let mut output = String::new();
    let mut in_effects = false;
    for line in script.lines() {
        if line == DASHES {
            in_effects = true;
            let effects = runner.take_effects();
            writeln!(output, "{DASHES}\n{effects}").unwrap();
        } else if line.is_empty() {
            in_effects = false;
        } else if !in_effects {
            writeln!(output, "{line}").unwrap();
            if !line.starts_with('#') {
                runner.run(line);
            }
        }
    }
    assert!(
        runner.world.effects.is_empty(),
        "commands without a line of dashes at the end"
    );
    output.truncate(output.trim_end().len());
    output + "\n"
}

const DASHES: &str = "----";

#[derive(Clone)]
struct Message {
    name: Arc<str>,
    body_len: usize,
    persistent: bool,
    priority: u8,
    time_to_live: Option<u64>,
}

impl Message {
    /// `NAME`, `NAME!`, `NAME:5`, `NAME:5!`, `NAME:5!~9`
    fn parse(word: &str) -> Self {
        let (word, priority) = word
            .split_once('^')
            .map_or((word, 0), |(word, priority)| (word, priority.parse().unwrap()));
        let (word, time_to_live) = word
            .split_once('~')
            .map_or((word, None), |(word, millis)| (word, Some(millis.parse().unwrap())));
        let (word, persistent) = word.strip_suffix('!').map_or((word, false), |word| (word, true));
        let (name, body_len) = word
            .split_once(':')
            .map_or((word, 1), |(name, len)| (name, len.parse().unwrap()));
        Self {
            name: name.into(),
            body_len,
            persistent,
            priority,
            time_to_live,
        }
    }
}

impl QueueMessage for Message {
    fn body_len(&self) -> usize {
        self.body_len
    }

    fn is_persistent(&self) -> bool {
        self.persistent
    }

    fn priority(&self) -> u8 {
        self.priority
    }

    fn memory_size(&self) -> usize {
        self.body_len + 100
    }

    fn time_to_live_millis(&self) -> Option<u64> {
        self.time_to_live
    }
}

/// All that is outside the queue.
#[derive(Default)]
struct World {
    effects: String,
    refusing: BTreeSet<String>,
    /// Where each message was last seen on its way out.
    handed_out: BTreeMap<String, (Slot, Position)>,
    persisted: BTreeMap<Position, (Message, History)>,
    spilled: BTreeMap<Position, (Message, History)>,
    loads: VecDeque<Load>,
    search: Option<Search>,
    now: u64,
}

impl World {
    fn say(&mut self, effect: impl AsRef<str>) {
        writeln!(self.effects, "{}", effect.as_ref().trim_end()).unwrap();
    }

    fn name(&self, position: Position) -> String {
        self.persisted[&position].0.name.to_string()
    }

    /// What the store has of a range, in order.
    fn stored(&self, range: std::ops::Range<Position>) -> Vec<(Position, History, Message)> {
        let persisted = self.persisted.range(range.clone());
        let persisted = persisted.map(|(position, (message, history))| (*position, *history, message.clone()));
        let spilled = self.spilled.range(range);
        let spilled = spilled.map(|(position, (message, history))| (*position, *history, message.clone()));
        let mut messages: Vec<_> = persisted.chain(spilled).collect();
        messages.sort_by_key(|(position, ..)| *position);
        messages
    }

    /// The first messages of a load.
    fn read(&self, load: Load, count: usize) -> Loaded<Message> {
        let mut messages = self.stored(load.from..load.until);
        messages.retain(|(.., message)| load.wants(message));
        let until = messages.get(count).map_or(load.until, |(position, ..)| *position);
        messages.truncate(count);
        Loaded { messages, until }
    }
}

impl Sink<Message, String> for World {
    fn now_millis(&mut self) -> u64 {
        self.now
    }

    fn deliver(&mut self, consumer: &String, delivery: Delivery<'_, Message>) -> Accept {
        let name = &delivery.message.name;
        if self.refusing.contains(consumer) {
            self.say(format!("{consumer} refuses {name}"));
            return Accept::Refused;
        }
        assert_eq!(delivery.no_ack, delivery.slot == NO_SLOT);
        self.say(format!(
            "{consumer} <- {name}{}",
            history(delivery.redelivered, delivery.delivery_count)
        ));
        self.handed_out
            .insert(name.to_string(), (delivery.slot, delivery.position));
        Accept::Taken
    }

    fn persist(&mut self, position: Position, message: &Message, expires_at: ExpiresAt) {
        self.say(format!(
            "persist {} at {}{}",
            message.name,
            position.0,
            until(expires_at)
        ));
        assert!(
            self.persisted.last_key_value().is_none_or(|(last, _)| *last < position),
            "positions rise"
        );
        self.persisted.insert(position, (message.clone(), expiring(expires_at)));
    }

    fn spill(&mut self, position: Position, message: &Message, expires_at: ExpiresAt) {
        self.say(format!("spill {} at {}{}", message.name, position.0, until(expires_at)));
        self.spilled.insert(position, (message.clone(), expiring(expires_at)));
    }

    fn search(&mut self, search: Search) {
        self.say(format!("search from {} until {}", search.from.0, search.until.0));
        assert!(self.search.replace(search).is_none(), "one search at a time");
    }

    fn settle_spilled(&mut self, position: Position, message: &Message) {
        let (spilled, _) = self.spilled.remove(&position).unwrap();
        assert_eq!(spilled.name, message.name);
        self.say(format!("settle spilled {}", message.name));
    }

    fn load(&mut self, load: Load) {
        self.say(format!("load from {} until {}", load.from.0, load.until.0));
        self.loads.push_back(load);
    }

    fn purge(&mut self, below: Position, kept: Vec<(Position, usize)>) {
        let kept: BTreeSet<_> = kept.into_iter().map(|(position, _)| position).collect();
        let names: Vec<_> = kept.iter().map(|position| self.name(*position)).collect();
        let but = if names.is_empty() {
            String::new()
        } else {
            format!(" but {}", names.join(" "))
        };
        self.say(format!("purge below {}{but}", below.0));
        self.persisted
            .retain(|position, _| *position >= below || kept.contains(position));
        self.spilled.retain(|position, _| *position >= below);
    }

    fn late(&mut self, consumer: &String, slot: Slot, position: Position) {
        let handed_out = self.handed_out.iter();
        let name = handed_out
            .filter(|(_, place)| **place == (slot, position))
            .map(|(name, _)| name.clone())
            .collect::<String>();
        self.say(format!("{consumer} is late with {name}"));
    }

    fn settle(&mut self, position: Position, body_len: usize) {
        let (persisted, _) = self.persisted.remove(&position).unwrap();
        assert_eq!(persisted.body_len, body_len);
        self.say(format!("settle {}", persisted.name));
    }

    fn delivered_up_to(&mut self, position: Position) {
        let name = self.name(position);
        self.say(format!("delivered up to {name}"));
    }

    fn requeued(&mut self, position: Position, delivery_count: u32) {
        let name = self.name(position);
        self.say(format!("requeued {name} count={delivery_count}"));
    }

    fn dropped(&mut self, message: Message, reason: DropReason) {
        self.say(format!("dropped {} {reason:?}", message.name));
    }
}

fn expiring(expires_at: ExpiresAt) -> History {
    History {
        expires_at,
        ..History::default()
    }
}

fn until(expires_at: ExpiresAt) -> String {
    expires_at.map_or(String::new(), |at| format!(" until {at}"))
}

fn history(redelivered: bool, delivery_count: u32) -> String {
    let mut text = String::new();
    if redelivered {
        text += " redelivered";
    }
    if delivery_count > 0 {
        text += &format!(" count={delivery_count}");
    }
    text
}

#[derive(Default)]
struct Runner {
    queue: Option<Queue<Message, String>>,
    keys: BTreeMap<String, ConsumerKey>,
    world: World,
}

impl Runner {
    fn take_effects(&mut self) -> String {
        std::mem::take(&mut self.world.effects)
    }

    fn run(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        let words = Words(words.collect());
        match command {
            "queue" => {
                let first_position = Position(words.value("first").unwrap_or(0));
                self.queue = Some(Queue::new(QueueOptions {
                    durable: words.has("durable"),
                    max_priority: words.value("max-priority").unwrap_or(0),
                    single_active_consumer: words.has("single-active"),
                    first_position,
                }));
            }
            "recover" => self.recover(&words),
            "lose" => self
                .world
                .persisted
                .retain(|_, (message, _)| *message.name != *words.0[0]),
            "ttl" => self.queue.as_mut().unwrap().set_message_ttl(words.0[0].parse().ok()),
            "max" => {
                let overflow = match (words.has("refuse"), words.has("refuse-dlx")) {
                    (true, _) => Overflow::RejectPublish,
                    (_, true) => Overflow::RejectPublishDlx,
                    _ => Overflow::DropHead,
                };
                let limit = LengthLimit {
                    messages: words.value("length"),
                    bytes: words.value("bytes"),
                    overflow,
                };
                self.queue.as_mut().unwrap().limit_length(limit, &mut self.world);
            }
            "at" => self.world.now = words.0[0].parse().unwrap(),
            "due" => {
                let queue = self.queue.as_mut().unwrap();
                match queue.next_due_millis() {
                    due if due > self.world.now => self.world.say("nothing is due"),
                    _ => queue.do_what_is_due(&mut self.world),
                }
            }
            "room" => self.queue.as_mut().unwrap().allow(words.0[0].parse::<u64>().unwrap()),
            "load" => self.load(&words),
            "search" => self.search(&words),
            "retry" => self.queue.as_mut().unwrap().delay_retries(RetryDelay {
                kind: match words.0[0] {
                    "all" => DelayedRetry::All,
                    "failed" => DelayedRetry::Failed,
                    "returned" => DelayedRetry::Returned,
                    _ => DelayedRetry::Disabled,
                },
                min_millis: words.value("min").unwrap_or(0),
                max_millis: words.value("max"),
            }),
            "consumer-timeout" => self
                .queue
                .as_mut()
                .unwrap()
                .set_consumer_timeout(words.0[0].parse().ok()),
            "dead-letters" => self.queue.as_mut().unwrap().want_dead_letters(true),
            "delivery-limit" => self.queue.as_mut().unwrap().limit_deliveries(words.0[0].parse().ok()),
            "add" => self.add(&words),
            "resume" => self.resume(words.0[0]),
            "consume" => {
                self.add(&words);
                self.resume(words.0[0]);
            }
            "refuse" => assert!(self.world.refusing.insert(words.0[0].to_owned())),
            "allow" => assert!(self.world.refusing.remove(words.0[0])),
            "cancel" => self.cancel(words.0[0]),
            "consumers" => self.consumers(),
            "publish" => self.publish(&words),
            "ack" | "requeue" | "reject" => self.settle(command, &words),
            "get" => self.get(words.has("no_ack")),
            "purge" => {
                let count = self.queue.as_mut().unwrap().purge(&mut self.world);
                self.world.say(format!("purged {count}"));
            }
            "delete" => self.delete(),
            "counts" => self.world.say(format!("{:?}", self.queue.as_ref().unwrap().counts())),
            "totals" => self.world.say(format!("{:?}", self.queue.as_ref().unwrap().totals())),
            "whereabouts" => self
                .world
                .say(format!("{:?}", self.queue.as_ref().unwrap().whereabouts())),
            unknown => panic!("unknown command {unknown}"),
        }
        self.queue.as_mut().unwrap().release_given_up(&mut self.world);
    }

    fn recover(&mut self, words: &Words<'_>) {
        let position = Position(words.0[0].parse().unwrap());
        let message = Message {
            persistent: true,
            ..Message::parse(words.0[1])
        };
        let history = History {
            redelivered: words.has("redelivered"),
            delivery_count: words.value("count").unwrap_or(0),
            expires_at: words.value("until").and_then(NonZeroU64::new),
        };
        self.queue.as_mut().unwrap().recover(Recovered {
            priority: message.priority,
            from: position,
            until: Position(position.0 + 1),
            count: 1,
            body_bytes: message.body_len as u64,
            expires_at: history.expires_at,
            delivered_up_to: history.redelivered.then_some(position),
        });
        self.world.persisted.insert(position, (message, history));
    }

    fn load(&mut self, words: &Words<'_>) {
        let Some(load) = self.world.loads.pop_front() else {
            return self.world.say("nobody wants a load");
        };
        let count = words.0.first().map_or(usize::MAX, |word| word.parse().unwrap());
        let loaded = self.world.read(load, count);
        self.queue.as_mut().unwrap().loaded(load, loaded, &mut self.world);
    }

    fn search(&mut self, words: &Words<'_>) {
        let Some(search) = self.world.search.take() else {
            return self.world.say("nobody wants a search");
        };
        let paged = self.world.stored(search.from..search.until).into_iter();
        let expires = |history: &History| history.expires_at.map_or(u64::MAX, NonZeroU64::get);
        let (found, others): (Vec<_>, Vec<_>) =
            paged.partition(|(_, history, _)| expires(history) <= search.now_millis);
        let count = words.0.first().map_or(usize::MAX, |word| word.parse().unwrap());
        let left = found.iter().skip(count).chain(&others);
        let found = Found {
            search,
            next_millis: left.map(|(_, history, _)| expires(history)).min().unwrap_or(u64::MAX),
            messages: found
                .into_iter()
                .take(count)
                .map(|(position, _, message)| (position, message))
                .collect(),
        };
        if !self.queue.as_mut().unwrap().found(found, &mut self.world) {
            self.world.say("the search comes at a bad time");
        }
    }

    fn add(&mut self, words: &Words<'_>) {
        let name = words.0[0];
        let spec = ConsumerSpec {
            handle: name.to_owned(),
            no_ack: words.has("no_ack"),
            prefetch_count: words.value("prefetch").unwrap_or(0),
            exclusive: words.has("exclusive"),
            priority: words.value("priority").unwrap_or(0),
            timeout_millis: words.value("timeout"),
        };
        match self.queue.as_mut().unwrap().add_consumer(spec) {
            Ok(key) => drop(self.keys.insert(name.to_owned(), key)),
            Err(error) => self.world.say(format!("{name}: {error}")),
        }
    }

    fn resume(&mut self, name: &str) {
        if let Some(key) = self.keys.get(name) {
            self.queue.as_mut().unwrap().resume(*key, &mut self.world);
        }
    }

    /// Keeps the key, so that a script can show that a key outlives its consumer without harm.
    fn cancel(&mut self, name: &str) {
        match self
            .queue
            .as_mut()
            .unwrap()
            .remove_consumer(self.keys[name], &mut self.world)
        {
            Some(removed) if removed.was_last => self.world.say(format!("{} gone, it was the last", removed.handle)),
            Some(removed) => self.world.say(format!("{} gone", removed.handle)),
            None => self.world.say(format!("{name} is not there")),
        }
    }

    fn consumers(&mut self) {
        let views = self.queue.as_ref().unwrap().consumers();
        let told: Vec<_> = views
            .map(|view| format!("{} {:?}", view.spec.handle, view.activity))
            .collect();
        self.world.say(told.join(", "));
    }

    fn publish(&mut self, words: &Words<'_>) {
        let messages = words.0.iter().map(|word| Message::parse(word));
        let outcome = self.queue.as_mut().unwrap().publish(messages, &mut self.world);
        if outcome.accepted != words.0.len() {
            self.world.say(format!("{outcome:?}"));
        }
    }

    fn settle(&mut self, command: &str, words: &Words<'_>) {
        let names = words.0.iter().filter(|word| **word != "failed");
        let messages: Vec<_> = names
            .map(|name| self.world.handed_out.get(*name).copied().unwrap_or((7, Position(7))))
            .collect();
        let queue = self.queue.as_mut().unwrap();
        let unknown = match command {
            "ack" => queue.ack(messages, &mut self.world),
            "requeue" => queue.requeue(messages, words.has("failed"), &mut self.world),
            _ => queue.reject(messages, &mut self.world),
        };
        if unknown > 0 {
            self.world.say(format!("{unknown} unknown"));
        }
    }

    fn get(&mut self, no_ack: bool) {
        match self.queue.as_mut().unwrap().get(no_ack, &mut self.world) {
            Ok(GetOutcome::Empty) => self.world.say("empty"),
            Ok(GetOutcome::Loading) => self.world.say("loading"),
            Ok(GetOutcome::Got(got)) => {
                assert_eq!(no_ack, got.slot == NO_SLOT);
                self.world
                    .handed_out
                    .insert(got.message.name.to_string(), (got.slot, got.position));
                let history = history(got.redelivered, got.delivery_count);
                self.world
                    .say(format!("got {}{history}, {} ready", got.message.name, got.ready));
            }
            Err(error) => self.world.say(error.to_string()),
        }
    }

    fn delete(&mut self) {
        let mut deleted = self.queue.as_mut().unwrap().delete();
        deleted.consumers.sort();
        self.world.say(format!("{deleted:?}"));
    }
}

/// The words after a command.
struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn value<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let text = self
            .0
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        text.parse().ok()
    }
}
