//! How a broker comes to life: its store is opened, what is stored is recovered, and a new one gets its first users.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use leveret_storage::{Definition, Fsync, StorageError, Store, StoreOptions};
use prometheus::Registry;

use crate::auth::seed::seed_users;
use crate::auth::{PermissionRecord, UserRecord, Users};
use crate::broker::{AdminError, Broker};
use crate::config::{Config, FsyncPolicy};
use crate::ctl::server::CtlBindError;
use crate::definitions::{Document, Plan};
use crate::metrics::Counters;
use crate::net::listener::ListenError;
use crate::net::tls::files::TlsError;
use crate::owner::{self, Owner};
use crate::settings::Setting;
use crate::vhost::effects;
use crate::vhost::paging::Paging;
use crate::vhost::recovery::RecoveryError;
use crate::{clock, oauth_keys};

/// The variable that makes the store of a debug build restless.
const RESTLESS_STORE: &str = "TEST_LEVERET_RESTLESS_STORE";

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
    /// Root would leave files behind that the owner's broker cannot open.
    #[error(
        "open the data directory {} as root: it belongs to user {}, whose broker could not open what root writes there; \
         run this as that user (systemctl start leveret, or setpriv --reuid {} --regid {} --clear-groups leveret serve), \
         or give the directory to root (chown -R)", .directory.display(), .owner.user, .owner.user, .owner.group
    )]
    SomebodyElses {
        /// The directory.
        directory: PathBuf,
        /// Whoever it belongs to.
        owner: Owner,
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

fn of_file(file: &Option<PathBuf>) -> String {
    let file = file.as_ref().map(|file| format!(" and load {}", file.display()));
    file.unwrap_or_default()
}

/// Opens the store in the data directory and starts a broker on it.
pub fn open(config: Config, registry: &Registry) -> Result<Arc<Broker>, StartError> {
    let directory = config.data_dir.clone();
    if let Some(owner) = owner::somebody_else(&directory) {
        return Err(StartError::SomebodyElses { directory, owner });
    }
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
