//! How channels and connections end: by a mistake of the client, from outside, or because the socket is gone.

use std::time::{Duration, Instant};

use amq_protocol::protocol::{AMQPClass, channel as channel_class, connection as connection_class};

use super::{Phase, Session, short};
use crate::protocol::error::AmqpError;

/// How long a closed connection may take to answer close with close-ok, at the most.
const CLOSE_OK_WAIT_MAX: Duration = Duration::from_secs(30);

impl Session {
    /// Closes channel or connection, as the error's code demands.
    pub(super) fn fail(&mut self, now: Instant, channel: u16, error: AmqpError) {
        if channel == 0 || error.code.is_hard() {
            self.fail_connection(now, error);
        } else {
            self.fail_channel(channel, error);
        }
    }

    pub(super) fn fail_channel(&mut self, number: u16, error: AmqpError) {
        self.flush();
        tracing::warn!(
            connection = %self.info.name, user = %self.info.user(), vhost = %self.info.vhost(), channel = number,
            "closing channel: {error}"
        );
        self.release_channel(number);
        let Some(channel) = self.channel_slot(number) else {
            return;
        };
        channel.start_closing();
        let (class_id, method_id) = (error.class_id, error.method_id);
        let close = channel_class::Close {
            reply_code: error.code.number(),
            reply_text: short(&error.reply_text()),
            class_id,
            method_id,
        };
        self.reply(number, AMQPClass::Channel(channel_class::AMQPMethod::Close(close)));
    }

    pub(super) fn fail_connection(&mut self, now: Instant, error: AmqpError) {
        if let Phase::Handshake(_) = self.phase
            && !self.may_close_before_open()
        {
            tracing::warn!(connection = %self.info.name, "refused during the handshake: {error}");
            return self.drop_later(now);
        }
        if matches!(
            self.phase,
            Phase::Closing { .. } | Phase::Dropping { .. } | Phase::Finished
        ) {
            return;
        }
        tracing::warn!(
            connection = %self.info.name, user = %self.info.user(), vhost = %self.info.vhost(), "closing connection: {error}"
        );
        self.release_all();
        self.send_close(&error);
        let wait = self
            .heartbeat
            .interval()
            .map_or(CLOSE_OK_WAIT_MAX, |interval| interval.min(CLOSE_OK_WAIT_MAX));
        self.phase = Phase::Closing { deadline: now + wait };
    }

    pub(super) fn send_close(&self, error: &AmqpError) {
        let close = connection_class::Close {
            reply_code: error.code.number(),
            reply_text: short(&error.reply_text()),
            class_id: error.class_id,
            method_id: error.method_id,
        };
        self.reply(0, AMQPClass::Connection(connection_class::AMQPMethod::Close(close)));
    }

    pub(super) fn close_from_outside(&mut self, now: Instant, error: AmqpError) {
        match self.phase {
            Phase::Running => self.fail_connection(now, error),
            Phase::Handshake(_) => self.phase = Phase::Finished,
            Phase::Closing { .. } | Phase::Dropping { .. } | Phase::Finished => {}
        }
    }

    /// The socket is gone, or is about to be: everything the connection held goes back.
    pub fn terminate(&mut self) {
        self.release_all();
        self.phase = Phase::Finished;
        self.outbox.lock().close();
    }

    /// Gives back unacked messages, ends consumers, deletes exclusive queues and counts as open no more.
    pub(super) fn release_all(&mut self) {
        self.flush();
        // The last publishes may have met congestion, but the client's close-ok must still be read.
        self.pause = None;
        self.outbox.lock().take_nothing_more();
        for number in 1..self.channels.len() {
            self.release_channel(number as u16);
        }
        self.channels.clear();
        self.channels_open = 0;
        self.info.set_channels(0);
        if let Some(opened) = self.open.take() {
            opened.vhost.delete_queues_of(self.info.id);
            self.info.set_open(false);
        }
    }
}
