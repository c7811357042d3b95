//! What a queue goes by: its own arguments and the policies that apply to it, and what is asked of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::effects::Scratch;
use super::queue_handle::{QueueHandle, Settlement};
use crate::policy::Applied;
use crate::queue::{DelayedRetry, EffectiveArguments, LengthLimit, Overflow, QueueArguments, QueueType};

/// The policies that apply to a queue, and what is in force by them and its arguments.
pub struct InForce {
    /// Its own arguments, as declared or altered since.
    pub own: Arc<QueueArguments>,
    /// The policies.
    pub policies: Applied,
    /// What features of queues go by.
    pub arguments: EffectiveArguments,
}

/// What is in force for one queue.
pub(super) struct Rules {
    in_force: RwLock<Arc<InForce>>,
    /// What publishers have to know of the limits in force without a look at them.
    refuses_when_full: AtomicBool,
    overflows_to_dead_letters: AtomicBool,
}

impl Rules {
    /// Those of a queue without policies.
    pub(super) fn new(own: &QueueArguments) -> Self {
        let in_force = InForce {
            own: Arc::new(own.clone()),
            policies: Applied::default(),
            arguments: EffectiveArguments::merge(own, None, None),
        };
        Self {
            in_force: RwLock::new(Arc::new(in_force)),
            refuses_when_full: AtomicBool::new(false),
            overflows_to_dead_letters: AtomicBool::new(false),
        }
    }
}

impl QueueHandle {
    /// The policies that apply, and the arguments in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.rules.in_force.read().clone()
    }

    /// Its own arguments, as declared or altered since.
    pub fn arguments(&self) -> Arc<QueueArguments> {
        self.rules.in_force.read().own.clone()
    }

    /// Replaces its own arguments. They take effect when policies are [applied](Self::apply_policies) again.
    pub(super) fn alter(&self, arguments: QueueArguments) {
        let current = self.in_force();
        *self.rules.in_force.write() = Arc::new(InForce {
            own: Arc::new(arguments),
            policies: current.policies.clone(),
            arguments: current.arguments.clone(),
        });
    }

    /// Puts these policies in force, in place of those before.
    pub fn apply_policies(&self, policies: Applied) {
        let own = self.arguments();
        let arguments = policies.effective_arguments(&own);
        let length = LengthLimit {
            messages: arguments.max_length,
            bytes: arguments.max_length_bytes,
            overflow: arguments.overflow,
        };
        let refuses = length.is_some() && arguments.overflow != Overflow::DropHead;
        let gives_up = length.is_some() && arguments.overflow != Overflow::RejectPublish;
        let to_dead_letters = gives_up && arguments.dead_letter_exchange.is_some();
        self.rules.refuses_when_full.store(refuses, Ordering::Relaxed);
        self.rules
            .overflows_to_dead_letters
            .store(to_dead_letters, Ordering::Relaxed);
        let (delivery_limit, message_ttl) = (arguments.delivery_limit, arguments.message_ttl_ms);
        let consumer_timeout = arguments.consumer_timeout_ms;
        let has_dead_letters = arguments.dead_letter_exchange.is_some();
        let (retry_delay, expires) = (arguments.retry_delay(), arguments.expires_ms);
        // What is given up now goes by what is in force now.
        *self.rules.in_force.write() = Arc::new(InForce {
            own,
            policies,
            arguments,
        });
        self.with(&mut Scratch::default(), |queue, sink| {
            queue.want_dead_letters(has_dead_letters);
            queue.limit_deliveries(delivery_limit);
            queue.set_message_ttl(message_ttl);
            queue.set_consumer_timeout(consumer_timeout);
            queue.delay_retries(retry_delay);
            queue.limit_length(length, sink);
            queue.set_expires(expires, sink);
        });
    }

    /// Whether a full queue refuses messages, instead of dropping older ones.
    #[inline]
    pub fn refuses_when_full(&self) -> bool {
        self.rules.refuses_when_full.load(Ordering::Relaxed)
    }

    /// Whether publishes may drive messages out of it to a dead-letter exchange.
    #[inline]
    pub(super) fn overflows_to_dead_letters(&self) -> bool {
        self.rules.overflows_to_dead_letters.load(Ordering::Relaxed)
    }

    /// Whether what it gives up goes somewhere.
    pub fn has_dead_letter_exchange(&self) -> bool {
        self.rules.in_force.read().arguments.dead_letter_exchange.is_some()
    }

    /// Whether messages may leave it for a dead-letter exchange when they are settled in this way.
    pub(super) fn may_dead_letter(&self, settlement: Settlement) -> bool {
        match settlement {
            Settlement::Ack | Settlement::Requeue { failed: false } => false,
            Settlement::Reject => self.has_dead_letter_exchange(),
            Settlement::Requeue { failed: true } => {
                let arguments = &self.rules.in_force.read().arguments;
                arguments.delivery_limit.is_some() && arguments.dead_letter_exchange.is_some()
            }
        }
    }

    /// Whether consumers are told how often the delivery of a message failed: on queues for which that number means something.
    pub fn tells_delivery_count(&self) -> bool {
        let arguments = &self.rules.in_force.read().arguments;
        arguments.delivery_limit.is_some()
            || arguments.delayed_retry != DelayedRetry::Disabled
            || arguments.queue_type == QueueType::Quorum
    }
}
