//! TLS: what is in force now, read from files and read again when they change. Connections that are open keep what they
//! began with.

pub mod files;
pub mod peer;
mod revocation;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;

use crate::clock;
use crate::config::{Config, LoginFrom, TlsFiles, TlsHost, TlsVerify, TlsVersion};
use files::{Certificates, Fingerprint, TlsError};
use revocation::RevocationList;

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
    revocation_lists: Vec<PathBuf>,
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
            revocation_lists: config.tls_crl_files.clone(),
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
            .chain(&self.revocation_lists)
    }
}

/// What new connections get.
#[derive(Clone)]
struct InForce {
    amqp: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    login_from: LoginFrom,
    expires: Option<Duration>,
    clients: Clients,
}

/// What clients' certificates are checked against.
#[derive(Clone)]
struct Clients {
    authorities: Arc<RootCertStore>,
    revocation_lists: Vec<RevocationList>,
}

impl Clients {
    fn read(settings: &TlsSettings) -> Result<Clients, TlsError> {
        let authorities = match &settings.client_ca {
            Some(path) => files::authorities(path)?,
            None => RootCertStore::empty(),
        };
        let mut revocation_lists = Vec::new();
        for path in &settings.revocation_lists {
            revocation_lists.extend(revocation::lists_in(path)?);
        }
        Ok(Clients {
            authorities: Arc::new(authorities),
            revocation_lists,
        })
    }
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

    /// What will keep clients out, or does so now.
    pub fn complaints(&self, now: Duration) -> Vec<String> {
        let in_force = self.in_force.read();
        let Clients {
            authorities,
            revocation_lists,
        } = &in_force.clients;
        let mut complaints = revocation::complaints(revocation_lists, authorities, now);
        complaints.extend(expiry_complaint(in_force.expires, now));
        complaints
    }
}

fn read(settings: &TlsSettings) -> Result<InForce, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = Arc::new(Certificates::read(&settings.default, &settings.hosts, &provider)?);
    let expires = certificates.expires();
    let clients = Clients::read(settings)?;
    let config = |verify| server_config(settings, verify, &provider, &clients, certificates.clone());
    Ok(InForce {
        amqp: Arc::new(config(settings.verify)?),
        http: Arc::new(config(settings.http_verify)?),
        login_from: settings.login_from,
        expires,
        clients,
    })
}

fn server_config(
    settings: &TlsSettings,
    verify: TlsVerify,
    provider: &Arc<CryptoProvider>,
    clients: &Clients,
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
            let verifier = || {
                let roots = clients.authorities.clone();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                match verify {
                    TlsVerify::Required => verifier,
                    _ => verifier.allow_unauthenticated(),
                }
            };
            let built = match clients.revocation_lists.as_slice() {
                [] => verifier().build().map_err(|error| TlsError::unusable(path, error))?,
                lists => revocation::verifier(verifier, lists)?,
            };
            builder.with_client_cert_verifier(built)
        }
    };
    Ok(builder.with_cert_resolver(certificates))
}

fn expiry_complaint(expires: Option<Duration>, now: Duration) -> Option<String> {
    match expires?.checked_sub(now) {
        None => Some("a TLS certificate of this server has expired: clients will refuse it".to_owned()),
        Some(left) if left < EXPIRY_WARNING => {
            let days = left.as_secs() / (24 * 3600);
            Some(format!("a TLS certificate of this server expires in {days} days"))
        }
        Some(_) => None,
    }
}

/// Reads the files again whenever one of them has changed, until `stop` changes. Tells the log what will keep clients out.
pub async fn watch_files(tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let mut seen = fingerprint(&tls).await;
    let mut told = Vec::new();
    loop {
        let complaints = tls.complaints(clock::unix_time());
        for new in complaints.iter().filter(|complaint| !told.contains(*complaint)) {
            tracing::warn!("{new}");
        }
        told = complaints;
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
