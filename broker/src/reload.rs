//! SIGHUP: the configuration and the certificates are read again. What can change while the broker runs does; the log says
//! what has changed and what waits for a restart.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::signal::unix::Signal;
use toml::Value;

use crate::broker::Broker;
use crate::config::{Changes, Config, ConfigError, Flag, Loaded, Origin, Settings};
use crate::logging;
use crate::net::tls::{self, TlsSettings};
use crate::oauth_keys;

/// Where the configuration came from, so that it can be read again.
#[derive(Debug, Clone, Default)]
pub struct ConfigSource {
    /// The file, if one was named.
    pub file: Option<std::path::PathBuf>,
    /// The flags of the command line.
    pub flags: Vec<Flag>,
}

impl ConfigSource {
    /// Reads file and environment, and puts the flags on top.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(self.file.clone(), self.flags.clone())
    }
}

/// The configuration in force, which may be another one the next time.
pub struct LiveConfig(RwLock<Live>);

#[derive(Clone)]
struct Live {
    config: Arc<Config>,
    /// What was set where.
    settings: Settings,
}

impl LiveConfig {
    /// What the broker starts with.
    pub fn new(config: &Config) -> LiveConfig {
        LiveConfig(RwLock::new(Live {
            config: Arc::new(config.clone()),
            settings: Settings::default(),
        }))
    }
}

impl Broker {
    /// What the operator wants now, as far as it takes effect without a restart.
    pub fn live(&self) -> Arc<Config> {
        self.live.0.read().config.clone()
    }

    /// Where what is in force was set.
    pub fn live_settings(&self) -> Settings {
        self.live.0.read().settings.clone()
    }

    /// Says where the configuration was set that the broker has started with.
    pub fn set_settings(&self, settings: Settings) {
        self.live.0.write().settings = settings;
    }

    /// Sets a key that can change while the broker runs, until the configuration is read again.
    pub fn set_for_now(&self, key: &'static str, value: Value) -> Result<(), String> {
        let mut live = self.live.0.write();
        let config = live.config.with(key, &value)?;
        live.config = Arc::new(config);
        live.settings.note(key, &value, Origin::Command);
        Ok(())
    }

    /// Takes what can be taken from a configuration that was read again.
    fn take_live(&self, loaded: &Loaded) -> Changes {
        let mut live = self.live.0.write();
        let changes = live.config.changes_to(&loaded.config);
        live.config = Arc::new(changes.config.clone());
        live.settings.take(&changes.taken, &loaded.settings);
        drop(live);
        self.users.set_loopback_users(changes.config.loopback_users.clone());
        changes
    }
}

/// Reads again at every SIGHUP.
pub async fn at_hangup(mut hangup: Signal, broker: Arc<Broker>, source: ConfigSource) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading the configuration again");
        let reading = source.clone();
        match tokio::task::spawn_blocking(move || reading.load()).await {
            Ok(Ok(loaded)) => take(&broker, &loaded),
            Ok(Err(error)) => tracing::error!("the configuration stays as it was: {error}"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        }
        if let Some(oauth) = broker.oauth.get() {
            oauth_keys::reload(&broker.config, oauth);
        }
        if let Some(tls) = broker.tls.get() {
            tls::reload_and_tell(tls, TlsSettings::of(&broker.live())).await;
        }
    }
}

fn take(broker: &Broker, loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut changes = broker.take_live(loaded);
    if changes.taken.contains(&"log_level")
        && let Err(reason) = logging::set_level(&changes.config.log_level)
    {
        tracing::error!("the log level stays as it was: {reason}");
    }
    // Without certificates at the start there is no listener that could use them.
    if broker.tls.get().is_none() {
        let (tls, others) = changes.taken.into_iter().partition(|key| key.contains("tls"));
        changes.taken = others;
        changes.at_restart.extend::<Vec<_>>(tls);
    }
    if changes.taken.is_empty() && changes.at_restart.is_empty() {
        tracing::info!("nothing has changed in the configuration");
    }
    if !changes.taken.is_empty() {
        tracing::info!(
            keys = changes.taken.join(", "),
            "changed, and in force for what comes now"
        );
    }
    if !changes.at_restart.is_empty() {
        tracing::warn!(
            keys = changes.at_restart.join(", "),
            "changed, but in force only after a restart"
        );
    }
}
