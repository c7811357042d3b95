//! Users and what they may do in virtual hosts.

use serde_json::Value;

use super::limits;
use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Fields, Request};
use super::views::{PermissionView, UserView, WhoamiView};
use crate::auth::{HashedPassword, HashingAlgorithm, PermissionRecord, User, Users};
use crate::broker::Broker;

impl Row for UserView {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Row for PermissionView {
    fn name(&self) -> &str {
        &self.user
    }
}

impl From<PermissionRecord> for PermissionView {
    fn from(record: PermissionRecord) -> PermissionView {
        PermissionView {
            user: record.user,
            vhost: record.vhost,
            configure: record.configure,
            write: record.write,
            read: record.read,
        }
    }
}

/// A user as administrators see it.
fn view(broker: &Broker, user: &User) -> UserView {
    UserView {
        name: user.name.clone(),
        password_hash: user.password.encoded(),
        hashing_algorithm: user.password.algorithm().name(),
        tags: user.tags.clone(),
        limits: limits::object(&broker.user_limits(&user.name)),
    }
}

/// `GET /api/whoami`.
pub fn whoami(request: &Request) -> Outcome {
    let user = &request.caller()?.user;
    Reply::json(&WhoamiView {
        name: user.name.clone(),
        tags: user.tags.clone(),
    })
}

/// `GET /api/users`.
pub fn list(request: &Request) -> Outcome {
    let users = request.broker.users.list();
    listing::list(request, users.iter().map(|user| view(&request.broker, user)).collect())
}

/// `GET /api/users/without-permissions`.
pub fn without_permissions(request: &Request) -> Outcome {
    let users = &request.broker.users;
    let permissions = users.list_permissions();
    let mut listed = users.list();
    listed.retain(|user| !permissions.iter().any(|permission| permission.user == user.name));
    listing::list(request, listed.iter().map(|user| view(&request.broker, user)).collect())
}

/// `GET /api/users/{user}`.
pub fn get(request: &Request) -> Outcome {
    let user = request
        .broker
        .users
        .get(request.part("user"))
        .ok_or(ApiError::NotFound)?;
    listing::object(request, &view(&request.broker, &user))
}

/// `PUT /api/users/{user}`: makes one, or replaces its password and tags.
pub fn put(request: &Request) -> Outcome {
    let (name, fields) = (request.part("user"), request.fields()?);
    let tags = fields.texts("tags")?.ok_or_else(|| ApiError::bad("tags_not_present"))?;
    let password = password(&request.broker.users, &fields)?;
    let mut edit = request.broker.users.edit();
    let is_new = !edit.contains_user(name);
    edit.put_user(User {
        name: name.to_owned(),
        password,
        tags,
    })?;
    request.commit_users(edit)?;
    Ok(Reply::put(is_new))
}

/// A password in plain text or as RabbitMQ's hash; without either nobody can log in as the user with a password.
pub fn password(users: &Users, fields: &Fields) -> Result<HashedPassword, ApiError> {
    let hash = fields.text("password_hash")?;
    if let Some(plain) = fields.text("password")? {
        if hash.is_some() {
            return Err(ApiError::bad("both_password_and_password_hash_are_provided"));
        }
        return Ok(users.hash(plain.as_bytes())?);
    }
    let algorithm = match fields.text("hashing_algorithm")? {
        Some(name) => HashingAlgorithm::from_name(name)?,
        None => HashingAlgorithm::Sha256,
    };
    Ok(HashedPassword::decode(algorithm, hash.unwrap_or_default())?)
}

/// `DELETE /api/users/{user}`: its connections are closed.
pub fn delete(request: &Request) -> Outcome {
    let name = request.part("user");
    let mut edit = request.broker.users.edit();
    if !edit.contains_user(name) {
        return Err(ApiError::NotFound);
    }
    edit.delete_user(name)?;
    request.commit_users(edit)?;
    Ok(Reply::done())
}

/// `POST /api/users/bulk-delete`.
pub fn bulk_delete(request: &Request) -> Outcome {
    let fields = request.fields()?;
    // Not one text with commas, as tags may be: what is meant to be one user could delete several.
    let names = match fields.0.get("users") {
        Some(Value::Array(_)) => fields.texts("users")?.unwrap_or_default(),
        _ => return Err(ApiError::bad("'users' must be a list of texts")),
    };
    let mut edit = request.broker.users.edit();
    for name in names {
        if edit.contains_user(&name) {
            edit.delete_user(&name)?;
        }
    }
    request.commit_users(edit)?;
    Ok(Reply::done())
}

fn permissions(request: &Request, keep: impl Fn(&PermissionRecord) -> bool) -> Vec<PermissionView> {
    let mut records = request.broker.users.list_permissions();
    records.retain(|record| keep(record));
    records.into_iter().map(PermissionView::from).collect()
}

/// `GET /api/permissions`.
pub fn list_permissions(request: &Request) -> Outcome {
    listing::list(request, permissions(request, |_| true))
}

/// `GET /api/users/{user}/permissions`.
pub fn permissions_of_user(request: &Request) -> Outcome {
    let user = request.part("user");
    if request.broker.users.get(user).is_none() {
        return Err(ApiError::NotFound);
    }
    listing::list(request, permissions(request, |record| record.user == user))
}

/// `GET /api/vhosts/{vhost}/permissions`.
pub fn permissions_of_vhost(request: &Request) -> Outcome {
    let vhost = request.vhost()?;
    listing::list(request, permissions(request, |record| record.vhost == *vhost.name))
}

/// `GET /api/permissions/{vhost}/{user}`.
pub fn get_permissions(request: &Request) -> Outcome {
    let (vhost, user) = (request.part("vhost"), request.part("user"));
    let found = permissions(request, |record| record.vhost == vhost && record.user == user);
    let view = found.into_iter().next().ok_or(ApiError::NotFound)?;
    listing::object(request, &view)
}

/// `PUT /api/permissions/{vhost}/{user}`.
pub fn put_permissions(request: &Request) -> Outcome {
    let (vhost, user, fields) = (request.part("vhost"), request.part("user"), request.fields()?);
    let [configure, write, read] = ["configure", "write", "read"].map(|name| fields.some_text(name));
    let users = &request.broker.users;
    let mut edit = users.edit();
    if request.broker.vhost(vhost).is_none() || !edit.contains_user(user) {
        return Err(ApiError::bad("vhost_or_user_not_found"));
    }
    let is_new = users.access(user, vhost).is_none();
    edit.set_permissions(user, vhost, configure?, write?, read?)?;
    request.commit_users(edit)?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/permissions/{vhost}/{user}`.
pub fn delete_permissions(request: &Request) -> Outcome {
    let (vhost, user) = (request.part("vhost"), request.part("user"));
    let mut edit = request.broker.users.edit();
    if request.broker.users.access(user, vhost).is_none() {
        return Err(ApiError::NotFound);
    }
    edit.clear_permissions(user, vhost)?;
    request.commit_users(edit)?;
    Ok(Reply::done())
}
