//! The form of a definitions file, which is RabbitMQ's. It is read tolerantly: fields that are not known are passed over.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::policy::PolicySpec;
use crate::vhost::About;
use crate::vhost::redeclare::RedeclareRule;

/// A whole definitions file. Files of one virtual host leave everything outside of it out, and its name too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    pub rabbit_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<UserDefinition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhosts: Option<Vec<VhostDefinition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<PermissionDefinition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_permissions: Option<Vec<TopicPermissionDefinition>>,
    pub parameters: Vec<ParameterDefinition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_parameters: Option<Vec<GlobalParameterDefinition>>,
    pub policies: Vec<PolicyDefinition>,
    pub queues: Vec<QueueDefinition>,
    pub exchanges: Vec<ExchangeDefinition>,
    pub bindings: Vec<BindingDefinition>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserDefinition {
    pub name: String,
    pub password_hash: String,
    pub hashing_algorithm: Option<String>,
    /// For files that people write; never exported.
    #[serde(skip_serializing)]
    pub password: Option<String>,
    #[serde(deserialize_with = "tags")]
    pub tags: Vec<String>,
    pub limits: Value,
}

/// A virtual host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VhostDefinition {
    pub name: String,
    pub description: String,
    #[serde(deserialize_with = "tags")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// The broker's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redeclare_rule: Option<RedeclareRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<VhostMetadata>,
}

impl VhostDefinition {
    /// What is said about the virtual host of this name. RabbitMQ knows of a protection only what is among the metadata.
    pub fn of(name: &str, about: About) -> VhostDefinition {
        let metadata = about.protected_from_deletion.then(|| VhostMetadata {
            description: about.description.clone(),
            tags: about.tags.clone(),
            default_queue_type: about.default_queue_type.clone(),
            protected_from_deletion: Some(true),
        });
        VhostDefinition {
            name: name.to_owned(),
            description: about.description,
            tags: about.tags,
            default_queue_type: about.default_queue_type,
            redeclare_rule: about.redeclare_rule,
            metadata,
        }
    }

    /// Does it say whether the virtual host may be deleted?
    pub fn says_of_protection(&self) -> bool {
        let metadata = self.metadata.as_ref();
        metadata.is_some_and(|metadata| metadata.protected_from_deletion.is_some())
    }

    /// What it says about the virtual host; what it does not say of a protection or a rule is as before.
    pub fn about(&self, before: Option<&About>) -> About {
        let metadata = self.metadata.clone().unwrap_or_default();
        let first = |own: &String, other: String| if own.is_empty() { other } else { own.clone() };
        let queue_type = self.default_queue_type.clone().or(metadata.default_queue_type);
        About {
            description: first(&self.description, metadata.description),
            tags: match self.tags.as_slice() {
                [] => metadata.tags,
                tags => tags.to_vec(),
            },
            // RabbitMQ writes this where nobody chose one.
            default_queue_type: queue_type.filter(|name| name != "undefined"),
            // RabbitMQ's files know nothing of it.
            redeclare_rule: self.redeclare_rule.or(before.and_then(|before| before.redeclare_rule)),
            protected_from_deletion: match metadata.protected_from_deletion {
                Some(protected) => protected,
                None => before.is_some_and(|before| before.protected_from_deletion),
            },
        }
    }
}

/// Where RabbitMQ keeps the same once more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VhostMetadata {
    pub description: String,
    #[serde(deserialize_with = "tags")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected_from_deletion: Option<bool>,
}

/// What a user may do in a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PermissionDefinition {
    pub user: String,
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// What restricts a user's routing keys at an exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicPermissionDefinition {
    pub user: String,
    pub vhost: String,
    pub exchange: String,
    pub write: String,
    pub read: String,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueDefinition {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub durable: bool,
    pub auto_delete: bool,
    #[serde(deserialize_with = "arguments")]
    pub arguments: Map<String, Value>,
}

/// An exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExchangeDefinition {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    #[serde(deserialize_with = "arguments")]
    pub arguments: Map<String, Value>,
}

/// A binding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingDefinition {
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub destination: String,
    pub destination_type: String,
    pub routing_key: String,
    #[serde(deserialize_with = "arguments")]
    pub arguments: Map<String, Value>,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyDefinition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    #[serde(flatten)]
    pub spec: PolicySpec,
}

/// A parameter: RabbitMQ keeps operator policies and the limits of virtual hosts as such.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParameterDefinition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    pub component: String,
    pub name: String,
    pub value: Value,
}

/// A fact about the whole broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GlobalParameterDefinition {
    pub name: String,
    pub value: Value,
}

/// The component of operator policies.
pub const OPERATOR_POLICY: &str = "operator_policy";
/// The component of limits of virtual hosts, and their one name.
pub const VHOST_LIMITS: (&str, &str) = ("vhost-limits", "limits");

/// Tags are a list, or in older files one text with commas.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Tags::deserialize(deserializer)? {
        Tags::List(list) => list,
        Tags::Text(text) => {
            let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
            tags.map(str::to_owned).collect()
        }
    })
}

/// Arguments are an object, or an empty list where a tool could not tell the two apart.
fn arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(Map::new()),
        Value::Array(list) if list.is_empty() => Ok(Map::new()),
        other => Err(serde::de::Error::custom(format!(
            "arguments must be an object, not {other}"
        ))),
    }
}
