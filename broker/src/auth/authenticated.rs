//! Somebody whose login was accepted, by whatever means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::oauth::Token;
use super::permissions::Permissions;
use super::topic_permissions::TopicPermissions;
use super::user::User;
use super::users::Users;

/// A user of this broker, or the bearer of a token.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// As it was when it logged in.
    pub user: Arc<User>,
    /// What it has shown instead of a password: then that says what it may do, and the users of this broker say nothing.
    pub token: Option<Arc<Token>>,
    /// How long the login counts from now on.
    pub lasts: Option<Duration>,
}

impl From<Arc<User>> for Authenticated {
    fn from(user: Arc<User>) -> Authenticated {
        Authenticated {
            user,
            token: None,
            lasts: None,
        }
    }
}

impl Authenticated {
    /// When a login of now ends. One that lasts longer than time can be told does not.
    pub fn ends(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.lasts?)
    }

    /// What it may do in the virtual host; `None` if it has no access to it at all.
    pub fn access(&self, users: &Users, vhost: &str) -> Option<Arc<Permissions>> {
        match &self.token {
            Some(token) => token.scopes.permissions(vhost).map(Arc::new),
            None => users.access(&self.user.name, vhost),
        }
    }

    /// What restricts its routing keys in the virtual host.
    pub fn topic_permissions(&self, users: &Users, vhost: &str) -> Arc<TopicPermissions> {
        match &self.token {
            Some(token) => Arc::new(TopicPermissions::of_scopes(token.scopes.clone(), vhost)),
            None => users.topic_permissions(&self.user.name, vhost),
        }
    }

    /// May it publish messages whose `user_id` names someone else? Of a user, the tags of this moment count.
    pub fn is_impersonator(&self, users: &Users) -> bool {
        match &self.token {
            Some(_) => self.user.is_impersonator(),
            None => users.get(&self.user.name).is_some_and(|user| user.is_impersonator()),
        }
    }
}
