//! AMQP URIs: `amqp://user:password@host:port/vhost`.

use std::str::FromStr;

const DEFAULT_PORT: u16 = 5672;

/// Where a broker is and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpUri {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub vhost: String,
}

impl FromStr for AmqpUri {
    type Err = String;

    /// Parts that are left out are guest, guest, port 5672 and virtual host `/`. An empty path means `/` too.
    fn from_str(text: &str) -> Result<AmqpUri, String> {
        let Some(rest) = text.strip_prefix("amqp://") else {
            return Err("a URI begins with amqp://, as in amqp://guest:guest@localhost:5672/%2f".to_owned());
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            _ if login.is_empty() => ("guest", "guest"),
            Some(parts) => parts,
            None => (login, "guest"),
        };
        let (host, port) = split_port(address)?;
        Ok(AmqpUri {
            host: percent_decoded(if host.is_empty() { "localhost" } else { host })?,
            port,
            user: percent_decoded(user)?,
            password: percent_decoded(password)?,
            vhost: percent_decoded(if path.is_empty() { "/" } else { path })?,
        })
    }
}

/// Host without brackets, and port.
fn split_port(address: &str) -> Result<(&str, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a bracket of the address is not closed")?;
            (host, after.strip_prefix(':'))
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    match port {
        None | Some("") => Ok((host, DEFAULT_PORT)),
        Some(port) => Ok((host, port.parse().map_err(|_| format!("{port} is not a port"))?)),
    }
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        match (digit(), digit()) {
            (Some(high), Some(low)) => octets.push((high * 16 + low) as u8),
            _ => return Err(format!("{text} has a % without two hexadecimal digits after it")),
        }
    }
    String::from_utf8(octets).map_err(|_| format!("{text} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, String, String, String) {
        let uri: AmqpUri = text.parse().unwrap();
        (uri.host, uri.port, uri.user, uri.password, uri.vhost)
    }

    fn parts(host: &str, port: u16, user: &str, password: &str, vhost: &str) -> (String, u16, String, String, String) {
        (host.into(), port, user.into(), password.into(), vhost.into())
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        assert_eq!(parsed("amqp://"), parts("localhost", 5672, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://broker:1/"), parts("broker", 1, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://me@broker"), parts("broker", 5672, "me", "guest", "/"));
    }

    #[test]
    fn every_part_may_be_percent_encoded() {
        let uri = "amqp://us%40er:p%2Fw:x@10.0.0.1:5673/a%2fb";
        assert_eq!(parsed(uri), parts("10.0.0.1", 5673, "us@er", "p/w:x", "a/b"));
        assert_eq!(parsed("amqp://h/%2F").4, "/");
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        assert_eq!(parsed("amqp://[::1]:7"), parts("::1", 7, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://[::1]"), parts("::1", 5672, "guest", "guest", "/"));
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "http://x",
            "amqps://x",
            "amqp://h:port",
            "amqp://h:70000",
            "amqp://[::1",
            "amqp://h/%2",
            "amqp://h/%zz",
        ] {
            assert!(text.parse::<AmqpUri>().is_err(), "{text}");
        }
    }
}
