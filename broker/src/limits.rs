//! Limits of virtual hosts and users, which an operator sets while the broker runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How much a virtual host may have. `None` is no limit, 0 allows none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct VhostLimits {
    /// Open connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Queues, exclusive ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queues: Option<u64>,
}

/// How much a user may have. `None` is no limit, 0 allows none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct UserLimits {
    /// Open connections, in all virtual hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Open channels, on all its connections together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u64>,
}

/// Why limits are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// They are not a JSON object.
    #[error("limits are a JSON object such as {{\"max-connections\": 100}}: {0}")]
    NotAnObject(String),
    /// There is no such limit.
    #[error("unknown limit '{name}'; known are {known}")]
    Unknown {
        /// Its name.
        name: String,
        /// All there are.
        known: String,
    },
    /// The value is not an integer.
    #[error("{value} is not a valid value of '{name}': expected an integer, negative for no limit")]
    NotAnInteger {
        /// The limit.
        name: String,
        /// Its value as JSON.
        value: String,
    },
}

impl VhostLimits {
    /// Replaces those that are named.
    pub fn updated(mut self, limits: &str) -> Result<VhostLimits, LimitError> {
        update(
            limits,
            &mut [
                ("max-connections", &mut self.max_connections),
                ("max-queues", &mut self.max_queues),
            ],
        )?;
        Ok(self)
    }
}

impl UserLimits {
    /// Replaces those that are named.
    pub fn updated(mut self, limits: &str) -> Result<UserLimits, LimitError> {
        update(
            limits,
            &mut [
                ("max-connections", &mut self.max_connections),
                ("max-channels", &mut self.max_channels),
            ],
        )?;
        Ok(self)
    }

    /// Without one limit, or without any.
    pub fn without(mut self, name: &str) -> Result<UserLimits, LimitError> {
        match name {
            "all" => self = UserLimits::default(),
            "max-connections" => self.max_connections = None,
            "max-channels" => self.max_channels = None,
            _ => {
                return Err(LimitError::Unknown {
                    name: name.to_owned(),
                    known: "max-connections, max-channels, all".to_owned(),
                });
            }
        }
        Ok(self)
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        *self == UserLimits::default()
    }
}

fn update(limits: &str, known: &mut [(&str, &mut Option<u64>)]) -> Result<(), LimitError> {
    let limits: Map<String, Value> =
        serde_json::from_str(limits).map_err(|error| LimitError::NotAnObject(error.to_string()))?;
    for (name, value) in &limits {
        let names = known.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        let Some((_, limit)) = known.iter_mut().find(|(known, _)| known == name) else {
            return Err(LimitError::Unknown {
                name: name.clone(),
                known: names,
            });
        };
        let number = value.as_i64().ok_or_else(|| LimitError::NotAnInteger {
            name: name.clone(),
            value: value.to_string(),
        })?;
        **limit = u64::try_from(number).ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_replaced_one_by_one_and_negative_ones_are_none() {
        let limits = VhostLimits::default()
            .updated(r#"{"max-connections": 5, "max-queues": 0}"#)
            .unwrap();
        assert_eq!((limits.max_connections, limits.max_queues), (Some(5), Some(0)));
        let limits = limits.updated(r#"{"max-connections": -1}"#).unwrap();
        assert_eq!((limits.max_connections, limits.max_queues), (None, Some(0)));
        let user = UserLimits::default()
            .updated(r#"{"max-channels": 3, "max-connections": 1}"#)
            .unwrap();
        let user = user.without("max-connections").unwrap();
        assert_eq!((user.max_connections, user.max_channels), (None, Some(3)));
        assert!(user.without("all").unwrap().is_empty());
    }

    #[test]
    fn unknown_limits_and_values_are_refused() {
        let refusal = |limits| VhostLimits::default().updated(limits).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"max-channels": 1}"#),
            "unknown limit 'max-channels'; known are max-connections, max-queues"
        );
        assert_eq!(
            refusal(r#"{"max-queues": "many"}"#),
            "\"many\" is not a valid value of 'max-queues': expected an integer, negative for no limit"
        );
        assert!(refusal("5").starts_with("limits are a JSON object"));
        assert!(UserLimits::default().without("max-queues").is_err());
    }
}
