//! The broker as a process: what is opened in which order, and how it stops.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leveret_storage::{Definition, Fsync, StorageError, Store, StoreOptions};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::auth::seed::seed_users;
use crate::auth::{PermissionRecord, UserRecord, Users};
use crate::broker::{AdminError, Broker, Listener};
use crate::config::{Config, FsyncPolicy};
use crate::ctl::server::{CtlBindError, CtlServer};
use crate::definitions::{Document, Plan};
use crate::metrics::{Counters, endpoint, process, rates};
use crate::net::entrance::Entrance;
use crate::net::inherited::Inherited;
use crate::net::listener::{self, ListenError};
use crate::net::tls::files::TlsError;
use crate::net::tls::{self, Purpose, Tls, TlsSettings};
use crate::notify::ServiceManager;
use crate::reload::ConfigSource;
use crate::settings::Setting;
use crate::vhost::effects;
use crate::vhost::paging::Paging;
use crate::vhost::recovery::RecoveryError;
use crate::{alarms, clock, management, oauth_keys, reload, timer};

/// How often an orderly stop looks whether all connections are gone.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long clients may take to answer connection.close when the broker stops.
const CLIENT_GOODBYE: Duration = Duration::from_secs(5);
/// The variable that makes the store of a debug build restless.
const RESTLESS_STORE: &str = "TEST_LEVERET_RESTLESS_STORE";
/// The password that everybody knows.
const DEFAULT_PASSWORD: &[u8] = b"guest";

/// Why the broker could not start or had to stop. `Display` reads after "cannot".
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("make the data directory {}: {reason}; choose another with --data-dir", .directory.display())]
    DataDirectory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The store cannot be opened.
    #[error("open the data directory {}: {reason}{}", .directory.display(), remedy(.reason))]
    Store {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        reason: StorageError,
    },
    /// Tokens cannot be checked.
    #[error("accept access tokens: {0}")]
    Oauth(String),
    /// Stored definitions make no sense.
    #[error("recover what is stored: {0}")]
    Recovery(#[from] RecoveryError),
    /// The first users or virtual hosts cannot be made.
    #[error("make the first users and virtual hosts: {0}")]
    Seed(#[from] AdminError),
    /// The virtual hosts of the first start, or what its definitions file has, cannot be made.
    #[error("make the first virtual hosts{}: {reason}", of_file(.file))]
    FirstDefinitions {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// What is wrong.
        reason: String,
    },
    /// An address is taken or not there.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Certificates or keys cannot be used.
    #[error("serve TLS: {0}")]
    Tls(#[from] TlsError),
    /// The control socket cannot be opened.
    #[error("{0}")]
    Ctl(CtlBindError),
    /// Signals cannot be waited for.
    #[error("wait for signals: {0}")]
    Signals(io::Error),
    /// There are no threads to be had.
    #[error("start threads: {0}")]
    Threads(io::Error),
    /// The counters clash.
    #[error("register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Runs the broker until it is told to stop. The configuration is read again from its source at SIGHUP.
pub async fn run(config: Config, source: ConfigSource) -> Result<(), StartError> {
    process::raise_fd_limit();
    let registry = Registry::new();
    let broker = open(config, &registry)?;
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

/// What an operator can do about a store that does not open.
fn remedy(reason: &StorageError) -> &'static str {
    match reason {
        StorageError::InUse { .. } => "; stop that process or choose another directory with --data-dir",
        StorageError::NotADirectory { .. } => "; choose a directory with --data-dir",
        StorageError::NotWritable { .. } => "; mend its permissions or choose another with --data-dir",
        StorageError::Corrupt { .. } => "; see 'leveret check', and what 'leveret check --repair' can keep",
        _ => "",
    }
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

/// Opens the store in the data directory and starts a broker on it.
fn open(config: Config, registry: &Registry) -> Result<Arc<Broker>, StartError> {
    let directory = config.data_dir.clone();
    std::fs::create_dir_all(&directory).map_err(|reason| StartError::DataDirectory {
        directory: directory.clone(),
        reason,
    })?;
    let store = Store::open(&directory, store_options(&config)).map_err(|reason| StartError::Store {
        directory: directory.clone(),
        reason,
    })?;
    start(config, store, registry)
}

/// Brings back what is in the store, or makes the first users and virtual hosts.
pub fn start(config: Config, store: Store, registry: &Registry) -> Result<Arc<Broker>, StartError> {
    let directory = config.data_dir.clone();
    let definitions = store
        .definitions()
        .map_err(|reason| StartError::Store { directory, reason })?;
    let counters = Arc::new(Counters::new(registry)?);
    let users = recover_users(&config, &definitions);
    // A store that is moved by hand belongs to a simulation, in which nothing moves by itself.
    let paging = if store.is_manual() {
        Paging::by_hand(config.queue_memory_budget)
    } else {
        Paging::start(config.queue_memory_budget).map_err(StartError::Threads)?
    };
    let oauth = oauth_keys::open(&config).map_err(StartError::Oauth)?;
    let broker = Arc::new(Broker::new(config, users, store, counters, paging, clock::now()));
    if let Some(oauth) = oauth {
        let _ = broker.oauth.set(oauth);
    }
    let weak = Arc::downgrade(&broker);
    broker.users.observe(move |event| {
        if let Some(broker) = weak.upgrade() {
            broker.user_changed(event);
        }
    });
    if definitions.is_empty() {
        seed(&broker)?;
    }
    recover(&broker, &definitions)?;
    Ok(broker)
}

fn store_options(config: &Config) -> StoreOptions {
    let fsync = match config.fsync {
        FsyncPolicy::Always => Fsync::Always,
        FsyncPolicy::Interval => Fsync::Interval(config.fsync_interval),
        FsyncPolicy::Never => Fsync::Never,
    };
    match fsync {
        Fsync::Always => tracing::info!("fsync = always: what is confirmed survives a power failure"),
        Fsync::Interval(interval) => {
            tracing::warn!("fsync = interval: a power failure loses what was confirmed in the last {interval:?}");
        }
        Fsync::Never => tracing::warn!("fsync = never: a power failure loses what was confirmed lately"),
    }
    let options = if is_restless() {
        StoreOptions::restless()
    } else {
        StoreOptions::default()
    };
    StoreOptions {
        fsync,
        weigh: effects::weigh,
        ..options
    }
}

/// Whether the store is to free disk space all the time, so that a crash meets it there. Only a debug build can be told so.
fn is_restless() -> bool {
    cfg!(debug_assertions) && std::env::var_os(RESTLESS_STORE).is_some()
}

fn recover_users(config: &Config, definitions: &[Definition]) -> Users {
    let mut users = Vec::new();
    let mut permissions = Vec::new();
    let mut topic_permissions = Vec::new();
    for definition in definitions {
        match definition.clone() {
            Definition::User(user) => users.push(UserRecord {
                name: user.name,
                password_hash: user.password_hash,
                hashing_algorithm: user.hashing_algorithm,
                tags: user.tags,
            }),
            Definition::Permission(permission) => permissions.push(PermissionRecord {
                user: permission.user,
                vhost: permission.vhost,
                configure: permission.configure,
                write: permission.write,
                read: permission.read,
            }),
            Definition::Setting(record) => {
                if let Ok(Setting::TopicPermission(record)) = Setting::from_record(&record) {
                    topic_permissions.push(record);
                }
            }
            _ => {}
        }
    }
    let loopback_users = config.loopback_users.clone();
    let (users, problems) = Users::from_records(loopback_users, users, permissions, topic_permissions);
    let users = users.hashing_with(config.password_hashing);
    for problem in problems {
        tracing::error!("a stored user or permission cannot be used: {problem}");
    }
    users
}

/// The first start: virtual hosts and users of the configuration, and what its definitions file has. A file that brings
/// users brings all of them: nobody wants guest beside them. Nothing is made of a file that cannot be used.
fn seed(broker: &Broker) -> Result<(), StartError> {
    let mut document = read_definitions(broker)?.unwrap_or_default();
    document.add_vhosts(&broker.config.seed_vhost_names());
    let plan = Plan::new(broker, document).map_err(|reason| unusable(broker, reason))?;
    for difference in plan
        .differences()
        .iter()
        .filter(|_| broker.config.load_definitions.is_some())
    {
        tracing::info!("load_definitions: {difference}");
    }
    let default_user = if plan.has_users() {
        ""
    } else {
        &broker.config.default_user
    };
    plan.apply(broker).map_err(|reason| unusable(broker, reason))?;
    let mut edit = broker.users.edit();
    seed_users(&broker.config, default_user, &mut edit).map_err(AdminError::from)?;
    let ticket = broker.commit_users(edit)?;
    broker.store.wait(ticket).map_err(AdminError::from)?;
    Ok(())
}

fn read_definitions(broker: &Broker) -> Result<Option<Document>, StartError> {
    let Some(path) = &broker.config.load_definitions else {
        return Ok(None);
    };
    let text = std::fs::read(path).map_err(|reason| unusable(broker, reason))?;
    let document = Document::parse(&text).map_err(|reason| unusable(broker, reason))?;
    Ok(Some(document))
}

fn unusable(broker: &Broker, reason: impl ToString) -> StartError {
    StartError::FirstDefinitions {
        file: broker.config.load_definitions.clone(),
        reason: reason.to_string(),
    }
}

fn of_file(file: &Option<PathBuf>) -> String {
    let file = file.as_ref().map(|file| format!(" and load {}", file.display()));
    file.unwrap_or_default()
}

/// Virtual hosts first, then policies and limits, then exchanges and queues, then what connects them.
fn recover(broker: &Broker, definitions: &[Definition]) -> Result<(), StartError> {
    for definition in definitions {
        if let Definition::Vhost(vhost) = definition {
            broker.recover_vhost(vhost);
        }
    }
    recover_settings(broker, definitions);
    let vhost = |name: &str| {
        let found = broker.vhost(name);
        if found.is_none() {
            tracing::error!(
                vhost = name,
                "a stored definition belongs to a virtual host that does not exist"
            );
        }
        found
    };
    let (mut queues, mut messages) = (0, 0);
    for definition in definitions {
        match definition {
            Definition::Exchange(record) => {
                if let Some(vhost) = vhost(&record.vhost) {
                    vhost.recover_exchange(record)?;
                }
            }
            Definition::Queue(record) => {
                if let Some(vhost) = vhost(&record.vhost) {
                    queues += 1;
                    messages += vhost.recover_queue(record)?;
                }
            }
            _ => {}
        }
    }
    for definition in definitions {
        if let Definition::Binding(record) = definition
            && let Some(vhost) = vhost(&record.vhost)
        {
            // What a damaged exchange or queue was bound to is no reason to keep everything else from being served.
            if let Err(error) = vhost.recover_binding(record) {
                tracing::error!("a binding is left out: {error}");
            }
        }
    }
    for vhost in broker.vhosts() {
        vhost.forget_delayed_without_exchange();
    }
    tracing::info!(queues, messages, "recovered");
    Ok(())
}

/// Policies and limits. One that cannot be used is left out, and the log says so.
fn recover_settings(broker: &Broker, definitions: &[Definition]) {
    for definition in definitions {
        let Definition::Setting(record) = definition else {
            continue;
        };
        let setting = Setting::from_record(record).map_err(|error| error.to_string());
        if let Err(reason) = setting.and_then(|setting| broker.recover_setting(setting)) {
            tracing::error!(setting = %record.key, "a stored setting cannot be used: {reason}");
        }
    }
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
