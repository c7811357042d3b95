//! A content header with some properties replaced or removed, everything else byte for byte as it was.

use crate::protocol::content::{ContentHeader, flag};
use crate::protocol::error::DecodeCause;
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
    writer.change(
        flag::HEADERS,
        Reader::longstr,
        changes.headers,
        |out, table| out.extend_from_slice(table),
    )?;
    writer.change(
        flag::DELIVERY_MODE,
        Reader::u8,
        changes.delivery_mode,
        octet,
    )?;
    writer.change(flag::PRIORITY, Reader::u8, changes.priority, octet)?;
    writer.keep(flag::CORRELATION_ID, Reader::shortstr_octets)?;
    writer.change(
        flag::REPLY_TO,
        Reader::shortstr_octets,
        changes.reply_to,
        shortstr,
    )?;
    writer.change(
        flag::EXPIRATION,
        Reader::shortstr_octets,
        changes.expiration,
        shortstr,
    )?;
    writer.keep(flag::MESSAGE_ID, Reader::shortstr_octets)?;
    writer.change(
        flag::TIMESTAMP,
        Reader::u64,
        changes.timestamp,
        |out, time| {
            out.extend_from_slice(&time.to_be_bytes());
        },
    )?;
    writer.finish(fixed_len)
}

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
                self.out
                    .extend_from_slice(before.get(..len).unwrap_or_default());
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
        let slot = self
            .out
            .get_mut(flags_at..flags_at + 2)
            .ok_or(DecodeCause::Malformed)?;
        slot.copy_from_slice(&self.flags.to_be_bytes());
        Ok(self.out)
    }
}
