//! A small blocking AMQP client that sends whatever it is told to, also what no real client would send.
//!
//! Reading is strict: every frame must parse, and a frame that does not come within [`DEADLINE`] fails the test.

mod expect;
mod frames;
pub mod make;
mod methods;
mod receive;

pub use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
pub use amq_protocol::protocol::{
    AMQPClass, BasicProperties, access, basic, channel, confirm, connection, exchange, queue, tx,
};
pub use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
pub use expect::Text;
pub use frames::{
    BODY, END, HEADER, HEARTBEAT, METHOD, array_nested, encode, frame_bytes, header_payload, long_string,
    method_payload, raw_table, short_string, table_nested,
};
pub use methods::{Method, Request};
pub use receive::{Content, Received};

use crate::wait::DEADLINE;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// What opens every AMQP 0-9-1 connection.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// Octets of a frame around its payload.
pub const FRAME_OVERHEAD: usize = 8;

/// The reply code of an orderly close.
pub const REPLY_SUCCESS: u16 = 200;

/// How to log in and what to agree on.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub virtual_host: String,
    pub client_properties: FieldTable,
    /// `None` sends back what the broker offers, with heartbeats off.
    pub tune_ok: Option<connection::TuneOk>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user: "guest".into(),
            password: "guest".into(),
            virtual_host: "/".into(),
            client_properties: FieldTable::default(),
            tune_ok: None,
        }
    }
}

impl Login {
    /// `user` with `password` in `virtual_host`.
    pub fn of(user: &str, password: &str, virtual_host: &str) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            virtual_host: virtual_host.into(),
            ..Self::default()
        }
    }

    /// Announces the capability `name`.
    pub fn with_capability(mut self, name: &str) -> Self {
        let key = ShortString::from("capabilities");
        let mut capabilities = match self.client_properties.inner().get(&key) {
            Some(AMQPValue::FieldTable(table)) => table.clone(),
            _ => FieldTable::default(),
        };
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
        self.client_properties.insert(key, AMQPValue::FieldTable(capabilities));
        self
    }

    /// Says something else of the client.
    pub fn with_property(mut self, name: &str, value: &str) -> Self {
        self.client_properties
            .insert(name.into(), AMQPValue::LongString(value.into()));
        self
    }

    fn plain_response(&self) -> LongString {
        format!("\0{}\0{}", self.user, self.password).into()
    }
}

/// One connection.
pub struct RawClient {
    stream: TcpStream,
    /// Received bytes that are not yet a whole frame.
    buffer: Vec<u8>,
    /// The largest frame we send; known after tune.
    frame_max: usize,
}

impl RawClient {
    /// Opens the socket and sends nothing.
    pub fn socket(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            frame_max: 4096,
        }
    }

    /// Logs in as `guest` and opens `/`.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, &Login::default())
    }

    /// Logs in and opens the virtual host of `login`.
    pub fn connect_as(address: SocketAddr, login: &Login) -> Self {
        let mut client = Self::tuned(address, login);
        let _ok: connection::OpenOk = client.call(0, open_virtual_host(&login.virtual_host));
        client
    }

    /// Does all of the handshake but `connection.open`.
    pub fn tuned(address: SocketAddr, login: &Login) -> Self {
        let mut client = Self::started(address).0;
        client.send_start_ok(login);
        let tune: connection::Tune = client.expect(0);
        client.send_tune_ok(login, &tune);
        client
    }

    /// Sends the protocol header and reads `connection.start`.
    pub fn started(address: SocketAddr) -> (Self, connection::Start) {
        let mut client = Self::socket(address);
        client.send_bytes(&PROTOCOL_HEADER);
        let start = client.expect(0);
        (client, start)
    }

    /// Logs in as `guest` and opens channel 1.
    pub fn with_channel(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.open_channel(1);
        client
    }

    /// Answers `connection.start` with SASL PLAIN.
    pub fn send_start_ok(&mut self, login: &Login) {
        self.send(
            0,
            connection::StartOk {
                client_properties: login.client_properties.clone(),
                mechanism: "PLAIN".into(),
                response: login.plain_response(),
                locale: "en_US".into(),
            },
        );
    }

    /// Answers `connection.tune` as `login` wants it.
    pub fn send_tune_ok(&mut self, login: &Login, tune: &connection::Tune) {
        let tune_ok = login.tune_ok.clone().unwrap_or(connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: tune.frame_max,
            heartbeat: 0,
        });
        self.frame_max = tune_ok.frame_max as usize;
        self.send(0, tune_ok);
    }

    pub fn open_channel(&mut self, number: u16) {
        let _ok: channel::OpenOk = self.call(number, channel::Open {});
    }

    /// Opens a channel and hands every frame that comes before the answer to `collect`.
    pub fn open_channel_collecting(&mut self, number: u16, mut collect: impl FnMut(AMQPFrame)) {
        self.send(number, channel::Open {});
        loop {
            match self.next_frame().expect("channel.open-ok") {
                AMQPFrame::Method(on, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))) if on == number => {
                    return;
                }
                frame => collect(frame),
            }
        }
    }

    /// Closes the connection in an orderly way: waits for `connection.close-ok`, hangs up, and waits for the broker to do so.
    pub fn close(mut self) {
        let close = connection::Close {
            reply_code: REPLY_SUCCESS,
            reply_text: "Goodbye".into(),
            ..Default::default()
        };
        self.send(0, close);
        while !matches!(
            self.next_method(),
            (0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)))
        ) {}
        self.shut_down_writing();
        self.expect_end_of_stream();
    }

    /// Closes the sending half of the socket, unless the broker has hung up already.
    pub fn shut_down_writing(&self) {
        match self.stream.shutdown(Shutdown::Write) {
            Err(error) if !hung_up(error.kind()) => panic!("cannot shut down: {error}"),
            Ok(()) | Err(_) => {}
        }
    }

    // Sending

    /// Sends `bytes` as they are. A broker that has hung up already is no error here: what it said is read later.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if !hung_up(error.kind()) => panic!("cannot send: {error}"),
            Ok(()) | Err(_) => {}
        }
    }

    /// Sends one frame with a correct length and end octet.
    pub fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.send_bytes(&frame_bytes(kind, channel, payload));
    }

    /// Sends a method.
    pub fn send(&mut self, channel: u16, method: impl Method) {
        self.send_bytes(&encode(&AMQPFrame::Method(channel, method.wrap())));
    }

    /// Sends a method frame of which only the ids are given a meaning.
    pub fn send_method_bytes(&mut self, channel: u16, class_id: u16, method_id: u16, arguments: &[u8]) {
        self.send_frame(METHOD, channel, &method_payload(class_id, method_id, arguments));
    }

    /// Sends a method and reads the answer that belongs to it.
    #[track_caller]
    pub fn call<R: Request>(&mut self, channel: u16, request: R) -> R::Answer {
        self.send(channel, request);
        self.expect(channel)
    }

    /// Sends `basic.publish` with a header frame and as many body frames as needed.
    pub fn publish(&mut self, channel: u16, publish: basic::Publish, properties: BasicProperties, body: &[u8]) {
        self.send(channel, publish);
        self.send_header(channel, properties, body.len() as u64);
        for part in body.chunks(self.frame_max - FRAME_OVERHEAD) {
            self.send_frame(BODY, channel, part);
        }
    }

    /// Publishes `body` without properties.
    pub fn publish_to(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            ..Default::default()
        };
        self.publish(channel, publish, BasicProperties::default(), body);
    }

    /// Sends a content header frame.
    pub fn send_header(&mut self, channel: u16, properties: BasicProperties, body_size: u64) {
        let header = AMQPContentHeader {
            class_id: 60,
            body_size,
            properties,
        };
        self.send_bytes(&encode(&AMQPFrame::Header(channel, header)));
    }
}

/// `connection.open` of `name`.
pub fn open_virtual_host(name: &str) -> connection::Open {
    connection::Open {
        virtual_host: name.into(),
    }
}

fn hung_up(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::NotConnected
    )
}
