//! One connection to a broker: what was sent on its channels, what came, and what a client knows of it.

use crate::describe;
use crate::names::Names;
use crate::operations::{Pick, Settle, Verb};
use crate::outcome::{Event, Stream};
use crate::player::Stage;
use leveret_integration_tests::raw::{
    AMQPClass, AMQPContentHeader, AMQPFrame, Login, RawClient, Received, basic, channel, confirm, connection, queue, tx,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a broker may take to answer before it counts as silent.
const SILENCE: Duration = Duration::from_secs(10);

/// A tag that no sequence is long enough to reach.
const UNKNOWN_TAG: u64 = 1000;

/// What is known about all connections of a player.
#[derive(Debug, Default)]
pub struct Record {
    pub events: Vec<Event>,
    pub names: Names,
    /// The queues there may be, with the connection that alone may use each.
    pub queues: BTreeMap<String, Option<usize>>,
    /// Number of the step that is being played.
    pub step: usize,
}

pub struct Link {
    index: usize,
    raw: RawClient,
    pub channels: BTreeMap<u16, Channel>,
    pub alive: bool,
}

/// A channel that is open.
#[derive(Debug, Default)]
pub struct Channel {
    /// Whether the method sent last has been answered.
    answered: bool,
    /// flow-ok that are still to come for our own channel.flow.
    flows_due: usize,
    content: Option<Content>,
    /// In order of their steps; within a step by consumer, because there the tags have no order.
    unacked: Vec<Delivery>,
    fresh: Vec<Delivery>,
    /// A tag that was settled, if it is the same at all brokers.
    settled: Option<u64>,
    last_tag: u64,
    /// The consumer of direct replies, and whether a reply was delivered last.
    reply_consumer: Option<String>,
    after_reply: bool,
    /// Settled in a transaction that is still open.
    held: Vec<Delivery>,
    transactional: bool,
    confirms: Option<Confirms>,
    /// By consumer tag: whether it acknowledges nothing.
    pub consumers: BTreeMap<String, bool>,
    asked: Asked,
}

/// What the request on its way will mean when it is answered.
#[derive(Debug, Default)]
struct Asked {
    no_ack: bool,
    exclusive: bool,
    replies: bool,
}

#[derive(Debug, Default)]
struct Confirms {
    published: u64,
    waiting: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Delivery {
    tag: u64,
    step: usize,
    /// What puts the deliveries of one step in order.
    consumer: String,
}

#[derive(Debug)]
struct Content {
    method: basic::AMQPMethod,
    header: Option<AMQPContentHeader>,
    body: Vec<u8>,
}

impl Link {
    /// Logs in. The first connection wants to be told of cancelled consumers, the others do not.
    pub fn connect(index: usize, stage: Stage) -> Self {
        let login = Login::of("guest", "guest", stage.virtual_host);
        let login = match index {
            0 => login.with_capability("consumer_cancel_notify"),
            _ => login,
        };
        Self {
            index,
            raw: RawClient::connect_as(stage.addresses.amqp, &login),
            channels: BTreeMap::new(),
            alive: true,
        }
    }

    pub fn is_open(&self, channel: u16) -> bool {
        self.alive && self.channels.contains_key(&channel)
    }

    /// Opens `number` unless it is open.
    pub fn ensure_open(&mut self, number: u16, record: &mut Record) {
        if self.channels.contains_key(&number) {
            return;
        }
        self.channels.insert(number, Channel::default());
        self.raw.send(number, channel::Open {});
        self.read_until_answered(number, record);
        // That answer is ours and says nothing.
        record.events.retain(|event| event.text != "channel.open-ok");
    }

    /// Sends a method on a channel; what it means for the client is kept until the answer.
    pub fn send(&mut self, number: u16, method: AMQPClass) {
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.answered = false;
            match &method {
                AMQPClass::Queue(queue::AMQPMethod::Declare(it)) => {
                    channel.asked.exclusive = it.exclusive && !it.passive;
                }
                AMQPClass::Basic(basic::AMQPMethod::Consume(it)) => {
                    channel.asked.no_ack = it.no_ack;
                    channel.asked.replies = it.queue.as_str() == "amq.rabbitmq.reply-to";
                    if it.nowait {
                        channel.consumers.insert(it.consumer_tag.to_string(), it.no_ack);
                    }
                }
                AMQPClass::Basic(basic::AMQPMethod::Cancel(it)) if it.nowait => {
                    channel.consumers.remove(it.consumer_tag.as_str());
                }
                AMQPClass::Basic(basic::AMQPMethod::Get(it)) => channel.asked.no_ack = it.no_ack,
                AMQPClass::Basic(basic::AMQPMethod::RecoverAsync(_)) => channel.unacked.clear(),
                AMQPClass::Confirm(confirm::AMQPMethod::Select(it)) if it.nowait => {
                    channel.confirms.get_or_insert_default();
                }
                _ => {}
            }
        }
        self.raw.send(number, method);
    }

    pub fn publish(
        &mut self,
        number: u16,
        publish: basic::Publish,
        properties: leveret_integration_tests::raw::BasicProperties,
        body: &[u8],
    ) {
        if let Some(confirms) = self
            .channels
            .get_mut(&number)
            .and_then(|channel| channel.confirms.as_mut())
        {
            confirms.published += 1;
            confirms.waiting.insert(confirms.published);
        }
        self.raw.publish(number, publish, properties, body);
    }

    pub fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.raw.send_frame(kind, channel, payload);
    }

    pub fn settle(&mut self, number: u16, settle: &Settle) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let delivery_tag = channel.take_tag(settle);
        let multiple = settle.multiple;
        match settle.verb {
            Verb::Ack => self.raw.send(number, basic::Ack { delivery_tag, multiple }),
            Verb::Nack { requeue } => self.raw.send(
                number,
                basic::Nack {
                    delivery_tag,
                    multiple,
                    requeue,
                },
            ),
            Verb::Reject { requeue } => self.raw.send(number, basic::Reject { delivery_tag, requeue }),
        }
    }

    /// Sends a request and reads its answer.
    pub fn call(&mut self, number: u16, request: AMQPClass, record: &mut Record) {
        self.send(number, request);
        self.read_until_answered(number, record);
    }

    /// Asks every channel for a sign that it has handled all that was sent, and reads until all have given it.
    pub fn synchronise(&mut self, record: &mut Record) {
        if !self.alive {
            return;
        }
        for (number, channel) in &mut self.channels {
            channel.flows_due += 1;
            self.raw.send(*number, channel::Flow { active: true });
        }
        self.read_while(record, |link| {
            link.channels.values().any(|channel| channel.flows_due > 0)
        });
    }

    /// Reads until everything that was published on a channel in confirm mode is confirmed.
    pub fn read_confirms(&mut self, record: &mut Record) {
        let waiting = |channel: &Channel| channel.confirms.as_ref().is_some_and(|it| !it.waiting.is_empty());
        self.read_while(record, |link| link.channels.values().any(waiting));
    }

    /// Reads until the request sent last on a channel is answered, or the channel is closed.
    pub fn read_until_answered(&mut self, number: u16, record: &mut Record) {
        self.read_while(record, |link| {
            link.channels.get(&number).is_some_and(|channel| !channel.answered)
        });
    }

    /// Reads until the broker has closed the connection.
    pub fn read_to_end(&mut self, record: &mut Record) {
        self.read_while(record, |_| true);
    }

    fn read_while(&mut self, record: &mut Record, wanted: impl Fn(&Self) -> bool) {
        while self.alive && wanted(self) {
            match self.raw.receive_within(SILENCE) {
                Received::Frame(frame) => self.take_frame(*frame, record),
                Received::End => self.end("the socket was closed", record),
                Received::Nothing(_) => self.end("no answer", record),
            }
        }
    }

    fn end(&mut self, why: &str, record: &mut Record) {
        self.alive = false;
        self.channels.clear();
        record.tell(self.place(0), Stream::Close, why);
    }

    /// How events of a channel are marked.
    pub fn place(&self, channel: u16) -> String {
        format!("c{}.{channel}", self.index)
    }

    fn take_frame(&mut self, frame: AMQPFrame, record: &mut Record) {
        match frame {
            AMQPFrame::Method(0, method) => self.take_connection_method(method, record),
            AMQPFrame::Method(number, method) => self.take_method(number, method, record),
            AMQPFrame::Header(number, header) => self.take_content(number, record, |content| {
                content.header = Some(header);
            }),
            AMQPFrame::Body(number, part) => self.take_content(number, record, |content| {
                content.body.extend_from_slice(&part);
            }),
            AMQPFrame::Heartbeat => {}
            other => record.tell(self.place(0), Stream::Strange, &format!("{other:?}")),
        }
    }

    fn take_connection_method(&mut self, method: AMQPClass, record: &mut Record) {
        let text = describe::method(&method);
        match method {
            AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                record.tell(self.place(0), Stream::Close, &text);
                self.raw.send(0, connection::CloseOk {});
                self.alive = false;
                self.channels.clear();
            }
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)) => {
                record.tell(self.place(0), Stream::Close, &text);
                self.alive = false;
                self.channels.clear();
            }
            _ => record.tell(self.place(0), Stream::Replies, &text),
        }
    }

    fn take_method(&mut self, number: u16, method: AMQPClass, record: &mut Record) {
        let place = self.place(number);
        let text = describe::method(&method);
        let Some(channel) = self.channels.get_mut(&number) else {
            return record.tell(
                place,
                Stream::Strange,
                &format!("on a channel that is not open: {text}"),
            );
        };
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                record.tell(place, Stream::Close, &text);
                self.raw.send(number, channel::CloseOk {});
                self.channels.remove(&number);
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                record.tell(place, Stream::Replies, &text);
                self.channels.remove(&number);
            }
            AMQPClass::Channel(channel::AMQPMethod::FlowOk(_)) if channel.flows_due > 0 => channel.flows_due -= 1,
            AMQPClass::Basic(
                method @ (basic::AMQPMethod::Deliver(_) | basic::AMQPMethod::Return(_) | basic::AMQPMethod::GetOk(_)),
            ) => {
                channel.content = Some(Content {
                    method,
                    header: None,
                    body: Vec::new(),
                });
            }
            AMQPClass::Basic(basic::AMQPMethod::Ack(it)) => {
                channel.take_confirm("ack", it.delivery_tag, it.multiple, &place, record);
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(it)) => {
                channel.take_confirm("nack", it.delivery_tag, it.multiple, &place, record);
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(it)) => {
                channel.consumers.remove(it.consumer_tag.as_str());
                record.tell(place, Stream::Cancels, &text);
            }
            reply => {
                channel.answered = true;
                channel.take_reply(reply, self.index, record);
                record.tell(place, Stream::Replies, &text);
            }
        }
    }

    fn take_content(&mut self, number: u16, record: &mut Record, take: impl FnOnce(&mut Content)) {
        let place = self.place(number);
        let content = self
            .channels
            .get_mut(&number)
            .and_then(|channel| channel.content.as_mut());
        let Some(content) = content else {
            return record.tell(place, Stream::Strange, "a part of a content that was not announced");
        };
        take(content);
        let complete = content
            .header
            .as_ref()
            .is_some_and(|it| content.body.len() as u64 >= it.body_size);
        if let (true, Some(channel)) = (complete, self.channels.get_mut(&number)) {
            channel.take_message(&place, record);
        }
    }

    /// Puts the deliveries of a step into their order.
    pub fn finish_step(&mut self) {
        for channel in self.channels.values_mut() {
            channel.fresh.sort_by(|one, other| one.consumer.cmp(&other.consumer));
            channel.unacked.append(&mut channel.fresh);
        }
    }
}

impl Channel {
    fn take_reply(&mut self, reply: AMQPClass, link: usize, record: &mut Record) {
        match reply {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(it)) => {
                record.names.note(it.queue.as_str());
                let owner = self.asked.exclusive.then_some(link);
                record.queues.entry(it.queue.to_string()).or_insert(owner);
            }
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(it)) => {
                record.names.note(it.consumer_tag.as_str());
                self.consumers.insert(it.consumer_tag.to_string(), self.asked.no_ack);
                if self.asked.replies {
                    self.reply_consumer = Some(it.consumer_tag.to_string());
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(it)) => {
                self.consumers.remove(it.consumer_tag.as_str());
            }
            AMQPClass::Basic(basic::AMQPMethod::RecoverOk(_)) => self.unacked.clear(),
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => {
                self.confirms.get_or_insert_default();
            }
            AMQPClass::Tx(tx::AMQPMethod::SelectOk(_)) => self.transactional = true,
            AMQPClass::Tx(tx::AMQPMethod::CommitOk(_)) => self.held.clear(),
            AMQPClass::Tx(tx::AMQPMethod::RollbackOk(_)) => {
                self.unacked.append(&mut self.held);
                self.unacked
                    .sort_by(|one, other| (one.step, &one.consumer).cmp(&(other.step, &other.consumer)));
            }
            _ => {}
        }
    }

    fn take_message(&mut self, place: &str, record: &mut Record) {
        let Some(Content {
            method,
            header: Some(header),
            body,
        }) = self.content.take()
        else {
            return;
        };
        if let Some(reply_to) = header.properties.reply_to() {
            record.names.note(reply_to.as_str());
        }
        let text = describe::method(&AMQPClass::Basic(method.clone()));
        let text = format!("{text} {}", describe::content(&header.properties, &body));
        match method {
            basic::AMQPMethod::Return(_) => record.tell(place, Stream::Returns, &text),
            basic::AMQPMethod::GetOk(it) => {
                self.answered = true;
                self.deliver(it.delivery_tag, String::new(), self.asked.no_ack, place, record);
                record.tell(place, Stream::Replies, &text);
            }
            basic::AMQPMethod::Deliver(it) => {
                let consumer = it.consumer_tag.to_string();
                match self.consumers.get(&consumer) {
                    Some(no_ack) => self.deliver(it.delivery_tag, consumer.clone(), *no_ack, place, record),
                    None => record.tell(place, Stream::Strange, "delivered to a consumer that is not there"),
                }
                let consumer = record.names.mask(&consumer);
                record.tell(place, Stream::Deliveries(consumer), &text);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, tag: u64, consumer: String, no_ack: bool, place: &str, record: &mut Record) {
        // See the list of known differences.
        let is_reply = self.reply_consumer.as_ref() == Some(&consumer);
        let is_next = tag == self.last_tag + 1 || (self.after_reply && tag == self.last_tag);
        self.after_reply = is_reply;
        if !is_next && !is_reply {
            let text = format!("delivery tag {tag} after {}", self.last_tag);
            record.tell(place, Stream::Strange, &text);
        }
        self.last_tag = tag;
        if !no_ack {
            let consumer = record.names.mask(&consumer);
            let step = record.step;
            self.fresh.push(Delivery { tag, step, consumer });
        }
    }

    /// Notes every message that a confirm is about by itself: brokers may join them as they like.
    fn take_confirm(&mut self, verb: &str, tag: u64, multiple: bool, place: &str, record: &mut Record) {
        let confirmed: Vec<u64> = match &self.confirms {
            Some(confirms) if multiple => confirms.waiting.range(..=tag).copied().collect(),
            Some(confirms) => confirms.waiting.get(&tag).copied().into_iter().collect(),
            None => Vec::new(),
        };
        if confirmed.is_empty() {
            return record.tell(
                place,
                Stream::Strange,
                &format!("{verb} {tag}, for which nothing waits"),
            );
        }
        for number in confirmed {
            record.tell(place, Stream::Confirms, &format!("confirm {number:3} {verb}"));
            if let Some(confirms) = &mut self.confirms {
                confirms.waiting.remove(&number);
            }
        }
    }

    /// The tag that `settle` means here. The deliveries it settles are taken off the list.
    fn take_tag(&mut self, settle: &Settle) -> u64 {
        let multiple = settle.multiple && !matches!(settle.verb, Verb::Reject { .. });
        match settle.pick {
            Pick::Unknown => UNKNOWN_TAG,
            Pick::Again => self.settled.unwrap_or(UNKNOWN_TAG),
            Pick::Zero => {
                if multiple {
                    let all = std::mem::take(&mut self.unacked);
                    self.put_away(all);
                }
                0
            }
            Pick::Unacked(_) if self.unacked.is_empty() => UNKNOWN_TAG,
            Pick::Unacked(number) if multiple => {
                // Up to the end of a step, because inside it one broker's tags may be in another order than the other's.
                let step = self.unacked[number % self.unacked.len()].step;
                let of_step = self.unacked.iter().filter(|it| it.step == step);
                let tag = of_step.map(|it| it.tag).max().unwrap_or(UNKNOWN_TAG);
                let (taken, left) = self.unacked.drain(..).partition(|it| it.tag <= tag);
                self.unacked = left;
                self.put_away(taken);
                tag
            }
            Pick::Unacked(number) => {
                let at = number % self.unacked.len();
                let step = self.unacked[at].step;
                let alone = self.unacked.iter().filter(|it| it.step == step).count() == 1;
                let delivery = self.unacked.remove(at);
                let tag = delivery.tag;
                self.settled = alone.then_some(tag);
                self.put_away(vec![delivery]);
                tag
            }
        }
    }

    fn put_away(&mut self, mut settled: Vec<Delivery>) {
        if self.transactional {
            self.held.append(&mut settled);
        }
    }
}

impl Record {
    pub fn tell(&mut self, place: impl Into<String>, stream: Stream, text: &str) {
        let text = self.names.mask(text);
        self.events.push(Event {
            place: place.into(),
            stream,
            text,
        });
    }
}
