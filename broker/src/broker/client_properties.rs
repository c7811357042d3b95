//! What clients say of themselves, for those who look at connections. Connections of one program say the same, which is kept
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use parking_lot::Mutex;

use crate::protocol::field_table::encode_table;

/// Longer properties are not kept: nothing of them is shown but the names of connection and product.
const CLIENT_PROPERTIES_BYTES_MAX: usize = 4096;
/// What differs from connection to connection and is kept with each.
const CONNECTION_NAME: &str = "connection_name";

/// Encoded tables, each once, with the number of connections that have it.
#[derive(Default)]
pub struct ClientProperties(Mutex<HashMap<Arc<[u8]>, usize>>);

impl ClientProperties {
    /// Keeps properties but for the connection's name, unless they are too long.
    pub fn keep(&self, properties: &FieldTable) -> Option<Arc<[u8]>> {
        let mut shared = FieldTable::default();
        for (name, value) in properties.inner() {
            if name.as_str() != CONNECTION_NAME {
                shared.insert(name.clone(), value.clone());
            }
        }
        let mut encoded = Vec::new();
        encode_table(&shared, &mut encoded);
        if encoded.len() > CLIENT_PROPERTIES_BYTES_MAX {
            return None;
        }
        let mut all = self.0.lock();
        let known = all.get_key_value(encoded.as_slice()).map(|(known, _)| known.clone());
        let kept = known.unwrap_or_else(|| encoded.into());
        *all.entry(kept.clone()).or_default() += 1;
        Some(kept)
    }

    /// A connection is gone that had these.
    pub fn release(&self, kept: &Arc<[u8]>) {
        let mut all = self.0.lock();
        let Some(connections) = all.get_mut(kept) else { return };
        *connections -= 1;
        if *connections == 0 {
            all.remove(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::{AMQPValue, LongString};

    use super::*;

    fn properties(connection_name: &str, product: &str) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in [("connection_name", connection_name), ("product", product)] {
            table.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
        }
        table
    }

    #[test]
    fn what_connections_have_in_common_is_kept_once_and_goes_with_the_last_of_them() {
        let all = ClientProperties::default();
        let first = all.keep(&properties("a", "shop")).unwrap();
        let second = all.keep(&properties("b", "shop")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = all.keep(&properties("a", "till")).unwrap();
        assert_eq!(all.0.lock().len(), 2);
        all.release(&first);
        assert_eq!(all.0.lock().len(), 2, "the second connection has it still");
        all.release(&second);
        all.release(&other);
        assert!(all.0.lock().is_empty());
    }

    #[test]
    fn properties_without_end_are_not_kept() {
        let all = ClientProperties::default();
        let long = "x".repeat(CLIENT_PROPERTIES_BYTES_MAX);
        assert!(all.keep(&properties("a", &long)).is_none());
        assert!(all.0.lock().is_empty());
    }
}
