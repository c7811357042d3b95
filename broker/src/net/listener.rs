//! Binding addresses and accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection;
use super::entrance::Entrance;
use super::inherited::Inherited;
use super::stream::Stream;
use crate::broker::Broker;
use crate::config::ListenAddress;

/// Connections that the operating system may hold for us before they are accepted.
const ACCEPT_BACKLOG: i32 = 1024;
/// Pause after a failed accept, most often for lack of file descriptors, or while too many sockets are not open
/// connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Sockets that need not be open connections: in their handshake, refused or closing. With so many none is accepted.
const UNOPENED_SOCKETS_MAX: usize = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} for {purpose}: {reason}; choose another address for {}", key(.purpose))]
pub struct ListenError {
    address: String,
    purpose: &'static str,
    reason: io::Error,
}

/// The configuration's key for the addresses of a purpose.
fn key(purpose: &str) -> String {
    match purpose {
        "amqp_tls" => "tls_listen".to_owned(),
        purpose => format!("{purpose}_listen"),
    }
}

/// Binds every address. When a whole family is missing on this machine, a wildcard of it is left out.
/// Sockets that the service manager has opened for the purpose take the place of all its addresses.
pub fn bind_all(
    addresses: &[ListenAddress],
    purpose: &'static str,
    inherited: &mut Inherited,
) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = adopt(inherited.take(purpose), purpose)?;
    let addresses = if listeners.is_empty() { addresses } else { &[] };
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

fn adopt(inherited: Vec<std::net::TcpListener>, purpose: &'static str) -> Result<Vec<TcpListener>, ListenError> {
    let adopt = |listener: std::net::TcpListener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let adopted = inherited.into_iter().map(adopt).collect::<io::Result<_>>();
    adopted.map_err(|reason| ListenError {
        address: "a socket of the service manager".to_owned(),
        purpose,
        reason,
    })
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
pub async fn accept_amqp(
    listener: TcpListener,
    entrance: Entrance,
    broker: Arc<Broker>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &broker) => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((socket, peer)) => start(socket, peer, &entrance, &broker, &stop),
            Err(error) => {
                tracing::error!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next client. Those that do not come to an open connection wait in the system's list when they are too many.
async fn accept(listener: &TcpListener, broker: &Broker) -> io::Result<(TcpStream, SocketAddr)> {
    if has_no_room(broker) {
        tracing::warn!("no more connections are accepted until some of {UNOPENED_SOCKETS_MAX} handshakes are done");
        while has_no_room(broker) {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    listener.accept().await
}

fn has_no_room(broker: &Broker) -> bool {
    (broker.sockets() + broker.arriving()).saturating_sub(broker.open_connections()) >= UNOPENED_SOCKETS_MAX
}

fn start(socket: TcpStream, peer: SocketAddr, entrance: &Entrance, broker: &Arc<Broker>, stop: &watch::Receiver<bool>) {
    if broker.is_drained() {
        return tracing::debug!(%peer, "refused: the broker is drained");
    }
    // Output is batched here, so the kernel need not wait for more.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {error}");
    }
    if entrance.is_open_to(peer) {
        if let Ok(arrived) = entrance.pass(socket, peer) {
            connection::start(arrived.map(Stream::Plain), broker);
        }
        return;
    }
    let place = broker.take_arriving_place();
    let (entrance, broker, mut stop) = (entrance.clone(), broker.clone(), stop.clone());
    tokio::spawn(async move {
        let arrived = tokio::select! {
            arrived = entrance.admit(socket, peer) => arrived,
            _ = stop.changed() => None,
        };
        if let Some(arrived) = arrived {
            connection::start(arrived.map(Stream::from), &broker);
        }
        drop(place);
    });
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;

    use super::*;
    use crate::broker::ConnectionInfo;
    use crate::clock;
    use crate::config::Config;

    #[tokio::test]
    async fn too_many_sockets_that_are_not_open_connections_hold_the_next_one_back() {
        let store = Store::in_memory(StoreOptions::default());
        let broker = crate::startup::start(Config::default(), store, &Registry::new()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = UNOPENED_SOCKETS_MAX + 1;
        for _ in 0..sockets {
            let id = broker.next_connection_id();
            let info = ConnectionInfo::new(id, address, address, 4096, clock::now());
            broker.connection_accepted(&Arc::new(info));
        }
        let _client = TcpStream::connect(address).await.unwrap();
        let mut accepted = pin!(accept(&listener, &broker));
        let mut context = Context::from_waker(Waker::noop());
        assert!(accepted.as_mut().poll(&mut context).is_pending());

        // Whoever opens is not in the way any more, and who leaves is neither.
        let place = broker.take_open_place();
        assert!(has_no_room(&broker));
        broker.connection_closed(broker.connections()[0].id);
        assert!(!has_no_room(&broker));
        accepted.await.unwrap();
        drop(place);
        assert!(has_no_room(&broker));
    }
}
