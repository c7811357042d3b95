//! The registry of users and of their permissions.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::edit::UsersEdit;
use super::error::{AuthError, LoginRefused};
use super::password::{HashedPassword, HashingAlgorithm};
use super::permissions::{Operation, Permissions};
use super::topic_permissions::TopicPermissions;
use super::user::{PermissionRecord, TopicPermissionRecord, User, UserEvent, UserRecord};
use super::verified::VerifiedPasswords;

type Observer = Arc<dyn Fn(&UserEvent) + Send + Sync>;

/// All users and permissions, shared by everyone who has to ask. Reads take a short read lock.
///
/// Changes go through [`Users::edit`]. [`Users::revision`] rises with each, so that whoever holds what
/// [`Users::access`] returned can see cheaply that it is to be asked for again: read the revision first,
/// then the permissions.
pub struct Users {
    state: RwLock<State>,
    revision: AtomicU64,
    /// Held by the one edit that is under way.
    editing: Mutex<()>,
    observers: RwLock<Vec<Observer>>,
    loopback_users: RwLock<Vec<String>>,
    /// How new passwords are hashed.
    hashing: HashingAlgorithm,
    verified: RwLock<VerifiedPasswords>,
}

impl Users {
    /// An empty registry. The named loopback users may connect only from this machine.
    pub fn new(loopback_users: Vec<String>) -> Self {
        Self {
            state: RwLock::default(),
            revision: AtomicU64::new(1),
            editing: Mutex::new(()),
            observers: RwLock::default(),
            loopback_users: RwLock::new(loopback_users),
            hashing: HashingAlgorithm::Sha256,
            verified: RwLock::new(VerifiedPasswords::new()),
        }
    }

    /// The same, with new passwords hashed so.
    #[must_use]
    pub fn hashing_with(mut self, algorithm: HashingAlgorithm) -> Self {
        self.hashing = algorithm;
        self
    }

    /// Hashes a new password, which may take long.
    pub fn hash(&self, password: &[u8]) -> Result<HashedPassword, AuthError> {
        HashedPassword::create(self.hashing, password)
    }

    /// The registry as it was stored. Records that cannot be used are left out, which can only take rights
    /// away, and are returned as errors for the log.
    pub fn from_records(
        loopback_users: Vec<String>,
        users: impl IntoIterator<Item = UserRecord>,
        permissions: impl IntoIterator<Item = PermissionRecord>,
        topic_permissions: impl IntoIterator<Item = TopicPermissionRecord>,
    ) -> (Self, Vec<AuthError>) {
        let registry = Self::new(loopback_users);
        let mut problems = Vec::new();
        let mut edit = registry.edit();
        for record in users {
            problems.extend(edit.put_user_record(record).err());
        }
        for record in permissions {
            let PermissionRecord {
                user,
                vhost,
                configure,
                write,
                read,
            } = record;
            problems.extend(edit.set_permissions(&user, &vhost, &configure, &write, &read).err());
        }
        for record in topic_permissions {
            problems.extend(edit.set_topic_permissions(record).err());
        }
        edit.commit();
        (registry, problems)
    }

    /// Checks a login, which may take long. Every refusal takes as long as that of a wrong password, whoever exists.
    pub fn authenticate(&self, name: &str, password: &[u8], peer: IpAddr) -> Result<Arc<User>, LoginRefused> {
        let user = self.get(name);
        if let Some(user) = &user
            && self.is_password(user, password)
        {
            return self.admit(user, peer);
        }
        let took_long = user.as_ref().is_some_and(|user| user.password.algorithm().is_slow());
        if !took_long {
            HashedPassword::of_nobody(self.hashing).verify(password);
        }
        let name = name.to_owned();
        Err(match user {
            None => LoginRefused::UnknownUser { name },
            Some(_) if password.is_empty() => LoginRefused::BlankPassword { name },
            Some(_) => LoginRefused::WrongPassword { name },
        })
    }

    /// As [`Users::authenticate`] if the answer is to be had at once.
    pub fn authenticate_at_once(
        &self,
        name: &str,
        password: &[u8],
        peer: IpAddr,
    ) -> Option<Result<Arc<User>, LoginRefused>> {
        let user = self.get(name);
        if let Some(user) = &user {
            let is_slow = user.password.algorithm().is_slow();
            let known = is_slow && self.verified.read().knows(name, &user.password, password);
            if known || (!is_slow && user.password.verify(password)) {
                return Some(self.admit(user, peer));
            }
        }
        let takes_long = self.hashing.is_slow() || user.is_some_and(|user| user.password.algorithm().is_slow());
        (!takes_long).then(|| self.authenticate(name, password, peer))
    }

    fn is_password(&self, user: &User, password: &[u8]) -> bool {
        if !user.password.algorithm().is_slow() {
            return user.password.verify(password);
        }
        if self.verified.read().knows(&user.name, &user.password, password) {
            return true;
        }
        let verified = user.password.verify(password);
        if verified {
            self.verified.write().remember(&user.name, &user.password, password);
        }
        verified
    }

    /// Lets the user in, unless it comes from where it may not.
    fn admit(&self, user: &Arc<User>, peer: IpAddr) -> Result<Arc<User>, LoginRefused> {
        self.check_source(&user.name, peer)?;
        Ok(Arc::clone(user))
    }

    /// The user of a name that a certificate has proven, or that strangers get. No password is asked for.
    pub fn authenticate_by_name(&self, name: &str, peer: IpAddr) -> Result<Arc<User>, LoginRefused> {
        let unknown = || LoginRefused::UnknownUser { name: name.to_owned() };
        let user = self.get(name).ok_or_else(unknown)?;
        self.check_source(name, peer)?;
        Ok(user)
    }

    fn check_source(&self, name: &str, peer: IpAddr) -> Result<(), LoginRefused> {
        if self.is_loopback_user(name) && !peer.to_canonical().is_loopback() {
            return Err(LoginRefused::OnlyViaLocalhost { name: name.to_owned() });
        }
        Ok(())
    }

    /// What the user may do in the virtual host; `None` if it has no access to it at all.
    pub fn access(&self, user: &str, vhost: &str) -> Option<Arc<Permissions>> {
        self.state.read().get(user)?.permissions.get(vhost).cloned()
    }

    /// What restricts the user's routing keys in the virtual host.
    pub fn topic_permissions(&self, user: &str, vhost: &str) -> Arc<TopicPermissions> {
        let state = self.state.read();
        let account = state.get(user);
        account
            .and_then(|account| account.topics.get(vhost).cloned())
            .unwrap_or_default()
    }

    /// All topic permissions, by user, virtual host and exchange.
    pub fn list_topic_permissions(&self) -> Vec<TopicPermissionRecord> {
        let state = self.state.read();
        let mut records: Vec<_> = state.values().flat_map(Account::topic_records).collect();
        drop(state);
        records.sort_by(|a, b| (&a.user, &a.vhost, &a.exchange).cmp(&(&b.user, &b.vhost, &b.exchange)));
        records
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<Arc<User>> {
        self.state.read().get(name).map(|account| Arc::clone(&account.user))
    }

    /// All users, by name.
    pub fn list(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self
            .state
            .read()
            .values()
            .map(|account| Arc::clone(&account.user))
            .collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// All permissions, by user and virtual host.
    pub fn list_permissions(&self) -> Vec<PermissionRecord> {
        let mut records: Vec<_> = self
            .state
            .read()
            .values()
            .flat_map(Account::permission_records)
            .collect();
        records.sort_by(|a, b| (&a.user, &a.vhost).cmp(&(&b.user, &b.vhost)));
        records
    }

    /// Whether there is no user yet, as at the first start.
    pub fn is_empty(&self) -> bool {
        self.state.read().is_empty()
    }

    /// Whether the user may connect only from this machine.
    pub fn is_loopback_user(&self, name: &str) -> bool {
        self.loopback_users.read().iter().any(|user| user == name)
    }

    /// Replaces the users that may connect only from this machine. Who is connected stays.
    pub fn set_loopback_users(&self, users: Vec<String>) {
        *self.loopback_users.write() = users;
    }

    /// A number that rises with every change.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Calls the observer after each change from now on, without any lock held but that of the edit. It must not edit.
    pub fn observe(&self, observer: impl Fn(&UserEvent) + Send + Sync + 'static) {
        self.observers.write().push(Arc::new(observer));
    }

    /// Begins a change. Waits for the edit under way, if there is one; nobody sees the change before
    /// [`UsersEdit::commit`].
    pub fn edit(&self) -> UsersEdit<'_> {
        let guard = self.editing.lock();
        let state = self.state.read().clone();
        UsersEdit::begin(self, state, guard)
    }

    /// Lets an edit take effect.
    pub(super) fn publish(&self, state: State, events: &[UserEvent]) {
        *self.state.write() = state;
        self.revision.fetch_add(1, Ordering::AcqRel);
        let observers = self.observers.read().clone();
        for event in events {
            observers.iter().for_each(|observer| observer(event));
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("users", &self.state.read().len())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// All users by name.
pub(super) type State = HashMap<String, Account>;

/// A user and its permissions by virtual host.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub user: Arc<User>,
    pub permissions: HashMap<String, Arc<Permissions>>,
    pub topics: HashMap<String, Arc<TopicPermissions>>,
}

impl Account {
    /// What of this account is stored beside the user itself.
    pub fn permission_records(&self) -> Vec<PermissionRecord> {
        self.permissions
            .iter()
            .map(|(vhost, permissions)| permission_record(&self.user.name, vhost, permissions))
            .collect()
    }

    /// The topic permissions of this account.
    pub fn topic_records(&self) -> Vec<TopicPermissionRecord> {
        let topics = self.topics.iter();
        topics
            .flat_map(|(vhost, topics)| topics.records(&self.user.name, vhost))
            .collect()
    }
}

/// Permissions as they are stored.
pub(super) fn permission_record(user: &str, vhost: &str, permissions: &Permissions) -> PermissionRecord {
    PermissionRecord {
        user: user.to_owned(),
        vhost: vhost.to_owned(),
        configure: permissions.text(Operation::Configure).to_owned(),
        write: permissions.text(Operation::Write).to_owned(),
        read: permissions.text(Operation::Read).to_owned(),
    }
}

#[cfg(test)]
mod tests;
