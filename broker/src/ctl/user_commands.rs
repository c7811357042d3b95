//! The commands about users and permissions. They need only the registry and a way to store, so the broker's
//! handler passes them on to here.

use super::error::{CtlError, ErrorKind};
use super::protocol::{Password, Reply, Request, Response};
use super::rows::{PermissionRow, UserPermissionRow, UserRow, tabulate};
use crate::auth::password::random_salt;
use crate::auth::{HashedPassword, RecordChange, Users, UsersEdit};

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
            change(&mut |edit| Ok(edit.add_user(&name, hash(&password)?, Vec::new())?))
        }
        Request::DeleteUser { name } => change(&mut |edit| Ok(edit.delete_user(&name)?)),
        Request::ChangePassword { name, password } => {
            change(&mut |edit| Ok(edit.change_password(&name, hash(&password)?)?))
        }
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
    let records = users
        .list_permissions()
        .into_iter()
        .filter(|record| record.vhost == vhost);
    let rows = records.map(|record| PermissionRow {
        user: record.user,
        configure: record.configure,
        write: record.write,
        read: record.read,
    });
    tabulate(rows, &[]).into()
}

fn list_user_permissions(users: &Users, user: &str) -> Response {
    if users.get(user).is_none() {
        return Response::Error(CtlError::new(
            ErrorKind::NotFound,
            format!("user '{user}' does not exist"),
        ));
    }
    let records = users
        .list_permissions()
        .into_iter()
        .filter(|record| record.user == user);
    let rows = records.map(|record| UserPermissionRow {
        vhost: record.vhost,
        configure: record.configure,
        write: record.write,
        read: record.read,
    });
    tabulate(rows, &[]).into()
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

fn hash(password: &Password) -> Result<HashedPassword, CtlError> {
    Ok(HashedPassword::new(password.0.as_bytes(), random_salt()?)?)
}
