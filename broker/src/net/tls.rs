//! TLS: what is in force now, read from files and read again when they change. Connections that are open keep what they
//! began with.

pub mod files;
pub mod peer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use crate::clock;
use crate::config::{Config, LoginFrom, TlsFiles, TlsHost, TlsVerify, TlsVersion};
use files::{Certificates, Fingerprint, TlsError};

/// How often the files are looked at for changes.
const FILES_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A certificate that is valid for less than this is warned of when it is read.
const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 3600);

/// The keys of the configuration that TLS follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    default: TlsFiles,
    hosts: Vec<TlsHost>,
    client_ca: Option<PathBuf>,
    verify: TlsVerify,
    http_verify: TlsVerify,
    login_from: LoginFrom,
    min_version: TlsVersion,
}

impl TlsSettings {
    /// Those of a configuration; none when it has no certificate.
    pub fn of(config: &Config) -> Option<TlsSettings> {
        Some(TlsSettings {
            default: config.tls_files()?,
            hosts: config.tls_hosts.clone(),
            client_ca: config.tls_client_ca.clone(),
            verify: config.tls_verify,
            http_verify: config.http_tls_verify,
            login_from: config.tls_login_from,
            min_version: config.tls_min_version,
        })
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = std::iter::once(&self.default).chain(self.hosts.iter().map(|host| &host.files));
        pairs
            .flat_map(|files| [&files.certificate, &files.key])
            .chain(&self.client_ca)
    }
}

/// What new connections get.
#[derive(Clone)]
struct InForce {
    amqp: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    login_from: LoginFrom,
    expires: Option<Duration>,
}

/// TLS of a broker.
pub struct Tls {
    settings: Mutex<TlsSettings>,
    in_force: RwLock<InForce>,
}

/// Whose listener it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// AMQP's.
    Amqp,
    /// That of the management API or the metrics.
    Http,
}

impl Tls {
    /// Reads all files.
    pub fn load(settings: TlsSettings) -> Result<Tls, TlsError> {
        let in_force = read(&settings)?;
        Ok(Tls {
            settings: Mutex::new(settings),
            in_force: RwLock::new(in_force),
        })
    }

    /// Reads all files again, those of other settings if there are some. When something is wrong, what is in force stays.
    pub fn reload(&self, changed: Option<TlsSettings>) -> Result<(), TlsError> {
        let mut settings = self.settings.lock();
        let wanted = changed.unwrap_or_else(|| settings.clone());
        let in_force = read(&wanted)?;
        *settings = wanted;
        *self.in_force.write() = in_force;
        Ok(())
    }

    /// What a new connection gets, and which part of its client's certificate is a user name.
    pub fn in_force(&self, purpose: Purpose) -> (Arc<ServerConfig>, LoginFrom) {
        let in_force = self.in_force.read();
        let config = match purpose {
            Purpose::Amqp => &in_force.amqp,
            Purpose::Http => &in_force.http,
        };
        (config.clone(), in_force.login_from)
    }

    /// When the first of the server's certificates expires, since 1970.
    pub fn expires(&self) -> Option<Duration> {
        self.in_force.read().expires
    }
}

fn read(settings: &TlsSettings) -> Result<InForce, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = Arc::new(Certificates::read(&settings.default, &settings.hosts, &provider)?);
    let expires = certificates.expires();
    warn_of_expiry(expires);
    Ok(InForce {
        amqp: Arc::new(server_config(
            settings,
            settings.verify,
            &provider,
            certificates.clone(),
        )?),
        http: Arc::new(server_config(settings, settings.http_verify, &provider, certificates)?),
        login_from: settings.login_from,
        expires,
    })
}

fn server_config(
    settings: &TlsSettings,
    verify: TlsVerify,
    provider: &Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
) -> Result<ServerConfig, TlsError> {
    let versions: &[_] = match settings.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Library)?;
    let builder = match (verify, &settings.client_ca) {
        (TlsVerify::None, _) | (_, None) => builder.with_no_client_auth(),
        (verify, Some(path)) => {
            let roots = Arc::new(files::authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let verifier = match verify {
                TlsVerify::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let built = verifier.build().map_err(|error| TlsError::unusable(path, error))?;
            builder.with_client_cert_verifier(built)
        }
    };
    Ok(builder.with_cert_resolver(certificates))
}

fn warn_of_expiry(expires: Option<Duration>) {
    let Some(expires) = expires else { return };
    match expires.checked_sub(clock::unix_time()) {
        None => tracing::warn!("a TLS certificate of this server has expired: clients will refuse it"),
        Some(left) if left < EXPIRY_WARNING => {
            let days = left.as_secs() / (24 * 3600);
            tracing::warn!("a TLS certificate of this server expires in {days} days");
        }
        Some(_) => {}
    }
}

/// Reads the files again whenever one of them has changed, until `stop` changes.
pub async fn watch_files(tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let mut seen = fingerprint(&tls).await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(FILES_LOOK_INTERVAL) => {}
            _ = stop.changed() => return,
        }
        let present = fingerprint(&tls).await;
        if present != seen {
            seen = present;
            reload_and_tell(&tls, None).await;
        }
    }
}

async fn fingerprint(tls: &Arc<Tls>) -> Fingerprint {
    let settings = tls.settings.lock().clone();
    let looked = tokio::task::spawn_blocking(move || Fingerprint::of(settings.paths()));
    looked.await.unwrap_or_default()
}

/// Reads the files again and tells the log what came of it.
pub async fn reload_and_tell(tls: &Arc<Tls>, changed: Option<TlsSettings>) {
    let reloading = tls.clone();
    let reloaded = tokio::task::spawn_blocking(move || reloading.reload(changed)).await;
    match reloaded {
        Ok(Ok(())) => tracing::info!("TLS certificates were read again; new connections get them"),
        Ok(Err(error)) => tracing::error!("TLS certificates stay as they were: {error}"),
        Err(error) => tracing::error!("TLS certificates stay as they were: {error}"),
    }
}
