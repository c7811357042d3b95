//! The options of TLS in RabbitMQ's file. There each door has its own; here there is one certificate (and those of `tls_hosts`), and
//! one rule for both HTTP doors, so what is said of several doors must agree.

use toml::Value;

use super::Config;
use super::rabbitmq_conf::{Line, Place, Refusal};
use super::rabbitmq_values::{boolean, one_of};

/// Where TLS is spoken, in the order in which the first says what holds for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Amqp,
    Management,
    Metrics,
}

/// What a line says: the key as it is written, its place and its value.
#[derive(Clone)]
struct Said<T> {
    key: String,
    place: Place,
    value: T,
}

/// What the file says of one door.
#[derive(Default)]
struct Options {
    certificate: Option<Said<String>>,
    key: Option<Said<String>>,
    authorities: Option<Said<String>>,
    verifies_peer: Option<Said<bool>>,
    needs_certificate: Option<bool>,
    checks_revocation: Option<Said<bool>>,
    versions: Vec<Said<&'static str>>,
}

/// The options of all doors.
#[derive(Default)]
pub(super) struct Tls {
    amqp: Options,
    management: Options,
    metrics: Options,
}

/// A mistake that is not on one line alone: its place, the key as it is written, and why.
type Misfit = (Place, String, String);

impl Tls {
    /// Takes an option of a door; a warning if it is taken with a difference.
    pub fn take(&mut self, door: Door, option: &[&str], line: &Line) -> Result<(), Refusal> {
        let options = match door {
            Door::Amqp => &mut self.amqp,
            Door::Management => &mut self.management,
            Door::Metrics => &mut self.metrics,
        };
        let value = line.value.as_str();
        match option {
            ["certfile"] => options.certificate = Some(said(line, value.to_owned())),
            ["keyfile"] => options.key = Some(said(line, value.to_owned())),
            ["cacertfile"] => options.authorities = Some(said(line, value.to_owned())),
            ["verify"] => {
                let choices = [("verify_peer", true), ("verify_none", false)];
                options.verifies_peer = Some(said(line, one_of(value, &choices)?));
            }
            ["fail_if_no_peer_cert"] => options.needs_certificate = Some(boolean(value)?),
            ["crl_check"] => {
                let choices = [("true", true), ("peer", true), ("best_effort", true), ("false", false)];
                options.checks_revocation = Some(said(line, one_of(value, &choices)?));
            }
            ["versions", _] => {
                let known = [("tlsv1.3", "1.3"), ("tlsv1.2", "1.2")];
                let old = [("tlsv1.1", ()), ("tlsv1", ()), ("sslv3", ())];
                if one_of(value, &old).is_ok() {
                    let reason = "versions of TLS before 1.2 are not spoken; clients that know no other are refused";
                    return Err(Refusal::Useless(reason));
                }
                options.versions.push(said(line, one_of(value, &known)?));
            }
            _ => return Err(Refusal::Useless(other(option)?)),
        }
        Ok(())
    }

    /// What the doors say together, in our keys; `served` are those of the HTTP doors that listen with TLS.
    pub fn finish(&self, served: &[Door], set: &mut Vec<(&'static str, Place, Value)>) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        let all = [&self.amqp, &self.management, &self.metrics];
        let verifying = |options: &&&Options| options.verifies_peer.as_ref().is_some_and(|said| said.value);
        let texts = |pick: fn(&Options) -> &Option<Said<String>>| all.into_iter().filter_map(pick_of(pick)).collect();
        let certificates: Vec<Said<String>> = texts(|options| &options.certificate);
        let keys: Vec<Said<String>> = texts(|options| &options.key);
        // Whose certificates are accepted matters where somebody must show one.
        let checked: Vec<_> = all.iter().filter(verifying).copied().collect();
        let authorities: Vec<Said<String>> = match checked.is_empty() {
            true => texts(|options| &options.authorities).into_iter().take(1).collect(),
            false => checked
                .into_iter()
                .filter_map(|options| options.authorities.clone())
                .collect(),
        };
        for (key, values) in [
            ("tls_certificate", certificates),
            ("tls_key", keys),
            ("tls_client_ca", authorities),
        ] {
            if let Some(agreed) = agreed(&values, &mut misfits) {
                set.push((key, agreed.place, Value::String(agreed.value.clone())));
            }
        }
        if let Some(verify) = self.amqp.verify() {
            set.push(("tls_verify", verify.place, Value::String(verify.value.to_owned())));
        }
        let http = [(Door::Management, &self.management), (Door::Metrics, &self.metrics)];
        let http = http.into_iter().filter_map(|(door, options)| match options.verify() {
            None if served.contains(&door) => Some(Said {
                key: String::new(),
                place: Place::default(),
                value: "none",
            }),
            verify => verify,
        });
        let http: Vec<_> = http.collect();
        if let Some(verify) = agreed(&http, &mut misfits).filter(|verify| !verify.key.is_empty()) {
            set.push(("http_tls_verify", verify.place, Value::String(verify.value.to_owned())));
        }
        let oldest: Vec<_> = all
            .into_iter()
            .filter_map(|options| options.versions.iter().min_by_key(|version| version.value))
            .cloned()
            .collect();
        if let Some(oldest) = agreed(&oldest, &mut misfits) {
            set.push(("tls_min_version", oldest.place, Value::String(oldest.value.to_owned())));
        }
        misfits
    }

    /// Whoever wants revoked certificates to be refused says which they are.
    pub fn revocation_checks(&self) -> impl Iterator<Item = (Place, &str)> {
        let checks = [&self.amqp, &self.management, &self.metrics].into_iter();
        let checks = checks.filter_map(|options| options.checks_revocation.as_ref());
        checks
            .filter(|said| said.value)
            .map(|said| (said.place, said.key.as_str()))
    }
}

/// Whether lists of revoked certificates are named.
pub(super) fn has_revocation_lists(config: &Config) -> bool {
    !config.tls_crl_files.is_empty()
}

impl Options {
    /// Who must show a certificate, in our words.
    fn verify(&self) -> Option<Said<&'static str>> {
        let verifies = self.verifies_peer.as_ref()?;
        let value = match (verifies.value, self.needs_certificate) {
            (false, _) => "none",
            (true, Some(true)) => "required",
            (true, _) => "optional",
        };
        Some(Said {
            key: verifies.key.clone(),
            place: verifies.place,
            value,
        })
    }
}

fn said<T>(line: &Line, value: T) -> Said<T> {
    Said {
        key: line.key.clone(),
        place: line.place,
        value,
    }
}

fn pick_of<T: Clone>(pick: fn(&Options) -> &Option<Said<T>>) -> impl Fn(&Options) -> Option<Said<T>> {
    move |options| pick(options).clone()
}

/// The first of them, with which the others must agree.
fn agreed<'a, T: PartialEq + std::fmt::Display>(said: &'a [Said<T>], misfits: &mut Vec<Misfit>) -> Option<&'a Said<T>> {
    let (first, others) = said.split_first()?;
    for other in others.iter().filter(|other| other.value != first.value) {
        // The place is of whichever is written down.
        let written = if other.key.is_empty() { first } else { other };
        let unwritten = if other.key.is_empty() { other } else { first };
        let rival = match unwritten.key.as_str() {
            "" => "the other HTTP listener, where it is not set".to_owned(),
            key => format!("'{key}'"),
        };
        let reason = format!(
            "one rule holds for both here, and {rival} says '{}': make them the same",
            unwritten.value
        );
        misfits.push((written.place, written.key.clone(), reason));
    }
    Some(first)
}

/// Why an option has no effect here.
fn other(option: &[&str]) -> Result<&'static str, Refusal> {
    Ok(match option {
        ["ciphers" | "signature_algs" | "eccs" | "supported_groups", ..]
        | ["honor_cipher_order" | "honor_ecc_order" | "dh" | "dhfile" | "psk_identity"] => {
            "all ciphers offered are modern ones with forward secrecy, and clients choose among them"
        }
        ["client_renegotiation" | "secure_renegotiate"] => "connections are never renegotiated",
        ["reuse_sessions" | "session_tickets" | "bypass_pem_cache" | "log_level" | "log_alert"] => {
            "there is nothing to choose"
        }
        ["depth"] => "chains may have six certificates between a client's and its authority's",
        ["password"] => "keys are read as they are: store tls_key without a passphrase, readable to the broker alone",
        ["sni" | "sni_hosts", ..] => "certificates by host name are [[tls_hosts]] of our own form of configuration",
        ["cacerts" | "cert" | "key" | "certs_keys", ..] => {
            return Err(Refusal::Bad(
                "certificates and keys are read from files: certfile, keyfile, cacertfile".to_owned(),
            ));
        }
        _ => return Err(Refusal::Unknown),
    })
}
