//! Differences that are meant, each with its reason. Everything else is a mistake of Leveret's, or of this list.

use crate::operations::{Operation, Step};
use crate::outcome::Difference;

/// A difference that is meant. The rest of its sequence is not compared, because the brokers are in different states then.
pub struct Known {
    pub name: &'static str,
    pub reason: &'static str,
    /// Whether this is it.
    pub is: fn(&Step, &Difference) -> bool,
}

/// The first of the list that a difference is.
pub fn find(step: &Step, difference: &Difference) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is)(step, difference))
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "method-unknown",
        reason: "RabbitMQ's connection dies without a word; Leveret answers 540 as the specification says (ERRORS row 41)",
        is: |step, it| is_odd(step, "a method") && rabbitmq(it, "socket was closed") && leveret(it, "close 540"),
    },
    Known {
        name: "delivery-mode",
        reason: "RabbitMQ 3.10 refuses delivery modes other than 1 and 2; 4.x takes all, and so does Leveret",
        is: |_, it| rabbitmq(it, "{delivery_mode_unknown,"),
    },
    Known {
        name: "exchange-type",
        reason: "an unknown exchange type is 503 in RabbitMQ 3.10 and 406 in 4.x (ERRORS row 52)",
        is: |_, it| rabbitmq(it, "COMMAND_INVALID - unknown exchange type") && leveret(it, "- unknown exchange type"),
    },
];

/// Whether RabbitMQ said something with `text` in it that Leveret did not.
fn rabbitmq(difference: &Difference, text: &str) -> bool {
    difference.rabbitmq.iter().any(|line| line.contains(text))
}

/// Whether Leveret said something with `text` in it that RabbitMQ did not.
fn leveret(difference: &Difference, text: &str) -> bool {
    difference.leveret.iter().any(|line| line.contains(text))
}

fn is_odd(step: &Step, what: &str) -> bool {
    matches!(&step.operation, Operation::Odd(odd) if odd.what.starts_with(what))
}
