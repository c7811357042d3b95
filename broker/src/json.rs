//! Field tables as JSON and back, as RabbitMQ's tools write them.
//!
//! JSON knows fewer types: a whole number becomes a signed 64-bit integer, a fraction a double, a text a long string. So a
//! table that goes out and comes back has equal values, but maybe others of AMQP's integer types, which compare as equal.

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::{Map, Number, Value};

use crate::protocol::field_table::TABLE_DEPTH_MAX;
use crate::protocol::wire::{SHORTSTR_MAX_BYTES, short_string};

/// Why JSON cannot be a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATable {
    /// A key does not fit into a short string.
    #[error("a key is longer than {SHORTSTR_MAX_BYTES} bytes")]
    LongKey,
    /// Objects in objects in objects.
    #[error("tables are nested deeper than {TABLE_DEPTH_MAX} levels")]
    TooDeep,
    /// A number that no type of AMQP holds.
    #[error("a number has more than 64 bits")]
    BigNumber,
}

/// An argument table as JSON; types that JSON lacks become text or numbers.
pub fn table_json(table: &FieldTable) -> Value {
    Value::Object(
        table
            .inner()
            .iter()
            .map(|(key, value)| (key.to_string(), value_json(value)))
            .collect(),
    )
}

fn value_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => (f64::from(value.value) / 10_f64.powi(i32::from(value.scale))).into(),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::LongString(value) => String::from_utf8_lossy(value.as_bytes()).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_json).collect(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::FieldTable(table) => table_json(table),
        AMQPValue::ByteArray(value) => String::from_utf8_lossy(value.as_slice()).into(),
        AMQPValue::Void => Value::Null,
    }
}

/// The table that an object of JSON stands for.
pub fn table_from_json(object: &Map<String, Value>) -> Result<FieldTable, NotATable> {
    table_within(object, TABLE_DEPTH_MAX)
}

fn table_within(object: &Map<String, Value>, levels: usize) -> Result<FieldTable, NotATable> {
    let levels = levels.checked_sub(1).ok_or(NotATable::TooDeep)?;
    let mut table = FieldTable::default();
    for (key, value) in object {
        if key.len() > SHORTSTR_MAX_BYTES {
            return Err(NotATable::LongKey);
        }
        table.insert(short_string(key), value_within(value, levels)?);
    }
    Ok(table)
}

fn value_within(value: &Value, levels: usize) -> Result<AMQPValue, NotATable> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => number_value(number)?,
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            let levels = levels.checked_sub(1).ok_or(NotATable::TooDeep)?;
            let values = values.iter().map(|value| value_within(value, levels));
            AMQPValue::FieldArray(values.collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Object(object) => AMQPValue::FieldTable(table_within(object, levels)?),
    })
}

fn number_value(number: &Number) -> Result<AMQPValue, NotATable> {
    match (number.as_i64(), number.is_u64(), number.as_f64()) {
        (Some(whole), _, _) => Ok(AMQPValue::LongLongInt(whole)),
        (None, false, Some(fraction)) => Ok(AMQPValue::Double(fraction)),
        _ => Err(NotATable::BigNumber),
    }
}

/// How many values a text of JSON has at most: what does not fit into memory is found out without reading it.
pub fn values_at_most(text: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for octet in text {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::field_table::table_depth;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_json_can_say_comes_back_equal() {
        let arguments = json!({
            "x-max-length": 10, "x-dead-letter-exchange": "dlx", "on": true, "ratio": 0.5, "none": null,
            "list": [1, "two", {"three": []}], "negative": -9_223_372_036_854_775_808_i64
        });
        let table = table_from_json(&object(arguments.clone())).unwrap();
        assert_eq!(table.inner().get("x-max-length"), Some(&AMQPValue::LongLongInt(10)));
        assert_eq!(table_json(&table), arguments);
    }

    #[test]
    fn what_amqp_cannot_say_is_refused() {
        let mut nested = json!({});
        for _ in 1..TABLE_DEPTH_MAX {
            nested = json!({ "in": nested });
        }
        let deepest = table_from_json(&object(nested.clone())).unwrap();
        assert_eq!(table_depth(&deepest), TABLE_DEPTH_MAX);
        assert_eq!(
            table_from_json(&object(json!({ "in": nested }))),
            Err(NotATable::TooDeep)
        );
        let long = object(json!({ "k".repeat(256): 1 }));
        assert_eq!(table_from_json(&long), Err(NotATable::LongKey));
        let big = object(json!({ "k": u64::MAX }));
        assert_eq!(table_from_json(&big), Err(NotATable::BigNumber));
    }

    #[test]
    fn values_are_counted_outside_of_texts() {
        for (text, values) in [
            ("", 1),
            ("7", 1),
            ("[]", 2),
            ("[1,2,3]", 4),
            (r#"{"a":1,"b":[2,{}]}"#, 6),
            (r#"["[,{","\"[,",1]"#, 4),
            (r#"["\\",[1]]"#, 4),
        ] {
            assert_eq!(values_at_most(text.as_bytes()), values, "{text}");
        }
    }
}
