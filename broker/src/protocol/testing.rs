//! Random protocol values for property tests, and amq-protocol's encoding of them to compare with.

use crate::protocol::method_table::Argument;
use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::generation::gen_field_table;
use amq_protocol::types::{AMQPValue, DecimalValue, FieldTable, ShortString};
use proptest::prelude::*;

/// Short strings, now and then as long as they get.
pub(crate) fn short_strings() -> impl Strategy<Value = ShortString> {
    prop_oneof![
        8 => "[a-zé#*.]{0,12}".prop_map(ShortString::from),
        1 => Just(ShortString::from("x".repeat(255))),
    ]
}

fn values() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        prop::num::f32::NORMAL.prop_map(AMQPValue::Float),
        prop::num::f64::NORMAL.prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        any::<Vec<u8>>().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        any::<Vec<u8>>().prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
            prop::collection::btree_map(short_strings(), inner, 0..4)
                .prop_map(|entries| AMQPValue::FieldTable(entries.into())),
        ]
    })
}

/// Tables with values of every type.
pub(crate) fn tables() -> impl Strategy<Value = FieldTable> {
    prop::collection::btree_map(short_strings(), values(), 0..5).prop_map(FieldTable::from)
}

/// Message properties, each present or absent.
pub(crate) fn properties() -> impl Strategy<Value = BasicProperties> {
    let some = || prop::option::of(short_strings());
    let first = (
        some(),
        some(),
        prop::option::of(tables()),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        some(),
        some(),
    );
    let second = (some(), some(), any::<Option<u64>>(), some(), some(), some(), some());
    (first, second).prop_map(|(first, second)| {
        let mut result = BasicProperties::default();
        macro_rules! set {
            ($($with:ident $value:expr),*) => {
                $(if let Some(value) = $value {
                    result = result.$with(value);
                })*
            };
        }
        set!(with_content_type first.0, with_content_encoding first.1, with_headers first.2);
        set!(with_delivery_mode first.3, with_priority first.4, with_correlation_id first.5, with_reply_to first.6);
        set!(with_expiration second.0, with_message_id second.1, with_timestamp second.2, with_type second.3);
        set!(with_user_id second.4, with_app_id second.5, with_cluster_id second.6);
        result
    })
}

/// The arguments of a method, encoded by their types alone.
pub(crate) fn arguments(types: &'static [Argument]) -> BoxedStrategy<Vec<u8>> {
    types.iter().fold(Just(Vec::new()).boxed(), |before, argument| {
        (before, argument_octets(*argument))
            .prop_map(|(before, octets)| [before, octets].concat())
            .boxed()
    })
}

fn argument_octets(argument: Argument) -> BoxedStrategy<Vec<u8>> {
    match argument {
        Argument::Bits | Argument::Octet => any::<[u8; 1]>().prop_map(Vec::from).boxed(),
        Argument::Short => any::<[u8; 2]>().prop_map(Vec::from).boxed(),
        Argument::Long => any::<[u8; 4]>().prop_map(Vec::from).boxed(),
        Argument::LongLong => any::<[u8; 8]>().prop_map(Vec::from).boxed(),
        Argument::ShortStr => short_strings()
            .prop_map(|text| [&[text.as_str().len() as u8], text.as_str().as_bytes()].concat())
            .boxed(),
        Argument::LongStr => any::<Vec<u8>>()
            .prop_map(|octets| [&(octets.len() as u32).to_be_bytes(), &octets[..]].concat())
            .boxed(),
        Argument::Table => tables().prop_map(|table| generated_table(&table)).boxed(),
    }
}

/// A table as amq-protocol encodes it.
pub(crate) fn generated_table(table: &FieldTable) -> Vec<u8> {
    gen_field_table(table)(WriteContext::from(Vec::new()))
        .unwrap()
        .into_inner()
        .0
}

/// A frame as amq-protocol encodes it.
pub(crate) fn generated(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}

/// A content header's payload as amq-protocol encodes it.
pub(crate) fn generated_header(properties: &BasicProperties, body_size: u64) -> Vec<u8> {
    let header = amq_protocol::frame::AMQPContentHeader {
        class_id: 60,
        body_size,
        properties: properties.clone(),
    };
    let frame = generated(&AMQPFrame::Header(1, header));
    frame[7..frame.len() - 1].to_vec()
}

/// A table `levels` deep: one of tables, or with type `A` one of arrays in the outermost table.
pub(crate) fn nested(type_id: u8, levels: usize) -> Vec<u8> {
    let entry: &[u8] = if type_id == b'F' { &[1, b'k', b'F'] } else { b"A" };
    let step = entry.len() + 4;
    // The first level below the outermost table has a key in either case.
    let key: &[u8] = if type_id == b'F' { &[] } else { &[1, b'k'] };
    let below = levels - 1;
    let mut out = Vec::with_capacity(4 + key.len() + below * step);
    let inside = if below == 0 { 0 } else { key.len() + below * step };
    out.extend_from_slice(&(inside as u32).to_be_bytes());
    for level in (0..below).rev() {
        if level + 1 == below {
            out.extend_from_slice(key);
        }
        out.extend_from_slice(entry);
        out.extend_from_slice(&((level * step) as u32).to_be_bytes());
    }
    out
}
