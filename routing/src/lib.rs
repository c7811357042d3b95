//! Which queues a message goes to: the exchanges and bindings of one virtual host.
//!
//! A [`RoutingTable`] holds exchanges, the bindings between them and the queues they lead to. It
//! knows a queue by a small id `Q` only, and it knows no message, connection or task: it does no
//! I/O, reads no clock and takes no lock. Edits (`declare_exchange`, `bind`, ...) take
//! `&mut self`; [`RoutingTable::route`] takes `&self` and a [`RouteBuffer`] that every caller
//! reuses, so that routing does not allocate.
//!
//! ```
//! use amq_protocol_types::FieldTable;
//! use leveret_routing::{
//!     Destination, ExchangeKind, ExchangeOptions, NoHeaders, Routable, RouteBuffer, RoutingTable,
//! };
//!
//! let mut table = RoutingTable::new();
//! table.declare_exchange("orders", ExchangeOptions::new(ExchangeKind::Topic))?;
//! for (queue, name) in [(1_u32, "mails"), (2, "audit")] {
//!     table.add_queue(name, queue);
//! }
//! let none = FieldTable::default();
//! table.bind("orders", Destination::Queue(1), "*.created", &none)?;
//! table.bind("orders", Destination::Queue(2), "#", &none)?;
//!
//! let mut buffer = RouteBuffer::new();
//! let message = Routable { routing_key: "eu.created", headers: &NoHeaders };
//! table.route("orders", &message, &mut buffer)?;
//! let mut queues = buffer.queues().to_vec();
//! queues.sort_unstable();
//! assert_eq!(queues, [1, 2]);
//!
//! // The default exchange reaches every queue by its name.
//! buffer.clear();
//! table.route("", &Routable { routing_key: "mails", headers: &NoHeaders }, &mut buffer)?;
//! assert_eq!(buffer.queues(), [1]);
//! # Ok::<(), leveret_routing::RoutingError>(())
//! ```
//!
//! Where the specification leaves room, the table does as RabbitMQ does; the places that differ
//! say so.

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod arena;
mod binding;
mod buffer;
mod consistent_hash;
mod deduplication;
mod direct;
mod entry;
mod error;
mod exchange;
mod fanout;
mod hash_on;
mod headers;
mod key;
mod matcher;
mod modulus_hash;
mod random;
mod stable_hash;
mod table;
mod topic;
mod value;

pub use binding::{Binding, Destination, Removed, RemovedExchange};
pub use buffer::{MessageHeaders, NoHeaders, Routable, RouteBuffer};
pub use consistent_hash::WEIGHT_MAX;
pub use deduplication::{
    CACHE_SIZE_ARGUMENT, CACHE_TTL_ARGUMENT, DEDUPLICATION_ARGUMENT, DEDUPLICATION_HEADER, Deduplication,
};
pub use error::{ArgumentValue, Inequivalence, RoutingError, WeightError};
pub use exchange::{
    ALTERNATE_EXCHANGE, DELAYED_ARGUMENT, DELAYED_TYPE_ARGUMENT, Declared, EXCHANGE_ARGUMENTS, ExchangeKind,
    ExchangeOptions, ExchangePolicy, ExchangeRef, HISTORY_LENGTH_ARGUMENT, IGNORED_EXCHANGE_ARGUMENTS,
};
pub use hash_on::{HASH_HEADER, HASH_PROPERTY, HashOn, HashProperty, X_HASH_ON};
pub use headers::{MatchMode, X_MATCH};
pub use table::{DEFAULT_EXCHANGE, RoutingTable, is_predeclared};
pub use value::{Term, type_name, value_text, values_equal};
