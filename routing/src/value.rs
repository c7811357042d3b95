//! AMQP field values: their names, when two are equal, and how RabbitMQ's error texts print them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    mem::discriminant,
};

use amq_protocol_types::{AMQPValue, FieldTable};

/// The word by which RabbitMQ's error texts name the type of a value.
#[must_use]
pub fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// Whether two values are equal as a headers exchange sees it.
///
/// Integers of every width and timestamps compare by value, so do floats and doubles, so do
/// strings and byte arrays. An integer never equals a float, where RabbitMQ says `1 == 1.0`.
/// Arrays and tables compare element by element under the same rule; a NaN equals nothing.
#[must_use]
pub fn values_equal(left: &AMQPValue, right: &AMQPValue) -> bool {
    if let (Some(left), Some(right)) = (bytes(left), bytes(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (float(left), float(right)) {
        return left == right;
    }
    match (left, right) {
        (AMQPValue::FieldArray(left), AMQPValue::FieldArray(right)) => {
            let (left, right) = (left.as_slice(), right.as_slice());
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| values_equal(l, r))
        }
        (AMQPValue::FieldTable(left), AMQPValue::FieldTable(right)) => same_entries(left, right, values_equal),
        // Booleans, decimals and voids equal their own kind only.
        _ => left == right,
    }
}

/// Whether two tables are the same in keys, types and bits: the identity of a binding's arguments.
pub(crate) fn same_table(left: &FieldTable, right: &FieldTable) -> bool {
    same_entries(left, right, same_value)
}

/// Hashes a value so that values which are [`values_equal`] (or the same) hash alike.
pub(crate) fn hash_value<H: Hasher>(value: &AMQPValue, state: &mut H) {
    if let Some(bytes) = bytes(value) {
        return bytes.hash(state);
    }
    if let Some(integer) = integer(value) {
        return state.write_u64(integer as u64);
    }
    if let Some(float) = float(value) {
        // Adding zero turns -0.0 into 0.0, which it equals.
        return state.write_u64((float + 0.0).to_bits());
    }
    match value {
        AMQPValue::Boolean(flag) => flag.hash(state),
        AMQPValue::DecimalValue(decimal) => decimal.hash(state),
        AMQPValue::FieldArray(array) => {
            state.write_usize(array.as_slice().len());
            array.as_slice().iter().for_each(|item| hash_value(item, state));
        }
        AMQPValue::FieldTable(table) => hash_table(table, state),
        _ => state.write_u8(0),
    }
}

/// Hashes a table's keys and values, in the order of keys.
pub(crate) fn hash_table<H: Hasher>(table: &FieldTable, state: &mut H) {
    state.write_usize(table.inner().len());
    for (key, value) in table {
        key.hash(state);
        hash_value(value, state);
    }
}

/// A value as RabbitMQ's texts about arguments quote it: strings as they are, the rest as [`Term`].
#[must_use]
pub fn value_text(value: &AMQPValue) -> String {
    match bytes(value) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => Term(value).to_string(),
    }
}

/// Prints a value as the Erlang term that RabbitMQ's error texts show: `<<"text">>`, `1`, `true`,
/// `[{<<"key">>,longstr,<<"value">>}]`.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a>(pub &'a AMQPValue);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bytes) = bytes(self.0) {
            return write_binary(bytes, f);
        }
        if let Some(integer) = integer(self.0) {
            return write!(f, "{integer}");
        }
        if let Some(float) = float(self.0) {
            return write_float(float, f);
        }
        match self.0 {
            AMQPValue::Boolean(flag) => write!(f, "{flag}"),
            AMQPValue::DecimalValue(decimal) => {
                write!(f, "{{{},{}}}", decimal.scale, decimal.value)
            }
            AMQPValue::FieldArray(array) => write_list(f, array.as_slice(), |item, f| {
                write!(f, "{{{},{}}}", type_name(item), Term(item))
            }),
            AMQPValue::FieldTable(table) => write_list(f, table, |(key, value), f| {
                f.write_str("{")?;
                write_binary(key.as_str().as_bytes(), f)?;
                write!(f, ",{},{}}}", type_name(value), Term(value))
            }),
            _ => f.write_str("undefined"),
        }
    }
}

fn same_entries(left: &FieldTable, right: &FieldTable, same: fn(&AMQPValue, &AMQPValue) -> bool) -> bool {
    left.inner().len() == right.inner().len()
        && left
            .into_iter()
            .zip(right)
            .all(|((left_key, left), (right_key, right))| left_key == right_key && same(left, right))
}

fn same_value(left: &AMQPValue, right: &AMQPValue) -> bool {
    match (left, right) {
        (AMQPValue::Float(left), AMQPValue::Float(right)) => left.to_bits() == right.to_bits(),
        (AMQPValue::Double(left), AMQPValue::Double(right)) => left.to_bits() == right.to_bits(),
        (AMQPValue::FieldArray(left), AMQPValue::FieldArray(right)) => {
            let (left, right) = (left.as_slice(), right.as_slice());
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same_value(l, r))
        }
        (AMQPValue::FieldTable(left), AMQPValue::FieldTable(right)) => same_table(left, right),
        _ => discriminant(left) == discriminant(right) && left == right,
    }
}

fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

pub(crate) fn integer(value: &AMQPValue) -> Option<i128> {
    match *value {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number.into()),
        AMQPValue::Timestamp(seconds) => Some(seconds.into()),
        _ => None,
    }
}

fn float(value: &AMQPValue) -> Option<f64> {
    match *value {
        AMQPValue::Float(number) => Some(number.into()),
        AMQPValue::Double(number) => Some(number),
        _ => None,
    }
}

/// Text that can be printed stands in quotes, anything else as a list of its bytes.
fn write_binary(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = std::str::from_utf8(bytes).ok();
    let Some(text) = text.filter(|text| !text.chars().any(char::is_control)) else {
        f.write_str("<<")?;
        for (index, byte) in bytes.iter().enumerate() {
            write!(f, "{}{byte}", if index == 0 { "" } else { "," })?;
        }
        return f.write_str(">>");
    };
    if text.is_empty() {
        return f.write_str("<<>>");
    }
    let encoding = if text.is_ascii() { "" } else { "/utf8" };
    write!(
        f,
        "<<\"{}\"{encoding}>>",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    )
}

fn write_float(float: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = format!("{float:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            write!(f, "{mantissa}.0e{exponent}")
        }
        _ => f.write_str(&text),
    }
}

fn write_list<'f, I: IntoIterator>(
    f: &mut fmt::Formatter<'f>,
    items: I,
    write_item: impl Fn(I::Item, &mut fmt::Formatter<'f>) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write_item(item, f)?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use amq_protocol_types::{DecimalValue, FieldArray};
    use foldhash::fast::FixedState;
    use std::hash::BuildHasher;

    use super::*;

    fn samples() -> Vec<AMQPValue> {
        let mut table = FieldTable::default();
        table.insert("k".into(), AMQPValue::LongInt(1));
        let mut wide_table = FieldTable::default();
        wide_table.insert("k".into(), AMQPValue::LongLongInt(1));
        vec![
            AMQPValue::Boolean(true),
            AMQPValue::Boolean(false),
            AMQPValue::ShortShortInt(1),
            AMQPValue::ShortShortUInt(1),
            AMQPValue::ShortInt(1),
            AMQPValue::ShortUInt(1),
            AMQPValue::LongInt(1),
            AMQPValue::LongInt(-1),
            AMQPValue::LongUInt(1),
            AMQPValue::LongLongInt(1),
            AMQPValue::LongLongInt(-1),
            AMQPValue::Timestamp(1),
            AMQPValue::Timestamp(u64::MAX),
            AMQPValue::Float(1.0),
            AMQPValue::Float(0.0),
            AMQPValue::Double(-0.0),
            AMQPValue::Double(1.0),
            AMQPValue::Double(f64::NAN),
            AMQPValue::DecimalValue(DecimalValue { scale: 0, value: 1 }),
            AMQPValue::LongString("1".into()),
            AMQPValue::ShortString("1".into()),
            AMQPValue::ByteArray(b"1".as_slice().into()),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongInt(1)])),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::ShortInt(1)])),
            AMQPValue::FieldTable(table),
            AMQPValue::FieldTable(wide_table),
            AMQPValue::Void,
        ]
    }

    fn hash(value: &AMQPValue) -> u64 {
        let mut state = FixedState::default().build_hasher();
        hash_value(value, &mut state);
        state.finish()
    }

    #[test]
    fn integers_of_every_width_compare_by_value() {
        let ones: Vec<_> = samples()
            .into_iter()
            .filter(|value| integer(value) == Some(1))
            .collect();
        assert_eq!(ones.len(), 8);
        for (left, right) in ones.iter().flat_map(|l| ones.iter().map(move |r| (l, r))) {
            assert!(values_equal(left, right), "{left:?} {right:?}");
        }
        assert!(!values_equal(&AMQPValue::LongInt(-1), &AMQPValue::Timestamp(u64::MAX)));
    }

    #[test]
    fn an_integer_never_equals_a_float_and_a_nan_equals_nothing() {
        assert!(!values_equal(&AMQPValue::LongInt(1), &AMQPValue::Double(1.0)));
        assert!(values_equal(&AMQPValue::Float(1.0), &AMQPValue::Double(1.0)));
        assert!(values_equal(&AMQPValue::Float(0.0), &AMQPValue::Double(-0.0)));
        let nan = AMQPValue::Double(f64::NAN);
        assert!(!values_equal(&nan, &nan));
        assert!(same_value(&nan, &nan));
    }

    #[test]
    fn equality_is_symmetric_and_equal_values_hash_alike() {
        for left in &samples() {
            for right in &samples() {
                let equal = values_equal(left, right);
                assert_eq!(equal, values_equal(right, left), "{left:?} {right:?}");
                if equal || same_value(left, right) {
                    assert_eq!(hash(left), hash(right), "{left:?} {right:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_value_of_the_same_type_and_bits_is_the_same() {
        let samples = samples();
        for (i, left) in samples.iter().enumerate() {
            for (j, right) in samples.iter().enumerate() {
                assert_eq!(same_value(left, right), i == j, "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn terms_print_as_rabbitmq_prints_them() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::LongString("b".into()));
        table.insert("n".into(), AMQPValue::LongInt(-5));
        let array = vec![AMQPValue::Boolean(true), AMQPValue::Double(1e20)];
        for (value, text) in [
            (AMQPValue::LongString("foo".into()), r#"<<"foo">>"#),
            (AMQPValue::LongString(r#"a"\b"#.into()), r#"<<"a\"\\b">>"#),
            (AMQPValue::LongString("größe".into()), r#"<<"größe"/utf8>>"#),
            (AMQPValue::LongString("".into()), "<<>>"),
            (AMQPValue::ByteArray([1, 255].as_slice().into()), "<<1,255>>"),
            (AMQPValue::Double(1.5), "1.5"),
            (AMQPValue::Double(1.0), "1.0"),
            (
                AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 }),
                "{2,314}",
            ),
            (AMQPValue::FieldArray(array.into()), "[{bool,true},{double,1.0e20}]"),
            (
                AMQPValue::FieldTable(table),
                r#"[{<<"a">>,longstr,<<"b">>},{<<"n">>,signedint,-5}]"#,
            ),
            (AMQPValue::Void, "undefined"),
        ] {
            assert_eq!(Term(&value).to_string(), text);
        }
        assert_eq!(value_text(&AMQPValue::LongString("ae".into())), "ae");
        assert_eq!(value_text(&AMQPValue::LongInt(60_000)), "60000");
    }
}
