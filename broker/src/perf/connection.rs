//! A small AMQP client over a blocking socket: as little work per message as possible, so that the broker is what is
//! measured. Nothing is shared between threads; each worker owns its connection and its one channel.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use amq_protocol::protocol::{channel, confirm, connection};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::error::PerfError;
use super::uri::AmqpUri;
use crate::clock;
use crate::protocol::frame::{FRAME_OVERHEAD, Frame, FrameKind, next_frame};
use crate::protocol::method::{class_and_method, decode_method, encode_method, method_name};
use crate::protocol::protocol_header::AMQP_0_9_1;
use crate::protocol::wire::short_string;
use crate::protocol::{AMQPClass, ShortString};

/// The one channel of a connection, except where `leveret perf connections` opens more.
pub const CHANNEL: u16 = 1;
/// Largest frame that is offered to the broker, in octets; what RabbitMQ offers to its clients.
const FRAME_MAX: u32 = 131_072;
/// How long a blocked read or write waits before it looks whether the run is over.
pub const WAIT: Duration = Duration::from_millis(50);
/// How long the broker may take to answer a method.
const ANSWER_TIMEOUT_SECONDS: u64 = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection.
pub struct Connection {
    socket: TcpStream,
    input: Input,
    frame_max: u32,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    Bytes,
    Nothing,
}

/// Whether a read waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For [`WAIT`] at most.
    Yes,
    No,
}

impl Connection {
    /// Connects, logs in, opens the virtual host and channel 1. `input_bytes` is the size of the read buffer to begin with.
    pub fn open(uri: &AmqpUri, input_bytes: usize) -> Result<Connection, PerfError> {
        let mut this = Connection {
            socket: connect(uri)?,
            input: Input::new(input_bytes),
            frame_max: FRAME_MAX,
        };
        this.send_all(&AMQP_0_9_1)?;
        this.log_in(uri)?;
        this.open_channel(CHANNEL)?;
        Ok(this)
    }

    /// Largest frame in octets.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    fn log_in(&mut self, uri: &AmqpUri) -> Result<(), PerfError> {
        use connection::AMQPMethod::{OpenOk, Start, Tune};
        match self.answer(0, "the protocol header")? {
            AMQPClass::Connection(Start(_)) => {}
            other => return Err(unexpected(&other)),
        }
        self.send_method(0, &start_ok(uri))?;
        let tune = match self.answer(0, "connection.start-ok")? {
            AMQPClass::Connection(Tune(tune)) => tune,
            other => return Err(unexpected(&other)),
        };
        // 0 means no limit of the broker's.
        if tune.frame_max != 0 {
            self.frame_max = tune.frame_max.min(FRAME_MAX);
        }
        let tune_ok = connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: self.frame_max,
            // Without heartbeats: an idle connection must cost the generator nothing.
            heartbeat: 0,
        };
        self.send_method(0, &AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)))?;
        let open = connection::Open {
            virtual_host: short_string(&uri.vhost),
        };
        match self.call(0, &AMQPClass::Connection(connection::AMQPMethod::Open(open)))? {
            AMQPClass::Connection(OpenOk(_)) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a further channel.
    pub fn open_channel(&mut self, channel: u16) -> Result<(), PerfError> {
        match self.call(
            channel,
            &AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        )? {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for confirms on channel 1.
    pub fn select_confirms(&mut self) -> Result<(), PerfError> {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        match self.call(CHANNEL, &AMQPClass::Confirm(select))? {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Closes in order; whatever is still on its way from the broker is dropped.
    pub fn close(mut self) -> Result<(), PerfError> {
        let close = connection::Close {
            reply_code: 200,
            reply_text: short_string("finished"),
            class_id: 0,
            method_id: 0,
        };
        self.send_method(0, &AMQPClass::Connection(connection::AMQPMethod::Close(close)))?;
        let mut closed = false;
        let deadline = clock::now() + Duration::from_secs(ANSWER_TIMEOUT_SECONDS);
        while !closed && clock::now() < deadline {
            self.receive(Waiting::Yes)?;
            self.each_frame(|frame| {
                closed |= frame.channel == 0 && class_and_method(frame.payload) == Some((10, 51));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Sends a method that has an answer and waits for it.
    pub fn call(&mut self, channel: u16, method: &AMQPClass) -> Result<AMQPClass, PerfError> {
        self.send_method(channel, method)?;
        let name = method_name(method.get_amqp_class_id(), method.get_amqp_method_id());
        self.answer(channel, name)
    }

    /// Sends methods at once and then waits for an answer to each.
    pub fn call_all(&mut self, channel: u16, methods: &[AMQPClass]) -> Result<Vec<AMQPClass>, PerfError> {
        self.send_methods(channel, methods)?;
        methods
            .iter()
            .map(|_| self.answer(channel, "pipelined methods"))
            .collect()
    }

    /// Sends methods without waiting for answers.
    pub fn send_methods(&mut self, channel: u16, methods: &[AMQPClass]) -> Result<(), PerfError> {
        let mut out = Vec::new();
        for method in methods {
            encode_method(&mut out, channel, method);
        }
        self.send_all(&out)
    }

    fn send_method(&mut self, channel: u16, method: &AMQPClass) -> Result<(), PerfError> {
        self.send_methods(channel, std::slice::from_ref(method))
    }

    /// The next method on a channel. Deliveries of earlier consumers must not be under way.
    fn answer(&mut self, channel: u16, question: &'static str) -> Result<AMQPClass, PerfError> {
        let deadline = clock::now() + Duration::from_secs(ANSWER_TIMEOUT_SECONDS);
        loop {
            let mut answer = None;
            self.input.take_frames(self.frame_max, |frame| {
                if frame.channel == channel && frame.kind == FrameKind::Method && !is_close(&frame) {
                    answer = Some(decode_method(frame.payload).map_err(|error| undecodable(&error))?);
                    return Ok(Continue::No);
                }
                check_unasked(&frame).map(|_| Continue::Yes)
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if clock::now() > deadline {
                return Err(PerfError::NoAnswer(question, ANSWER_TIMEOUT_SECONDS));
            }
            self.receive(Waiting::Yes)?;
        }
    }

    /// Hands every whole frame that has arrived to `handle`.
    #[inline]
    pub fn each_frame(&mut self, mut handle: impl FnMut(Frame<'_>) -> Result<(), PerfError>) -> Result<(), PerfError> {
        self.input
            .take_frames(self.frame_max, |frame| handle(frame).map(|()| Continue::Yes))
    }

    /// One read of what has arrived.
    pub fn receive(&mut self, waiting: Waiting) -> Result<Received, PerfError> {
        let flags = match waiting {
            Waiting::Yes => RecvFlags::empty(),
            Waiting::No => RecvFlags::DONTWAIT,
        };
        let free = self.input.free(self.frame_max);
        match rustix::net::recv(&self.socket, free, flags) {
            Ok((0, _)) => Err(PerfError::Disconnected("without saying why")),
            Ok((count, _)) => {
                self.input.filled(count);
                Ok(Received::Bytes)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                    Ok(Received::Nothing)
                }
                io::ErrorKind::ConnectionReset => Err(PerfError::Disconnected("without saying why")),
                _ => Err(PerfError::io("read from the broker")(error.into())),
            },
        }
    }

    /// Writes what the socket takes at once; how many octets that was.
    pub fn send(&mut self, octets: &[u8]) -> Result<usize, PerfError> {
        match rustix::net::send(&self.socket, octets, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(self.why_closed(error.into())),
            },
        }
    }

    /// Writes everything, waiting for the socket and not reading meanwhile.
    pub fn send_all(&mut self, mut octets: &[u8]) -> Result<(), PerfError> {
        let deadline = clock::now() + Duration::from_secs(ANSWER_TIMEOUT_SECONDS);
        loop {
            let sent = self.send(octets)?;
            octets = octets.get(sent..).unwrap_or_default();
            if octets.is_empty() {
                return Ok(());
            }
            if clock::now() > deadline {
                return Err(PerfError::NoAnswer(
                    "(it does not read what is sent)",
                    ANSWER_TIMEOUT_SECONDS,
                ));
            }
            self.wait(PollFlags::OUT, WAIT)?;
        }
    }

    /// Waits until one of `wanted` holds of the socket or the time is over. Whether there is something to read.
    pub fn wait(&self, wanted: PollFlags, timeout: Duration) -> Result<bool, PerfError> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.socket, wanted)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => Ok(fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(PerfError::io("wait for the broker")(error.into())),
        }
    }

    /// The reason the broker gave before the socket broke, if it gave one.
    fn why_closed(&mut self, error: io::Error) -> PerfError {
        while let Ok(Received::Bytes) = self.receive(Waiting::No) {
            if let Err(reason) = self.each_frame(|frame| check_unasked(&frame).map(drop)) {
                return reason;
            }
        }
        PerfError::io("write to the broker")(error)
    }
}

/// What a broker may send at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// connection.blocked.
    Blocked,
    /// basic.cancel: the queue is gone.
    Cancelled,
    /// Nothing of interest.
    Other,
}

/// Looks at a frame that nobody waits for: a close is an error.
pub fn check_unasked(frame: &Frame<'_>) -> Result<Unasked, PerfError> {
    use connection::AMQPMethod::{Blocked, Close};
    if frame.kind != FrameKind::Method {
        return Ok(Unasked::Other);
    }
    match decode_method(frame.payload).map_err(|error| undecodable(&error))? {
        AMQPClass::Connection(Close(close)) => Err(closed("connection", close.reply_code, &close.reply_text)),
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
            Err(closed("channel", close.reply_code, &close.reply_text))
        }
        AMQPClass::Connection(Blocked(_)) => Ok(Unasked::Blocked),
        AMQPClass::Basic(amq_protocol::protocol::basic::AMQPMethod::Cancel(_)) => Ok(Unasked::Cancelled),
        _ => Ok(Unasked::Other),
    }
}

/// The error for an answer that is none.
pub fn unexpected(method: &AMQPClass) -> PerfError {
    PerfError::Unexpected(method_name(method.get_amqp_class_id(), method.get_amqp_method_id()).to_owned())
}

fn undecodable(error: &crate::protocol::DecodeError) -> PerfError {
    PerfError::Unexpected(format!("a method that cannot be read ({error:?})"))
}

fn closed(what: &'static str, code: u16, text: &ShortString) -> PerfError {
    PerfError::ClosedByBroker {
        what,
        code,
        text: text.as_str().to_owned(),
    }
}

fn is_close(frame: &Frame<'_>) -> bool {
    matches!(class_and_method(frame.payload), Some((10, 50) | (20, 40)))
}

fn connect(uri: &AmqpUri) -> Result<TcpStream, PerfError> {
    let what = || format!("connect to {}:{}", uri.host, uri.port);
    let addresses = (uri.host.as_str(), uri.port)
        .to_socket_addrs()
        .map_err(PerfError::io(what()))?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(PerfError::io("set up a socket"))?;
                socket
                    .set_read_timeout(Some(WAIT))
                    .map_err(PerfError::io("set up a socket"))?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(PerfError::io(what())(failure))
}

fn start_ok(uri: &AmqpUri) -> AMQPClass {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ] {
        capabilities.insert(short_string(name), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text.as_bytes()));
    client_properties.insert(short_string("product"), text("leveret perf"));
    client_properties.insert(short_string("version"), text(env!("CARGO_PKG_VERSION")));
    client_properties.insert(short_string("capabilities"), AMQPValue::FieldTable(capabilities));
    let start_ok = connection::StartOk {
        client_properties,
        mechanism: short_string("PLAIN"),
        response: LongString::from(format!("\0{}\0{}", uri.user, uri.password).as_bytes()),
        locale: short_string("en_US"),
    };
    AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Continue {
    Yes,
    No,
}

/// The read buffer: what has arrived lies between `start` and `end`.
struct Input {
    octets: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn new(size: usize) -> Input {
        Input {
            octets: vec![0; size],
            start: 0,
            end: 0,
        }
    }

    /// Room for more. A whole frame always fits in the end: the buffer grows if it is full of one that is not whole.
    fn free(&mut self, frame_max: u32) -> &mut [u8] {
        if self.end == self.octets.len() {
            let frame_len_max = frame_max as usize + FRAME_OVERHEAD;
            let size = (self.octets.len() * 2).clamp(1, frame_len_max.max(self.octets.len() + 1));
            self.octets.resize(size, 0);
        }
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Takes whole frames off the front until there are none or `handle` has enough, and makes room at the back.
    #[inline]
    fn take_frames(
        &mut self,
        frame_max: u32,
        mut handle: impl FnMut(Frame<'_>) -> Result<Continue, PerfError>,
    ) -> Result<(), PerfError> {
        let result = loop {
            let rest = self.octets.get(self.start..self.end).unwrap_or_default();
            let frame = match next_frame(rest, frame_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(PerfError::Unexpected(format!("bytes that are no frame ({error})"))),
            };
            self.start += frame.encoded_len();
            match handle(frame) {
                Ok(Continue::Yes) => {}
                Ok(Continue::No) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.octets.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        result
    }
}
