//! Keys of TLS: certificates, who must show one, and what a client's certificate says.

use std::path::PathBuf;

use toml::Value;

use super::error::ConfigError;
use super::{Config, seeds, value};

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVerify {
    /// They are not asked for one.
    None,
    /// They are asked; one that is shown must be valid.
    Optional,
    /// Nobody comes in without a valid one.
    Required,
}

/// The part of a client's certificate that is its user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFrom {
    /// The subject as RFC 4514 writes it, such as `CN=app,O=shop`.
    DistinguishedName,
    /// The common name of the subject.
    CommonName,
    /// The first alternative name that is a host name.
    SanDns,
    /// The first that is a mail address.
    SanEmail,
    /// The first that is a URI.
    SanUri,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The certificate of some host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsHost {
    /// The names that clients ask for.
    pub names: Vec<String>,
    /// Where certificate and key are.
    pub files: TlsFiles,
}

/// Where a certificate and its private key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those between it and its root behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

pub(super) fn verify(value: &Value) -> Result<TlsVerify, String> {
    let choices = [
        ("none", TlsVerify::None),
        ("optional", TlsVerify::Optional),
        ("required", TlsVerify::Required),
    ];
    value::one_of(value, &choices)
}

pub(super) fn login_from(value: &Value) -> Result<LoginFrom, String> {
    let choices = [
        ("distinguished_name", LoginFrom::DistinguishedName),
        ("common_name", LoginFrom::CommonName),
        ("san_dns", LoginFrom::SanDns),
        ("san_email", LoginFrom::SanEmail),
        ("san_uri", LoginFrom::SanUri),
    ];
    value::one_of(value, &choices)
}

pub(super) fn version(value: &Value) -> Result<TlsVersion, String> {
    value::one_of(value, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
}

/// Reads `[[tls_hosts]]`.
pub(super) fn hosts(list: &Value) -> Result<Vec<TlsHost>, String> {
    seeds::entries(list, "tls_hosts", &["names", "certificate", "key"], |entry| {
        let names = entry.get("names").map(value::texts).transpose()?.unwrap_or_default();
        if names.is_empty() {
            return Err("'names' is missing: the host names that this certificate is for".to_owned());
        }
        Ok(TlsHost {
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            files: TlsFiles {
                certificate: seeds::required(entry, "certificate")?.into(),
                key: seeds::required(entry, "key")?.into(),
            },
        })
    })
}

/// What the keys of TLS need of each other.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let needs = |key, reason: &str| {
        Err(ConfigError::Conflict {
            key,
            reason: reason.to_owned(),
        })
    };
    let any_listens = [
        &config.tls_listen,
        &config.management_tls_listen,
        &config.metrics_tls_listen,
    ]
    .iter()
    .any(|listen| !listen.is_empty());
    match (&config.tls_certificate, &config.tls_key) {
        (Some(_), None) => return needs("tls_key", "the private key of tls_certificate is missing"),
        (None, Some(_)) => return needs("tls_certificate", "the certificate of tls_key is missing"),
        (None, None) if any_listens => {
            return needs(
                "tls_certificate",
                "a TLS listener needs tls_certificate and tls_key (PEM files)",
            );
        }
        _ => {}
    }
    if !config.tls_crl_files.is_empty() && config.tls_client_ca.is_none() {
        return needs(
            "tls_client_ca",
            "tls_crl_files are those of its authorities, and it is missing",
        );
    }
    let asks = [config.tls_verify, config.http_tls_verify]
        .iter()
        .any(|verify| *verify != TlsVerify::None);
    if asks && config.tls_client_ca.is_none() {
        return needs(
            "tls_client_ca",
            "the authorities that clients' certificates are checked against are missing",
        );
    }
    Ok(())
}

impl Config {
    /// Certificate and key of those who ask for no host name that is known better.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
        })
    }
}
