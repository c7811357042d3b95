//! What restricts users' routing keys at topic exchanges.

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Request, exchange_name};
use super::views::TopicPermissionView;
use crate::auth::TopicPermissionRecord;

impl Row for TopicPermissionView {
    fn name(&self) -> &str {
        &self.user
    }
}

impl From<TopicPermissionRecord> for TopicPermissionView {
    fn from(record: TopicPermissionRecord) -> TopicPermissionView {
        TopicPermissionView {
            user: record.user,
            vhost: record.vhost,
            exchange: record.exchange,
            write: record.write,
            read: record.read,
        }
    }
}

fn kept(request: &Request, keep: impl Fn(&TopicPermissionRecord) -> bool) -> Vec<TopicPermissionView> {
    let mut records = request.broker.users.list_topic_permissions();
    records.retain(keep);
    records.into_iter().map(TopicPermissionView::from).collect()
}

/// `GET /api/topic-permissions`.
pub fn list(request: &Request) -> Outcome {
    listing::list(request, kept(request, |_| true))
}

/// `GET /api/users/{user}/topic-permissions`.
pub fn of_user(request: &Request) -> Outcome {
    let user = request.part("user");
    if request.broker.users.get(user).is_none() {
        return Err(ApiError::NotFound);
    }
    listing::list(request, kept(request, |record| record.user == user))
}

/// `GET /api/vhosts/{vhost}/topic-permissions`.
pub fn of_vhost(request: &Request) -> Outcome {
    let vhost = request.vhost()?;
    listing::list(request, kept(request, |record| record.vhost == *vhost.name))
}

/// `GET /api/topic-permissions/{vhost}/{user}`: one for each exchange.
pub fn get(request: &Request) -> Outcome {
    let (vhost, user) = (request.part("vhost"), request.part("user"));
    let found = kept(request, |record| record.vhost == vhost && record.user == user);
    if found.is_empty() {
        return Err(ApiError::NotFound);
    }
    listing::list(request, found)
}

/// `PUT /api/topic-permissions/{vhost}/{user}`: the exchange is in the body.
pub fn put(request: &Request) -> Outcome {
    let (vhost, user, fields) = (request.part("vhost"), request.part("user"), request.fields()?);
    let [exchange, write, read] = ["exchange", "write", "read"].map(|name| fields.some_text(name));
    let exchange = exchange_name(exchange?).to_owned();
    let mut edit = request.broker.users.edit();
    if request.broker.vhost(vhost).is_none() || !edit.contains_user(user) {
        return Err(ApiError::bad("vhost_or_user_not_found"));
    }
    let is_new = !request.broker.users.topic_permissions(user, vhost).restricts(&exchange);
    edit.set_topic_permissions(TopicPermissionRecord {
        user: user.to_owned(),
        vhost: vhost.to_owned(),
        exchange,
        write: write?.to_owned(),
        read: read?.to_owned(),
    })?;
    request.commit_users(edit)?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/topic-permissions/{vhost}/{user}` and `.../{exchange}`: at all exchanges, or at one.
pub fn delete(request: &Request) -> Outcome {
    let (vhost, user) = (request.part("vhost"), request.part("user"));
    let exchange = request.path.iter().any(|(name, _)| name == "exchange");
    let exchange = exchange.then(|| request.exchange("exchange"));
    let mut edit = request.broker.users.edit();
    let restricted = request.broker.users.topic_permissions(user, vhost);
    if exchange.map_or(restricted.is_empty(), |exchange| !restricted.restricts(exchange)) {
        return Err(ApiError::NotFound);
    }
    edit.clear_topic_permissions(user, vhost, exchange)?;
    request.commit_users(edit)?;
    Ok(Reply::done())
}
