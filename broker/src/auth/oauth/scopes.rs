//! What the scopes of a token allow: `read:VHOST/NAME`, `write:VHOST/NAME/KEY`, `configure:VHOST/NAME`, `tag:TAG`.

use super::wildcard::Wildcard;
use crate::auth::permissions::{Operation, Permissions};

/// Most scopes of a token; those beyond give nothing.
const SCOPES_MAX: usize = 1000;

/// What a token allows, in any virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    operation: Operation,
    vhost: Wildcard,
    name: Wildcard,
    routing_key: Wildcard,
}

impl Scopes {
    /// Reads scopes without their prefix, and the tags among them. What makes no sense gives nothing.
    pub fn parse<'a>(scopes: impl Iterator<Item = &'a str>) -> (Scopes, Vec<String>) {
        let (mut own, mut tags) = (Vec::new(), Vec::new());
        for scope in scopes.take(SCOPES_MAX) {
            match scope.split_once(':') {
                Some(("tag", tag)) => tags.push(tag.to_owned()),
                Some((operation, resource)) => own.extend(Scope::parse(operation, resource)),
                None => {}
            }
        }
        (Scopes(own), tags)
    }

    /// What they allow in this virtual host; nothing if they do not mention it.
    pub fn permissions(&self, vhost: &str) -> Option<Permissions> {
        let here = || self.0.iter().filter(|scope| scope.vhost.matches(vhost));
        here().next()?;
        let of = |operation| {
            let scopes = here().filter(|scope| scope.operation == operation);
            scopes.map(|scope| scope.name.clone()).collect()
        };
        Some(Permissions::of_wildcards(
            of(Operation::Configure),
            of(Operation::Write),
            of(Operation::Read),
        ))
    }

    /// May this routing key be used at the topic exchange?
    pub fn allow_topic(&self, operation: Operation, vhost: &str, exchange: &str, routing_key: &str) -> bool {
        self.0.iter().any(|scope| {
            scope.operation == operation
                && scope.vhost.matches(vhost)
                && scope.name.matches(exchange)
                && scope.routing_key.matches(routing_key)
        })
    }
}

impl Scope {
    fn parse(operation: &str, resource: &str) -> Option<Scope> {
        let operation = match operation {
            "configure" => Operation::Configure,
            "write" => Operation::Write,
            "read" => Operation::Read,
            _ => return None,
        };
        let mut parts = resource.split('/').map(Wildcard::parse);
        let (vhost, name) = (parts.next()??, parts.next()??);
        let routing_key = match parts.next() {
            Some(key) => key?,
            None => Wildcard::any(),
        };
        let scope = Scope {
            operation,
            vhost,
            name,
            routing_key,
        };
        parts.next().is_none().then_some(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_allow_what_they_name_and_nothing_else() {
        let words = [
            "read:shop/orders*",
            "write:shop/amq.topic/eu.*",
            "configure:%2F/*",
            "write:shop/amq.default",
            "tag:monitoring",
            "tag:administrator",
            "read:shop",
            "read:a/b/c/d",
            "delete:shop/x",
            "nonsense",
            "read:%zz/x",
        ];
        let (scopes, tags) = Scopes::parse(words.into_iter());
        assert_eq!(tags, ["monitoring", "administrator"]);
        assert_eq!(scopes.0.len(), 4);
        let shop = scopes.permissions("shop").unwrap();
        assert!(shop.allows(Operation::Read, "orders-eu") && !shop.allows(Operation::Read, "bills"));
        assert!(shop.allows(Operation::Write, "amq.topic") && !shop.allows(Operation::Configure, "orders"));
        assert!(shop.allows(Operation::Write, ""), "the default exchange");
        let default = scopes.permissions("/").unwrap();
        assert!(default.allows(Operation::Configure, "x") && !default.allows(Operation::Read, "x"));
        assert!(scopes.permissions("other").is_none());
        let topic = |key: &str| scopes.allow_topic(Operation::Write, "shop", "amq.topic", key);
        assert!(topic("eu.de") && !topic("us.ny"));
        assert!(!scopes.allow_topic(Operation::Read, "shop", "amq.topic", "eu.de"));
    }

    #[test]
    fn endless_scopes_are_cut_off() {
        let (scopes, _) = Scopes::parse(std::iter::repeat_n("read:*/*", SCOPES_MAX * 2));
        assert_eq!(scopes.0.len(), SCOPES_MAX);
    }
}
