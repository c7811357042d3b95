//! `rabbitmq.conf` and what is in `conf.d` beside it: the keys of RabbitMQ's own configuration that operators use most, read as ours.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use toml::Value;

use super::error::{ConfigError, Origin};
use super::file::Entry;
use super::rabbitmq_values::{address, addresses, boolean, level, number, one_of, size};
use super::suggest;

/// What the file says, in our keys, and what is to be told about the rest.
pub(super) struct Translated {
    pub entries: Vec<Entry>,
    pub warnings: Vec<String>,
    pub mistakes: Vec<ConfigError>,
}

/// Folder beside the file whose files are read after it.
const FOLDER: &str = "conf.d";

/// Where a line stands: which of the files, and its number there.
type Place = (usize, usize);

/// One `key = value` line.
struct Line {
    place: Place,
    key: String,
    value: String,
}

/// Whether a file is RabbitMQ's: its name ends as theirs do.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
}

/// The files that belong to one: those of the folder `conf.d` beside it whose names end as its own does, in the order of their names.
pub(super) fn further_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path.with_file_name(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| is_one(path) && path.is_file());
    paths.sort();
    Ok(paths)
}

/// Reads the texts of the files as one text: of a key that is there twice the last is in force.
pub(super) fn parse(files: &[(PathBuf, String)]) -> Translated {
    let mut translation = Translation::default();
    let origin = |(file, line): Place| Origin::File {
        path: files.get(file).map(|(path, _)| path.clone()).unwrap_or_default(),
        line,
    };
    let lines: Vec<_> = files
        .iter()
        .enumerate()
        .flat_map(|(file, (_, text))| {
            (1..)
                .zip(text.lines())
                .map(move |(number, line)| ((file, number), line))
        })
        .filter_map(|(place, line)| split(line, place).transpose().map(|line| (place, line)))
        .collect();
    let read = lines.iter().filter_map(|(_, line)| line.as_ref().ok());
    let last: HashMap<String, Place> = read.map(|line| (line.key.clone(), line.place)).collect();
    for (place, line) in lines {
        let origin = origin(place);
        let line = match line {
            Ok(line) if last.get(&line.key) == Some(&place) => line,
            Ok(_) => continue,
            Err(reason) => {
                let reason = reason.to_owned();
                translation.mistakes.push(ConfigError::Syntax { origin, reason });
                continue;
            }
        };
        match translation.take(&line) {
            Ok(()) => {}
            Err(Refusal::Unknown) => {
                let nearest = suggest::nearest(&line.key, KNOWN.iter().copied());
                let key = &line.key;
                translation.warnings.push(format!(
                    "{origin}: '{key}' has no effect here; the nearest key that has one is '{nearest}'"
                ));
            }
            Err(Refusal::Useless(reason)) => {
                let key = &line.key;
                let warning = format!("{origin}: '{key}' has no effect here: {reason}");
                translation.warnings.push(warning);
            }
            Err(Refusal::Bad(reason)) => translation.mistakes.push(ConfigError::BadValue {
                origin,
                key: line.key,
                reason,
            }),
        }
    }
    translation.finish(origin)
}

/// Key and value of a line; none of one that is empty or a comment.
fn split(line: &str, place: Place) -> Result<Option<Line>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, value) = line.split_once('=').ok_or("expected KEY = VALUE")?;
    let value = value.trim();
    let value = match value.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'').ok_or("the closing quote is missing")?.0,
        None => value.split('#').next().unwrap_or_default().trim(),
    };
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err("expected KEY = VALUE");
    }
    Ok(Some(Line {
        place,
        key: key.to_owned(),
        value: value.to_owned(),
    }))
}

/// Why a line is not taken.
pub(super) enum Refusal {
    /// No key that means something here.
    Unknown,
    /// It is done in another way here.
    Useless(&'static str),
    /// A value that cannot be used.
    Bad(String),
}

/// Keys as they are written, for suggestions.
const KNOWN: [&str; 59] = [
    "listeners.tcp",
    "listeners.tcp.default",
    "listeners.ssl",
    "listeners.ssl.default",
    "ssl_options.certfile",
    "ssl_options.keyfile",
    "ssl_options.cacertfile",
    "ssl_options.verify",
    "ssl_options.fail_if_no_peer_cert",
    "ssl_options.versions.1",
    "ssl_cert_login_from",
    "ssl_cert_login_san_type",
    "management.tcp.port",
    "management.tcp.ip",
    "management.ssl.port",
    "management.ssl.ip",
    "prometheus.tcp.port",
    "prometheus.tcp.ip",
    "prometheus.ssl.port",
    "prometheus.ssl.ip",
    "default_user",
    "default_pass",
    "default_vhost",
    "loopback_users",
    "loopback_users.guest",
    "anonymous_login_user",
    "heartbeat",
    "frame_max",
    "channel_max",
    "connection_max",
    "consumer_max_per_channel",
    "handshake_timeout",
    "max_message_size",
    "message_interceptors.incoming.set_header_timestamp.overwrite",
    "message_interceptors.incoming.set_header_routing_node.overwrite",
    "disk_free_limit.absolute",
    "disk_free_limit.relative",
    "vm_memory_high_watermark.relative",
    "vm_memory_high_watermark.absolute",
    "load_definitions",
    "definitions.local.path",
    "definitions.import_backend",
    "log.console",
    "log.console.level",
    "log.console.formatter",
    "log.default.level",
    "log.file",
    "cluster_name",
    "product.name",
    "product.version",
    "prometheus.authentication.enabled",
    "proxy_protocol",
    "auth_backends.1",
    "auth_oauth2.resource_server_id",
    "auth_oauth2.issuer",
    "auth_oauth2.scope_prefix",
    "auth_oauth2.preferred_username_claims.1",
    "auth_oauth2.verify_aud",
    "auth_oauth2.jwks_uri",
];

/// Where a listener's address comes together from two keys.
#[derive(Default)]
struct HttpListener {
    ip: Option<String>,
    port: Option<(String, Place)>,
}

#[derive(Default)]
struct Translation {
    /// Our key, the line that set it last, its value.
    set: Vec<(&'static str, Place, Value)>,
    lists: BTreeMap<&'static str, (Place, Vec<String>)>,
    http: BTreeMap<&'static str, HttpListener>,
    verifies_peer: Option<(bool, Place)>,
    needs_certificate: Option<bool>,
    login_from: Option<(String, Place)>,
    san_type: Option<String>,
    versions: Vec<(String, Place)>,
    loopback_users: Option<(Vec<String>, Place)>,
    /// Whether passwords of users are a backend, and the last line that names one.
    backends: Option<(bool, Place)>,
    warnings: Vec<String>,
    mistakes: Vec<ConfigError>,
}

impl Translation {
    fn take(&mut self, line: &Line) -> Result<(), Refusal> {
        let value = line.value.as_str();
        let parts: Vec<&str> = line.key.split('.').collect();
        match parts[..] {
            ["listeners", kind @ ("tcp" | "ssl")] if value == "none" => self.list(kind, line).1.clear(),
            ["listeners", kind @ ("tcp" | "ssl"), _] => {
                let addresses = addresses(value);
                self.list(kind, line).1.extend(addresses);
            }
            ["ssl_options", "certfile"] => self.text("tls_certificate", line),
            ["ssl_options", "keyfile"] => self.text("tls_key", line),
            ["ssl_options", "cacertfile"] => self.text("tls_client_ca", line),
            ["ssl_options", "verify"] => {
                let choices = [("verify_peer", true), ("verify_none", false)];
                self.verifies_peer = Some((one_of(value, &choices)?, line.place));
            }
            ["ssl_options", "fail_if_no_peer_cert"] => self.needs_certificate = Some(boolean(value)?),
            ["ssl_options", "versions", _] => self.versions.push((value.to_owned(), line.place)),
            ["ssl_cert_login_from"] => self.login_from = Some((value.to_owned(), line.place)),
            ["ssl_cert_login_san_type"] => self.san_type = Some(value.to_owned()),
            ["management", kind @ ("tcp" | "ssl"), part @ ("port" | "ip")] => {
                let key = if kind == "tcp" {
                    "management_listen"
                } else {
                    "management_tls_listen"
                };
                self.http(key, part, line);
            }
            ["prometheus", kind @ ("tcp" | "ssl"), part @ ("port" | "ip")] => {
                let key = if kind == "tcp" {
                    "metrics_listen"
                } else {
                    "metrics_tls_listen"
                };
                self.http(key, part, line);
            }
            ["prometheus", "authentication", "enabled"] => self.metrics_access(boolean(value)?, line),
            ["management", "listener", part @ ("port" | "ip")] => self.http("management_listen", part, line),
            ["default_pass"] if value.starts_with("encrypted:") => {
                return Err(Refusal::Bad(
                    "encrypted values cannot be read; use LEVERET_DEFAULT_PASS".to_owned(),
                ));
            }
            ["default_user"] => self.text("default_user", line),
            ["default_pass"] => self.text("default_pass", line),
            ["default_vhost"] => self.text("default_vhost", line),
            ["loopback_users"] if value == "none" => self.loopback_users = Some((Vec::new(), line.place)),
            ["loopback_users", user] => self.loopback_user(user, boolean(value)?, line.place),
            ["anonymous_login_user"] => {
                let nobody = value == "none";
                self.put("anonymous_login_user", line, if nobody { "" } else { value });
            }
            // The name alone lets in.
            ["anonymous_login_pass"] => {}
            ["heartbeat"] => self.text("heartbeat", line),
            ["frame_max"] => self.text("frame_max", line),
            ["channel_max"] => self.text("channel_max", line),
            ["max_message_size"] => self.text("max_message_size", line),
            ["message_interceptors", "incoming", stamp, "overwrite"] => self.stamp(stamp, line)?,
            ["cluster_name"] => self.text("cluster_name", line),
            ["product", "name"] => self.text("product", line),
            ["product", "version"] => self.text("product_version", line),
            ["load_definitions"] | ["definitions", "local", "path"] => self.text("load_definitions", line),
            ["definitions", "import_backend"] if value == "local_filesystem" => {}
            ["handshake_timeout"] => self.put("handshake_timeout", line, &format!("{value}ms")),
            ["connection_max"] => self.limit("connection_max", line, value),
            ["consumer_max_per_channel"] => self.limit("consumer_max_per_channel", line, value),
            ["disk_free_limit", "absolute"] => self.put("disk_free_limit", line, &size(value)?.to_string()),
            ["disk_free_limit", "relative"] => {
                let memory = crate::alarms::available_memory_bytes() as f64;
                let bytes = memory * number(value)?;
                self.put("disk_free_limit", line, &(bytes as u64).to_string());
            }
            ["vm_memory_high_watermark", "relative"] => {
                let fraction = number(value)?;
                self.put("memory_high_watermark", line, &format!("{fraction:?}"));
            }
            ["vm_memory_high_watermark", "absolute"] => {
                self.put("memory_high_watermark", line, &size(value)?.to_string());
            }
            ["log", "console" | "default", "level"] => self.put("log_level", line, level(value)?),
            ["log", "console", "formatter"] => {
                let format = one_of(value, &[("json", "json"), ("plaintext", "text")])?;
                self.put("log_format", line, format);
            }
            // The log goes to standard error, which is what this asks for.
            ["log", "console"] if value == "true" => {}
            ["log", "file"] if value == "false" => {}
            ["auth_backends", _] => self.backend(value, line.place)?,
            ["auth_oauth2", ref key @ ..] => self.oauth(key, line)?,
            ["proxy_protocol"] if boolean(value)? => {
                let reason = "whom to believe has to be said: proxy_protocol_from in LEVERET_PROXY_PROTOCOL_FROM";
                return Err(Refusal::Bad(reason.to_owned()));
            }
            ["proxy_protocol"] => {}
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }

    /// A message interceptor, which may leave what publishers say.
    fn stamp(&mut self, stamp: &str, line: &Line) -> Result<(), Refusal> {
        let keys = ["set_header_timestamp", "set_header_routing_node"];
        let key = one_of(stamp, &keys.map(|key| (key, key)))?;
        let overwrites = boolean(&line.value)?;
        self.put(key, line, if overwrites { "overwrite" } else { "missing" });
        Ok(())
    }

    fn metrics_access(&mut self, ask: bool, line: &Line) {
        let access = if ask { "monitoring" } else { "open" };
        self.put("metrics_access", line, access);
    }

    /// What begins with `auth_oauth2`.
    fn oauth(&mut self, key: &[&str], line: &Line) -> Result<(), Refusal> {
        match key {
            ["resource_server_id"] => self.text("oauth_resource_server_id", line),
            ["issuer"] => self.text("oauth_issuer", line),
            ["scope_prefix"] => self.text("oauth_scope_prefix", line),
            ["preferred_username_claims", _] => {
                let (last, claims) = self.lists.entry("oauth_username_claims").or_default();
                *last = line.place;
                claims.push(line.value.clone());
            }
            ["verify_aud"] if boolean(&line.value)? => {}
            ["verify_aud"] => {
                return Err(Refusal::Bad("tokens for others are never accepted".to_owned()));
            }
            ["jwks_uri" | "jwks_url"] => {
                let reason = "keys come from a file, named in LEVERET_OAUTH_JWKS_FILE";
                return Err(Refusal::Useless(reason));
            }
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }

    fn backend(&mut self, value: &str, place: Place) -> Result<(), Refusal> {
        let internal = match value {
            "internal" | "rabbit_auth_backend_internal" => true,
            "oauth2" | "oauth" | "rabbit_auth_backend_oauth2" => false,
            other => {
                let reason = format!("there is no backend '{other}' here, only internal and oauth2");
                return Err(Refusal::Bad(reason));
            }
        };
        let known = self.backends.is_some_and(|(known, _)| known);
        self.backends = Some((known || internal, place));
        Ok(())
    }

    fn limit(&mut self, key: &'static str, line: &Line, value: &str) {
        self.put(key, line, if value == "infinity" { "unlimited" } else { value });
    }

    fn put(&mut self, key: &'static str, line: &Line, value: &str) {
        self.set.push((key, line.place, Value::String(value.to_owned())));
    }

    fn text(&mut self, key: &'static str, line: &Line) {
        self.put(key, line, &line.value);
    }

    fn list(&mut self, kind: &str, line: &Line) -> &mut (Place, Vec<String>) {
        let key = if kind == "tcp" { "amqp_listen" } else { "tls_listen" };
        let list = self.lists.entry(key).or_default();
        list.0 = line.place;
        list
    }

    fn http(&mut self, key: &'static str, part: &str, line: &Line) {
        let listener = self.http.entry(key).or_default();
        match part {
            "ip" => listener.ip = Some(line.value.clone()),
            _ => listener.port = Some((line.value.clone(), line.place)),
        }
    }

    fn loopback_user(&mut self, user: &str, is_one: bool, place: Place) {
        let (users, last) = self
            .loopback_users
            .get_or_insert_with(|| (vec!["guest".to_owned()], place));
        *last = place;
        users.retain(|known| known != user);
        if is_one {
            users.push(user.to_owned());
        }
    }

    /// Puts together what several lines say.
    fn finish(mut self, origin: impl Fn(Place) -> Origin) -> Translated {
        let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        for (key, (place, addresses)) in std::mem::take(&mut self.lists) {
            self.set.push((key, place, texts(addresses)));
        }
        for (key, listener) in std::mem::take(&mut self.http) {
            // An address without a port has nothing to listen on.
            let Some((port, place)) = listener.port else { continue };
            let list = match listener.ip {
                Some(ip) => vec![address(&ip, &port)],
                None => addresses(&port),
            };
            self.set.push((key, place, texts(list)));
        }
        if let Some((verifies, place)) = self.verifies_peer {
            let value = match (verifies, self.needs_certificate) {
                (false, _) => "none",
                (true, Some(true)) => "required",
                (true, _) => "optional",
            };
            self.set.push(("tls_verify", place, Value::String(value.to_owned())));
        }
        if let Some((from, place)) = self.login_from {
            let from = match (from.as_str(), self.san_type.as_deref()) {
                ("subject_alternative_name", kind) => format!("san_{}", kind.unwrap_or("dns")),
                _ => from,
            };
            self.set.push(("tls_login_from", place, Value::String(from)));
        }
        if let Some((_, place)) = self.versions.first() {
            let old = self.versions.iter().any(|(version, _)| version != "tlsv1.3");
            let least = if old { "1.2" } else { "1.3" };
            self.set
                .push(("tls_min_version", *place, Value::String(least.to_owned())));
        }
        if let Some((users, place)) = self.loopback_users {
            self.set.push(("loopback_users", place, texts(users)));
        }
        if let Some((false, place)) = self.backends {
            self.mistakes.push(ConfigError::BadValue {
                origin: origin(place),
                key: "auth_backends".to_owned(),
                reason: "users may log in with passwords, too: name the backend internal beside oauth2".to_owned(),
            });
        }
        let entry = |(key, place, value): (&str, Place, Value)| Entry {
            key: key.to_owned(),
            origin: origin(place),
            value,
        };
        Translated {
            entries: self.set.into_iter().map(entry).collect(),
            warnings: self.warnings,
            mistakes: self.mistakes,
        }
    }
}
