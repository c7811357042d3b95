//! SASL responses of `connection.start-ok`: who the client says it is.
//!
//! The bytes come from strangers. AMQPLAIN sends a field table, and a general table parser is not used for
//! it: before login nothing may cost stack or memory, so a flat scan refuses tables within the table.

use thiserror::Error;

use super::Secret;

/// The mechanisms this broker offers, in the order of `connection.start`.
pub const OFFERED: [Mechanism; 2] = [Mechanism::Plain, Mechanism::AmqPlain];

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Plain,
    AmqPlain,
}

impl Mechanism {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
        }
    }

    /// Reads the mechanism of `start-ok`. Names are case-sensitive, as in RabbitMQ.
    pub fn from_name(name: &str) -> Result<Self, SaslError> {
        OFFERED
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
            .ok_or_else(|| SaslError::UnknownMechanism { name: name.to_owned() })
    }

    /// The space-separated list for `connection.start`.
    pub fn offered() -> String {
        OFFERED.map(Self::name).join(" ")
    }

    /// Reads the response bytes of `start-ok`.
    pub fn credentials(self, response: &[u8]) -> Result<Credentials, SaslError> {
        match self {
            Self::Plain => parse_plain(response),
            Self::AmqPlain => parse_amqplain(response),
        }
    }
}

/// A user name and the password that goes with it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
}

/// Why a response could not be read. For the log; the client's socket is closed without a word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SaslError {
    /// 503 in RabbitMQ's log.
    #[error("unknown authentication mechanism '{name}'")]
    UnknownMechanism { name: String },
    /// 502 in RabbitMQ's log.
    #[error("{mechanism} response: {reason}")]
    Malformed {
        mechanism: &'static str,
        reason: &'static str,
    },
}

/// `[authzid] NUL username NUL password`. An authorization identity is ignored: the client acts as the user
/// whose password it knows.
fn parse_plain(response: &[u8]) -> Result<Credentials, SaslError> {
    let malformed = |reason| SaslError::Malformed {
        mechanism: "PLAIN",
        reason,
    };
    let mut parts = response.split(|byte| *byte == 0);
    let (Some(_authzid), Some(username), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("expected NUL username NUL password"));
    };
    credentials(username, password).map_err(malformed)
}

/// The fields of an AMQP table, without the table's length, among them long strings LOGIN and PASSWORD.
fn parse_amqplain(response: &[u8]) -> Result<Credentials, SaslError> {
    let malformed = |reason| SaslError::Malformed {
        mechanism: "AMQPLAIN",
        reason,
    };
    let (mut login, mut password) = (None, None);
    let mut rest = response;
    while !rest.is_empty() {
        let (field, after) = next_field(rest).map_err(malformed)?;
        rest = after;
        let slot = match field.name {
            b"LOGIN" => &mut login,
            b"PASSWORD" => &mut password,
            _ => continue,
        };
        if field.kind != LONG_STRING {
            return Err(malformed("LOGIN and PASSWORD must be long strings"));
        }
        // Of two fields with one name the first counts, as in RabbitMQ.
        slot.get_or_insert(field.value);
    }
    let login = login.ok_or_else(|| malformed("LOGIN is missing"))?;
    let password = password.ok_or_else(|| malformed("PASSWORD is missing"))?;
    credentials(login, password).map_err(malformed)
}

fn credentials(username: &[u8], password: &[u8]) -> Result<Credentials, &'static str> {
    let username = std::str::from_utf8(username).map_err(|_| "the user name is not UTF-8")?;
    Ok(Credentials {
        username: username.to_owned(),
        password: Secret::new(password),
    })
}

const LONG_STRING: u8 = b'S';

struct Field<'a> {
    name: &'a [u8],
    kind: u8,
    value: &'a [u8],
}

/// Splits the first field off: octet length, name, type octet, value.
fn next_field(bytes: &[u8]) -> Result<(Field<'_>, &[u8]), &'static str> {
    const CUT_SHORT: &str = "the table is cut short";
    let (&name_len, rest) = bytes.split_first().ok_or(CUT_SHORT)?;
    let (name, rest) = rest.split_at_checked(usize::from(name_len)).ok_or(CUT_SHORT)?;
    let (&kind, rest) = rest.split_first().ok_or(CUT_SHORT)?;
    let (value_len, rest) = match kind {
        b'V' => (0, rest),
        b't' | b'b' | b'B' => (1, rest),
        b's' | b'u' | b'U' => (2, rest),
        b'I' | b'i' | b'f' => (4, rest),
        b'D' => (5, rest),
        b'l' | b'L' | b'd' | b'T' => (8, rest),
        LONG_STRING | b'x' => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or(CUT_SHORT)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CUT_SHORT)?;
            (length, rest)
        }
        b'F' | b'A' => return Err("tables and arrays within the table are refused"),
        _ => return Err("unknown field type"),
    };
    let (value, rest) = rest.split_at_checked(value_len).ok_or(CUT_SHORT)?;
    Ok((Field { name, kind, value }, rest))
}
