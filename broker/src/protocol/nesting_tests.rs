//! Deeply nested tables, wherever a client can put them. The tests run in whatever profile the suite is built with; a
//! debug build has the largest stack frames and so the smallest margin.

use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::error::{AmqpError, DecodeCause};
use crate::protocol::field_table::decode_table;
use crate::protocol::method::{decode_method, method_name};
use crate::protocol::method_table::{ALL_IDS, Argument, spec};
use crate::protocol::testing::nested;

/// Far less than any thread has.
const SMALL_STACK_BYTES: usize = 128 * 1024;
/// Half of what the threads of a tokio runtime have.
const WORKER_STACK_BYTES: usize = 1024 * 1024;

fn on_a_thread(stack_bytes: usize, run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(stack_bytes)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

/// A payload of the method with empty arguments, except for its table.
fn method_with(class_id: u16, method_id: u16, table: &[u8]) -> Vec<u8> {
    let mut payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
    for argument in spec(class_id, method_id).unwrap().arguments {
        match argument {
            Argument::Bits | Argument::Octet | Argument::ShortStr => payload.push(0),
            Argument::Short => payload.extend_from_slice(&[0; 2]),
            Argument::Long | Argument::LongStr => payload.extend_from_slice(&[0; 4]),
            Argument::LongLong => payload.extend_from_slice(&[0; 8]),
            Argument::Table => payload.extend_from_slice(table),
        }
    }
    payload
}

fn methods_with_a_table() -> Vec<(u16, u16)> {
    let has_table =
        |&(class_id, method_id): &(u16, u16)| spec(class_id, method_id).unwrap().arguments.contains(&Argument::Table);
    ALL_IDS.iter().copied().filter(has_table).collect()
}

#[test]
fn every_method_with_a_table_is_in_the_tests_below() {
    let names: Vec<_> = methods_with_a_table()
        .into_iter()
        .map(|(class, method)| method_name(class, method))
        .collect();
    let expected = [
        "connection.start",
        "connection.start-ok",
        "exchange.declare",
        "exchange.bind",
        "exchange.unbind",
        "queue.declare",
        "queue.bind",
        "queue.unbind",
        "basic.consume",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_hundred_levels_are_decoded_on_every_method_that_takes_a_table() {
    on_a_thread(WORKER_STACK_BYTES, || {
        for (class_id, method_id) in methods_with_a_table() {
            for type_id in [b'F', b'A'] {
                let payload = method_with(class_id, method_id, &nested(type_id, 100));
                assert!(decode_method(&payload).is_ok(), "{}", method_name(class_id, method_id));
            }
        }
    });
}

#[test]
fn more_levels_are_refused_on_every_method_that_takes_a_table() {
    on_a_thread(SMALL_STACK_BYTES, || {
        for (class_id, method_id) in methods_with_a_table() {
            for type_id in [b'F', b'A'] {
                for levels in [101, 1_000, 100_000] {
                    let payload = method_with(class_id, method_id, &nested(type_id, levels));
                    let error = decode_method(&payload).unwrap_err();
                    assert_eq!(error.cause, DecodeCause::TableTooDeep);
                    let error = AmqpError::from(error);
                    assert_eq!(
                        error.reply_text(),
                        "FRAME_ERROR - field table nested deeper than 100 levels"
                    );
                    assert_eq!((error.class_id, error.method_id), (class_id, method_id));
                }
            }
        }
    });
}

#[test]
fn message_headers_are_refused_beyond_a_hundred_levels() {
    let header_with = |table: &[u8]| [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0], table].concat();
    on_a_thread(SMALL_STACK_BYTES, move || {
        for type_id in [b'F', b'A'] {
            for (levels, expected) in [
                (100, Ok(())),
                (101, Err(DecodeCause::TableTooDeep)),
                (100_000, Err(DecodeCause::TableTooDeep)),
            ] {
                let payload = header_with(&nested(type_id, levels));
                let header = ContentHeader::parse(&payload).unwrap();
                assert_eq!(Properties::parse(header.properties).unwrap().check_headers(), expected);
            }
        }
    });
}

#[test]
fn a_table_by_itself_is_refused_without_using_stack() {
    on_a_thread(SMALL_STACK_BYTES, || {
        for type_id in [b'F', b'A'] {
            let error = decode_table(&nested(type_id, 100_000)).unwrap_err();
            assert_eq!(error.cause, DecodeCause::TableTooDeep);
        }
    });
}
