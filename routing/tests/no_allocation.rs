//! Routing with a warm buffer asks the allocator for nothing, on every path a message can take.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    unsafe_code,
    reason = "a counting allocator can only be had by implementing GlobalAlloc"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use amq_protocol_types::{AMQPValue, FieldTable};
use leveret_routing::{
    Destination, ExchangeKind, ExchangeOptions, HASH_HEADER, HASH_PROPERTY, Routable, RouteBuffer, RoutingTable,
};

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn routing_does_not_allocate_once_the_buffer_is_warm() {
    let (table, headers) = busy_table();
    let kinds = ExchangeKind::ALL.map(ExchangeKind::as_str);
    let exchanges = ["", "chain", "lost", "by header", "by property"]
        .into_iter()
        .chain(kinds);
    let messages = ["queue 7", "a.b.c", "a.a.a.a.b.a", ""].map(|routing_key| Routable {
        routing_key,
        headers: &headers,
    });
    let mut buffer = RouteBuffer::new();
    let mut found = 0;
    let mut route_all = || {
        for exchange in exchanges.clone() {
            for message in &messages {
                buffer.clear();
                table.route(exchange, message, &mut buffer).unwrap();
                found += buffer.queues().len();
            }
        }
    };
    route_all();
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        route_all();
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(before > 1000, "the allocator does not count");
    assert!(found > 101 * 2000, "only {found} queues were found");
}

/// Exchanges of each kind with hundreds of queues, a chain of exchanges and alternates.
fn busy_table() -> (RoutingTable<u32>, FieldTable) {
    let mut table = RoutingTable::new();
    let mut headers = FieldTable::default();
    headers.insert("format".into(), AMQPValue::LongString("pdf".into()));
    let none = FieldTable::default();
    for kind in ExchangeKind::ALL {
        table
            .declare_exchange(kind.as_str(), ExchangeOptions::new(kind))
            .unwrap();
    }
    for (name, argument, value) in [
        ("by header", HASH_HEADER, "format"),
        ("by property", HASH_PROPERTY, "message_id"),
    ] {
        let mut arguments = FieldTable::default();
        arguments.insert(argument.into(), AMQPValue::LongString(value.into()));
        let options = ExchangeOptions::new(ExchangeKind::ConsistentHash);
        table
            .declare_exchange(name, options.with_arguments(arguments).unwrap())
            .unwrap();
    }
    for (name, alternate) in [("chain", None), ("lost", Some("lost too")), ("lost too", None)] {
        let options = ExchangeOptions {
            alternate_exchange: alternate.map(str::to_owned),
            ..ExchangeOptions::new(ExchangeKind::Topic)
        };
        table.declare_exchange(name, options).unwrap();
        let kinds = ExchangeKind::ALL.into_iter().filter(|_| name == "chain");
        for kind in kinds {
            table
                .bind(name, Destination::Exchange(kind.as_str()), "#", &none)
                .unwrap();
        }
    }
    for queue in 0..300 {
        let to = Destination::Queue(queue);
        table.add_queue(&format!("queue {queue}"), queue);
        table.bind("direct", to, "a.b.c", &none).unwrap();
        table.bind("fanout", to, "", &none).unwrap();
        let pattern = ["a.#", "*.b.*", "#.a.#.a.#.b.#", "a.b.c"][queue as usize % 4];
        table.bind("topic", to, pattern, &none).unwrap();
        table.bind("headers", to, "", &headers).unwrap();
        for kind in ["x-modulus-hash", "x-random", "x-local-random", "x-recent-history"] {
            table.bind(kind, to, "", &none).unwrap();
        }
        let weight = (1 + queue % 3).to_string();
        for exchange in ["x-consistent-hash", "by header", "by property"] {
            table.bind(exchange, to, &weight, &none).unwrap();
        }
    }
    (table, headers)
}
