//! Building frames and tables byte by byte.
//!
//! ```text
//! 0      1         3             7                 7+size
//! +------+---------+-------------+-----------------+----------+
//! | type | channel | size (u32)  | payload         | end 0xCE |
//! +------+---------+-------------+-----------------+----------+
//! ```

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};

pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: u8 = 8;
/// The octet that ends every frame.
pub const END: u8 = 0xCE;

/// The bytes of a well-formed frame.
pub fn encode(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new()))
        .expect("a frame that can be written")
        .write
}

/// A frame of any type with any payload.
pub fn frame_bytes(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(END);
    bytes
}

/// The payload of a method frame.
pub fn method_payload(class_id: u16, method_id: u16, arguments: &[u8]) -> Vec<u8> {
    [&class_id.to_be_bytes(), &method_id.to_be_bytes(), arguments].concat()
}

/// The payload of a content header frame. `properties` holds the flags and what they announce.
pub fn header_payload(class_id: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    [
        &class_id.to_be_bytes()[..],
        &[0, 0],
        &body_size.to_be_bytes(),
        properties,
    ]
    .concat()
}

/// Octets with their number, in one octet, before them.
pub fn short_string(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()], content].concat()
}

/// Octets with their number, in four octets, before them.
pub fn long_string(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes(), content].concat()
}

/// A field table of `entries`, each a name with a value that begins with its type.
pub fn raw_table(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [&short_string(name.as_bytes()), *value].concat())
        .collect();
    long_string(&entries)
}

/// A field table in which `depth` tables are nested: `{a: {a: ... {}}}`. No value type stands before the outermost.
pub fn table_nested(depth: usize) -> Vec<u8> {
    nested(depth, b"\x01aF")
}

/// A field table whose one value is an array of arrays, `depth` deep.
pub fn array_nested(depth: usize) -> Vec<u8> {
    let arrays = nested(depth, b"A");
    raw_table(&[("a", &[b"A", &arrays[..]].concat())])
}

/// `depth` levels inside each other. The sizes must be right at each level, so they are computed from the inside
/// without building the levels one by one.
fn nested(depth: usize, opening: &[u8]) -> Vec<u8> {
    let per_level = opening.len() + 4;
    let mut bytes = Vec::with_capacity(4 + depth * per_level);
    for levels_inside in (1..=depth).rev() {
        bytes.extend_from_slice(&((levels_inside * per_level) as u32).to_be_bytes());
        bytes.extend_from_slice(opening);
    }
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::types::AMQPValue;
    use amq_protocol::types::parsing::parse_field_table;

    #[test]
    fn nested_tables_are_well_formed() {
        let bytes = table_nested(3);
        let (rest, table) = parse_field_table(&bytes[..]).unwrap();
        assert!(rest.is_empty());
        let mut levels = 0;
        let mut innermost = table;
        while let Some(AMQPValue::FieldTable(inside)) = innermost.inner().get("a") {
            levels += 1;
            innermost = inside.clone();
        }
        assert_eq!(levels, 3);
    }

    #[test]
    fn nested_arrays_are_well_formed() {
        let bytes = array_nested(2);
        let (rest, table) = parse_field_table(&bytes[..]).unwrap();
        assert!(rest.is_empty());
        let Some(AMQPValue::FieldArray(outer)) = table.inner().get("a") else {
            panic!("no array in {table:?}")
        };
        let [AMQPValue::FieldArray(middle)] = outer.as_slice() else {
            panic!("no array in {outer:?}")
        };
        assert!(matches!(middle.as_slice(), [AMQPValue::FieldArray(inner)] if inner.as_slice().is_empty()));
    }
}
