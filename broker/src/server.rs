//! The broker as a process: what runs in it, where it listens, and how it stops.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::broker::{Broker, Listener};
use crate::config::{Config, Settings};
use crate::ctl::server::CtlServer;
use crate::metrics::{endpoint, process, rates};
use crate::net::entrance::Entrance;
use crate::net::inherited::Inherited;
use crate::net::listener::{self, ListenError};
use crate::net::tls::files::TlsError;
use crate::net::tls::{self, Purpose, Tls, TlsSettings};
use crate::notify::ServiceManager;
use crate::reload::ConfigSource;
use crate::startup::{self, StartError};
use crate::{alarms, clock, management, reload, timer};

/// How often an orderly stop looks whether all connections are gone.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long clients may take to answer connection.close when the broker stops.
const CLIENT_GOODBYE: Duration = Duration::from_secs(5);
/// The password that everybody knows.
const DEFAULT_PASSWORD: &[u8] = b"guest";

/// Runs the broker until it is told to stop. The configuration is read again from its source at SIGHUP.
pub async fn run(config: Config, settings: Settings, source: ConfigSource) -> Result<(), StartError> {
    process::raise_fd_limit();
    let registry = Registry::new();
    let broker = startup::open(config, &registry)?;
    broker.set_settings(settings);
    let config = &broker.config;
    // Before anybody is told that the broker listens: who hears that may stop it.
    let mut stop_signals = StopSignals::listen()?;
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let tls = load_tls(&broker)?;
    let doors = Doors::bind(config)?;
    let ctl = CtlServer::bind(&config.ctl_socket_path()).map_err(StartError::Ctl)?;
    broker.set_listeners(doors.described());
    let (stop, stopped) = watch::channel(false);
    if let Some(tls) = &tls {
        tokio::spawn(tls::watch_files(tls.clone(), stopped.clone()));
    }
    tokio::spawn(reload::at_hangup(hangup, broker.clone(), source));
    doors.open(&broker, &registry, tls, &stopped);
    tokio::spawn(ctl.serve(broker.clone()));
    tokio::spawn(alarms::watch(broker.clone()));
    tokio::spawn(timer::run(broker.clone()));
    tracing::info!(
        data_dir = %config.data_dir.display(), version = env!("CARGO_PKG_VERSION"), "Leveret is ready for clients"
    );
    welcome(&broker);
    let manager = ServiceManager::of_process();
    manager.ready();
    tokio::spawn(manager.clone().keep_watchdog(broker.clone()));
    stop_signals.wait().await;
    manager.stopping();
    broker.stopping.store(true, Ordering::Relaxed);
    let _ = stop.send(true);
    stop_orderly(&broker).await;
    Ok(())
}

/// The listeners, by what is spoken on them.
struct Doors {
    amqp: Vec<TcpListener>,
    amqp_tls: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    metrics_tls: Vec<TcpListener>,
    management: Vec<TcpListener>,
    management_tls: Vec<TcpListener>,
}

impl Doors {
    fn bind(config: &Config) -> Result<Doors, ListenError> {
        let mut inherited = Inherited::of_process();
        Ok(Doors {
            amqp: listener::bind_all(&config.amqp_listen, "amqp", &mut inherited)?,
            amqp_tls: listener::bind_all(&config.tls_listen, "amqp_tls", &mut inherited)?,
            metrics: listener::bind_all(&config.metrics_listen, "metrics", &mut inherited)?,
            metrics_tls: listener::bind_all(&config.metrics_tls_listen, "metrics_tls", &mut inherited)?,
            management: listener::bind_all(&config.management_listen, "management", &mut inherited)?,
            management_tls: listener::bind_all(&config.management_tls_listen, "management_tls", &mut inherited)?,
        })
    }

    fn described(&self) -> Vec<Listener> {
        let all = [
            ("amqp", &self.amqp),
            ("amqp_tls", &self.amqp_tls),
            ("management", &self.management),
            ("management_tls", &self.management_tls),
            ("metrics", &self.metrics),
            ("metrics_tls", &self.metrics_tls),
        ];
        let listeners = all.into_iter().flat_map(|(purpose, listeners)| {
            let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
            addresses.map(move |address| Listener { purpose, address })
        });
        listeners.collect()
    }

    /// Lets clients come in until `stop` changes.
    fn open(self, broker: &Arc<Broker>, registry: &Registry, tls: Option<Arc<Tls>>, stop: &watch::Receiver<bool>) {
        let entrance = |purpose, tls: &Option<Arc<Tls>>| Entrance::new(broker, purpose, tls.clone());
        for (listeners, tls) in [(self.amqp, &None), (self.amqp_tls, &tls)] {
            for listener in listeners {
                let entrance = entrance(Purpose::Amqp, tls);
                tokio::spawn(listener::accept_amqp(listener, entrance, broker.clone(), stop.clone()));
            }
        }
        if !self.management.is_empty() || !self.management_tls.is_empty() {
            tokio::spawn(rates::watch(broker.clone()));
        }
        let management = management::Door::new(broker.clone()).site();
        let metrics = endpoint::site(broker.clone(), registry.clone());
        for (site, listeners, tls) in [
            (&management, self.management, &None),
            (&management, self.management_tls, &tls),
            (&metrics, self.metrics, &None),
            (&metrics, self.metrics_tls, &tls),
        ] {
            for listener in listeners {
                tokio::spawn(site.clone().serve(listener, entrance(Purpose::Http, tls), stop.clone()));
            }
        }
    }
}

/// Reads the certificates, if there are any. A file that cannot be used ends the start.
fn load_tls(broker: &Broker) -> Result<Option<Arc<Tls>>, TlsError> {
    let Some(settings) = TlsSettings::of(&broker.config) else {
        return Ok(None);
    };
    let tls = Arc::new(Tls::load(settings)?);
    Ok(Some(broker.tls.get_or_init(|| tls).clone()))
}

/// Tells a newcomer how to point a client here. A password that somebody chose is not shown.
fn welcome(broker: &Broker) {
    let user = &broker.config.default_user;
    let known_password = broker
        .users
        .authenticate(user, DEFAULT_PASSWORD, Ipv4Addr::LOCALHOST.into())
        .is_ok();
    let Some(address) = broker
        .listeners()
        .iter()
        .find(|listener| listener.purpose == "amqp")
        .map(|listener| reachable(&listener.address.to_string()))
    else {
        return;
    };
    if broker.users.get(user).is_none() {
        return;
    }
    let vhost = broker.config.default_vhost.replace('/', "%2f");
    let password = if known_password { "guest" } else { "<its password>" };
    tracing::info!("point a client at amqp://{user}:{password}@{address}/{vhost}");
    if broker.users.is_loopback_user(user) {
        tracing::info!("user '{user}' may connect from this machine only; add others with 'leveret ctl add_user'");
    }
}

/// An address as a client of this machine would write it.
fn reachable(address: &str) -> String {
    address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
}

/// The signals that ask for an orderly stop. From the moment they are listened for they no longer end the process at once.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<StopSignals, StartError> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate()).map_err(StartError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(StartError::Signals)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}

/// Tells clients goodbye, waits for them a while, and flushes the store.
async fn stop_orderly(broker: &Arc<Broker>) {
    let (began, time) = (clock::now(), broker.live().shutdown_deadline);
    broker.close_connections("broker forced connection closure with reason 'shutdown'", |_| true);
    // Clients that do not answer leave the store its half.
    let goodbye = began + CLIENT_GOODBYE.min(time / 2);
    while broker.sockets() > 0 && clock::now() < goodbye {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    let store = broker.store.clone();
    let closed = tokio::task::spawn_blocking(move || store.close());
    match tokio::time::timeout_at((began + time).into(), closed).await {
        Ok(Ok(Ok(()))) => tracing::info!("stopped"),
        Ok(Ok(Err(error))) => tracing::error!("the store could not be closed: {error}"),
        Ok(Err(error)) => tracing::error!("the store could not be closed: {error}"),
        Err(_) => tracing::error!("the store was not closed within the shutdown deadline"),
    }
}
