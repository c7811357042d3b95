//! Stamps that the broker puts on messages as they are published: when, and by which node. RabbitMQ calls these message
//! interceptors.

use super::content::Properties;
use super::field_table::{entries, with_long, with_longstr};

/// The time in milliseconds since 1970. The property `timestamp` has it in seconds.
const TIMESTAMP: &str = "timestamp_in_ms";
/// The name of the node.
const ROUTED_BY: &str = "x-routed-by";

/// Whether messages get a stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamping {
    /// No.
    #[default]
    Off,
    /// Those that have none.
    Missing,
    /// All, in place of what their publishers say.
    Overwrite,
}

impl Stamping {
    /// With the names by which they are chosen.
    pub const ALL: [(&str, Stamping); 3] = [
        ("off", Stamping::Off),
        ("missing", Stamping::Missing),
        ("overwrite", Stamping::Overwrite),
    ];

    fn replaces(self, is_there: bool) -> bool {
        match self {
            Stamping::Off => false,
            Stamping::Missing => !is_there,
            Stamping::Overwrite => true,
        }
    }
}

/// What is put on messages.
#[derive(Clone, Copy, Debug)]
pub struct Stamps<'a> {
    /// The time, in milliseconds since 1970.
    pub timestamp: (Stamping, u64),
    /// The name of this node.
    pub routed_by: (Stamping, &'a str),
}

/// What stamps change about a message; all else stays as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stamped {
    /// Its header table.
    pub headers: Option<Vec<u8>>,
    /// Its timestamp, in seconds.
    pub timestamp: Option<u64>,
}

impl Stamps<'_> {
    /// What becomes of a message with these properties.
    pub fn put_on(&self, properties: &Properties<'_>) -> Stamped {
        let mut stamped = Stamped::default();
        let table = properties.headers.unwrap_or(&[0; 4]);
        let has = |key: &str| entries(table).any(|entry| entry.key == key);
        let (stamping, millis) = self.timestamp;
        if stamping.replaces(has(TIMESTAMP)) {
            stamped.headers = Some(with_long(table, TIMESTAMP, millis.try_into().unwrap_or(i64::MAX)));
        }
        if stamping.replaces(properties.timestamp.is_some()) {
            stamped.timestamp = Some(millis / 1000);
        }
        let (stamping, node) = self.routed_by;
        if stamping.replaces(has(ROUTED_BY)) {
            let table = stamped.headers.as_deref().unwrap_or(table);
            stamped.headers = Some(with_longstr(table, ROUTED_BY, node));
        }
        stamped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::field_table::decode_table;
    use amq_protocol::types::AMQPValue;

    const NOW: u64 = 1_700_000_000_123;

    fn stamped(timestamp: Stamping, routed_by: Stamping, properties: &Properties<'_>) -> Stamped {
        let stamps = Stamps {
            timestamp: (timestamp, NOW),
            routed_by: (routed_by, "rabbit@here"),
        };
        stamps.put_on(properties)
    }

    fn header(stamped: &Stamped, name: &str) -> Option<AMQPValue> {
        let table = decode_table(stamped.headers.as_deref()?).unwrap();
        table.inner().get(name).cloned()
    }

    #[test]
    fn a_message_without_properties_gets_all_stamps_that_are_asked_for() {
        let plain = Properties::default();
        assert_eq!(stamped(Stamping::Off, Stamping::Off, &plain), Stamped::default());
        let both = stamped(Stamping::Missing, Stamping::Missing, &plain);
        assert_eq!(both.timestamp, Some(1_700_000_000));
        assert_eq!(header(&both, TIMESTAMP), Some(AMQPValue::LongLongInt(NOW as i64)));
        assert_eq!(
            header(&both, ROUTED_BY),
            Some(AMQPValue::LongString("rabbit@here".into()))
        );
        let node = stamped(Stamping::Off, Stamping::Overwrite, &plain);
        assert_eq!((node.timestamp, header(&node, TIMESTAMP)), (None, None));
    }

    #[test]
    fn what_the_publisher_says_stays_unless_it_is_to_be_overwritten() {
        let table = with_longstr(&with_long(&[0; 4], TIMESTAMP, 5), ROUTED_BY, "elsewhere");
        let properties = Properties {
            headers: Some(&table),
            timestamp: Some(7),
            ..Properties::default()
        };
        let kept = stamped(Stamping::Missing, Stamping::Missing, &properties);
        assert_eq!(kept, Stamped::default());
        let replaced = stamped(Stamping::Overwrite, Stamping::Overwrite, &properties);
        assert_eq!(replaced.timestamp, Some(1_700_000_000));
        assert_eq!(header(&replaced, TIMESTAMP), Some(AMQPValue::LongLongInt(NOW as i64)));
        assert_eq!(
            header(&replaced, ROUTED_BY),
            Some(AMQPValue::LongString("rabbit@here".into()))
        );
    }
}
