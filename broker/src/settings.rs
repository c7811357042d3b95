//! What an operator sets while the broker runs, as it is stored: policies and limits.

use leveret_storage::{Definition, DefinitionKey, NamedLog, QueueId, SettingRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::TopicPermissionRecord;
use crate::limits::{UserLimits, VhostLimits};
use crate::policy::{PolicyKind, PolicySpec};

/// One stored setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "setting", rename_all = "snake_case")]
pub enum Setting {
    /// A policy of a virtual host.
    Policy {
        /// The virtual host.
        vhost: String,
        /// Whose policy it is.
        kind: PolicyKind,
        /// The policy.
        policy: PolicySpec,
    },
    /// The limits of a virtual host.
    VhostLimits {
        /// The virtual host.
        vhost: String,
        /// Its limits.
        limits: VhostLimits,
    },
    /// Where the store has the delayed messages of an exchange.
    DelayedLog {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        exchange: String,
        /// The number of the log or schedule.
        log: u64,
        /// It is a schedule, which is in the order of time. Older versions had a log, in the order in which messages came.
        #[serde(default)]
        by_time: bool,
    },
    /// Where the store has the keys of an exchange or queue that drops duplicates.
    DeduplicationLog {
        /// The virtual host.
        vhost: String,
        /// Who drops them.
        owner: DeduplicationOwner,
        /// The number of the log.
        log: u64,
    },
    /// The limits of a user.
    UserLimits {
        /// The user.
        user: String,
        /// Its limits.
        limits: UserLimits,
    },
    /// What restricts a user's routing keys at an exchange.
    TopicPermission(TopicPermissionRecord),
    /// A fact about the whole broker, under a name that somebody chose.
    GlobalParameter {
        /// Its name.
        name: String,
        /// Any JSON.
        value: Value,
    },
}

/// Who drops duplicates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeduplicationOwner {
    /// An exchange of this name.
    Exchange(String),
    /// A queue of this name.
    Queue(String),
}

impl Setting {
    /// As it goes to the store.
    pub fn to_definition(&self) -> Definition {
        Definition::Setting(SettingRecord {
            key: self.key(),
            value: serde_json::to_value(self).unwrap_or_default(),
        })
    }

    /// What is stored under a record; the reason if this version cannot use it.
    pub fn from_record(record: &SettingRecord) -> Result<Setting, serde_json::Error> {
        Setting::deserialize(&record.value)
    }

    fn key(&self) -> String {
        match self {
            Setting::Policy { vhost, kind, policy } => policy_key(vhost, *kind, &policy.name),
            Setting::VhostLimits { vhost, .. } => vhost_limits_key(vhost),
            Setting::DelayedLog { vhost, exchange, .. } => in_vhost("delayed_log", vhost, exchange),
            Setting::DeduplicationLog { vhost, owner, .. } => deduplication_key(vhost, owner),
            Setting::UserLimits { user, .. } => user_limits_key(user),
            Setting::GlobalParameter { name, .. } => global_parameter_key(name),
            Setting::TopicPermission(record) => topic_permission_key(&record.user, &record.vhost, &record.exchange),
        }
    }
}

/// Which log of the store a setting names, for who checks the store.
pub fn log_of(record: &SettingRecord) -> Option<NamedLog> {
    match Setting::from_record(record).ok()? {
        Setting::DelayedLog { log, by_time, .. } => (!by_time).then_some(NamedLog {
            queue: QueueId(log),
            has_messages: true,
        }),
        Setting::DeduplicationLog { log, .. } => Some(NamedLog {
            queue: QueueId(log),
            has_messages: false,
        }),
        _ => None,
    }
}

/// The key of a stored policy.
pub fn policy(vhost: &str, kind: PolicyKind, name: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: policy_key(vhost, kind, name),
    }
}

/// The key of the stored limits of a virtual host.
pub fn vhost_limits(vhost: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: vhost_limits_key(vhost),
    }
}

/// The key of the log of a delayed exchange.
pub fn delayed_log(vhost: &str, exchange: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: in_vhost("delayed_log", vhost, exchange),
    }
}

/// The key of the log of an exchange or queue that drops duplicates.
pub fn deduplication_log(vhost: &str, owner: &DeduplicationOwner) -> DefinitionKey {
    DefinitionKey::Setting {
        key: deduplication_key(vhost, owner),
    }
}

/// The key of the stored limits of a user.
pub fn user_limits(user: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: user_limits_key(user),
    }
}

/// The key of a stored global parameter.
pub fn global_parameter(name: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: global_parameter_key(name),
    }
}

/// The key of a stored topic permission.
pub fn topic_permission(user: &str, vhost: &str, exchange: &str) -> DefinitionKey {
    DefinitionKey::Setting {
        key: topic_permission_key(user, vhost, exchange),
    }
}

fn policy_key(vhost: &str, kind: PolicyKind, name: &str) -> String {
    let kind = match kind {
        PolicyKind::User => "policy",
        PolicyKind::Operator => "operator_policy",
    };
    in_vhost(kind, vhost, name)
}

fn deduplication_key(vhost: &str, owner: &DeduplicationOwner) -> String {
    match owner {
        DeduplicationOwner::Exchange(name) => in_vhost("deduplication_log/exchange", vhost, name),
        DeduplicationOwner::Queue(name) => in_vhost("deduplication_log/queue", vhost, name),
    }
}

fn in_vhost(kind: &str, vhost: &str, name: &str) -> String {
    format!("{kind}/{}/{name}", escaped(vhost))
}

/// A part of a key that another follows.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2f")
}

fn topic_permission_key(user: &str, vhost: &str, exchange: &str) -> String {
    in_vhost("topic_permission", vhost, &format!("{}/{exchange}", escaped(user)))
}

fn vhost_limits_key(vhost: &str) -> String {
    format!("vhost_limits/{vhost}")
}

fn global_parameter_key(name: &str) -> String {
    format!("global_parameter/{name}")
}

fn user_limits_key(user: &str) -> String {
    format!("user_limits/{user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_they_were_stored_under_keys_of_their_own() {
        let policy = |vhost: &str, name: &str| Setting::Policy {
            vhost: vhost.to_owned(),
            kind: PolicyKind::Operator,
            policy: PolicySpec {
                name: name.to_owned(),
                priority: -3,
                ..PolicySpec::default()
            },
        };
        let settings = [
            policy("/", "a"),
            policy("", "/a"),
            policy("%2f", "a"),
            policy("b", "c/d"),
            policy("b/c", "d"),
            Setting::VhostLimits {
                vhost: "/".to_owned(),
                limits: VhostLimits {
                    max_queues: Some(5),
                    ..VhostLimits::default()
                },
            },
            Setting::DelayedLog {
                vhost: "b".to_owned(),
                exchange: "c/d".to_owned(),
                log: 7,
                by_time: true,
            },
            Setting::DeduplicationLog {
                vhost: "b".to_owned(),
                owner: DeduplicationOwner::Exchange("c".to_owned()),
                log: 8,
            },
            Setting::DeduplicationLog {
                vhost: "b".to_owned(),
                owner: DeduplicationOwner::Queue("c".to_owned()),
                log: 9,
            },
            Setting::UserLimits {
                user: "/".to_owned(),
                limits: UserLimits::default(),
            },
        ];
        let topic_permission = |user: &str, exchange: &str| {
            Setting::TopicPermission(TopicPermissionRecord {
                user: user.to_owned(),
                exchange: exchange.to_owned(),
                ..TopicPermissionRecord::default()
            })
        };
        let more = [topic_permission("a", "b/c"), topic_permission("a/b", "c")];
        let mut keys = Vec::new();
        for setting in settings.into_iter().chain(more) {
            let Definition::Setting(record) = setting.to_definition() else {
                panic!("{setting:?} is stored as something else");
            };
            assert_eq!(Setting::from_record(&record).unwrap(), setting);
            keys.push(record.key);
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
