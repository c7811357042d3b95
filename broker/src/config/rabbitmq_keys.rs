//! The keys of RabbitMQ's file that operators use most, in ours.

use std::collections::BTreeMap;

use toml::Value;

use super::error::{ConfigError, Origin};
use super::file::Entry;
use super::keys::MOST_FRAME_MAX_BYTES;
use super::networks::Networks;
use super::rabbitmq_conf::{Line, Need, Place, Refusal, Translated};
use super::rabbitmq_elsewhere;
use super::rabbitmq_http::HttpListeners;
use super::rabbitmq_tls::{self, Door, Tls};
use super::rabbitmq_values::{addresses, boolean, level, number, one_of, size};

/// Keys as they are written, for suggestions.
pub(super) const KNOWN: [&str; 66] = [
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
    "ssl_options.crl_check",
    "ssl_cert_login_from",
    "ssl_cert_login_san_type",
    "management.tcp.port",
    "management.tcp.ip",
    "management.ssl.port",
    "management.ssl.ip",
    "management.ssl.certfile",
    "management.ssl.keyfile",
    "management.ssl.cacertfile",
    "management.ssl.verify",
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
    "auth_mechanisms.1",
    "password_hashing_module",
    "auth_oauth2.resource_server_id",
    "auth_oauth2.issuer",
    "auth_oauth2.scope_prefix",
    "auth_oauth2.preferred_username_claims.1",
    "auth_oauth2.verify_aud",
    "auth_oauth2.jwks_uri",
];

/// What the lines say, put together.
#[derive(Default)]
pub(super) struct Translation {
    /// Our key, the line that set it last, its value.
    set: Vec<(&'static str, Place, Value)>,
    lists: BTreeMap<&'static str, (Place, Vec<String>)>,
    http: HttpListeners,
    tls: Tls,
    login_from: Option<(String, Place)>,
    san_type: Option<String>,
    loopback_users: Option<(Vec<String>, Place)>,
    /// Whether passwords of users are a backend, and the last line that names one.
    backends: Option<(bool, Place)>,
    /// The same of mechanisms.
    mechanisms: Option<(bool, Place)>,
    believes_proxies: Option<Place>,
    pub warnings: Vec<String>,
    pub mistakes: Vec<ConfigError>,
}

impl Translation {
    pub fn take(&mut self, line: &Line) -> Result<(), Refusal> {
        let value = line.value.as_str();
        let parts: Vec<&str> = line.key.split('.').collect();
        match parts[..] {
            ["listeners", kind @ ("tcp" | "ssl")] if value == "none" => self.list(kind, line).1.clear(),
            ["listeners", kind @ ("tcp" | "ssl"), _] => {
                let addresses = addresses(value);
                self.list(kind, line).1.extend(addresses);
            }
            ["ssl_options", ref option @ ..] => self.tls.take(Door::Amqp, option, line)?,
            ["ssl_cert_login_from"] => self.login_from = Some((value.to_owned(), line.place)),
            ["ssl_cert_login_san_type"] => self.san_type = Some(value.to_owned()),
            ["management", ref key @ ..] => self.http_door(Door::Management, key, line)?,
            ["prometheus", "authentication", "enabled"] => self.metrics_access(boolean(value)?, line),
            ["prometheus", ref key @ ..] => self.http_door(Door::Metrics, key, line)?,
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
            // Without a limit is as much as there can be.
            ["frame_max"] if value == "0" => self.put("frame_max", line, &MOST_FRAME_MAX_BYTES.to_string()),
            ["frame_max"] => self.text("frame_max", line),
            ["channel_max"] if value == "0" => self.put("channel_max", line, &u16::MAX.to_string()),
            ["channel_max"] => self.text("channel_max", line),
            ["max_message_size"] => self.text("max_message_size", line),
            ["message_interceptors", "incoming", stamp, "overwrite"] => self.stamp(stamp, line)?,
            ["cluster_name"] => self.text("cluster_name", line),
            ["product", "name"] => self.text("product", line),
            ["product", "version"] => self.text("product_version", line),
            ["load_definitions"] | ["definitions", "local", "path"] => self.text("load_definitions", line),
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
            ["auth_backends", _] | ["auth_backends", _, "authn" | "authz"] => self.backend(value, line.place)?,
            ["auth_mechanisms", _] => self.mechanism(value, line.place)?,
            ["password_hashing_module"] => self.hashing(line)?,
            ["auth_oauth2", ref key @ ..] => self.oauth(key, line)?,
            ["proxy_protocol"] => self.believes_proxies = boolean(value)?.then_some(line.place),
            _ => return rabbitmq_elsewhere::look_up(line),
        }
        Ok(())
    }

    /// What begins with `management` or `prometheus`.
    fn http_door(&mut self, door: Door, key: &[&str], line: &Line) -> Result<(), Refusal> {
        let taken = match key {
            [kind @ ("tcp" | "ssl"), part @ ("port" | "ip")] => {
                self.http.take(door, kind, part, line);
                Ok(())
            }
            ["ssl", option @ ..] => {
                self.http.mention_tls(door, line);
                self.tls.take(door, option, line)
            }
            ["listener", part @ ("port" | "ip")] if door == Door::Management => {
                self.http.take(door, "listener", part, line);
                Ok(())
            }
            ["listener", "ssl"] if door == Door::Management => self.http.take_old_tls(line),
            ["listener", "ssl_opts", option @ ..] if door == Door::Management => self.tls.take(door, option, line),
            ["load_definitions"] if door == Door::Management => {
                self.text("load_definitions", line);
                Ok(())
            }
            _ => Err(Refusal::Unknown),
        };
        match taken {
            Err(Refusal::Unknown) => rabbitmq_elsewhere::look_up(line),
            taken => taken,
        }
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
            // Tokens that are signed otherwise have no key in that file.
            ["algorithms", _] => {
                return Err(Refusal::Useless(
                    "the keys in LEVERET_OAUTH_JWKS_FILE say how tokens are signed",
                ));
            }
            ["signing_keys" | "default_key", ..] => {
                return Err(Refusal::Useless(
                    "keys come from a file, named in LEVERET_OAUTH_JWKS_FILE",
                ));
            }
            _ => return Err(Refusal::Useless("see docs/oauth.md for what can be set")),
        }
        Ok(())
    }

    /// Nobody may be let in by what was not named.
    fn mechanism(&mut self, value: &str, place: Place) -> Result<(), Refusal> {
        let known = self.mechanisms.is_some_and(|(known, _)| known);
        self.mechanisms = Some((known || matches!(value, "PLAIN" | "AMQPLAIN"), place));
        match value {
            "PLAIN" | "AMQPLAIN" | "EXTERNAL" | "ANONYMOUS" => Ok(()),
            _ => Err(Refusal::Useless(
                "PLAIN, AMQPLAIN, EXTERNAL and ANONYMOUS are what there is",
            )),
        }
    }

    fn hashing(&mut self, line: &Line) -> Result<(), Refusal> {
        let modules = [
            ("rabbit_password_hashing_sha256", "sha256"),
            ("rabbit_password_hashing_sha512", "sha512"),
        ];
        let algorithm = one_of(&line.value, &modules)?;
        self.put("password_hashing", line, algorithm);
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
    pub fn finish(mut self, origin: impl Fn(Place) -> Origin) -> Translated {
        let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        for (key, (place, addresses)) in std::mem::take(&mut self.lists) {
            self.set.push((key, place, texts(addresses)));
        }
        let misfits = self.tls.finish(&self.http.with_tls(), &mut self.set);
        self.mistakes
            .extend(misfits.into_iter().map(|(place, key, reason)| ConfigError::BadValue {
                origin: origin(place),
                key,
                reason,
            }));
        self.http.finish(&mut self.set);
        if let Some((from, place)) = self.login_from {
            let from = match (from.as_str(), self.san_type.as_deref()) {
                ("subject_alternative_name", kind) => format!("san_{}", kind.unwrap_or("dns")),
                _ => from,
            };
            self.set.push(("tls_login_from", place, Value::String(from)));
        }
        if let Some((users, place)) = self.loopback_users {
            self.set.push(("loopback_users", place, texts(users)));
        }
        let mistake = |place, key: &str, reason: &str| ConfigError::BadValue {
            origin: origin(place),
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some((false, place)) = self.backends {
            let reason = "users may log in with passwords, too: name the backend internal beside oauth2";
            self.mistakes.push(mistake(place, "auth_backends", reason));
        }
        if let Some((false, place)) = self.mechanisms {
            let reason = "users may log in with passwords, too: name PLAIN beside the others";
            self.mistakes.push(mistake(place, "auth_mechanisms", reason));
        }
        let proxies = self.believes_proxies.map(|place| Need {
            is_met: |config| config.proxy_protocol_from != Networks::default(),
            mistake: mistake(
                place,
                "proxy_protocol",
                "whom to believe has to be said: proxy_protocol_from in LEVERET_PROXY_PROTOCOL_FROM",
            ),
        });
        let revocation = self.tls.revocation_checks().map(|(place, key)| Need {
            is_met: rabbitmq_tls::has_revocation_lists,
            mistake: mistake(
                place,
                key,
                "which certificates are revoked has to be said: tls_crl_files in LEVERET_TLS_CRL_FILES",
            ),
        });
        let needs = proxies.into_iter().chain(revocation).collect();
        let entry = |(key, place, value): (&str, Place, Value)| Entry {
            key: key.to_owned(),
            origin: origin(place),
            value,
        };
        Translated {
            entries: self.set.into_iter().map(entry).collect(),
            warnings: self.warnings,
            mistakes: self.mistakes,
            needs,
        }
    }
}
