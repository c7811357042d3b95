//! Whether declaring a queue again asks for the queue that is there.

use std::fmt;

use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_routing::type_name;

use super::argument_table::{altered_arguments, compared_arguments};
use super::arguments::lookup;
use super::erlang_term::{plain, term};

/// What queue.declare compares, beside exclusiveness, which is a question of access (405) and not of equivalence.
#[derive(Clone, Copy, Debug)]
pub struct QueueProperties<'a> {
    pub durable: bool,
    pub auto_delete: bool,
    /// As they were given: a declaration is compared before its arguments are checked.
    pub arguments: &'a FieldTable,
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
        let argument = self.argument;
        format!("inequivalent arg '{argument}' for queue '{queue}' in vhost '{vhost}': {self}")
    }

    /// Whether a queue that is there can become what was asked for in this.
    pub fn can_be_altered(&self) -> bool {
        altered_arguments().any(|argument| argument == self.argument)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {} but current is {}", self.received, self.current)
    }
}

/// All differences in RabbitMQ's order: durable, auto_delete, then the known arguments. Unknown arguments are not compared.
pub fn differences<'a>(
    current: QueueProperties<'a>,
    received: QueueProperties<'a>,
) -> impl Iterator<Item = Difference> + use<'a> {
    let flags = [
        flag_difference("durable", current.durable, received.durable),
        flag_difference("auto_delete", current.auto_delete, received.auto_delete),
    ];
    let arguments = compared_arguments().filter_map(move |name| {
        argument_difference(name, lookup(current.arguments, name), lookup(received.arguments, name))
    });
    flags.into_iter().flatten().chain(arguments)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn first_difference(current: QueueProperties<'_>, received: QueueProperties<'_>) -> Option<Difference> {
        differences(current, received).next()
    }

    fn arguments(list: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in list {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    /// What is said when `received` is declared on top of `current`.
    fn redeclare(current: &[(&str, AMQPValue)], received: &[(&str, AMQPValue)]) -> Option<String> {
        let (current, received) = (arguments(current), arguments(received));
        let properties = |arguments| QueueProperties {
            durable: true,
            auto_delete: false,
            arguments,
        };
        first_difference(properties(&current), properties(&received)).map(|difference| difference.explain("Q", "/"))
    }

    fn ttl(value: AMQPValue) -> [(&'static str, AMQPValue); 1] {
        [("x-message-ttl", value)]
    }

    #[test]
    fn flags_are_compared_before_arguments() {
        let (none, some) = (arguments(&[]), arguments(&ttl(AMQPValue::LongInt(1))));
        let current = QueueProperties {
            durable: false,
            auto_delete: false,
            arguments: &none,
        };
        let received = QueueProperties {
            durable: true,
            auto_delete: true,
            arguments: &some,
        };
        let explain = |received| first_difference(current, received).unwrap().explain("Q", "/");
        assert_eq!(
            explain(received),
            "inequivalent arg 'durable' for queue 'Q' in vhost '/': received 'true' but current is 'false'"
        );
        assert_eq!(
            explain(QueueProperties {
                durable: false,
                ..received
            }),
            "inequivalent arg 'auto_delete' for queue 'Q' in vhost '/': received 'true' but current is 'false'"
        );
        assert_eq!(first_difference(received, received), None);
    }

    #[test]
    fn different_values_are_told_bare() {
        assert_eq!(
            redeclare(&ttl(AMQPValue::LongInt(1000)), &ttl(AMQPValue::LongLongInt(60_000))).unwrap(),
            "inequivalent arg 'x-message-ttl' for queue 'Q' in vhost '/': received '60000' but current is '1000'"
        );
        let overflow = |mode: &str| [("x-overflow", AMQPValue::LongString(mode.into()))];
        assert_eq!(
            redeclare(&overflow("drop-head"), &overflow("reject-publish")).unwrap(),
            "inequivalent arg 'x-overflow' for queue 'Q' in vhost '/': \
             received 'reject-publish' but current is 'drop-head'"
        );
    }

    #[test]
    fn a_missing_value_is_told_with_the_type_of_the_other() {
        assert_eq!(
            redeclare(&[], &ttl(AMQPValue::LongInt(60_000))).unwrap(),
            "inequivalent arg 'x-message-ttl' for queue 'Q' in vhost '/': \
             received the value '60000' of type 'signedint' but current is none"
        );
        assert_eq!(
            redeclare(&ttl(AMQPValue::LongInt(1000)), &[]).unwrap(),
            "inequivalent arg 'x-message-ttl' for queue 'Q' in vhost '/': \
             received none but current is the value '1000' of type 'signedint'"
        );
    }

    #[test]
    fn integers_are_interchangeable_and_floats_are_not_integers() {
        assert_eq!(
            redeclare(&ttl(AMQPValue::LongInt(5)), &ttl(AMQPValue::ShortShortUInt(5))),
            None
        );
        let mode = |value| [("x-queue-mode", value)];
        assert_eq!(
            redeclare(&mode(AMQPValue::Float(1.5)), &mode(AMQPValue::Double(1.5))),
            None
        );
        let refusal = redeclare(&mode(AMQPValue::LongInt(1)), &mode(AMQPValue::Double(1.0))).unwrap();
        assert!(refusal.ends_with("received '1.0' but current is '1'"), "{refusal}");
    }

    #[test]
    fn unknown_arguments_are_not_compared() {
        assert_eq!(
            redeclare(&[("x-mine", AMQPValue::LongInt(1))], &[("x-yours", AMQPValue::Void)]),
            None
        );
    }

    #[test]
    fn absent_classic_and_quorum_are_the_same_queue_type() {
        let queue_type = |name: &str| [("x-queue-type", AMQPValue::LongString(name.into()))];
        assert_eq!(redeclare(&queue_type("classic"), &queue_type("quorum")), None);
        assert_eq!(redeclare(&[], &queue_type("quorum")), None);
        assert_eq!(redeclare(&queue_type("classic"), &[]), None);
    }

    #[test]
    fn the_first_difference_in_rabbitmqs_order_is_told() {
        let both = [
            ("x-expires", AMQPValue::LongInt(1)),
            ("x-message-ttl", AMQPValue::LongInt(1)),
        ];
        assert!(redeclare(&[], &both).unwrap().contains("'x-expires'"));
    }
}
