//! How a message is told of in the headers of another one, as RabbitMQ's firehose does it.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::content::Properties;
use super::field_table::decode_table;

/// Longest routing key.
const SHORTSTR_BYTES_MAX: usize = 255;

/// The properties that a message has, by their names. Numbers are signed, texts are long strings.
pub fn properties_table(properties: &Properties<'_>) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |name: &str, value: Option<AMQPValue>| {
        if let Some(value) = value {
            table.insert(name.into(), value);
        }
    };
    let octets = |octets: Option<&[u8]>| octets.map(|octets| AMQPValue::LongString(octets.into()));
    let text = |text: Option<&str>| octets(text.map(str::as_bytes));
    let number = |number: Option<u8>| number.map(|number| AMQPValue::LongInt(number.into()));
    let headers = properties.headers.and_then(|headers| decode_table(headers).ok());
    put("content_type", octets(properties.content_type));
    put("content_encoding", octets(properties.content_encoding));
    put("headers", headers.map(AMQPValue::FieldTable));
    put("delivery_mode", number(properties.delivery_mode));
    put("priority", number(properties.priority));
    put("correlation_id", octets(properties.correlation_id));
    put("reply_to", text(properties.reply_to));
    put("expiration", text(properties.expiration));
    put("message_id", octets(properties.message_id));
    put("timestamp", properties.timestamp.map(seconds));
    put("type", octets(properties.kind));
    put("user_id", text(properties.user_id));
    put("app_id", octets(properties.app_id));
    put("cluster_id", octets(properties.cluster_id));
    table
}

/// RabbitMQ has 32 bits for it, which are enough until 2038.
fn seconds(timestamp: u64) -> AMQPValue {
    match i32::try_from(timestamp) {
        Ok(short) => AMQPValue::LongInt(short),
        Err(_) => AMQPValue::LongLongInt(timestamp.try_into().unwrap_or(i64::MAX)),
    }
}

/// A routing key of two parts, of which the second is cut if both are too long for one.
pub fn traced_name(prefix: &str, name: &str) -> String {
    let room = SHORTSTR_BYTES_MAX.saturating_sub(prefix.len()).min(name.len());
    let end = (0..=room).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{prefix}{}", name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::field_table::with_long;

    #[test]
    fn only_the_properties_that_are_there_are_told() {
        assert_eq!(properties_table(&Properties::default()), FieldTable::default());
        let headers = with_long(&[0; 4], "n", 5);
        let properties = Properties {
            headers: Some(&headers),
            delivery_mode: Some(2),
            kind: Some(b"order"),
            timestamp: Some(1_700_000_000),
            ..Properties::default()
        };
        let table = properties_table(&properties);
        let of = |name: &str| table.inner().get(name).cloned();
        assert_eq!(table.inner().len(), 4);
        assert_eq!(of("delivery_mode"), Some(AMQPValue::LongInt(2)));
        assert_eq!(of("type"), Some(AMQPValue::LongString("order".into())));
        assert_eq!(of("timestamp"), Some(AMQPValue::LongInt(1_700_000_000)));
        let mut nested = FieldTable::default();
        nested.insert("n".into(), AMQPValue::LongLongInt(5));
        assert_eq!(of("headers"), Some(AMQPValue::FieldTable(nested)));
        assert_eq!(seconds(u64::MAX), AMQPValue::LongLongInt(i64::MAX));
    }

    #[test]
    fn a_routing_key_is_cut_where_it_may_be() {
        assert_eq!(traced_name("publish.", ""), "publish.");
        assert_eq!(traced_name("deliver.", "q"), "deliver.q");
        let long = "ä".repeat(127);
        let cut = traced_name("deliver.", &long);
        assert_eq!(cut, format!("deliver.{}", "ä".repeat(123)));
    }
}
