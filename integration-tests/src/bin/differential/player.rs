//! Plays a sequence at one broker.
//!
//! A broker answers some things at once and others when it comes to them. So after each step everything is brought to rest:
//! every channel gives a sign that it has handled what came before, every queue is asked for its counts (which it answers
//! after it has handled what the channels sent it), and again, until a round brings nothing new.

use crate::features::LEASE_MILLIS;
use crate::link::{Link, Record};
use crate::names::Names;
use crate::operations::{Odd, Operation, Request, Step};
use crate::outcome::{Outcome, Stream};
use crate::policies;
use crate::values::{EXCHANGES, PLUGIN_EXCHANGES};
use leveret_integration_tests::raw::{AMQPClass, ShortString, basic, channel, connection, exchange, make, queue};
use leveret_integration_tests::scrape;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections of a sequence; one more belongs to the player itself.
pub const CONNECTIONS: usize = 2;
const OBSERVER: usize = CONNECTIONS;

/// The channel on which a connection is asked about queues. No step uses it.
const PROBE: u16 = 9;

/// Longer than a lease.
const LONG_REST: Duration = Duration::from_millis(LEASE_MILLIS as u64 + 700);

/// Rounds after which a broker counts as one that never rests.
const ROUNDS_MAX: usize = 20;

/// Where a broker listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub amqp: SocketAddr,
    /// Of the management API.
    pub management: SocketAddr,
}

/// A virtual host of a broker, in which one sequence is played at a time.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    pub addresses: Addresses,
    pub virtual_host: &'a str,
}

impl Stage<'_> {
    /// The status with which the management API answers guest.
    pub fn status_of(&self, request: &Request) -> String {
        let path = request.path.replace(policies::VIRTUAL_HOST, self.virtual_host);
        let headers = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\n";
        let (head, _) = scrape::ask(self.addresses.management, request.method, &path, headers, &request.body);
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

pub struct Player<'a> {
    stage: Stage<'a>,
    links: Vec<Option<Link>>,
    record: Record,
}

/// Plays `steps` from an empty virtual host to an empty virtual host: one outcome for each, and one for what is left at the end.
pub fn play(stage: Stage, steps: &[Step]) -> Vec<Outcome> {
    let mut player = Player {
        stage,
        links: (0..=CONNECTIONS).map(|_| None).collect(),
        record: Record::default(),
    };
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(steps.len() + 1);
    for step in steps {
        outcomes.push(player.take_step(step));
    }
    let rest = steps.iter().map(|step| step.rest).max().unwrap_or_default();
    outcomes.push(player.finish(rest));
    let asked = steps.iter().any(|step| matches!(step.operation, Operation::Request(_)));
    player.clean_up(policies::clear_all().filter(|_| asked));
    outcomes
}

impl Player<'_> {
    fn take_step(&mut self, step: &Step) -> Outcome {
        self.record.step += 1;
        match &step.operation {
            Operation::Request(request) => self.ask(request),
            Operation::Rest => std::thread::sleep(LONG_REST),
            _ => self.act(step),
        }
        std::thread::sleep(step.rest);
        self.settle()
    }

    /// Sends a request of the management API.
    fn ask(&mut self, request: &Request) {
        let status = self.stage.status_of(request);
        self.record.tell("management", Stream::Replies, &status);
    }

    fn act(&mut self, step: &Step) {
        self.link(step.connection);
        if step.operation.endangers_connection() || self.reuses_tag(step) {
            self.close_channels_of(step.connection, Some(step.channel));
        }
        self.with_link(step.connection, |link, record| {
            link.ensure_open(step.channel, record);
            perform(link, step, record);
        });
    }

    /// The connection of that number, opened if need be.
    fn link(&mut self, index: usize) -> &mut Link {
        let link = &mut self.links[index];
        if link.as_ref().is_none_or(|link| !link.alive) {
            *link = None;
            // What only the lost connection could use went with it.
            self.record.queues.retain(|_, owner| *owner != Some(index));
        }
        link.get_or_insert_with(|| Link::connect(index, self.stage))
    }

    fn with_link<T>(&mut self, index: usize, act: impl FnOnce(&mut Link, &mut Record) -> T) -> Option<T> {
        self.links[index].as_mut().map(|link| act(link, &mut self.record))
    }

    /// A consumer tag that is in use costs the connection.
    fn reuses_tag(&self, step: &Step) -> bool {
        let Operation::Method(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) = &step.operation else {
            return false;
        };
        let channel = self.links[step.connection]
            .as_ref()
            .and_then(|link| link.channels.get(&step.channel));
        channel.is_some_and(|channel| channel.consumers.contains_key(consume.consumer_tag.as_str()))
    }

    /// Closes the channels of a connection one after the other, so that their messages return in a known order.
    fn close_channels_of(&mut self, index: usize, except: Option<u16>) {
        let Some(link) = &self.links[index] else { return };
        let channels: Vec<u16> = link.channels.keys().copied().filter(|it| Some(*it) != except).collect();
        for number in channels {
            self.with_link(index, |link, record| close_channel(link, number, record));
            self.settle_rounds();
        }
    }

    /// Waits until nothing moves, and says what was seen since the last step.
    fn settle(&mut self) -> Outcome {
        let queues = self.settle_rounds();
        for link in self.links.iter_mut().flatten() {
            link.finish_step();
        }
        Outcome::of(std::mem::take(&mut self.record.events), queues)
    }

    fn settle_rounds(&mut self) -> Vec<String> {
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            let events = self.record.events.len();
            for link in self.links.iter_mut().flatten() {
                link.synchronise(&mut self.record);
                link.read_confirms(&mut self.record);
            }
            let queues = self.observe();
            if self.record.events.len() == events && last.as_ref() == Some(&queues) {
                return queues;
            }
            last = Some(queues);
        }
        self.record.tell("all", Stream::Strange, "it does not come to rest");
        last.unwrap_or_default()
    }

    /// Asks for the counts of every queue that may be there; those that are gone are forgotten.
    fn observe(&mut self) -> Vec<String> {
        self.link(OBSERVER);
        let mut counts = BTreeMap::new();
        let queues: Vec<(String, usize)> = self
            .record
            .queues
            .iter()
            .map(|(name, owner)| (name.clone(), owner.unwrap_or(OBSERVER)))
            .collect();
        for (name, owner) in queues {
            let shown = self.record.names.mask(&name);
            let answer = self
                .with_link(owner, |link, record| probe(link, &name, record))
                .flatten();
            match answer {
                Some(answer) => drop(counts.insert(shown, answer)),
                None => drop(self.record.queues.remove(&name)),
            }
        }
        counts
            .into_iter()
            .map(|(name, (ready, consumers))| format!("{name} has {ready} ready, {consumers} consumers"))
            .collect()
    }

    /// Ends all connections and takes what is left in the queues.
    fn finish(&mut self, rest: Duration) -> Outcome {
        for index in 0..CONNECTIONS {
            self.close_channels_of(index, None);
            self.with_link(index, close_connection);
            self.links[index] = None;
            self.record.queues.retain(|_, owner| *owner != Some(index));
        }
        std::thread::sleep(rest);
        self.settle_rounds();
        let names = &self.record.names;
        let mut queues: Vec<(String, String)> = self
            .record
            .queues
            .keys()
            .map(|it| (names.mask(it), it.clone()))
            .collect();
        queues.sort();
        self.link(OBSERVER);
        for (shown, name) in queues {
            self.record.tell("end", Stream::Replies, &format!("in {shown}:"));
            self.with_link(OBSERVER, |link, record| drain(link, &name, record));
        }
        for (name, _) in EXCHANGES {
            self.record.tell("end", Stream::Replies, &format!("exchange {name}:"));
            self.with_link(OBSERVER, |link, record| ask_for_exchange(link, name, record));
        }
        let events = std::mem::take(&mut self.record.events);
        Outcome::of(events, Vec::new())
    }

    /// Deletes every queue and exchange that a sequence can leave behind.
    fn clean_up(mut self, requests: impl Iterator<Item = Request>) {
        for request in requests {
            self.stage.status_of(&request);
        }
        let queues: Vec<String> = self.record.queues.keys().cloned().collect();
        self.link(OBSERVER);
        self.with_link(OBSERVER, |link, record| {
            link.ensure_open(PROBE, record);
            for name in queues {
                link.call(
                    PROBE,
                    AMQPClass::Queue(queue::AMQPMethod::Delete(make::queue_delete(&name))),
                    record,
                );
            }
            for (name, _) in EXCHANGES.iter().chain(&PLUGIN_EXCHANGES) {
                let delete = exchange::AMQPMethod::Delete(make::exchange_delete(name));
                link.call(PROBE, AMQPClass::Exchange(delete), record);
            }
            close_connection(link, record);
        });
    }
}

fn perform(link: &mut Link, step: &Step, record: &mut Record) {
    match &step.operation {
        Operation::Method(method) => {
            let method = resolved(method.clone(), &record.names);
            note_queue(&method, step.connection, record);
            let number = match method {
                AMQPClass::Connection(_) => 0,
                _ => step.channel,
            };
            link.send(number, method);
            if step.operation.is_answered() {
                link.read_until_answered(step.channel, record);
            }
        }
        Operation::Publish {
            publish,
            properties,
            body,
        } => {
            let mut publish = publish.clone();
            publish.routing_key = resolved_name(&publish.routing_key, &record.names);
            link.publish(step.channel, publish, (**properties).clone(), body);
        }
        Operation::Settle(settle) => link.settle(step.channel, settle),
        Operation::Odd(odd) => perform_odd(link, step.channel, odd),
        Operation::Request(_) | Operation::Rest => {}
        Operation::CloseChannel => close_channel(link, step.channel, record),
        Operation::CloseConnection => {
            close_channel(link, step.channel, record);
            close_connection(link, record);
        }
    }
}

fn perform_odd(link: &mut Link, channel: u16, odd: &Odd) {
    for (kind, payload) in &odd.frames {
        link.send_frame(*kind, odd.channel.unwrap_or(channel), payload);
    }
}

fn close_channel(link: &mut Link, number: u16, record: &mut Record) {
    if link.is_open(number) {
        let close = channel::Close {
            reply_code: 200,
            reply_text: "OK".into(),
            ..Default::default()
        };
        link.call(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)), record);
    }
}

fn close_connection(link: &mut Link, record: &mut Record) {
    if link.alive {
        let close = connection::Close {
            reply_code: 200,
            reply_text: "OK".into(),
            ..Default::default()
        };
        link.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)));
        link.read_to_end(record);
    }
}

/// Ready messages and consumers of a queue, if it is there. What this brings is no event.
fn probe(link: &mut Link, name: &str, record: &mut Record) -> Option<(u32, u32)> {
    link.ensure_open(PROBE, record);
    let declare = make::queue_declare_passive(name);
    let probe = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
    link.call(PROBE, probe, record);
    let mut counts = None;
    let place = link.place(PROBE);
    let said = std::mem::take(&mut record.events);
    for event in said {
        if event.place == place {
            counts = counts.or_else(|| counts_of(&event.text));
        } else {
            record.events.push(event);
        }
    }
    counts
}

fn counts_of(declare_ok: &str) -> Option<(u32, u32)> {
    let number = |name: &str| {
        let (_, rest) = declare_ok.split_once(&format!(" {name}="))?;
        rest.split(' ').next()?.parse().ok()
    };
    Some((number("messages")?, number("consumers")?))
}

/// Asks whether an exchange is there.
fn ask_for_exchange(link: &mut Link, name: &str, record: &mut Record) {
    link.ensure_open(PROBE, record);
    let declare = exchange::Declare {
        passive: true,
        ..make::exchange_declare(name, "direct")
    };
    link.call(
        PROBE,
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)),
        record,
    );
    if let Some(event) = record.events.last_mut() {
        event.place = "end".into();
        event.stream = Stream::Replies;
    }
}

/// Gets everything from a queue, in order.
fn drain(link: &mut Link, name: &str, record: &mut Record) {
    link.ensure_open(PROBE, record);
    loop {
        let get = basic::Get {
            queue: name.into(),
            no_ack: true,
        };
        link.call(PROBE, AMQPClass::Basic(basic::AMQPMethod::Get(get)), record);
        if let Some(event) = record.events.last_mut() {
            event.place = "end".into();
            if !event.text.starts_with("basic.get-ok") {
                return;
            }
        }
    }
}

/// A queue that is declared without an answer may be there afterwards.
fn note_queue(method: &AMQPClass, connection: usize, record: &mut Record) {
    if let AMQPClass::Queue(queue::AMQPMethod::Declare(it)) = method
        && it.nowait
        && !it.passive
        && !it.queue.as_str().is_empty()
    {
        let owner = it.exclusive.then_some(connection);
        record.queues.entry(it.queue.to_string()).or_insert(owner);
    }
}

/// `method` with the queue that it means at this broker.
fn resolved(mut method: AMQPClass, names: &Names) -> AMQPClass {
    let name = match &mut method {
        AMQPClass::Queue(queue::AMQPMethod::Declare(it)) => &mut it.queue,
        AMQPClass::Queue(queue::AMQPMethod::Bind(it)) => &mut it.queue,
        AMQPClass::Queue(queue::AMQPMethod::Unbind(it)) => &mut it.queue,
        AMQPClass::Queue(queue::AMQPMethod::Purge(it)) => &mut it.queue,
        AMQPClass::Queue(queue::AMQPMethod::Delete(it)) => &mut it.queue,
        AMQPClass::Basic(basic::AMQPMethod::Consume(it)) => &mut it.queue,
        AMQPClass::Basic(basic::AMQPMethod::Get(it)) => &mut it.queue,
        _ => return method,
    };
    *name = resolved_name(name, names);
    method
}

fn resolved_name(name: &ShortString, names: &Names) -> ShortString {
    names.resolve(name.as_str()).as_str().into()
}

/// What a step is called in a transcript.
pub fn titles(steps: &[Step]) -> Vec<String> {
    let end = std::iter::once("the end: what is left in the queues".to_owned());
    steps.iter().map(Step::to_string).chain(end).collect()
}
