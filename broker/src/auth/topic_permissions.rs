//! What one user may publish to topic exchanges, and bind from them: regular expressions over routing keys.
//!
//! An exchange without an entry is not restricted. `{username}`, `{vhost}` and `{client_id}` in a pattern stand for the user,
//! the virtual host and what the client calls itself; what is put in their place means itself and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::error::AuthError;
use super::oauth::Scopes;
use super::permissions::{Operation, compile_search};
use super::user::TopicPermissionRecord;

/// What a pattern says for the identifier of the client.
const CLIENT_ID: &str = "{client_id}";

/// The topic permissions of one user in one virtual host, by exchange.
#[derive(Debug, Clone, Default)]
pub struct TopicPermissions {
    by_exchange: BTreeMap<String, TopicPermission>,
    /// Of the bearer of a token: its scopes restrict all exchanges of this virtual host.
    scopes: Option<(Arc<Scopes>, String)>,
}

/// The patterns for one exchange.
#[derive(Debug, Clone)]
struct TopicPermission {
    write: KeyPattern,
    read: KeyPattern,
}

/// A pattern over routing keys.
#[derive(Debug, Clone)]
struct KeyPattern {
    /// As it was given.
    text: String,
    /// With user and virtual host filled in.
    expanded: String,
    /// None while the client has no identifier that the pattern asks for: it matches nothing.
    matcher: Option<Regex>,
}

impl TopicPermissions {
    /// What the scopes of a token allow in the virtual host.
    pub fn of_scopes(scopes: Arc<Scopes>, vhost: &str) -> TopicPermissions {
        TopicPermissions {
            by_exchange: BTreeMap::new(),
            scopes: Some((scopes, vhost.to_owned())),
        }
    }

    /// Whether a message with this routing key may be published to the exchange, or routed out of it through a binding with
    /// this routing key.
    pub fn allows(&self, operation: Operation, exchange: &str, routing_key: &str) -> bool {
        if let Some((scopes, vhost)) = &self.scopes {
            return scopes.allow_topic(operation, vhost, exchange, routing_key);
        }
        self.by_exchange.get(exchange).is_none_or(|permission| {
            let pattern = match operation {
                Operation::Write => &permission.write,
                Operation::Read => &permission.read,
                Operation::Configure => return true,
            };
            let matcher = pattern.matcher.as_ref();
            matcher.is_some_and(|regex| regex.is_match(routing_key))
        })
    }

    /// Is this exchange restricted?
    pub fn restricts(&self, exchange: &str) -> bool {
        self.scopes.is_some() || self.by_exchange.contains_key(exchange)
    }

    /// Whether nothing is restricted.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_none() && self.by_exchange.is_empty()
    }

    /// These and the one of the record instead of another for its exchange.
    pub fn with(&self, record: &TopicPermissionRecord) -> Result<TopicPermissions, AuthError> {
        let pattern = |text: &str| KeyPattern::new(text, &record.user, &record.vhost);
        let permission = TopicPermission {
            write: pattern(&record.write)?,
            read: pattern(&record.read)?,
        };
        let mut changed = self.clone();
        changed.by_exchange.insert(record.exchange.clone(), permission);
        Ok(changed)
    }

    /// These without the one for the exchange, if there is one.
    pub(super) fn without(&self, exchange: &str) -> TopicPermissions {
        let mut changed = self.clone();
        changed.by_exchange.remove(exchange);
        changed
    }

    /// As they are for a client that calls itself so.
    pub fn for_client(self: &Arc<Self>, client_id: Option<&str>) -> Arc<Self> {
        let asks = |pattern: &KeyPattern| pattern.expanded.contains(CLIENT_ID);
        let permissions = self.by_exchange.values();
        let asked = permissions.clone().any(|both| asks(&both.write) || asks(&both.read));
        let Some(client_id) = client_id.filter(|_| asked) else {
            return Arc::clone(self);
        };
        let mut own = TopicPermissions::clone(self);
        for permission in own.by_exchange.values_mut() {
            permission.write.fill_in(client_id);
            permission.read.fill_in(client_id);
        }
        Arc::new(own)
    }

    /// As they are stored.
    pub fn records(&self, user: &str, vhost: &str) -> Vec<TopicPermissionRecord> {
        let permissions = self.by_exchange.iter();
        let records = permissions.map(|(exchange, permission)| TopicPermissionRecord {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            exchange: exchange.clone(),
            write: permission.write.text.clone(),
            read: permission.read.text.clone(),
        });
        records.collect()
    }
}

impl KeyPattern {
    fn new(text: &str, user: &str, vhost: &str) -> Result<KeyPattern, AuthError> {
        let expanded = text
            .replace("{username}", &regex::escape(user))
            .replace("{vhost}", &regex::escape(vhost));
        // Routing keys may be empty, and a pattern that is empty is for these.
        let expanded = if expanded.is_empty() { "^$".to_owned() } else { expanded };
        let checked = compile_search(&expanded.replace(CLIENT_ID, "client"))?;
        let matcher = (!expanded.contains(CLIENT_ID)).then_some(checked);
        Ok(KeyPattern {
            text: text.to_owned(),
            expanded,
            matcher,
        })
    }

    /// A pattern that becomes too large so matches nothing.
    fn fill_in(&mut self, client_id: &str) {
        if self.expanded.contains(CLIENT_ID) {
            let own = self.expanded.replace(CLIENT_ID, &regex::escape(client_id));
            self.matcher = compile_search(&own).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(write: &str) -> Result<Arc<TopicPermissions>, AuthError> {
        let record = TopicPermissionRecord {
            user: "a.b".to_owned(),
            vhost: "shop".to_owned(),
            exchange: "amq.topic".to_owned(),
            write: write.to_owned(),
            read: "^r".to_owned(),
        };
        TopicPermissions::default().with(&record).map(Arc::new)
    }

    fn may_write(write: &str, client_id: Option<&str>, key: &str) -> bool {
        let permissions = permissions(write).unwrap().for_client(client_id);
        permissions.allows(Operation::Write, "amq.topic", key)
    }

    #[test]
    fn patterns_are_searched_in_the_routing_key() {
        for (pattern, key, expected) in [
            (".*", "", true),
            ("^a\\.", "a.b", true),
            ("^a\\.", "b.a.", false),
            ("b", "a.b.c", true),
            ("", "a", false),
            ("", "", true),
        ] {
            assert_eq!(may_write(pattern, None, key), expected, "{pattern:?} {key:?}");
        }
    }

    #[test]
    fn variables_stand_for_user_virtual_host_and_client() {
        assert!(may_write("^{username}\\.{vhost}$", None, "a.b.shop"));
        assert!(!may_write("^{username}$", None, "axb"), "a point in a name is a point");
        assert!(may_write("^{client_id}$", Some("sensor+1"), "sensor+1"));
        assert!(!may_write("^{client_id}$", Some(".*"), "anything"));
        assert!(!may_write("^{client_id}$", Some("a"), "b"));
        assert!(!may_write("{client_id}", None, "{client_id}"), "no client, no match");
    }

    #[test]
    fn what_is_not_restricted_is_allowed() {
        let permissions = permissions("^w").unwrap();
        assert!(permissions.allows(Operation::Write, "logs", "x"));
        assert!(!permissions.allows(Operation::Read, "amq.topic", "w"));
        assert!(permissions.allows(Operation::Read, "amq.topic", "r"));
        assert!(
            permissions
                .without("amq.topic")
                .allows(Operation::Read, "amq.topic", "w")
        );
    }

    #[test]
    fn patterns_that_make_no_sense_are_refused() {
        for bad in ["(", "{client_id}(", "{nobody"] {
            assert!(permissions(bad).is_err(), "{bad}");
        }
        let long = "x".repeat(300);
        let wide = "({client_id}){100}".repeat(40);
        assert!(!may_write(&wide, Some(&long), &long), "too large to compile");
    }
}
