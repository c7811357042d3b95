//! Binding addresses and accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::broker::Broker;
use crate::config::ListenAddress;

/// Connections that the operating system may hold for us before they are accepted.
const ACCEPT_BACKLOG: i32 = 1024;
/// Pause after a failed accept, most often for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} for {purpose}: {reason}; choose another address with --{purpose}-listen")]
pub struct ListenError {
    address: String,
    purpose: &'static str,
    reason: io::Error,
}

/// Binds every address. When a whole family is missing on this machine, a wildcard of it is left out.
pub fn bind_all(addresses: &[ListenAddress], purpose: &'static str) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let failed = |reason| ListenError {
            address: address.to_string(),
            purpose,
            reason,
        };
        for socket_address in address.resolve().map_err(failed)? {
            match bind(socket_address) {
                Ok(listener) => listeners.push(listener),
                Err(error) if address.is_wildcard() && is_family_missing(&error) => {
                    tracing::debug!(%address, "not listening: {error}");
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(protocol = purpose, address = %address, "listening");
        }
    }
    Ok(listeners)
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Both families are bound by themselves, so that both can have the port.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts AMQP connections until `stop` changes.
pub async fn accept_amqp(listener: TcpListener, broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer, &broker),
            Err(error) => {
                tracing::error!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn start(stream: TcpStream, peer: SocketAddr, broker: &Arc<Broker>) {
    // Output is batched here, so the kernel need not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {error}");
    }
    tokio::spawn(super::connection::run(stream, peer, broker.clone()));
}
