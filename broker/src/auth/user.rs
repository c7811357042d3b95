//! A user, and what is stored and told about users.

use serde::{Deserialize, Serialize};

use super::password::HashedPassword;

/// A user: name, password and tags. Immutable; a change makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: HashedPassword,
    pub tags: Vec<String>,
}

impl User {
    /// May do everything in management and use every virtual host's data there.
    pub fn is_administrator(&self) -> bool {
        self.has_tag("administrator")
    }

    /// May see all connections, channels and nodes.
    pub fn is_monitoring(&self) -> bool {
        self.is_administrator() || self.has_tag("monitoring")
    }

    /// May set policies and parameters.
    pub fn is_policymaker(&self) -> bool {
        self.is_administrator() || self.has_tag("policymaker")
    }

    /// May use the management API at all.
    pub fn is_management(&self) -> bool {
        self.is_monitoring() || self.is_policymaker() || self.has_tag("management")
    }

    /// May publish messages whose `user_id` property names someone else. Administrators may not by themselves.
    pub fn is_impersonator(&self) -> bool {
        self.has_tag("impersonator")
    }

    fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    pub(super) fn to_record(&self) -> UserRecord {
        UserRecord {
            name: self.name.clone(),
            password_hash: self.password.encoded(),
            hashing_algorithm: self.password.algorithm().name().to_owned(),
            tags: self.tags.clone(),
        }
    }
}

/// A user as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    pub name: String,
    /// Base64, as in [`HashedPassword::encoded`].
    pub password_hash: String,
    /// As in [`HashingAlgorithm::name`](super::HashingAlgorithm::name).
    pub hashing_algorithm: String,
    pub tags: Vec<String>,
}

/// The permissions of one user in one virtual host as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionRecord {
    pub user: String,
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// The topic permissions of one user for one exchange as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicPermissionRecord {
    pub user: String,
    pub vhost: String,
    pub exchange: String,
    pub write: String,
    pub read: String,
}

/// One write to the store that makes a change of the registry last. Those of one edit belong into one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordChange {
    PutUser(UserRecord),
    DeleteUser {
        name: String,
    },
    PutPermission(PermissionRecord),
    DeletePermission {
        user: String,
        vhost: String,
    },
    PutTopicPermission(TopicPermissionRecord),
    DeleteTopicPermission {
        user: String,
        vhost: String,
        exchange: String,
    },
}

/// What observers are told after an edit took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserEvent {
    /// A new user, a new password or new tags.
    Updated { name: String },
    /// The user's connections must be closed with 320 `user 'U' is deleted`.
    Deleted { name: String },
    /// The user may do other things in this virtual host now, or nothing.
    PermissionsChanged { user: String, vhost: String },
}
