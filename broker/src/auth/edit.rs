//! Changes of users and permissions.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::error::AuthError;
use super::password::{HashedPassword, HashingAlgorithm};
use super::permissions::Permissions;
use super::topic_permissions::TopicPermissions;
use super::user::{RecordChange, TopicPermissionRecord, User, UserEvent, UserRecord};
use super::users::{Account, State, Users, permission_record};

/// Longest user name, a short string of AMQP.
pub const USER_NAME_MAX_BYTES: usize = 255;

/// A change of users and permissions that is being made. The order of things is: call the operations, store
/// [`UsersEdit::records`] in one batch, then [`UsersEdit::commit`]. An edit that is dropped instead, because
/// an operation or the store failed, leaves everything as it was.
#[must_use = "an edit that is not committed changes nothing"]
pub struct UsersEdit<'a> {
    users: &'a Users,
    state: State,
    records: Vec<RecordChange>,
    events: Vec<UserEvent>,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> UsersEdit<'a> {
    pub(super) fn begin(users: &'a Users, state: State, guard: MutexGuard<'a, ()>) -> Self {
        Self {
            users,
            state,
            records: Vec::new(),
            events: Vec::new(),
            _guard: guard,
        }
    }

    /// Adds a user without permissions.
    pub fn add_user(&mut self, name: &str, password: HashedPassword, tags: Vec<String>) -> Result<(), AuthError> {
        if self.state.contains_key(name) {
            return Err(AuthError::UserExists { name: name.to_owned() });
        }
        self.put_user(User {
            name: name.to_owned(),
            password,
            tags,
        })
    }

    /// Adds a user or replaces password and tags of the one that exists; its permissions stay.
    pub fn put_user(&mut self, user: User) -> Result<(), AuthError> {
        if user.name.is_empty() || user.name.len() > USER_NAME_MAX_BYTES {
            return Err(AuthError::UserNameLength {
                limit_bytes: USER_NAME_MAX_BYTES,
            });
        }
        self.records.push(RecordChange::PutUser(user.to_record()));
        self.events.push(UserEvent::Updated {
            name: user.name.clone(),
        });
        let user = Arc::new(user);
        self.state
            .entry(user.name.clone())
            .and_modify(|account| account.user = Arc::clone(&user))
            .or_insert_with(|| Account {
                user,
                permissions: HashMap::new(),
                topics: HashMap::new(),
            });
        Ok(())
    }

    /// As [`UsersEdit::put_user`], from a stored or imported record.
    pub fn put_user_record(&mut self, record: UserRecord) -> Result<(), AuthError> {
        let algorithm = HashingAlgorithm::from_name(&record.hashing_algorithm)?;
        let password = HashedPassword::decode(algorithm, &record.password_hash)?;
        self.put_user(User {
            name: record.name,
            password,
            tags: record.tags,
        })
    }

    /// Deletes a user and its permissions.
    pub fn delete_user(&mut self, name: &str) -> Result<(), AuthError> {
        let account = self.state.remove(name).ok_or_else(|| no_such_user(name))?;
        for record in account.permission_records() {
            self.records.push(RecordChange::DeletePermission {
                user: record.user,
                vhost: record.vhost,
            });
        }
        let topics = account.topic_records().into_iter();
        self.records.extend(topics.map(deleted_topic_permission));
        self.records.push(RecordChange::DeleteUser { name: name.to_owned() });
        self.events.push(UserEvent::Deleted { name: name.to_owned() });
        Ok(())
    }

    /// Replaces the password. Open connections stay.
    pub fn change_password(&mut self, name: &str, password: HashedPassword) -> Result<(), AuthError> {
        let user = self.user(name)?;
        self.put_user(User { password, ..user })
    }

    /// Replaces all tags.
    pub fn set_tags(&mut self, name: &str, tags: Vec<String>) -> Result<(), AuthError> {
        let user = self.user(name)?;
        self.put_user(User { tags, ..user })
    }

    /// Gives the user access to the virtual host, or changes it. That the virtual host exists is the caller's to check.
    pub fn set_permissions(
        &mut self,
        user: &str,
        vhost: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> Result<(), AuthError> {
        let permissions = Arc::new(Permissions::new(configure, write, read)?);
        let account = self.state.get_mut(user).ok_or_else(|| no_such_user(user))?;
        let record = permission_record(user, vhost, &permissions);
        account.permissions.insert(vhost.to_owned(), permissions);
        self.records.push(RecordChange::PutPermission(record));
        self.events.push(permissions_changed(user, vhost));
        Ok(())
    }

    /// Takes the user's access to the virtual host away. Without such access nothing happens.
    pub fn clear_permissions(&mut self, user: &str, vhost: &str) -> Result<(), AuthError> {
        let account = self.state.get_mut(user).ok_or_else(|| no_such_user(user))?;
        if account.permissions.remove(vhost).is_some() {
            self.records.push(RecordChange::DeletePermission {
                user: user.to_owned(),
                vhost: vhost.to_owned(),
            });
            self.events.push(permissions_changed(user, vhost));
        }
        Ok(())
    }

    /// Restricts the routing keys of a user at an exchange. That virtual host and exchange exist is the caller's to check.
    pub fn set_topic_permissions(&mut self, record: TopicPermissionRecord) -> Result<(), AuthError> {
        let account = self
            .state
            .get_mut(&record.user)
            .ok_or_else(|| no_such_user(&record.user))?;
        let topics = account.topics.entry(record.vhost.clone()).or_default();
        *topics = Arc::new(topics.with(&record)?);
        self.events.push(permissions_changed(&record.user, &record.vhost));
        self.records.push(RecordChange::PutTopicPermission(record));
        Ok(())
    }

    /// Lifts the restrictions of a user in a virtual host, at one exchange or at all. Without any nothing happens.
    pub fn clear_topic_permissions(
        &mut self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), AuthError> {
        let account = self.state.get_mut(user).ok_or_else(|| no_such_user(user))?;
        let Some(topics) = account.topics.get_mut(vhost) else {
            return Ok(());
        };
        let mut gone = topics.records(user, vhost);
        gone.retain(|record| exchange.is_none_or(|exchange| record.exchange == exchange));
        *topics = match exchange {
            Some(exchange) => Arc::new(topics.without(exchange)),
            None => Arc::new(TopicPermissions::default()),
        };
        if topics.is_empty() {
            account.topics.remove(vhost);
        }
        self.records.extend(gone.into_iter().map(deleted_topic_permission));
        self.events.push(permissions_changed(user, vhost));
        Ok(())
    }

    /// Takes everybody's access to a virtual host away, because it is deleted.
    pub fn clear_vhost(&mut self, vhost: &str) {
        for (user, account) in &mut self.state {
            if let Some(topics) = account.topics.remove(vhost) {
                let gone = topics.records(user, vhost).into_iter();
                self.records.extend(gone.map(deleted_topic_permission));
            }
            if account.permissions.remove(vhost).is_some() {
                self.records.push(RecordChange::DeletePermission {
                    user: user.clone(),
                    vhost: vhost.to_owned(),
                });
                self.events.push(permissions_changed(user, vhost));
            }
        }
    }

    /// Whether the user exists, this edit included.
    pub fn contains_user(&self, name: &str) -> bool {
        self.state.contains_key(name)
    }

    /// What has to be stored for this edit to last, in order.
    pub fn records(&self) -> &[RecordChange] {
        &self.records
    }

    /// Lets the change take effect, raises the revision and tells the observers.
    pub fn commit(self) {
        self.users.publish(self.state, &self.events);
    }

    fn user(&self, name: &str) -> Result<User, AuthError> {
        let account = self.state.get(name).ok_or_else(|| no_such_user(name))?;
        Ok(User::clone(&account.user))
    }
}

fn deleted_topic_permission(record: TopicPermissionRecord) -> RecordChange {
    RecordChange::DeleteTopicPermission {
        user: record.user,
        vhost: record.vhost,
        exchange: record.exchange,
    }
}

fn permissions_changed(user: &str, vhost: &str) -> UserEvent {
    UserEvent::PermissionsChanged {
        user: user.to_owned(),
        vhost: vhost.to_owned(),
    }
}

fn no_such_user(name: &str) -> AuthError {
    AuthError::NoSuchUser { name: name.to_owned() }
}
