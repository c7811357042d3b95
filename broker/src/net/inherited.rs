//! Sockets that systemd has opened for the broker (`LISTEN_FDS`), by the names that `LISTEN_FDNAMES` gives them.

use std::net::TcpListener;

use listenfd::ListenFd;

/// What is spoken on a socket, as its name in the unit says it.
const NAMES: [&str; 6] = [
    "amqp",
    "amqp_tls",
    "management",
    "management_tls",
    "metrics",
    "metrics_tls",
];

/// Sockets that nobody has claimed yet.
#[derive(Default)]
pub struct Inherited(Vec<(String, TcpListener)>);

impl Inherited {
    /// Those of this process. To be called once: the environment forgets them.
    pub fn of_process() -> Inherited {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut passed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..passed.len() {
            let name = names.get(index).copied().unwrap_or_default();
            match passed.take_tcp_listener(index) {
                Ok(Some(listener)) => listeners.push((purpose(name), listener)),
                Ok(None) => {}
                Err(error) => tracing::error!("a socket from the service manager cannot be used: {error}"),
            }
        }
        Inherited(listeners)
    }

    /// Takes those of a purpose.
    pub fn take(&mut self, purpose: &str) -> Vec<TcpListener> {
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(name, _)| name == purpose);
        self.0 = left;
        let taken: Vec<(String, TcpListener)> = taken;
        taken.into_iter().map(|(_, listener)| listener).collect()
    }
}

/// A socket without a name of ours, as when the unit gives none, is for AMQP.
fn purpose(name: &str) -> String {
    if NAMES.contains(&name) { name } else { "amqp" }.to_owned()
}
