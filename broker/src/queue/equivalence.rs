//! Whether declaring a queue again asks for the queue that is there.

use amq_protocol::types::AMQPValue;

use super::erlang_term::{plain, term, type_name};
use super::options::{QueueArguments, compared_arguments};

/// What queue.declare compares, beside exclusiveness, which is a question of access (405) and not of equivalence.
#[derive(Clone, Copy, Debug)]
pub struct QueueProperties<'a> {
    pub durable: bool,
    pub auto_delete: bool,
    pub arguments: &'a QueueArguments,
}

/// A property that was declared differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub argument: &'static str,
    /// As the reply text prints it, quotes included.
    pub received: String,
    pub current: String,
}

impl Difference {
    /// The explanation after `PRECONDITION_FAILED - ` (ERRORS rows 72 to 76).
    pub fn explain(&self, queue: &str, vhost: &str) -> String {
        let Self {
            argument,
            received,
            current,
        } = self;
        format!(
            "inequivalent arg '{argument}' for queue '{queue}' in vhost '{vhost}': received {received} but current is {current}"
        )
    }
}

/// The first difference in RabbitMQ's order: durable, auto_delete, then the known arguments. Unknown arguments are not compared.
pub fn first_difference(current: QueueProperties<'_>, received: QueueProperties<'_>) -> Option<Difference> {
    flag_difference("durable", current.durable, received.durable)
        .or_else(|| flag_difference("auto_delete", current.auto_delete, received.auto_delete))
        .or_else(|| {
            compared_arguments()
                .find_map(|name| argument_difference(name, current.arguments.get(name), received.arguments.get(name)))
        })
}

fn flag_difference(argument: &'static str, current: bool, received: bool) -> Option<Difference> {
    (current != received).then(|| Difference {
        argument,
        received: format!("'{received}'"),
        current: format!("'{current}'"),
    })
}

fn argument_difference(
    argument: &'static str,
    current: Option<&AMQPValue>,
    received: Option<&AMQPValue>,
) -> Option<Difference> {
    match (current, received) {
        (None, None) => None,
        (Some(current), Some(received)) if term(current) == term(received) => None,
        (Some(current), Some(received)) => Some(Difference {
            argument,
            received: format!("'{}'", plain(received)),
            current: format!("'{}'", plain(current)),
        }),
        (current, received) => Some(Difference {
            argument,
            received: with_type(received),
            current: with_type(current),
        }),
    }
}

fn with_type(value: Option<&AMQPValue>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| format!("the value '{}' of type '{}'", plain(value), type_name(value)),
    )
}
