//! What clients say of themselves, for those who look at connections. Connections of one program say the same, which is kept
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::Identity;
use crate::json::table_json;
use crate::protocol::field_table::{decode_table, encode_table};

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

impl Identity {
    /// All that the client said of itself; its name and its product only if that was too much to keep.
    pub fn client_properties(&self) -> Map<String, Value> {
        let kept = self.properties.as_ref().and_then(|kept| decode_table(kept).ok());
        let mut properties = match kept.map(|table| table_json(&table)) {
            Some(Value::Object(properties)) => properties,
            _ => {
                let product = self.product.iter();
                product
                    .map(|product| ("product".to_owned(), product.as_str().into()))
                    .collect()
            }
        };
        if let Some(name) = &self.connection_name {
            properties.insert(CONNECTION_NAME.to_owned(), name.as_str().into());
        }
        properties
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

    #[test]
    fn what_a_client_said_is_shown_with_its_name_or_at_least_name_and_product() {
        let said = Identity {
            connection_name: Some("till 7".to_owned()),
            product: Some("shop".to_owned()),
            properties: ClientProperties::default().keep(&properties("till 7", "shop")),
            ..Identity::default()
        };
        let shown = |identity: &Identity| Value::Object(identity.client_properties());
        let expected = serde_json::json!({"connection_name": "till 7", "product": "shop"});
        assert_eq!(shown(&said), expected);
        let too_much = Identity {
            properties: None,
            ..said
        };
        assert_eq!(shown(&too_much), expected);
        assert_eq!(shown(&Identity::default()), serde_json::json!({}));
    }
}
