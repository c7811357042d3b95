//! basic.publish: the checks and the way to the queues, up to the batch that is handed to each of them at once.
//!
//! The order of the checks decides which mistake a client hears of; it is RabbitMQ's: immediate, size, write
//! permission, exchange, internal, reply-to, expiration, CC and BCC, topic permission, user id.

use std::sync::Arc;

use leveret_routing::RouteBuffer;
use leveret_storage::Ticket;
use prometheus::local::LocalHistogram;

use super::batch::{Batch, Counts};
use super::channel::{Channel, ChannelMode};
use super::message_checks::Unchecked;
use super::route_cache::{Route, RouteCache};
use super::traffic::Tally;
use super::tx::BufferedPublish;
use super::{Session, reply_to};
use crate::metrics::Counters;
use crate::protocol::assembler::AssembledPublish;
use crate::protocol::content::{ContentHeader, Properties, only_delivery_mode, properties_error};
use crate::protocol::error::AmqpError;
use crate::protocol::hot::{self, WholePublish};
use crate::protocol::message::Message;
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::wire::exchange_and_key_texts;
use crate::vhost::QueueHandle;
use crate::vhost::delay::Delay;
use crate::vhost::delivery::share_among;
use crate::vhost::firehose::Who;
use crate::vhost::routes::{Publication, Targets};

/// Collected publishes of one connection.
pub struct Publisher {
    routes: RouteCache,
    route_buffer: RouteBuffer<u32>,
    pub(super) batch: Batch,
    pub(super) sizes: LocalHistogram,
    pub(super) counts: Counts,
    /// Where they are counted for statistics.
    pub(super) tally: Tally,
    /// The commit of messages that are not in the batch: delayed ones and those that may be duplicates.
    pub(super) submitted: Option<Ticket>,
    /// How often a full queue has refused a message of this connection.
    pub(super) refused_publishes: u64,
    /// Channels with publishes that wait for a commit.
    pub waiting_channels: Vec<u16>,
}

/// A message with what its publish asked for.
struct Incoming<'a> {
    channel: u16,
    mandatory: bool,
    /// Two short strings; UTF-8, because they were checked or are those of a known route.
    exchange_and_key: &'a [u8],
}

impl<'a> Incoming<'a> {
    fn names(&self) -> (&'a str, &'a str) {
        exchange_and_key_texts(self.exchange_and_key).unwrap_or_default()
    }
}

impl Publisher {
    /// Nothing collected yet.
    pub fn new(counters: &Counters) -> Publisher {
        Publisher {
            routes: RouteCache::default(),
            route_buffer: RouteBuffer::new(),
            batch: Batch::new(),
            sizes: counters.message_size_bytes.local(),
            counts: Counts::default(),
            tally: Tally::default(),
            submitted: None,
            refused_publishes: 0,
            waiting_channels: Vec::new(),
        }
    }

    /// Looks up all routes again, because the client may do other things now.
    pub fn forget_routes(&mut self) {
        self.routes = RouteCache::default();
    }
}

impl Session {
    /// A publish whose content lies whole in the input, and whose names are known to be UTF-8; `route` is what
    /// [`Session::known_route`] said of them.
    pub(super) fn publish(&mut self, whole: &WholePublish<'_>, route: Option<usize>) -> Result<(), AmqpError> {
        let WholePublish {
            channel,
            publish,
            header,
            body,
            ..
        } = whole;
        let incoming = Incoming {
            channel: *channel,
            mandatory: publish.mandatory,
            exchange_and_key: publish.exchange_and_key,
        };
        let result = self
            .check_immediate_and_size(publish.immediate, header.body_size)
            .and_then(|()| {
                let make = |header: &[u8]| Message::new(publish.exchange_and_key, header, body);
                self.take_publish(&incoming, header, route, make)
            });
        result.map_err(|error| error.at(60, 40))
    }

    /// A publish put together from several frames.
    pub(super) fn publish_assembled(&mut self, channel: u16, content: AssembledPublish) -> Result<(), AmqpError> {
        let header = ContentHeader::parse(&content.header).map_err(|cause| properties_error(cause, &content.header))?;
        let incoming = Incoming {
            channel,
            mandatory: content.mandatory,
            exchange_and_key: &content.exchange_and_key,
        };
        let route = self.known_route(incoming.exchange_and_key);
        let result = self
            .check_immediate_and_size(content.immediate, header.body_size)
            .and_then(|()| {
                let (keys, body) = (&content.exchange_and_key, content.body.clone());
                let make = |header: &[u8]| Message::with_large_body(keys, header, body);
                self.take_publish(&incoming, &header, route, make)
            });
        result.map_err(|error| error.at(60, 40))
    }

    fn check_immediate_and_size(&self, immediate: bool, body_size: u64) -> Result<(), AmqpError> {
        if immediate {
            return Err(AmqpError::new(ReplyCode::NotImplemented, "immediate=true"));
        }
        self.check_size(body_size)
    }

    /// Also asked when a header announces a body, before the body is kept.
    pub(super) fn check_size(&self, body_size: u64) -> Result<(), AmqpError> {
        let max = self.config.max_message_size;
        if body_size > max {
            let text = format!("message size {body_size} is larger than configured max size {max}");
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        }
        Ok(())
    }

    fn take_publish(
        &mut self,
        incoming: &Incoming<'_>,
        header: &ContentHeader<'_>,
        cached: Option<usize>,
        make: impl FnOnce(&[u8]) -> Message,
    ) -> Result<(), AmqpError> {
        if self.settles.gives_back() {
            // What goes back to its queue has its place before what is published after it.
            self.flush_publishes();
            self.flush_settles();
        }
        if let (Some(route), Some(_)) = (cached, only_delivery_mode(header.properties))
            && !self.config.stamps_messages()
        {
            let message = make(header.payload);
            return self.accept(incoming, message, route, header.body_size);
        }
        self.take_publish_slowly(incoming, header, cached, make)
    }

    /// The first publish to a route, or one with properties to look at.
    fn take_publish_slowly(
        &mut self,
        incoming: &Incoming<'_>,
        header: &ContentHeader<'_>,
        cached: Option<usize>,
        make: impl FnOnce(&[u8]) -> Message,
    ) -> Result<(), AmqpError> {
        let Some(opened) = &self.open else { return Ok(()) };
        let vhost = opened.vhost.clone();
        let (exchange, routing_key) = incoming.names();
        if cached.is_none() {
            vhost.check_publish(&opened.actor, exchange)?;
        }
        let properties =
            Properties::parse(header.properties).map_err(|cause| properties_error(cause, header.properties))?;
        properties
            .check_headers()
            .map_err(|cause| properties_error(cause, header.properties))?;
        let unchecked = Unchecked {
            exchange,
            routing_key: cached.is_none().then_some(routing_key),
        };
        let adjustments = self.check_properties(incoming.channel, header, &properties, unchecked)?;
        let header_payload = adjustments.header.as_deref().unwrap_or(header.payload);
        let message = make(header_payload);
        if let (Some(route), true) = (cached, adjustments.further_keys.is_empty()) {
            return self.accept(incoming, message, route, header.body_size);
        }
        let properties = match self.config.stamps_messages() {
            // Exchanges may go by what was put on it.
            true => Properties::parse(message.properties()).unwrap_or(properties),
            false => properties,
        };
        let reply_token = reply_to::token(routing_key).filter(|_| exchange.is_empty());
        let further = adjustments.further_keys.iter().map(String::as_str);
        let keys: Vec<&str> = std::iter::once(routing_key).chain(further).collect();
        let publication = Publication {
            exchange,
            routing_keys: &keys,
            properties,
            message: &message,
        };
        let targets = vhost.route(&publication, &mut self.publisher.route_buffer)?;
        vhost.trace_publish(&publication, &targets, || {
            Who::Connection(self.info.clone(), incoming.channel)
        });
        if reply_token.is_some() || targets.varies || !adjustments.further_keys.is_empty() {
            let publish = BufferedPublish {
                targets,
                reply_token: reply_token.map(str::to_owned),
                message,
                mandatory: incoming.mandatory,
            };
            return self.accept_uncached(incoming.channel, publish);
        }
        let route = Route::new(incoming.exchange_and_key, targets.queues, vhost.traffic_of(exchange));
        let route = self.publisher.routes.insert(route);
        self.accept(incoming, message, route, header.body_size)
    }

    /// The remembered route of these names, once it is sure that all that is remembered is still good.
    pub(super) fn known_route(&mut self, exchange_and_key: &[u8]) -> Option<usize> {
        self.validate_routes();
        self.publisher.routes.find(exchange_and_key)
    }

    fn validate_routes(&mut self) {
        let users_revision = self.broker.users.revision();
        let Some(opened) = &self.open else { return };
        let publisher = &mut self.publisher;
        if publisher.routes.validate(opened.vhost.generation(), users_revision) {
            publisher
                .tally
                .end(&mut publisher.batch, &publisher.counts, &self.outbox);
        }
        if users_revision != opened.users_revision {
            self.refresh_actor();
        }
    }

    /// Collects one message for the queues of a cached route.
    fn accept(
        &mut self,
        incoming: &Incoming<'_>,
        message: Message,
        route: usize,
        body_size: u64,
    ) -> Result<(), AmqpError> {
        if self.is_transactional(incoming.channel) {
            let targets = self
                .publisher
                .routes
                .route(route)
                .map(|route| route.targets.as_slice())
                .unwrap_or_default();
            let queues = targets.iter().map(|target| target.queue.clone()).collect();
            return self.buffer_publish(
                incoming.channel,
                BufferedPublish {
                    targets: Targets {
                        queues,
                        ..Targets::default()
                    },
                    reply_token: None,
                    message,
                    mandatory: incoming.mandatory,
                },
            );
        }
        let Some(route) = self.publisher.routes.route(route) else {
            return Ok(());
        };
        let tally = &mut self.publisher.tally;
        if !tally.is_of(incoming.channel, &route.exchange) {
            let exchange = route.exchange.clone();
            let (batch, counts) = (&mut self.publisher.batch, &self.publisher.counts);
            tally.begin(incoming.channel, exchange, batch, counts, &self.outbox);
            if let Some(ChannelMode::Confirm(confirms)) = mode_of(&mut self.channels, incoming.channel) {
                confirms.begin_run(&route.exchange);
            }
        }
        let publish = self.publisher.counts.published.received;
        let batch = &mut self.publisher.batch;
        let routed = route.targets.len();
        let durable = route.any_durable && message.is_persistent();
        if durable && route.several_durable {
            message.share_body();
        }
        let mut message = Some(message);
        for (index, target) in route.targets.iter_mut().enumerate() {
            if target.batch != batch.number {
                target.group = batch.group(&target.queue);
                target.batch = batch.number;
            }
            let last = index + 1 == routed;
            let copy = if last { message.take() } else { message.clone() };
            if let (Some(group), Some(copy)) = (batch.groups.get_mut(target.group), copy) {
                group.push(copy, publish);
            }
        }
        self.count_publish(incoming, message, routed, durable, body_size);
        Ok(())
    }

    fn accept_uncached(&mut self, channel: u16, publish: BufferedPublish) -> Result<(), AmqpError> {
        if self.is_transactional(channel) {
            return self.buffer_publish(channel, publish);
        }
        self.publish_buffered(channel, publish);
        Ok(())
    }

    /// Adds a message to the groups of these queues.
    fn collect(&mut self, queues: &[Arc<QueueHandle>], message: &Message) {
        share_among(queues, message);
        let publish = self.publisher.counts.published.received;
        let batch = &mut self.publisher.batch;
        for queue in queues {
            let group = batch.group(queue);
            if let Some(group) = batch.groups.get_mut(group) {
                group.push(message.clone(), publish);
            }
        }
    }

    /// Hands a message to the delayed exchanges that keep it. True if one of them waits for the disk.
    fn delay(&mut self, delays: &[Delay], message: &Message) -> bool {
        let Some(opened) = &self.open else { return false };
        let tickets = delays.iter().filter_map(|delay| opened.vhost.delay(delay, message));
        let ticket = tickets.max();
        self.publisher.submitted = self.publisher.submitted.max(ticket);
        ticket.is_some()
    }

    /// Numbers and counts a publish; `unroutable` is the message that no queue took.
    fn count_publish(
        &mut self,
        incoming: &Incoming<'_>,
        unroutable: Option<Message>,
        routed: usize,
        durable: bool,
        body_size: u64,
    ) {
        if !std::mem::replace(&mut self.has_published, true) {
            self.info.set_publishes();
        }
        self.publisher.sizes.observe(body_size as f64);
        let counts = &mut self.publisher.counts.published;
        counts.received += 1;
        counts.routed += routed as u64;
        if let Some(message) = unroutable {
            if incoming.mandatory {
                counts.returned += 1;
                self.send_return(incoming.channel, &message);
            } else {
                counts.dropped += 1;
            }
        }
        if let Some(ChannelMode::Confirm(confirms)) = mode_of(&mut self.channels, incoming.channel) {
            self.publisher.counts.received_confirm += 1;
            let number = confirms.next();
            let publish = self.publisher.counts.published.received - 1;
            let batch = &mut self.publisher.batch;
            batch.confirm(incoming.channel, number, durable);
            if batch.refusals.are_possible {
                batch.refusals.numbers.push((publish, incoming.channel, number));
            }
        }
    }

    /// Publishes a message whose targets are known, as a transaction keeps them.
    pub(super) fn publish_buffered(&mut self, channel: u16, publish: BufferedPublish) {
        let BufferedPublish {
            targets,
            reply_token,
            message,
            mandatory,
        } = publish;
        let incoming = Incoming {
            channel,
            mandatory,
            exchange_and_key: &[],
        };
        self.begin_run(channel, message.exchange());
        if !targets.claims.is_empty() {
            return self.publish_once(&incoming, &targets, message);
        }
        let Targets { queues, delays, .. } = targets;
        let replied = reply_token.is_some_and(|token| self.broker.reply_targets.deliver(&token, &message));
        self.collect(&queues, &message);
        let delayed = self.delay(&delays, &message);
        let routed = queues.len() + delays.len() + usize::from(replied);
        let durable = delayed || message.is_persistent() && queues.iter().any(|queue| queue.properties.durable);
        let body_size = message.body_len() as u64;
        let unroutable = (routed == 0).then_some(message);
        self.count_publish(&incoming, unroutable, routed, durable, body_size);
    }

    /// A publish whose route is not remembered is counted with those before it, if they are of the same channel and exchange.
    fn begin_run(&mut self, channel: u16, exchange: &str) {
        let Publisher {
            tally, batch, counts, ..
        } = &mut self.publisher;
        let Some(opened) = self.open.as_ref().filter(|_| !tally.is_to(channel, exchange)) else {
            return;
        };
        let exchange = opened.vhost.traffic_of(exchange);
        if let Some(ChannelMode::Confirm(confirms)) = mode_of(&mut self.channels, channel) {
            confirms.begin_run(&exchange);
        }
        tally.begin(channel, exchange, batch, counts, &self.outbox);
    }

    /// Publishes a message that may be a duplicate, by itself: whether it is one must be known before the next.
    fn publish_once(&mut self, incoming: &Incoming<'_>, targets: &Targets, message: Message) {
        let Some(opened) = &self.open else { return };
        let vhost = opened.vhost.clone();
        let earlier = self.flush_publishes();
        let (scratch, flow) = (&mut self.scratch, &mut self.flow);
        let delivered = vhost.deliver(targets, &message, scratch, |queue, published| {
            flow.published(queue, published.demand, 1);
        });
        self.publisher.submitted = self.publisher.submitted.max(earlier).max(delivered.ticket);
        let body_size = message.body_len() as u64;
        let unroutable = (delivered.taken_by == 0 && !delivered.duplicate).then_some(message);
        if !delivered.refused_by.is_empty() {
            let refusals = &mut self.publisher.batch.refusals;
            refusals.are_possible = true;
            refusals.refused.push(self.publisher.counts.published.received);
        }
        self.count_publish(incoming, unroutable, delivered.taken_by, delivered.lasts, body_size);
    }

    fn send_return(&mut self, channel: u16, message: &Message) {
        let mut outbox = self.outbox.lock();
        let frame_max = outbox.frame_max();
        hot::write_return(
            outbox.bytes_mut(),
            channel,
            ReplyCode::NoRoute,
            "NO_ROUTE",
            &message.view(),
            frame_max,
        );
    }
}

fn mode_of(channels: &mut [Option<Box<Channel>>], number: u16) -> Option<&mut ChannelMode> {
    let channel = channels.get_mut(usize::from(number))?.as_deref_mut()?;
    Some(&mut channel.mode)
}
