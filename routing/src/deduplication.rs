//! What an exchange or a queue that drops duplicates was told about them.

use amq_protocol_types::{AMQPValue, FieldTable};

use crate::{
    error::RoutingError,
    value::{integer, type_name},
};

/// Name of the argument that asks for deduplication, and of the exchange type that always does it.
pub const DEDUPLICATION_ARGUMENT: &str = "x-message-deduplication";
/// Name of the argument that says how many keys are remembered.
pub const CACHE_SIZE_ARGUMENT: &str = "x-cache-size";
/// Name of the argument that says for how many milliseconds they are; a message may say it for its own in a header of that name.
pub const CACHE_TTL_ARGUMENT: &str = "x-cache-ttl";
/// Name of the argument that names the header with a message's key, and that header's name unless it does.
pub const DEDUPLICATION_HEADER: &str = "x-deduplication-header";

/// How many keys are remembered unless it is told.
const KEYS: usize = 10_000;
/// More keys than that are not remembered, whatever was asked for.
const KEYS_MAX: usize = 1_000_000;

/// Which messages are duplicates: those with the key of one of the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplication {
    /// The header that holds the key.
    pub header: String,
    /// How many keys are remembered.
    pub keys: usize,
    /// For how long; for ever if it is not told.
    pub ttl_millis: Option<u64>,
}

impl Default for Deduplication {
    fn default() -> Self {
        Self {
            header: DEDUPLICATION_HEADER.to_owned(),
            keys: KEYS,
            ttl_millis: None,
        }
    }
}

impl Deduplication {
    /// Takes over one of the arguments, which must be a string or a positive number; false if it is neither.
    pub fn set(&mut self, argument: &str, value: &AMQPValue) -> bool {
        if argument == DEDUPLICATION_HEADER {
            let AMQPValue::LongString(name) = value else {
                return false;
            };
            self.header = String::from_utf8_lossy(name.as_bytes()).into_owned();
            return true;
        }
        let number = integer(value).and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| *number > 0) {
            Some(keys) if argument == CACHE_SIZE_ARGUMENT => {
                self.keys = usize::try_from(keys).unwrap_or(KEYS_MAX).min(KEYS_MAX);
            }
            ttl @ Some(_) => self.ttl_millis = ttl,
            None => return false,
        }
        true
    }

    /// What the arguments of an exchange ask for; `always` if its type does.
    pub(crate) fn of(arguments: &FieldTable, always: bool) -> Result<Option<Self>, RoutingError> {
        let asked = match arguments.inner().get(DEDUPLICATION_ARGUMENT) {
            None => false,
            Some(AMQPValue::Boolean(asked)) => *asked,
            Some(other) => return Err(wrong_type(DEDUPLICATION_ARGUMENT, other)),
        };
        if !asked && !always {
            return Ok(None);
        }
        let mut deduplication = Self::default();
        for argument in [CACHE_SIZE_ARGUMENT, CACHE_TTL_ARGUMENT, DEDUPLICATION_HEADER] {
            let Some(value) = arguments.inner().get(argument) else {
                continue;
            };
            if !deduplication.set(argument, value) {
                return Err(match argument {
                    DEDUPLICATION_HEADER => wrong_type(argument, value),
                    _ => RoutingError::NotPositive {
                        argument,
                        value: value.clone(),
                    },
                });
            }
        }
        Ok(Some(deduplication))
    }
}

fn wrong_type(argument: &'static str, value: &AMQPValue) -> RoutingError {
    RoutingError::ArgumentType {
        argument,
        type_name: type_name(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert(name.into(), value);
        }
        table
    }

    #[test]
    fn only_who_asks_for_it_drops_duplicates() {
        let size = || (CACHE_SIZE_ARGUMENT, AMQPValue::LongInt(5));
        let asks = |asked| (DEDUPLICATION_ARGUMENT, AMQPValue::Boolean(asked));
        assert_eq!(Deduplication::of(&arguments([size()]), false), Ok(None));
        assert_eq!(Deduplication::of(&arguments([asks(false), size()]), false), Ok(None));
        let five = Deduplication {
            keys: 5,
            ..Deduplication::default()
        };
        assert_eq!(
            Deduplication::of(&arguments([asks(true), size()]), false),
            Ok(Some(five.clone()))
        );
        assert_eq!(Deduplication::of(&arguments([size()]), true), Ok(Some(five)));
    }

    #[test]
    fn the_arguments_are_checked_and_bounded() {
        let of = |name, value| Deduplication::of(&arguments([(name, value)]), true);
        assert_eq!(
            of(CACHE_SIZE_ARGUMENT, AMQPValue::LongLongInt(1 << 40))
                .unwrap()
                .unwrap()
                .keys,
            KEYS_MAX
        );
        assert_eq!(
            of(CACHE_TTL_ARGUMENT, AMQPValue::LongInt(9))
                .unwrap()
                .unwrap()
                .ttl_millis,
            Some(9)
        );
        let header = of(DEDUPLICATION_HEADER, AMQPValue::LongString("id".into()))
            .unwrap()
            .unwrap()
            .header;
        assert_eq!(header, "id");
        for value in [
            AMQPValue::LongInt(0),
            AMQPValue::LongInt(-1),
            AMQPValue::LongString("5".into()),
        ] {
            assert!(matches!(
                of(CACHE_SIZE_ARGUMENT, value.clone()),
                Err(RoutingError::NotPositive { .. })
            ));
            assert!(of(CACHE_TTL_ARGUMENT, value).is_err());
        }
        assert!(of(DEDUPLICATION_ARGUMENT, AMQPValue::LongInt(1)).is_err());
        assert!(of(DEDUPLICATION_HEADER, AMQPValue::LongInt(1)).is_err());
    }
}
