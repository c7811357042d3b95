//! What a sequence is about: which operations are frequent in it.

use crate::features::{Feature, Features};
use crate::generator::Generator;
use crate::operations::Operation;
use std::time::Duration;

/// An operation with how often it is chosen, out of the sum of all.
pub type Weighted = (usize, fn(&mut Generator) -> Operation);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Topology,
    Routing,
    Consuming,
    Settling,
    /// Shared prefetch: each channel consumes from one queue, because the order in which queues ask is nobody's.
    ChannelPrefetch,
    Confirms,
    Transactions,
    ReplyTo,
    Errors,
    DeadLetters,
    /// Time to live given by queues.
    QueueTtl,
    /// Time to live given by messages.
    MessageTtl,
    Limits,
    /// Transactions and confirms on queues that refuse.
    Refusals,
    Priorities,
    SingleActive,
    ConsumerPriorities,
    /// Queues that end when nobody uses them.
    Leases,
    Policies,
    /// Short times to live, set by policies.
    PolicyTtl,
    Alternates,
    /// CC and BCC.
    Copies,
    /// Exchanges of types that are plug-ins of RabbitMQ.
    Plugins,
    /// Much of the above together.
    Mixed,
}

impl Theme {
    /// With the names by which they are chosen.
    pub const ALL: [(&str, Self); 24] = [
        ("topology", Self::Topology),
        ("routing", Self::Routing),
        ("consuming", Self::Consuming),
        ("settling", Self::Settling),
        ("channel-prefetch", Self::ChannelPrefetch),
        ("confirms", Self::Confirms),
        ("transactions", Self::Transactions),
        ("reply-to", Self::ReplyTo),
        ("errors", Self::Errors),
        ("dead-letters", Self::DeadLetters),
        ("queue-ttl", Self::QueueTtl),
        ("message-ttl", Self::MessageTtl),
        ("limits", Self::Limits),
        ("refusals", Self::Refusals),
        ("priorities", Self::Priorities),
        ("single-active", Self::SingleActive),
        ("consumer-priorities", Self::ConsumerPriorities),
        ("leases", Self::Leases),
        ("policies", Self::Policies),
        ("policy-ttl", Self::PolicyTtl),
        ("alternates", Self::Alternates),
        ("copies", Self::Copies),
        ("plugins", Self::Plugins),
        ("mixed", Self::Mixed),
    ];

    /// All that may happen, with how often it does.
    pub fn weights(self) -> Vec<Weighted> {
        let own = match self {
            Self::Topology => TOPOLOGY,
            Self::Routing | Self::Alternates | Self::Copies => ROUTING,
            Self::Consuming | Self::Priorities | Self::SingleActive | Self::ConsumerPriorities => CONSUMING,
            Self::Settling | Self::DeadLetters => SETTLING,
            Self::ChannelPrefetch => CHANNEL_PREFETCH,
            Self::Confirms => CONFIRMS,
            Self::Transactions => TRANSACTIONS,
            Self::ReplyTo => REPLY_TO,
            Self::Errors => ERRORS,
            Self::QueueTtl | Self::MessageTtl => EXPIRY,
            Self::PolicyTtl => return [EXPIRY, POLICY_TTL].concat(),
            Self::Limits => LIMITS,
            Self::Refusals => REFUSALS,
            Self::Leases => LEASES,
            Self::Policies => POLICIES,
            Self::Plugins => PLUGINS,
            Self::Mixed => return [ROUTING, SETTLING, TRANSACTIONS, CONFIRMS, CONSUMING, ALWAYS].concat(),
        };
        // What they do by chance would be in the way of what is looked at: messages that live longer, further uses.
        match self {
            Self::QueueTtl | Self::MessageTtl | Self::Leases => own.to_vec(),
            _ => [own, ALWAYS].concat(),
        }
    }

    pub fn features(self) -> Features {
        Features(match self {
            Self::QueueTtl => &[Feature::QueueTtl],
            Self::MessageTtl => &[Feature::MessageTtl],
            Self::Limits => &[Feature::Limits, Feature::DeadLetters],
            Self::Refusals => &[Feature::Refusals, Feature::DeadLetters],
            Self::Priorities => &[Feature::Priorities, Feature::Refusals, Feature::DeadLetters],
            Self::ConsumerPriorities => &[Feature::ConsumerPriorities],
            Self::Leases => &[Feature::Leases],
            Self::Policies => &[],
            Self::PolicyTtl => &[Feature::PolicyTtl],
            Self::Alternates => &[Feature::Alternates],
            Self::Copies => &[Feature::Copies, Feature::DeadLetters],
            Self::Plugins => &[Feature::Plugins],
            Self::Mixed => &[
                Feature::DeadLetters,
                Feature::Refusals,
                Feature::Priorities,
                Feature::SingleActive,
            ],
            _ => &[Feature::DeadLetters, Feature::SingleActive],
        })
    }

    /// Whether sequences begin with exchanges.
    pub fn has_exchanges(self) -> bool {
        matches!(
            self,
            Self::Topology
                | Self::Routing
                | Self::Confirms
                | Self::Transactions
                | Self::DeadLetters
                | Self::Limits
                | Self::Policies
                | Self::Alternates
                | Self::Copies
                | Self::Plugins
                | Self::Mixed
        )
    }

    /// How long a broker is left alone after each step, so that everything has expired that will.
    pub fn rest(self) -> Duration {
        match self {
            Self::QueueTtl | Self::MessageTtl | Self::PolicyTtl => Duration::from_millis(80),
            _ => Duration::ZERO,
        }
    }
}

/// What may happen in every sequence.
const ALWAYS: &[Weighted] = &[(2, Generator::declare_queue), (1, Generator::misplaced)];

const TOPOLOGY: &[Weighted] = &[
    (20, Generator::declare_queue),
    (8, Generator::declare_wrongly),
    (8, Generator::delete_queue),
    (12, Generator::declare_exchange),
    (6, Generator::delete_exchange),
    (10, Generator::bind),
    (6, Generator::unbind),
    (6, Generator::bind_exchange),
    (4, Generator::unbind_exchange),
    (3, Generator::purge),
    (8, Generator::publish),
    (6, Generator::consume),
    (3, Generator::cancel),
    (3, Generator::close_connection),
];

const ROUTING: &[Weighted] = &[
    (30, Generator::publish),
    (20, Generator::bind),
    (10, Generator::unbind),
    (12, Generator::bind_exchange),
    (6, Generator::unbind_exchange),
    (8, Generator::declare_exchange),
    (4, Generator::delete_exchange),
    (6, Generator::get),
    (3, Generator::purge),
];

const CONSUMING: &[Weighted] = &[
    (25, Generator::publish_to_queue),
    (16, Generator::consume),
    (8, Generator::cancel),
    (6, Generator::prefetch),
    (12, Generator::settle),
    (6, Generator::get),
    (3, Generator::delete_queue),
    (3, Generator::close_channel),
    (2, Generator::close_connection),
    (3, Generator::purge),
];

const SETTLING: &[Weighted] = &[
    (20, Generator::publish_to_queue),
    (8, Generator::consume),
    (14, Generator::get),
    (30, Generator::settle),
    (5, Generator::recover),
    (4, Generator::prefetch),
    (3, Generator::cancel),
    (3, Generator::close_channel),
    (3, Generator::purge),
];

const CHANNEL_PREFETCH: &[Weighted] = &[
    (25, Generator::publish_to_queue),
    (10, Generator::consume),
    (8, Generator::channel_prefetch),
    (4, Generator::prefetch),
    (25, Generator::settle),
    (4, Generator::cancel),
    (3, Generator::close_channel),
    (2, Generator::recover),
];

const CONFIRMS: &[Weighted] = &[
    (12, Generator::confirm_select),
    (40, Generator::publish),
    (10, Generator::publish_to_queue),
    (5, Generator::consume),
    (5, Generator::settle),
    (4, Generator::bind),
    (3, Generator::delete_queue),
    (2, Generator::tx_select),
];

const TRANSACTIONS: &[Weighted] = &[
    (8, Generator::tx_select),
    (12, Generator::tx_commit),
    (6, Generator::tx_rollback),
    (25, Generator::publish),
    (8, Generator::publish_to_queue),
    (10, Generator::get),
    (5, Generator::consume),
    (15, Generator::settle),
    (2, Generator::confirm_select),
    (2, Generator::close_channel),
    (2, Generator::recover),
];

const REPLY_TO: &[Weighted] = &[
    (10, Generator::consume_replies),
    (20, Generator::request),
    (20, Generator::reply),
    (6, Generator::get),
    (6, Generator::consume),
    (3, Generator::cancel),
    (3, Generator::touch_reply_queue),
    (2, Generator::close_channel),
    (2, Generator::close_connection),
];

const ERRORS: &[Weighted] = &[
    (12, Generator::odd),
    (8, Generator::declare_wrongly),
    (6, Generator::declare_queue),
    (6, Generator::declare_exchange),
    (6, Generator::misplaced),
    (12, Generator::publish),
    (6, Generator::publish_to_queue),
    (6, Generator::consume),
    (6, Generator::get),
    (6, Generator::settle),
    (3, Generator::delete_queue),
    (3, Generator::delete_exchange),
];

const EXPIRY: &[Weighted] = &[
    (30, Generator::publish_to_queue),
    (14, Generator::consume),
    (8, Generator::cancel),
    (12, Generator::prefetch),
    (25, Generator::settle),
    (8, Generator::get),
    (3, Generator::recover),
    (3, Generator::close_channel),
    (3, Generator::purge),
    (3, Generator::confirm_select),
];

const LIMITS: &[Weighted] = &[
    (8, Generator::confirm_select),
    (30, Generator::publish_to_queue),
    (20, Generator::publish),
    (8, Generator::consume),
    (4, Generator::cancel),
    (4, Generator::prefetch),
    (10, Generator::get),
    (20, Generator::settle),
    (3, Generator::recover),
    (3, Generator::close_channel),
    (3, Generator::purge),
];

const REFUSALS: &[Weighted] = &[
    (8, Generator::confirm_select),
    (8, Generator::tx_select),
    (12, Generator::tx_commit),
    (3, Generator::tx_rollback),
    (40, Generator::publish_to_queue),
    (6, Generator::consume),
    (8, Generator::get),
    (12, Generator::settle),
    (2, Generator::close_channel),
];

const LEASES: &[Weighted] = &[
    (20, Generator::publish_to_queue),
    (10, Generator::consume),
    (8, Generator::cancel),
    (10, Generator::get),
    (10, Generator::settle),
    (8, Generator::declare_queue),
    (4, Generator::delete_queue),
    (3, Generator::close_channel),
    (2, Generator::close_connection),
    (8, Generator::rest),
];

const POLICIES: &[Weighted] = &[
    (25, Generator::set_policy),
    (10, Generator::clear_policy),
    (20, Generator::publish_to_queue),
    (20, Generator::publish),
    (4, Generator::confirm_select),
    (6, Generator::consume),
    (3, Generator::cancel),
    (8, Generator::get),
    (12, Generator::settle),
    (4, Generator::declare_exchange),
    (3, Generator::delete_exchange),
    (3, Generator::delete_queue),
    (3, Generator::bind),
];

const POLICY_TTL: &[Weighted] = &[(15, Generator::set_ttl_policy)];

const PLUGINS: &[Weighted] = &[
    (25, Generator::publish_to_plugin),
    (10, Generator::declare_plugin_exchange),
    (4, Generator::delete_plugin_exchange),
    (20, Generator::bind_plugin),
    (6, Generator::unbind_plugin),
    (6, Generator::bind_exchange_to_plugin),
    (10, Generator::publish),
    (4, Generator::confirm_select),
    (6, Generator::get),
    (4, Generator::consume),
    (4, Generator::settle),
    (3, Generator::delete_queue),
];
