//! What the client reads: from octets to lines, decoded by amq-protocol.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use amq_protocol::types::AMQPValue;

/// Bodies are shown up to this many bytes.
const BODY_SHOWN_BYTES: usize = 40;

/// The lines for all whole frames in `octets`, which must hold nothing else.
pub fn lines(octets: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = octets;
    let mut content: Option<Content> = None;
    while !rest.is_empty() {
        let (left, frame) = parse_frame(rest).unwrap_or_else(|error| panic!("not a frame: {error:?} in {rest:02x?}"));
        rest = left;
        if let Some(message) = &mut content {
            message.add(frame);
        } else {
            content = start(frame, &mut lines);
        }
        if let Some(whole) = content.take_if(|message| message.is_whole()) {
            lines.push(whole.line());
        }
    }
    assert!(content.is_none(), "content is not whole");
    lines
}

/// A method with content, and as much of that as there is.
struct Content {
    channel: u16,
    method: String,
    properties: Option<String>,
    body_size: usize,
    body: Vec<u8>,
}

impl Content {
    fn add(&mut self, frame: AMQPFrame) {
        match frame {
            AMQPFrame::Header(channel, header) => {
                assert_eq!((channel, header.class_id), (self.channel, 60));
                self.body_size = usize::try_from(header.body_size).unwrap();
                self.properties = Some(properties(&header.properties));
            }
            AMQPFrame::Body(channel, payload) => {
                assert_eq!(channel, self.channel);
                self.body.extend_from_slice(&payload);
            }
            other => panic!("{other:?} inside content"),
        }
    }

    fn is_whole(&self) -> bool {
        self.properties.is_some() && self.body.len() >= self.body_size
    }

    fn line(self) -> String {
        assert_eq!(self.body.len(), self.body_size);
        let text = String::from_utf8(self.body).unwrap();
        let body = if text.len() > BODY_SHOWN_BYTES {
            format!("{} bytes", text.len())
        } else {
            format!("\"{text}\"")
        };
        format!(
            "{} {} {body}{}",
            self.channel,
            self.method,
            self.properties.unwrap_or_default()
        )
    }
}

fn start(frame: AMQPFrame, lines: &mut Vec<String>) -> Option<Content> {
    match frame {
        AMQPFrame::ProtocolHeader(version) => {
            lines.push(format!(
                "protocol header {}-{}-{}",
                version.major, version.minor, version.revision
            ));
            None
        }
        AMQPFrame::Heartbeat => {
            lines.push("0 heartbeat".to_owned());
            None
        }
        AMQPFrame::Method(channel, class) => {
            let (method, has_content) = method(&class);
            if has_content {
                return Some(Content {
                    channel,
                    method,
                    properties: None,
                    body_size: 0,
                    body: Vec::new(),
                });
            }
            lines.push(format!("{channel} {method}"));
            None
        }
        other => panic!("{other:?} without a method"),
    }
}

/// A method in words, and whether content follows it.
fn method(class: &AMQPClass) -> (String, bool) {
    let without = |text: String| (text, false);
    match class {
        AMQPClass::Basic(method) => basic_method(method),
        AMQPClass::Connection(method) => without(connection_method(method)),
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
            let channel::Close {
                reply_code,
                reply_text,
                class_id,
                method_id,
            } = close;
            without(format!(
                "channel.close {reply_code} {class_id}/{method_id} {reply_text}"
            ))
        }
        AMQPClass::Channel(channel::AMQPMethod::FlowOk(ok)) => {
            without(format!("channel.flow-ok {}", if ok.active { "on" } else { "off" }))
        }
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => without(format!(
            "queue.declare-ok {} ready={} consumers={}",
            ok.queue, ok.message_count, ok.consumer_count
        )),
        AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => without(format!("queue.purge-ok {}", ok.message_count)),
        AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => without(format!("queue.delete-ok {}", ok.message_count)),
        // All others carry nothing.
        other => {
            without(leveret::protocol::method::method_name(other.get_amqp_class_id(), method_id(other)).to_owned())
        }
    }
}

fn method_id(class: &AMQPClass) -> u16 {
    let frame = crate::virtual_broker::encoded(&AMQPFrame::Method(1, class.clone()));
    u16::from_be_bytes([frame[9], frame[10]])
}

fn connection_method(method: &connection::AMQPMethod) -> String {
    use connection::AMQPMethod;
    match method {
        AMQPMethod::Start(start) => {
            let properties = start.server_properties.inner();
            let AMQPValue::FieldTable(capabilities) = &properties["capabilities"] else {
                panic!("no capabilities")
            };
            let names: Vec<_> = capabilities.inner().keys().map(ToString::to_string).collect();
            format!(
                "connection.start {} {} {}",
                start.mechanisms,
                start.locales,
                names.join(" ")
            )
        }
        AMQPMethod::Tune(tune) => format!(
            "connection.tune channel_max={} frame_max={} heartbeat={}",
            tune.channel_max, tune.frame_max, tune.heartbeat
        ),
        AMQPMethod::Close(close) => {
            let connection::Close {
                reply_code,
                reply_text,
                class_id,
                method_id,
            } = close;
            format!("connection.close {reply_code} {class_id}/{method_id} {reply_text}")
        }
        AMQPMethod::Blocked(blocked) => format!("connection.blocked {}", blocked.reason),
        other => {
            let class = AMQPClass::Connection(other.clone());
            leveret::protocol::method::method_name(10, method_id(&class)).to_owned()
        }
    }
}

fn basic_method(method: &basic::AMQPMethod) -> (String, bool) {
    use basic::AMQPMethod;
    let flag = |set: bool, word: &str| if set { format!(" {word}") } else { String::new() };
    match method {
        AMQPMethod::Deliver(deliver) => {
            let basic::Deliver {
                consumer_tag,
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
            } = deliver;
            let redelivered = flag(*redelivered, "redelivered");
            (
                format!("deliver {consumer_tag} tag={delivery_tag}{redelivered} \"{exchange}\" {routing_key}"),
                true,
            )
        }
        AMQPMethod::GetOk(ok) => {
            let basic::GetOk {
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
                message_count,
            } = ok;
            let redelivered = flag(*redelivered, "redelivered");
            let text =
                format!("get-ok tag={delivery_tag}{redelivered} ready={message_count} \"{exchange}\" {routing_key}");
            (text, true)
        }
        AMQPMethod::Return(returned) => {
            let basic::Return {
                reply_code,
                reply_text,
                exchange,
                routing_key,
            } = returned;
            (
                format!("return {reply_code} {reply_text} \"{exchange}\" {routing_key}"),
                true,
            )
        }
        AMQPMethod::ConsumeOk(ok) => (format!("consume-ok {}", ok.consumer_tag), false),
        AMQPMethod::CancelOk(ok) => (format!("cancel-ok {}", ok.consumer_tag), false),
        AMQPMethod::Cancel(cancel) => (
            format!("cancel {}{}", cancel.consumer_tag, flag(cancel.nowait, "nowait")),
            false,
        ),
        AMQPMethod::Ack(ack) => (
            format!("ack {}{}", ack.delivery_tag, flag(ack.multiple, "multiple")),
            false,
        ),
        AMQPMethod::Nack(nack) => (
            format!("nack {}{}", nack.delivery_tag, flag(nack.multiple, "multiple")),
            false,
        ),
        other => {
            let class = AMQPClass::Basic(other.clone());
            let name = leveret::protocol::method::method_name(60, method_id(&class));
            (name.trim_start_matches("basic.").to_owned(), false)
        }
    }
}

fn properties(properties: &basic::AMQPProperties) -> String {
    let mut text = String::new();
    if *properties.delivery_mode() == Some(2) {
        text += " persistent";
    }
    for (name, value) in [
        ("expiration", properties.expiration()),
        ("reply_to", properties.reply_to()),
        ("correlation_id", properties.correlation_id()),
        ("user_id", properties.user_id()),
    ] {
        if let Some(value) = value {
            text += &format!(" {name}={value}");
        }
    }
    for (name, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
        text += &format!(" {name}={}", header(value));
    }
    text
}

fn header(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(header).collect::<Vec<_>>().join(","),
        AMQPValue::FieldTable(_) => "table".to_owned(),
        other => format!("{other:?}"),
    }
}
