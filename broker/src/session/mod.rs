//! One client connection as a state machine: bytes in, bytes out through its [`Outbox`], deadlines; no socket, no task,
//! no clock.
//!
//! The connection task (`net::connection`) drives it:
//!
//! - inputs: [`receive`](Session::receive) bytes, [`wake`](Session::wake) after others put something into the outbox,
//!   [`written`](Session::written) when the socket took all bytes, [`timeout`](Session::timeout) at the deadline,
//!   [`login_result`](Session::login_result), [`terminate`](Session::terminate) when the socket is gone;
//! - outputs: the outbox's bytes, [`deadline`](Session::deadline), [`accepts_input`](Session::accepts_input),
//!   [`ends_its_turn`](Session::ends_its_turn), [`take_login`](Session::take_login),
//!   [`is_ahead_of_consumers`](Session::is_ahead_of_consumers),
//!   [`is_finished`](Session::is_finished).
//!
//! No input can fail: a protocol mistake becomes a close method in the outbox and a change of state.
//!
//! Publishes and settlements of one `receive` are collected and handed to each queue as one batch
//! ([`publish`], [`settle`]); everything else first [`flush`](Session::flush)es them, so that the order of a connection
//! is kept. When a reply has to wait for the disk the session pauses: it takes no more input until the commit is there,
//! while its consumers still get their deliveries.

mod basic_methods;
mod batch;
mod channel;
mod closing;
mod confirms;
mod connection_methods;
mod deliveries;
mod exchange_methods;
mod flow;
pub mod handshake;
mod heartbeat;
pub mod message_checks;
pub mod origin;
pub mod outbox;
mod pause;
mod publish;
mod queue_methods;
mod refusals;
pub mod reply_to;
mod route_cache;
mod settle;
mod stalled;
pub mod stock;
#[cfg(test)]
mod tests;
pub mod traffic;
mod tx;

use std::sync::Arc;
use std::time::Instant;

use amq_protocol::protocol::{AMQPClass, connection as connection_class};
use leveret_storage::CommitListener;

use crate::auth::{Authenticated, Credentials};
use crate::broker::{Broker, ConnectionInfo, OpenPlace};
use crate::config::Config;
use crate::protocol::error::AmqpError;
use crate::protocol::frame::{self, Frame, FrameKind};
use crate::protocol::hot;
use crate::protocol::method;
use crate::protocol::wire::short_string as short;
use crate::vhost::effects::Scratch;
use crate::vhost::{Actor, Vhost};
use channel::{Channel, ChannelPhase};
use flow::Flow;
use handshake::{Handshake, Login};
use heartbeat::Heartbeat;
use outbox::{Event, Outbox};
use pause::Pause;
use publish::Publisher;
use settle::SettleBatch;

/// Methods other than publishes and settlements that are done at a stretch: one may cost as much as a hundred publishes.
const METHODS_PER_TURN: usize = 256;
/// One client connection.
pub struct Session {
    broker: Arc<Broker>,
    /// As it was when the client connected.
    config: Arc<Config>,
    info: Arc<ConnectionInfo>,
    outbox: Outbox,
    commit_listener: Arc<dyn CommitListener>,
    phase: Phase,
    client: Client,
    open: Option<Opened>,
    channels: Vec<Option<Box<Channel>>>,
    channels_open: u16,
    publisher: Publisher,
    flow: Flow,
    settles: SettleBatch,
    scratch: Scratch,
    pause: Option<Pause>,
    /// When the login ends.
    expires: Option<Instant>,
    /// What connection.update-secret brought, to be checked.
    new_secret: Option<Credentials>,
    /// It is being checked.
    checks_secret: bool,
    /// Methods that may still be done before others have their turn.
    methods_left: usize,
    heartbeat: Heartbeat,
    frame_max: u32,
    channel_max: u16,
    has_published: bool,
    /// A memory or disk alarm is on and this connection publishes. Not a pause, because it may outlast one.
    blocked: bool,
    /// The store will wake this connection at its next commit.
    watching_commits: bool,
}

/// What the client said about itself.
#[derive(Default)]
struct Client {
    takes_consumer_cancel: bool,
    takes_blocked: bool,
    takes_authentication_failure: bool,
    /// What it calls itself, for topic permissions.
    client_id: Option<String>,
}

/// The virtual host the connection is open to, and as whom; gone when the connection closes.
struct Opened {
    vhost: Arc<Vhost>,
    who: Authenticated,
    actor: Actor,
    users_revision: u64,
    _place: OpenPlace,
}

/// Where the connection is in its life.
///
/// ```text
///   Handshake ──open-ok──▶ Running ──close──▶ Finished
///       │                     │ error, operator      ▲
///       │ refused             ▼                      │ close-ok, deadline
///       └──▶ Dropping     Closing ───────────────────┘
/// ```
enum Phase {
    Handshake(Handshake),
    Running,
    /// connection.close is sent; only close and close-ok count until the deadline.
    Closing {
        deadline: Instant,
    },
    /// Refused before login: silent until the deadline, then dropped.
    Dropping {
        deadline: Instant,
    },
    /// Nothing more is read; what is in the outbox is still written.
    Finished,
}

impl Session {
    /// A connection that has just been accepted.
    pub fn new(broker: Arc<Broker>, info: Arc<ConnectionInfo>, now: Instant) -> Session {
        let outbox = info.outbox.clone();
        let config = broker.live();
        let deadline = now + config.handshake_timeout;
        Session {
            commit_listener: Arc::new(outbox.clone()),
            publisher: Publisher::new(&broker.counters),
            broker,
            info,
            outbox,
            phase: Phase::Handshake(Handshake::new(deadline)),
            client: Client::default(),
            open: None,
            channels: Vec::new(),
            channels_open: 0,
            flow: Flow::default(),
            settles: SettleBatch::default(),
            scratch: Scratch::default(),
            pause: None,
            expires: None,
            new_secret: None,
            checks_secret: false,
            methods_left: METHODS_PER_TURN,
            heartbeat: Heartbeat::new(now),
            frame_max: frame::INITIAL_FRAME_MAX,
            channel_max: 0,
            config,
            has_published: false,
            blocked: false,
            watching_commits: false,
        }
    }

    /// Takes input and says how many bytes of it are done with; the rest must come again, with more behind it.
    pub fn receive(&mut self, now: Instant, input: &[u8]) -> usize {
        self.heartbeat.received(now);
        self.flow.input_begins(now);
        self.methods_left = METHODS_PER_TURN;
        let mut consumed = 0;
        while self.accepts_input() && self.methods_left > 0 {
            match self.step(now, &input[consumed..]) {
                0 => break,
                length => consumed += length,
            }
        }
        self.flush();
        consumed
    }

    /// Handles the first frame of `input`, if it is all there; its length.
    fn step(&mut self, now: Instant, input: &[u8]) -> usize {
        if matches!(self.phase, Phase::Dropping { .. }) {
            return input.len();
        }
        if matches!(self.phase, Phase::Running) {
            let whole = self.step_whole_publish(now, input);
            if whole > 0 {
                return whole;
            }
        }
        if let Phase::Handshake(handshake) = &self.phase
            && handshake.expects_protocol_header()
        {
            return self.receive_protocol_header(input);
        }
        match frame::next_frame(input, self.frame_max) {
            Ok(None) => 0,
            Ok(Some(frame)) => {
                let length = frame.encoded_len();
                self.receive_frame(now, frame);
                length
            }
            Err(error) => {
                self.fail_connection(now, error.into());
                // Nothing behind a framing error can be trusted.
                if let Phase::Closing { .. } = self.phase {
                    self.phase = Phase::Finished;
                }
                0
            }
        }
    }

    /// The hot path: a publish whose header and body follow in the same input.
    fn step_whole_publish(&mut self, now: Instant, input: &[u8]) -> usize {
        let Some(whole) = hot::parse_whole_publish(input, self.frame_max) else {
            return 0;
        };
        let ready = self
            .channel_slot(whole.channel)
            .is_some_and(|channel| channel.is_idle());
        if !ready {
            return 0;
        }
        let route = self.known_route(whole.publish.exchange_and_key);
        if route.is_none() && whole.publish.names().is_none() {
            // Not text: taken frame by frame, it is told what is wrong with it.
            return 0;
        }
        if let Err(error) = self.publish(&whole, route) {
            self.fail(now, whole.channel, error);
        }
        whole.encoded_len
    }

    fn receive_frame(&mut self, now: Instant, frame: Frame<'_>) {
        match &self.phase {
            Phase::Handshake(_) => self.receive_handshake_frame(now, frame),
            Phase::Running => self.receive_running_frame(now, frame),
            Phase::Closing { .. } => self.receive_closing_frame(frame),
            Phase::Dropping { .. } | Phase::Finished => {}
        }
    }

    fn receive_running_frame(&mut self, now: Instant, frame: Frame<'_>) {
        let channel = frame.channel;
        let result = match (frame.kind, channel) {
            (FrameKind::Heartbeat, 0) => Ok(()),
            (FrameKind::Heartbeat, _) => Err(frame.unexpected()),
            (FrameKind::Method, 0) => self.connection_method(frame.payload),
            (_, 0) => Err(frame.unexpected()),
            _ => self.channel_frame(frame),
        };
        if let Err(error) = result {
            self.fail(now, channel, error);
        }
    }

    fn receive_closing_frame(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match method::class_and_method(frame.payload) {
            Some((10, 50)) => {
                self.reply(
                    0,
                    AMQPClass::Connection(connection_class::AMQPMethod::CloseOk(connection_class::CloseOk {})),
                );
                self.phase = Phase::Finished;
            }
            Some((10, 51)) => self.phase = Phase::Finished,
            _ => {}
        }
    }

    /// Frames on channels other than 0.
    fn channel_frame(&mut self, frame: Frame<'_>) -> Result<(), AmqpError> {
        let Some(channel) = self.channel_slot(frame.channel) else {
            return self.frame_on_closed_channel(frame);
        };
        match channel.phase {
            ChannelPhase::Open => self.open_channel_frame(frame),
            ChannelPhase::Closing => {
                self.closing_channel_frame(frame);
                Ok(())
            }
        }
    }

    /// Appends one method to the outbox.
    fn reply(&self, channel: u16, method: AMQPClass) {
        method::encode_method(self.outbox.lock().bytes_mut(), channel, &method);
    }

    /// Hands collected publishes and settlements to their queues and confirms what needs no disk.
    fn flush(&mut self) {
        self.flush_publishes();
        self.flush_settles();
        self.emit_confirms();
        self.resume_stalled();
        self.watch_commits();
    }

    /// Lets consumers of this connection that were refused try again, for as long as there is room.
    fn resume_stalled(&mut self) {
        let Some(mut pass) = self.outbox.lock().stalled() else {
            return;
        };
        let mut keys = Vec::new();
        loop {
            let next = self.outbox.lock().next_stalled(&mut pass, &mut keys);
            let Some(queue) = next else { break };
            queue.resume(keys.drain(..), &mut self.scratch);
        }
    }

    /// Did [`receive`](Session::receive) leave input untouched so that others have their turn?
    pub fn ends_its_turn(&self) -> bool {
        self.methods_left == 0
    }

    /// Is there any use in reading from the socket?
    pub fn accepts_input(&self) -> bool {
        let refuses = match self.phase {
            Phase::Running => self.blocked,
            Phase::Finished => true,
            Phase::Handshake(_) | Phase::Closing { .. } | Phase::Dropping { .. } => false,
        };
        !refuses && self.pause.is_none()
    }

    /// May the socket be closed once the outbox is written?
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// Others put something into the outbox, or the store committed.
    pub fn wake(&mut self, now: Instant) {
        if self.outbox.take_committed() {
            self.commit_happened(now);
        }
        if self.outbox.take_flow_over() {
            self.flow_is_over(now);
        }
        loop {
            let Some(event) = self.outbox.lock().next_event() else {
                break;
            };
            match event {
                Event::ConsumerCancelled { channel, origin, queue } => self.consumer_cancelled(channel, origin, queue),
                Event::Close(error) => self.close_from_outside(now, error),
                Event::Loaded => self.loaded(now),
                Event::AlarmChanged => self.alarm_changed(now),
            }
        }
    }

    /// The socket took some of what waits. A client that reads slowly may itself not be read, but it lives.
    pub fn drained(&mut self, now: Instant) {
        self.heartbeat.received(now);
    }

    /// The socket took everything that was in the outbox.
    pub fn written(&mut self, now: Instant) {
        self.heartbeat.sent(now);
        if let Some(Pause::Unsent) = self.pause {
            self.pause = None;
        }
        self.resume_stalled();
    }

    /// When [`timeout`](Session::timeout) wants to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake(handshake) => Some(handshake.deadline),
            Phase::Running => {
                let deadlines = self.heartbeat.deadline().into_iter().chain(self.flow_deadline());
                deadlines.chain(self.expires).min()
            }
            Phase::Closing { deadline } | Phase::Dropping { deadline } => Some(*deadline),
            Phase::Finished => None,
        }
    }

    /// A deadline has passed.
    pub fn timeout(&mut self, now: Instant) {
        match &self.phase {
            Phase::Handshake(handshake) if now >= handshake.deadline => {
                tracing::info!(connection = %self.info.name, "handshake not finished in time");
                self.phase = Phase::Finished;
            }
            Phase::Closing { deadline } | Phase::Dropping { deadline } if now >= *deadline => {
                self.phase = Phase::Finished;
            }
            Phase::Running if self.expires.is_some_and(|end| now >= end) => self.expire(now),
            Phase::Running => {
                self.beat(now);
                self.look_at_flow(now);
            }
            _ => {}
        }
    }

    fn beat(&mut self, now: Instant) {
        if self.heartbeat.is_send_due(now) {
            frame::write_heartbeat(self.outbox.lock().bytes_mut());
            self.heartbeat.sent(now);
        }
        // A blocked connection is not read, so nothing can be missed on it; but a client that is not read because it
        // does not read has to show that it lives.
        if !self.accepts_input() && !matches!(self.pause, Some(Pause::Unsent)) {
            self.heartbeat.received(now);
        } else if self.heartbeat.is_missed(now) {
            let seconds = self.heartbeat.interval_seconds();
            tracing::warn!(connection = %self.info.name, "missed heartbeats from client, timeout: {seconds}s");
            self.phase = Phase::Finished;
        }
    }

    /// The login to check, once; answer with [`login_result`](Session::login_result).
    pub fn take_login(&mut self) -> Option<Login> {
        if let Some(credentials) = self.new_secret.take() {
            return Some(Login::Password(credentials));
        }
        match &mut self.phase {
            Phase::Handshake(handshake) => handshake.take_login(),
            _ => None,
        }
    }

    fn channel_slot(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }
}
