//! The eight octets a client opens a connection with (section 4.2.2 of the specification).

use std::fmt;

/// Length of a protocol header in octets.
pub const PROTOCOL_HEADER_LEN: usize = 8;
/// The header of AMQP 0-9-1: what the broker answers to every other one before it closes the socket.
pub const AMQP_0_9_1: [u8; PROTOCOL_HEADER_LEN] = *b"AMQP\x00\x00\x09\x01";
/// The header of AMQP 0-9, which old clients send and which RabbitMQ treats as 0-9-1.
pub const AMQP_0_9: [u8; PROTOCOL_HEADER_LEN] = *b"AMQP\x01\x01\x00\x09";

/// What the first octets of a connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// Nothing wrong so far, but not all there.
    Incomplete,
    /// AMQP 0-9-1 or its 0-9 form; [`PROTOCOL_HEADER_LEN`] octets are to be consumed.
    Amqp,
    /// Anything else: answer [`AMQP_0_9_1`] and close.
    Wrong(WrongProtocol),
}

/// The mistake behind a wrong protocol header. Its `Display` is a sentence for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongProtocol {
    /// A request line of HTTP.
    Http,
    /// A TLS ClientHello on a plain port.
    Tls,
    /// AMQP 1.0 (with or without SASL), whose clients send protocol id 0 or 3 and version 1.0.0.
    Amqp10,
    /// The header of the PROXY protocol from somebody who is not trusted with it.
    Proxy,
    /// Some other version of AMQP: the four octets after the name.
    OtherAmqp([u8; 4]),
    /// None of these.
    Unknown,
}

impl fmt::Display for WrongProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongProtocol::Http => f.write_str("the client speaks HTTP; this port is for AMQP 0-9-1"),
            WrongProtocol::Tls => f.write_str("the client speaks TLS; this port is for plain AMQP 0-9-1"),
            WrongProtocol::Amqp10 => f.write_str("the client speaks AMQP 1.0; this port is for AMQP 0-9-1"),
            WrongProtocol::Proxy => f.write_str(
                "the client sends a PROXY protocol header; its address is in none of the networks of proxy_protocol_from",
            ),
            WrongProtocol::OtherAmqp([a, b, c, d]) => {
                write!(
                    f,
                    "the client speaks another version of AMQP ({a}-{b}-{c}-{d}); this port is for 0-9-1"
                )
            }
            WrongProtocol::Unknown => f.write_str("the client does not speak AMQP 0-9-1"),
        }
    }
}

/// Recognises the protocol from the first octets of a connection; a wrong one is told as early as possible.
pub fn recognise(input: &[u8]) -> ProtocolHeader {
    let seen = input.get(..PROTOCOL_HEADER_LEN).unwrap_or(input);
    if !AMQP_0_9_1.starts_with(seen) && !AMQP_0_9.starts_with(seen) {
        // "AMQP" alone still says which version is meant, if one waits for it.
        if seen.len() < PROTOCOL_HEADER_LEN && seen.starts_with(b"AMQP") {
            return ProtocolHeader::Incomplete;
        }
        return ProtocolHeader::Wrong(mistake(input));
    }
    if seen.len() < PROTOCOL_HEADER_LEN {
        ProtocolHeader::Incomplete
    } else {
        ProtocolHeader::Amqp
    }
}

fn mistake(input: &[u8]) -> WrongProtocol {
    const HTTP_METHODS: [&[u8]; 8] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
    ];
    match *input {
        // A TLS record: handshake (22), version 3.x.
        [22, 3, ..] => WrongProtocol::Tls,
        [b'A', b'M', b'Q', b'P', _, 1, 0, 0, ..] => WrongProtocol::Amqp10,
        [b'A', b'M', b'Q', b'P', a, b, c, d, ..] => WrongProtocol::OtherAmqp([a, b, c, d]),
        [b'P', b'R', b'O', b'X', b'Y', ..] | [b'\r', b'\n', b'\r', b'\n', 0, ..] => WrongProtocol::Proxy,
        _ if HTTP_METHODS.iter().any(|method| input.starts_with(method)) => WrongProtocol::Http,
        _ => WrongProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_amqp_0_9_are_accepted() {
        assert_eq!(recognise(b"AMQP\x00\x00\x09\x01"), ProtocolHeader::Amqp);
        assert_eq!(recognise(b"AMQP\x01\x01\x00\x09rest"), ProtocolHeader::Amqp);
    }

    #[test]
    fn a_header_is_incomplete_while_it_may_become_right() {
        for header in [AMQP_0_9_1, AMQP_0_9, *b"AMQP\x00\x01\x00\x00"] {
            for end in 0..PROTOCOL_HEADER_LEN {
                assert_eq!(recognise(&header[..end]), ProtocolHeader::Incomplete, "{end}");
            }
        }
        assert_eq!(recognise(b"HELO"), ProtocolHeader::Wrong(WrongProtocol::Unknown));
    }

    #[test]
    fn frequent_mistakes_are_named() {
        let mistake = |input: &[u8]| match recognise(input) {
            ProtocolHeader::Wrong(wrong) => wrong,
            other => panic!("{other:?}"),
        };
        assert_eq!(mistake(b"GET / HTTP/1.1\r\n"), WrongProtocol::Http);
        assert_eq!(mistake(b"POST /api HTTP/1.1\r\n"), WrongProtocol::Http);
        assert_eq!(mistake(&[22, 3, 1, 2, 0, 1, 0, 1]), WrongProtocol::Tls);
        assert_eq!(mistake(b"AMQP\x00\x01\x00\x00"), WrongProtocol::Amqp10);
        assert_eq!(mistake(b"AMQP\x03\x01\x00\x00"), WrongProtocol::Amqp10);
        assert_eq!(mistake(b"AMQP\x01\x01\x08\x00"), WrongProtocol::OtherAmqp([1, 1, 8, 0]));
        assert_eq!(mistake(b"PROXY TCP4 "), WrongProtocol::Proxy);
        assert_eq!(mistake(b"\r\n\r\n\0\r\nQUIT\n"), WrongProtocol::Proxy);
        assert_eq!(mistake(b"MQTT"), WrongProtocol::Unknown);
    }

    #[test]
    fn every_mistake_has_a_sentence_for_the_log() {
        let other = WrongProtocol::OtherAmqp([1, 1, 8, 0]);
        assert!(other.to_string().contains("1-1-8-0"));
        assert!(WrongProtocol::Http.to_string().contains("HTTP"));
        assert!(WrongProtocol::Tls.to_string().contains("TLS"));
        assert!(WrongProtocol::Amqp10.to_string().contains("AMQP 1.0"));
        assert!(WrongProtocol::Proxy.to_string().contains("proxy_protocol_from"));
        assert!(WrongProtocol::Unknown.to_string().contains("AMQP 0-9-1"));
    }
}
