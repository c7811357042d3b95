//! What systemd is told of the broker's life, by datagrams to the socket that `NOTIFY_SOCKET` names. Without one nobody is told.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;

/// The service manager, if there is one.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<OsString>,
}

impl ServiceManager {
    /// The one that has started this process.
    pub fn of_process() -> ServiceManager {
        ServiceManager {
            socket: std::env::var_os("NOTIFY_SOCKET"),
        }
    }

    /// Clients are served from now on.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=ready for clients");
    }

    /// An orderly stop has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=saying goodbye to clients");
    }

    fn tell(&self, state: &str) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name.as_bytes(), state) {
            tracing::warn!(
                "cannot tell the service manager '{}': {error}",
                state.replace('\n', " ")
            );
        }
    }

    /// Says that all is well for as long as it is, at half the time that `WATCHDOG_USEC` allows. A broker whose tasks do
    /// not run, or whose locks are held for ever, says nothing and is restarted.
    pub async fn keep_watchdog(self, broker: Arc<Broker>) {
        let interval = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        let Some(interval) = interval.filter(|interval| !interval.is_zero() && self.socket.is_some()) else {
            return;
        };
        loop {
            // Takes the locks that everything else needs, too.
            let _ = broker.sockets() + broker.vhosts().len();
            self.tell("WATCHDOG=1");
            tokio::time::sleep(interval / 2).await;
        }
    }
}

/// A name that begins with `@` is one of no file.
fn send(name: &[u8], state: &str) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_of_ready_and_stopping() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager {
            socket: Some(path.into_os_string()),
        };
        manager.ready();
        manager.stopping();
        let mut heard = [0; 100];
        for expected in ["READY=1", "STOPPING=1"] {
            let length = socket.recv(&mut heard).unwrap();
            assert!(heard[..length].starts_with(expected.as_bytes()), "{expected}");
        }
        // A name without a file, and nobody at all.
        let name = format!("leveret-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let manager = ServiceManager {
            socket: Some(format!("@{name}").into()),
        };
        manager.ready();
        assert!(socket.recv(&mut heard).unwrap() > 0);
        ServiceManager::default().ready();
    }
}
