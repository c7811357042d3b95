//! Why an operation on a virtual host is refused, and the single place where that becomes an AMQP reply.
//!
//! HTTP has its own mapping from the same values; the rules themselves exist once, in this module's neighbours.

use std::fmt;

use leveret_routing::RoutingError;

use crate::auth::permissions::Operation;
use crate::policy::PolicyError;
use crate::protocol::error::AmqpError;
use crate::protocol::reply_code::ReplyCode;

/// What a name belongs to, for texts such as `queue 'Q' in vhost 'V'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    kind: ResourceKind,
    name: String,
    vhost: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResourceKind {
    Exchange,
    Queue,
}

impl Resource {
    /// An exchange; the default one prints as `amq.default`.
    pub fn exchange(name: &str, vhost: &str) -> Resource {
        let name = if name.is_empty() { DEFAULT_EXCHANGE_ALIAS } else { name };
        Resource {
            kind: ResourceKind::Exchange,
            name: name.to_owned(),
            vhost: vhost.to_owned(),
        }
    }

    /// A queue.
    pub fn queue(name: &str, vhost: &str) -> Resource {
        Resource {
            kind: ResourceKind::Queue,
            name: name.to_owned(),
            vhost: vhost.to_owned(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ResourceKind::Exchange => "exchange",
            ResourceKind::Queue => "queue",
        };
        write!(f, "{kind} '{}' in vhost '{}'", self.name, self.vhost)
    }
}

/// The name by which permissions and texts know the default exchange.
pub const DEFAULT_EXCHANGE_ALIAS: &str = "amq.default";

/// Why an operation was refused. Display is the explanation behind the reply code's name.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The user lacks a permission.
    #[error("{} access to {resource} refused for user '{user}'", .operation.as_str())]
    AccessRefused {
        /// configure, write or read.
        operation: Operation,
        /// On what.
        resource: Resource,
        /// For whom.
        user: String,
    },
    /// The user may not use this routing key at a topic exchange.
    #[error("{} access to topic '{routing_key}' in {exchange} refused for user '{user}'", .operation.as_str())]
    TopicRefused {
        /// write or read.
        operation: Operation,
        /// The key.
        routing_key: String,
        /// The exchange.
        exchange: Resource,
        /// For whom.
        user: String,
    },
    /// A resource does not exist.
    #[error("no {0}")]
    NotFound(Resource),
    /// An empty queue name on a channel that declared none.
    #[error("no previously declared queue")]
    NoPreviousQueue,
    /// A new name with the reserved prefix.
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName {
        /// exchange or queue.
        kind: &'static str,
        /// The refused name.
        name: String,
    },
    /// Declaring, deleting or binding the default exchange.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// Deleting an exchange the broker declares itself.
    #[error("deletion of system {0} not allowed")]
    SystemExchange(Resource),
    /// Publishing to an internal exchange.
    #[error("cannot publish to internal {0}")]
    InternalExchange(Resource),
    /// Binding or unbinding a direct reply-to queue.
    #[error("cannot bind or unbind to a volatile (direct reply-to) queue")]
    ReplyQueueBinding,
    /// A queue that is exclusive to another connection.
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration."
    )]
    ResourceLocked(Resource),
    /// basic.get on a quorum queue with a single active consumer.
    #[error(
        "cannot obtain access to locked {0}. basic.get operations are not supported by quorum queues with single active consumer"
    )]
    NoGet(Resource),
    /// if-unused on something in use.
    #[error("{0} in use")]
    InUse(Resource),
    /// if-empty on a queue with messages.
    #[error("{0} not empty")]
    NotEmpty(Resource),
    /// Exclusive consumption is impossible.
    #[error("{0} in exclusive use")]
    InExclusiveUse(Resource),
    /// A redeclaration differs; the text names the first difference.
    #[error("{0}")]
    Inequivalent(String),
    /// No exchange type has this name.
    #[error("unknown exchange type '{0}'")]
    UnknownExchangeType(String),
    /// An argument has the wrong type or an impossible value.
    #[error("{0}")]
    Argument(String),
    /// The binding's arguments make no sense for its exchange.
    #[error("{0}")]
    Binding(String),
    /// One queue more than the virtual host may have.
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    QueueLimit {
        /// The queue.
        queue: String,
        /// The virtual host.
        vhost: String,
        /// So many it may have.
        limit: u64,
    },
    /// A policy makes no sense.
    #[error("{0}")]
    Policy(PolicyError),
    /// There is no policy of this name.
    #[error("no policy '{name}' in vhost '{vhost}'")]
    NoSuchPolicy {
        /// The name.
        name: String,
        /// The virtual host.
        vhost: String,
    },
    /// The virtual host was deleted while a connection to it was still open.
    #[error("vhost '{0}' is deleted")]
    VhostDeleted(String),
    /// The store takes no more writes.
    #[error("storage has failed: {0}")]
    StorageFailed(String),
}

impl OperationError {
    /// The reply code of RabbitMQ for this reason.
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            OperationError::AccessRefused { .. }
            | OperationError::TopicRefused { .. }
            | OperationError::ReservedName { .. }
            | OperationError::DefaultExchange
            | OperationError::SystemExchange(_)
            | OperationError::InternalExchange(_)
            | OperationError::ReplyQueueBinding
            | OperationError::InExclusiveUse(_) => ReplyCode::AccessRefused,
            OperationError::NotFound(_) | OperationError::NoPreviousQueue | OperationError::NoSuchPolicy { .. } => {
                ReplyCode::NotFound
            }
            OperationError::ResourceLocked(_) | OperationError::NoGet(_) => ReplyCode::ResourceLocked,
            OperationError::InUse(_)
            | OperationError::NotEmpty(_)
            | OperationError::Inequivalent(_)
            | OperationError::UnknownExchangeType(_)
            | OperationError::Argument(_)
            | OperationError::Binding(_)
            | OperationError::QueueLimit { .. }
            | OperationError::Policy(_) => ReplyCode::PreconditionFailed,
            OperationError::VhostDeleted(_) => ReplyCode::ConnectionForced,
            OperationError::StorageFailed(_) => ReplyCode::InternalError,
        }
    }
}

impl From<OperationError> for AmqpError {
    fn from(error: OperationError) -> AmqpError {
        AmqpError::new(error.reply_code(), error.to_string())
    }
}

/// A routing table's refusal in the words of the virtual host it belongs to.
pub fn routing_error(error: &RoutingError, name: &str, vhost: &str) -> OperationError {
    let text = error.explanation(name, vhost);
    match error {
        RoutingError::NotFound(name) => OperationError::NotFound(Resource::exchange(name, vhost)),
        RoutingError::InUse(name) => OperationError::InUse(Resource::exchange(name, vhost)),
        RoutingError::DefaultExchange => OperationError::DefaultExchange,
        RoutingError::Predeclared(name) => OperationError::SystemExchange(Resource::exchange(name, vhost)),
        RoutingError::Inequivalent { .. } => OperationError::Inequivalent(text),
        RoutingError::ArgumentType { .. }
        | RoutingError::HashArguments
        | RoutingError::HashProperty(_)
        | RoutingError::HistoryLength(_)
        | RoutingError::NotPositive { .. }
        | RoutingError::DelayedType
        | RoutingError::DelayedTwice => OperationError::Argument(text),
        RoutingError::UnknownMatchMode(_)
        | RoutingError::MatchModeType(_)
        | RoutingError::Weight { .. }
        | RoutingError::KeyNotEmpty(_)
        | RoutingError::DestinationNotQueue => OperationError::Binding(text),
    }
}
