//! Where values come from, and which of them wins.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value;

use super::Config;
use super::check::Settings;
use super::error::{ConfigError, Origin};
use super::rabbitmq_conf::Need;
use super::{file, keys, rabbitmq_conf, suggest};

/// Prefix of the environment variables that are keys.
const PREFIX: &str = "LEVERET_";

/// Names the file when `--config` does not; not a key itself.
const FILE_VARIABLE: &str = "LEVERET_CONFIG";

/// Variables of RabbitMQ's images that compose files set, and what they mean here. The `LEVERET_` ones win over them.
const ALIASES: [(&str, &str); 3] = [
    ("RABBITMQ_DEFAULT_USER", "default_user"),
    ("RABBITMQ_DEFAULT_PASS", "default_pass"),
    ("RABBITMQ_DEFAULT_VHOST", "default_vhost"),
];

/// A flag that sets a key: the key's name and what was given, once or several times.
#[derive(Debug, Clone)]
pub struct Flag {
    pub key: &'static str,
    pub values: Vec<String>,
}

/// Everything that the configuration is made of, from the weakest to the strongest.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// Path and text of the file, and of those that belong to it.
    pub files: Vec<(PathBuf, String)>,
    /// All environment variables; those that are not ours are passed over.
    pub environment: Vec<(String, String)>,
    pub flags: Vec<Flag>,
}

/// A configuration, and what is to be logged about it once there is a log.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// What was set where.
    pub settings: Settings,
    pub warnings: Vec<String>,
}

impl Sources {
    /// Reads the file and this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os().filter_map(own_variable).collect::<Result<_, _>>()?;
        let mut files = Vec::new();
        if let Some(path) = file {
            let further = match rabbitmq_conf::is_one(&path) {
                true => rabbitmq_conf::further_files(&path).map_err(|error| unreadable(&path, &error))?,
                false => Vec::new(),
            };
            for path in [path].into_iter().chain(further) {
                let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                files.push((path, text));
            }
        }
        Ok(Self {
            files,
            environment,
            flags,
        })
    }

    /// Puts the values over the defaults.
    pub fn into_config(self) -> Result<Loaded, ConfigError> {
        let (loaded, mistakes) = self.read();
        match mistakes.into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Ok(loaded),
        }
    }

    /// Puts the values over the defaults and gives all mistakes; what is made in spite of them is for nothing else.
    pub fn check(self) -> Result<Loaded, Vec<ConfigError>> {
        let (loaded, mistakes) = self.read();
        if mistakes.is_empty() { Ok(loaded) } else { Err(mistakes) }
    }

    fn read(self) -> (Loaded, Vec<ConfigError>) {
        let mut reading = Reading::default();
        // Follows the node name unless it is set.
        reading.config.cluster_name.clear();

        reading.files(&self.files);
        for (variable, key) in ALIASES {
            for (name, value) in self.environment.iter().filter(|(name, _)| name == variable) {
                reading.set(key, &Value::String(value.clone()), environment(name));
            }
        }
        for (variable, value) in &self.environment {
            let Some(key) = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else {
                continue;
            };
            if keys::find(&key).is_some() {
                reading.set(&key, &Value::String(value.clone()), environment(variable));
            } else if variable != FILE_VARIABLE && !is_service_link(variable) {
                let nearest = suggest::nearest(&key, keys::key_names());
                let nearest = nearest.map(|key| format!("; did you mean {PREFIX}{}?", key.to_ascii_uppercase()));
                let (variable, nearest) = (suggest::shown(variable), nearest.unwrap_or_default());
                reading.warnings.push(format!(
                    "environment variable {variable} is not a key and has no effect{nearest}"
                ));
            }
        }
        for flag in self.flags {
            let origin = Origin::Flag {
                name: format!("--{}", flag.key.replace('_', "-")),
            };
            reading.set(flag.key, &flag_value(flag.values), origin);
        }

        let unmet = std::mem::take(&mut reading.needs).into_iter();
        let unmet = unmet.filter(|need| !(need.is_met)(&reading.config));
        reading.mistakes.extend(unmet.map(|need| need.mistake));
        if let Err(mistake) = finish(&mut reading.config) {
            reading.mistakes.push(mistake);
        }
        let loaded = Loaded {
            config: reading.config,
            settings: reading.settings,
            warnings: reading.warnings,
        };
        (loaded, reading.mistakes)
    }
}

/// A configuration on its way.
#[derive(Default)]
struct Reading {
    config: Config,
    settings: Settings,
    warnings: Vec<String>,
    mistakes: Vec<ConfigError>,
    needs: Vec<Need>,
}

impl Reading {
    fn files(&mut self, files: &[(PathBuf, String)]) {
        let entries = match files {
            [] => return,
            [(path, text)] if !rabbitmq_conf::is_one(path) => file::parse(path, text),
            files => {
                let translated = rabbitmq_conf::parse(files);
                self.warnings.extend(translated.warnings);
                self.mistakes.extend(translated.mistakes);
                self.needs.extend(translated.needs);
                Ok(translated.entries)
            }
        };
        match entries {
            Ok(entries) => {
                for entry in entries {
                    self.set(&entry.key, &entry.value, entry.origin);
                }
            }
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    fn set(&mut self, key: &str, value: &Value, origin: Origin) {
        let Some(known) = keys::find(key) else {
            return self.mistakes.push(ConfigError::UnknownKey {
                origin,
                key: suggest::shown(key),
                nearest: suggest::nearest(key, keys::key_names()).map(str::to_owned),
            });
        };
        match (known.set)(&mut self.config, value) {
            Ok(()) => self.settings.note(known.name, value, origin),
            Err(reason) => self.mistakes.push(ConfigError::BadValue {
                origin,
                key: key.to_owned(),
                reason,
            }),
        }
    }
}

/// What depends on several keys.
fn finish(config: &mut Config) -> Result<(), ConfigError> {
    if config.cluster_name.is_empty() {
        config.cluster_name.clone_from(&config.node_name);
    }
    super::tls::check(config)?;
    if config.amqp_listen.is_empty() && config.tls_listen.is_empty() {
        let reason = "at least one HOST:PORT is needed, here or in tls_listen".to_owned();
        return Err(ConfigError::Conflict {
            key: "amqp_listen",
            reason,
        });
    }
    for (index, user) in config.users.iter().enumerate() {
        if config.users.iter().take(index).any(|earlier| earlier.name == user.name) {
            let reason = format!("user '{}' is listed twice", user.name);
            return Err(ConfigError::Conflict { key: "users", reason });
        }
    }
    Ok(())
}

fn flag_value(mut values: Vec<String>) -> Value {
    match values.pop() {
        Some(only) if values.is_empty() => Value::String(only),
        Some(last) => {
            values.push(last);
            Value::Array(values.into_iter().map(Value::String).collect())
        }
        None => Value::Array(Vec::new()),
    }
}

/// Keeps the variables that concern us. One of ours that is not UTF-8 is an error, one of others is not.
fn own_variable((name, value): (OsString, OsString)) -> Option<Result<(String, String), ConfigError>> {
    let name = name.into_string().ok()?;
    if !name.starts_with(PREFIX) && !ALIASES.iter().any(|(alias, _)| *alias == name) {
        return None;
    }
    Some(
        value
            .into_string()
            .map(|value| (name.clone(), value))
            .map_err(|_| ConfigError::Syntax {
                origin: environment(&name),
                reason: "the value is not UTF-8".to_owned(),
            }),
    )
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::UnreadableFile {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn environment(variable: &str) -> Origin {
    Origin::Environment {
        variable: variable.to_owned(),
    }
}

/// Kubernetes and Docker links set such variables for a service that is called `leveret`.
fn is_service_link(variable: &str) -> bool {
    let rest = variable.strip_prefix(PREFIX).unwrap_or_default();
    rest == "NAME"
        || rest == "PORT"
        || rest.starts_with("PORT_")
        || rest.starts_with("SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || rest.starts_with("ENV_")
}
