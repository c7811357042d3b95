//! SASL responses of `connection.start-ok`: who the client says it is.
//!
//! The bytes come from strangers. AMQPLAIN sends a field table, and a general table parser is not used for
//! it: before login nothing may cost stack or memory, so a flat scan refuses tables within the table.

use thiserror::Error;

use super::Secret;

/// The mechanisms this broker knows, in the order of `connection.start`.
const KNOWN: [Mechanism; 4] = [
    Mechanism::Plain,
    Mechanism::AmqPlain,
    Mechanism::External,
    Mechanism::Anonymous,
];

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Plain,
    AmqPlain,
    /// The client's certificate has said who it is; the response says nothing.
    External,
    /// The client is whom the configuration takes strangers for; the response says nothing.
    Anonymous,
}

impl Mechanism {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// Reads the mechanism of `start-ok`. Names are case-sensitive, as in RabbitMQ.
    pub fn from_name(name: &str) -> Result<Self, SaslError> {
        KNOWN
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
            .ok_or_else(|| SaslError::UnknownMechanism { name: name.to_owned() })
    }

    /// The space-separated list for `connection.start`: EXTERNAL for those whose certificate names a user, ANONYMOUS where
    /// strangers are somebody.
    pub fn offered(has_certificate: bool, takes_strangers: bool) -> String {
        let offered = KNOWN.into_iter().filter(|mechanism| match mechanism {
            Self::Plain | Self::AmqPlain => true,
            Self::External => has_certificate,
            Self::Anonymous => takes_strangers,
        });
        offered.map(Self::name).collect::<Vec<_>>().join(" ")
    }

    /// Reads the response bytes of `start-ok`; none where the response says nothing.
    pub fn credentials(self, response: &[u8]) -> Result<Option<Credentials>, SaslError> {
        match self {
            Self::Plain => parse_plain(response).map(Some),
            Self::AmqPlain => parse_amqplain(response).map(Some),
            Self::External | Self::Anonymous => Ok(None),
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
    /// The same.
    #[error("invalid authentication mechanism 'EXTERNAL': {reason}")]
    NoCertificate { reason: &'static str },
    /// The same.
    #[error("authentication mechanism 'ANONYMOUS' is not allowed: anonymous_login_user names nobody")]
    NoStrangers,
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login(username: &str, password: &[u8]) -> Result<Option<Credentials>, SaslError> {
        Ok(Some(Credentials {
            username: username.to_owned(),
            password: Secret::new(password),
        }))
    }

    fn refused(result: Result<Option<Credentials>, SaslError>) -> &'static str {
        match result {
            Err(SaslError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn field(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
        [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &[kind], value].concat()
    }

    fn long_string(name: &str, value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        field(name, b'S', &[&length, value].concat())
    }

    #[test]
    fn mechanisms_are_offered_and_found_by_name() {
        assert_eq!(Mechanism::offered(false, false), "PLAIN AMQPLAIN");
        assert_eq!(Mechanism::offered(true, false), "PLAIN AMQPLAIN EXTERNAL");
        assert_eq!(Mechanism::offered(false, true), "PLAIN AMQPLAIN ANONYMOUS");
        assert_eq!(Mechanism::from_name("PLAIN"), Ok(Mechanism::Plain));
        assert_eq!(Mechanism::from_name("AMQPLAIN"), Ok(Mechanism::AmqPlain));
        assert_eq!(Mechanism::from_name("EXTERNAL"), Ok(Mechanism::External));
        let error = Mechanism::from_name("GSSAPI").unwrap_err();
        assert_eq!(error.to_string(), "unknown authentication mechanism 'GSSAPI'");
    }

    #[test]
    fn plain_responses_name_user_and_password() {
        let cases: [(&[u8], &str, &[u8]); 6] = [
            (b"\0guest\0guest", "guest", b"guest"),
            (b"guest\0guest\0guest", "guest", b"guest"),
            (b"\0app\0", "app", b""),
            (b"\0\0secret", "", b"secret"),
            ("\0übung\0schlüssel".as_bytes(), "übung", "schlüssel".as_bytes()),
            (b"\0app\0\xff\xfe", "app", b"\xff\xfe"),
        ];
        for (response, username, password) in cases {
            assert_eq!(
                Mechanism::Plain.credentials(response),
                login(username, password),
                "{response:?}"
            );
        }
    }

    #[test]
    fn malformed_plain_responses_are_refused() {
        let cases: [&[u8]; 5] = [b"", b"guest", b"\0guest", b"\0guest\0gu\0est", b"guest\0guest"];
        for response in cases {
            let reason = refused(Mechanism::Plain.credentials(response));
            assert_eq!(reason, "expected NUL username NUL password", "{response:?}");
        }
        assert_eq!(
            refused(Mechanism::Plain.credentials(b"\0\xff\0x")),
            "the user name is not UTF-8"
        );
    }

    #[test]
    fn amqplain_fields_are_found_in_any_order_among_others() {
        let login_field = long_string("LOGIN", b"app");
        let password_field = long_string("PASSWORD", b"secret");
        let others = [
            field("void", b'V', b""),
            field("flag", b't', &[1]),
            field("octet", b'b', &[1]),
            field("unsigned", b'B', &[1]),
            field("short", b's', &[0; 2]),
            field("ushort", b'u', &[0; 2]),
            field("short2", b'U', &[0; 2]),
            field("long", b'I', &[0; 4]),
            field("ulong", b'i', &[0; 4]),
            field("float", b'f', &[0; 4]),
            field("decimal", b'D', &[0; 5]),
            field("longlong", b'l', &[0; 8]),
            field("longlong2", b'L', &[0; 8]),
            field("double", b'd', &[0; 8]),
            field("timestamp", b'T', &[0; 8]),
            field("bytes", b'x', &[0, 0, 0, 2, 9, 9]),
            long_string("text", b"LOGIN"),
        ]
        .concat();
        for parts in [
            [&login_field[..], &password_field, b""],
            [&password_field[..], &login_field, b""],
            [&others[..], &login_field, &password_field],
            [&login_field[..], &others, &password_field],
            [&login_field[..], &password_field, &others],
        ] {
            let response = parts.concat();
            assert_eq!(Mechanism::AmqPlain.credentials(&response), login("app", b"secret"));
        }
        let twice = [login_field, long_string("LOGIN", b"other"), password_field].concat();
        assert_eq!(Mechanism::AmqPlain.credentials(&twice), login("app", b"secret"));
    }

    #[test]
    fn amqplain_without_both_names_or_with_other_types_is_refused() {
        let login_field = long_string("LOGIN", b"app");
        let password_field = long_string("PASSWORD", b"secret");
        let cases = [
            (Vec::new(), "LOGIN is missing"),
            (password_field.clone(), "LOGIN is missing"),
            (login_field.clone(), "PASSWORD is missing"),
            (
                [&login_field[..], &field("PASSWORD", b'I', &[0; 4])].concat(),
                "LOGIN and PASSWORD must be long strings",
            ),
            (
                [&field("LOGIN", b'x', &[0; 4])[..], &password_field].concat(),
                "LOGIN and PASSWORD must be long strings",
            ),
            (
                [&login_field[..], &field("t", b'F', &[0; 4])].concat(),
                "tables and arrays within the table are refused",
            ),
            (
                [&login_field[..], &field("a", b'A', &[0; 4])].concat(),
                "tables and arrays within the table are refused",
            ),
            (
                [&login_field[..], &field("?", b'?', &[0; 4])].concat(),
                "unknown field type",
            ),
            (
                field("LOGIN", b'S', &[0xff, 0xff, 0xff, 0xff, b'a']),
                "the table is cut short",
            ),
        ];
        for (response, reason) in cases {
            assert_eq!(
                refused(Mechanism::AmqPlain.credentials(&response)),
                reason,
                "{response:?}"
            );
        }
    }

    #[test]
    fn amqplain_cut_short_anywhere_is_refused() {
        let whole = [
            long_string("LOGIN", b"app"),
            field("n", b'I', &[0; 4]),
            long_string("PASSWORD", b"secret"),
        ]
        .concat();
        for length in 0..whole.len() {
            assert!(
                Mechanism::AmqPlain.credentials(&whole[..length]).is_err(),
                "{length} bytes"
            );
        }
        assert!(Mechanism::AmqPlain.credentials(&whole).is_ok());
    }

    #[test]
    fn deeply_nested_tables_cost_nothing() {
        let nested = field("LOGIN", b'F', &[0, 0, 0, 255]).repeat(2000);
        assert_eq!(
            refused(Mechanism::AmqPlain.credentials(&nested)),
            "tables and arrays within the table are refused"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(response in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Mechanism::Plain.credentials(&response);
            let _ = Mechanism::AmqPlain.credentials(&response);
        }

        #[test]
        fn any_login_survives_both_mechanisms(name in "[^\0]{0,40}", password in "[^\0]{0,40}") {
            let plain = format!("\0{name}\0{password}");
            prop_assert_eq!(Mechanism::Plain.credentials(plain.as_bytes()), login(&name, password.as_bytes()));
            let table = [long_string("LOGIN", name.as_bytes()), long_string("PASSWORD", password.as_bytes())].concat();
            prop_assert_eq!(Mechanism::AmqPlain.credentials(&table), login(&name, password.as_bytes()));
        }
    }
}
