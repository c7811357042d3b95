//! One connection's task: it moves bytes between its socket and its [`Session`], and nothing else touches either.
//!
//! One turn writes what is in the outbox, then waits until the socket can be read (or written, if the last write did
//! not finish), others put something into the outbox, or a deadline passes.
//!
//! Input is read into a buffer that all connections of a thread share, because it is used up before the task waits
//! again; only the beginning of an unfinished frame stays with its connection. An idle connection so costs no buffer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use tokio::time::Sleep;

use crate::auth::{Authenticated, LoginRefused};
use crate::broker::{Broker, ConnectionInfo};
use crate::clock;
use crate::logins;
use crate::net::entrance::Arrived;
use crate::net::stream::Stream;
use crate::protocol::frame::INITIAL_FRAME_MAX;
use crate::session::Session;
use crate::session::handshake::{Login, REFUSAL_DELAY};
use crate::session::outbox::{KEPT_CAPACITY_BYTES, Outbox};
use crate::session::stock;

/// Most bytes taken from the socket at once; an unfinished frame from the last time lies in front of them.
const READ_BYTES: usize = 256 * 1024;
/// The read buffer: one read behind the longest unfinished frame.
const READ_BUFFER_BYTES: usize = READ_BYTES + 160 * 1024;
/// After so many bytes read at a stretch the task lets others run before it reads on.
const YIELD_AFTER_BYTES: usize = 64 * 1024;
/// After this much written at a stretch, as when a fast reader drains a long queue, the task lets others run.
const YIELD_AFTER_WRITTEN_BYTES: usize = 1024 * 1024;
/// While this much waits for the socket, the client is not read: it must first read its answers.
const UNSENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a closed connection's last bytes may take to reach the client.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of a closed connection that are read and dropped, so that the client gets our last words and not a reset.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER_BYTES]);
}

/// Enters a client that was accepted and starts the task that serves it from the first byte to the last.
pub fn start(arrived: Arrived<Stream>, broker: &Arc<Broker>) {
    let Arrived {
        stream,
        peer,
        local,
        tls,
        accepted_at,
    } = arrived;
    let id = broker.next_connection_id();
    let info = ConnectionInfo::new(id, peer, local, INITIAL_FRAME_MAX, accepted_at);
    let info = Arc::new(info.with_tls(tls));
    broker.connection_accepted(&info);
    let connection = Connection {
        outbox: info.outbox.clone(),
        guard: Registered {
            broker: broker.clone(),
            info: info.clone(),
        },
        session: Session::new(broker.clone(), info.clone(), accepted_at),
        stream,
        unfinished: Vec::new(),
        sending: Vec::new(),
        sent: 0,
        held_back: false,
        at_a_stretch: 0,
        was_in_flow: false,
        read_closed: false,
        received_any: false,
    };
    tokio::spawn(run(connection, info, broker.clone()));
}

async fn run(mut connection: Connection, info: Arc<ConnectionInfo>, broker: Arc<Broker>) {
    let result = connection.serve(&broker, &info).await;
    connection.session.terminate();
    match result {
        Ok(()) if !connection.received_any => tracing::debug!(connection = %info.name, "closed without a byte"),
        Ok(()) => {
            tracing::info!(connection = %info.name, user = %info.user(), vhost = %info.vhost(), "connection closed")
        }
        Err(error) => {
            tracing::info!(
                connection = %info.name, user = %info.user(), vhost = %info.vhost(), "connection lost: {error}"
            );
        }
    }
    drop(connection.guard);
}

/// Takes the connection off the broker's list however its task ends.
struct Registered {
    broker: Arc<Broker>,
    info: Arc<ConnectionInfo>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.broker.connection_closed(self.info.id);
    }
}

struct Connection {
    session: Session,
    stream: Stream,
    outbox: Outbox,
    guard: Registered,
    /// The beginning of a frame whose rest has not come, or input that a paused session has not taken.
    unfinished: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
    /// The session was paused, or ended its turn, before it had looked at all of `unfinished`.
    held_back: bool,
    /// Bytes read since others had their turn.
    at_a_stretch: usize,
    was_in_flow: bool,
    read_closed: bool,
    received_any: bool,
}

/// How a turn of writing ended.
#[derive(PartialEq, Eq)]
enum Written {
    /// There is nothing to write now, or the socket takes nothing.
    All,
    /// There may be more, but others should run first.
    Enough,
}

/// Why the task woke up.
#[derive(Default)]
struct Ready {
    readable: bool,
    timeout: bool,
}

impl Connection {
    async fn serve(&mut self, broker: &Arc<Broker>, info: &ConnectionInfo) -> io::Result<()> {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        loop {
            if self.write()? == Written::Enough {
                tokio::task::yield_now().await;
            }
            if self.session.is_finished() {
                return self.finish().await;
            }
            if self.read_closed {
                return Ok(());
            }
            if let Some(login) = self.session.take_login() {
                let result = log_in(broker, info, login).await;
                self.session.login_result(clock::now(), result);
                continue;
            }
            if self.held_back && self.may_read() && self.take_unfinished() {
                if self.session.ends_its_turn() {
                    self.write()?;
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let ready = self.wait(&mut timer).await;
            let now = clock::now();
            self.session.wake(now);
            if ready.timeout {
                timer = None;
                self.session.timeout(now);
            }
            if ready.readable {
                if std::mem::take(&mut self.was_in_flow) {
                    // The consumers' task that ended the pause has put this one in front of all others.
                    tokio::task::yield_now().await;
                }
                self.at_a_stretch += self.read(now).await?;
                if self.at_a_stretch >= YIELD_AFTER_BYTES || self.session.ends_its_turn() {
                    self.at_a_stretch = 0;
                    self.write()?;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.session.accepts_input()
            && self.sending.len() - self.sent + self.outbox.lock().bytes_waiting() < UNSENT_BYTES_MAX
    }

    async fn wait(&mut self, timer: &mut Option<Pin<Box<Sleep>>>) -> Ready {
        arm(timer, self.session.deadline());
        let may_read = self.may_read();
        let write_blocked = self.sent < self.sending.len() || self.stream.has_unsent();
        let (stream, outbox) = (&self.stream, &self.outbox);
        poll_fn(|context| {
            let mut ready = Ready::default();
            let mut any = outbox.poll_work(context, !write_blocked).is_ready();
            if may_read && stream.poll_read_ready(context).is_ready() {
                ready.readable = true;
                any = true;
            }
            if write_blocked && stream.poll_write_ready(context).is_ready() {
                any = true;
            }
            if let Some(timer) = timer.as_mut()
                && timer.as_mut().poll(context).is_ready()
            {
                ready.timeout = true;
                any = true;
            }
            if any { Poll::Ready(ready) } else { Poll::Pending }
        })
        .await
    }

    /// Writes until everything is out, the socket takes no more, or others should have their turn.
    fn write(&mut self) -> io::Result<Written> {
        let mut total = 0;
        self.stream.try_flush()?;
        loop {
            if self.sent == self.sending.len() {
                if total >= YIELD_AFTER_WRITTEN_BYTES {
                    return Ok(Written::Enough);
                }
                self.sending.clear();
                self.sent = 0;
                self.outbox.lock().take_bytes(&mut self.sending);
                if self.sending.is_empty() {
                    if self.sending.capacity() > KEPT_CAPACITY_BYTES {
                        stock::give_back(std::mem::take(&mut self.sending));
                    }
                    return Ok(Written::All);
                }
            }
            match self.stream.try_write(&self.sending[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written;
                    total += written;
                    self.guard.info.socket.count_write(written);
                    if self.sent < self.sending.len() {
                        self.session.drained(clock::now());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Written::All),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.sent == self.sending.len() {
                self.session.written(clock::now());
            }
        }
    }

    /// Reads once and gives the session what came; the number of bytes. Does not wait.
    async fn read(&mut self, now: Instant) -> io::Result<usize> {
        poll_fn(|context| Poll::Ready(self.read_with(context, now))).await
    }

    fn read_with(&mut self, context: &mut Context<'_>, now: Instant) -> io::Result<usize> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let before = self.unfinished.len();
            if buffer.len() < before + READ_BYTES {
                buffer.resize(before + READ_BYTES, 0);
            }
            let mut space = ReadBuf::new(&mut buffer[before..before + READ_BYTES]);
            // Unlike try_read, this remembers that a read which did not fill the buffer has emptied the socket: the next
            // one waits for more, instead of asking the system in vain after each message.
            let length = match self.stream.poll_read(context, &mut space) {
                Poll::Ready(Ok(())) => space.filled().len(),
                Poll::Pending => return Ok(0),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
                Poll::Ready(Err(error)) => return Err(error),
            };
            if length == 0 {
                self.read_closed = true;
                return Ok(0);
            }
            self.received_any = true;
            self.guard.info.socket.count_read(length);
            buffer[..before].copy_from_slice(&self.unfinished);
            let input = &buffer[..before + length];
            let consumed = hand_over(&mut self.session, now, input);
            self.keep(&input[consumed..]);
            Ok(length)
        })
    }

    fn keep(&mut self, rest: &[u8]) {
        let untouched = !self.session.accepts_input() || self.session.ends_its_turn();
        self.held_back = !rest.is_empty() && untouched;
        self.was_in_flow = self.session.is_in_flow();
        self.unfinished.clear();
        if rest.is_empty() {
            self.unfinished = Vec::new();
        } else {
            self.unfinished.extend_from_slice(rest);
        }
    }

    /// Gives a session that was paused the input it has not taken yet; true if it took some.
    fn take_unfinished(&mut self) -> bool {
        let input = std::mem::take(&mut self.unfinished);
        let consumed = hand_over(&mut self.session, clock::now(), &input);
        self.keep(&input[consumed..]);
        consumed > 0
    }

    /// Sends the last bytes, says goodbye, and waits for the client to have read them.
    async fn finish(&mut self) -> io::Result<()> {
        let farewell = async {
            // A turn of writing may end before the outbox is empty, and the goodbye is the last thing in it.
            while self.write()? == Written::Enough || self.sent < self.sending.len() || self.stream.has_unsent() {
                self.stream.writable().await?;
            }
            self.stream.shut_down()?;
            let mut dropped = 0;
            while dropped < LINGER_BYTES_MAX {
                match self.stream.drop_input().await? {
                    0 => break,
                    length => dropped += length,
                }
            }
            io::Result::Ok(())
        };
        // Whether the client is there to hear it or not, the connection is closed.
        let _ = tokio::time::timeout(LINGER, farewell).await;
        Ok(())
    }
}

/// Gives the session input and says how much of it was taken.
fn hand_over(session: &mut Session, now: Instant, input: &[u8]) -> usize {
    let consumed = session.receive(now, input);
    if session.is_ahead_of_consumers() {
        // The batch may have taken longer than the pause will last.
        session.pause_for_consumers(clock::now());
    }
    consumed
}

/// Makes the timer fire at the deadline. A timer that fires too early is set again, which is cheaper than moving it
/// with every byte that comes.
fn arm(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Option<Instant>) {
    match (timer.as_mut(), deadline) {
        (_, None) => *timer = None,
        (Some(armed), Some(deadline)) if armed.deadline().into_std() <= deadline => {}
        (_, Some(deadline)) => *timer = Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
    }
}

/// Checks a login; sources that keep failing wait longer and longer for the answer.
async fn log_in(broker: &Arc<Broker>, info: &ConnectionInfo, login: Login) -> Result<Authenticated, LoginRefused> {
    let ip = info.peer.ip();
    let result = match login {
        Login::Password(credentials) => logins::check(broker, credentials, ip).await,
        Login::Name(name) => {
            let user = broker.users.authenticate_by_name(&name, ip);
            user.map(Authenticated::from)
        }
    };
    if let Err(reason) = &result {
        // The session itself makes a refused client wait for the usual delay.
        logins::refuse_late(broker, ip, reason, REFUSAL_DELAY).await;
    }
    result
}
