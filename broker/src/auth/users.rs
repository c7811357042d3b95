//! The registry of users and of their permissions.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::error::{AuthError, LoginRefused};
use super::password::{HashedPassword, HashingAlgorithm};
use super::permissions::{Operation, Permissions};

/// Longest user name, a short string of AMQP.
pub const USER_NAME_MAX_BYTES: usize = 255;

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

    fn to_record(&self) -> UserRecord {
        UserRecord {
            name: self.name.clone(),
            password_hash: self.password.to_base64(),
            hashing_algorithm: self.password.algorithm().name().to_owned(),
            tags: self.tags.clone(),
        }
    }
}

/// A user as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    pub name: String,
    /// Base64, as in [`HashedPassword::to_base64`].
    pub password_hash: String,
    /// As in [`HashingAlgorithm::name`].
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

/// One write to the store that makes a change of the registry last. Those of one edit belong into one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordChange {
    PutUser(UserRecord),
    DeleteUser { name: String },
    PutPermission(PermissionRecord),
    DeletePermission { user: String, vhost: String },
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
    loopback_users: Vec<String>,
    nobody: HashedPassword,
}

type State = HashMap<String, Account>;

#[derive(Debug, Clone)]
struct Account {
    user: Arc<User>,
    permissions: HashMap<String, Arc<Permissions>>,
}

impl Users {
    /// An empty registry. The named loopback users may connect only from this machine.
    pub fn new(loopback_users: Vec<String>) -> Self {
        Self {
            state: RwLock::default(),
            revision: AtomicU64::new(1),
            editing: Mutex::new(()),
            observers: RwLock::default(),
            loopback_users,
            nobody: HashedPassword::of_nobody(),
        }
    }

    /// The registry as it was stored. Records that cannot be used are left out, which can only take rights
    /// away, and are returned as errors for the log.
    pub fn from_records(
        loopback_users: Vec<String>,
        users: impl IntoIterator<Item = UserRecord>,
        permissions: impl IntoIterator<Item = PermissionRecord>,
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
        edit.commit();
        (registry, problems)
    }

    /// Checks a login. An unknown user takes as long as a wrong password.
    pub fn authenticate(&self, name: &str, password: &[u8], peer: IpAddr) -> Result<Arc<User>, LoginRefused> {
        let name_owned = || name.to_owned();
        let user = self.get(name);
        let verified = user
            .as_ref()
            .map_or(&self.nobody, |user| &user.password)
            .verify(password);
        let Some(user) = user else {
            return Err(LoginRefused::UnknownUser { name: name_owned() });
        };
        if password.is_empty() {
            return Err(LoginRefused::BlankPassword { name: name_owned() });
        }
        if !verified {
            return Err(LoginRefused::WrongPassword { name: name_owned() });
        }
        if self.is_loopback_user(name) && !peer.to_canonical().is_loopback() {
            return Err(LoginRefused::OnlyViaLocalhost { name: name_owned() });
        }
        Ok(user)
    }

    /// What the user may do in the virtual host; `None` if it has no access to it at all.
    pub fn access(&self, user: &str, vhost: &str) -> Option<Arc<Permissions>> {
        self.state.read().get(user)?.permissions.get(vhost).cloned()
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
        self.loopback_users.iter().any(|user| user == name)
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
        UsersEdit {
            users: self,
            state,
            records: Vec::new(),
            events: Vec::new(),
            _guard: guard,
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

impl UsersEdit<'_> {
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
            });
        Ok(())
    }

    /// As [`UsersEdit::put_user`], from a stored or imported record.
    pub fn put_user_record(&mut self, record: UserRecord) -> Result<(), AuthError> {
        let algorithm = HashingAlgorithm::from_name(&record.hashing_algorithm)?;
        let password = HashedPassword::from_base64(algorithm, &record.password_hash)?;
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

    /// Takes everybody's access to a virtual host away, because it is deleted.
    pub fn clear_vhost(&mut self, vhost: &str) {
        for (user, account) in &mut self.state {
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
        *self.users.state.write() = self.state;
        self.users.revision.fetch_add(1, Ordering::AcqRel);
        let observers = self.users.observers.read().clone();
        for event in &self.events {
            observers.iter().for_each(|observer| observer(event));
        }
    }

    fn user(&self, name: &str) -> Result<User, AuthError> {
        let account = self.state.get(name).ok_or_else(|| no_such_user(name))?;
        Ok(User::clone(&account.user))
    }
}

impl Account {
    fn permission_records(&self) -> Vec<PermissionRecord> {
        self.permissions
            .iter()
            .map(|(vhost, permissions)| permission_record(&self.user.name, vhost, permissions))
            .collect()
    }
}

fn permission_record(user: &str, vhost: &str, permissions: &Permissions) -> PermissionRecord {
    PermissionRecord {
        user: user.to_owned(),
        vhost: vhost.to_owned(),
        configure: permissions.text(Operation::Configure).to_owned(),
        write: permissions.text(Operation::Write).to_owned(),
        read: permissions.text(Operation::Read).to_owned(),
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
