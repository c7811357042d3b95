//! A content header with some properties replaced or removed, everything else byte for byte as it was.

use crate::protocol::content::{ContentHeader, Properties, flag};
use crate::protocol::error::DecodeCause;
use crate::protocol::field_table::with_long;
use crate::protocol::message::Message;
use crate::protocol::wire::{Reader, put_shortstr};

/// What becomes of one property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is, present or absent.
    #[default]
    Keep,
    /// It is absent afterwards.
    Remove,
    /// It has this value afterwards.
    Set(T),
}

/// Changes to the properties of a message; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges<'a> {
    /// The header table, with its four octets of length.
    pub headers: Change<&'a [u8]>,
    /// `delivery_mode`.
    pub delivery_mode: Change<u8>,
    /// `priority`.
    pub priority: Change<u8>,
    /// `reply_to`; cut at 255 bytes.
    pub reply_to: Change<&'a str>,
    /// `expiration`; cut at 255 bytes.
    pub expiration: Change<&'a str>,
    /// `timestamp`, seconds since 1970.
    pub timestamp: Change<u64>,
    /// Octets of the body, when that changes too.
    pub body_size: Option<u64>,
}

/// The payload of a header frame after the changes. All other octets are those of `header_payload`. Fails only for a
/// header whose properties are malformed.
pub fn rewrite(header_payload: &[u8], changes: &HeaderChanges<'_>) -> Result<Vec<u8>, DecodeCause> {
    let header = ContentHeader::parse(header_payload)?;
    let fixed_len = header_payload.len() - header.properties.len();
    let mut reader = Reader::new(header.properties);
    let mut writer = Writer {
        flags: reader.u16()?,
        reader,
        out: Vec::with_capacity(header_payload.len() + 64),
    };
    writer
        .out
        .extend_from_slice(header_payload.get(..fixed_len).unwrap_or_default());
    if let Some(body_size) = changes.body_size
        && let Some(slot) = writer.out.get_mut(4..12)
    {
        slot.copy_from_slice(&body_size.to_be_bytes());
    }
    writer.out.extend_from_slice(&[0, 0]);
    let shortstr = |out: &mut Vec<u8>, text: &str| put_shortstr(out, text);
    let octet = |out: &mut Vec<u8>, value: u8| out.push(value);
    writer.keep(flag::CONTENT_TYPE, Reader::shortstr_octets)?;
    writer.keep(flag::CONTENT_ENCODING, Reader::shortstr_octets)?;
    writer.change(flag::HEADERS, Reader::longstr, changes.headers, |out, table| {
        out.extend_from_slice(table)
    })?;
    writer.change(flag::DELIVERY_MODE, Reader::u8, changes.delivery_mode, octet)?;
    writer.change(flag::PRIORITY, Reader::u8, changes.priority, octet)?;
    writer.keep(flag::CORRELATION_ID, Reader::shortstr_octets)?;
    writer.change(flag::REPLY_TO, Reader::shortstr_octets, changes.reply_to, shortstr)?;
    writer.change(flag::EXPIRATION, Reader::shortstr_octets, changes.expiration, shortstr)?;
    writer.keep(flag::MESSAGE_ID, Reader::shortstr_octets)?;
    writer.change(flag::TIMESTAMP, Reader::u64, changes.timestamp, |out, time| {
        out.extend_from_slice(&time.to_be_bytes());
    })?;
    writer.finish(fixed_len)
}

/// The message as a consumer gets it that is told how many deliveries of it failed: with the header `x-delivery-count`. As it is
/// if its properties are malformed.
pub fn with_delivery_count(message: &Message, delivery_count: u32) -> Message {
    let told = || {
        let properties = Properties::parse(message.properties()).ok()?;
        let headers = with_long(
            properties.headers.unwrap_or(&[0; 4]),
            DELIVERY_COUNT,
            i64::from(delivery_count),
        );
        let changes = HeaderChanges {
            headers: Change::Set(&headers),
            ..HeaderChanges::default()
        };
        rewrite(message.header(), &changes).ok()
    };
    told().map_or_else(|| message.clone(), |header| message.with_header(&header))
}

const DELIVERY_COUNT: &str = "x-delivery-count";

/// Walks the old properties and writes the new ones.
struct Writer<'a> {
    reader: Reader<'a>,
    flags: u16,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Copies a property if it is present.
    fn keep<R>(
        &mut self,
        flag: u16,
        read: impl FnOnce(&mut Reader<'a>) -> Result<R, DecodeCause>,
    ) -> Result<(), DecodeCause> {
        self.change(flag, read, Change::Keep, |_, ()| {})
    }

    /// Applies a change to the property of this flag.
    fn change<R, T>(
        &mut self,
        flag: u16,
        read: impl FnOnce(&mut Reader<'a>) -> Result<R, DecodeCause>,
        change: Change<T>,
        write: impl FnOnce(&mut Vec<u8>, T),
    ) -> Result<(), DecodeCause> {
        let before = self.reader.rest();
        if self.flags & flag != 0 {
            read(&mut self.reader)?;
        }
        match change {
            Change::Keep => {
                let len = before.len() - self.reader.rest().len();
                self.out.extend_from_slice(before.get(..len).unwrap_or_default());
            }
            Change::Remove => self.flags &= !flag,
            Change::Set(value) => {
                self.flags |= flag;
                write(&mut self.out, value);
            }
        }
        Ok(())
    }

    /// Copies the rest of the properties and puts the flags into their place.
    fn finish(mut self, flags_at: usize) -> Result<Vec<u8>, DecodeCause> {
        self.out.extend_from_slice(self.reader.rest());
        let slot = self.out.get_mut(flags_at..flags_at + 2).ok_or(DecodeCause::Malformed)?;
        slot.copy_from_slice(&self.flags.to_be_bytes());
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{generated_header, generated_table, properties, short_strings, tables};
    use amq_protocol::protocol::BasicProperties;
    use proptest::prelude::*;

    fn change<T: Clone + std::fmt::Debug + 'static>(
        value: impl Strategy<Value = T> + 'static,
    ) -> impl Strategy<Value = Change<T>> {
        prop_oneof![
            2 => Just(Change::Keep).boxed(),
            1 => Just(Change::Remove).boxed(),
            1 => value.prop_map(Change::Set).boxed(),
        ]
    }

    /// The properties after the changes, put together anew from what amq-protocol knows.
    fn expected(
        old: &BasicProperties,
        headers: &Change<amq_protocol::types::FieldTable>,
        reply_to: &Change<amq_protocol::types::ShortString>,
        expiration: &Change<amq_protocol::types::ShortString>,
        changes: &HeaderChanges<'_>,
    ) -> BasicProperties {
        let mut new = BasicProperties::default();
        macro_rules! take {
            ($($with:ident $value:expr),*) => {
                $(if let Some(value) = $value {
                    new = new.$with(value);
                })*
            };
        }
        take!(with_content_type old.content_type().clone(), with_content_encoding old.content_encoding().clone());
        take!(with_headers changed(old.headers(), headers), with_delivery_mode changed(old.delivery_mode(), &changes.delivery_mode));
        take!(with_priority changed(old.priority(), &changes.priority), with_correlation_id old.correlation_id().clone());
        take!(with_reply_to changed(old.reply_to(), reply_to), with_expiration changed(old.expiration(), expiration));
        take!(with_message_id old.message_id().clone(), with_timestamp changed(old.timestamp(), &changes.timestamp));
        take!(with_type old.kind().clone(), with_user_id old.user_id().clone(), with_app_id old.app_id().clone());
        take!(with_cluster_id old.cluster_id().clone());
        new
    }

    fn changed<T: Clone>(old: &Option<T>, change: &Change<T>) -> Option<T> {
        match change {
            Change::Keep => old.clone(),
            Change::Remove => None,
            Change::Set(value) => Some(value.clone()),
        }
    }

    fn borrowed(change: &Change<amq_protocol::types::ShortString>) -> Change<&str> {
        match change {
            Change::Keep => Change::Keep,
            Change::Remove => Change::Remove,
            Change::Set(text) => Change::Set(text.as_str()),
        }
    }

    #[test]
    fn octets_the_broker_does_not_touch_stay_as_they_are() {
        // Headers with duplicate keys out of order and a `U`, none of which survives decoding and encoding.
        let headers = [0, 0, 0, 12, 1, b'z', b'U', 0, 1, 1, b'a', b'V', 1, b'a', b't', 1];
        let headers = [&[0, 0, 0, 12], &headers[4..]].concat();
        let header = [
            &[0, 60, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0x23, 0x80][..],
            &headers,
            &[1, b'r', 2, b'1', b'0', 1, 0xFF],
        ]
        .concat();
        let changes = HeaderChanges {
            expiration: Change::Remove,
            ..HeaderChanges::default()
        };
        let expected = [
            &[0, 60, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0x22, 0x80][..],
            &headers,
            &[1, b'r', 1, 0xFF],
        ]
        .concat();
        assert_eq!(rewrite(&header, &changes), Ok(expected));
        assert_eq!(rewrite(&header, &HeaderChanges::default()), Ok(header));
    }

    #[test]
    fn a_malformed_header_is_refused() {
        let changes = HeaderChanges {
            reply_to: Change::Set("q"),
            ..HeaderChanges::default()
        };
        assert_eq!(rewrite(&[0; 11], &changes), Err(DecodeCause::Malformed));
        assert_eq!(rewrite(&[0; 12], &changes), Err(DecodeCause::Malformed));
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 9];
        assert_eq!(rewrite(&header, &changes), Err(DecodeCause::Malformed));
    }

    proptest! {
        #[test]
        fn a_rewritten_header_is_what_encoding_the_changed_properties_gives(
            old in properties(),
            headers in change(tables()),
            reply_to in change(short_strings()),
            expiration in change(short_strings()),
            (delivery_mode, priority, timestamp) in (change(any::<u8>()), change(any::<u8>()), change(any::<u64>())),
            body_size: Option<u64>,
        ) {
            let table = match &headers {
                Change::Set(table) => generated_table(table),
                Change::Keep | Change::Remove => Vec::new(),
            };
            let changes = HeaderChanges {
                headers: match headers {
                    Change::Keep => Change::Keep,
                    Change::Remove => Change::Remove,
                    Change::Set(_) => Change::Set(&table[..]),
                },
                delivery_mode,
                priority,
                reply_to: borrowed(&reply_to),
                expiration: borrowed(&expiration),
                timestamp,
                body_size,
            };
            let new = expected(&old, &headers, &reply_to, &expiration, &changes);
            let rewritten = rewrite(&generated_header(&old, 7), &changes).unwrap();
            prop_assert_eq!(rewritten, generated_header(&new, body_size.unwrap_or(7)));
        }

        #[test]
        fn rewriting_any_bytes_never_panics(bytes: Vec<u8>) {
            let changes = HeaderChanges { reply_to: Change::Set("q"), headers: Change::Remove, ..HeaderChanges::default() };
            let _ = rewrite(&bytes, &changes);
        }
    }
}
