//! Field tables and arrays (section 4.2.5.5 of the specification, with RabbitMQ's types).
//!
//! ```text
//!   table:  length of what follows (4) | entry | entry | ...     entry: key (short string) | type (1) | value
//!   array:  length of what follows (4) | value | value | ...     value: type (1) | value
//! ```
//!
//! RabbitMQ's types differ from the specification's: `s` is a signed 16-bit integer and not a short string, `l` and `L`
//! are both signed 64-bit integers, `x` is a byte array. A slice called a *table* here includes its four octets of length.
//!
//! Decoding with `amq-protocol` recurses once per level of nesting, keeps the last of several equal keys, sorts the
//! keys, and turns `U` into `s` and `L` into `l` when encoding again. Therefore [`check_table`] goes first, and a table
//! that need not be changed is passed on as it came.

use crate::protocol::error::{DecodeCause, DecodeError};
use crate::protocol::wire::{Reader, put_longstr, put_shortstr, put_u16, put_u32, put_u64};
use amq_protocol::types::{AMQPValue, FieldTable, parsing};

/// Deepest nesting of tables and arrays, the outermost one counted.
pub const TABLE_DEPTH_MAX: usize = 100;

/// Octets of a table's length.
const LENGTH_LEN: usize = 4;

/// Checks that `table` is exactly one well-formed table: lengths, types, UTF-8 of the keys, and depth.
/// Takes time in proportion to the length, and no stack.
pub fn check_table(table: &[u8]) -> Result<(), DecodeCause> {
    let mut reader = Reader::new(table);
    let entries = reader.longstr()?;
    reader.finish()?;
    let mut flat = Reader::new(entries);
    while !flat.rest().is_empty() {
        flat.shortstr()?;
        if skip_value(&mut flat)?.is_some() {
            return Walk::over(entries).check();
        }
    }
    Ok(())
}

/// Decodes a table, which must fill the slice.
pub fn decode_table(table: &[u8]) -> Result<FieldTable, DecodeError> {
    check_table(table).map_err(|cause| cause.in_method(0, 0, table))?;
    match parsing::parse_field_table(table) {
        Ok((_, decoded)) => Ok(decoded),
        Err(_) => Err(DecodeCause::Malformed.in_method(0, 0, table)),
    }
}

/// Appends a table, its length first.
///
/// Keys above 255 bytes are cut. A value of type `ShortString`, which has no type on the wire, becomes a long string.
pub fn encode_table(table: &FieldTable, out: &mut Vec<u8>) {
    with_length(out, |out| {
        for (key, value) in table {
            put_shortstr(out, key.as_str());
            encode_value(value, out);
        }
    });
}

fn encode_value(value: &AMQPValue, out: &mut Vec<u8>) {
    out.push(match value {
        AMQPValue::ShortString(_) => b'S',
        // The ids are all ASCII.
        other => u8::try_from(other.get_type().get_id()).unwrap_or(b'V'),
    });
    match value {
        AMQPValue::Boolean(value) => out.push(u8::from(*value)),
        AMQPValue::ShortShortInt(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::ShortShortUInt(value) => out.push(*value),
        AMQPValue::ShortInt(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::ShortUInt(value) => put_u16(out, *value),
        AMQPValue::LongInt(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::LongUInt(value) => put_u32(out, *value),
        AMQPValue::LongLongInt(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::Float(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::Double(value) => out.extend_from_slice(&value.to_be_bytes()),
        AMQPValue::DecimalValue(value) => {
            out.push(value.scale);
            put_u32(out, value.value);
        }
        AMQPValue::ShortString(value) => put_longstr(out, value.as_str().as_bytes()),
        AMQPValue::LongString(value) => put_longstr(out, value.as_bytes()),
        AMQPValue::FieldArray(values) => with_length(out, |out| {
            values.as_slice().iter().for_each(|value| encode_value(value, out));
        }),
        AMQPValue::Timestamp(value) => put_u64(out, *value),
        AMQPValue::FieldTable(table) => encode_table(table, out),
        AMQPValue::ByteArray(value) => put_longstr(out, value.as_slice()),
        AMQPValue::Void => {}
    }
}

/// Appends what `write` appends, preceded by its length.
pub(super) fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    write(out);
    let length = out.len() - at - LENGTH_LEN;
    if let Some(slot) = out.get_mut(at..at + LENGTH_LEN) {
        slot.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// The octets a value of this type takes after its type octet, for types of a fixed size.
const fn fixed_len(type_id: u8) -> Option<usize> {
    match type_id {
        b'V' => Some(0),
        b't' | b'b' | b'B' => Some(1),
        b's' | b'U' | b'u' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'l' | b'L' | b'd' | b'T' => Some(8),
        _ => None,
    }
}

/// A walk over a table without recursion: the ends of the open tables and arrays are its stack.
struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where each open table or array ends; the first `depth` are in use.
    ends: [usize; TABLE_DEPTH_MAX],
    /// Bit n says that level n is a table, whose values have keys.
    tables: u128,
    depth: usize,
}

impl<'a> Walk<'a> {
    /// A walk over a table's entries.
    fn over(entries: &'a [u8]) -> Walk<'a> {
        let mut ends = [0; TABLE_DEPTH_MAX];
        if let Some(end) = ends.first_mut() {
            *end = entries.len();
        }
        Walk {
            bytes: entries,
            position: 0,
            ends,
            tables: 1,
            depth: 1,
        }
    }

    fn check(mut self) -> Result<(), DecodeCause> {
        while let Some(top) = self.depth.checked_sub(1) {
            let end = self.ends.get(top).copied().unwrap_or_default();
            if self.position == end {
                self.depth = top;
                continue;
            }
            let is_table = self.tables & (1 << top) != 0;
            // What a value claims must lie within the innermost table or array around it.
            let open = self.bytes.get(self.position..end).ok_or(DecodeCause::Malformed)?;
            let mut reader = Reader::new(open);
            if is_table {
                reader.shortstr()?;
            }
            let nested = skip_value(&mut reader)?;
            self.position = end - reader.rest().len();
            if let Some(nested) = nested {
                self.open(nested)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, nested: Nested) -> Result<(), DecodeCause> {
        let slot = self.ends.get_mut(self.depth).ok_or(DecodeCause::TableTooDeep)?;
        *slot = self.position + nested.len;
        let bit = 1 << self.depth;
        self.tables = if nested.is_table {
            self.tables | bit
        } else {
            self.tables & !bit
        };
        self.depth += 1;
        Ok(())
    }
}

/// A table or array whose length has been read and whose contents follow.
struct Nested {
    is_table: bool,
    len: usize,
}

/// Reads a type and its value; of a table or array only the length, which must fit.
fn skip_value(reader: &mut Reader<'_>) -> Result<Option<Nested>, DecodeCause> {
    let type_id = reader.u8()?;
    match type_id {
        b'S' | b'x' => reader.longstr().map(|_| None),
        b'A' | b'F' => {
            let len = reader.u32()? as usize;
            if len > reader.rest().len() {
                return Err(DecodeCause::Malformed);
            }
            Ok(Some(Nested {
                is_table: type_id == b'F',
                len,
            }))
        }
        _ => {
            let len = fixed_len(type_id).ok_or(DecodeCause::Malformed)?;
            reader.octets(len).map(|_| None)
        }
    }
}

/// One entry of an undecoded table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// The entry's key.
    pub key: &'a str,
    /// The type octet, for example `S`.
    pub type_id: u8,
    /// The value after its type octet, any length of its own included.
    pub value: &'a [u8],
    /// The whole entry as it lies on the wire.
    pub octets: &'a [u8],
}

/// The entries of an undecoded table in their order on the wire, nested ones unopened. Ends early where the table
/// is malformed, so check the table first.
pub fn entries(table: &[u8]) -> impl Iterator<Item = RawEntry<'_>> {
    let mut reader = Reader::new(Reader::new(table).longstr().unwrap_or_default());
    std::iter::from_fn(move || next_entry(&mut reader).ok())
}

fn next_entry<'a>(reader: &mut Reader<'a>) -> Result<RawEntry<'a>, DecodeCause> {
    let all = reader.rest();
    let key = reader.shortstr()?;
    let mut value = *reader;
    let type_id = value.u8()?;
    let before = value.rest();
    if let Some(nested) = skip_value(reader)? {
        reader.octets(nested.len)?;
    }
    let after = reader.rest().len();
    Ok(RawEntry {
        key,
        type_id,
        value: before.get(..before.len() - after).unwrap_or_default(),
        octets: all.get(..all.len() - after).unwrap_or_default(),
    })
}

/// The table without the entries of this key, all other octets untouched. Nothing if it has none.
pub fn without_key(table: &[u8], key: &str) -> Option<Vec<u8>> {
    entries(table).find(|entry| entry.key == key)?;
    let mut out = Vec::with_capacity(table.len());
    with_length(&mut out, |out| {
        for entry in entries(table).filter(|entry| entry.key != key) {
            out.extend_from_slice(entry.octets);
        }
    });
    Some(out)
}

/// The table with this key set to a signed 64-bit integer, all other octets untouched.
pub fn with_long(table: &[u8], key: &str, value: i64) -> Vec<u8> {
    with_entry(table, key, b'l', |out| out.extend_from_slice(&value.to_be_bytes()))
}

/// The table with this key set to a long string, all other octets untouched.
pub fn with_longstr(table: &[u8], key: &str, value: &str) -> Vec<u8> {
    with_entry(table, key, b'S', |out| {
        with_length(out, |out| out.extend_from_slice(value.as_bytes()));
    })
}

fn with_entry(table: &[u8], key: &str, type_id: u8, put_value: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(table.len() + 64);
    with_length(&mut out, |out| {
        for entry in entries(table).filter(|entry| entry.key != key) {
            out.extend_from_slice(entry.octets);
        }
        put_shortstr(out, key);
        out.push(type_id);
        put_value(out);
    });
    out
}

/// Depth of a decoded table as [`TABLE_DEPTH_MAX`] counts it. Tables that come from elsewhere than the wire, such as
/// JSON, must be measured before they are stored or sent.
pub fn table_depth(table: &FieldTable) -> usize {
    1 + table
        .into_iter()
        .map(|(_, value)| value_depth(value))
        .max()
        .unwrap_or(0)
}

fn value_depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldTable(table) => table_depth(table),
        AMQPValue::FieldArray(values) => 1 + values.as_slice().iter().map(value_depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{generated_table, nested, tables};
    use proptest::prelude::*;

    #[test]
    fn a_key_is_set_to_an_integer_and_nothing_else_changes() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::LongUInt(7));
        table.insert("x".into(), AMQPValue::LongInt(5));
        let mut encoded = Vec::new();
        encode_table(&table, &mut encoded);
        let changed = decode_table(&with_long(&encoded, "x", -5)).unwrap();
        table.insert("x".into(), AMQPValue::LongLongInt(-5));
        assert_eq!(changed, table);
    }

    fn table_of(entries: &[u8]) -> Vec<u8> {
        let mut table = (entries.len() as u32).to_be_bytes().to_vec();
        table.extend_from_slice(entries);
        table
    }

    #[test]
    fn every_type_of_rabbitmq_is_accepted_and_no_other() {
        let mut lengths = [None; 256];
        for (type_id, len) in b"tbBsUuIilLfdDTV"
            .iter()
            .zip([1, 1, 1, 2, 2, 2, 4, 4, 8, 8, 4, 8, 5, 8, 0])
        {
            lengths[usize::from(*type_id)] = Some(len);
        }
        for type_id in b"SAFx" {
            lengths[usize::from(*type_id)] = Some(4);
        }
        for type_id in 0..=255_u8 {
            for len in 0..10 {
                let mut entry = vec![1, b'k', type_id];
                entry.resize(3 + len, 0);
                let table = table_of(&entry);
                let expected = lengths[usize::from(type_id)] == Some(len);
                assert_eq!(
                    check_table(&table).is_ok(),
                    expected,
                    "type {type_id} with {len} octets"
                );
                assert_eq!(decode_table(&table).is_ok(), expected);
            }
        }
    }

    #[test]
    fn lengths_that_leave_their_table_are_malformed() {
        for entries in [
            // A long string, an array and a table that reach beyond the end.
            &[1, b'k', b'S', 0, 0, 0, 1][..],
            &[1, b'k', b'A', 0, 0, 0, 1],
            &[1, b'k', b'F', 255, 255, 255, 255],
            // A table whose entry reaches into what follows the table.
            &[1, b'k', b'F', 0, 0, 0, 3, 1, b'x', b't', 1],
            // An array whose value does.
            &[1, b'k', b'A', 0, 0, 0, 1, b't', 1],
            // A key that does, and a key without a value.
            &[200, b'k'],
            &[1, b'k'],
        ] {
            assert_eq!(
                check_table(&table_of(entries)),
                Err(DecodeCause::Malformed),
                "{entries:?}"
            );
        }
        assert_eq!(check_table(&[0, 0, 0]), Err(DecodeCause::Malformed));
        assert_eq!(check_table(&[0, 0, 0, 0, 0]), Err(DecodeCause::Malformed));
        assert_eq!(check_table(&[0, 0, 0, 0]), Ok(()));
    }

    #[test]
    fn keys_must_be_utf_8_and_strings_need_not() {
        assert_eq!(check_table(&table_of(&[1, 0xFF, b'V'])), Err(DecodeCause::InvalidUtf8));
        let table = table_of(&[1, b'k', b'S', 0, 0, 0, 1, 0xFF]);
        let decoded = decode_table(&table).unwrap();
        assert_eq!(decoded.inner()["k"], AMQPValue::LongString(vec![0xFF].into()));
    }

    #[test]
    fn a_hundred_levels_are_accepted_and_one_more_is_not() {
        for type_id in [b'F', b'A'] {
            assert_eq!(check_table(&nested(type_id, 100)), Ok(()));
            assert_eq!(check_table(&nested(type_id, 101)), Err(DecodeCause::TableTooDeep));
        }
        let decoded = decode_table(&nested(b'F', 100)).unwrap();
        assert_eq!(table_depth(&decoded), 100);
        assert_eq!(table_depth(&decode_table(&nested(b'A', 100)).unwrap()), 100);
    }

    #[test]
    fn depth_counts_nesting_and_not_siblings() {
        let mut entries = Vec::new();
        for _ in 0..1000 {
            entries.extend_from_slice(&[1, b'k', b'F', 0, 0, 0, 9, 1, b'a', b'A', 0, 0, 0, 2, b't', 1]);
        }
        assert_eq!(check_table(&table_of(&entries)), Ok(()));
    }

    #[test]
    fn entries_are_listed_in_wire_order_with_their_octets() {
        let octets = [
            1, b'z', b't', 1, 1, b'a', b'S', 0, 0, 0, 1, b'!', 1, b'z', b'A', 0, 0, 0, 1, b'V',
        ];
        let table = table_of(&octets);
        let found: Vec<_> = entries(&table).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0],
            RawEntry {
                key: "z",
                type_id: b't',
                value: &[1],
                octets: &octets[..4]
            }
        );
        assert_eq!(found[1].value, &[0, 0, 0, 1, b'!']);
        assert_eq!(
            (found[2].key, found[2].type_id, found[2].octets),
            ("z", b'A', &octets[12..])
        );
        assert_eq!(entries(&[]).count(), 0);
    }

    #[test]
    fn a_key_is_removed_with_all_its_duplicates_and_nothing_else() {
        let table = table_of(&[1, b'z', b't', 1, 1, b'a', b'U', 0, 7, 1, b'z', b'V']);
        assert_eq!(without_key(&table, "z"), Some(table_of(&[1, b'a', b'U', 0, 7])));
        assert_eq!(without_key(&table, "y"), None);
    }

    #[test]
    fn a_short_string_value_is_encoded_as_a_long_string() {
        let mut table = FieldTable::default();
        table.insert("k".into(), AMQPValue::ShortString("v".into()));
        let mut out = Vec::new();
        encode_table(&table, &mut out);
        assert_eq!(out, table_of(&[1, b'k', b'S', 0, 0, 0, 1, b'v']));
    }

    proptest! {
        #[test]
        fn tables_are_encoded_as_amq_protocol_encodes_them(table in tables()) {
            let mut out = vec![9];
            encode_table(&table, &mut out);
            prop_assert_eq!(&out[1..], &generated_table(&table)[..]);
            prop_assert_eq!(decode_table(&out[1..]).unwrap(), table);
        }

        #[test]
        fn removing_a_key_equals_removing_it_from_the_decoded_table(table in tables()) {
            let encoded = generated_table(&table);
            for (key, _) in &table {
                let mut without = table.inner().clone();
                without.remove(key);
                prop_assert_eq!(without_key(&encoded, key.as_str()), Some(generated_table(&without.into())));
            }
        }

        #[test]
        fn a_truncated_table_is_refused(table in tables(), end: prop::sample::Index) {
            let encoded = generated_table(&table);
            prop_assert!(check_table(&encoded[..end.index(encoded.len())]).is_err());
        }

        #[test]
        fn what_amq_protocol_accepts_and_what_the_check_accepts_is_the_same(
            table in tables(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut encoded = generated_table(&table);
            for (at, octet) in changes {
                let at = at.index(encoded.len());
                encoded[at] = octet;
            }
            let accepted = matches!(parsing::parse_field_table(&encoded[..]), Ok((rest, _)) if rest.is_empty());
            prop_assert_eq!(check_table(&encoded).is_ok(), accepted);
            let _ = entries(&encoded).count();
            let _ = without_key(&encoded, "a");
        }

        #[test]
        fn checking_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = check_table(&bytes);
            let _ = check_table(&table_of(&bytes));
            let _ = decode_table(&table_of(&bytes));
            let _ = entries(&table_of(&bytes)).count();
        }
    }
}
