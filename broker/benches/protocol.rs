//! What the hot frames cost: reading a publish, writing a delivery, confirms, settlements, and the message in between.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use leveret::protocol::content::only_delivery_mode;
use leveret::protocol::hot::{parse_ack, parse_whole_publish, write_ack, write_deliver};
use leveret::protocol::{FieldTable, Message, Properties, field_table, next_frame, wire};
use std::hint::black_box;

const FRAME_MAX: u32 = 131_072;
/// `delivery_mode` alone, as most clients send.
const PLAIN: &[u8] = &[0x10, 0, 2];

/// Property bytes with a content type, three headers, delivery mode, message id, timestamp and type.
fn rich_properties() -> Vec<u8> {
    let mut headers = FieldTable::default();
    for (key, value) in [("trace-id", "5f2c8a9d"), ("tenant", "acme"), ("attempt", "first")] {
        headers.insert(key.into(), amq_protocol::types::AMQPValue::LongString(value.into()));
    }
    let mut out = vec![0b1011_0000, 0b1110_0000];
    wire::put_shortstr(&mut out, "application/json");
    field_table::encode_table(&headers, &mut out);
    out.push(2);
    wire::put_shortstr(&mut out, "4e8b1e2c-7d0e-4f57-9a64-5f0f1f3b8c11");
    wire::put_u64(&mut out, 1_750_000_000);
    wire::put_shortstr(&mut out, "order.created");
    out
}

fn header(properties: &[u8], body_size: usize) -> Vec<u8> {
    let mut out = vec![0, 60, 0, 0];
    wire::put_u64(&mut out, body_size as u64);
    out.extend_from_slice(properties);
    out
}

fn frame(frame_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![frame_type, 0, 1];
    wire::put_longstr(&mut out, payload);
    out.push(0xCE);
    out
}

fn names() -> Vec<u8> {
    wire::exchange_and_key("amq.topic", "orders.eu.created").unwrap_or_default()
}

fn publish(properties: &[u8], body_size: usize) -> Vec<u8> {
    let method = [&[0, 60, 0, 40, 0, 0][..], &names(), &[0]].concat();
    [
        frame(1, &method),
        frame(2, &header(properties, body_size)),
        frame(3, &vec![7; body_size]),
    ]
    .concat()
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(1));
    let rich = rich_properties();
    for (name, input) in [
        ("publish_100", publish(PLAIN, 100)),
        ("publish_100_rich", publish(&rich, 100)),
        ("publish_4096", publish(PLAIN, 4096)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| parse_whole_publish(black_box(&input), FRAME_MAX));
        });
    }
    let input = publish(PLAIN, 100);
    group.bench_function("publish_100_into_message", |bencher| {
        bencher.iter(|| {
            let whole = parse_whole_publish(black_box(&input), FRAME_MAX)?;
            only_delivery_mode(whole.header.properties)?;
            let names = whole.publish.exchange_and_key;
            Some(Message::new(names, whole.header.payload, whole.body))
        });
    });
    let mut ack = Vec::new();
    write_ack(&mut ack, 1, 77, false);
    group.bench_function("ack", |bencher| {
        bencher.iter(|| {
            let frame = next_frame(black_box(&ack), FRAME_MAX).ok()??;
            parse_ack(frame.payload).ok()
        });
    });
    group.bench_function("properties_rich", |bencher| {
        bencher.iter(|| Properties::parse(black_box(&rich)));
    });
    group.bench_function("properties_rich_and_headers", |bencher| {
        bencher.iter(|| Properties::parse(black_box(&rich)).and_then(|it| it.check_headers()));
    });
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    let consumer_tag = wire::shortstr("ctag1.9f86d081").unwrap_or_default();
    let rich = rich_properties();
    for (name, properties, body_size) in [
        ("deliver_100", PLAIN, 100),
        ("deliver_100_rich", &rich[..], 100),
        ("deliver_4096", PLAIN, 4096),
    ] {
        let header = header(properties, body_size);
        let message = Message::new(&names(), &header, &vec![7; body_size]);
        let mut out = Vec::with_capacity(256 * 1024);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                if out.len() > 200 * 1024 {
                    out.clear();
                }
                write_deliver(
                    &mut out,
                    1,
                    &consumer_tag,
                    black_box(77),
                    false,
                    &message.view(),
                    FRAME_MAX,
                );
            });
        });
    }
    let mut out = Vec::with_capacity(256 * 1024);
    group.bench_function("ack", |bencher| {
        bencher.iter(|| {
            if out.len() > 200 * 1024 {
                out.clear();
            }
            write_ack(&mut out, 1, black_box(77), false);
        });
    });
    group.finish();
}

fn tables(criterion: &mut Criterion) {
    let rich = rich_properties();
    let headers = Properties::parse(&rich)
        .ok()
        .and_then(|it| it.headers)
        .unwrap_or_default();
    let mut group = criterion.benchmark_group("table");
    group.bench_function("check", |bencher| {
        bencher.iter(|| field_table::check_table(black_box(headers)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter_batched(|| headers, field_table::decode_table, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, reading, writing, tables);
criterion_main!(benches);
