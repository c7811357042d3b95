//! Differences that are meant, each with its reason. Everything else is a mistake of Leveret's, or of this list.
//!
//! Some differences would end too many sequences if they were met, so they are kept out of the way instead:
//!
//! - RabbitMQ 3.10 knows no `x-last-death-` headers, so they are not looked at.
//! - RabbitMQ 3.10 gives a direct reply the delivery tag of the delivery before it. Tags after replies are not looked at.
//! - RabbitMQ holds back a channel's consumers without acknowledgements too while the shared prefetch of the channel is used
//!   up, if a consumer with acknowledgements was asked first. Sequences with a shared prefetch have no such consumers.
//! - RabbitMQ's classic queues expire messages at their head only: one that lives longer shields those behind it. Leveret looks at
//!   all. In sequences about time to live everything in a queue expires within the step, or nothing does.
//! - A message that expires at once and does not fit either is dead-lettered as `maxlen` by RabbitMQ and as `expired` by Leveret.
//!   Sequences about time to live have no limits of length.
//! - RabbitMQ 3.10 ends the connection with 541 when an exchange is bound to one with a recent history. No sequence does that.
//! - A queue with priorities that is too long drops the oldest message of the lowest priority; RabbitMQ drops the one that would
//!   be delivered next. Sequences about priorities have no limits but those that refuse.
//! - With single active consumer, a consumer of higher priority takes over as in RabbitMQ 4's quorum queues; in 3.10 priorities
//!   do not count there. Sequences have either.

use crate::operations::{Operation, REPLY, Step, Verb};
use crate::outcome::Difference;
use leveret_integration_tests::raw::{AMQPClass, basic, tx};

/// A difference that is meant. The rest of its sequence is not compared, because the brokers are in different states then.
pub struct Known {
    pub name: &'static str,
    pub reason: &'static str,
    /// Whether this is it.
    pub is: fn(&Case, &Difference) -> bool,
}

/// Where it differed.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// None at the end of the sequence.
    step: Option<&'a Step>,
    before: &'a [Step],
}

/// The first of the list that the difference at a step of a sequence is.
pub fn find(steps: &[Step], number: usize, difference: &Difference) -> Option<&'static Known> {
    let case = Case {
        step: steps.get(number),
        before: &steps[..number.min(steps.len())],
    };
    KNOWN.iter().find(|known| (known.is)(&case, difference))
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "method-unknown",
        reason: "RabbitMQ's connection dies without a word; Leveret answers 540 as the specification says (ERRORS row 41)",
        is: |case, it| is_odd(case, "a method") && rabbitmq(it, "socket was closed") && leveret(it, "close 540"),
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
        is: |case, it| is_odd(case, "properties that are cut short") && leveret(it, "FRAME_ERROR - cannot decode"),
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
        is: |case, it| is_odd(case, "a body that is too long") && leveret(it, "exceeds remaining content size"),
    },
    Known {
        name: "body-announced-too-large",
        reason: "RabbitMQ 3.10 has no largest body; 4.x refuses it from the header (ERRORS row 38)",
        is: |case, it| is_odd(case, "a body larger than") && leveret(it, "exceeds maximum allowed size"),
    },
    Known {
        name: "reply-consumer-tag",
        reason: "a consumer tag used twice for replies is refused as second consumer by RabbitMQ 3.10, as used tag by 4.x",
        is: |_, it| rabbitmq(it, "reply consumer already set") && leveret(it, "attempt to reuse consumer tag"),
    },
    Known {
        name: "mandatory-reply",
        reason: "RabbitMQ 3.10 returns a mandatory reply although it delivers it; since 4.2 it counts as routed",
        is: |case, it| {
            is_reply(case)
                && rabbitmq(it, "basic.return code=312")
                && it.leveret.iter().all(|line| line.contains("ready"))
        },
    },
    Known {
        name: "close-ok-for-nobody",
        reason: "RabbitMQ refuses channel.close-ok on a channel that is not open; Leveret ignores it, as closes may cross",
        is: |case, _| is_odd(case, "channel.close-ok on a channel that is not open"),
    },
    Known {
        name: "alternate-of-a-dead-end",
        reason: "an exchange that matched only exchanges which lead to no queue uses its alternate; RabbitMQ drops the message",
        is: |case, it| {
            let has = |text: &str| case.before.iter().any(|step| step.to_string().contains(text));
            has("alternate-exchange")
                && has("exchange.bind")
                && ready(&it.leveret) + delivered(&it.leveret) > ready(&it.rabbitmq) + delivered(&it.rabbitmq)
        },
    },
    Known {
        name: "limit-before-overflow",
        reason: "where a policy brings a limit and reject-publish together, RabbitMQ drops the head before it knows of the latter",
        is: |case, it| {
            let is_request = |step: &Step| matches!(step.operation, Operation::Request(_));
            let refusing = |step: &Step| is_request(step) && step.to_string().contains("reject-publish");
            case.step.is_some_and(is_request)
                && case.step.into_iter().chain(case.before).any(refusing)
                && ready(&it.rabbitmq) < ready(&it.leveret)
        },
    },
    Known {
        name: "requeued-by-consumer",
        reason: "what comes back at once RabbitMQ puts back consumer by consumer, in order of their tags; Leveret all together, in its order",
        is: |case, it| {
            case.step.into_iter().chain(case.before).any(returns_several)
                && it.leveret.iter().all(|line| message(line).is_some())
                && !it.leveret.is_empty()
                && messages(&it.rabbitmq) == messages(&it.leveret)
        },
    },
    Known {
        name: "rejected-by-consumer",
        reason: "what is rejected at once RabbitMQ gives up consumer by consumer, in order of their tags; Leveret all together, in its order",
        is: |case, it| {
            let rejected = |line: &String| line.contains("reason=\"rejected\"");
            case.step.into_iter().chain(case.before).any(rejects_several)
                && it.leveret.iter().any(rejected)
                && messages(&it.rabbitmq) == messages(&it.leveret)
        },
    },
    Known {
        name: "delivered-while-closing",
        reason: "what a closing channel gives back may expire into a queue that delivers it to that channel once more; Leveret's queues know of the close before",
        is: |case, it| {
            let closes = |step: &Step| matches!(step.operation, Operation::CloseChannel | Operation::CloseConnection);
            let expired = |line: &String| line.contains(" basic.deliver tag=") && line.contains("reason=\"expired\"");
            case.step.is_none_or(closes) && it.rabbitmq.iter().any(expired) && delivered(&it.leveret) == 0
        },
    },
    Known {
        name: "endless-circle",
        reason: "a message that was rejected may go round for ever as it expires; where it is at the end is nobody's",
        is: |case, it| {
            let goes_round =
                |line: &String| line.contains("reason=\"rejected\"") && line.contains("reason=\"expired\"");
            case.step.is_none() && it.rabbitmq.iter().chain(&it.leveret).any(goes_round)
        },
    },
    Known {
        name: "expired-beside-others",
        reason: "what expires in one queue comes to another before or after what that gets otherwise; nobody's order",
        is: |_, it| {
            let expired = |line: &String| line.contains("reason=\"expired\"");
            it.leveret.iter().any(expired) && messages(&it.rabbitmq) == messages(&it.leveret)
        },
    },
];

fn returns_several(step: &Step) -> bool {
    match &step.operation {
        Operation::Settle(settle) => settle.multiple && settle.verb == (Verb::Nack { requeue: true }),
        Operation::Method(AMQPClass::Basic(method)) => {
            matches!(
                method,
                basic::AMQPMethod::Recover(_) | basic::AMQPMethod::RecoverAsync(_)
            )
        }
        // A commit settles what the transaction did.
        Operation::Method(AMQPClass::Tx(method)) => matches!(method, tx::AMQPMethod::Commit(_)),
        _ => false,
    }
}

fn rejects_several(step: &Step) -> bool {
    matches!(&step.operation, Operation::Settle(settle) if settle.multiple && settle.verb == (Verb::Nack { requeue: false }))
}

/// What was delivered or left, to whomever and in whatever order.
fn messages(lines: &[String]) -> Vec<&str> {
    let mut messages: Vec<&str> = lines.iter().filter_map(|line| message(line)).collect();
    messages.sort_unstable();
    messages
}

fn message(line: &str) -> Option<&str> {
    let (_, rest) = line
        .split_once(" basic.deliver tag=")
        .or_else(|| line.split_once(" left="))?;
    Some(rest.split_once(' ')?.1)
}

/// Messages that are ready in queues of which one broker has more than the other.
fn ready(lines: &[String]) -> u32 {
    let count = |line: &String| line.split_once(" ready,")?.0.rsplit(' ').next()?.parse::<u32>().ok();
    lines.iter().filter_map(count).sum()
}

fn delivered(lines: &[String]) -> u32 {
    lines.iter().map(|line| u32::from(line.contains("basic.deliver"))).sum()
}

/// Whether RabbitMQ said something with `text` in it that Leveret did not.
fn rabbitmq(difference: &Difference, text: &str) -> bool {
    difference.rabbitmq.iter().any(|line| line.contains(text))
}

/// Whether Leveret said something with `text` in it that RabbitMQ did not.
fn leveret(difference: &Difference, text: &str) -> bool {
    difference.leveret.iter().any(|line| line.contains(text))
}

fn is_reply(case: &Case) -> bool {
    matches!(case.step.map(|step| &step.operation), Some(Operation::Publish { publish, .. }) if publish.routing_key.as_str().starts_with(REPLY))
}

fn is_odd(case: &Case, what: &str) -> bool {
    matches!(case.step.map(|step| &step.operation), Some(Operation::Odd(odd)) if odd.what.starts_with(what))
}
