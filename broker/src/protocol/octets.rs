//! Octets in error texts, printed as Erlang prints binaries, because clients and operators know RabbitMQ's texts.

use std::fmt::{self, Write};

/// Octets of a frame that an error text shows; more would only say less.
const SNIPPET_OCTETS: usize = 16;

/// The beginning of an offending frame's payload, kept by value so that an error outlives the input buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Octets {
    bytes: [u8; SNIPPET_OCTETS],
    len: u8,
    cut: bool,
}

impl Octets {
    /// Remembers the first 16 octets of `payload`, and whether there were more.
    pub fn of(payload: &[u8]) -> Octets {
        let mut bytes = [0; SNIPPET_OCTETS];
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(payload) {
            *to = *from;
            len += 1;
        }
        Octets {
            bytes,
            len,
            cut: payload.len() > SNIPPET_OCTETS,
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

/// Prints `all octets = <<1,2,3>>` or `first 16 octets = <<...>>`.
impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cut {
            "first 16 octets = "
        } else {
            "all octets = "
        })?;
        match printable(self.as_slice()) {
            Some(text) => write!(f, "<<\"{text}\">>"),
            None => f.write_str(&numbers(self.as_slice())),
        }
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The octets as `<<1,2,3>>`, which is Erlang's `~w`.
pub fn numbers(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(4 + 4 * bytes.len());
    text.push_str("<<");
    for (position, byte) in bytes.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte}");
    }
    text.push_str(">>");
    text
}

/// The octets as Erlang's `~p` shows them inside quotes, if all of them are printable ASCII.
fn printable(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x08 => text.push_str("\\b"),
            0x0B => text.push_str("\\v"),
            0x0C => text.push_str("\\f"),
            0x1B => text.push_str("\\e"),
            _ => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_payloads_are_shown_whole_and_long_ones_cut() {
        assert_eq!(Octets::of(&[]).to_string(), "all octets = <<>>");
        assert_eq!(Octets::of(&[1, 2, 206]).to_string(), "all octets = <<1,2,206>>");
        let sixteen: Vec<u8> = (0..16).collect();
        let numbers = "<<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>";
        assert_eq!(Octets::of(&sixteen).to_string(), format!("all octets = {numbers}"));
        let seventeen: Vec<u8> = (0..17).collect();
        assert_eq!(
            Octets::of(&seventeen).to_string(),
            format!("first 16 octets = {numbers}")
        );
    }

    #[test]
    fn printable_octets_are_shown_as_text() {
        assert_eq!(
            Octets::of(b"a \"b\"\r\n").to_string(),
            r#"all octets = <<"a \"b\"\r\n">>"#
        );
        assert_eq!(
            Octets::of(b"caf\xC3\xA9").to_string(),
            "all octets = <<99,97,102,195,169>>"
        );
    }
}
