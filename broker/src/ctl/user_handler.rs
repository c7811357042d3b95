//! The commands about users and permissions. They need only the registry and a way to store, so the broker's
//! handler passes them on to here.

use std::net::Ipv4Addr;

use super::error::{CtlError, ErrorKind};
use super::protocol::{Password, Reply, Request, Response};
use super::rows::{
    PermissionRow, Row, TopicPermissionRow, UserPermissionRow, UserRow, UserTopicPermissionRow, tabulate,
};
use crate::auth::{HashedPassword, PermissionRecord, RecordChange, TopicPermissionRecord, Users, UsersEdit};

/// What the commands need of the broker.
pub trait UserStore {
    /// Stores the records of one change in one batch; it is on disk when this returns.
    fn save(&self, records: &[RecordChange]) -> Result<(), CtlError>;
    /// Whether there is such a virtual host.
    fn vhost_exists(&self, name: &str) -> bool;
}

/// Executes the request if it is about users or permissions; gives it back if it is not.
pub fn handle(users: &Users, store: &impl UserStore, request: Request) -> Result<Response, Request> {
    let change = |change: &mut dyn FnMut(&mut UsersEdit<'_>) -> Result<(), CtlError>| -> Response {
        apply(users, store, change).into()
    };
    let response = match request {
        Request::AddUser { name, password } => {
            change(&mut |edit| Ok(edit.add_user(&name, hash(users, &password)?, Vec::new())?))
        }
        Request::DeleteUser { name } => change(&mut |edit| Ok(edit.delete_user(&name)?)),
        Request::ChangePassword { name, password } => {
            change(&mut |edit| Ok(edit.change_password(&name, hash(users, &password)?)?))
        }
        Request::ClearPassword { name } => change(&mut |edit| Ok(edit.change_password(&name, HashedPassword::none())?)),
        Request::AuthenticateUser { name, password } => authenticate(users, &name, &password).into(),
        Request::SetUserTags { name, tags } => change(&mut |edit| Ok(edit.set_tags(&name, tags.clone())?)),
        Request::SetPermissions {
            vhost,
            user,
            configure,
            write,
            read,
        } => change(&mut |edit| {
            must_exist(store, &vhost)?;
            Ok(edit.set_permissions(&user, &vhost, &configure, &write, &read)?)
        }),
        Request::ClearPermissions { vhost, user } => change(&mut |edit| {
            must_exist(store, &vhost)?;
            Ok(edit.clear_permissions(&user, &vhost)?)
        }),
        Request::SetTopicPermissions {
            vhost,
            user,
            exchange,
            write,
            read,
        } => change(&mut |edit| {
            must_exist(store, &vhost)?;
            let record = TopicPermissionRecord {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange: exchange.clone(),
                write: write.clone(),
                read: read.clone(),
            };
            Ok(edit.set_topic_permissions(record)?)
        }),
        Request::ClearTopicPermissions { vhost, user, exchange } => change(&mut |edit| {
            must_exist(store, &vhost)?;
            Ok(edit.clear_topic_permissions(&user, &vhost, exchange.as_deref())?)
        }),
        Request::ListTopicPermissions { vhost } => list_topic_permissions(users, store, &vhost),
        Request::ListUserTopicPermissions { user } => list_user_topic_permissions(users, &user),
        Request::ListUsers {} => list_users(users),
        Request::ListPermissions { vhost } => list_permissions(users, store, &vhost),
        Request::ListUserPermissions { user } => list_user_permissions(users, &user),
        other => return Err(other),
    };
    Ok(response)
}

/// Makes the change, stores it, and only then lets it take effect.
fn apply(
    users: &Users,
    store: &impl UserStore,
    change: &mut dyn FnMut(&mut UsersEdit<'_>) -> Result<(), CtlError>,
) -> Result<Reply, CtlError> {
    let mut edit = users.edit();
    change(&mut edit)?;
    store.save(edit.records())?;
    edit.commit();
    Ok(Reply::Done)
}

fn list_users(users: &Users) -> Response {
    let rows = users.list().into_iter().map(|user| UserRow {
        user: user.name.clone(),
        tags: user.tags.clone(),
    });
    tabulate(rows, &[]).into()
}

fn list_permissions(users: &Users, store: &impl UserStore, vhost: &str) -> Response {
    if let Err(error) = must_exist(store, vhost) {
        return Response::Error(error);
    }
    let row = |record: PermissionRecord| PermissionRow {
        user: record.user,
        configure: record.configure,
        write: record.write,
        read: record.read,
    };
    permissions(users, |record| record.vhost == vhost, row)
}

fn list_user_permissions(users: &Users, user: &str) -> Response {
    if users.get(user).is_none() {
        return no_such_user(user);
    }
    let row = |record: PermissionRecord| UserPermissionRow {
        vhost: record.vhost,
        configure: record.configure,
        write: record.write,
        read: record.read,
    };
    permissions(users, |record| record.user == user, row)
}

fn permissions<R: Row>(
    users: &Users,
    wanted: impl Fn(&PermissionRecord) -> bool,
    row: impl Fn(PermissionRecord) -> R,
) -> Response {
    let records = users.list_permissions().into_iter();
    tabulate(records.filter(wanted).map(row), &[]).into()
}

fn list_topic_permissions(users: &Users, store: &impl UserStore, vhost: &str) -> Response {
    if let Err(error) = must_exist(store, vhost) {
        return Response::Error(error);
    }
    let row = |record: TopicPermissionRecord| TopicPermissionRow {
        user: record.user,
        exchange: record.exchange,
        write: record.write,
        read: record.read,
    };
    topic_permissions(users, |record| record.vhost == vhost, row)
}

fn list_user_topic_permissions(users: &Users, user: &str) -> Response {
    if users.get(user).is_none() {
        return no_such_user(user);
    }
    let row = |record: TopicPermissionRecord| UserTopicPermissionRow {
        vhost: record.vhost,
        exchange: record.exchange,
        write: record.write,
        read: record.read,
    };
    topic_permissions(users, |record| record.user == user, row)
}

fn topic_permissions<R: Row>(
    users: &Users,
    wanted: impl Fn(&TopicPermissionRecord) -> bool,
    row: impl Fn(TopicPermissionRecord) -> R,
) -> Response {
    let records = users.list_topic_permissions().into_iter();
    tabulate(records.filter(wanted).map(row), &[]).into()
}

fn no_such_user(user: &str) -> Response {
    let text = format!("user '{user}' does not exist");
    Response::Error(CtlError::new(ErrorKind::NoUser, text))
}

fn must_exist(store: &impl UserStore, vhost: &str) -> Result<(), CtlError> {
    if store.vhost_exists(vhost) {
        return Ok(());
    }
    Err(CtlError::new(
        ErrorKind::NotFound,
        format!("virtual host '{vhost}' does not exist"),
    ))
}

fn hash(users: &Users, password: &Password) -> Result<HashedPassword, CtlError> {
    Ok(users.hash(password.0.as_bytes())?)
}

/// Whoever asks sits at the broker's own machine, so this delays nobody and lets guest in.
fn authenticate(users: &Users, name: &str, password: &Password) -> Result<Reply, CtlError> {
    let localhost = Ipv4Addr::LOCALHOST.into();
    match users.authenticate(name, password.0.as_bytes(), localhost) {
        Ok(_) => Ok(Reply::Message(format!("user '{name}' has this password"))),
        Err(reason) => Err(CtlError::new(ErrorKind::Unhealthy, reason.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use serde_json::json;
    use std::net::{IpAddr, Ipv4Addr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A store that has the virtual hosts `/` and `shop` and can be made to fail.
    #[derive(Default)]
    struct FakeStore {
        saved: Mutex<Vec<RecordChange>>,
        broken: bool,
    }

    impl UserStore for FakeStore {
        fn save(&self, records: &[RecordChange]) -> Result<(), CtlError> {
            if self.broken {
                return Err(CtlError::new(ErrorKind::Internal, "disk full"));
            }
            self.saved.lock().extend_from_slice(records);
            Ok(())
        }

        fn vhost_exists(&self, name: &str) -> bool {
            ["/", "shop"].contains(&name)
        }
    }

    fn add_user(name: &str, password: &str) -> Request {
        Request::AddUser {
            name: name.to_owned(),
            password: Password(password.to_owned()),
        }
    }

    fn set_permissions(user: &str, vhost: &str, read: &str) -> Request {
        let [user, vhost, read] = [user, vhost, read].map(str::to_owned);
        Request::SetPermissions {
            vhost,
            user,
            configure: String::new(),
            write: String::new(),
            read,
        }
    }

    fn error_text(response: Result<Response, Request>) -> String {
        match response {
            Ok(Response::Error(error)) => error.text,
            other => panic!("{other:?}"),
        }
    }

    fn rows(response: Result<Response, Request>) -> serde_json::Value {
        match response {
            Ok(Response::Ok(Reply::Table(table))) => json!(table.rows),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_change_users_and_store_each_change() {
        let (users, store) = (Users::new(Vec::new()), FakeStore::default());
        let done = Ok(Response::Ok(Reply::Done));
        let tags = vec!["monitoring".to_owned()];
        let requests = [
            add_user("app", "secret"),
            Request::SetUserTags {
                name: "app".to_owned(),
                tags,
            },
            Request::ChangePassword {
                name: "app".to_owned(),
                password: Password("new".to_owned()),
            },
            set_permissions("app", "shop", "^app"),
            set_permissions("app", "/", ".*"),
            Request::ClearPermissions {
                vhost: "/".to_owned(),
                user: "app".to_owned(),
            },
        ];
        for request in requests {
            assert_eq!(handle(&users, &store, request), done);
        }
        assert_eq!(store.saved.lock().len(), 6);
        assert!(users.authenticate("app", b"new", LOCAL).is_ok());
        assert_eq!(
            rows(handle(&users, &store, Request::ListUsers {})),
            json!([["app", ["monitoring"]]])
        );
        let in_shop = Request::ListPermissions {
            vhost: "shop".to_owned(),
        };
        assert_eq!(rows(handle(&users, &store, in_shop)), json!([["app", "", "", "^app"]]));
        let restrict = Request::SetTopicPermissions {
            vhost: "shop".to_owned(),
            user: "app".to_owned(),
            exchange: "amq.topic".to_owned(),
            write: "^w".to_owned(),
            read: "^r".to_owned(),
        };
        assert_eq!(handle(&users, &store, restrict), done);
        let in_shop = Request::ListTopicPermissions {
            vhost: "shop".to_owned(),
        };
        let restricted = json!([["app", "amq.topic", "^w", "^r"]]);
        assert_eq!(rows(handle(&users, &store, in_shop)), restricted);
        let of_app = Request::ListUserTopicPermissions { user: "app".to_owned() };
        let restricted = json!([["shop", "amq.topic", "^w", "^r"]]);
        assert_eq!(rows(handle(&users, &store, of_app.clone())), restricted);
        let lift = Request::ClearTopicPermissions {
            vhost: "shop".to_owned(),
            user: "app".to_owned(),
            exchange: None,
        };
        assert_eq!(handle(&users, &store, lift), done);
        assert_eq!(rows(handle(&users, &store, of_app)), json!([]));
        let of_app = Request::ListUserPermissions { user: "app".to_owned() };
        assert_eq!(rows(handle(&users, &store, of_app)), json!([["shop", "", "", "^app"]]));

        assert_eq!(
            handle(&users, &store, Request::DeleteUser { name: "app".to_owned() }),
            done
        );
        assert!(users.is_empty());
    }

    #[test]
    fn mistakes_are_refused_with_a_reason() {
        let (users, store) = (Users::new(Vec::new()), FakeStore::default());
        handle(&users, &store, add_user("app", "secret")).unwrap();
        let cases = [
            (add_user("app", "x"), "user 'app' already exists"),
            (add_user("new", ""), "the password must not be blank"),
            (
                Request::DeleteUser {
                    name: "nobody".to_owned(),
                },
                "user 'nobody' does not exist",
            ),
            (set_permissions("nobody", "/", ""), "user 'nobody' does not exist"),
            (
                set_permissions("app", "nowhere", ""),
                "virtual host 'nowhere' does not exist",
            ),
            (
                set_permissions("app", "/", "("),
                "bad regular expression '(': unclosed group",
            ),
            (
                Request::ListPermissions {
                    vhost: "nowhere".to_owned(),
                },
                "virtual host 'nowhere' does not exist",
            ),
            (
                Request::ListUserPermissions {
                    user: "nobody".to_owned(),
                },
                "user 'nobody' does not exist",
            ),
        ];
        for (request, text) in cases {
            assert_eq!(error_text(handle(&users, &store, request)), text);
        }
    }

    #[test]
    fn a_change_that_cannot_be_stored_does_not_take_effect() {
        let users = Users::new(Vec::new());
        let broken = FakeStore {
            broken: true,
            ..FakeStore::default()
        };
        assert_eq!(
            error_text(handle(&users, &broken, add_user("app", "secret"))),
            "disk full"
        );
        assert!(users.is_empty());
        assert_eq!(
            handle(&users, &FakeStore::default(), add_user("app", "secret")),
            Ok(Response::Ok(Reply::Done))
        );
    }

    #[test]
    fn other_commands_are_given_back() {
        let request = Request::DeleteVhost { name: "x".to_owned() };
        assert_eq!(
            handle(&Users::new(Vec::new()), &FakeStore::default(), request.clone()),
            Err(request)
        );
    }
}
