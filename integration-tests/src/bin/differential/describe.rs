//! Methods, values and contents as one line of text each, in the words of the specification.

use crate::values::PLUGIN_EXCHANGES;
use leveret_integration_tests::raw::{
    AMQPClass, AMQPValue, BasicProperties, FieldTable, ShortString, access, basic, channel, confirm, connection,
    exchange, queue, tx,
};
use std::fmt::Display;

/// A method's name and those of its arguments that say something.
pub fn method(method: &AMQPClass) -> String {
    match method {
        AMQPClass::Connection(method) => connection_method(method),
        AMQPClass::Channel(method) => channel_method(method),
        AMQPClass::Access(access::AMQPMethod::Request(_)) => "access.request".into(),
        AMQPClass::Access(access::AMQPMethod::RequestOk(_)) => "access.request-ok".into(),
        AMQPClass::Exchange(method) => exchange_method(method),
        AMQPClass::Queue(method) => queue_method(method),
        AMQPClass::Basic(method) => basic_method(method),
        AMQPClass::Confirm(confirm::AMQPMethod::Select(it)) => {
            Line::new("confirm.select").flag("nowait", it.nowait).text
        }
        AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => "confirm.select-ok".into(),
        AMQPClass::Tx(method) => tx_method(method),
    }
}

fn connection_method(method: &connection::AMQPMethod) -> String {
    match method {
        connection::AMQPMethod::Close(it) => close(
            "connection.close",
            it.reply_code,
            (it.class_id, it.method_id),
            it.reply_text.as_str(),
        ),
        connection::AMQPMethod::CloseOk(_) => "connection.close-ok".into(),
        other => format!("{other:?}"),
    }
}

fn channel_method(method: &channel::AMQPMethod) -> String {
    match method {
        channel::AMQPMethod::Open(_) => "channel.open".into(),
        channel::AMQPMethod::OpenOk(_) => "channel.open-ok".into(),
        channel::AMQPMethod::Flow(it) => Line::new("channel.flow").flag("active", it.active).text,
        channel::AMQPMethod::FlowOk(it) => Line::new("channel.flow-ok").flag("active", it.active).text,
        channel::AMQPMethod::Close(it) => close(
            "channel.close",
            it.reply_code,
            (it.class_id, it.method_id),
            it.reply_text.as_str(),
        ),
        channel::AMQPMethod::CloseOk(_) => "channel.close-ok".into(),
    }
}

fn close(name: &str, code: u16, (class_id, method_id): (u16, u16), text: &str) -> String {
    format!("{name} {code} {class_id}/{method_id} {text}")
}

fn exchange_method(method: &exchange::AMQPMethod) -> String {
    use exchange::AMQPMethod::{Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Unbind, UnbindOk};
    match method {
        Declare(it) => {
            let line = Line::new("exchange.declare")
                .add("exchange", &it.exchange)
                .add("type", &it.kind);
            let line = line.flag("passive", it.passive).flag("durable", it.durable);
            let line = line.flag("auto_delete", it.auto_delete).flag("internal", it.internal);
            line.flag("nowait", it.nowait).arguments(&it.arguments).text
        }
        DeclareOk(_) => "exchange.declare-ok".into(),
        Delete(it) => {
            let line = Line::new("exchange.delete").add("exchange", &it.exchange);
            line.flag("if_unused", it.if_unused).flag("nowait", it.nowait).text
        }
        DeleteOk(_) => "exchange.delete-ok".into(),
        Bind(it) => {
            let line = Line::new("exchange.bind")
                .add("destination", &it.destination)
                .add("source", &it.source);
            let line = line.add("key", &it.routing_key).flag("nowait", it.nowait);
            line.arguments(&it.arguments).text
        }
        BindOk(_) => "exchange.bind-ok".into(),
        Unbind(it) => {
            let line = Line::new("exchange.unbind")
                .add("destination", &it.destination)
                .add("source", &it.source);
            let line = line.add("key", &it.routing_key).flag("nowait", it.nowait);
            line.arguments(&it.arguments).text
        }
        UnbindOk(_) => "exchange.unbind-ok".into(),
    }
}

fn queue_method(method: &queue::AMQPMethod) -> String {
    use queue::AMQPMethod::{Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Purge, PurgeOk, Unbind, UnbindOk};
    match method {
        Declare(it) => {
            let line = Line::new("queue.declare").add("queue", &it.queue);
            let line = line.flag("passive", it.passive).flag("durable", it.durable);
            let line = line.flag("exclusive", it.exclusive).flag("auto_delete", it.auto_delete);
            line.flag("nowait", it.nowait).arguments(&it.arguments).text
        }
        DeclareOk(it) => {
            let line = Line::new("queue.declare-ok").add("queue", &it.queue);
            line.add("messages", it.message_count)
                .add("consumers", it.consumer_count)
                .text
        }
        Bind(it) => {
            let line = Line::new("queue.bind")
                .add("queue", &it.queue)
                .add("exchange", &it.exchange);
            let line = line.add("key", &it.routing_key).flag("nowait", it.nowait);
            line.arguments(&it.arguments).text
        }
        BindOk(_) => "queue.bind-ok".into(),
        Unbind(it) => {
            let line = Line::new("queue.unbind")
                .add("queue", &it.queue)
                .add("exchange", &it.exchange);
            line.add("key", &it.routing_key).arguments(&it.arguments).text
        }
        UnbindOk(_) => "queue.unbind-ok".into(),
        Purge(it) => {
            Line::new("queue.purge")
                .add("queue", &it.queue)
                .flag("nowait", it.nowait)
                .text
        }
        PurgeOk(it) => format!("queue.purge-ok messages={}", it.message_count),
        Delete(it) => {
            let line = Line::new("queue.delete")
                .add("queue", &it.queue)
                .flag("if_unused", it.if_unused);
            line.flag("if_empty", it.if_empty).flag("nowait", it.nowait).text
        }
        DeleteOk(it) => format!("queue.delete-ok messages={}", it.message_count),
    }
}

fn basic_method(method: &basic::AMQPMethod) -> String {
    use basic::AMQPMethod as Basic;
    match method {
        Basic::Qos(it) => {
            let line = Line::new("basic.qos").add("count", it.prefetch_count);
            line.flag("global", it.global).text
        }
        Basic::QosOk(_) => "basic.qos-ok".into(),
        Basic::Consume(it) => {
            let line = Line::new("basic.consume")
                .add("queue", &it.queue)
                .add("tag", &it.consumer_tag);
            let line = line.flag("no_local", it.no_local).flag("no_ack", it.no_ack);
            let line = line.flag("exclusive", it.exclusive).flag("nowait", it.nowait);
            line.arguments(&it.arguments).text
        }
        Basic::ConsumeOk(it) => format!("basic.consume-ok tag={}", it.consumer_tag),
        Basic::Cancel(it) => {
            Line::new("basic.cancel")
                .add("tag", &it.consumer_tag)
                .flag("nowait", it.nowait)
                .text
        }
        Basic::CancelOk(it) => format!("basic.cancel-ok tag={}", it.consumer_tag),
        Basic::Publish(it) => {
            let line = Line::new("basic.publish")
                .add("exchange", &it.exchange)
                .add("key", &it.routing_key);
            line.flag("mandatory", it.mandatory)
                .flag("immediate", it.immediate)
                .text
        }
        Basic::Return(it) => {
            let line = Line::new("basic.return")
                .add("code", it.reply_code)
                .add("text", &it.reply_text);
            line.add("exchange", &it.exchange).add("key", &it.routing_key).text
        }
        Basic::Deliver(it) => {
            let line = Line::new("basic.deliver")
                .add("tag", &it.consumer_tag)
                .flag("redelivered", it.redelivered);
            line.add("exchange", &it.exchange).add("key", &it.routing_key).text
        }
        Basic::Get(it) => {
            Line::new("basic.get")
                .add("queue", &it.queue)
                .flag("no_ack", it.no_ack)
                .text
        }
        Basic::GetOk(it) => {
            let line = Line::new("basic.get-ok")
                .flag("redelivered", it.redelivered)
                .add("exchange", &it.exchange);
            line.add("key", &it.routing_key).add("left", it.message_count).text
        }
        Basic::GetEmpty(_) => "basic.get-empty".into(),
        Basic::RecoverAsync(it) => Line::new("basic.recover-async").flag("requeue", it.requeue).text,
        Basic::Recover(it) => Line::new("basic.recover").flag("requeue", it.requeue).text,
        Basic::RecoverOk(_) => "basic.recover-ok".into(),
        other => format!("{other:?}"),
    }
}

fn tx_method(method: &tx::AMQPMethod) -> String {
    match method {
        tx::AMQPMethod::Select(_) => "tx.select",
        tx::AMQPMethod::SelectOk(_) => "tx.select-ok",
        tx::AMQPMethod::Commit(_) => "tx.commit",
        tx::AMQPMethod::CommitOk(_) => "tx.commit-ok",
        tx::AMQPMethod::Rollback(_) => "tx.rollback",
        tx::AMQPMethod::RollbackOk(_) => "tx.rollback-ok",
    }
    .into()
}

/// Whether an `-ok` is due: not with `nowait`.
pub fn is_answered(method: &AMQPClass) -> bool {
    match method {
        AMQPClass::Exchange(method) => match method {
            exchange::AMQPMethod::Declare(it) => !it.nowait,
            exchange::AMQPMethod::Delete(it) => !it.nowait,
            exchange::AMQPMethod::Bind(it) => !it.nowait,
            exchange::AMQPMethod::Unbind(it) => !it.nowait,
            _ => false,
        },
        AMQPClass::Queue(method) => match method {
            queue::AMQPMethod::Declare(it) => !it.nowait,
            queue::AMQPMethod::Bind(it) => !it.nowait,
            queue::AMQPMethod::Delete(it) => !it.nowait,
            queue::AMQPMethod::Purge(it) => !it.nowait,
            queue::AMQPMethod::Unbind(_) => true,
            _ => false,
        },
        AMQPClass::Basic(method) => match method {
            basic::AMQPMethod::Consume(it) => !it.nowait,
            basic::AMQPMethod::Cancel(it) => !it.nowait,
            basic::AMQPMethod::Qos(_) | basic::AMQPMethod::Recover(_) | basic::AMQPMethod::Get(_) => true,
            _ => false,
        },
        AMQPClass::Confirm(confirm::AMQPMethod::Select(it)) => !it.nowait,
        AMQPClass::Tx(_) | AMQPClass::Channel(_) | AMQPClass::Access(_) | AMQPClass::Connection(_) => true,
        AMQPClass::Confirm(_) => false,
    }
}

/// Whether one of the brokers answers it with connection.close, or may.
pub fn endangers_connection(method: &AMQPClass) -> bool {
    match method {
        AMQPClass::Connection(_) | AMQPClass::Channel(_) => true,
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(it)) => {
            let plugins = PLUGIN_EXCHANGES.iter().map(|(_, kind)| *kind);
            let mut known = ["direct", "fanout", "topic", "headers"].into_iter().chain(plugins);
            !known.any(|kind| kind == it.kind.as_str())
        }
        AMQPClass::Basic(basic::AMQPMethod::Recover(it)) => !it.requeue,
        AMQPClass::Basic(basic::AMQPMethod::RecoverAsync(it)) => !it.requeue,
        _ => false,
    }
}

/// Properties and body of a message.
pub fn content(properties: &BasicProperties, body: &[u8]) -> String {
    let properties = properties_line(properties);
    let body = match std::str::from_utf8(body) {
        Ok(text) if text.len() <= 40 => format!("{text:?}"),
        _ => format!(
            "({} octets, sum {})",
            body.len(),
            body.iter().map(|octet| u64::from(*octet)).sum::<u64>()
        ),
    };
    format!("{{{properties}}} {body}")
}

fn properties_line(it: &BasicProperties) -> String {
    let mut parts = Vec::new();
    let mut short = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name}={value}"));
        }
    };
    let text = |value: &dyn Display| Some(value.to_string());
    short("content_type", it.content_type().as_ref().and_then(|it| text(it)));
    short(
        "content_encoding",
        it.content_encoding().as_ref().and_then(|it| text(it)),
    );
    short("headers", it.headers().as_ref().map(table));
    short("delivery_mode", it.delivery_mode().map(|it| it.to_string()));
    short("priority", it.priority().map(|it| it.to_string()));
    short("correlation_id", it.correlation_id().as_ref().and_then(|it| text(it)));
    short("reply_to", it.reply_to().as_ref().and_then(|it| text(it)));
    short("expiration", it.expiration().as_ref().and_then(|it| text(it)));
    short("message_id", it.message_id().as_ref().and_then(|it| text(it)));
    short("timestamp", it.timestamp().map(|it| it.to_string()));
    short("type", it.kind().as_ref().and_then(|it| text(it)));
    short("user_id", it.user_id().as_ref().and_then(|it| text(it)));
    short("app_id", it.app_id().as_ref().and_then(|it| text(it)));
    short("cluster_id", it.cluster_id().as_ref().and_then(|it| text(it)));
    parts.join(" ")
}

/// A table with its entries in order of their names. The time of a death is left out, and so is what only RabbitMQ 4.x
/// tells of the last one (see the list of known differences).
pub fn table(table: &FieldTable) -> String {
    let entry = |(name, value): (&ShortString, &AMQPValue)| match value {
        AMQPValue::Timestamp(_) if name.as_str() == "time" => format!("{name}=timestamp"),
        _ => format!("{name}={}", value_text(value)),
    };
    let told = |(name, _): &(&ShortString, &AMQPValue)| !name.as_str().starts_with("x-last-death-");
    let entries: Vec<String> = table.inner().iter().filter(told).map(entry).collect();
    format!("[{}]", entries.join(" "))
}

fn value_text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => format!("{:?}", String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::FieldTable(inner) => table(inner),
        AMQPValue::FieldArray(values) => {
            let values: Vec<String> = values.as_slice().iter().map(value_text).collect();
            format!("({})", values.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// A line in the making.
struct Line {
    text: String,
}

impl Line {
    fn new(name: &str) -> Self {
        Self { text: name.to_owned() }
    }

    /// An argument, unless it is empty.
    fn add(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.text.push_str(&format!(" {name}={value}"));
        }
        self
    }

    fn flag(mut self, name: &str, value: bool) -> Self {
        if value {
            self.text.push(' ');
            self.text.push_str(name);
        }
        self
    }

    fn arguments(mut self, arguments: &FieldTable) -> Self {
        if !arguments.inner().is_empty() {
            self.text.push(' ');
            self.text.push_str(&table(arguments));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_integration_tests::raw::make;

    #[test]
    fn a_method_is_told_in_one_line_without_what_is_off() {
        let mut declare = make::queue_declare("q0");
        declare.arguments.insert("x-max-length".into(), AMQPValue::LongInt(3));
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        assert_eq!(
            super::method(&method),
            "queue.declare queue=q0 exclusive [x-max-length=LongInt(3)]"
        );
    }

    #[test]
    fn the_time_of_a_death_is_left_out() {
        let mut death = FieldTable::default();
        death.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
        death.insert("count".into(), AMQPValue::LongLongInt(1));
        assert_eq!(table(&death), "[count=LongLongInt(1) time=timestamp]");
    }

    #[test]
    fn nothing_answers_a_method_sent_with_nowait() {
        let mut declare = make::queue_declare("q0");
        declare.nowait = true;
        assert!(!is_answered(&AMQPClass::Queue(queue::AMQPMethod::Declare(declare))));
    }
}
