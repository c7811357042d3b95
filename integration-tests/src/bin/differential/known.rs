//! Differences that are meant, each with its reason. Everything else is a mistake of Leveret's, or of this list.
//!
//! Some differences would end too many sequences if they were met, so they are kept out of the way instead:
//!
//! - RabbitMQ 3.10 knows no `x-last-death-` headers, so they are not looked at.
//! - RabbitMQ 3.10 gives a direct reply the delivery tag of the delivery before it. Tags after replies are not looked at.
//! - RabbitMQ holds back a channel's consumers without acknowledgements too while the shared prefetch of the channel is used
//!   up, if a consumer with acknowledgements was asked first. Sequences with a shared prefetch have no such consumers.

use crate::operations::{Operation, REPLY, Step};
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
    Known {
        name: "user-id-first",
        reason: "RabbitMQ 3.10 checks user_id before the headers, 4.x after them (ERRORS, order of checks in basic.publish)",
        is: |_, it| rabbitmq(it, "user_id property set to") && leveret(it, "PRECONDITION_FAILED - invalid "),
    },
    Known {
        name: "properties-undecodable",
        reason: "RabbitMQ crashes on properties that are cut short (541 INTERNAL_ERROR); Leveret says what is wrong (501)",
        is: |step, it| is_odd(step, "properties that are cut short") && leveret(it, "FRAME_ERROR - cannot decode"),
    },
    Known {
        name: "recover-to-the-same-consumer",
        reason: "RabbitMQ refuses basic.recover without requeue with 540; Leveret delivers again (ERRORS section 10, row 125)",
        is: |_, it| rabbitmq(it, "NOT_IMPLEMENTED - requeue=false"),
    },
    Known {
        name: "binding-of-reply-to",
        reason: "binding the reply-to pseudo queue is 404 in RabbitMQ 3.10 and 403 in 4.x (ERRORS row 106)",
        is: |_, it| leveret(it, "cannot bind or unbind to a volatile"),
    },
    Known {
        name: "queue-type",
        reason: "absent, classic and quorum are one type of queue in Leveret; RabbitMQ 3.10 compares the argument as it stands",
        is: |_, it| rabbitmq(it, "inequivalent arg 'x-queue-type'"),
    },
    Known {
        name: "body-too-long",
        reason: "RabbitMQ 3.10 notices at the next frame that a body was longer than announced, 4.x at once (ERRORS row 37)",
        is: |step, it| is_odd(step, "a body that is too long") && leveret(it, "exceeds remaining content size"),
    },
    Known {
        name: "body-announced-too-large",
        reason: "RabbitMQ 3.10 has no largest body; 4.x refuses it from the header (ERRORS row 38)",
        is: |step, it| is_odd(step, "a body larger than") && leveret(it, "exceeds maximum allowed size"),
    },
    Known {
        name: "reply-consumer-tag",
        reason: "a consumer tag used twice for replies is refused as second consumer by RabbitMQ 3.10, as used tag by 4.x",
        is: |_, it| rabbitmq(it, "reply consumer already set") && leveret(it, "attempt to reuse consumer tag"),
    },
    Known {
        name: "mandatory-reply",
        reason: "RabbitMQ 3.10 returns a mandatory reply although it delivers it; since 4.2 it counts as routed",
        is: |step, it| {
            is_reply(step)
                && rabbitmq(it, "basic.return code=312")
                && it.leveret.iter().all(|line| line.contains("ready"))
        },
    },
    Known {
        name: "close-ok-for-nobody",
        reason: "RabbitMQ refuses channel.close-ok on a channel that is not open; Leveret ignores it, as closes may cross",
        is: |step, _| is_odd(step, "channel.close-ok on a channel that is not open"),
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

fn is_reply(step: &Step) -> bool {
    matches!(&step.operation, Operation::Publish { publish, .. } if publish.routing_key.as_str().starts_with(REPLY))
}

fn is_odd(step: &Step, what: &str) -> bool {
    matches!(&step.operation, Operation::Odd(odd) if odd.what.starts_with(what))
}
