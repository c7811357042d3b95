//! Methods on channel 0 of a running connection, and what the broker itself says there.

use std::sync::Arc;
use std::time::Instant;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{AMQPMethod, Blocked, CloseOk, Unblocked, UpdateSecretOk};

use super::{Pause, Phase, Session, short};
use crate::auth::permissions::Permissions;
use crate::auth::{Authenticated, Credentials, LoginRefused, Secret, TopicPermissions};
use crate::protocol::error::AmqpError;
use crate::protocol::method;
use crate::protocol::reply_code::ReplyCode;
use crate::vhost::Actor;

impl Session {
    pub(super) fn connection_method(&mut self, payload: &[u8]) -> Result<(), AmqpError> {
        self.flush();
        let (class_id, method_id) = method::class_and_method(payload).unwrap_or_default();
        match method::decode_method(payload)? {
            AMQPClass::Connection(AMQPMethod::Close(_)) => {
                self.release_all();
                self.reply(0, AMQPClass::Connection(AMQPMethod::CloseOk(CloseOk {})));
                self.phase = Phase::Finished;
                Ok(())
            }
            AMQPClass::Connection(AMQPMethod::UpdateSecret(update)) => {
                self.update_secret(update.new_secret.as_bytes());
                Ok(())
            }
            // connection.close-ok without a close, and blocked or unblocked, are for nobody.
            AMQPClass::Connection(AMQPMethod::CloseOk(_) | AMQPMethod::Blocked(_) | AMQPMethod::Unblocked(_)) => Ok(()),
            _ => {
                let text = "unexpected method in connection state running";
                Err(AmqpError::new(ReplyCode::ChannelError, text).at(class_id, method_id))
            }
        }
    }

    /// A new token for a long-lived connection is checked as at the login. A password does not expire, so there is nothing to renew, and
    /// nothing is looked at, as in RabbitMQ.
    fn update_secret(&mut self, secret: &[u8]) {
        if self.open.as_ref().is_none_or(|opened| opened.who.token.is_none()) {
            self.reply(0, AMQPClass::Connection(AMQPMethod::UpdateSecretOk(UpdateSecretOk {})));
            return;
        }
        self.new_secret = Some(Credentials {
            username: self.info.user().to_string(),
            password: Secret::new(secret),
        });
        self.checks_secret = true;
        self.pause = Some(Pause::Login);
    }

    /// The new secret must be that of the same user.
    pub(super) fn secret_result(&mut self, now: Instant, result: Result<Authenticated, LoginRefused>) {
        self.checks_secret = false;
        if matches!(self.pause, Some(Pause::Login)) {
            self.pause = None;
        }
        let (Phase::Running, Some(opened)) = (&self.phase, &mut self.open) else {
            return;
        };
        match result.ok().filter(|who| who.user.name == *opened.actor.user) {
            Some(who) => {
                self.expires = who.ends(now);
                opened.who = who;
                self.renew_actor();
                self.publisher.forget_routes();
                self.reply(0, AMQPClass::Connection(AMQPMethod::UpdateSecretOk(UpdateSecretOk {})));
            }
            None => {
                let text = "New secret was refused by one of the backends";
                self.fail_connection(now, AmqpError::new(ReplyCode::NotAllowed, text).at(10, 70));
            }
        }
    }

    /// The login has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        self.expires = None;
        self.fail_connection(now, AmqpError::new(ReplyCode::ConnectionForced, "credential expired"));
    }

    /// The actor with the permissions of this moment.
    pub(super) fn refresh_actor(&mut self) {
        let Some(opened) = &self.open else { return };
        if self.broker.users.revision() != opened.users_revision {
            self.renew_actor();
        }
    }

    fn renew_actor(&mut self) {
        let Some(opened) = &self.open else { return };
        let revision = self.broker.users.revision();
        // Whoever lost the access may do nothing more.
        let permissions = opened.who.access(&self.broker.users, &opened.vhost.name);
        let permissions = permissions.unwrap_or_else(|| Arc::new(Permissions::none()));
        let topics = self.topic_permissions(&opened.who, &opened.vhost.name);
        if let Some(opened) = &mut self.open {
            opened.users_revision = revision;
            opened.actor = Actor {
                permissions,
                topics,
                ..opened.actor.clone()
            };
        }
    }

    /// What restricts the client's routing keys in the virtual host.
    pub(super) fn topic_permissions(&self, who: &Authenticated, vhost: &str) -> Arc<TopicPermissions> {
        let permissions = who.topic_permissions(&self.broker.users, vhost);
        permissions.for_client(self.client.client_id.as_deref())
    }

    /// A memory or disk alarm went on or off.
    pub(super) fn alarm_changed(&mut self, now: Instant) {
        match self.broker.alarms.reason() {
            Some(_) if self.has_published => self.block(),
            Some(_) => {}
            None => self.unblock(now),
        }
    }

    /// Stops reading from a publisher while an alarm is on; consumers that do not publish are never stopped.
    pub(super) fn block(&mut self) {
        let Some(reason) = self.broker.alarms.reason() else {
            return;
        };
        if self.blocked || !matches!(self.phase, Phase::Running) {
            return;
        }
        self.blocked = true;
        tracing::warn!(connection = %self.info.name, "publisher blocked: {reason}");
        if self.client.takes_blocked {
            let blocked = Blocked { reason: short(&reason) };
            self.reply(0, AMQPClass::Connection(AMQPMethod::Blocked(blocked)));
        }
    }

    fn unblock(&mut self, now: Instant) {
        if !std::mem::take(&mut self.blocked) {
            return;
        }
        self.heartbeat.received(now);
        if self.client.takes_blocked {
            self.reply(0, AMQPClass::Connection(AMQPMethod::Unblocked(Unblocked {})));
        }
    }
}
