//! What TLS has found out about a connection: how it is encrypted, and who the client's certificate says it is.

use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::LoginFrom;

/// What a connection over TLS has agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `tlsv1.2` or `tlsv1.3`.
    pub protocol: &'static str,
    /// Such as `ecdhe_rsa`; `any` since 1.3, which negotiates it apart.
    pub key_exchange: String,
    /// Such as `aes_256_gcm_sha384`.
    pub cipher: String,
    /// The certificate that the client has shown, checked by now.
    pub peer: Option<PeerCertificate>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it is for.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// From when to when it is valid.
    pub validity: String,
    /// The user name in it, or why there is none.
    pub login: Result<String, &'static str>,
}

impl TlsInfo {
    /// What is known when the handshake is done.
    pub fn of(connection: &ServerConnection, login_from: LoginFrom) -> TlsInfo {
        let suite = connection
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let (key_exchange, cipher) = match suite.split_once("_with_") {
            Some((key_exchange, cipher)) => (key_exchange.trim_start_matches("tls_"), cipher),
            None => ("any", suite.trim_start_matches("tls13_")),
        };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        TlsInfo {
            protocol: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "tlsv1.2",
                _ => "tlsv1.3",
            },
            key_exchange: key_exchange.to_owned(),
            cipher: cipher.to_owned(),
            peer: certificate.and_then(|certificate| PeerCertificate::read(certificate, login_from)),
        }
    }
}

impl PeerCertificate {
    fn read(certificate: &CertificateDer<'_>, login_from: LoginFrom) -> Option<PeerCertificate> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let contents = certificate.tbs_certificate();
        let validity = contents.validity();
        let login = login(&certificate, login_from).and_then(|name| match name.is_empty() {
            true => Err("it is empty"),
            false => Ok(name),
        });
        Some(PeerCertificate {
            subject: contents.subject().to_string(),
            issuer: contents.issuer().to_string(),
            validity: format!("{} - {}", validity.not_before, validity.not_after),
            login,
        })
    }
}

fn login(certificate: &Certificate, login_from: LoginFrom) -> Result<String, &'static str> {
    match login_from {
        LoginFrom::DistinguishedName => Ok(certificate.tbs_certificate().subject().to_string()),
        LoginFrom::CommonName => common_name(certificate),
        LoginFrom::SanDns | LoginFrom::SanEmail | LoginFrom::SanUri => {
            let names = certificate.tbs_certificate().get_extension::<SubjectAltName>();
            let Ok(Some((_, SubjectAltName(names)))) = names else {
                return Err("it has no alternative names");
            };
            let found = names.iter().find_map(|name| match (login_from, name) {
                (LoginFrom::SanDns, GeneralName::DnsName(name))
                | (LoginFrom::SanEmail, GeneralName::Rfc822Name(name))
                | (LoginFrom::SanUri, GeneralName::UniformResourceIdentifier(name)) => Some(name.as_str().to_owned()),
                _ => None,
            });
            found.ok_or("it has no alternative name of the configured kind")
        }
    }
}

/// The common name, if there is exactly one: of several nobody could say which one was checked.
fn common_name(certificate: &Certificate) -> Result<String, &'static str> {
    let mut names = certificate
        .tbs_certificate()
        .subject()
        .iter()
        .filter(|attribute| attribute.oid == COMMON_NAME);
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err("it has no common name, or several");
    };
    let value = &name.value;
    let text = match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str()),
        _ => None,
    };
    text.map(str::to_owned).ok_or("its common name is no text")
}
