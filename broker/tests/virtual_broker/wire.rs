//! What the connection task does with a socket, done with two buffers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use leveret::broker::{Broker, ConnectionInfo};
use leveret::protocol::frame::INITIAL_FRAME_MAX;
use leveret::session::Session;
use leveret::session::handshake::Login;

use super::words::Words;
use super::{World, client};

/// One connection: a session, and the bytes on their way to and from it.
pub struct Wire {
    session: Session,
    info: Arc<ConnectionInfo>,
    /// Sent by the client, not yet taken by the session.
    input: Vec<u8>,
    /// Read by the client, not yet looked at.
    pub received: Vec<u8>,
    /// Bytes that the client's socket still takes; none for no limit.
    pub readable_bytes: Option<usize>,
    closed: bool,
}

impl Wire {
    /// A client that has connected and said nothing.
    pub fn accept(broker: &Arc<Broker>, now: Instant) -> Wire {
        let id = broker.next_connection_id();
        let address = |port: u64| SocketAddr::from(([127, 0, 0, 1], port as u16));
        let info = ConnectionInfo::new(id, address(40_000 + id.0), address(5672), INITIAL_FRAME_MAX, now);
        let info = Arc::new(info);
        broker.connection_accepted(&info);
        let session = Session::new(broker.clone(), info.clone(), now);
        Wire {
            session,
            info,
            input: Vec::new(),
            received: Vec::new(),
            readable_bytes: None,
            closed: false,
        }
    }

    /// A client with channel 1 open, as guest.
    pub fn connected(world: &World) -> Wire {
        let mut wires = [Wire::accept(&world.broker, world.now)];
        let nothing = Words::of("");
        let steps = [
            client::PROTOCOL_HEADER.to_vec(),
            client::octets(0, "connection.start-ok", &nothing),
            client::octets(0, "connection.tune-ok", &nothing),
            client::octets(0, "connection.open", &Words::of("/")),
            client::octets(1, "channel.open", &nothing),
        ];
        for step in steps {
            wires[0].send(&step);
            world.settle(&mut wires);
        }
        let [mut wire] = wires;
        wire.received.clear();
        wire
    }

    /// One command on channel 1 and all that follows of it; its answer is not shown.
    pub fn command(&mut self, world: &World, line: &str) {
        let mut words = Words::of(line);
        let command = words.take_first();
        self.send(&client::octets(1, &command, &words));
        while self.turn(&world.broker, world.now) {}
        self.received.clear();
    }

    /// The session takes whole frames, and nothing is copied on their way: for those who count or time what it does.
    pub fn take(&mut self, now: Instant, input: &[u8]) {
        assert_eq!(self.session.receive(now, input), input.len());
    }

    /// Swaps what waits for the client with `sending`, as the connection's task does, and counts it as written.
    pub fn write_into(&mut self, now: Instant, sending: &mut Vec<u8>) {
        sending.clear();
        self.info.outbox.lock().take_bytes(sending);
        self.session.written(now);
    }

    /// What others told the session, as the connection's task passes it on.
    pub fn wake(&mut self, now: Instant) {
        self.session.wake(now);
    }

    /// The client sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Does what there is to do; false if there was nothing.
    pub fn turn(&mut self, broker: &Arc<Broker>, now: Instant) -> bool {
        if self.closed {
            return false;
        }
        let mut worked = self.write(now);
        if self.session.is_finished() {
            self.close(broker);
            return true;
        }
        if let Some(Login::Password(credentials)) = self.session.take_login() {
            let (password, ip) = (credentials.password.expose(), self.info.peer.ip());
            let result = broker.users.authenticate(&credentials.username, password, ip);
            self.session.login_result(now, result);
            worked = true;
        }
        if !self.input.is_empty() && self.session.accepts_input() {
            let consumed = self.session.receive(now, &self.input);
            if self.session.is_ahead_of_consumers() {
                self.session.pause_for_consumers(now);
            }
            self.input.drain(..consumed);
            worked |= consumed > 0;
        }
        // As the task does it: only when the outbox says so, which finds forgotten notifications.
        let can_write = self.readable_bytes != Some(0);
        if self
            .info
            .outbox
            .poll_work(&mut Context::from_waker(Waker::noop()), can_write)
            .is_ready()
        {
            self.session.wake(now);
            worked = true;
        }
        worked
    }

    fn write(&mut self, now: Instant) -> bool {
        if self.readable_bytes == Some(0) {
            return false;
        }
        let mut bytes = Vec::new();
        self.info.outbox.lock().take_bytes(&mut bytes);
        if bytes.is_empty() {
            return false;
        }
        if let Some(left) = &mut self.readable_bytes {
            *left = left.saturating_sub(bytes.len());
        }
        self.received.extend_from_slice(&bytes);
        self.session.written(now);
        true
    }

    /// The socket is gone: either side closed it, or the line is cut.
    pub fn close(&mut self, broker: &Arc<Broker>) {
        if !std::mem::replace(&mut self.closed, true) {
            self.session.terminate();
            broker.connection_closed(self.info.id);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Would the broker read more from this client?
    pub fn accepts_input(&self) -> bool {
        !self.closed && self.session.accepts_input()
    }

    pub fn deadline(&self) -> Option<Instant> {
        if self.closed { None } else { self.session.deadline() }
    }

    pub fn timeout(&mut self, now: Instant) {
        self.session.timeout(now);
        let later = self.session.is_finished() || self.session.deadline().is_none_or(|deadline| deadline > now);
        assert!(later, "a deadline that has passed must move");
    }
}

/// Frames as amq-protocol encodes them.
pub fn encoded(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}
