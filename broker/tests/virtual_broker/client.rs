//! What a client says: from the words of a script to octets.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange, queue, tx};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};

use super::encoded;
use super::words::{Words, hex, short};

/// The first octets of every client.
pub const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Largest body frame that a client of a script sends; small frames are a script's own business.
const BODY_FRAME_BYTES: usize = 100_000;

/// The octets of one command on one channel.
pub fn octets(number: u16, command: &str, words: &Words) -> Vec<u8> {
    match command {
        "raw" => hex(&[words.at(0)]),
        "frame" => frame(words.number(0), number, &hex(&[words.at(1)])),
        "method" => {
            let ids = [
                words.number::<u16>(0).to_be_bytes(),
                words.number::<u16>(1).to_be_bytes(),
            ]
            .concat();
            frame(1, number, &[ids, hex(&[words.at(2)])].concat())
        }
        "qos" => {
            // By hand, because amq-protocol leaves prefetch_size out.
            let size: u32 = words.value_or("size", 0);
            let arguments = [&size.to_be_bytes()[..], &words.number::<u16>(0).to_be_bytes()].concat();
            frame(
                1,
                number,
                &[&[0, 60, 0, 10], &arguments[..], &[u8::from(words.has("global"))]].concat(),
            )
        }
        "publish" => publish(number, words),
        "publish-method" => method(number, AMQPClass::Basic(publish_method(words))),
        "publish-header" => header(number, words.number(0), properties(words)),
        "publish-body" => frame(3, number, words.at(0).as_bytes()),
        "heartbeat" => frame(8, number, &[]),
        _ => method(number, class(command, words)),
    }
}

fn frame(kind: u8, number: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind], &number.to_be_bytes()[..], &size, payload, &[0xCE]].concat()
}

fn method(number: u16, class: AMQPClass) -> Vec<u8> {
    encoded(&AMQPFrame::Method(number, class))
}

fn class(command: &str, words: &Words) -> AMQPClass {
    let (class, name) = command.split_once('.').unwrap_or(("basic", command));
    match class {
        "connection" => AMQPClass::Connection(connection_method(name, words)),
        "channel" => AMQPClass::Channel(channel_method(name, words)),
        "exchange" => AMQPClass::Exchange(exchange_method(name, words)),
        "queue" => AMQPClass::Queue(queue_method(name, words)),
        "basic" => AMQPClass::Basic(basic_method(name, words)),
        "confirm" => {
            let nowait = words.has("nowait");
            AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait }))
        }
        "tx" => AMQPClass::Tx(match name {
            "select" => tx::AMQPMethod::Select(tx::Select {}),
            "commit" => tx::AMQPMethod::Commit(tx::Commit {}),
            _ => tx::AMQPMethod::Rollback(tx::Rollback {}),
        }),
        _ => panic!("unknown command {command}"),
    }
}

fn connection_method(name: &str, words: &Words) -> connection::AMQPMethod {
    use connection::{AMQPMethod, Close, CloseOk, Open, TuneOk, UpdateSecret};
    match name {
        "start-ok" => AMQPMethod::StartOk(start_ok(words)),
        "tune-ok" => AMQPMethod::TuneOk(TuneOk {
            channel_max: words.value_or("channel_max", 2047),
            frame_max: words.value_or("frame_max", 131_072),
            heartbeat: words.value_or("heartbeat", 0),
        }),
        "open" => AMQPMethod::Open(Open {
            virtual_host: words.short(0),
        }),
        "close" => AMQPMethod::Close(Close {
            reply_code: 200,
            reply_text: short("bye"),
            class_id: 0,
            method_id: 0,
        }),
        "close-ok" => AMQPMethod::CloseOk(CloseOk {}),
        "update-secret" => AMQPMethod::UpdateSecret(UpdateSecret {
            new_secret: words.at(0).into(),
            reason: short("rotation"),
        }),
        _ => panic!("unknown method connection.{name}"),
    }
}

fn start_ok(words: &Words) -> connection::StartOk {
    let mut capabilities = FieldTable::default();
    for name in [
        "authentication_failure_close",
        "consumer_cancel_notify",
        "connection.blocked",
    ] {
        capabilities.insert(short(name), AMQPValue::Boolean(!words.has("no_capabilities")));
    }
    let mut client_properties = words.arguments();
    client_properties.insert(short("capabilities"), AMQPValue::FieldTable(capabilities));
    if let Some(client_id) = words.value("client_id") {
        client_properties.insert(short("client_id"), AMQPValue::LongString(client_id.into()));
    }
    let (user, password) = (
        words.value("user").unwrap_or("guest"),
        words.value("pass").unwrap_or("guest"),
    );
    let plain = format!("\0{user}\0{password}");
    let response = words
        .value("response")
        .map_or_else(|| plain.into_bytes(), |octets| hex(&[octets]));
    connection::StartOk {
        client_properties,
        mechanism: short(words.value("mechanism").unwrap_or("PLAIN")),
        response: LongString::from(response),
        locale: short("en_US"),
    }
}

fn channel_method(name: &str, words: &Words) -> channel::AMQPMethod {
    use channel::{AMQPMethod, Close, CloseOk, Flow, FlowOk, Open};
    let active = words.at(0) == "on";
    match name {
        "open" => AMQPMethod::Open(Open {}),
        "close" => AMQPMethod::Close(Close {
            reply_code: 200,
            reply_text: short("bye"),
            class_id: 0,
            method_id: 0,
        }),
        "close-ok" => AMQPMethod::CloseOk(CloseOk {}),
        "flow" => AMQPMethod::Flow(Flow { active }),
        "flow-ok" => AMQPMethod::FlowOk(FlowOk { active }),
        _ => panic!("unknown method channel.{name}"),
    }
}

fn exchange_method(name: &str, words: &Words) -> exchange::AMQPMethod {
    use exchange::{AMQPMethod, Bind, Declare, Delete, Unbind};
    let nowait = words.has("nowait");
    match name {
        "declare" => AMQPMethod::Declare(Declare {
            exchange: words.short(0),
            kind: words.short(1),
            passive: words.has("passive"),
            durable: words.has("durable"),
            auto_delete: words.has("auto_delete"),
            internal: words.has("internal"),
            nowait,
            arguments: words.arguments(),
        }),
        "delete" => AMQPMethod::Delete(Delete {
            exchange: words.short(0),
            if_unused: words.has("if_unused"),
            nowait,
        }),
        "bind" => AMQPMethod::Bind(Bind {
            destination: words.short(0),
            source: words.short(1),
            routing_key: words.short(2),
            nowait,
            arguments: words.arguments(),
        }),
        "unbind" => AMQPMethod::Unbind(Unbind {
            destination: words.short(0),
            source: words.short(1),
            routing_key: words.short(2),
            nowait,
            arguments: words.arguments(),
        }),
        _ => panic!("unknown method exchange.{name}"),
    }
}

fn queue_method(name: &str, words: &Words) -> queue::AMQPMethod {
    use queue::{AMQPMethod, Bind, Declare, Delete, Purge, Unbind};
    let nowait = words.has("nowait");
    let queue = words.short(0);
    match name {
        "declare" => AMQPMethod::Declare(Declare {
            queue,
            passive: words.has("passive"),
            durable: words.has("durable"),
            exclusive: words.has("exclusive"),
            auto_delete: words.has("auto_delete"),
            nowait,
            arguments: words.arguments(),
        }),
        "bind" => AMQPMethod::Bind(Bind {
            queue,
            exchange: words.short(1),
            routing_key: words.short(2),
            nowait,
            arguments: words.arguments(),
        }),
        "unbind" => AMQPMethod::Unbind(Unbind {
            queue,
            exchange: words.short(1),
            routing_key: words.short(2),
            arguments: words.arguments(),
        }),
        "purge" => AMQPMethod::Purge(Purge { queue, nowait }),
        "delete" => AMQPMethod::Delete(Delete {
            queue,
            if_unused: words.has("if_unused"),
            if_empty: words.has("if_empty"),
            nowait,
        }),
        _ => panic!("unknown method queue.{name}"),
    }
}

fn basic_method(name: &str, words: &Words) -> basic::AMQPMethod {
    use basic::{AMQPMethod, Ack, Cancel, Consume, Get, Nack, Recover, RecoverAsync, Reject};
    let (multiple, requeue, nowait) = (words.has("multiple"), words.has("requeue"), words.has("nowait"));
    match name {
        "consume" => AMQPMethod::Consume(Consume {
            queue: words.short(0),
            consumer_tag: words.short(1),
            no_local: false,
            no_ack: words.has("no_ack"),
            exclusive: words.has("exclusive"),
            nowait,
            arguments: words.arguments(),
        }),
        "cancel" => AMQPMethod::Cancel(Cancel {
            consumer_tag: words.short(0),
            nowait,
        }),
        "get" => AMQPMethod::Get(Get {
            queue: words.short(0),
            no_ack: words.has("no_ack"),
        }),
        "ack" => AMQPMethod::Ack(Ack {
            delivery_tag: words.number(0),
            multiple,
        }),
        "nack" => AMQPMethod::Nack(Nack {
            delivery_tag: words.number(0),
            multiple,
            requeue,
        }),
        "reject" => AMQPMethod::Reject(Reject {
            delivery_tag: words.number(0),
            requeue,
        }),
        "recover" => AMQPMethod::Recover(Recover { requeue }),
        "recover-async" => AMQPMethod::RecoverAsync(RecoverAsync { requeue }),
        _ => panic!("unknown method basic.{name}"),
    }
}

fn publish_method(words: &Words) -> basic::AMQPMethod {
    basic::AMQPMethod::Publish(basic::Publish {
        exchange: words.short(0),
        routing_key: words.short(1),
        mandatory: words.has("mandatory"),
        immediate: words.has("immediate"),
    })
}

/// `publish EXCHANGE KEY BODY`, in one go; `x*1000` is a body of a thousand x.
fn publish(number: u16, words: &Words) -> Vec<u8> {
    let text = words.at(2);
    let repeated = text
        .split_once('*')
        .map(|(part, count)| part.repeat(count.parse().unwrap()));
    let body = repeated.unwrap_or_else(|| text.to_owned());
    let mut octets = method(number, AMQPClass::Basic(publish_method(words)));
    octets.extend(header(number, body.len() as u64, properties(words)));
    for part in body.as_bytes().chunks(BODY_FRAME_BYTES) {
        octets.extend(frame(3, number, part));
    }
    octets
}

fn header(number: u16, body_size: u64, properties: BasicProperties) -> Vec<u8> {
    encoded(&AMQPFrame::Header(
        number,
        AMQPContentHeader {
            class_id: 60,
            body_size,
            properties,
        },
    ))
}

fn properties(words: &Words) -> BasicProperties {
    let mut properties = BasicProperties::default();
    if words.has("persistent") {
        properties = properties.with_delivery_mode(2);
    }
    if let Some(value) = words.value("priority") {
        properties = properties.with_priority(value.parse().unwrap());
    }
    if let Some(value) = words.value("expiration") {
        properties = properties.with_expiration(short(value));
    }
    if let Some(value) = words.value("reply_to") {
        properties = properties.with_reply_to(short(value));
    }
    if let Some(value) = words.value("correlation_id") {
        properties = properties.with_correlation_id(short(value));
    }
    if let Some(value) = words.value("message_id") {
        properties = properties.with_message_id(short(value));
    }
    if let Some(value) = words.value("user_id") {
        properties = properties.with_user_id(short(value));
    }
    let mut headers = words.arguments();
    for (option, header) in [("cc", "CC"), ("bcc", "BCC")] {
        if let Some(keys) = words.value(option) {
            let keys: Vec<_> = keys.split(',').map(|key| AMQPValue::LongString(key.into())).collect();
            headers.insert(short(header), AMQPValue::FieldArray(keys.into()));
        }
    }
    if let Some(text) = words.value("cc_text") {
        headers.insert(short("CC"), AMQPValue::LongString(text.into()));
    }
    if headers.inner().is_empty() {
        properties
    } else {
        properties.with_headers(headers)
    }
}
