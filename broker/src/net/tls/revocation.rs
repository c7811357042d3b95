//! Lists of certificates that their authorities have revoked, and what can be wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, VerifierBuilderError};
use rustls::{DistinguishedName, RootCertStore};
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;
use x509_cert::name::Name;

use super::files::{self, TlsError};

/// The first octet of every list in the binary form, in which authorities publish them, and of no PEM file.
const DER_SEQUENCE: u8 = 0x30;

/// The list of one authority.
#[derive(Debug, Clone)]
pub(super) struct RevocationList {
    path: PathBuf,
    issuer: Name,
    /// When there should be a newer one, since 1970.
    expires: Option<Duration>,
    der: CertificateRevocationListDer<'static>,
}

/// The lists of a file.
pub(super) fn lists_in(path: &Path) -> Result<Vec<RevocationList>, TlsError> {
    let content = files::read(path)?;
    let found = if content.first() == Some(&DER_SEQUENCE) {
        vec![content.into()]
    } else {
        CertificateRevocationListDer::pem_slice_iter(&content)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::unusable(path, files::said(&error)))?
    };
    if found.is_empty() {
        let reason = "no revocation list in it; a PEM file with BEGIN X509 CRL is wanted, or one in DER";
        return Err(TlsError::unusable(path, reason));
    }
    found.into_iter().map(|der| list(path, der)).collect()
}

fn list(path: &Path, der: CertificateRevocationListDer<'static>) -> Result<RevocationList, TlsError> {
    let parsed = CertificateList::<Rfc5280>::from_der(&der);
    let parsed = parsed.map_err(|error| TlsError::unusable(path, format!("not a revocation list: {error}")))?;
    let next = parsed.tbs_cert_list.next_update;
    Ok(RevocationList {
        path: path.to_owned(),
        issuer: parsed.tbs_cert_list.issuer,
        expires: next.map(|next| next.to_unix_duration()),
        der,
    })
}

impl RevocationList {
    /// What is wrong with it at this time.
    fn complaint(&self, now: Duration) -> Option<String> {
        let expired = self.expires.filter(|expires| *expires <= now)?;
        let (file, issuer, hours) = (self.path.display(), &self.issuer, (now - expired).as_secs() / 3600);
        Some(format!(
            "{file}: the revocation list of {issuer} has expired {hours} hours ago: clients with its certificates are refused until \
             there is a newer one"
        ))
    }
}

/// A verifier of clients' certificates that refuses those that are revoked, those whose authority has no list, and all of an
/// authority whose list has expired.
pub(super) fn verifier(
    plain: impl Fn() -> ClientCertVerifierBuilder,
    lists: &[RevocationList],
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let with = |lists: &[RevocationList]| -> Result<_, VerifierBuilderError> {
        let ders = lists.iter().map(|list| list.der.clone());
        plain().with_crls(ders).enforce_revocation_expiration().build()
    };
    // One by one first, so that a bad one can be named.
    for list in lists {
        with(std::slice::from_ref(list)).map_err(|error| TlsError::unusable(&list.path, error))?;
    }
    with(lists).map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))
}

/// Why clients may be refused for the lists that there are: some have expired, or authorities have none.
pub(super) fn complaints(lists: &[RevocationList], authorities: &RootCertStore, now: Duration) -> Vec<String> {
    if lists.is_empty() {
        return Vec::new();
    }
    let expired = lists.iter().filter_map(|list| list.complaint(now));
    let without = authorities.roots.iter().filter_map(|root| {
        let subject = Name::from_der(DistinguishedName::in_sequence(&root.subject).as_ref()).ok()?;
        let has_one = lists.iter().any(|list| list.issuer == subject);
        let complaint =
            || format!("there is no revocation list of {subject}: clients with its certificates are refused");
        (!has_one).then(complaint)
    });
    expired.chain(without).collect()
}
