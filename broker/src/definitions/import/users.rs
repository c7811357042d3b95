//! The users of a definitions file, and what they may do.

use std::collections::HashSet;

use super::{Fate, ImportError, Plan};
use crate::auth::{
    AuthError, HashedPassword, HashingAlgorithm, Permissions, TopicPermissionRecord, TopicPermissions, User, Users,
};
use crate::broker::Broker;
use crate::definitions::document::{PermissionDefinition, TopicPermissionDefinition, UserDefinition};
use crate::limits::UserLimits;

impl Plan {
    pub(super) fn user(&mut self, broker: &Broker, user: UserDefinition) -> Result<(), ImportError> {
        let what = format!("user '{}'", user.name);
        let existing = broker.users.get(&user.name);
        let limits: UserLimits = serde_json::from_value(user.limits.clone()).unwrap_or_default();
        if limits != broker.user_limits(&user.name) {
            self.note(Fate::Changed, format!("limits of {what}"));
            self.user_limits.push((user.name.clone(), limits));
        }
        let password =
            password(&broker.users, &user, existing.as_deref()).map_err(|error| ImportError::object(&what, error))?;
        let user = User {
            name: user.name,
            password,
            tags: user.tags,
        };
        match existing {
            Some(existing) if *existing == user => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.users.push(user);
        Ok(())
    }

    pub(super) fn permission(
        &mut self,
        broker: &Broker,
        vhosts: &HashSet<String>,
        permission: PermissionDefinition,
    ) -> Result<(), ImportError> {
        let PermissionDefinition {
            user,
            vhost,
            configure,
            write,
            read,
        } = &permission;
        let what = format!("permissions of user '{user}' in vhost '{vhost}'");
        let wanted = Permissions::new(configure, write, read).map_err(|error| ImportError::object(&what, error))?;
        let has_user = broker.users.get(user).is_some() || self.users.iter().any(|own| own.name == *user);
        if !has_user || !vhosts.contains(vhost) {
            return Err(ImportError::object(what, "the user or the virtual host does not exist"));
        }
        match broker.users.access(user, vhost) {
            Some(existing) if *existing == wanted => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.permissions.push(permission);
        Ok(())
    }

    pub(super) fn topic_permission(
        &mut self,
        broker: &Broker,
        vhosts: &HashSet<String>,
        permission: TopicPermissionDefinition,
    ) -> Result<(), ImportError> {
        let TopicPermissionDefinition {
            user,
            vhost,
            exchange,
            write,
            read,
        } = permission;
        let what = format!("topic permissions of user '{user}' for exchange '{exchange}' in vhost '{vhost}'");
        let has_user = broker.users.get(&user).is_some() || self.users.iter().any(|own| own.name == user);
        if !has_user || !vhosts.contains(&vhost) {
            return Err(ImportError::object(what, "the user or the virtual host does not exist"));
        }
        let record = TopicPermissionRecord {
            user,
            vhost,
            exchange,
            write,
            read,
        };
        TopicPermissions::default()
            .with(&record)
            .map_err(|error| ImportError::object(&what, error))?;
        let existing = broker.users.topic_permissions(&record.user, &record.vhost);
        let mut existing = existing.records(&record.user, &record.vhost).into_iter();
        match existing.find(|known| known.exchange == record.exchange) {
            Some(existing) if existing == record => return Ok(()),
            Some(_) => self.note(Fate::Changed, what),
            None => self.note(Fate::Made, what),
        }
        self.topic_permissions.push(record);
        Ok(())
    }
}

/// The hash of the file, or of its plain password unless the user has that password already.
fn password(users: &Users, user: &UserDefinition, existing: Option<&User>) -> Result<HashedPassword, AuthError> {
    if let Some(plain) = &user.password {
        if let Some(existing) = existing.filter(|existing| existing.password.verify(plain.as_bytes())) {
            return Ok(existing.password.clone());
        }
        return users.hash(plain.as_bytes());
    }
    let algorithm = match &user.hashing_algorithm {
        Some(name) => HashingAlgorithm::from_name(name)?,
        None => HashingAlgorithm::Sha256,
    };
    HashedPassword::decode(algorithm, &user.password_hash)
}
