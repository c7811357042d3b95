//! What is written into a message when its queue gives it up: the x-death header and its companions, RabbitMQ's extension.
//!
//! ```text
//!   x-death: [ {count, reason, queue, time, exchange, routing-keys, original-expiration?}, ... ]    the latest death first
//!   x-first-death-queue, -reason, -exchange     of the first death, for ever
//!   x-last-death-queue, -reason, -exchange      of the latest
//! ```
//!
//! A message that dies again in the same queue for the same reason has its entry counted up and moved to the front; time,
//! exchange and routing keys stay those of the first time. As in RabbitMQ since 4.0 only what the broker wrote counts: an
//! x-death header that a client put there is replaced (see [`Message::records_deaths`]).

use crate::protocol::content::Properties;
use crate::protocol::error::DecodeCause;
use crate::protocol::field_table::{RawEntry, entries, with_length};
use crate::protocol::message::Message;
use crate::protocol::rewrite::{Change, HeaderChanges, rewrite};
use crate::protocol::wire::{Reader, exchange_and_key, put_longstr, put_shortstr, put_u64};

/// Why a queue gave a message up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// A consumer rejected it without requeue.
    Rejected,
    /// Its time to live was over.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It was delivered in vain too often.
    DeliveryLimit,
}

impl DeathReason {
    /// As x-death says it.
    pub fn name(self) -> &'static str {
        match self {
            DeathReason::Rejected => "rejected",
            DeathReason::Expired => "expired",
            DeathReason::MaxLength => "maxlen",
            DeathReason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// One death.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// The queue that gave the message up.
    pub queue: &'a str,
    /// Why.
    pub reason: DeathReason,
    /// When, in seconds since 1970.
    pub unix_seconds: u64,
}

/// Where the dead go.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The dead-letter exchange.
    pub exchange: &'a str,
    /// Instead of the message's own routing keys, CC included.
    pub routing_key: Option<&'a str>,
}

/// A message on its way to a dead-letter exchange.
pub struct DeadLetter {
    /// The message as it is to be published.
    pub message: Message,
    /// All keys to route it by: its own and those in CC.
    pub routing_keys: Vec<String>,
    /// Where it died so far and why, the latest death first.
    deaths: Vec<(String, String)>,
}

impl DeadLetter {
    /// The message after a death. Fails only if its properties are malformed.
    pub fn new(message: &Message, death: &Death<'_>, destination: &Destination<'_>) -> Result<DeadLetter, DecodeCause> {
        let properties = Properties::parse(message.properties())?;
        let old_headers = properties.headers.unwrap_or(&[0; 4]);
        let carbon_copies = carbon_copies(old_headers);
        let mut died_with = vec![message.routing_key().to_owned()];
        died_with.extend(carbon_copies);
        let record = Record {
            message,
            death,
            died_with: &died_with,
            expiration: properties.expiration,
        };
        let mut deaths = Vec::new();
        let headers = record.headers(old_headers, destination.routing_key.is_some(), &mut deaths);
        let changes = HeaderChanges {
            headers: Change::Set(&headers),
            expiration: Change::Remove,
            ..HeaderChanges::default()
        };
        let header = rewrite(message.header(), &changes)?;
        let routing_keys = match destination.routing_key {
            Some(routing_key) => vec![routing_key.to_owned()],
            None => died_with,
        };
        let own_key = routing_keys.first().map_or("", String::as_str);
        let names = exchange_and_key(destination.exchange, own_key).ok_or(DecodeCause::Malformed)?;
        Ok(DeadLetter {
            message: message.dead_lettered(&names, &header),
            routing_keys,
            deaths,
        })
    }

    /// Whether it would come back to a queue in which it died, without any client having had a say since: such a message
    /// would go round for ever and is dropped instead.
    pub fn is_caught_in_cycle(&self, queue: &str) -> bool {
        let Some(since) = self.deaths.iter().position(|(died_in, _)| died_in == queue) else {
            return false;
        };
        let rejected = DeathReason::Rejected.name();
        self.deaths.iter().take(since + 1).all(|(_, reason)| reason != rejected)
    }
}

/// What is known when a death is recorded.
struct Record<'a> {
    message: &'a Message,
    death: &'a Death<'a>,
    died_with: &'a [String],
    expiration: Option<&'a str>,
}

const DEATHS: &str = "x-death";
const FIRST_DEATH: [&str; 3] = ["x-first-death-queue", "x-first-death-reason", "x-first-death-exchange"];
const LAST_DEATH: [&str; 3] = ["x-last-death-queue", "x-last-death-reason", "x-last-death-exchange"];

impl Record<'_> {
    /// The header table afterwards; all entries that are not about deaths stay byte for byte. Notes all deaths in `deaths`.
    fn headers(&self, old: &[u8], key_is_replaced: bool, deaths: &mut Vec<(String, String)>) -> Vec<u8> {
        let is_first = !self.message.records_deaths();
        let is_dropped = |key: &str| {
            key == DEATHS
                || LAST_DEATH.contains(&key)
                || (is_first && FIRST_DEATH.contains(&key))
                || key == "BCC"
                || (key_is_replaced && key == "CC")
        };
        let mut out = Vec::with_capacity(old.len() + 256);
        with_length(&mut out, |out| {
            for entry in entries(old).filter(|entry| !is_dropped(entry.key)) {
                out.extend_from_slice(entry.octets);
            }
            let recorded = entries(old).find(|entry| entry.key == DEATHS && !is_first);
            put_shortstr(out, DEATHS);
            out.push(b'A');
            with_length(out, |out| {
                self.put_deaths(recorded.map(|entry| entry.value), deaths, out)
            });
            let what = [self.death.queue, self.death.reason.name(), self.message.exchange()];
            let companions = FIRST_DEATH.iter().filter(|_| is_first).chain(&LAST_DEATH);
            for (key, text) in companions.zip(what.iter().cycle()) {
                put_text(out, key, text);
            }
        });
        out
    }

    /// The elements of the x-death array, the present death first.
    fn put_deaths(&self, recorded: Option<&[u8]>, deaths: &mut Vec<(String, String)>, out: &mut Vec<u8>) {
        let earlier: Vec<Recorded<'_>> = recorded.map(Recorded::all).unwrap_or_default();
        let now = (self.death.queue, self.death.reason.name());
        let (again, others): (Vec<_>, Vec<_>) = earlier.into_iter().partition(|it| (it.queue, it.reason) == now);
        deaths.push((now.0.to_owned(), now.1.to_owned()));
        out.push(b'F');
        match again.first() {
            Some(before) => before.put_counted_up(out),
            None => with_length(out, |out| self.put_first_time(out)),
        }
        for other in others {
            deaths.push((other.queue.to_owned(), other.reason.to_owned()));
            out.push(b'F');
            out.extend_from_slice(other.table);
        }
    }

    fn put_first_time(&self, out: &mut Vec<u8>) {
        put_count(out, 1);
        put_text(out, "reason", self.death.reason.name());
        put_text(out, "queue", self.death.queue);
        put_shortstr(out, "time");
        out.push(b'T');
        put_u64(out, self.death.unix_seconds);
        put_text(out, "exchange", self.message.exchange());
        put_shortstr(out, "routing-keys");
        out.push(b'A');
        with_length(out, |out| {
            for key in self.died_with {
                out.push(b'S');
                put_longstr(out, key.as_bytes());
            }
        });
        if let Some(expiration) = self.expiration {
            put_text(out, "original-expiration", expiration);
        }
    }
}

/// An entry of an x-death header that the broker wrote.
struct Recorded<'a> {
    queue: &'a str,
    reason: &'a str,
    count: i64,
    table: &'a [u8],
}

impl<'a> Recorded<'a> {
    /// The elements of an array's value. What is not an entry as the broker writes it is left out.
    fn all(array: &'a [u8]) -> Vec<Recorded<'a>> {
        let mut elements = Reader::new(Reader::new(array).longstr().unwrap_or_default());
        let next = || {
            let is_table = elements.u8().ok()? == b'F';
            let table = elements.table().ok().filter(|_| is_table)?;
            let text = |key| {
                let found = entries(table).find(|entry| entry.key == key && entry.type_id == b'S')?;
                std::str::from_utf8(Reader::new(found.value).longstr().ok()?).ok()
            };
            let count = entries(table).find(|entry| entry.key == "count")?;
            Some(Recorded {
                queue: text("queue")?,
                reason: text("reason")?,
                count: i64::from_be_bytes(count.value.try_into().ok()?),
                table,
            })
        };
        std::iter::from_fn(next).collect()
    }

    fn put_counted_up(&self, out: &mut Vec<u8>) {
        with_length(out, |out| {
            put_count(out, self.count.saturating_add(1));
            for RawEntry { octets, .. } in entries(self.table).filter(|entry| entry.key != "count") {
                out.extend_from_slice(octets);
            }
        });
    }
}

/// The routing keys in a message's CC header.
fn carbon_copies(headers: &[u8]) -> Vec<String> {
    let Some(cc) = entries(headers).find(|entry| entry.key == "CC" && entry.type_id == b'A') else {
        return Vec::new();
    };
    let mut elements = Reader::new(Reader::new(cc.value).longstr().unwrap_or_default());
    let next = || {
        let is_text = elements.u8().ok()? == b'S';
        let key = elements.longstr().ok().filter(|_| is_text)?;
        Some(String::from_utf8_lossy(key).into_owned())
    };
    std::iter::from_fn(next).collect()
}

fn put_text(out: &mut Vec<u8>, key: &str, text: &str) {
    put_shortstr(out, key);
    out.push(b'S');
    put_longstr(out, text.as_bytes());
}

fn put_count(out: &mut Vec<u8>, count: i64) {
    put_shortstr(out, "count");
    out.push(b'l');
    out.extend_from_slice(&count.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::field_table::decode_table;
    use crate::protocol::testing::generated_header;
    use amq_protocol::protocol::BasicProperties;
    use amq_protocol::types::{AMQPValue, FieldTable, LongString, ShortString};

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(LongString::from(text))
    }

    fn table<const N: usize>(entries: [(ShortString, AMQPValue); N]) -> FieldTable {
        std::collections::BTreeMap::from(entries).into()
    }

    fn message(exchange: &str, routing_key: &str, properties: BasicProperties) -> Message {
        let names = exchange_and_key(exchange, routing_key).unwrap();
        Message::new(&names, &generated_header(&properties, 4), b"body")
    }

    fn dies(message: &Message, queue: &str, reason: DeathReason, unix_seconds: u64) -> DeadLetter {
        let death = Death {
            queue,
            reason,
            unix_seconds,
        };
        let destination = Destination {
            exchange: "dlx",
            routing_key: None,
        };
        DeadLetter::new(message, &death, &destination).unwrap()
    }

    fn headers(message: &Message) -> FieldTable {
        decode_table(Properties::parse(message.properties()).unwrap().headers.unwrap()).unwrap()
    }

    /// (queue, reason, count, time) of each entry of x-death.
    fn deaths(message: &Message) -> Vec<(String, String, i64, u64)> {
        let headers = headers(message);
        let Some(AMQPValue::FieldArray(entries)) = headers.inner().get("x-death") else {
            panic!("no x-death in {headers:?}");
        };
        let entry = |value: &AMQPValue| {
            let AMQPValue::FieldTable(entry) = value else {
                panic!("{value:?}")
            };
            match ["queue", "reason", "count", "time"].map(|key| entry.inner().get(key).cloned()) {
                [
                    Some(AMQPValue::LongString(queue)),
                    Some(AMQPValue::LongString(reason)),
                    Some(AMQPValue::LongLongInt(count)),
                    Some(AMQPValue::Timestamp(time)),
                ] => (queue.to_string(), reason.to_string(), count, time),
                other => panic!("{other:?}"),
            }
        };
        entries.as_slice().iter().map(entry).collect()
    }

    #[test]
    fn the_first_death_is_told_in_full() {
        let properties = BasicProperties::default()
            .with_expiration("5000".into())
            .with_priority(3);
        let letter = dies(
            &message("orders", "new", properties),
            "q",
            DeathReason::Expired,
            1_700_000_000,
        );
        let entry = table([
            ("count".into(), AMQPValue::LongLongInt(1)),
            ("reason".into(), text("expired")),
            ("queue".into(), text("q")),
            ("time".into(), AMQPValue::Timestamp(1_700_000_000)),
            ("exchange".into(), text("orders")),
            ("routing-keys".into(), AMQPValue::FieldArray(vec![text("new")].into())),
            ("original-expiration".into(), text("5000")),
        ]);
        let expected = table([
            (
                "x-death".into(),
                AMQPValue::FieldArray(vec![AMQPValue::FieldTable(entry)].into()),
            ),
            ("x-first-death-queue".into(), text("q")),
            ("x-first-death-reason".into(), text("expired")),
            ("x-first-death-exchange".into(), text("orders")),
            ("x-last-death-queue".into(), text("q")),
            ("x-last-death-reason".into(), text("expired")),
            ("x-last-death-exchange".into(), text("orders")),
        ]);
        assert_eq!(headers(&letter.message), expected);
        let properties = Properties::parse(letter.message.properties()).unwrap();
        assert_eq!((properties.expiration, properties.priority), (None, Some(3)));
        assert_eq!(
            (letter.message.exchange(), letter.message.routing_key()),
            ("dlx", "new")
        );
        assert_eq!(letter.message.body(), b"body");
    }

    #[test]
    fn the_latest_death_comes_first_and_the_same_one_is_counted_up() {
        let first = dies(
            &message("x", "k", BasicProperties::default()),
            "a",
            DeathReason::Rejected,
            1,
        );
        let second = dies(&first.message, "b", DeathReason::Expired, 2);
        let third = dies(&second.message, "a", DeathReason::Rejected, 3);
        let fourth = dies(&third.message, "a", DeathReason::MaxLength, 4);
        let entry = |queue: &str, reason: &str, count, time| (queue.to_owned(), reason.to_owned(), count, time);
        let rejected = entry("a", "rejected", 2, 1);
        let expired = entry("b", "expired", 1, 2);
        assert_eq!(deaths(&third.message), [rejected.clone(), expired.clone()]);
        assert_eq!(deaths(&fourth.message), [entry("a", "maxlen", 1, 4), rejected, expired]);
        let headers = headers(&fourth.message);
        let companion = |key: &str| headers.inner().get(key).cloned();
        assert_eq!(companion("x-first-death-queue"), Some(text("a")));
        assert_eq!(companion("x-first-death-exchange"), Some(text("x")));
        assert_eq!(companion("x-last-death-reason"), Some(text("maxlen")));
        assert_eq!(companion("x-last-death-exchange"), Some(text("dlx")));
    }

    #[test]
    fn deaths_that_a_client_claims_do_not_count() {
        let real = dies(
            &message("x", "k", BasicProperties::default()),
            "q",
            DeathReason::Rejected,
            1,
        );
        let claimed = BasicProperties::default().with_headers(headers(&real.message));
        let letter = dies(&message("x", "k", claimed), "q", DeathReason::Rejected, 9);
        assert_eq!(deaths(&letter.message), [("q".to_owned(), "rejected".to_owned(), 1, 9)]);
        assert_eq!(headers(&letter.message).inner().len(), 7, "nothing twice");
    }

    #[test]
    fn cc_is_routed_too_unless_the_queue_names_a_routing_key() {
        let copies = table([
            ("CC".into(), AMQPValue::FieldArray(vec![text("copy")].into())),
            ("BCC".into(), AMQPValue::FieldArray(vec![text("blind")].into())),
            ("mine".into(), AMQPValue::ShortUInt(7)),
        ]);
        let original = message("x", "k", BasicProperties::default().with_headers(copies));
        let letter = dies(&original, "q", DeathReason::Rejected, 1);
        assert_eq!(letter.routing_keys, ["k", "copy"]);
        let kept = headers(&letter.message);
        assert!(kept.inner().contains_key("CC") && !kept.inner().contains_key("BCC"));

        let death = Death {
            queue: "q",
            reason: DeathReason::Rejected,
            unix_seconds: 1,
        };
        let destination = Destination {
            exchange: "",
            routing_key: Some("graveyard"),
        };
        let letter = DeadLetter::new(&original, &death, &destination).unwrap();
        assert_eq!(letter.routing_keys, ["graveyard"]);
        assert_eq!(letter.message.routing_key(), "graveyard");
        assert!(!headers(&letter.message).inner().contains_key("CC"));
        // Everything else stays as it came.
        let octets = letter.message.properties();
        let untouched = [&[4][..], b"mineu", &[0, 7]].concat();
        assert!(octets.windows(untouched.len()).any(|window| window == untouched));
    }

    #[test]
    fn a_message_that_no_client_touched_is_caught_in_a_cycle_and_one_that_was_rejected_is_not() {
        let expired = dies(
            &message("x", "k", BasicProperties::default()),
            "a",
            DeathReason::Expired,
            1,
        );
        assert!(expired.is_caught_in_cycle("a") && !expired.is_caught_in_cycle("b"));
        let rejected = dies(&expired.message, "b", DeathReason::Rejected, 2);
        assert!(!rejected.is_caught_in_cycle("a") && !rejected.is_caught_in_cycle("b"));
        let since = dies(&rejected.message, "c", DeathReason::MaxLength, 3);
        assert!(
            since.is_caught_in_cycle("c"),
            "it died there last, and nobody rejected it there"
        );
        assert!(!since.is_caught_in_cycle("a"), "somebody rejected it since");
    }

    #[test]
    fn a_message_without_headers_gets_some_and_one_with_malformed_properties_is_refused() {
        let letter = dies(
            &message("x", "k", BasicProperties::default()),
            "q",
            DeathReason::DeliveryLimit,
            1,
        );
        assert_eq!(deaths(&letter.message)[0].1, "delivery_limit");
        let names = exchange_and_key("x", "k").unwrap();
        let malformed = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 9];
        let malformed = Message::new(&names, &malformed, b"");
        let death = Death {
            queue: "q",
            reason: DeathReason::Rejected,
            unix_seconds: 0,
        };
        let destination = Destination {
            exchange: "dlx",
            routing_key: None,
        };
        assert!(DeadLetter::new(&malformed, &death, &destination).is_err());
    }
}
