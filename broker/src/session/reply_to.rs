//! Direct reply-to: answers go straight to the requester's channel, through no queue.
//!
//! A requester consumes from [`PSEUDO_QUEUE`] and publishes with that name as `reply_to`; the broker replaces it by the
//! name plus a token that nobody can guess, and whoever publishes to the default exchange with that as routing key
//! reaches the requester's channel. At most once: nothing is kept for a requester that is gone or does not read.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::outbox::{OUTBOX_BYTES_MAX, Outbox, wake};
use crate::protocol::hot;
use crate::protocol::message::Message;

/// The name a requester consumes from and puts into `reply_to`.
pub const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";
const TOKEN_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Is this the pseudo queue or one of the names made from it?
pub fn is_pseudo_queue(name: &str) -> bool {
    name == PSEUDO_QUEUE || name.starts_with(TOKEN_PREFIX)
}

/// The token in a reply queue's name.
pub fn token(name: &str) -> Option<&str> {
    name.strip_prefix(TOKEN_PREFIX)
}

/// The name that stands for a token.
pub fn name(token: &str) -> String {
    format!("{TOKEN_PREFIX}{token}")
}

/// Channels that wait for direct replies, by token.
#[derive(Default)]
pub struct ReplyTargets {
    by_token: RwLock<HashMap<Arc<str>, ReplyTarget>>,
}

struct ReplyTarget {
    outbox: Outbox,
    channel: u16,
    consumer_tag: Box<[u8]>,
}

impl ReplyTargets {
    /// Enters a channel that started to consume direct replies.
    pub fn insert(&self, token: Arc<str>, outbox: Outbox, channel: u16, consumer_tag: &[u8]) {
        let target = ReplyTarget {
            outbox,
            channel,
            consumer_tag: consumer_tag.into(),
        };
        self.by_token.write().insert(token, target);
    }

    /// Forgets a channel.
    pub fn remove(&self, token: &str) {
        self.by_token.write().remove(token);
    }

    /// Is somebody waiting under this token?
    pub fn contains(&self, token: &str) -> bool {
        self.by_token.read().contains_key(token)
    }

    /// Hands a reply to its requester. False when there is none; a requester that does not read loses it.
    pub fn deliver(&self, token: &str, message: &Message) -> bool {
        let targets = self.by_token.read();
        let Some(target) = targets.get(token) else { return false };
        let waker = {
            let mut outbox = target.outbox.lock();
            if outbox.bytes_waiting() >= OUTBOX_BYTES_MAX {
                return true;
            }
            let frame_max = outbox.frame_max();
            let Some(channel) = outbox.channel(target.channel) else {
                return false;
            };
            let tag = channel.next_tag();
            channel.count_delivery(true);
            let bytes = outbox.bytes_mut();
            hot::write_deliver(
                bytes,
                target.channel,
                &target.consumer_tag,
                tag,
                false,
                &message.view(),
                frame_max,
            );
            outbox.take_waker()
        };
        wake(waker);
        true
    }
}
