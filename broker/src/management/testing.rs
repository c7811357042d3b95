//! A broker on a store in memory for the tests of this module.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::Uri;
use leveret_storage::{Store, StoreOptions};
use prometheus::Registry;

use super::access::Caller;
use super::request::Request;
use super::server::Door;
use crate::auth::Authenticated;
use crate::broker::Broker;
use crate::config::Config;

/// A new broker with user guest, an administrator, and virtual host `/`.
pub fn broker() -> Arc<Broker> {
    let store = Store::in_memory(StoreOptions::default());
    crate::startup::start(Config::default(), store, &Registry::new()).unwrap()
}

pub fn door() -> Door {
    Door::new(broker())
}

/// A GET of guest, with a query, to a broker of its own.
pub fn request(path: &str, query: &str) -> Request {
    let broker = broker();
    let uri: Uri = format!("{path}?{}", query.replace('^', "%5E")).parse().unwrap();
    let user = broker.users.get("guest").unwrap();
    Request {
        rates: broker.rates.get(),
        broker,
        caller: Some(Caller::from(Authenticated::from(user))),
        path: Vec::new(),
        query: Query::try_from_uri(&uri).unwrap().0,
        reason: None,
        body: Bytes::new(),
    }
}
