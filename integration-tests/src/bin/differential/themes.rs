//! What a sequence is about: which operations are frequent in it.

use crate::generator::Generator;
use crate::operations::Operation;

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
}

impl Theme {
    pub const ALL: [Self; 9] = [
        Self::Topology,
        Self::Routing,
        Self::Consuming,
        Self::Settling,
        Self::ChannelPrefetch,
        Self::Confirms,
        Self::Transactions,
        Self::ReplyTo,
        Self::Errors,
    ];

    /// All that may happen, with how often it does.
    pub fn weights(self) -> Vec<Weighted> {
        let own = match self {
            Self::Topology => TOPOLOGY,
            Self::Routing => ROUTING,
            Self::Consuming => CONSUMING,
            Self::Settling => SETTLING,
            Self::ChannelPrefetch => CHANNEL_PREFETCH,
            Self::Confirms => CONFIRMS,
            Self::Transactions => TRANSACTIONS,
            Self::ReplyTo => REPLY_TO,
            Self::Errors => ERRORS,
        };
        [own, ALWAYS].concat()
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
