//! One channel: what it is open for, and the frames that reach it.
//!
//! ```text
//!   (none) ──channel.open──▶ Open ──client closes──▶ (none)
//!                             │ soft error              ▲
//!                             ▼                         │ close-ok
//!                          Closing ─────────────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::channel::{AMQPMethod, CloseOk, FlowOk, OpenOk};

use super::Session;
use super::confirms::Confirms;
use super::tx::Transaction;
use crate::protocol::assembler::{Assembled, Assembler};
use crate::protocol::error::AmqpError;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::{hot, method};
use crate::vhost::QueueHandle;

/// State of one channel, on the receiving side; deliveries are in the outbox.
#[derive(Default)]
pub struct Channel {
    /// Open, or closed by us and waiting for the client to agree.
    pub phase: ChannelPhase,
    /// Content that has not arrived whole.
    pub assembler: Assembler,
    /// What the client asked of publishing.
    pub mode: ChannelMode,
    /// Consumers by tag.
    pub consumers: HashMap<Arc<str>, ChannelConsumer>,
    /// The name that an empty queue name stands for.
    pub last_queue: Option<Arc<str>>,
    /// Prefetch of consumers started from now on, 0 for no limit.
    pub prefetch_count: u16,
    /// The direct reply-to consumer's token.
    pub reply_token: Option<Arc<str>>,
}

/// Is the channel usable?
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum ChannelPhase {
    /// Takes methods.
    #[default]
    Open,
    /// channel.close is sent; everything but close and close-ok is ignored.
    Closing,
}

/// How publishes on a channel are answered.
#[derive(Default)]
pub enum ChannelMode {
    /// Not at all.
    #[default]
    Plain,
    /// With confirms.
    Confirm(Confirms),
    /// Together, at tx.commit.
    Transaction(Transaction),
}

/// A consumer as its channel knows it.
pub enum ChannelConsumer {
    /// On a queue.
    Queue {
        /// Where.
        queue: Arc<QueueHandle>,
        /// Its place in the outbox.
        origin: u32,
    },
    /// Of direct replies.
    Reply,
}

impl Channel {
    /// Can a whole publish be taken at once?
    pub fn is_idle(&self) -> bool {
        self.phase == ChannelPhase::Open && self.assembler.is_idle()
    }

    /// channel.close has been sent.
    pub fn start_closing(&mut self) {
        *self = Channel {
            phase: ChannelPhase::Closing,
            ..Channel::default()
        };
    }
}

impl Session {
    pub(super) fn frame_on_closed_channel(&mut self, frame: Frame<'_>) -> Result<(), AmqpError> {
        if frame.kind != FrameKind::Method {
            let text = "expected method frame, got non method frame instead";
            return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text));
        }
        let (class_id, method_id) = method::class_and_method(frame.payload).unwrap_or_default();
        match (class_id, method_id) {
            (20, 10) => self.open_channel(frame.channel),
            // The answer to a close that crossed the client's own.
            (20, 41) => Ok(()),
            _ => Err(AmqpError::new(ReplyCode::ChannelError, "expected 'channel.open'").at(class_id, method_id)),
        }
    }

    fn open_channel(&mut self, number: u16) -> Result<(), AmqpError> {
        if self.channels_open >= self.channel_max || number > self.channel_max {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels_open, self.channel_max
            );
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        let user = self.info.user();
        if let Some(limit) = self.broker.user_limits(&user).max_channels
            && self.broker.channels_of_user(&user) >= limit
        {
            let text = format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of {limit}"
            );
            return Err(AmqpError::new(ReplyCode::NotAllowed, text));
        }
        let index = usize::from(number);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(Box::default());
        self.channels_open += 1;
        self.info.set_channels(self.channels_open);
        self.broker.counters.channels_opened.inc();
        self.outbox.lock().open_channel(number);
        self.reply(number, AMQPClass::Channel(AMQPMethod::OpenOk(OpenOk {})));
        Ok(())
    }

    /// A frame on an open channel.
    pub(super) fn open_channel_frame(&mut self, frame: Frame<'_>) -> Result<(), AmqpError> {
        let number = frame.channel;
        let Some(channel) = self.channel_slot(number) else {
            return Ok(());
        };
        match channel.assembler.feed(&frame)? {
            Assembled::Nothing => {
                let announced = channel.assembler.announced_body_size();
                // Refused now, a body that is too large is never kept.
                announced
                    .map_or(Ok(()), |size| self.check_size(size))
                    .map_err(|error| error.at(60, 40))
            }
            Assembled::Method(payload) => self.channel_method(number, payload),
            Assembled::Publish(content) => self.publish_assembled(number, content),
        }
    }

    fn channel_method(&mut self, number: u16, payload: &[u8]) -> Result<(), AmqpError> {
        let (class_id, method_id) = method::class_and_method(payload).unwrap_or_default();
        if class_id == 60 {
            match method_id {
                80 => {
                    return self
                        .ack(number, hot::parse_ack(payload)?)
                        .map_err(|error| error.at(60, 80));
                }
                90 => {
                    return self
                        .reject(number, hot::parse_reject(payload)?)
                        .map_err(|error| error.at(60, 90));
                }
                120 => {
                    return self
                        .nack(number, hot::parse_nack(payload)?)
                        .map_err(|error| error.at(60, 120));
                }
                _ => {}
            }
        }
        self.methods_left = self.methods_left.saturating_sub(1);
        self.flush();
        self.refresh_actor();
        let prefetch_size = method::qos_prefetch_size(payload);
        let result = match method::decode_method(payload)? {
            AMQPClass::Channel(method) => self.channel_class_method(number, method),
            AMQPClass::Exchange(method) => self.exchange_method(number, method),
            AMQPClass::Queue(method) => self.queue_method(number, method),
            AMQPClass::Basic(method) => self.basic_method(number, method, prefetch_size),
            AMQPClass::Confirm(method) => self.confirm_method(number, method),
            AMQPClass::Tx(method) => self.tx_method(number, method),
            AMQPClass::Access(method) => self.access_method(number, method),
            AMQPClass::Connection(_) => Err(server_only()),
        };
        result.map_err(|error| error.at(class_id, method_id))
    }

    fn channel_class_method(&mut self, number: u16, method: AMQPMethod) -> Result<(), AmqpError> {
        match method {
            AMQPMethod::Open(_) => Err(AmqpError::new(ReplyCode::ChannelError, "second 'channel.open' seen")),
            AMQPMethod::Close(_) => {
                self.release_channel(number);
                self.forget_channel(number);
                self.reply(number, AMQPClass::Channel(AMQPMethod::CloseOk(CloseOk {})));
                Ok(())
            }
            AMQPMethod::Flow(flow) => {
                if let Some(channel) = self.outbox.lock().channel(number) {
                    channel.active = flow.active;
                }
                self.reply(
                    number,
                    AMQPClass::Channel(AMQPMethod::FlowOk(FlowOk { active: flow.active })),
                );
                self.resume_stalled();
                Ok(())
            }
            AMQPMethod::CloseOk(_) | AMQPMethod::FlowOk(_) => Ok(()),
            AMQPMethod::OpenOk(_) => Err(server_only()),
        }
    }

    /// Frames after channel.close was sent: only the end of the channel counts.
    pub(super) fn closing_channel_frame(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match method::class_and_method(frame.payload) {
            Some((20, 40)) => {
                self.forget_channel(frame.channel);
                self.reply(frame.channel, AMQPClass::Channel(AMQPMethod::CloseOk(CloseOk {})));
            }
            Some((20, 41)) => self.forget_channel(frame.channel),
            _ => {}
        }
    }

    /// Ends the channel's consumers and gives back what it had not acknowledged.
    pub(super) fn release_channel(&mut self, number: u16) {
        let Some(channel) = self.channel_slot(number) else {
            return;
        };
        if channel.phase == ChannelPhase::Closing {
            return;
        }
        let consumers = std::mem::take(&mut channel.consumers);
        let reply_token = channel.reply_token.take();
        channel.mode = ChannelMode::Plain;
        if let Some(token) = reply_token {
            self.broker.reply_targets.remove(&token);
        }
        let deliveries = self.outbox.lock().close_channel(number);
        if let Some(deliveries) = deliveries {
            // Whoever takes over finds in its place what was not acknowledged.
            self.requeue_all(&deliveries);
            self.leave_queues(&deliveries, consumers.into_values());
        }
        self.broker.counters.channels_closed.inc();
    }

    fn forget_channel(&mut self, number: u16) {
        if let Some(slot) = self.channels.get_mut(usize::from(number))
            && slot.take().is_some()
        {
            self.channels_open -= 1;
            self.info.set_channels(self.channels_open);
        }
    }

    fn access_method(
        &mut self,
        number: u16,
        method: amq_protocol::protocol::access::AMQPMethod,
    ) -> Result<(), AmqpError> {
        use amq_protocol::protocol::access;
        match method {
            access::AMQPMethod::Request(_) => {
                self.reply(
                    number,
                    AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {})),
                );
                Ok(())
            }
            access::AMQPMethod::RequestOk(_) => Err(server_only()),
        }
    }
}

/// A method that only servers send.
pub(super) fn server_only() -> AmqpError {
    AmqpError::new(ReplyCode::CommandInvalid, "unimplemented method")
}
