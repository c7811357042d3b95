//! Publishing and getting single messages over HTTP, for people and tests. Programs use AMQP.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use leveret_routing::RouteBuffer;
use serde_json::{Map, Value};

use super::queues;
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Fields, Request};
use super::views::{MessageView, RoutedView};
use crate::auth::Operation;
use crate::json::{table_from_json, table_json};
use crate::metrics::Publishes;
use crate::protocol::content::Properties;
use crate::protocol::error::AmqpError;
use crate::protocol::field_table::{decode_table, encode_table, without_key};
use crate::protocol::message::Message;
use crate::protocol::wire;
use crate::queue::{GetOutcome, Got, Position};
use crate::session::message_checks::{check_expiration, further_routing_keys};
use crate::session::outbox::Outbox;
use crate::session::reply_to;
use crate::vhost::effects::Scratch;
use crate::vhost::firehose::Who;
use crate::vhost::queue_handle::Settlement;
use crate::vhost::routes::Publication;
use crate::vhost::traffic::QueueCount;
use crate::vhost::{QueueHandle, Vhost};

/// Most bytes of bodies that one get takes out of a queue; one message may stand behind the bound.
const GET_BYTES_MAX: usize = 16 << 20;
/// Most messages that one get takes out of a queue.
const GET_MESSAGES_MAX: u64 = 10_000;

/// Longest wait for messages that are read back from disk, and how often one get waits before it gives up.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(1);
const LOADS_MAX: usize = 30;

/// A malformed message is the caller's mistake.
impl From<AmqpError> for ApiError {
    fn from(error: AmqpError) -> ApiError {
        ApiError::bad(error.explanation)
    }
}

/// `POST /api/exchanges/{vhost}/{name}/publish`.
pub fn publish(request: &Request) -> Outcome {
    let (vhost, exchange, fields) = (request.vhost()?, request.exchange("name"), request.fields()?);
    if let Some(reason) = request.broker.alarms.reason() {
        return Err(ApiError::Unavailable(format!("publishers are blocked: {reason}")));
    }
    let routing_key = fields.text("routing_key")?.unwrap_or_default();
    let body = payload(&fields)?;
    let max = request.broker.live().max_message_size;
    if body.len() as u64 > max {
        let text = format!("message size {} is larger than configured max size {max}", body.len());
        return Err(ApiError::BadRequest(text));
    }
    let properties = GivenProperties::of(&fields)?;
    let routed = publish_one(request, &vhost, exchange, routing_key, &properties, &body)?;
    Reply::json(&RoutedView { routed })
}

fn payload(fields: &Fields) -> Result<Vec<u8>, ApiError> {
    let payload = fields.some_text("payload")?;
    match fields.text("payload_encoding")?.unwrap_or("string") {
        "string" => Ok(payload.as_bytes().to_vec()),
        "base64" => BASE64
            .decode(payload)
            .map_err(|error| ApiError::BadRequest(format!("the payload is not base64: {error}"))),
        other => Err(ApiError::BadRequest(format!("unsupported payload_encoding '{other}'"))),
    }
}

/// The same checks in the same order as basic.publish, then the same way to the queues. The message is on disk, where it is
/// to be, when this returns.
fn publish_one(
    request: &Request,
    vhost: &Vhost,
    exchange: &str,
    routing_key: &str,
    given: &GivenProperties,
    body: &[u8],
) -> Result<bool, ApiError> {
    vhost.check_publish(&request.actor(vhost)?, exchange)?;
    let properties = given.properties();
    let further_keys = check_properties(request, vhost, (exchange, routing_key), &properties)?;
    let without_bcc = properties.headers.and_then(|headers| without_key(headers, "BCC"));
    let sent = Properties {
        headers: without_bcc.as_deref().or(properties.headers),
        ..properties
    };
    let live = request.broker.live();
    let stamped = live.stamps(request.broker.timer.now_millis()).put_on(&sent);
    let sent = Properties {
        headers: stamped.headers.as_deref().or(sent.headers),
        timestamp: stamped.timestamp.or(sent.timestamp),
        ..sent
    };
    let too_long = || ApiError::bad("a routing key or property is longer than 255 bytes");
    let header = sent.encode(body.len() as u64).ok_or_else(too_long)?;
    let names = wire::exchange_and_key(exchange, routing_key).ok_or_else(too_long)?;
    let message = Message::new(&names, &header, body);
    let counters = &request.broker.counters;
    counters.received.inc();
    counters.message_size_bytes.observe(body.len() as f64);
    let reply_token = reply_to::token(routing_key).filter(|_| exchange.is_empty());
    let replied = reply_token.is_some_and(|token| request.broker.reply_targets.deliver(token, &message));
    let further = further_keys.iter().map(String::as_str);
    let keys: Vec<&str> = std::iter::once(routing_key).chain(further).collect();
    let publication = Publication {
        exchange,
        routing_keys: &keys,
        properties: sent,
        message: &message,
    };
    let targets = vhost.route(&publication, &mut RouteBuffer::new())?;
    let user = &request.caller()?.user.name;
    vhost.trace_publish(&publication, &targets, || Who::Http(user.clone()));
    let delivered = vhost.deliver(&targets, &message, &mut Scratch::default(), |_, _| {});
    let taken_by = delivered.taken_by + usize::from(replied);
    counters.routed.inc_by(taken_by as u64);
    let routed = taken_by > 0 || delivered.duplicate;
    let traffic = vhost.traffic_of(exchange);
    traffic.add(Publishes {
        received: 1,
        routed: taken_by as u64,
        returned: u64::from(!routed),
        ..Publishes::default()
    });
    if delivered.taken_by == targets.queues.len() {
        for queue in &targets.queues {
            traffic.keep_routed(QueueCount::of(queue, 1));
        }
    }
    if !routed {
        // As RabbitMQ counts it: the publisher is told.
        counters.unroutable_returned.inc();
    }
    if delivered.lasts && request.broker.store.failed().is_some() {
        return Err(ApiError::Unavailable("storage has failed".to_owned()));
    }
    request.wait(delivered.ticket)?;
    Ok(routed)
}

/// Expiration, the routing keys of CC and BCC, topic permissions, and user id.
fn check_properties(
    request: &Request,
    vhost: &Vhost,
    (exchange, routing_key): (&str, &str),
    properties: &Properties<'_>,
) -> Result<Vec<String>, ApiError> {
    if properties.reply_to == Some(reply_to::PSEUDO_QUEUE) {
        return Err(ApiError::bad("fast reply consumer does not exist"));
    }
    if let Some(expiration) = properties.expiration {
        check_expiration(expiration).map_err(ApiError::BadRequest)?;
    }
    let further_keys = further_routing_keys(properties.headers)?;
    let keys = std::iter::once(routing_key).chain(further_keys.iter().map(String::as_str));
    vhost.check_topics(&request.actor(vhost)?, Operation::Write, exchange, keys)?;
    let user = &request.caller()?.user;
    if let Some(user_id) = properties.user_id
        && user_id != user.name
        && !user.is_impersonator()
    {
        return Err(ApiError::BadRequest(format!(
            "user_id property set to '{user_id}' but authenticated user was '{}'",
            user.name
        )));
    }
    Ok(further_keys)
}

/// The properties of a publish, taken out of its JSON.
#[derive(Default)]
struct GivenProperties {
    texts: Map<String, Value>,
    headers: Option<Vec<u8>>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    timestamp: Option<u64>,
}

impl GivenProperties {
    fn of(fields: &Fields) -> Result<GivenProperties, ApiError> {
        let properties = match fields.0.get("properties") {
            None | Some(Value::Null) => return Ok(GivenProperties::default()),
            Some(Value::Array(list)) if list.is_empty() => return Ok(GivenProperties::default()),
            Some(Value::Object(properties)) => Fields(properties.clone()),
            Some(_) => return Err(ApiError::bad("'properties' must be an object")),
        };
        let octet = |name| match properties.number(name)?.map(u8::try_from) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(ApiError::BadRequest(format!("'{name}' must be from 0 to 255"))),
        };
        let headers = match properties.0.get("headers") {
            Some(Value::Object(headers)) => {
                let mut encoded = Vec::new();
                encode_table(&table_from_json(headers)?, &mut encoded);
                Some(encoded)
            }
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(_) => return Err(ApiError::bad("'headers' must be an object")),
        };
        let (delivery_mode, priority, timestamp) = (
            octet("delivery_mode")?,
            octet("priority")?,
            properties.number("timestamp")?,
        );
        let mut texts = Map::new();
        for (name, value) in properties.0 {
            match value {
                Value::String(_) => _ = texts.insert(name, value),
                // An expiration is digits, and tools write it as a number.
                Value::Number(number) => _ = texts.insert(name, number.to_string().into()),
                _ => {}
            }
        }
        Ok(GivenProperties {
            texts,
            headers,
            delivery_mode,
            priority,
            timestamp,
        })
    }

    fn properties(&self) -> Properties<'_> {
        let text = |name| self.texts.get(name).and_then(Value::as_str);
        let octets = |name| text(name).map(str::as_bytes);
        Properties {
            content_type: octets("content_type"),
            content_encoding: octets("content_encoding"),
            headers: self.headers.as_deref(),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: octets("correlation_id"),
            reply_to: text("reply_to"),
            expiration: text("expiration"),
            message_id: octets("message_id"),
            timestamp: self.timestamp,
            kind: octets("type"),
            user_id: text("user_id"),
            app_id: octets("app_id"),
            cluster_id: octets("cluster_id"),
        }
    }
}

/// What becomes of messages once they were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckMode {
    /// Gone: taken as acknowledged.
    Taken,
    /// Settled like this.
    Settled(Settlement),
}

impl AckMode {
    fn of(fields: &Fields) -> Result<AckMode, ApiError> {
        match fields.some_text("ackmode")? {
            "ack_requeue_true" => Ok(AckMode::Settled(Settlement::Requeue { failed: false })),
            "reject_requeue_true" => Ok(AckMode::Settled(Settlement::Requeue { failed: true })),
            "ack_requeue_false" => Ok(AckMode::Taken),
            "reject_requeue_false" => Ok(AckMode::Settled(Settlement::Reject)),
            other => Err(ApiError::BadRequest(format!("unknown ackmode '{other}'"))),
        }
    }
}

/// `POST /api/queues/{vhost}/{name}/get`.
pub fn get(request: &Request) -> Outcome {
    let (vhost, fields) = (request.vhost()?, request.fields()?);
    let count = fields
        .number("count")?
        .ok_or_else(|| ApiError::bad("'count' is missing"))?;
    let mode = AckMode::of(&fields)?;
    let encoding = match fields.some_text("encoding")? {
        encoding @ ("auto" | "base64") => encoding,
        other => return Err(ApiError::BadRequest(format!("unknown encoding '{other}'"))),
    };
    let truncate = fields
        .number("truncate")?
        .map_or(usize::MAX, |bytes| bytes.try_into().unwrap_or(usize::MAX));
    let queue = vhost.gettable_queue(&request.actor(&vhost)?, queues::find(request)?.name.as_ref())?;
    let got = take(request, &vhost, &queue, count.min(GET_MESSAGES_MAX), mode)?;
    let views = got.iter().map(|got| view(got, encoding == "auto", truncate));
    Reply::json(&views.collect::<Vec<_>>())
}

/// Takes messages and settles them before anything else can go wrong.
fn take(
    request: &Request,
    vhost: &Vhost,
    queue: &Arc<QueueHandle>,
    count: u64,
    mode: AckMode,
) -> Result<Vec<Got<Message>>, ApiError> {
    let mut scratch = Scratch::default();
    let (mut taken, mut bytes) = (Vec::new(), 0);
    let no_ack = mode == AckMode::Taken;
    let user = &request.caller()?.user.name;
    for _ in 0..count {
        let Some(got) = next(queue, no_ack, &mut scratch)? else {
            request.broker.counters.get_empty.inc();
            break;
        };
        request.broker.counters.got(no_ack, got.redelivered);
        queue.trace_delivery(&got.message, got.redelivered, || Who::Http(user.clone()));
        bytes += got.message.body_len();
        taken.push(got);
        if bytes > GET_BYTES_MAX {
            break;
        }
    }
    if let AckMode::Settled(settlement) = mode {
        let entries: Vec<(u32, Position)> = taken.iter().map(|got| (got.slot, got.position)).collect();
        vhost.settle(queue, settlement, &entries, &mut scratch);
    }
    Ok(taken)
}

/// The next message; one that is not in memory is waited for.
fn next(queue: &QueueHandle, no_ack: bool, scratch: &mut Scratch) -> Result<Option<Got<Message>>, ApiError> {
    let outbox = Outbox::new(0);
    for _ in 0..LOADS_MAX {
        match queue.get(no_ack, &outbox, scratch).map_err(|_| ApiError::NotFound)? {
            GetOutcome::Got(got) => return Ok(Some(got)),
            GetOutcome::Empty => return Ok(None),
            GetOutcome::Loading => wait_for_load(&outbox),
        }
    }
    Ok(None)
}

/// Wakes the thread that works on a request.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sleeps until the queue tells the outbox that it has loaded, as it tells connections, or for a while.
fn wait_for_load(outbox: &Outbox) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    if outbox.poll_work(&mut Context::from_waker(&waker), false).is_pending() {
        thread::park_timeout(LOAD_WAIT_MAX);
    }
    while outbox.lock().next_event().is_some() {}
}

fn view(got: &Got<Message>, as_text: bool, truncate: usize) -> MessageView {
    let body = got.message.body();
    let shown = body.get(..truncate).unwrap_or(body);
    let (payload, payload_encoding) = match std::str::from_utf8(shown) {
        Ok(text) if as_text => (text.to_owned(), "string"),
        _ => (BASE64.encode(shown), "base64"),
    };
    MessageView {
        payload_bytes: body.len(),
        redelivered: got.redelivered,
        exchange: got.message.exchange().to_owned(),
        routing_key: got.message.routing_key().to_owned(),
        message_count: got.ready,
        properties: properties_json(got.message.properties()),
        payload,
        payload_encoding,
    }
}

/// Properties under their AMQP names; only those that are there.
fn properties_json(encoded: &[u8]) -> Value {
    let Ok(properties) = Properties::parse(encoded) else {
        return Value::Object(Map::new());
    };
    let text = |octets: Option<&[u8]>| octets.map(|octets| Value::from(String::from_utf8_lossy(octets)));
    let headers = properties.headers.and_then(|headers| decode_table(headers).ok());
    let named = [
        ("content_type", text(properties.content_type)),
        ("content_encoding", text(properties.content_encoding)),
        ("headers", headers.map(|headers| table_json(&headers))),
        ("delivery_mode", properties.delivery_mode.map(Value::from)),
        ("priority", properties.priority.map(Value::from)),
        ("correlation_id", text(properties.correlation_id)),
        ("reply_to", properties.reply_to.map(Value::from)),
        ("expiration", properties.expiration.map(Value::from)),
        ("message_id", text(properties.message_id)),
        ("timestamp", properties.timestamp.map(Value::from)),
        ("type", text(properties.kind)),
        ("user_id", properties.user_id.map(Value::from)),
        ("app_id", text(properties.app_id)),
        ("cluster_id", text(properties.cluster_id)),
    ];
    let given = named
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}
