//! The primitive types of the wire: integers in network byte order, short strings and long strings.

use crate::protocol::error::DecodeCause;
use amq_protocol::types::ShortString;

/// Longest short string in bytes.
pub const SHORTSTR_MAX_BYTES: usize = 255;

/// Reads primitives off the front of a slice. What is read borrows from the slice; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Reader<'a> {
        Reader { rest: input }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading; bytes left over are an error.
    pub fn finish(self) -> Result<(), DecodeCause> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeCause::Malformed)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeCause> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeCause::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    /// An octet.
    pub fn u8(&mut self) -> Result<u8, DecodeCause> {
        self.array().map(u8::from_be_bytes)
    }

    /// A short: 16 bits.
    pub fn u16(&mut self) -> Result<u16, DecodeCause> {
        self.array().map(u16::from_be_bytes)
    }

    /// A long: 32 bits.
    pub fn u32(&mut self) -> Result<u32, DecodeCause> {
        self.array().map(u32::from_be_bytes)
    }

    /// A long long: 64 bits.
    pub fn u64(&mut self) -> Result<u64, DecodeCause> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `count` octets.
    pub fn octets(&mut self, count: usize) -> Result<&'a [u8], DecodeCause> {
        let (octets, rest) = self.rest.split_at_checked(count).ok_or(DecodeCause::Malformed)?;
        self.rest = rest;
        Ok(octets)
    }

    /// The octets of a short string, without its length.
    pub fn shortstr_octets(&mut self) -> Result<&'a [u8], DecodeCause> {
        let length = self.u8()?;
        self.octets(usize::from(length))
    }

    /// A short string, which must be UTF-8.
    pub fn shortstr(&mut self) -> Result<&'a str, DecodeCause> {
        std::str::from_utf8(self.shortstr_octets()?).map_err(|_| DecodeCause::InvalidUtf8)
    }

    /// A long string: any octets.
    pub fn longstr(&mut self) -> Result<&'a [u8], DecodeCause> {
        let length = self.u32()?;
        self.octets(usize::try_from(length).map_err(|_| DecodeCause::Malformed)?)
    }

    /// A field table as it lies on the wire, its four octets of length included. What is in it is not checked.
    pub fn table(&mut self) -> Result<&'a [u8], DecodeCause> {
        let mut ahead = *self;
        let length = 4 + ahead.longstr()?.len();
        self.octets(length)
    }
}

/// Appends an octet.
pub fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// Appends a short: 16 bits.
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a long: 32 bits.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a long long: 64 bits.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a short string with its length. A text above 255 bytes is cut between two characters.
pub fn put_shortstr(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(SHORTSTR_MAX_BYTES);
    let octets = text.as_bytes().get(..end).unwrap_or_default();
    out.push(length_octet(octets));
    out.extend_from_slice(octets);
}

/// Appends a long string with its length. A string above 4 GiB - 1, which no frame could carry, is cut.
pub fn put_longstr(out: &mut Vec<u8>, octets: &[u8]) {
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    put_u32(out, length);
    out.extend_from_slice(octets.get(..length as usize).unwrap_or(octets));
}

/// The text as amq-protocol's short string, cut between two characters at 255 bytes, where its own conversion panics.
pub fn short_string(text: &str) -> ShortString {
    let end = text.floor_char_boundary(SHORTSTR_MAX_BYTES);
    ShortString::try_new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// A short string as it lies on the wire, or nothing if the text is longer than 255 bytes.
pub fn shortstr(text: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(text.len()).ok()?;
    let mut out = Vec::with_capacity(1 + text.len());
    out.push(length);
    out.extend_from_slice(text.as_bytes());
    Some(out)
}

/// Exchange and routing key as basic.publish carries them, one short string after the other; nothing if one of them is
/// longer than 255 bytes.
pub fn exchange_and_key(exchange: &str, routing_key: &str) -> Option<Vec<u8>> {
    let mut out = shortstr(exchange)?;
    out.extend_from_slice(&shortstr(routing_key)?);
    Some(out)
}

/// The texts of an exchange and a routing key that are written as [`exchange_and_key`] writes them; nothing if they are
/// not UTF-8.
pub fn exchange_and_key_texts(octets: &[u8]) -> Option<(&str, &str)> {
    let mut reader = Reader::new(octets);
    Some((reader.shortstr().ok()?, reader.shortstr().ok()?))
}

fn length_octet(octets: &[u8]) -> u8 {
    u8::try_from(octets.len()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reader_reads_what_was_written_and_then_is_empty() {
        let mut out = Vec::new();
        put_u8(&mut out, 0xFE);
        put_u16(&mut out, 0xFEDC);
        put_u32(&mut out, 0xFEDC_BA98);
        put_u64(&mut out, 0xFEDC_BA98_7654_3210);
        put_shortstr(&mut out, "käse");
        put_longstr(&mut out, &[0, 255]);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u8(), Ok(0xFE));
        assert_eq!(reader.u16(), Ok(0xFEDC));
        assert_eq!(reader.u32(), Ok(0xFEDC_BA98));
        assert_eq!(reader.u64(), Ok(0xFEDC_BA98_7654_3210));
        assert_eq!(reader.shortstr(), Ok("käse"));
        assert_eq!(reader.longstr(), Ok(&[0, 255][..]));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn lengths_beyond_the_end_are_malformed() {
        assert_eq!(Reader::new(&[3, b'a', b'b']).shortstr(), Err(DecodeCause::Malformed));
        assert_eq!(Reader::new(&[0xFF; 8]).longstr(), Err(DecodeCause::Malformed));
        assert_eq!(Reader::new(&[0xFF; 8]).table(), Err(DecodeCause::Malformed));
        assert_eq!(Reader::new(&[1]).u16(), Err(DecodeCause::Malformed));
        assert_eq!(Reader::new(&[1]).finish(), Err(DecodeCause::Malformed));
    }

    #[test]
    fn a_short_string_must_be_utf_8() {
        assert_eq!(Reader::new(&[2, 0xC3, 0x28]).shortstr(), Err(DecodeCause::InvalidUtf8));
        assert_eq!(Reader::new(&[2, 0xC3, 0x28]).shortstr_octets(), Ok(&[0xC3, 0x28][..]));
    }

    #[test]
    fn a_table_keeps_its_length() {
        let mut reader = Reader::new(&[0, 0, 0, 2, b'x', b'y', b'z']);
        assert_eq!(reader.table(), Ok(&[0, 0, 0, 2, b'x', b'y'][..]));
        assert_eq!(reader.rest(), b"z");
    }

    #[test]
    fn short_strings_above_255_bytes_are_cut_or_refused() {
        let text = "ä".repeat(128);
        let mut out = Vec::new();
        put_shortstr(&mut out, &text);
        assert_eq!(Reader::new(&out).shortstr(), Ok(&text[..254]));
        assert_eq!(short_string(&text).as_str(), &text[..254]);
        assert_eq!(short_string("käse").as_str(), "käse");
        assert_eq!(shortstr(&text), None);
        assert_eq!(shortstr(&text[..254]), Some(out));
        assert_eq!(exchange_and_key("x", &text), None);
        assert_eq!(exchange_and_key(&text, "k"), None);
        assert_eq!(exchange_and_key("x", "kk"), Some(vec![1, b'x', 2, b'k', b'k']));
    }

    proptest! {
        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            for read in [
                |reader: &mut Reader<'_>| reader.u64().map(drop),
                |reader: &mut Reader<'_>| reader.shortstr().map(drop),
                |reader: &mut Reader<'_>| reader.longstr().map(drop),
                |reader: &mut Reader<'_>| reader.table().map(drop),
            ] {
                let mut reader = Reader::new(&bytes);
                while !reader.rest().is_empty() && read(&mut reader).is_ok() {}
            }
        }
    }
}
