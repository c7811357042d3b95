//! A message in memory: one allocation, shared by reference count, laid out so that it is written to the wire and to
//! disk without being put together again.
//!
//! ```text
//!   stored form:  | version (1) | header length (4) | exchange | routing key | content header | body |
//! ```
//!
//! Exchange and routing key are short strings; the content header is a header frame's payload and tells the body's size.
//! A body up to [`INLINE_BODY_MAX_BYTES`] lies in the same allocation; a larger one is kept apart as [`Bytes`], so that it
//! need not be copied.

use crate::protocol::content::{
    BASIC_CLASS_ID, ContentHeader, PERSISTENT, Properties, delivery_mode_and_priority, has_expiration,
};
use crate::protocol::wire::Reader;
use bytes::Bytes;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use triomphe::{Arc, HeaderWithLength, ThinArc, UniqueArc};

/// Largest body in octets that is copied into the message's own allocation.
pub const INLINE_BODY_MAX_BYTES: usize = 4096;

/// First octet of the stored form.
const STORED_VERSION: u8 = 1;
/// First octet of the stored form of a message whose x-death header is the broker's and not a client's.
const STORED_VERSION_DEAD: u8 = 2;
/// First octet of the stored form of a message that expires: its time in eight octets follows, then the stored form of
/// the message without it.
const STORED_VERSION_EXPIRING: u8 = 3;
/// Octets of the stored form before the exchange.
const STORED_PREFIX_LEN: usize = 5;
/// Octets of a content header before its properties.
const CONTENT_HEADER_FIXED_LEN: usize = 12;

/// What is known about a message's octets without reading them.
struct MessageHead {
    /// Where the content header begins.
    header_at: u32,
    /// Where the content header ends and an inline body begins.
    header_end: u32,
    delivery_mode: u8,
    priority: u8,
    exchange_len: u8,
    has_expiration: bool,
    /// A body that is not in the slice. Apart, to keep the many small messages small; all messages that have this body by
    /// dead-lettering have the same one.
    large_body: Option<Arc<LargeBody>>,
}

/// A body that is kept apart.
struct LargeBody {
    bytes: Bytes,
    /// Whether several queues are to store it once, and as what they have: see [`Message::share_body`].
    stored: AtomicU64,
}

/// Each queue stores the body for itself.
const NOT_SHARED: u64 = u64::MAX;
/// It is to be stored once, and is not yet.
const TO_SHARE: u64 = u64::MAX - 1;

impl LargeBody {
    fn new(bytes: Bytes) -> Arc<LargeBody> {
        Arc::new(LargeBody {
            bytes,
            stored: AtomicU64::new(NOT_SHARED),
        })
    }
}

impl MessageHead {
    fn new(exchange_and_key: &[u8], header_payload: &[u8], large_body: Option<Arc<LargeBody>>) -> MessageHead {
        let properties = header_payload.get(CONTENT_HEADER_FIXED_LEN..).unwrap_or_default();
        let (delivery_mode, priority) = delivery_mode_and_priority(properties);
        let header_at = STORED_PREFIX_LEN + exchange_and_key.len();
        MessageHead {
            header_at: header_at as u32,
            header_end: (header_at + header_payload.len()) as u32,
            delivery_mode,
            priority,
            exchange_len: exchange_and_key.first().copied().unwrap_or(0),
            has_expiration: has_expiration(properties),
            large_body,
        }
    }
}

/// A published message: eight octets that point to all there is. Cloning counts a reference.
#[derive(Clone)]
pub struct Message {
    /// The slice is the stored form, without the body if that is kept apart.
    inner: ThinArc<MessageHead, u8>,
}

/// The parts of a message that go to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// Exchange and routing key, two short strings as they lie on the wire.
    pub exchange_and_key: &'a [u8],
    /// The content header: a header frame's payload, class id first.
    pub header: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl MessageView<'_> {
    /// Octets of all parts together.
    #[inline]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a message has a header, so it is never empty"
    )]
    pub fn len(&self) -> usize {
        self.exchange_and_key.len() + self.header.len() + self.body.len()
    }
}

/// Stored octets that are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredMessageError {
    /// Written by a version of the broker that this one does not know.
    #[error("unknown format version {0} of a stored message")]
    UnknownVersion(u8),
    /// The lengths in it do not fit together.
    #[error("malformed stored message")]
    Malformed,
}

impl Message {
    /// Copies a message together. `exchange_and_key` are the two short strings, and `header_payload` is a header frame's
    /// payload that announces `body.len()` octets.
    pub fn new(exchange_and_key: &[u8], header_payload: &[u8], body: &[u8]) -> Message {
        let names_and_header = (exchange_and_key, header_payload);
        if body.len() > INLINE_BODY_MAX_BYTES {
            let body = Some(LargeBody::new(Bytes::copy_from_slice(body)));
            return Message::build(STORED_VERSION, names_and_header, &[], body);
        }
        Message::build(STORED_VERSION, names_and_header, body, None)
    }

    /// As [`Message::new`], keeping a large body without copying it. A small one is copied, for it might keep a far
    /// larger buffer alive.
    pub fn with_large_body(exchange_and_key: &[u8], header_payload: &[u8], body: Bytes) -> Message {
        let names_and_header = (exchange_and_key, header_payload);
        if body.len() <= INLINE_BODY_MAX_BYTES {
            return Message::build(STORED_VERSION, names_and_header, &body, None);
        }
        Message::build(STORED_VERSION, names_and_header, &[], Some(LargeBody::new(body)))
    }

    /// A message with the same body under another exchange, routing key and header, in which the broker has recorded its
    /// death. A large body is shared.
    pub fn dead_lettered(&self, exchange_and_key: &[u8], header_payload: &[u8]) -> Message {
        let names_and_header = (exchange_and_key, header_payload);
        match &self.head().large_body {
            Some(body) => {
                let body = Some(Arc::clone(body));
                Message::build(STORED_VERSION_DEAD, names_and_header, &[], body)
            }
            None => Message::build(STORED_VERSION_DEAD, names_and_header, self.body(), None),
        }
    }

    /// The same body in a message of the broker's own. A large body is shared.
    pub fn with_names(&self, exchange_and_key: &[u8], header_payload: &[u8]) -> Message {
        let names_and_header = (exchange_and_key, header_payload);
        match &self.head().large_body {
            Some(body) => Message::build(STORED_VERSION, names_and_header, &[], Some(Arc::clone(body))),
            None => Message::build(STORED_VERSION, names_and_header, self.body(), None),
        }
    }

    /// The same message with another content header, which must announce the same body. A large body is shared, and what
    /// the broker recorded of its deaths stays so.
    pub fn with_header(&self, header_payload: &[u8]) -> Message {
        let names_and_header = (self.exchange_and_key(), header_payload);
        let version = if self.records_deaths() {
            STORED_VERSION_DEAD
        } else {
            STORED_VERSION
        };
        match &self.head().large_body {
            Some(body) => Message::build(version, names_and_header, &[], Some(Arc::clone(body))),
            None => Message::build(version, names_and_header, self.body(), None),
        }
    }

    /// Whether the broker wrote its x-death header. What a client put there says nothing.
    pub fn records_deaths(&self) -> bool {
        self.inner.slice.first() == Some(&STORED_VERSION_DEAD)
    }

    /// Writes the parts straight into the message's allocation, so that a body is copied once.
    fn build(
        version: u8,
        (exchange_and_key, header_payload): (&[u8], &[u8]),
        inline_body: &[u8],
        large_body: Option<Arc<LargeBody>>,
    ) -> Message {
        let head = MessageHead::new(exchange_and_key, header_payload, large_body);
        let [l0, l1, l2, l3] = (header_payload.len() as u32).to_be_bytes();
        let prefix = [version, l0, l1, l2, l3];
        let length = prefix.len() + exchange_and_key.len() + header_payload.len() + inline_body.len();
        let head = HeaderWithLength::new(head, length);
        let mut inner = UniqueArc::from_header_and_uninit_slice(head, length);
        let rest = write(&mut inner.slice, &prefix);
        let rest = write(rest, exchange_and_key);
        let rest = write(rest, header_payload);
        let rest = write(rest, inline_body);
        assert!(rest.is_empty(), "the parts fill the slice");
        #[expect(unsafe_code, reason = "copying the parts together first costs a tenth of a publish")]
        // SAFETY: all octets of the slice are written, because each part follows the one before and nothing is left.
        let inner = unsafe { inner.assume_init_slice_with_header() };
        Message {
            inner: Arc::into_thin(inner.shareable()),
        }
    }

    fn head(&self) -> &MessageHead {
        &self.inner.header.header
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        self.inner.slice.get(from..to).unwrap_or_default()
    }

    /// The parts that go to the wire.
    #[inline]
    pub fn view(&self) -> MessageView<'_> {
        MessageView {
            exchange_and_key: self.exchange_and_key(),
            header: self.header(),
            body: self.body(),
        }
    }

    /// Exchange and routing key, two short strings as they lie on the wire.
    #[inline]
    pub fn exchange_and_key(&self) -> &[u8] {
        self.part(STORED_PREFIX_LEN, self.head().header_at as usize)
    }

    /// Name of the exchange it was published to, empty for the default one.
    pub fn exchange(&self) -> &str {
        let from = STORED_PREFIX_LEN + 1;
        std::str::from_utf8(self.part(from, from + usize::from(self.head().exchange_len))).unwrap_or_default()
    }

    /// Routing key it was published with.
    pub fn routing_key(&self) -> &str {
        let from = STORED_PREFIX_LEN + 2 + usize::from(self.head().exchange_len);
        std::str::from_utf8(self.part(from, self.head().header_at as usize)).unwrap_or_default()
    }

    /// The content header: a header frame's payload, class id first.
    #[inline]
    pub fn header(&self) -> &[u8] {
        self.part(self.head().header_at as usize, self.head().header_end as usize)
    }

    /// Property flags and properties, for [`Properties::parse`](crate::protocol::content::Properties::parse).
    pub fn properties(&self) -> &[u8] {
        self.header().get(CONTENT_HEADER_FIXED_LEN..).unwrap_or_default()
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &[u8] {
        match &self.head().large_body {
            Some(body) => &body.bytes,
            None => self
                .inner
                .slice
                .get(self.head().header_end as usize..)
                .unwrap_or_default(),
        }
    }

    /// Octets of the body.
    pub fn body_len(&self) -> usize {
        self.body().len()
    }

    /// Whether `delivery_mode` is 2.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.head().delivery_mode == PERSISTENT
    }

    /// `priority`, 0 if the message has none.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.head().priority
    }

    /// Its `expiration` in milliseconds, if it has one and that is a number.
    #[inline]
    pub fn expiration_millis(&self) -> Option<u64> {
        if !self.head().has_expiration {
            return None;
        }
        self.read_expiration_millis()
    }

    /// Its `timestamp`, in seconds since 1970. Its properties are read for that.
    pub fn timestamp(&self) -> Option<u64> {
        Properties::parse(self.properties()).ok()?.timestamp
    }

    #[cold]
    fn read_expiration_millis(&self) -> Option<u64> {
        let properties = Properties::parse(self.properties()).ok()?;
        properties.expiration?.parse().ok()
    }

    /// The stored form in two parts, to be written one after the other; the second is empty unless the body is large.
    pub fn stored_parts(&self) -> [&[u8]; 2] {
        let large_body = self.head().large_body.as_deref().map_or(&[][..], |body| &body.bytes);
        [&self.inner.slice, large_body]
    }

    /// Has the queues store its body once for all of them, if it is large enough to be kept apart.
    #[inline]
    pub fn share_body(&self) {
        if let Some(body) = &self.head().large_body {
            let _ = body
                .stored
                .compare_exchange(NOT_SHARED, TO_SHARE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether its body is to be stored once for all queues that have it.
    #[inline]
    pub fn shares_body(&self) -> bool {
        let body = self.head().large_body.as_deref();
        body.is_some_and(|body| body.stored.load(Ordering::Relaxed) != NOT_SHARED)
    }

    /// As what its shared body is stored, if it is. To be asked and [told](Self::set_shared_body) under one lock.
    pub fn shared_body(&self) -> Option<u64> {
        let stored = self.head().large_body.as_ref()?.stored.load(Ordering::Relaxed);
        (stored != NOT_SHARED && stored != TO_SHARE).then_some(stored)
    }

    /// Its body is stored once, as this.
    pub fn set_shared_body(&self, stored: u64) {
        if let Some(body) = &self.head().large_body {
            body.stored.store(stored, Ordering::Relaxed);
        }
    }

    /// Octets of the stored form.
    pub fn stored_len(&self) -> usize {
        let [first, second] = self.stored_parts();
        first.len() + second.len()
    }

    /// Appends what stands before the stored form of a message that expires, in milliseconds since 1970.
    pub fn put_stored_expiry(expires_at_millis: NonZeroU64, out: &mut Vec<u8>) {
        out.push(STORED_VERSION_EXPIRING);
        out.extend_from_slice(&expires_at_millis.get().to_be_bytes());
    }

    /// When a stored message expires, if it does, and its stored form without that.
    pub fn split_stored_expiry(stored: &[u8]) -> (Option<NonZeroU64>, &[u8]) {
        match stored.split_first_chunk::<9>() {
            Some(([STORED_VERSION_EXPIRING, millis @ ..], rest)) => {
                (NonZeroU64::new(u64::from_be_bytes(*millis)), rest)
            }
            _ => (None, stored),
        }
    }

    /// Octets of the body of a stored form, from what stands before the body. 0 if it is malformed.
    pub fn stored_body_len(stored: &[u8]) -> u64 {
        let (_, stored) = Message::split_stored_expiry(stored);
        let find = || {
            let mut names = Reader::new(stored.get(STORED_PREFIX_LEN..)?);
            names.shortstr().ok()?;
            names.shortstr().ok()?;
            // Class and weight come first.
            let (size, _) = names.rest().get(4..)?.split_first_chunk::<8>()?;
            Some(u64::from_be_bytes(*size))
        };
        find().unwrap_or(0)
    }

    /// Reads a stored form, which must fill the slice.
    pub fn from_stored(stored: &[u8]) -> Result<Message, StoredMessageError> {
        let (_, stored) = Message::split_stored_expiry(stored);
        let malformed = StoredMessageError::Malformed;
        let (&[version, l0, l1, l2, l3], rest) = stored.split_first_chunk::<STORED_PREFIX_LEN>().ok_or(malformed)?;
        if version != STORED_VERSION && version != STORED_VERSION_DEAD {
            return Err(StoredMessageError::UnknownVersion(version));
        }
        let mut names = Reader::new(rest);
        names.shortstr().map_err(|_| malformed)?;
        names.shortstr().map_err(|_| malformed)?;
        let (exchange_and_key, rest) = rest.split_at(rest.len() - names.rest().len());
        let header_len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let (header, body) = rest.split_at_checked(header_len).ok_or(malformed)?;
        let parsed = ContentHeader::parse(header).map_err(|_| malformed)?;
        if parsed.class_id != BASIC_CLASS_ID || parsed.body_size != body.len() as u64 {
            return Err(malformed);
        }
        let names_and_header = (exchange_and_key, header);
        if body.len() > INLINE_BODY_MAX_BYTES {
            let body = Some(LargeBody::new(Bytes::copy_from_slice(body)));
            return Ok(Message::build(version, names_and_header, &[], body));
        }
        Ok(Message::build(version, names_and_header, body, None))
    }

    /// Octets of memory the message takes, whoever else holds it.
    pub fn memory_size(&self) -> usize {
        let counters = 2 * size_of::<usize>();
        let large = self
            .head()
            .large_body
            .as_deref()
            .map_or(0, |body| size_of::<usize>() + size_of::<LargeBody>() + body.bytes.len());
        counters + size_of::<MessageHead>() + self.inner.slice.len() + large
    }
}

/// Writes a part to the beginning of `place`; what of `place` is left.
fn write<'a>(place: &'a mut [MaybeUninit<u8>], part: &[u8]) -> &'a mut [MaybeUninit<u8>] {
    let (place, rest) = place.split_at_mut(part.len());
    place.write_copy_of_slice(part);
    rest
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("body_len", &self.body_len())
            .field("persistent", &self.is_persistent())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{generated_header, properties, short_strings};
    use crate::protocol::wire;
    use amq_protocol::protocol::BasicProperties;
    use proptest::prelude::*;

    fn message(exchange: &str, routing_key: &str, properties: &BasicProperties, body: &[u8]) -> Message {
        let names = wire::exchange_and_key(exchange, routing_key).unwrap();
        Message::new(&names, &generated_header(properties, body.len() as u64), body)
    }

    fn stored(message: &Message) -> Vec<u8> {
        message.stored_parts().concat()
    }

    #[test]
    fn a_handle_takes_eight_bytes_and_so_does_an_optional_one() {
        assert_eq!(size_of::<Message>(), 8);
        assert_eq!(size_of::<Option<Message>>(), 8);
    }

    #[test]
    fn a_small_message_costs_forty_bytes_more_than_its_octets() {
        let small = message("x", "key", &BasicProperties::default().with_delivery_mode(2), b"body");
        assert_eq!(small.memory_size(), 40 + stored(&small).len());
    }

    #[test]
    fn the_parts_of_a_message_are_found_again() {
        let properties = BasicProperties::default().with_delivery_mode(2).with_priority(7);
        let message = message("logs", "käse.brot", &properties, b"body");
        assert_eq!((message.exchange(), message.routing_key()), ("logs", "käse.brot"));
        assert_eq!(message.header(), generated_header(&properties, 4));
        assert_eq!(message.properties(), &[0x18, 0, 2, 7]);
        assert_eq!((message.body(), message.body_len()), (&b"body"[..], 4));
        assert!(message.is_persistent());
        assert_eq!(message.priority(), 7);
        assert_eq!(message.view().exchange_and_key, "\x04logs\x0akäse.brot".as_bytes());
    }

    #[test]
    fn a_clone_shares_the_octets() {
        let message = message("", "q", &BasicProperties::default(), b"body");
        let clone = message.clone();
        assert_eq!(message.body().as_ptr(), clone.body().as_ptr());
        drop(message);
        assert_eq!(clone.body(), b"body");
    }

    #[test]
    fn a_large_body_is_kept_without_copying_and_a_small_one_is_not_kept() {
        let names = wire::exchange_and_key("", "q").unwrap();
        for (len, shared) in [(INLINE_BODY_MAX_BYTES + 1, true), (INLINE_BODY_MAX_BYTES, false)] {
            let body = Bytes::from(vec![b'x'; len]);
            let header = generated_header(&BasicProperties::default(), len as u64);
            let message = Message::with_large_body(&names, &header, body.clone());
            assert_eq!(message.body(), body);
            assert_eq!(message.body().as_ptr() == body.as_ptr(), shared);
            assert_eq!(message.stored_parts()[1].is_empty(), !shared);
            assert!(message.memory_size() >= len);
        }
    }

    #[test]
    fn a_dead_lettered_message_keeps_its_body_and_nothing_else() {
        for (len, shared) in [(INLINE_BODY_MAX_BYTES + 1, true), (100, false)] {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let first = message("x", "k", &properties, &vec![b'x'; len]);
            let names = wire::exchange_and_key("dlx", "dead").unwrap();
            let header = generated_header(&properties.with_priority(3), len as u64);
            let second = first.dead_lettered(&names, &header);
            assert_eq!(second.body(), first.body());
            assert_eq!(second.body().as_ptr() == first.body().as_ptr(), shared);
            assert_eq!((second.exchange(), second.routing_key()), ("dlx", "dead"));
            assert_eq!((second.header(), second.priority()), (&header[..], 3));
            assert!(second.records_deaths() && !first.records_deaths());
            assert!(Message::from_stored(&stored(&second)).unwrap().records_deaths());
            let third = second.with_header(first.header());
            assert_eq!((third.exchange(), third.header()), ("dlx", first.header()));
            assert!(third.records_deaths() && !first.with_header(first.header()).records_deaths());
        }
    }

    #[test]
    fn a_large_body_is_known_by_what_it_is_stored_as_and_a_dead_letter_has_the_same() {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let large = message("x", "k", &properties, &[b'x'; INLINE_BODY_MAX_BYTES + 1]);
        assert!(!large.shares_body());
        large.share_body();
        assert_eq!((large.shares_body(), large.shared_body()), (true, None));
        large.set_shared_body(0);
        large.share_body();
        let names = wire::exchange_and_key("dlx", "dead").unwrap();
        let letter = large.dead_lettered(&names, large.header());
        assert_eq!((letter.shares_body(), letter.shared_body()), (true, Some(0)));
        let small = message("x", "k", &properties, b"body");
        small.share_body();
        assert!(!small.shares_body());
    }

    #[test]
    fn stored_names_that_are_not_utf_8_are_malformed() {
        let mut octets = stored(&message("x", "k", &BasicProperties::default(), b"!"));
        octets[6] = 0xFF;
        let malformed = StoredMessageError::Malformed;
        assert_eq!(Message::from_stored(&octets).unwrap_err(), malformed);
    }

    #[test]
    fn the_stored_form_is_fixed() {
        let message = message("x", "k", &BasicProperties::default().with_delivery_mode(1), b"!");
        let expected = [
            &[1, 0, 0, 0, 15][..],
            &[1, b'x', 1, b'k'],
            &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 1],
            b"!",
        ]
        .concat();
        assert_eq!(stored(&message), expected);
        assert_eq!(message.stored_len(), expected.len());
    }

    #[test]
    fn an_unknown_stored_version_is_named() {
        let mut octets = stored(&message("x", "k", &BasicProperties::default(), b"!"));
        octets[0] = 4;
        assert_eq!(
            Message::from_stored(&octets).unwrap_err(),
            StoredMessageError::UnknownVersion(4)
        );
    }

    proptest! {
        #[test]
        fn a_stored_message_comes_back_equal(
            exchange in short_strings(),
            routing_key in short_strings(),
            properties in properties(),
            body_len in prop_oneof![0..200_usize, 4090..4100_usize, Just(70_000)],
            fill: u8,
        ) {
            let message = message(exchange.as_str(), routing_key.as_str(), &properties, &vec![fill; body_len]);
            let again = Message::from_stored(&stored(&message)).unwrap();
            prop_assert_eq!(again.view(), message.view());
            prop_assert_eq!(again.exchange(), exchange.as_str());
            prop_assert_eq!(again.routing_key(), routing_key.as_str());
            prop_assert_eq!(again.is_persistent(), *properties.delivery_mode() == Some(2));
            prop_assert_eq!(again.priority(), properties.priority().unwrap_or(0));
            prop_assert_eq!(stored(&again), stored(&message));
            prop_assert_eq!(again.memory_size(), message.memory_size());
        }

        #[test]
        fn truncated_and_extended_stored_messages_are_malformed(
            properties in properties(), body: Vec<u8>, end: prop::sample::Index,
        ) {
            let mut octets = stored(&message("x", "k", &properties, &body));
            prop_assert!(Message::from_stored(&octets[..end.index(octets.len())]).is_err());
            octets.push(0);
            prop_assert_eq!(Message::from_stored(&octets).unwrap_err(), StoredMessageError::Malformed);
        }

        #[test]
        fn any_stored_bytes_are_a_message_or_an_error(mut bytes: Vec<u8>, version: bool) {
            if let (true, Some(first)) = (version, bytes.first_mut()) {
                *first = STORED_VERSION;
            }
            if let Ok(message) = Message::from_stored(&bytes) {
                prop_assert_eq!(stored(&message), Message::split_stored_expiry(&bytes).1);
                let _ = (message.exchange(), message.routing_key(), message.properties());
            }
        }

        #[test]
        fn a_message_of_any_parts_never_panics(names: Vec<u8>, header: Vec<u8>, body: Vec<u8>) {
            let message = Message::new(&names, &header, &body);
            prop_assert_eq!(message.exchange_and_key(), names);
            prop_assert_eq!(message.header(), header);
            prop_assert_eq!(message.body(), body);
            let _ = (message.exchange(), message.routing_key(), message.properties());
        }
    }
}
