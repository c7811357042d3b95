//! Where values come from, and which of them wins.

use std::ffi::OsString;
use std::path::PathBuf;

use toml::Value;

use super::Config;
use super::error::{ConfigError, Origin};
use super::{file, keys, suggest};

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
    /// Path and text of the file.
    pub file: Option<(PathBuf, String)>,
    /// All environment variables; those that are not ours are passed over.
    pub environment: Vec<(String, String)>,
    pub flags: Vec<Flag>,
}

/// A configuration, and what is to be logged about it once there is a log.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

impl Sources {
    /// Reads the file and this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os().filter_map(own_variable).collect::<Result<_, _>>()?;
        let file = match file {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => {
                    return Err(ConfigError::UnreadableFile {
                        path,
                        reason: error.to_string(),
                    });
                }
            },
        };
        Ok(Self {
            file,
            environment,
            flags,
        })
    }

    /// Puts the values over the defaults.
    pub fn into_config(self) -> Result<Loaded, ConfigError> {
        let mut config = Config::default();
        let mut warnings = Vec::new();
        // Follows the node name unless it is set.
        config.cluster_name.clear();

        if let Some((path, text)) = &self.file {
            for entry in file::parse(path, text)? {
                set(&mut config, &entry.key, &entry.value, entry.origin)?;
            }
        }
        for (variable, key) in ALIASES {
            for (name, value) in self.environment.iter().filter(|(name, _)| name == variable) {
                set(&mut config, key, &Value::String(value.clone()), environment(name))?;
            }
        }
        for (variable, value) in &self.environment {
            let Some(key) = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else {
                continue;
            };
            if keys::find(&key).is_some() {
                set(&mut config, &key, &Value::String(value.clone()), environment(variable))?;
            } else if variable != FILE_VARIABLE && !is_service_link(variable) {
                let nearest = suggest::nearest(&key, keys::key_names()).to_ascii_uppercase();
                warnings.push(format!(
                    "environment variable {variable} is not a key and has no effect; did you mean {PREFIX}{nearest}?"
                ));
            }
        }
        for flag in self.flags {
            let origin = Origin::Flag {
                name: format!("--{}", flag.key.replace('_', "-")),
            };
            set(&mut config, flag.key, &flag_value(flag.values), origin)?;
        }

        finish(&mut config)?;
        Ok(Loaded { config, warnings })
    }
}

fn set(config: &mut Config, key: &str, value: &Value, origin: Origin) -> Result<(), ConfigError> {
    let Some(known) = keys::find(key) else {
        let nearest = suggest::nearest(key, keys::key_names()).to_owned();
        return Err(ConfigError::UnknownKey {
            origin,
            key: key.to_owned(),
            nearest,
        });
    };
    (known.set)(config, value).map_err(|reason| ConfigError::BadValue {
        origin,
        key: key.to_owned(),
        reason,
    })
}

/// What depends on several keys.
fn finish(config: &mut Config) -> Result<(), ConfigError> {
    if config.cluster_name.is_empty() {
        config.cluster_name.clone_from(&config.node_name);
    }
    super::tls::check(config)?;
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
