//! Changes of users, permissions and the limits of users: stored first, then in force.

use leveret_storage::{Definition, DefinitionKey, PermissionRecord, Ticket, UserRecord, Writer};

use super::{AdminError, Broker};
use crate::auth::{RecordChange, UserEvent, UsersEdit};
use crate::limits::UserLimits;
use crate::settings::{self, Setting};

impl Broker {
    /// Stores a change of users or permissions and lets it take effect; the commit to wait for.
    pub fn commit_users(&self, edit: UsersEdit<'_>) -> Result<Ticket, AdminError> {
        let ticket = self.store_user_changes(edit.records())?;
        edit.commit();
        Ok(ticket)
    }

    /// Stores changes of users or permissions in one write.
    pub fn store_user_changes(&self, changes: &[RecordChange]) -> Result<Ticket, AdminError> {
        self.check_store()?;
        let mut writer = self.store.writer();
        write_user_changes(&mut writer, changes);
        Ok(writer.submit())
    }

    /// The limits of a user.
    pub fn user_limits(&self, user: &str) -> UserLimits {
        self.user_limits.read().get(user).copied().unwrap_or_default()
    }

    /// The limits of all users that have some, by name.
    pub fn all_user_limits(&self) -> Vec<(String, UserLimits)> {
        let limits = self.user_limits.read();
        let mut limits: Vec<_> = limits.iter().map(|(user, limits)| (user.clone(), *limits)).collect();
        limits.sort_by(|a, b| a.0.cmp(&b.0));
        limits
    }

    /// Replaces the limits of a user; the commit to wait for. What is open stays open.
    pub fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<Ticket, AdminError> {
        self.check_store()?;
        if self.users.get(user).is_none() {
            return Err(crate::auth::AuthError::NoSuchUser { name: user.to_owned() }.into());
        }
        Ok(self.store_user_limits(user, limits))
    }

    fn store_user_limits(&self, user: &str, limits: UserLimits) -> Ticket {
        let mut all = self.user_limits.write();
        let mut writer = self.store.writer();
        if limits.is_empty() {
            all.remove(user);
            writer.delete(&settings::user_limits(user));
        } else {
            all.insert(user.to_owned(), limits);
            let user = user.to_owned();
            writer.put(&Setting::UserLimits { user, limits }.to_definition());
        }
        writer.submit()
    }

    /// What follows from a change of users.
    pub fn user_changed(&self, event: &UserEvent) {
        if let UserEvent::Deleted { name } = event {
            if !self.user_limits(name).is_empty() {
                self.store_user_limits(name, UserLimits::default());
            }
            self.close_connections(&format!("user '{name}' is deleted"), |identity| {
                &*identity.user == name.as_str()
            });
        }
    }
}

/// Puts changes of users or permissions into a write.
pub(super) fn write_user_changes(writer: &mut Writer<'_>, changes: &[RecordChange]) {
    for change in changes {
        match change.clone() {
            RecordChange::PutUser(user) => writer.put(&Definition::User(UserRecord {
                name: user.name,
                password_hash: user.password_hash,
                hashing_algorithm: user.hashing_algorithm,
                tags: user.tags,
            })),
            RecordChange::DeleteUser { name } => writer.delete(&DefinitionKey::User { name }),
            RecordChange::PutPermission(permission) => writer.put(&Definition::Permission(PermissionRecord {
                user: permission.user,
                vhost: permission.vhost,
                configure: permission.configure,
                write: permission.write,
                read: permission.read,
            })),
            RecordChange::DeletePermission { user, vhost } => {
                writer.delete(&DefinitionKey::Permission { user, vhost });
            }
            RecordChange::PutTopicPermission(record) => {
                writer.put(&Setting::TopicPermission(record).to_definition());
            }
            RecordChange::DeleteTopicPermission { user, vhost, exchange } => {
                writer.delete(&settings::topic_permission(&user, &vhost, &exchange));
            }
        }
    }
}
