//! Class basic, but for publishing and settling: qos, consume, cancel, get, recover.

use std::sync::Arc;
use std::time::Instant;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{
    AMQPMethod, Cancel, CancelOk, Consume, ConsumeOk, Get, GetEmpty, Qos, QosOk, RecoverOk,
};
use leveret_storage::QueueId;

use super::channel::{ChannelConsumer, server_only};
use super::deliveries::{ChannelDeliveries, held_bytes};
use super::outbox::Consumer;
use super::{Pause, Session, reply_to, short};
use crate::metrics::Flow;
use crate::protocol::error::AmqpError;
use crate::protocol::hot;
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::rewrite::with_delivery_count;
use crate::queue::{ConsumerArguments, ConsumerSpec, GetOutcome};
use crate::vhost::firehose::Who;
use crate::vhost::{OperationError, Resource};

impl Session {
    pub(super) fn basic_method(
        &mut self,
        channel: u16,
        method: AMQPMethod,
        prefetch_size: Option<u32>,
    ) -> Result<(), AmqpError> {
        match method {
            AMQPMethod::Qos(qos) => self.qos(channel, &qos, prefetch_size.unwrap_or(0)),
            AMQPMethod::Consume(consume) => self.consume(channel, &consume),
            AMQPMethod::Cancel(cancel) => self.cancel(channel, &cancel),
            AMQPMethod::Get(get) => {
                self.get(channel, &get)?;
                self.pause_for_reader();
                Ok(())
            }
            AMQPMethod::Recover(recover) => {
                // The answer goes first: what is delivered again comes after it.
                self.reply(channel, AMQPClass::Basic(AMQPMethod::RecoverOk(RecoverOk {})));
                self.recover(channel, recover.requeue);
                Ok(())
            }
            AMQPMethod::RecoverAsync(recover) => {
                self.recover(channel, recover.requeue);
                Ok(())
            }
            // The answer to a cancel of ours, which was sent with nowait.
            AMQPMethod::CancelOk(_) => Ok(()),
            // Publish and settlements were taken out by the callers.
            AMQPMethod::Publish(_) | AMQPMethod::Ack(_) | AMQPMethod::Nack(_) | AMQPMethod::Reject(_) => Ok(()),
            AMQPMethod::QosOk(_)
            | AMQPMethod::ConsumeOk(_)
            | AMQPMethod::Return(_)
            | AMQPMethod::Deliver(_)
            | AMQPMethod::GetOk(_)
            | AMQPMethod::GetEmpty(_)
            | AMQPMethod::RecoverOk(_) => Err(server_only()),
        }
    }

    fn qos(&mut self, number: u16, qos: &Qos, prefetch_size: u32) -> Result<(), AmqpError> {
        if prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({prefetch_size})");
            return Err(AmqpError::new(ReplyCode::NotImplemented, text));
        }
        // A limit for each consumer takes the place of one for the channel; the other way round both hold.
        let shared = if qos.global { qos.prefetch_count } else { 0 };
        if let Some(channel) = self.outbox.lock().channel(number) {
            channel.prefetch_global = shared;
            if !qos.global {
                channel.shown.prefetch_count = qos.prefetch_count;
            }
        }
        if !qos.global
            && let Some(channel) = self.channel_slot(number)
        {
            channel.prefetch_count = qos.prefetch_count;
        }
        // The answer goes first: what a higher limit sets free comes after it.
        self.reply(number, AMQPClass::Basic(AMQPMethod::QosOk(QosOk {})));
        self.resume_stalled();
        Ok(())
    }

    fn consume(&mut self, number: u16, consume: &Consume) -> Result<(), AmqpError> {
        let tag: Arc<str> = match consume.consumer_tag.as_str() {
            "" => self.broker.names.consumer_tag().into(),
            tag => tag.into(),
        };
        let name = self.queue_name(number, consume.queue.as_str())?;
        let is_reply = *name == *reply_to::PSEUDO_QUEUE;
        let consumers_max = self.broker.config.consumer_max_per_channel;
        let Some(channel) = self.channel_slot(number) else {
            return Ok(());
        };
        if let Some(max) = consumers_max
            && channel.consumers.len() >= max as usize
        {
            let text = format!("reached maximum ({max}) of consumers per channel");
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        let holder = channel.consumers.get(&tag);
        // A second consumer of replies is told about the first, whatever its tag.
        if holder.is_some_and(|holder| !is_reply || !matches!(holder, ChannelConsumer::Reply)) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        let prefetch_count = channel.prefetch_count;
        if is_reply {
            return self.consume_replies(number, consume, tag);
        }
        let Some(opened) = &self.open else { return Ok(()) };
        let vhost = opened.vhost.clone();
        let queue = vhost.readable_queue(&opened.actor, &name)?;
        let arguments = ConsumerArguments::parse(&consume.arguments, queue.properties.arguments.queue_type)
            .map_err(|error| OperationError::Argument(error.explain(&queue.name, &vhost.name)))?;
        let origin = {
            let mut outbox = self.outbox.lock();
            let Some(deliveries) = outbox.channel(number) else {
                return Ok(());
            };
            deliveries.add_consumer(&queue, &shortstr(&tag), &consume.arguments)
        };
        let spec = ConsumerSpec {
            handle: Consumer {
                outbox: self.outbox.clone(),
                connection: self.info.clone(),
                channel: number,
                origin,
                no_ack: consume.no_ack,
            },
            no_ack: consume.no_ack,
            prefetch_count,
            exclusive: consume.exclusive,
            priority: arguments.priority,
            timeout_millis: arguments.timeout_millis,
        };
        let ok = (!consume.nowait).then(|| consume_ok(&tag));
        let outbox = self.outbox.clone();
        let started = vhost.consume(&queue, spec, |key| {
            let mut outbox = outbox.lock();
            if let Some(ok) = &ok {
                crate::protocol::method::encode_method(outbox.bytes_mut(), number, ok);
            }
            if let Some(origin) = outbox
                .channel(number)
                .and_then(|channel| channel.origins.get_mut(origin as usize))
            {
                origin.key = Some(key);
            }
        });
        if let Err(error) = started {
            if let Some(channel) = self.outbox.lock().channel(number) {
                channel.cancel(origin);
            }
            return Err(error.into());
        }
        if let Some(channel) = self.channel_slot(number) {
            channel.consumers.insert(tag, ChannelConsumer::Queue { queue, origin });
        }
        Ok(())
    }

    fn consume_replies(&mut self, number: u16, consume: &Consume, tag: Arc<str>) -> Result<(), AmqpError> {
        let refused = |text: &'static str| Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        if !consume.no_ack {
            return refused("reply consumer cannot acknowledge");
        }
        let token: Arc<str> = self.broker.names.reply_token().into();
        let Some(channel) = self.channel_slot(number) else {
            return Ok(());
        };
        if channel.reply_token.is_some() {
            return refused("reply consumer already set");
        }
        channel.reply_token = Some(token.clone());
        channel.consumers.insert(tag.clone(), ChannelConsumer::Reply);
        if !consume.nowait {
            self.reply(number, consume_ok(&tag));
        }
        self.broker
            .reply_targets
            .insert(token, self.outbox.clone(), number, &shortstr(&tag));
        Ok(())
    }

    fn cancel(&mut self, number: u16, cancel: &Cancel) -> Result<(), AmqpError> {
        let consumer = self
            .channel_slot(number)
            .and_then(|channel| channel.consumers.remove(cancel.consumer_tag.as_str()));
        self.end_consumers(number, consumer.into_iter());
        if !cancel.nowait {
            let ok = CancelOk {
                consumer_tag: cancel.consumer_tag.clone(),
            };
            self.reply(number, AMQPClass::Basic(AMQPMethod::CancelOk(ok)));
        }
        Ok(())
    }

    /// Takes consumers out of their queues; what they have not acknowledged stays with the channel.
    pub(super) fn end_consumers(&mut self, number: u16, consumers: impl Iterator<Item = ChannelConsumer>) {
        for consumer in consumers {
            match consumer {
                ChannelConsumer::Queue { queue, origin } => {
                    let key = {
                        let mut outbox = self.outbox.lock();
                        let origins = outbox.channel(number).map(|channel| &channel.origins);
                        origins
                            .and_then(|origins| origins.get(origin as usize))
                            .and_then(|origin| origin.key)
                    };
                    if let (Some(key), Some(opened)) = (key, &self.open) {
                        opened.vhost.cancel(&queue, key);
                    }
                    if let Some(channel) = self.outbox.lock().channel(number) {
                        channel.cancel(origin);
                    }
                }
                ChannelConsumer::Reply => {
                    let token = self.channel_slot(number).and_then(|channel| channel.reply_token.take());
                    if let Some(token) = token {
                        self.broker.reply_targets.remove(&token);
                    }
                }
            }
        }
    }

    /// Takes the consumers of a closed channel out of their queues.
    pub(super) fn leave_queues(
        &self,
        deliveries: &ChannelDeliveries,
        consumers: impl Iterator<Item = ChannelConsumer>,
    ) {
        for consumer in consumers {
            if let ChannelConsumer::Queue { queue, origin } = consumer
                && let Some(key) = deliveries.origins.get(origin as usize).and_then(|origin| origin.key)
                && let Some(opened) = &self.open
            {
                opened.vhost.cancel(&queue, key);
            }
        }
    }

    /// A consumer's queue is gone: the client is told, if it wants to be.
    ///
    /// Meanwhile the client may have cancelled the consumer and put another in its place.
    pub(super) fn consumer_cancelled(&mut self, number: u16, origin: u32, gone: QueueId) {
        let Some(channel) = self.channel_slot(number) else {
            return;
        };
        let is_it = |consumer: &ChannelConsumer| matches!(consumer, ChannelConsumer::Queue { queue, origin: place } if *place == origin && queue.id == gone);
        let Some(tag) = channel
            .consumers
            .iter()
            .find(|(_, consumer)| is_it(consumer))
            .map(|(tag, _)| tag.clone())
        else {
            return;
        };
        channel.consumers.remove(&tag);
        if let Some(deliveries) = self.outbox.lock().channel(number) {
            deliveries.cancel(origin);
        }
        if self.client.takes_consumer_cancel {
            let cancel = Cancel {
                consumer_tag: short(&tag),
                nowait: true,
            };
            self.reply(number, AMQPClass::Basic(AMQPMethod::Cancel(cancel)));
        }
    }

    /// A basic.get that had to wait is tried again.
    pub(super) fn loaded(&mut self, now: Instant) {
        let Some(Pause::Load { channel, get }) = self.pause.take_if(|pause| matches!(pause, Pause::Load { .. })) else {
            return;
        };
        if let Err(error) = self.get(channel, &get) {
            self.fail(now, channel, error.at(60, 70));
        }
    }

    fn get(&mut self, number: u16, get: &Get) -> Result<(), AmqpError> {
        let name = self.queue_name(number, get.queue.as_str())?;
        let Some(opened) = &self.open else { return Ok(()) };
        let queue = opened.vhost.gettable_queue(&opened.actor, &name)?;
        let got = queue.get(get.no_ack, &self.outbox, &mut self.scratch);
        let got = got.map_err(|_| OperationError::NotFound(Resource::queue(&name, &self.info.vhost())))?;
        let counters = &self.broker.counters;
        let got = match got {
            GetOutcome::Got(got) => got,
            GetOutcome::Empty => {
                counters.get_empty.inc();
                if let Some(channel) = self.outbox.lock().channel(number) {
                    let got = Flow {
                        get_empty: 1,
                        ..Flow::default()
                    };
                    channel.count_get(&queue, got);
                }
                self.reply(number, AMQPClass::Basic(AMQPMethod::GetEmpty(GetEmpty {})));
                return Ok(());
            }
            GetOutcome::Loading => {
                let get = get.clone();
                self.pause = Some(Pause::Load { channel: number, get });
                return Ok(());
            }
        };
        counters.got(get.no_ack, got.redelivered);
        queue.trace_delivery(&got.message, got.redelivered, || {
            Who::Connection(self.info.clone(), number)
        });
        let message = if got.delivery_count > 0 && queue.tells_delivery_count() {
            with_delivery_count(&got.message, got.delivery_count)
        } else {
            got.message
        };
        let mut outbox = self.outbox.lock();
        let frame_max = outbox.frame_max();
        let Some(channel) = outbox.channel(number) else {
            return Ok(());
        };
        let tag = channel.next_tag();
        let counted = Flow {
            get: u64::from(!get.no_ack),
            get_no_ack: u64::from(get.no_ack),
            redeliver: u64::from(got.redelivered),
            ..Flow::default()
        };
        channel.count_get(&queue, counted);
        if !get.no_ack {
            let origin = channel.get_origin(&queue);
            let held_bytes = held_bytes(&queue, &message, message.view().len());
            channel.track(tag, origin, got.slot, got.position, held_bytes);
        }
        let left = crate::vhost::queues::saturating_u32(got.ready);
        hot::write_get_ok(
            outbox.bytes_mut(),
            number,
            tag,
            got.redelivered,
            left,
            &message.view(),
            frame_max,
        );
        Ok(())
    }
}

fn consume_ok(tag: &str) -> AMQPClass {
    AMQPClass::Basic(AMQPMethod::ConsumeOk(ConsumeOk {
        consumer_tag: short(tag),
    }))
}

/// The octets of a tag as a short string on the wire.
fn shortstr(tag: &str) -> Vec<u8> {
    crate::protocol::wire::shortstr(tag).unwrap_or_default()
}
