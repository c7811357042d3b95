//! Users log in, may do what they may, and are edited.

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
