//! Content headers and the properties in them (sections 2.3.5.2 and 4.2.6 of the specification).
//!
//! ```text
//!   | class 60 (2) | weight 0 (2) | body size (8) | property flags (2) | the properties whose flag is set, in order |
//! ```
//!
//! A header's octets are kept as they came and passed on so; the broker reads only what it needs.

use crate::protocol::error::{AmqpError, DecodeCause};
use crate::protocol::field_table::check_table;
use crate::protocol::method::BASIC_PUBLISH;
use crate::protocol::wire::{Reader, put_u16, put_u64};

/// The class that contents of AMQP 0-9-1 belong to.
pub const BASIC_CLASS_ID: u16 = 60;
/// `delivery_mode` of a persistent message.
pub const PERSISTENT: u8 = 2;

/// Octets of a content header before its properties.
const FIXED_LEN: usize = 12;
/// The flag word's continuation bit and its one unused bit: set, they announce properties that do not exist.
const RESERVED_FLAGS: u16 = 0b11;

/// The bit of each property in the flag word.
pub(crate) mod flag {
    pub(crate) const CONTENT_TYPE: u16 = 1 << 15;
    pub(crate) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(crate) const HEADERS: u16 = 1 << 13;
    pub(crate) const DELIVERY_MODE: u16 = 1 << 12;
    pub(crate) const PRIORITY: u16 = 1 << 11;
    pub(crate) const CORRELATION_ID: u16 = 1 << 10;
    pub(crate) const REPLY_TO: u16 = 1 << 9;
    pub(crate) const EXPIRATION: u16 = 1 << 8;
    pub(crate) const MESSAGE_ID: u16 = 1 << 7;
    pub(crate) const TIMESTAMP: u16 = 1 << 6;
    pub(crate) const TYPE: u16 = 1 << 5;
    pub(crate) const USER_ID: u16 = 1 << 4;
    pub(crate) const APP_ID: u16 = 1 << 3;
    pub(crate) const CLUSTER_ID: u16 = 1 << 2;
}

/// A content header, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Class of the content; 60 for every valid one.
    pub class_id: u16,
    /// Octets of the body that follows.
    pub body_size: u64,
    /// The whole payload of the header frame, class id first: what a message keeps.
    pub payload: &'a [u8],
    /// The property flags and the properties.
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a header frame. The properties are not looked into.
    pub fn parse(payload: &'a [u8]) -> Result<ContentHeader<'a>, DecodeCause> {
        let (fixed, properties) = payload.split_first_chunk::<FIXED_LEN>().ok_or(DecodeCause::Malformed)?;
        let [c0, c1, _, _, size @ ..] = *fixed;
        Ok(ContentHeader {
            class_id: u16::from_be_bytes([c0, c1]),
            body_size: u64::from_be_bytes(size),
            payload,
            properties,
        })
    }
}

/// The properties of a message, borrowed from its header. A short string the broker has no use for may hold any
/// octets, as in RabbitMQ; those it acts upon are UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The header table, undecoded, with its four octets of length. See [`Properties::check_headers`].
    pub headers: Option<&'a [u8]>,
    /// 2 is persistent, all else transient.
    pub delivery_mode: Option<u8>,
    /// Priority, 0 to 255.
    pub priority: Option<u8>,
    /// Correlates an answer with its question.
    pub correlation_id: Option<&'a [u8]>,
    /// Where answers go, as a rule a queue.
    pub reply_to: Option<&'a str>,
    /// Time to live in milliseconds, as a decimal number.
    pub expiration: Option<&'a str>,
    /// The application's name for the message.
    pub message_id: Option<&'a [u8]>,
    /// The application's time, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's type name (`type` on the wire).
    pub kind: Option<&'a [u8]>,
    /// Who says to have published it.
    pub user_id: Option<&'a str>,
    /// The publishing application.
    pub app_id: Option<&'a [u8]>,
    /// Without meaning since AMQP 0-9.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> Properties<'a> {
    /// Reads flags and properties, [`ContentHeader::properties`], in one pass. The header table is skipped by its length only.
    pub fn parse(properties: &'a [u8]) -> Result<Properties<'a>, DecodeCause> {
        let mut reader = Reader::new(properties);
        let flags = reader.u16()?;
        if flags & RESERVED_FLAGS != 0 {
            return Err(DecodeCause::Malformed);
        }
        let mut parsed = Properties::default();
        if flags & flag::CONTENT_TYPE != 0 {
            parsed.content_type = Some(reader.shortstr_octets()?);
        }
        if flags & flag::CONTENT_ENCODING != 0 {
            parsed.content_encoding = Some(reader.shortstr_octets()?);
        }
        if flags & flag::HEADERS != 0 {
            parsed.headers = Some(reader.table()?);
        }
        if flags & flag::DELIVERY_MODE != 0 {
            parsed.delivery_mode = Some(reader.u8()?);
        }
        if flags & flag::PRIORITY != 0 {
            parsed.priority = Some(reader.u8()?);
        }
        if flags & flag::CORRELATION_ID != 0 {
            parsed.correlation_id = Some(reader.shortstr_octets()?);
        }
        if flags & flag::REPLY_TO != 0 {
            parsed.reply_to = Some(reader.shortstr()?);
        }
        if flags & flag::EXPIRATION != 0 {
            parsed.expiration = Some(reader.shortstr()?);
        }
        parsed.parse_tail(flags, reader)?;
        Ok(parsed)
    }

    /// The properties from `message_id` on, which few messages have.
    fn parse_tail(&mut self, flags: u16, mut reader: Reader<'a>) -> Result<(), DecodeCause> {
        if flags & flag::MESSAGE_ID != 0 {
            self.message_id = Some(reader.shortstr_octets()?);
        }
        if flags & flag::TIMESTAMP != 0 {
            self.timestamp = Some(reader.u64()?);
        }
        if flags & flag::TYPE != 0 {
            self.kind = Some(reader.shortstr_octets()?);
        }
        if flags & flag::USER_ID != 0 {
            self.user_id = Some(reader.shortstr()?);
        }
        if flags & flag::APP_ID != 0 {
            self.app_id = Some(reader.shortstr_octets()?);
        }
        if flags & flag::CLUSTER_ID != 0 {
            self.cluster_id = Some(reader.shortstr_octets()?);
        }
        reader.finish()
    }

    /// The payload of a header frame with these properties, or nothing if a short string is longer than 255 bytes.
    pub fn encode(&self, body_size: u64) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(64);
        put_u16(&mut out, BASIC_CLASS_ID);
        put_u16(&mut out, 0);
        put_u64(&mut out, body_size);
        put_u16(&mut out, 0);
        let mut flags = 0;
        put_short(self.content_type, flag::CONTENT_TYPE, &mut flags, &mut out)?;
        put_short(self.content_encoding, flag::CONTENT_ENCODING, &mut flags, &mut out)?;
        if let Some(headers) = self.headers {
            flags |= flag::HEADERS;
            out.extend_from_slice(headers);
        }
        for (octet, its_flag) in [
            (self.delivery_mode, flag::DELIVERY_MODE),
            (self.priority, flag::PRIORITY),
        ] {
            if let Some(octet) = octet {
                flags |= its_flag;
                out.push(octet);
            }
        }
        put_short(self.correlation_id, flag::CORRELATION_ID, &mut flags, &mut out)?;
        put_short(self.reply_to.map(str::as_bytes), flag::REPLY_TO, &mut flags, &mut out)?;
        put_short(
            self.expiration.map(str::as_bytes),
            flag::EXPIRATION,
            &mut flags,
            &mut out,
        )?;
        put_short(self.message_id, flag::MESSAGE_ID, &mut flags, &mut out)?;
        if let Some(timestamp) = self.timestamp {
            flags |= flag::TIMESTAMP;
            put_u64(&mut out, timestamp);
        }
        put_short(self.kind, flag::TYPE, &mut flags, &mut out)?;
        put_short(self.user_id.map(str::as_bytes), flag::USER_ID, &mut flags, &mut out)?;
        put_short(self.app_id, flag::APP_ID, &mut flags, &mut out)?;
        put_short(self.cluster_id, flag::CLUSTER_ID, &mut flags, &mut out)?;
        out.get_mut(FIXED_LEN..FIXED_LEN + 2)?
            .copy_from_slice(&flags.to_be_bytes());
        Some(out)
    }

    /// Checks the header table, if there is one: structure, types, keys, and depth.
    pub fn check_headers(&self) -> Result<(), DecodeCause> {
        self.headers.map_or(Ok(()), check_table)
    }

    /// Whether the message is to survive a restart.
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(PERSISTENT)
    }
}

/// Appends a short string that is there, and sets its flag.
fn put_short(octets: Option<&[u8]>, its_flag: u16, flags: &mut u16, out: &mut Vec<u8>) -> Option<()> {
    let Some(octets) = octets else { return Some(()) };
    out.push(u8::try_from(octets.len()).ok()?);
    out.extend_from_slice(octets);
    *flags |= its_flag;
    Some(())
}

/// The fast path for a message with no property, or with `delivery_mode` alone: its delivery mode, 0 when it has none.
/// Nothing when there is more to read (or something wrong), for [`Properties::parse`] to find out.
pub fn only_delivery_mode(properties: &[u8]) -> Option<u8> {
    match *properties {
        [0x10, 0, mode] => Some(mode),
        [0, 0] => Some(0),
        _ => None,
    }
}

/// `delivery_mode` and `priority`, 0 where absent, without looking at what comes after them. Malformed properties
/// count as absent.
#[inline]
pub fn delivery_mode_and_priority(properties: &[u8]) -> (u8, u8) {
    if let Some(mode) = only_delivery_mode(properties) {
        return (mode, 0);
    }
    scan_delivery_mode_and_priority(properties).unwrap_or_default()
}

/// Whether the properties, flags first, say how long the message may live.
#[inline]
pub fn has_expiration(properties: &[u8]) -> bool {
    properties
        .first_chunk::<2>()
        .is_some_and(|flags| u16::from_be_bytes(*flags) & flag::EXPIRATION != 0)
}

fn scan_delivery_mode_and_priority(properties: &[u8]) -> Result<(u8, u8), DecodeCause> {
    let mut reader = Reader::new(properties);
    let flags = reader.u16()?;
    if flags & flag::CONTENT_TYPE != 0 {
        reader.shortstr_octets()?;
    }
    if flags & flag::CONTENT_ENCODING != 0 {
        reader.shortstr_octets()?;
    }
    if flags & flag::HEADERS != 0 {
        reader.longstr()?;
    }
    let delivery_mode = if flags & flag::DELIVERY_MODE != 0 {
        reader.u8()?
    } else {
        0
    };
    let priority = if flags & flag::PRIORITY != 0 { reader.u8()? } else { 0 };
    Ok((delivery_mode, priority))
}

/// The error for properties that cannot be read, blamed on the basic.publish they came with.
pub fn properties_error(cause: DecodeCause, properties: &[u8]) -> AmqpError {
    let (class_id, method_id) = BASIC_PUBLISH;
    cause.in_method(class_id, method_id, properties).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{generated_header, generated_table, properties};
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read_without_its_properties() {
        let payload = [0, 60, 0, 7, 0, 0, 0, 0, 0, 1, 0, 2, 0xFF, 0xFF];
        let header = ContentHeader::parse(&payload).unwrap();
        assert_eq!((header.class_id, header.body_size), (60, 65_538));
        assert_eq!((header.payload, header.properties), (&payload[..], &[0xFF, 0xFF][..]));
        assert_eq!(ContentHeader::parse(&payload[..11]), Err(DecodeCause::Malformed));
    }

    proptest! {
        #[test]
        fn properties_that_are_encoded_are_read_back(given in properties()) {
            let payload = generated_header(&given, 7);
            let parsed = Properties::parse(ContentHeader::parse(&payload).unwrap().properties).unwrap();
            prop_assert_eq!(parsed.encode(7), Some(payload));
        }
    }

    #[test]
    fn a_property_longer_than_a_short_string_is_not_encoded() {
        let long = "x".repeat(256);
        let properties = Properties {
            reply_to: Some(&long),
            ..Properties::default()
        };
        assert_eq!(properties.encode(0), None);
    }

    #[test]
    fn the_fast_path_takes_delivery_mode_alone() {
        assert_eq!(only_delivery_mode(&[0x10, 0, 2]), Some(2));
        assert_eq!(only_delivery_mode(&[0, 0]), Some(0));
        assert_eq!(only_delivery_mode(&[0x18, 0, 2, 3]), None);
        assert_eq!(only_delivery_mode(&[0x10, 0]), None);
        assert_eq!(only_delivery_mode(&[0x10, 0, 2, 0]), None);
    }

    #[test]
    fn properties_beyond_the_fourteen_are_malformed() {
        assert_eq!(Properties::parse(&[0, 1, 0, 0]), Err(DecodeCause::Malformed));
        assert_eq!(Properties::parse(&[0, 2]), Err(DecodeCause::Malformed));
        assert_eq!(Properties::parse(&[0]), Err(DecodeCause::Malformed));
        assert_eq!(Properties::parse(&[0, 0, 1]), Err(DecodeCause::Malformed));
        assert_eq!(Properties::parse(&[0, 0]), Ok(Properties::default()));
    }

    #[test]
    fn only_strings_the_broker_acts_upon_must_be_utf_8() {
        for flags in [flag::REPLY_TO, flag::EXPIRATION, flag::USER_ID] {
            let [high, low] = flags.to_be_bytes();
            assert_eq!(Properties::parse(&[high, low, 1, 0xFF]), Err(DecodeCause::InvalidUtf8));
        }
        let [high, low] = flag::CORRELATION_ID.to_be_bytes();
        let bytes = [high, low, 1, 0xFF];
        assert_eq!(Properties::parse(&bytes).unwrap().correlation_id, Some(&[0xFF][..]));
    }

    #[test]
    fn malformed_headers_are_found_on_demand() {
        let bytes = [0x20, 0, 0, 0, 0, 3, 1, b'k', b'?'];
        let properties = Properties::parse(&bytes).unwrap();
        assert_eq!(properties.headers, Some(&bytes[2..]));
        assert_eq!(properties.check_headers(), Err(DecodeCause::Malformed));
        assert_eq!(Properties::default().check_headers(), Ok(()));
    }

    #[test]
    fn malformed_properties_are_blamed_on_the_publish() {
        let error = properties_error(DecodeCause::Malformed, &[0, 1]);
        assert_eq!(error.reply_text(), "FRAME_ERROR - cannot decode <<0,1>>");
        assert_eq!((error.class_id, error.method_id), (60, 40));
    }

    proptest! {
        #[test]
        fn properties_are_read_as_amq_protocol_wrote_them(expected in properties()) {
            let payload = generated_header(&expected, 9);
            let header = ContentHeader::parse(&payload).unwrap();
            let parsed = Properties::parse(header.properties).unwrap();
            let octets = |text: &Option<amq_protocol::types::ShortString>| {
                text.as_ref().map(|text| text.as_str().as_bytes().to_vec())
            };
            let text = |text: &Option<amq_protocol::types::ShortString>| {
                text.as_ref().map(|text| text.as_str().to_owned())
            };
            prop_assert_eq!(parsed.content_type.map(Vec::from), octets(expected.content_type()));
            prop_assert_eq!(parsed.content_encoding.map(Vec::from), octets(expected.content_encoding()));
            prop_assert_eq!(parsed.headers.map(Vec::from), expected.headers().as_ref().map(generated_table));
            prop_assert_eq!(parsed.delivery_mode, *expected.delivery_mode());
            prop_assert_eq!(parsed.priority, *expected.priority());
            prop_assert_eq!(parsed.correlation_id.map(Vec::from), octets(expected.correlation_id()));
            prop_assert_eq!(parsed.reply_to.map(str::to_owned), text(expected.reply_to()));
            prop_assert_eq!(parsed.expiration.map(str::to_owned), text(expected.expiration()));
            prop_assert_eq!(parsed.message_id.map(Vec::from), octets(expected.message_id()));
            prop_assert_eq!(parsed.timestamp, *expected.timestamp());
            prop_assert_eq!(parsed.kind.map(Vec::from), octets(expected.kind()));
            prop_assert_eq!(parsed.user_id.map(str::to_owned), text(expected.user_id()));
            prop_assert_eq!(parsed.app_id.map(Vec::from), octets(expected.app_id()));
            prop_assert_eq!(parsed.cluster_id.map(Vec::from), octets(expected.cluster_id()));
            prop_assert_eq!(parsed.is_persistent(), *expected.delivery_mode() == Some(2));
            prop_assert_eq!(parsed.check_headers(), Ok(()));
            let expected = (parsed.delivery_mode.unwrap_or(0), parsed.priority.unwrap_or(0));
            prop_assert_eq!(delivery_mode_and_priority(header.properties), expected);
        }

        #[test]
        fn truncated_properties_are_malformed(expected in properties(), end: prop::sample::Index) {
            let payload = generated_header(&expected, 0);
            let properties = &payload[FIXED_LEN..];
            let cut = &properties[..end.index(properties.len())];
            prop_assert!(Properties::parse(cut).is_err());
            prop_assert!(only_delivery_mode(cut).is_none_or(|mode| mode == 0));
            let _ = delivery_mode_and_priority(cut);
        }

        #[test]
        fn any_bytes_are_properties_or_an_error(bytes: Vec<u8>) {
            if let Ok(parsed) = Properties::parse(&bytes) {
                let _ = parsed.check_headers();
            }
            let _ = delivery_mode_and_priority(&bytes);
            let _ = ContentHeader::parse(&bytes);
        }
    }
}
