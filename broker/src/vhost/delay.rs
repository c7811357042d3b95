//! When a message asks to be delivered later: what its headers say, and what becomes of them.

use std::sync::Arc;

use amq_protocol::types::AMQPValue;

use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::field_table::{decode_table, with_long};
use crate::protocol::message::Message;
use crate::protocol::rewrite::{Change, HeaderChanges, rewrite};
use crate::queue::integer;

/// A header: milliseconds to wait. Delivered messages have it negated, as RabbitMQ's plug-in does, so that no further
/// exchange delays them.
const AFTER: &str = "x-delay";
/// A header: when to deliver, as a timestamp in seconds or an integer in milliseconds since 1970.
const AT: &str = "x-deliver-at";

/// A message on its way into a delayed exchange.
pub struct Delay {
    /// The exchange.
    pub exchange: Arc<str>,
    /// Whether the exchange is durable.
    pub durable: bool,
    /// When it is to be delivered.
    pub due_millis: u64,
    /// Its routing keys, those of CC and BCC with it.
    pub routing_keys: Vec<String>,
}

/// When a message with these headers is to be delivered, if that is later than now.
pub fn due_millis(header: impl Fn(&str) -> Option<AMQPValue>, now_millis: u64) -> Option<u64> {
    let after = header(AFTER)
        .and_then(|delay| integer(&delay))
        .filter(|delay| *delay > 0);
    let after = after.map(|delay| now_millis.saturating_add(delay.unsigned_abs()));
    let at = header(AT).and_then(|time| match time {
        AMQPValue::Timestamp(seconds) => Some(seconds.saturating_mul(1000)),
        other => integer(&other).and_then(|millis| u64::try_from(millis).ok()),
    });
    after.max(at).filter(|due| *due > now_millis)
}

/// The message with its `x-delay` negated, as it is kept and delivered.
pub(super) fn negated(message: &Message) -> Message {
    let view = message.view();
    let negated = || {
        let header = ContentHeader::parse(view.header).ok()?;
        let headers = Properties::parse(header.properties).ok()?.headers?;
        let delay = decode_table(headers).ok()?;
        let delay = integer(delay.inner().get(AFTER)?)?;
        let headers = with_long(headers, AFTER, delay.saturating_abs().saturating_neg());
        let changes = HeaderChanges {
            headers: Change::Set(&headers),
            ..HeaderChanges::default()
        };
        rewrite(view.header, &changes).ok()
    };
    match negated() {
        Some(header) => message.with_header(&header),
        None => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_after_its_delay_or_at_its_time() {
        let due = |delay: Option<AMQPValue>, at: Option<AMQPValue>| {
            let header = |name: &str| if name == AFTER { delay.clone() } else { at.clone() };
            due_millis(header, 10_000)
        };
        let number = AMQPValue::LongLongInt;
        assert_eq!(due(None, None), None);
        assert_eq!(due(Some(AMQPValue::LongInt(5)), None), Some(10_005));
        assert_eq!(due(Some(number(0)), None), None);
        assert_eq!(due(Some(number(-5)), None), None);
        // Longer than the 49 days of 32 bits, and longer than there is time.
        assert_eq!(due(Some(number(1 << 40)), None), Some(10_000 + (1 << 40)));
        assert_eq!(due(Some(number(i64::MAX)), None), Some(10_000 + i64::MAX as u64));
        assert_eq!(due(Some(AMQPValue::LongString("5".into())), None), None);
        assert_eq!(due(None, Some(number(12_000))), Some(12_000));
        assert_eq!(due(None, Some(number(9_000))), None);
        assert_eq!(due(None, Some(AMQPValue::Timestamp(11))), Some(11_000));
        // Of both, the later.
        assert_eq!(due(Some(number(500)), Some(number(12_000))), Some(12_000));
        assert_eq!(due(Some(number(5_000)), Some(number(12_000))), Some(15_000));
    }
}
