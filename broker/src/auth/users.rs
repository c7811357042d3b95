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
mod tests {
    use super::*;
    use crate::auth::RecordChange;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn password(text: &str) -> HashedPassword {
        HashedPassword::new(text.as_bytes(), *b"salt").unwrap()
    }

    /// `guest`, who may connect from here only, and `app`, who may use what begins with its name in `/`.
    fn registry() -> Users {
        let users = Users::new(vec!["guest".to_owned()]);
        let mut edit = users.edit();
        edit.add_user("guest", password("guest"), vec!["administrator".to_owned()])
            .unwrap();
        edit.add_user("app", password("secret"), Vec::new()).unwrap();
        edit.set_permissions("app", "/", "", "^app", "^app").unwrap();
        edit.commit();
        users
    }

    fn login(users: &Users, name: &str, password: &str, peer: IpAddr) -> Result<String, String> {
        let result = users.authenticate(name, password.as_bytes(), peer);
        result
            .map(|user| user.name.clone())
            .map_err(|refused| refused.to_string())
    }

    #[test]
    fn logins_are_accepted_and_refused_with_a_reason_for_the_log() {
        let users = registry();
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let other_loopback = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));
        let cases = [
            ("app", "secret", REMOTE, Ok("app")),
            ("app", "wrong", REMOTE, Err("user 'app' gave a wrong password")),
            ("app", "", REMOTE, Err("user 'app' gave a blank password")),
            ("nobody", "nobody", REMOTE, Err("user 'nobody' does not exist")),
            ("nobody", "", REMOTE, Err("user 'nobody' does not exist")),
            ("", "", REMOTE, Err("user '' does not exist")),
            ("guest", "guest", LOCAL, Ok("guest")),
            ("guest", "guest", other_loopback, Ok("guest")),
            ("guest", "guest", IpAddr::V6(Ipv6Addr::LOCALHOST), Ok("guest")),
            ("guest", "guest", mapped, Ok("guest")),
            (
                "guest",
                "guest",
                REMOTE,
                Err("user 'guest' can only connect via localhost"),
            ),
            ("guest", "wrong", REMOTE, Err("user 'guest' gave a wrong password")),
        ];
        for (name, password, peer, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(
                login(&users, name, password, peer),
                expected,
                "{name} {password} {peer}"
            );
        }
    }

    #[test]
    fn slow_hashes_are_checked_once_and_remembered_until_the_password_changes() {
        let users = registry().hashing_with(HashingAlgorithm::Argon2id);
        let change = |password: &str| {
            let mut edit = users.edit();
            edit.change_password("app", users.hash(password.as_bytes()).unwrap())
                .unwrap();
            edit.commit();
        };
        let at_once = |password: &str| users.authenticate_at_once("app", password.as_bytes(), REMOTE);
        change("slow");
        assert!(at_once("slow").is_none(), "nobody has checked it");
        assert!(login(&users, "app", "wrong", REMOTE).is_err());
        assert!(login(&users, "app", "slow", REMOTE).is_ok());
        assert!(at_once("slow").unwrap().is_ok());
        assert!(at_once("wrong").is_none());
        change("other");
        assert!(at_once("slow").is_none());
        assert!(login(&users, "app", "slow", REMOTE).is_err());
        let guest = |password: &[u8], peer| users.authenticate_at_once("guest", password, peer);
        assert!(guest(b"guest", LOCAL).unwrap().is_ok(), "RabbitMQ's hashes are quick");
        assert!(guest(b"guest", REMOTE).unwrap().is_err());
        assert!(
            guest(b"wrong", LOCAL).is_none(),
            "a refusal takes as long for everybody"
        );
    }

    #[test]
    fn without_loopback_users_guest_may_come_from_afar() {
        let users = Users::new(Vec::new());
        let mut edit = users.edit();
        edit.add_user("guest", password("guest"), Vec::new()).unwrap();
        edit.commit();
        assert_eq!(login(&users, "guest", "guest", REMOTE), Ok("guest".to_owned()));
    }

    #[test]
    fn access_is_per_user_and_virtual_host() {
        let users = registry();
        let permissions = users.access("app", "/").unwrap();
        assert!(permissions.allows(Operation::Write, "app.orders"));
        assert!(!permissions.allows(Operation::Configure, "app.orders"));
        assert!(users.access("app", "other").is_none());
        assert!(users.access("guest", "/").is_none());
        assert!(users.access("nobody", "/").is_none());
    }

    #[test]
    fn changes_take_effect_at_once_and_raise_the_revision() {
        let users = registry();
        let before = users.revision();
        let mut edit = users.edit();
        edit.set_permissions("app", "/", "", "", "^other").unwrap();
        edit.change_password("app", password("new")).unwrap();
        edit.set_tags("app", vec!["monitoring".to_owned()]).unwrap();
        assert_eq!(users.revision(), before, "nothing is seen before the commit");
        assert!(users.access("app", "/").unwrap().allows(Operation::Read, "app1"));
        edit.commit();
        assert!(users.revision() > before);
        assert!(!users.access("app", "/").unwrap().allows(Operation::Read, "app1"));
        assert!(login(&users, "app", "secret", REMOTE).is_err());
        assert!(login(&users, "app", "new", REMOTE).is_ok());
        assert!(users.get("app").unwrap().is_management());
    }

    #[test]
    fn an_edit_that_is_dropped_changes_nothing() {
        let users = registry();
        let (before, permissions) = (users.revision(), users.list_permissions());
        let mut edit = users.edit();
        edit.delete_user("app").unwrap();
        edit.add_user("new", password("x"), Vec::new()).unwrap();
        drop(edit);
        assert_eq!((users.revision(), users.list_permissions()), (before, permissions));
        assert!(users.get("app").is_some() && users.get("new").is_none());
    }

    #[test]
    fn records_of_an_edit_rebuild_the_registry() {
        let users = registry();
        let stored_users = users.list().iter().map(|user| user.to_record()).collect::<Vec<_>>();
        let (rebuilt, problems) = Users::from_records(vec![], stored_users, users.list_permissions(), vec![]);
        assert_eq!(problems, []);
        assert_eq!(rebuilt.list(), users.list());
        assert_eq!(rebuilt.list_permissions(), users.list_permissions());
    }

    #[test]
    fn records_that_cannot_be_used_take_rights_away_but_not_the_broker() {
        let good = registry()
            .list()
            .iter()
            .map(|user| user.to_record())
            .collect::<Vec<_>>();
        let mut bad = good.clone();
        bad[0].hashing_algorithm = "rot13".to_owned();
        let grant = |user: &str, read: &str| PermissionRecord {
            user: user.to_owned(),
            vhost: "/".to_owned(),
            configure: String::new(),
            write: String::new(),
            read: read.to_owned(),
        };
        let (users, problems) = Users::from_records(vec![], bad, [grant("guest", "("), grant("ghost", ".*")], []);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(users.get("app").is_none() && users.get("guest").is_some());
        assert_eq!(users.list_permissions(), []);
    }

    #[test]
    fn each_operation_says_what_to_store() {
        let users = registry();
        let mut edit = users.edit();
        edit.add_user("new", password("x"), vec!["management".to_owned()])
            .unwrap();
        edit.set_permissions("new", "/", "c", "w", "r").unwrap();
        edit.clear_permissions("app", "/").unwrap();
        edit.clear_permissions("app", "/").unwrap();
        edit.delete_user("new").unwrap();
        let new = UserRecord {
            name: "new".to_owned(),
            password_hash: password("x").encoded(),
            hashing_algorithm: "rabbit_password_hashing_sha256".to_owned(),
            tags: vec!["management".to_owned()],
        };
        let grant = PermissionRecord {
            user: "new".to_owned(),
            vhost: "/".to_owned(),
            configure: "c".to_owned(),
            write: "w".to_owned(),
            read: "r".to_owned(),
        };
        let no_grant = |user: &str| RecordChange::DeletePermission {
            user: user.to_owned(),
            vhost: "/".to_owned(),
        };
        let expected = [
            RecordChange::PutUser(new),
            RecordChange::PutPermission(grant),
            no_grant("app"),
            no_grant("new"),
            RecordChange::DeleteUser { name: "new".to_owned() },
        ];
        assert_eq!(edit.records(), expected);
    }

    #[test]
    fn a_deleted_virtual_host_takes_its_permissions_along() {
        let users = registry();
        let mut edit = users.edit();
        edit.set_permissions("guest", "/", ".*", ".*", ".*").unwrap();
        edit.set_permissions("guest", "other", ".*", ".*", ".*").unwrap();
        edit.clear_vhost("/");
        edit.commit();
        let left: Vec<_> = users
            .list_permissions()
            .into_iter()
            .map(|grant| (grant.user, grant.vhost))
            .collect();
        assert_eq!(left, [("guest".to_owned(), "other".to_owned())]);
    }

    #[test]
    fn observers_hear_of_each_change_after_it_took_effect() {
        let users = Arc::new(registry());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (registry, log) = (Arc::downgrade(&users), Arc::clone(&heard));
        users.observe(move |event| {
            let app_exists = registry.upgrade().unwrap().get("app").is_some();
            log.lock().push((event.clone(), app_exists));
        });
        let mut edit = users.edit();
        edit.set_permissions("guest", "/", "", "", "").unwrap();
        edit.delete_user("app").unwrap();
        assert!(heard.lock().is_empty());
        edit.commit();
        let expected = [
            (
                UserEvent::PermissionsChanged {
                    user: "guest".to_owned(),
                    vhost: "/".to_owned(),
                },
                false,
            ),
            (UserEvent::Deleted { name: "app".to_owned() }, false),
        ];
        assert_eq!(*heard.lock(), expected);
    }

    #[test]
    fn operations_on_missing_or_existing_users_are_refused() {
        let users = registry();
        let mut edit = users.edit();
        let missing = || {
            Err(AuthError::NoSuchUser {
                name: "nobody".to_owned(),
            })
        };
        assert_eq!(edit.delete_user("nobody"), missing());
        assert_eq!(edit.change_password("nobody", password("x")), missing());
        assert_eq!(edit.set_tags("nobody", Vec::new()), missing());
        assert_eq!(edit.set_permissions("nobody", "/", "", "", ""), missing());
        assert_eq!(edit.clear_permissions("nobody", "/"), missing());
        let exists = Err(AuthError::UserExists { name: "app".to_owned() });
        assert_eq!(edit.add_user("app", password("x"), Vec::new()), exists);
        for name in [String::new(), "n".repeat(256)] {
            let refused = edit.add_user(&name, password("x"), Vec::new());
            assert_eq!(refused, Err(AuthError::UserNameLength { limit_bytes: 255 }));
        }
        assert_eq!(edit.records(), []);
    }

    #[test]
    fn tags_include_one_another_as_in_rabbitmq() {
        // Tag; then administrator, monitoring, policymaker, management, impersonator.
        let cases = [
            ("administrator", [true, true, true, true, false]),
            ("monitoring", [false, true, false, true, false]),
            ("policymaker", [false, false, true, true, false]),
            ("management", [false, false, false, true, false]),
            ("impersonator", [false, false, false, false, true]),
            ("custom", [false; 5]),
        ];
        for (tag, expected) in cases {
            let user = User {
                name: "u".to_owned(),
                password: password("x"),
                tags: vec![tag.to_owned()],
            };
            let found = [
                user.is_administrator(),
                user.is_monitoring(),
                user.is_policymaker(),
                user.is_management(),
                user.is_impersonator(),
            ];
            assert_eq!(found, expected, "{tag}");
        }
    }

    #[test]
    fn edits_of_several_threads_lose_nothing() {
        let users = registry();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let users = &users;
                scope.spawn(move || {
                    let mut edit = users.edit();
                    edit.add_user(&format!("user{number}"), password("x"), Vec::new())
                        .unwrap();
                    edit.commit();
                });
            }
        });
        assert_eq!(users.list().len(), 2 + 8);
    }
}
