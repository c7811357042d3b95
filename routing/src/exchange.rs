//! What an exchange is declared to be, and which declarations are equivalent.

use std::{collections::BTreeMap, fmt, hash::Hash, sync::Arc};

use amq_protocol_types::{AMQPValue, FieldTable};

use crate::{
    deduplication::{
        CACHE_SIZE_ARGUMENT, CACHE_TTL_ARGUMENT, DEDUPLICATION_ARGUMENT, DEDUPLICATION_HEADER, Deduplication,
    },
    error::{ArgumentValue, Inequivalence, RoutingError},
    hash_on::{HASH_HEADER, HASH_PROPERTY, HashOn, X_HASH_ON},
    matcher::Matcher,
    value::{integer, type_name},
};

/// Name of the argument that names an alternate exchange.
pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Name of the argument that says by which kind a delayed exchange routes.
pub const DELAYED_TYPE_ARGUMENT: &str = "x-delayed-type";

/// Name of LavinMQ's argument that makes an exchange of any kind delay messages.
pub const DELAYED_ARGUMENT: &str = "x-delayed-exchange";

/// Name of the argument that says how many messages a recent-history exchange keeps.
pub const HISTORY_LENGTH_ARGUMENT: &str = "x-recent-history-length";

/// The arguments that exchanges of some kind obey.
pub const EXCHANGE_ARGUMENTS: [&str; 11] = [
    ALTERNATE_EXCHANGE,
    HASH_HEADER,
    HASH_PROPERTY,
    X_HASH_ON,
    DELAYED_TYPE_ARGUMENT,
    DELAYED_ARGUMENT,
    HISTORY_LENGTH_ARGUMENT,
    DEDUPLICATION_ARGUMENT,
    CACHE_SIZE_ARGUMENT,
    CACHE_TTL_ARGUMENT,
    DEDUPLICATION_HEADER,
];

/// Arguments that exchanges of other brokers obey and that mean nothing here: LavinMQ's choice of a hash algorithm, and where a
/// plug-in of RabbitMQ keeps the keys of messages.
pub const IGNORED_EXCHANGE_ARGUMENTS: [&str; 2] = ["x-algorithm", "x-cache-persistence"];

/// How many messages a recent-history exchange keeps unless it is told.
const HISTORY_LENGTH: u64 = 20;

/// The kinds of exchange (in AMQP: the exchange's type), which decide what a binding matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// The routing key equals the binding key.
    Direct,
    /// Every binding matches.
    Fanout,
    /// The binding key is a pattern of words, `*` and `#`.
    Topic,
    /// The message headers match the binding's arguments.
    Headers,
    /// One binding, chosen by the hash of the routing key, a header or a property; the binding key is its weight.
    ConsistentHash,
    /// One binding, chosen by the hash of the routing key modulo their number.
    ModulusHash,
    /// Any one binding.
    Random,
    /// Any one binding, which must have an empty key. On one node every queue is local.
    LocalRandom,
    /// As another kind, which an argument names; a message that asks for it is delivered later. The table says which
    /// exchanges delay a message; the caller does.
    Delayed,
    /// Every binding matches; the last messages are kept for queues bound later. The table says which exchanges keep
    /// them; the caller does.
    RecentHistory,
    /// Every binding matches; duplicates of a message are dropped. The table does nothing about them; the caller does.
    Deduplication,
}

impl ExchangeKind {
    /// Every kind there is.
    pub const ALL: [Self; 11] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Random,
        Self::LocalRandom,
        Self::Delayed,
        Self::RecentHistory,
        Self::Deduplication,
    ];

    /// The kind of that name, as `exchange.declare` carries it in its field `type`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::Delayed => "x-delayed-message",
            Self::RecentHistory => "x-recent-history",
            Self::Deduplication => DEDUPLICATION_ARGUMENT,
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an exchange was declared with.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOptions {
    /// The exchange's type.
    pub kind: ExchangeKind,
    /// Whether the exchange outlives a restart. The table keeps the flag and does nothing with it.
    pub durable: bool,
    /// Whether the exchange goes when the last binding that has it as source goes.
    pub auto_delete: bool,
    /// Whether clients may not publish to it. The table keeps the flag; the caller refuses.
    pub internal: bool,
    /// Where messages go that reach no queue through this exchange; it need not exist.
    pub alternate_exchange: Option<String>,
    /// The kind by which a delayed exchange routes.
    pub delayed_kind: Option<ExchangeKind>,
    /// Whether messages that ask for it are delivered later, by its kind or by an argument.
    pub delays: bool,
    /// What a consistent-hash exchange hashes.
    pub hash_on: HashOn,
    /// How many messages a recent-history exchange keeps. The table keeps the number and does nothing with it.
    pub history_length: u64,
    /// Which messages that are published to it are duplicates. The table keeps this and does nothing with it.
    pub deduplication: Option<Deduplication>,
    /// All arguments as declared, to be listed.
    pub arguments: FieldTable,
}

impl ExchangeOptions {
    /// A transient exchange that is neither auto-delete nor internal and has no arguments.
    #[must_use]
    pub fn new(kind: ExchangeKind) -> Self {
        Self {
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            alternate_exchange: None,
            delayed_kind: None,
            delays: kind == ExchangeKind::Delayed,
            hash_on: HashOn::default(),
            history_length: HISTORY_LENGTH,
            deduplication: None,
            arguments: FieldTable::default(),
        }
    }

    /// The kind that decides what a binding matches: that of a delayed exchange is named by its argument.
    #[must_use]
    pub fn routing_kind(&self) -> ExchangeKind {
        match self.kind {
            ExchangeKind::Delayed => self.delayed_kind.unwrap_or(ExchangeKind::Direct),
            kind => kind,
        }
    }

    /// Takes over the arguments of a declaration, and the meaning of those that this kind of exchange knows.
    ///
    /// # Errors
    /// [`RoutingError::ArgumentType`] if one that must be a string is not; those of [`HashOn::of`];
    /// [`RoutingError::HistoryLength`]; [`RoutingError::NotPositive`]; [`RoutingError::DelayedType`] and [`RoutingError::DelayedTwice`].
    pub fn with_arguments(mut self, arguments: FieldTable) -> Result<Self, RoutingError> {
        self.alternate_exchange = match arguments.inner().get(ALTERNATE_EXCHANGE) {
            None => None,
            Some(AMQPValue::LongString(name)) => Some(String::from_utf8_lossy(name.as_bytes()).into_owned()),
            Some(other) => {
                return Err(RoutingError::ArgumentType {
                    argument: ALTERNATE_EXCHANGE,
                    type_name: type_name(other),
                });
            }
        };
        if self.kind == ExchangeKind::Delayed {
            self.delayed_kind = Some(delayed_kind(&arguments)?);
        }
        let asks = arguments.inner().get(DELAYED_ARGUMENT) == Some(&AMQPValue::Boolean(true));
        self.delays = asks || self.kind == ExchangeKind::Delayed;
        self.deduplication = Deduplication::of(&arguments, self.kind == ExchangeKind::Deduplication)?;
        match self.routing_kind() {
            ExchangeKind::ConsistentHash => self.hash_on = HashOn::of(&arguments)?,
            ExchangeKind::RecentHistory => self.history_length = history_length(&arguments)?,
            _ => {}
        }
        self.arguments = arguments;
        Ok(self)
    }

    /// How a declaration differs whose arguments cannot be taken over. What exists is compared before the arguments of a
    /// declaration are checked, so an alternate exchange that is no string is a difference first of all.
    #[must_use]
    pub fn difference_with_wrong_arguments(&self, received: &Self, arguments: &FieldTable) -> Option<Inequivalence> {
        let but_alternate = Self {
            alternate_exchange: self.alternate_exchange.clone(),
            ..received.clone()
        };
        self.first_difference(&but_alternate).or_else(|| {
            let received = arguments.inner().get(ALTERNATE_EXCHANGE).map(ArgumentValue::from);
            let current = self.alternate_exchange.as_deref().map(ArgumentValue::from);
            (received != current).then(|| Inequivalence {
                argument: ALTERNATE_EXCHANGE.into(),
                received,
                current,
            })
        })
    }

    /// The first property in which `received` differs from these options: see [`differences`](Self::differences).
    pub(crate) fn first_difference(&self, received: &Self) -> Option<Inequivalence> {
        self.differences(received).next()
    }

    /// The properties in which `received` differs from these options, in RabbitMQ's order:
    /// type, durable, auto_delete, internal, alternate-exchange. Other arguments do not count.
    pub fn differences(&self, received: &Self) -> impl Iterator<Item = Inequivalence> {
        let word = |kind: ExchangeKind| Some(ArgumentValue::from(kind.as_str()));
        let flag = |flag: bool| Some(ArgumentValue::from(flag));
        let name = |name: &Option<String>| name.as_deref().map(ArgumentValue::from);
        let (alternate, current) = (&received.alternate_exchange, &self.alternate_exchange);
        let properties = [
            (received.kind != self.kind).then(|| ("type", word(received.kind), word(self.kind))),
            (received.durable != self.durable).then(|| ("durable", flag(received.durable), flag(self.durable))),
            (received.auto_delete != self.auto_delete)
                .then(|| ("auto_delete", flag(received.auto_delete), flag(self.auto_delete))),
            (received.internal != self.internal).then(|| ("internal", flag(received.internal), flag(self.internal))),
            (alternate != current).then(|| (ALTERNATE_EXCHANGE, name(alternate), name(current))),
        ];
        properties
            .into_iter()
            .flatten()
            .map(|(argument, received, current)| Inequivalence {
                argument: argument.into(),
                received,
                current,
            })
    }

    /// The same with another alternate exchange, as if it had been declared so.
    #[must_use]
    pub fn with_alternate(&self, alternate_exchange: Option<String>) -> Self {
        let mut arguments: BTreeMap<_, _> = self.arguments.inner().clone();
        match &alternate_exchange {
            Some(name) => arguments.insert(ALTERNATE_EXCHANGE.into(), AMQPValue::LongString(name.as_str().into())),
            None => arguments.remove(ALTERNATE_EXCHANGE),
        };
        Self {
            alternate_exchange,
            arguments: arguments.into(),
            ..self.clone()
        }
    }
}

fn delayed_kind(arguments: &FieldTable) -> Result<ExchangeKind, RoutingError> {
    let Some(AMQPValue::LongString(name)) = arguments.inner().get(DELAYED_TYPE_ARGUMENT) else {
        return Err(RoutingError::DelayedType);
    };
    let name = String::from_utf8_lossy(name.as_bytes());
    match ExchangeKind::parse(&name) {
        Some(ExchangeKind::Delayed) => Err(RoutingError::DelayedTwice),
        Some(kind) => Ok(kind),
        None => Err(RoutingError::DelayedType),
    }
}

fn history_length(arguments: &FieldTable) -> Result<u64, RoutingError> {
    let Some(value) = arguments.inner().get(HISTORY_LENGTH_ARGUMENT) else {
        return Ok(HISTORY_LENGTH);
    };
    integer(value)
        .filter(|_| !matches!(value, AMQPValue::Timestamp(_)))
        .and_then(|length| u64::try_from(length).ok())
        .filter(|length| *length > 0)
        .ok_or_else(|| RoutingError::HistoryLength(value.clone()))
}

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The exchange is new.
    Created,
    /// An equivalent exchange was there.
    Existed,
}

/// An exchange as listings show it.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeRef<'a> {
    /// Its name; empty for the default exchange.
    pub name: &'a str,
    /// What it was declared with.
    pub options: &'a ExchangeOptions,
    /// The alternate exchange in force: the declared one, else the policy's.
    pub alternate_exchange: Option<&'a str>,
    /// Whether it delays messages, by its declaration or by a policy.
    pub delays: bool,
    /// Number of bindings that have it as source.
    pub bindings_from: usize,
    /// Number of bindings that have it as destination.
    pub bindings_to: usize,
}

impl ExchangeRef<'_> {
    /// The exchange's type.
    #[must_use]
    pub fn kind(&self) -> ExchangeKind {
        self.options.kind
    }
}

/// What a policy gives an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangePolicy {
    /// Where messages go that reach no queue, unless the declaration says it.
    pub alternate_exchange: Option<String>,
    /// Messages that ask for it are delivered later.
    pub delays: bool,
}

/// An exchange as the table keeps it.
#[derive(Debug)]
pub(crate) struct Exchange<Q> {
    pub(crate) name: Arc<str>,
    pub(crate) options: ExchangeOptions,
    pub(crate) policy: ExchangePolicy,
    pub(crate) matcher: Matcher<Q>,
    /// Ids of the bindings that have it as source.
    pub(crate) bindings_from: Vec<u32>,
    /// Ids of the bindings that have it as destination.
    pub(crate) bindings_to: Vec<u32>,
}

impl<Q: Copy + Eq + Hash + fmt::Debug> Exchange<Q> {
    pub(crate) fn new(name: Arc<str>, options: ExchangeOptions) -> Self {
        let matcher = Matcher::new(&options);
        Self {
            name,
            options,
            policy: ExchangePolicy::default(),
            matcher,
            bindings_from: Vec::new(),
            bindings_to: Vec::new(),
        }
    }

    pub(crate) fn alternate(&self) -> Option<&str> {
        self.options
            .alternate_exchange
            .as_deref()
            .or(self.policy.alternate_exchange.as_deref())
    }

    pub(crate) fn delays(&self) -> bool {
        self.options.delays || self.policy.delays
    }

    /// Any binding that has the exchange at one of its ends.
    pub(crate) fn last_binding(&self) -> Option<u32> {
        self.bindings_from.last().or(self.bindings_to.last()).copied()
    }

    pub(crate) fn view(&self) -> ExchangeRef<'_> {
        ExchangeRef {
            name: &self.name,
            options: &self.options,
            alternate_exchange: self.alternate(),
            delays: self.delays(),
            bindings_from: self.bindings_from.len(),
            bindings_to: self.bindings_to.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names() {
        for kind in ExchangeKind::ALL {
            assert_eq!(ExchangeKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(ExchangeKind::parse("Direct"), None);
        assert_eq!(ExchangeKind::parse(""), None);
    }

    #[test]
    fn the_first_difference_is_reported_in_rabbitmqs_order() {
        let current = ExchangeOptions::new(ExchangeKind::Direct);
        let mut received = ExchangeOptions {
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: true,
            internal: true,
            alternate_exchange: Some("ae".into()),
            ..current.clone()
        };
        let mut texts = Vec::new();
        while let Some(difference) = current.first_difference(&received) {
            texts.push(format!("{}: {difference}", difference.argument));
            match difference.argument.as_ref() {
                "type" => received.kind = current.kind,
                "durable" => received.durable = false,
                "auto_delete" => received.auto_delete = false,
                "internal" => received.internal = false,
                _ => received.alternate_exchange = None,
            }
        }
        assert_eq!(
            texts,
            [
                "type: received 'fanout' but current is 'direct'",
                "durable: received 'true' but current is 'false'",
                "auto_delete: received 'true' but current is 'false'",
                "internal: received 'true' but current is 'false'",
                "alternate-exchange: received the value 'ae' of type 'longstr' but current is none",
            ]
        );
    }

    #[test]
    fn arguments_other_than_the_alternate_exchange_do_not_count() {
        let current = ExchangeOptions::new(ExchangeKind::Topic);
        let mut arguments = FieldTable::default();
        arguments.insert("x-anything".into(), AMQPValue::Boolean(true));
        let received = current.clone().with_arguments(arguments).unwrap();
        assert_eq!(current.first_difference(&received), None);
    }

    #[test]
    fn a_recent_history_has_a_positive_length() {
        let length = |value| {
            let mut arguments = FieldTable::default();
            arguments.insert(HISTORY_LENGTH_ARGUMENT.into(), value);
            let options = ExchangeOptions::new(ExchangeKind::RecentHistory);
            options.with_arguments(arguments).map(|options| options.history_length)
        };
        assert_eq!(length(AMQPValue::ShortInt(3)), Ok(3));
        for wrong in [
            AMQPValue::LongInt(0),
            AMQPValue::LongInt(-1),
            AMQPValue::LongString("3".into()),
        ] {
            assert_eq!(length(wrong.clone()), Err(RoutingError::HistoryLength(wrong)));
        }
    }

    #[test]
    fn the_alternate_exchange_must_be_a_string() {
        let mut arguments = FieldTable::default();
        arguments.insert(ALTERNATE_EXCHANGE.into(), AMQPValue::LongInt(1));
        let options = ExchangeOptions::new(ExchangeKind::Topic);
        assert_eq!(
            options.with_arguments(arguments),
            Err(RoutingError::ArgumentType {
                argument: ALTERNATE_EXCHANGE,
                type_name: "signedint"
            })
        );
    }
}
