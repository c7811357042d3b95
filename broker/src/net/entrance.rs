//! Between the accept of a socket and its first byte of AMQP or HTTP: the PROXY protocol, then TLS.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::proxy::{self, HEADER_BYTES_MAX, Malformed, ProxyHeader, Source};
use super::stream::Stream;
use super::tls::peer::TlsInfo;
use super::tls::{Purpose, Tls};
use crate::broker::Broker;
use crate::clock;

/// Pause between looks at a PROXY protocol header whose rest has not come.
const PEEK_PAUSE: Duration = Duration::from_millis(5);
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;
/// What somebody who speaks HTTP to a TLS port is told.
const HTTP_TO_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 41\r\n\r\nThis port speaks TLS: write https:// here";

/// How clients of a listener come in.
#[derive(Clone)]
pub struct Entrance {
    purpose: Purpose,
    tls: Option<Arc<Tls>>,
    broker: Arc<Broker>,
}

/// A client that has come in.
pub struct Arrived<S> {
    /// Its byte stream.
    pub stream: S,
    /// Its address.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// What TLS has found out.
    pub tls: Option<TlsInfo>,
    /// When its socket was accepted.
    pub accepted_at: Instant,
}

/// A socket, or TLS over one, with its handshake done.
pub enum Transport {
    /// As the socket has it.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl From<Transport> for Stream {
    fn from(transport: Transport) -> Stream {
        match transport {
            Transport::Plain(socket) => Stream::Plain(socket),
            Transport::Tls(stream) => {
                let (socket, tls) = stream.into_inner();
                Stream::tls(socket, tls)
            }
        }
    }
}

impl<S> Arrived<S> {
    /// The same client with its stream in another form.
    pub fn map<T>(self, convert: impl FnOnce(S) -> T) -> Arrived<T> {
        Arrived {
            stream: convert(self.stream),
            peer: self.peer,
            local: self.local,
            tls: self.tls,
            accepted_at: self.accepted_at,
        }
    }
}

/// Why a client does not come in.
enum Refused {
    /// It went away, or its connection broke.
    Gone(io::Error),
    /// Its proxy says who it is in a way that nobody understands.
    Proxy(Malformed),
    /// It speaks something else.
    NotTls(&'static str),
    /// TLS could not be agreed on.
    Handshake(io::Error),
}

impl Entrance {
    /// That of a listener; over TLS if there is one.
    pub fn new(broker: &Arc<Broker>, purpose: Purpose, tls: Option<Arc<Tls>>) -> Entrance {
        Entrance {
            purpose,
            tls,
            broker: broker.clone(),
        }
    }

    /// Whether this client comes in without a wait.
    pub fn is_open_to(&self, peer: SocketAddr) -> bool {
        self.tls.is_none() && !self.broker.live().proxy_protocol_from.contain(peer.ip())
    }

    /// A client that comes in without a wait.
    pub fn pass(&self, socket: TcpStream, peer: SocketAddr) -> io::Result<Arrived<TcpStream>> {
        Ok(Arrived {
            peer,
            local: socket.local_addr()?,
            stream: socket,
            tls: None,
            accepted_at: clock::now(),
        })
    }

    /// Lets a client come in, within the time of a handshake. Why one does not is told to the log.
    pub async fn admit(&self, socket: TcpStream, peer: SocketAddr) -> Option<Arrived<Transport>> {
        let deadline = self.broker.live().handshake_timeout;
        match timeout(deadline, self.receive(socket, peer)).await {
            Ok(Ok(arrived)) => return Some(arrived),
            Ok(Err(Refused::Gone(error))) => tracing::debug!(%peer, "closed before it had come in: {error}"),
            Ok(Err(Refused::Proxy(error))) => tracing::warn!(%peer, "PROXY protocol header refused: {error}"),
            Ok(Err(Refused::NotTls(what))) => tracing::warn!(%peer, "refused on a TLS port: {what}"),
            Ok(Err(Refused::Handshake(error))) => tracing::warn!(%peer, "TLS handshake failed: {}", said(&error)),
            Err(_) => tracing::warn!(%peer, "the client had not come in within {deadline:?}"),
        }
        None
    }

    async fn receive(&self, socket: TcpStream, peer: SocketAddr) -> Result<Arrived<Transport>, Refused> {
        let mut arrived = self.pass(socket, peer).map_err(Refused::Gone)?;
        if self.broker.live().proxy_protocol_from.contain(peer.ip())
            && let Some(source) = read_proxy_header(&mut arrived.stream).await?
        {
            (arrived.peer, arrived.local) = (source.peer, source.local);
        }
        let Some(tls) = &self.tls else {
            return Ok(arrived.map(Transport::Plain));
        };
        let mut socket = arrived.stream;
        expect_tls(&mut socket).await?;
        let (config, login_from) = tls.in_force(self.purpose);
        let accepted = TlsAcceptor::from(config).accept(socket).await;
        let stream = accepted.map_err(Refused::Handshake)?;
        let info = TlsInfo::of(stream.get_ref().1, login_from);
        Ok(Arrived {
            stream: Transport::Tls(Box::new(stream)),
            peer: arrived.peer,
            local: arrived.local,
            tls: Some(info),
            accepted_at: arrived.accepted_at,
        })
    }
}

/// Who the client is in the words of its proxy; none when it says nothing, or speaks for itself.
async fn read_proxy_header(socket: &mut TcpStream) -> Result<Option<Source>, Refused> {
    let mut seen = vec![0; HEADER_BYTES_MAX];
    loop {
        let length = socket.peek(&mut seen).await.map_err(Refused::Gone)?;
        if length == 0 {
            return Err(Refused::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        match proxy::parse(&seen[..length]).map_err(Refused::Proxy)? {
            ProxyHeader::Absent => return Ok(None),
            // A header comes in one piece, but for somebody who plays.
            ProxyHeader::Incomplete => tokio::time::sleep(PEEK_PAUSE).await,
            ProxyHeader::Complete { length, source } => {
                let taken = socket.read_exact(&mut seen[..length]).await;
                return taken.map(|_| source).map_err(Refused::Gone);
            }
        }
    }
}

/// Looks at the first bytes without taking them.
async fn expect_tls(socket: &mut TcpStream) -> Result<(), Refused> {
    let mut first = [0; 8];
    let length = socket.peek(&mut first).await.map_err(Refused::Gone)?;
    let first = &first[..length];
    match first {
        [] => Err(Refused::Gone(io::ErrorKind::UnexpectedEof.into())),
        [TLS_HANDSHAKE, ..] => Ok(()),
        [b'A', ..] if b"AMQP".starts_with(&first[..length.min(4)]) => Err(Refused::NotTls(
            "the client speaks AMQP without TLS; its address should begin with amqps:// or its port be one of amqp_listen",
        )),
        [b'P', b'R', ..] | [b'\r', ..] => Err(Refused::NotTls(
            "the client sends a PROXY protocol header; its address is in none of the networks of proxy_protocol_from",
        )),
        [b'A'..=b'Z', ..] => {
            // Somebody may read it in a browser.
            let _ = socket.write_all(HTTP_TO_TLS).await;
            Err(Refused::NotTls(
                "the client speaks HTTP without TLS; its address should begin with https://",
            ))
        }
        _ => Err(Refused::NotTls("what the client sends is not TLS")),
    }
}

/// The library's words, and for what clients do wrong most often what can be done.
fn said(error: &impl Display) -> String {
    let text = error.to_string();
    if text.contains("CertificateUnknown") || text.contains("UnknownCA") || text.contains("BadCertificate") {
        return format!("{text}: the client does not trust this server's certificate");
    }
    text
}
