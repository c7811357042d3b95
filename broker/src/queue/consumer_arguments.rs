//! The x-arguments of basic.consume, checked and typed. Unknown ones are ignored.

use amq_protocol::types::FieldTable;

use super::argument_values::{integer_argument, non_negative};
use super::arguments::{ArgumentError, QueueType, lookup};

const PRIORITY_ARGUMENT: &str = "x-priority";
const TIME_ARGUMENT: &str = "x-consumer-timeout";

/// Arguments that only consumers of streams take; RabbitMQ refuses them on every other queue.
const STREAM_ARGUMENTS: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

/// What a consumer asks for beside the fields of basic.consume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerArguments {
    /// Higher is served first.
    pub priority: i32,
    /// How long it may take to settle a delivery; 0 is for ever, `None` as long as the queue says.
    pub timeout_millis: Option<u64>,
}

impl ConsumerArguments {
    /// Reads the arguments of a consumer of a queue of this type.
    pub fn parse(table: &FieldTable, queue_type: QueueType) -> Result<Self, ArgumentError> {
        let of_streams = STREAM_ARGUMENTS.iter().find(|name| lookup(table, name).is_some());
        if let Some(argument) = of_streams {
            let queue_type = queue_type.module_name();
            return Err(ArgumentError::OtherQueueType { argument, queue_type });
        }
        let invalid = |argument| move |reason| ArgumentError::Invalid { argument, reason };
        let priority = lookup(table, PRIORITY_ARGUMENT).map(integer_argument).transpose();
        let priority = priority.map_err(invalid(PRIORITY_ARGUMENT))?.unwrap_or(0);
        let timeout_millis = lookup(table, TIME_ARGUMENT).map(non_negative).transpose();
        Ok(Self {
            priority: priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            timeout_millis: timeout_millis.map_err(invalid(TIME_ARGUMENT))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use super::*;

    fn parse(name: &str, value: AMQPValue) -> Result<ConsumerArguments, String> {
        let mut table = FieldTable::default();
        table.insert(name.into(), value);
        ConsumerArguments::parse(&table, QueueType::Classic).map_err(|error| error.explain("Q", "/"))
    }

    #[test]
    fn a_priority_is_an_integer_of_any_width() {
        let priority = |value| parse(PRIORITY_ARGUMENT, value).map(|arguments| arguments.priority);
        assert_eq!(priority(AMQPValue::ShortShortInt(-3)), Ok(-3));
        assert_eq!(priority(AMQPValue::LongLongInt(i64::MAX)), Ok(i32::MAX));
        assert_eq!(priority(AMQPValue::LongLongInt(i64::MIN)), Ok(i32::MIN));
        let refusal = priority(AMQPValue::LongString("high".into())).unwrap_err();
        assert_eq!(
            refusal,
            "invalid arg 'x-priority' for queue 'Q' in vhost '/': \"expected integer, got longstr\""
        );
    }

    #[test]
    fn a_timeout_is_not_negative() {
        let timeout = |value| parse(TIME_ARGUMENT, value).map(|arguments| arguments.timeout_millis);
        assert_eq!(timeout(AMQPValue::LongUInt(0)), Ok(Some(0)));
        assert_eq!(timeout(AMQPValue::LongLongInt(1_800_000)), Ok(Some(1_800_000)));
        assert!(
            timeout(AMQPValue::LongInt(-1))
                .unwrap_err()
                .ends_with("{value_negative,-1}")
        );
        assert!(
            timeout(AMQPValue::Boolean(true))
                .unwrap_err()
                .contains("'x-consumer-timeout'")
        );
    }

    #[test]
    fn what_is_unknown_means_nothing_and_what_is_for_streams_is_refused() {
        assert_eq!(parse("x-my-own", AMQPValue::Void), Ok(ConsumerArguments::default()));
        let refusal = parse("x-stream-offset", AMQPValue::LongInt(1)).unwrap_err();
        assert!(refusal.ends_with("of queue type rabbit_classic_queue"), "{refusal}");
    }
}
