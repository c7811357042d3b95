//! Definitions: what was declared durably. Stored as one version byte and JSON, read tolerantly: fields this version does not
//! know are ignored, fields it misses have their defaults.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::StorageError;
use crate::ids::QueueId;

/// Something declared that outlives a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// A virtual host.
    Vhost(VhostRecord),
    /// A user.
    User(UserRecord),
    /// What a user may do in a virtual host.
    Permission(PermissionRecord),
    /// A durable exchange.
    Exchange(ExchangeRecord),
    /// A durable queue.
    Queue(QueueRecord),
    /// A binding between durable things.
    Binding(BindingRecord),
    /// Anything else: policies, parameters, limits.
    Setting(SettingRecord),
}

/// What makes a definition that one and no other: putting a second one of the same key replaces the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields are those of the records")]
pub enum DefinitionKey {
    /// See [`VhostRecord`].
    Vhost { name: String },
    /// See [`UserRecord`].
    User { name: String },
    /// See [`PermissionRecord`].
    Permission { user: String, vhost: String },
    /// See [`ExchangeRecord`].
    Exchange { vhost: String, name: String },
    /// See [`QueueRecord`].
    Queue { vhost: String, name: String },
    /// See [`BindingRecord`]. Two bindings that differ in their arguments only are two bindings.
    Binding {
        vhost: String,
        source: String,
        destination: String,
        destination_is_queue: bool,
        routing_key: String,
        arguments: Vec<u8>,
    },
    /// See [`SettingRecord`].
    Setting { key: String },
}

/// A virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VhostRecord {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// For people and tools.
    pub tags: Vec<String>,
    /// The usual type of its queues, for tools.
    pub default_queue_type: Option<String>,
    /// The name of the rule by which it takes declarations that differ from what is there; none if nobody chose one.
    pub redeclare_rule: Option<String>,
    /// It must not be deleted.
    pub protected_from_deletion: bool,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserRecord {
    /// Its name, unique.
    pub name: String,
    /// Salt and hash in base64; empty: no password, no login by password.
    pub password_hash: String,
    /// How the hash was made, in RabbitMQ's names (`rabbit_password_hashing_sha256`).
    pub hashing_algorithm: String,
    /// `administrator`, `monitoring` and so on.
    pub tags: Vec<String>,
}

/// What a user may do in a virtual host: three regular expressions over the names of exchanges and queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are AMQP's own words")]
pub struct PermissionRecord {
    pub user: String,
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// A durable exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are AMQP's own words")]
pub struct ExchangeRecord {
    pub vhost: String,
    pub name: String,
    /// The exchange type, as declared.
    pub kind: String,
    pub auto_delete: bool,
    pub internal: bool,
    /// The field table as it came over the wire.
    #[serde(with = "hex")]
    pub arguments: Vec<u8>,
}

/// A durable queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are AMQP's own words")]
pub struct QueueRecord {
    /// Names its messages in the store; from [`Store::allocate_queue_id`](crate::Store::allocate_queue_id).
    pub id: QueueId,
    pub vhost: String,
    pub name: String,
    pub auto_delete: bool,
    /// The field table as it came over the wire.
    #[serde(with = "hex")]
    pub arguments: Vec<u8>,
}

/// A binding from a durable exchange to a durable queue or exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are AMQP's own words")]
pub struct BindingRecord {
    pub vhost: String,
    pub source: String,
    pub destination: String,
    /// Whether the destination is a queue; else it is an exchange.
    pub destination_is_queue: bool,
    pub routing_key: String,
    /// The field table as it came over the wire.
    #[serde(with = "hex")]
    pub arguments: Vec<u8>,
}

/// Anything else that outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingRecord {
    /// What it is, unique; the writer chooses (`policy/VHOST/NAME`).
    pub key: String,
    /// Whatever the writer wants to find again.
    pub value: serde_json::Value,
}

impl Definition {
    /// What makes it that definition and no other.
    pub fn key(&self) -> DefinitionKey {
        match self {
            Self::Vhost(vhost) => DefinitionKey::Vhost {
                name: vhost.name.clone(),
            },
            Self::User(user) => DefinitionKey::User {
                name: user.name.clone(),
            },
            Self::Permission(permission) => DefinitionKey::Permission {
                user: permission.user.clone(),
                vhost: permission.vhost.clone(),
            },
            Self::Exchange(exchange) => DefinitionKey::Exchange {
                vhost: exchange.vhost.clone(),
                name: exchange.name.clone(),
            },
            Self::Queue(queue) => DefinitionKey::Queue {
                vhost: queue.vhost.clone(),
                name: queue.name.clone(),
            },
            Self::Binding(binding) => DefinitionKey::Binding {
                vhost: binding.vhost.clone(),
                source: binding.source.clone(),
                destination: binding.destination.clone(),
                destination_is_queue: binding.destination_is_queue,
                routing_key: binding.routing_key.clone(),
                arguments: binding.arguments.clone(),
            },
            Self::Setting(setting) => DefinitionKey::Setting {
                key: setting.key.clone(),
            },
        }
    }

    /// The stored form: format version and JSON.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![RECORD_VERSION];
        let written = match self {
            Self::Vhost(record) => serde_json::to_writer(&mut bytes, record),
            Self::User(record) => serde_json::to_writer(&mut bytes, record),
            Self::Permission(record) => serde_json::to_writer(&mut bytes, record),
            Self::Exchange(record) => serde_json::to_writer(&mut bytes, record),
            Self::Queue(record) => serde_json::to_writer(&mut bytes, record),
            Self::Binding(record) => serde_json::to_writer(&mut bytes, record),
            Self::Setting(record) => serde_json::to_writer(&mut bytes, record),
        };
        written.map_err(|error| StorageError::Misused {
            rule: format!("a definition must be JSON: {error}"),
        })?;
        Ok(bytes)
    }

    /// Reads the stored form of a definition whose key says it is of this kind.
    pub(crate) fn decode(kind: u8, stored: &[u8]) -> Result<Self, StorageError> {
        let json = match stored.split_first() {
            Some((&RECORD_VERSION, json)) => json,
            Some((&newer, _)) if newer > RECORD_VERSION => {
                let (found, supported) = (u32::from(newer), u32::from(RECORD_VERSION));
                return Err(StorageError::NewerFormat {
                    what: "a definition".into(),
                    found,
                    supported,
                });
            }
            _ => return Err(StorageError::corrupt("a definition without format version")),
        };
        match kind {
            kinds::VHOST => parse(json).map(Self::Vhost),
            kinds::USER => parse(json).map(Self::User),
            kinds::PERMISSION => parse(json).map(Self::Permission),
            kinds::EXCHANGE => parse(json).map(Self::Exchange),
            kinds::QUEUE => parse(json).map(Self::Queue),
            kinds::BINDING => parse(json).map(Self::Binding),
            kinds::SETTING => parse(json).map(Self::Setting),
            unknown => Err(StorageError::corrupt(format!("a definition of unknown kind {unknown}"))),
        }
    }
}

impl DefinitionKey {
    /// The byte that stands for the kind in a key.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Vhost { .. } => kinds::VHOST,
            Self::User { .. } => kinds::USER,
            Self::Permission { .. } => kinds::PERMISSION,
            Self::Exchange { .. } => kinds::EXCHANGE,
            Self::Queue { .. } => kinds::QUEUE,
            Self::Binding { .. } => kinds::BINDING,
            Self::Setting { .. } => kinds::SETTING,
        }
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(json).map_err(|error| StorageError::corrupt(format!("a definition does not parse: {error}")))
}

/// The order is that in which definitions are needed at start-up, and in which a scan finds them.
mod kinds {
    pub(super) const VHOST: u8 = 1;
    pub(super) const USER: u8 = 2;
    pub(super) const PERMISSION: u8 = 3;
    pub(super) const EXCHANGE: u8 = 4;
    pub(super) const QUEUE: u8 = 5;
    pub(super) const BINDING: u8 = 6;
    pub(super) const SETTING: u8 = 7;
}

const RECORD_VERSION: u8 = 1;

/// Bytes as hexadecimal digits: a JSON array of numbers would be twice as long again and no easier to read.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let text: String = bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|value| u8::try_from(value).ok())
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(D::Error::custom("an odd number of hexadecimal digits"));
        }
        pairs
            .iter()
            .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?))
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Definition {
        Definition::Binding(BindingRecord {
            vhost: "/".into(),
            source: "logs".into(),
            destination: "all \"of\" them\0".into(),
            destination_is_queue: true,
            routing_key: "#".into(),
            arguments: vec![0, 1, 0x7f, 0xff],
        })
    }

    #[test]
    fn a_definition_reads_back_as_it_was_put() {
        let setting = Definition::Setting(SettingRecord {
            key: "policy/%2f/ttl".into(),
            value: serde_json::json!({"pattern": "^a", "definition": {"message-ttl": 60000}, "priority": 1}),
        });
        let user = Definition::User(UserRecord {
            name: "müller".into(),
            password_hash: "c2FsdA==".into(),
            hashing_algorithm: "rabbit_password_hashing_sha256".into(),
            tags: vec!["administrator".into()],
        });
        for definition in [binding(), setting, user] {
            let stored = definition.encode().unwrap();
            assert_eq!(stored[0], RECORD_VERSION);
            assert_eq!(
                Definition::decode(definition.key().kind(), &stored).unwrap(),
                definition
            );
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_defaulted() {
        let stored = b"\x01{\"name\":\"orders\",\"vhost\":\"/\",\"colour\":{\"red\":[1,2]}}";
        let expected = QueueRecord {
            vhost: "/".into(),
            name: "orders".into(),
            ..QueueRecord::default()
        };
        assert_eq!(
            Definition::decode(kinds::QUEUE, stored).unwrap(),
            Definition::Queue(expected)
        );
    }

    #[test]
    fn a_newer_or_damaged_definition_is_refused() {
        assert!(matches!(
            Definition::decode(kinds::VHOST, b"\x02{}"),
            Err(StorageError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            })
        ));
        for (kind, stored) in [
            (kinds::VHOST, &b""[..]),
            (kinds::VHOST, b"\x00{}"),
            (kinds::VHOST, b"\x01{\"name\":3}"),
            (kinds::QUEUE, b"\x01{\"arguments\":\"abc\"}"),
            (kinds::QUEUE, b"\x01{\"arguments\":\"xy\"}"),
            (99, b"\x01{}"),
        ] {
            assert!(
                matches!(Definition::decode(kind, stored), Err(StorageError::Corrupt { .. })),
                "{stored:?}"
            );
        }
    }
}
