//! Addresses to listen on.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// `HOST:PORT`, where the host is a name, an IPv4 address or an IPv6 address in brackets. Port 0 lets the
/// operating system pick one. A name is not looked up before [`ListenAddress::resolve`].
///
/// `[::]` means IPv6 only: the default lists both families, and both must be able to hold one port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl ListenAddress {
    /// The port on every interface, IPv4 and IPv6.
    pub fn all_interfaces(port: u16) -> Vec<Self> {
        let hosts = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        hosts
            .map(|address| Self {
                host: Host::Address(address),
                port,
            })
            .to_vec()
    }

    /// The port as it was written; 0 lets the operating system pick one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it stands for every interface of its family. When another address could be bound, the lack of
    /// a whole family (IPv6 in many containers) is no reason not to start.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host, Host::Address(address) if address.is_unspecified())
    }

    /// The socket addresses to bind. Looks a name up, which may block.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Address(address) => Ok(vec![SocketAddr::new(*address, self.port)]),
            Host::Name(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |reason: &str| {
            format!(
                "bad address '{text}': {reason}; write HOST:PORT, such as 127.0.0.1:5672, [::1]:5672 or localhost:5672"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        let port = port
            .parse()
            .map_err(|_| bad("the port is not a number from 0 to 65535"))?;
        let host = if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = inner
                .parse::<Ipv6Addr>()
                .map_err(|_| bad("what stands in brackets is no IPv6 address"))?;
            Host::Address(IpAddr::V6(address))
        } else if let Ok(address) = host.parse::<Ipv4Addr>() {
            Host::Address(IpAddr::V4(address))
        } else if host.parse::<Ipv6Addr>().is_ok() {
            return Err(bad("an IPv6 address needs brackets"));
        } else if is_host_name(host) {
            Host::Name(host.to_owned())
        } else {
            return Err(bad("the host is neither a name nor an address"));
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A name of letters, digits, `-`, `_` and `.` that is not a mistyped IPv4 address such as `127.0.0.300`.
fn is_host_name(host: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.chars().all(allowed) && host.chars().any(|c| c.is_ascii_alphabetic())
}
