//! What is known of one connection outside its session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::socket_traffic::SocketTraffic;
use crate::net::tls::peer::TlsInfo;
use crate::session::outbox::Outbox;

/// So long after a flow pause a connection is shown to be in flow.
const FLOW_SHOWN: Duration = Duration::from_secs(1);

/// A connection for the life of the process; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What is known of one connection outside its session.
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// `client address -> server address`, as RabbitMQ names connections.
    pub name: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The way to its client.
    pub outbox: Outbox,
    /// How it is encrypted, and whom its client's certificate names.
    pub tls: Option<TlsInfo>,
    /// When it was accepted.
    pub connected_at: Instant,
    /// What passed through its socket.
    pub socket: SocketTraffic,
    channels: AtomicU16,
    publishes: AtomicBool,
    open: AtomicBool,
    /// When the last flow pause began, in milliseconds since the connection was accepted, plus one; 0 for never.
    in_flow_at: AtomicU64,
    frame_max: AtomicU32,
    heartbeat_seconds: AtomicU16,
    pub(super) identity: RwLock<Identity>,
}

/// What the client said of itself and what it was let into.
#[derive(Clone, Default)]
pub struct Identity {
    /// The user it logged in as.
    pub user: Arc<str>,
    /// How it logged in, by SASL's name.
    pub auth_mechanism: &'static str,
    /// The virtual host it opened.
    pub vhost: Arc<str>,
    /// `connection_name` of the client's properties.
    pub connection_name: Option<String>,
    /// `product` and `version` of the client's properties.
    pub product: Option<String>,
    /// All of the client's properties but its name, as an encoded table.
    pub properties: Option<Arc<[u8]>>,
}

impl ConnectionInfo {
    /// A connection that has just been accepted.
    pub fn new(id: ConnectionId, peer: SocketAddr, local: SocketAddr, frame_max: u32, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id,
            name: format!("{peer} -> {local}"),
            peer,
            local,
            outbox: Outbox::new(frame_max),
            tls: None,
            connected_at: now,
            socket: SocketTraffic::default(),
            channels: AtomicU16::new(0),
            publishes: AtomicBool::new(false),
            open: AtomicBool::new(false),
            in_flow_at: AtomicU64::new(0),
            frame_max: AtomicU32::new(0),
            heartbeat_seconds: AtomicU16::new(0),
            identity: RwLock::default(),
        }
    }

    /// The same over TLS, if it is.
    pub fn with_tls(self, tls: Option<TlsInfo>) -> ConnectionInfo {
        ConnectionInfo { tls, ..self }
    }

    /// The user name that the client's certificate has proven, or why there is none.
    pub fn certificate_login(&self) -> Result<&str, &'static str> {
        let tls = self.tls.as_ref().ok_or("the connection is not encrypted")?;
        let peer = tls.peer.as_ref().ok_or("the client has shown no certificate")?;
        peer.login.as_deref().map_err(|reason| *reason)
    }

    /// What is known of the client.
    pub fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    /// The user, empty before login.
    pub fn user(&self) -> Arc<str> {
        self.identity.read().user.clone()
    }

    /// The virtual host, empty before open.
    pub fn vhost(&self) -> Arc<str> {
        self.identity.read().vhost.clone()
    }

    /// What the client calls itself, for the log.
    pub fn client_name(&self) -> String {
        let identity = self.identity.read();
        identity
            .connection_name
            .clone()
            .or_else(|| identity.product.clone())
            .unwrap_or_default()
    }

    /// Remembers the client's properties.
    pub fn set_client(&self, connection_name: Option<String>, product: Option<String>, version: Option<String>) {
        let mut identity = self.identity.write();
        identity.connection_name = connection_name;
        identity.product = product.map(|product| match version {
            Some(version) => format!("{product} {version}"),
            None => product,
        });
    }

    /// Remembers all that the client said of itself.
    pub fn set_properties(&self, properties: Option<Arc<[u8]>>) {
        self.identity.write().properties = properties;
    }

    /// The client is gone.
    pub fn take_properties(&self) -> Option<Arc<[u8]>> {
        self.identity.write().properties.take()
    }

    /// Remembers who logged in, and by which mechanism.
    pub fn set_user(&self, user: &str, auth_mechanism: &'static str) {
        let mut identity = self.identity.write();
        identity.user = user.into();
        identity.auth_mechanism = auth_mechanism;
    }

    /// Remembers what was opened.
    pub fn set_vhost(&self, vhost: &str) {
        self.identity.write().vhost = vhost.into();
    }

    /// Remembers what was negotiated.
    pub fn set_tuning(&self, frame_max: u32, heartbeat_seconds: u16) {
        self.frame_max.store(frame_max, Ordering::Relaxed);
        self.heartbeat_seconds.store(heartbeat_seconds, Ordering::Relaxed);
    }

    /// The negotiated frame size and heartbeat interval.
    pub fn tuning(&self) -> (u32, u16) {
        (
            self.frame_max.load(Ordering::Relaxed),
            self.heartbeat_seconds.load(Ordering::Relaxed),
        )
    }

    /// Remembers how many channels are open.
    pub fn set_channels(&self, count: u16) {
        self.channels.store(count, Ordering::Relaxed);
    }

    /// The connection has published.
    pub fn set_publishes(&self) {
        self.publishes.store(true, Ordering::Relaxed);
    }

    /// The connection is let into its virtual host, or closes.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Has the connection published?
    pub fn publishes(&self) -> bool {
        self.publishes.load(Ordering::Relaxed)
    }

    /// The connection waits for the consumers of what it publishes.
    pub fn set_in_flow(&self, now: Instant) {
        self.in_flow_at.store(self.age_millis(now) + 1, Ordering::Relaxed);
    }

    /// Has the connection waited for consumers lately? It does so for moments only, too short to be seen.
    pub fn is_in_flow(&self, now: Instant) -> bool {
        match self.in_flow_at.load(Ordering::Relaxed) {
            0 => false,
            at => self.age_millis(now).saturating_sub(at - 1) < FLOW_SHOWN.as_millis() as u64,
        }
    }

    fn age_millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.connected_at).as_millis() as u64
    }

    /// Looks at what passes through its socket and its channels, so many seconds after the last time.
    pub fn look(&self, seconds: f64) {
        if self.socket.look(seconds) {
            self.outbox.lock().look(seconds);
        }
    }

    /// The name of one of its channels, as RabbitMQ makes it.
    pub fn channel_name(&self, number: u16) -> String {
        format!("{} ({number})", self.name)
    }

    /// Open channels.
    pub fn channels(&self) -> u16 {
        self.channels.load(Ordering::Relaxed)
    }
}
