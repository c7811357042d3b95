//! The PROXY protocol, versions 1 and 2: a load balancer says in front of a connection whose it is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read. Version 1 has 107 bytes at the most; version 2 may carry more than addresses.
pub const HEADER_BYTES_MAX: usize = 4096;
/// The longest header of version 1, its line end included.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const FIXED_BYTES: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Something else: the connection's own first bytes.
    Absent,
    /// The beginning of one.
    Incomplete,
    /// A header of this length; without a source for a connection of the proxy's own, such as a health check.
    Complete {
        /// Bytes until the connection's own.
        length: usize,
        /// Whose connection it is.
        source: Option<Source>,
    },
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Version 1 ends with a line, and none ends.
    #[error("its line is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// Not the words of version 1.
    #[error("expected PROXY TCP4|TCP6 ADDRESS ADDRESS PORT PORT, or PROXY UNKNOWN")]
    Line,
    /// Version 2 in name only.
    #[error("unknown version or command {0:#04x}")]
    Command(u8),
    /// Longer than anybody needs.
    #[error("it announces {0} bytes; {HEADER_BYTES_MAX} are read at the most")]
    TooLong(usize),
    /// Too short for its addresses.
    #[error("it is too short for its addresses")]
    TooShort,
}

/// Reads the first bytes of a connection.
pub fn parse(input: &[u8]) -> Result<ProxyHeader, Malformed> {
    if input.starts_with(SIGNATURE_1) {
        parse_line(input)
    } else if input.starts_with(SIGNATURE_2) {
        parse_binary(input)
    } else if SIGNATURE_1.starts_with(input) || SIGNATURE_2.starts_with(input) {
        Ok(ProxyHeader::Incomplete)
    } else {
        Ok(ProxyHeader::Absent)
    }
}

fn parse_line(input: &[u8]) -> Result<ProxyHeader, Malformed> {
    let seen = input.get(..LINE_BYTES_MAX).unwrap_or(input);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match input.len() < LINE_BYTES_MAX {
            true => Ok(ProxyHeader::Incomplete),
            false => Err(Malformed::LongLine),
        };
    };
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), peer, local, peer_port, local_port] => {
            let address = |address: &str, port: &str| {
                let address: IpAddr = address.parse().ok()?;
                let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|_| is_digits)?;
                (address.is_ipv4() == (family == "TCP4")).then(|| SocketAddr::new(address, port))
            };
            Some(Source {
                peer: address(peer, peer_port).ok_or(Malformed::Line)?,
                local: address(local, local_port).ok_or(Malformed::Line)?,
            })
        }
        _ => return Err(Malformed::Line),
    };
    let length = end + 2;
    Ok(ProxyHeader::Complete { length, source })
}

fn parse_binary(input: &[u8]) -> Result<ProxyHeader, Malformed> {
    let Some(fixed) = input.get(..FIXED_BYTES) else {
        return Ok(ProxyHeader::Incomplete);
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if command != LOCAL && command != PROXY {
        return Err(Malformed::Command(command));
    }
    if length > HEADER_BYTES_MAX {
        return Err(Malformed::TooLong(length));
    }
    let Some(addresses) = input.get(FIXED_BYTES..length) else {
        return Ok(ProxyHeader::Incomplete);
    };
    let source = match (command, family) {
        (PROXY, TCP_OVER_IPV4) => Some(addresses_of::<4>(addresses, |octets| Ipv4Addr::from(octets).into())?),
        (PROXY, TCP_OVER_IPV6) => Some(addresses_of::<16>(addresses, |octets| Ipv6Addr::from(octets).into())?),
        // Of other families the proxy's own address is all there is.
        _ => None,
    };
    Ok(ProxyHeader::Complete { length, source })
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Two addresses, then two ports.
fn addresses_of<const N: usize>(bytes: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Result<Source, Malformed> {
    let (peer, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed::TooShort)?;
    let (local, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::TooShort)?;
    let (peer_port, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::TooShort)?;
    let local_port = rest.first_chunk::<2>().ok_or(Malformed::TooShort)?;
    Ok(Source {
        peer: SocketAddr::new(address(*peer), u16::from_be_bytes(*peer_port)),
        local: SocketAddr::new(address(*local), u16::from_be_bytes(*local_port)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &length, addresses].concat()
    }

    fn source(peer: &str, local: &str) -> Option<Source> {
        Some(Source {
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
        })
    }

    /// Whole headers, and whom they name.
    fn headers() -> Vec<(Vec<u8>, Option<Source>)> {
        let ipv4 = [&[203, 0, 113, 7, 10, 0, 0, 1][..], &[0xdc, 0x04, 0x16, 0x28]].concat();
        let ipv6 = [
            &Ipv6Addr::LOCALHOST.octets()[..],
            &Ipv6Addr::LOCALHOST.octets(),
            &[0, 1, 0, 2],
        ]
        .concat();
        let more = [&ipv4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        let named = source("203.0.113.7:56324", "10.0.0.1:5672");
        vec![
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n".to_vec(), named),
            (
                b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n".to_vec(),
                source("[2001:db8::1]:1", "[::1]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(PROXY, TCP_OVER_IPV4, &ipv4), named),
            (binary(PROXY, TCP_OVER_IPV4, &more), named),
            (binary(PROXY, TCP_OVER_IPV6, &ipv6), source("[::1]:1", "[::1]:2")),
            (binary(LOCAL, 0, &[]), None),
            (binary(LOCAL, TCP_OVER_IPV4, &ipv4), None),
            (binary(PROXY, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn headers_of_both_versions_name_the_client_and_leave_what_follows() {
        for (header, source) in headers() {
            let length = header.len();
            let input = [&header[..], b"AMQP\x00\x00\x09\x01"].concat();
            assert_eq!(
                parse(&input),
                Ok(ProxyHeader::Complete { length, source }),
                "{header:?}"
            );
        }
    }

    #[test]
    fn a_header_is_incomplete_until_its_last_byte() {
        for (header, _) in headers() {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(ProxyHeader::Incomplete), "{header:?} {end}");
            }
        }
    }

    #[test]
    fn a_connections_own_first_bytes_are_left_alone() {
        for own in [
            &b"AMQP\x00\x00\x09\x01"[..],
            b"\x16\x03\x01",
            b"GET /",
            b"PUT /",
            b"POST /",
            b"PROXY\t",
        ] {
            assert_eq!(parse(own), Ok(ProxyHeader::Absent), "{own:?}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672 1\r\n",
            "PROXY TCP4  203.0.113.7 10.0.0.1 56324 5672\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 65536 5672\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +1 5672\r\n",
            "PROXY TCP4 203.0.113.777 10.0.0.1 1 5672\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 5672\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 1 5672\n\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Malformed::Line), "{line:?}");
        }
        let endless = [SIGNATURE_1, &[b'1'; 200]].concat();
        assert_eq!(parse(&endless), Err(Malformed::LongLine));
        assert_eq!(
            parse(&binary(0x22, TCP_OVER_IPV4, &[0; 12])),
            Err(Malformed::Command(0x22))
        );
        assert_eq!(
            parse(&binary(0x11, TCP_OVER_IPV4, &[0; 12])),
            Err(Malformed::Command(0x11))
        );
        assert_eq!(parse(&binary(PROXY, TCP_OVER_IPV4, &[0; 11])), Err(Malformed::TooShort));
        assert_eq!(parse(&binary(PROXY, TCP_OVER_IPV6, &[0; 35])), Err(Malformed::TooShort));
        let vast = [SIGNATURE_2, &[PROXY, TCP_OVER_IPV4, 0xff, 0xff]].concat();
        assert_eq!(parse(&vast), Err(Malformed::TooLong(65551)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(rest in proptest::collection::vec(any::<u8>(), 0..300), version in 0..3) {
            let start: &[u8] = [SIGNATURE_1, SIGNATURE_2, b""][version as usize];
            if let Ok(ProxyHeader::Complete { length, .. }) = parse(&[start, &rest].concat()) {
                prop_assert!(length <= start.len() + rest.len());
            }
        }
    }
}
