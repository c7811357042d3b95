//! Certificates and keys in PEM files, and what can be wrong with them.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::config::{TlsFiles, TlsHost};

/// What is wrong with a file of TLS. `Display` is one line.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or not for us.
    #[error("cannot read {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// It is there and of no use.
    #[error("{}: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key are each sound, and strangers.
    #[error("the private key in {} does not belong to the certificate in {}", .0.key.display(), .0.certificate.display())]
    Strangers(TlsFiles),
    /// The TLS library wants none of it.
    #[error("{0}")]
    Library(rustls::Error),
}

impl TlsError {
    pub(super) fn unusable(path: &Path, reason: impl fmt::Display) -> TlsError {
        TlsError::Unusable {
            path: path.to_owned(),
            reason: reason.to_string().replace('\n', " "),
        }
    }
}

/// The server's certificates by host name.
#[derive(Debug)]
pub(super) struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads all of them.
    pub(super) fn read(
        default: &TlsFiles,
        hosts: &[TlsHost],
        provider: &CryptoProvider,
    ) -> Result<Certificates, TlsError> {
        let mut by_name = HashMap::new();
        for host in hosts {
            let certificate = Arc::new(certified_key(&host.files, provider)?);
            by_name.extend(host.names.iter().map(|name| (name.clone(), certificate.clone())));
        }
        let default = Arc::new(certified_key(default, provider)?);
        Ok(Certificates { by_name, default })
    }

    /// When the first of them expires, since 1970.
    pub(super) fn expires(&self) -> Option<Duration> {
        let all = self.by_name.values().chain([&self.default]);
        all.filter_map(|certified| {
            let certificate = Certificate::from_der(certified.cert.first()?).ok()?;
            Some(certificate.tbs_certificate().validity().not_after.to_unix_duration())
        })
        .min()
    }

    /// The certificate for a host name: its own, one for all names beside it (`*.example.com`), or the default.
    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        let found = self.by_name.get(&name).or_else(wildcard);
        found.unwrap_or(&self.default).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()))
    }
}

fn certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::unusable(&files.key, error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key that does not tell its public half is taken at its word.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Strangers(files.clone())),
        Err(error) => Err(TlsError::unusable(&files.certificate, error)),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| TlsError::unusable(path, said(&error)))?;
    if found.is_empty() {
        let reason = "no certificate in it; a PEM file with BEGIN CERTIFICATE is wanted";
        return Err(TlsError::unusable(path, reason));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    let is_encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if is_encrypted => {
            let reason = "the private key is encrypted, and there is nobody to ask for its password; decrypt it with openssl pkey";
            TlsError::unusable(path, reason)
        }
        pem::Error::NoItemsFound => {
            TlsError::unusable(path, "no private key in it; a PEM file with BEGIN PRIVATE KEY is wanted")
        }
        error => TlsError::unusable(path, said(&error)),
    })
}

/// The authorities that clients' certificates are checked against.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::unusable(path, error))?;
    }
    Ok(roots)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|reason| TlsError::Unreadable {
        path: path.to_owned(),
        reason,
    })
}

/// The library shows texts as lists of bytes.
pub(super) fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("cut short: '{}' is missing", String::from_utf8_lossy(end_marker).trim())
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("bad line '{}'", String::from_utf8_lossy(line).trim())
        }
        other => other.to_string(),
    }
}

/// What tells that files have changed: their times, sizes and inodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<(i64, i64, u64, u64)>>);

impl Fingerprint {
    /// How the files look now.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Fingerprint {
        let look = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
        };
        Fingerprint(paths.map(look).collect())
    }
}
