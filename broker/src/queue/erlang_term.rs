//! Field values as RabbitMQ prints them in reply texts, as Erlang terms.
//!
//! Clients show these texts and some compare them, so the broker keeps the form (ERRORS rules 7 and 8).

use std::fmt::Write as _;

use amq_protocol::types::AMQPValue;
use leveret_routing::type_name;

/// A value as a person reads it: strings bare, everything else as a term.
pub(super) fn plain(value: &AMQPValue) -> String {
    match bytes_of(value) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => term(value),
    }
}

/// A value as an Erlang term. Integers of every width print alike, floating-point numbers always differently from
/// integers, so two values are equal to RabbitMQ when their terms are equal.
pub(super) fn term(value: &AMQPValue) -> String {
    let mut text = String::new();
    write_term(&mut text, value);
    text
}

/// A quoted string as Erlang prints it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn write_term(out: &mut String, value: &AMQPValue) {
    if let Some(bytes) = bytes_of(value) {
        out.push_str(&format!("<<\"{}\">>", escaped(&String::from_utf8_lossy(bytes))));
        return;
    }
    // Writing to a string cannot fail.
    let _ = match value {
        AMQPValue::Boolean(it) => write!(out, "{it}"),
        AMQPValue::ShortShortInt(it) => write!(out, "{it}"),
        AMQPValue::ShortShortUInt(it) => write!(out, "{it}"),
        AMQPValue::ShortInt(it) => write!(out, "{it}"),
        AMQPValue::ShortUInt(it) => write!(out, "{it}"),
        AMQPValue::LongInt(it) => write!(out, "{it}"),
        AMQPValue::LongUInt(it) => write!(out, "{it}"),
        AMQPValue::LongLongInt(it) => write!(out, "{it}"),
        AMQPValue::Timestamp(it) => write!(out, "{it}"),
        AMQPValue::Float(it) => write!(out, "{:?}", f64::from(*it)),
        AMQPValue::Double(it) => write!(out, "{it:?}"),
        AMQPValue::DecimalValue(it) => write!(out, "{{{},{}}}", it.scale, it.value),
        AMQPValue::Void => write!(out, "undefined"),
        AMQPValue::FieldArray(items) => {
            write_list(out, items.as_slice(), |out, item| {
                out.push_str(&format!("{{{},", type_name(item)));
                write_term(out, item);
                out.push('}');
            });
            Ok(())
        }
        AMQPValue::FieldTable(table) => {
            write_list(out, table.inner(), |out, (key, item)| {
                out.push_str(&format!("{{<<\"{}\">>,{},", escaped(key.as_str()), type_name(item)));
                write_term(out, item);
                out.push('}');
            });
            Ok(())
        }
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) | AMQPValue::ByteArray(_) => Ok(()),
    };
}

fn write_list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write_item: impl FnMut(&mut String, T)) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_item(out, item);
    }
    out.push(']');
}

fn bytes_of(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::{FieldArray, FieldTable};

    use super::*;

    #[test]
    fn integers_of_every_width_print_alike() {
        for value in [
            AMQPValue::ShortShortInt(7),
            AMQPValue::ShortUInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::LongLongInt(7),
        ] {
            assert_eq!(term(&value), "7");
        }
        assert_eq!(term(&AMQPValue::Double(7.0)), "7.0");
        assert_eq!(term(&AMQPValue::Float(7.5)), "7.5");
    }

    #[test]
    fn strings_are_bare_alone_and_binaries_inside() {
        let text = AMQPValue::LongString("say \"hi\"".into());
        assert_eq!(plain(&text), "say \"hi\"");
        assert_eq!(term(&text), r#"<<"say \"hi\"">>"#);
    }

    #[test]
    fn tables_and_arrays_print_with_the_types_of_their_items() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::Boolean(true));
        table.insert(
            "b".into(),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongInt(1), AMQPValue::Void])),
        );
        assert_eq!(
            term(&AMQPValue::FieldTable(table)),
            r#"[{<<"a">>,bool,true},{<<"b">>,array,[{signedint,1},{void,undefined}]}]"#
        );
    }
}
