//! A resource: path, method, who may, how large a body, and who answers.

use axum::routing::MethodFilter;

use super::access::Rights;
use super::reply::Outcome;
use super::request::Request;

/// Most bytes of the body of an ordinary request.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Most bytes of the body of a publish or of definitions, as in RabbitMQ.
const LARGE_BODY_BYTES_MAX: usize = 20 << 20;

/// Who answers.
pub type Handler = fn(&Request) -> Outcome;

/// One resource under one method.
#[derive(Clone, Copy)]
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path, with variable parts in braces.
    pub path: &'static str,
    /// The tag that the caller needs.
    pub rights: Rights,
    /// What the caller needs in the virtual host that is `{vhost}` in the path.
    pub vhost: VhostRule,
    /// Most bytes of the body.
    pub body_bytes_max: usize,
    /// Who answers.
    pub handler: Handler,
}

/// A method of HTTP. HEAD goes with GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }

    pub(super) fn filter(self) -> MethodFilter {
        match self {
            Verb::Get => MethodFilter::GET,
            Verb::Put => MethodFilter::PUT,
            Verb::Post => MethodFilter::POST,
            Verb::Delete => MethodFilter::DELETE,
        }
    }
}

/// What the caller needs in the virtual host of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhostRule {
    /// None is named, or the tag is enough.
    Any,
    /// To see it: permissions there, or the monitoring tag.
    Seen,
    /// To act in it: permissions there, whatever the tag. The operation then checks which.
    Used,
    /// To rule it: permissions there, or the administrator tag.
    Ruled,
}

pub(super) const fn get(path: &'static str, rights: Rights, vhost: VhostRule, handler: Handler) -> Route {
    on_verb(Verb::Get, path, rights, vhost, handler)
}

pub(super) const fn put(path: &'static str, rights: Rights, vhost: VhostRule, handler: Handler) -> Route {
    on_verb(Verb::Put, path, rights, vhost, handler)
}

pub(super) const fn post(path: &'static str, rights: Rights, vhost: VhostRule, handler: Handler) -> Route {
    on_verb(Verb::Post, path, rights, vhost, handler)
}

pub(super) const fn delete(path: &'static str, rights: Rights, vhost: VhostRule, handler: Handler) -> Route {
    on_verb(Verb::Delete, path, rights, vhost, handler)
}

const fn on_verb(verb: Verb, path: &'static str, rights: Rights, vhost: VhostRule, handler: Handler) -> Route {
    Route {
        verb,
        path,
        rights,
        vhost,
        body_bytes_max: BODY_BYTES_MAX,
        handler,
    }
}

/// With a body that may be large.
pub(super) const fn large(route: Route) -> Route {
    Route {
        body_bytes_max: LARGE_BODY_BYTES_MAX,
        ..route
    }
}
