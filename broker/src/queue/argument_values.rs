//! How the value of each kind of argument is read and checked.

use amq_protocol::types::AMQPValue;
use leveret_routing::type_name;

use super::arguments::{DeadLetterStrategy, DelayedRetry, InvalidReason, Overflow, QueueType};

/// The longest TTL or expiry: ten years of 365 days.
pub const MAX_EXPIRY_MS: i64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// The value of an argument or header of any integer type.
pub fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(it) => Some(it.into()),
        AMQPValue::ShortShortUInt(it) => Some(it.into()),
        AMQPValue::ShortInt(it) => Some(it.into()),
        AMQPValue::ShortUInt(it) => Some(it.into()),
        AMQPValue::LongInt(it) => Some(it.into()),
        AMQPValue::LongUInt(it) => Some(it.into()),
        AMQPValue::LongLongInt(it) => Some(it),
        _ => None,
    }
}

pub(super) fn integer_argument(value: &AMQPValue) -> Result<i64, InvalidReason> {
    integer(value).ok_or_else(|| InvalidReason::ExpectedInteger(type_name(value)))
}

pub(super) fn non_negative(value: &AMQPValue) -> Result<u64, InvalidReason> {
    let number = integer_argument(value)?;
    u64::try_from(number).map_err(|_| InvalidReason::Negative(number))
}

pub(super) fn positive(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match non_negative(value)? {
        0 => Err(InvalidReason::Zero),
        number => Ok(number),
    }
}

pub(super) fn expiry(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match integer_argument(value)? {
        ms if ms > MAX_EXPIRY_MS => Err(InvalidReason::TooLarge(ms)),
        _ => non_negative(value),
    }
}

pub(super) fn positive_expiry(value: &AMQPValue) -> Result<u64, InvalidReason> {
    match expiry(value)? {
        0 => Err(InvalidReason::Zero),
        ms => Ok(ms),
    }
}

pub(super) fn max_priority(value: &AMQPValue) -> Result<u8, InvalidReason> {
    non_negative(value)?;
    let priority = integer_argument(value)?;
    u8::try_from(priority).map_err(|_| InvalidReason::MaxValueExceeded(priority))
}

pub(super) fn string(value: &AMQPValue) -> Result<String, InvalidReason> {
    match value {
        AMQPValue::LongString(text) => Ok(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => Err(InvalidReason::UnacceptableType(type_name(value))),
    }
}

pub(super) fn boolean(value: &AMQPValue) -> Result<bool, InvalidReason> {
    value.as_bool().ok_or(InvalidReason::UnacceptableType(type_name(value)))
}

pub(super) fn dead_letter_strategy(value: &AMQPValue) -> Result<DeadLetterStrategy, InvalidReason> {
    match string(value)?.as_str() {
        "at-most-once" => Ok(DeadLetterStrategy::AtMostOnce),
        "at-least-once" => Ok(DeadLetterStrategy::AtLeastOnce),
        _ => Err(InvalidReason::DeadLetterStrategy),
    }
}

pub(super) fn delayed_retry(value: &AMQPValue) -> Result<DelayedRetry, InvalidReason> {
    match string(value)?.as_str() {
        "disabled" => Ok(DelayedRetry::Disabled),
        "all" => Ok(DelayedRetry::All),
        "failed" => Ok(DelayedRetry::Failed),
        "returned" => Ok(DelayedRetry::Returned),
        _ => Err(InvalidReason::DelayedRetryType),
    }
}

pub(super) fn overflow(value: &AMQPValue) -> Result<Overflow, InvalidReason> {
    match string(value)?.as_str() {
        "drop-head" => Ok(Overflow::DropHead),
        "reject-publish" => Ok(Overflow::RejectPublish),
        "reject-publish-dlx" => Ok(Overflow::RejectPublishDlx),
        _ => Err(InvalidReason::Overflow),
    }
}

pub(super) fn queue_type(value: &AMQPValue) -> Result<QueueType, InvalidReason> {
    let name = string(value)?;
    match name.as_str() {
        "classic" => Ok(QueueType::Classic),
        "quorum" => Ok(QueueType::Quorum),
        _ => Err(InvalidReason::UnsupportedQueueType(name)),
    }
}

pub(super) fn check_queue_version(value: &AMQPValue) -> Result<(), InvalidReason> {
    non_negative(value)?;
    match integer_argument(value)? {
        2 => Ok(()),
        version => Err(InvalidReason::UnsupportedQueueVersion(version)),
    }
}
