//! The columns of the `list_` commands, named as in rabbitmqctl, and the choice among them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{CtlError, ErrorKind};
use super::protocol::Table;

/// One line of a `list_` command. Its columns are its fields.
pub trait Row: Serialize {
    /// Every column there is.
    const COLUMNS: &'static [&'static str];
    /// Those shown when none are asked for.
    const USUAL: &'static [&'static str];
}

/// Makes the table of the wanted columns; of the usual ones if `wanted` is empty.
pub fn tabulate<R: Row>(rows: impl IntoIterator<Item = R>, wanted: &[String]) -> Result<Table, CtlError> {
    if let Some(unknown) = wanted.iter().find(|column| !R::COLUMNS.contains(&column.as_str())) {
        let text = format!("unknown column '{unknown}'; known are {}", R::COLUMNS.join(", "));
        return Err(CtlError::new(ErrorKind::Invalid, text));
    }
    let columns: Vec<String> = match wanted {
        [] => R::USUAL.iter().map(ToString::to_string).collect(),
        _ => wanted.to_vec(),
    };
    let pick = |row: R| {
        let fields = match serde_json::to_value(row) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        columns
            .iter()
            .map(|column| fields.get(column).cloned().unwrap_or(Value::Null))
            .collect()
    };
    let rows = rows.into_iter().map(pick).collect();
    Ok(Table { columns, rows })
}

/// The name of a field's column: its own, or the one after `as`.
macro_rules! column {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:literal) => {
        $column
    };
}

/// Makes the struct of a row and the lists of its columns.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($field:ident $(as $column:literal)?: $type:ty,)* } usual $usual:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Serialize)]
        pub struct $name { $($(#[serde(rename = $column)])? pub $field: $type,)* }

        impl Row for $name {
            const COLUMNS: &'static [&'static str] = &[$(column!($field $($column)?),)*];
            const USUAL: &'static [&'static str] = &$usual;
        }
    };
}

row! {
    /// A virtual host.
    VhostRow {
        name: String,
        description: String,
        tags: Vec<String>,
        default_queue_type: Option<String>,
        redeclare_rule: String,
        protected_from_deletion: bool,
        tracing: bool,
    }
    usual ["name"]
}

row! {
    /// A user.
    UserRow { user: String, tags: Vec<String>, }
    usual ["user", "tags"]
}

row! {
    /// What a user may do in the virtual host that was asked for.
    PermissionRow { user: String, configure: String, write: String, read: String, }
    usual ["user", "configure", "write", "read"]
}

row! {
    /// What the user that was asked for may do in a virtual host.
    UserPermissionRow { vhost: String, configure: String, write: String, read: String, }
    usual ["vhost", "configure", "write", "read"]
}

row! {
    /// What restricts a user's routing keys at an exchange of the virtual host that was asked for.
    TopicPermissionRow { user: String, exchange: String, write: String, read: String, }
    usual ["user", "exchange", "write", "read"]
}

row! {
    /// What restricts the routing keys of the user that was asked for.
    UserTopicPermissionRow { vhost: String, exchange: String, write: String, read: String, }
    usual ["vhost", "exchange", "write", "read"]
}

row! {
    /// A fact about the whole broker.
    GlobalParameterRow { name: String, value: Value, }
    usual ["name", "value"]
}

row! {
    /// A queue. `arguments` is a JSON object; `owner` names the connection of an exclusive queue; `messages_paged_out` are ready and on
    /// disk only, `memory` is what the others take; `head_message_timestamp` is that of the message that leaves next, if it is in memory; `effective_policy_definition` is what its policy and its operator policy
    /// come to together.
    QueueRow {
        name: String,
        durable: bool,
        auto_delete: bool,
        exclusive: bool,
        arguments: Value,
        kind as "type": String,
        state: String,
        messages: u64,
        messages_ready: u64,
        messages_unacknowledged: u64,
        messages_ready_ram: u64,
        messages_unacknowledged_ram: u64,
        messages_ram: u64,
        messages_persistent: u64,
        messages_paged_out: u64,
        message_bytes: u64,
        message_bytes_ready: u64,
        message_bytes_unacknowledged: u64,
        message_bytes_ram: u64,
        message_bytes_persistent: u64,
        message_bytes_paged_out: u64,
        head_message_timestamp: Option<u64>,
        disk_reads: u64,
        disk_writes: u64,
        memory: u64,
        consumers: u64,
        owner: String,
        policy: String,
        operator_policy: String,
        effective_policy_definition: Value,
    }
    usual ["name", "messages"]
}

row! {
    /// An exchange. `type` is as declared; `policy` names the policy that applies to it; `messages_delayed` wait in it.
    ExchangeRow {
        name: String,
        kind as "type": String,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Value,
        policy: String,
        messages_delayed: u64,
    }
    usual ["name", "type"]
}

row! {
    /// A binding. The kinds are `exchange` or `queue`.
    BindingRow {
        source_name: String,
        source_kind: String,
        destination_name: String,
        destination_kind: String,
        routing_key: String,
        arguments: Value,
    }
    usual ["source_name", "source_kind", "destination_name", "destination_kind", "routing_key", "arguments"]
}

row! {
    /// A policy or operator policy.
    PolicyRow {
        vhost: String,
        name: String,
        pattern: String,
        apply_to as "apply-to": String,
        definition: Value,
        priority: i64,
    }
    usual ["vhost", "name", "pattern", "apply-to", "definition", "priority"]
}

row! {
    /// The limits of a virtual host.
    VhostLimitsRow { vhost: String, limits: Value, }
    usual ["vhost", "limits"]
}

row! {
    /// The limits of a user.
    UserLimitsRow { user: String, limits: Value, }
    usual ["user", "limits"]
}

row! {
    /// A message that a delayed exchange keeps. `due` is in milliseconds since 1970.
    DelayedRow { id: u64, due: u64, routing_key: String, message_bytes: u64, durable: bool, }
    usual ["id", "due", "routing_key", "message_bytes", "durable"]
}

row! {
    /// A client connection. `name` and `pid` are what `close_connection` takes; `user_provided_name` is the client's own.
    ConnectionRow {
        pid: String,
        name: String,
        user_provided_name: String,
        user: String,
        vhost: String,
        peer_host: String,
        peer_port: u16,
        host: String,
        port: u16,
        state: String,
        channels: u64,
        channel_max: u16,
        frame_max: u32,
        timeout: u16,
        connected_at: u64,
        client_properties: Value,
    }
    usual ["user", "peer_host", "peer_port", "state"]
}

row! {
    /// A channel.
    ChannelRow {
        name: String,
        connection: String,
        number: u16,
        user: String,
        vhost: String,
        consumer_count: u64,
        messages_unacknowledged: u64,
        global_prefetch_count: u16,
    }
    usual ["name", "user", "consumer_count", "messages_unacknowledged"]
}

row! {
    /// A consumer.
    ConsumerRow {
        queue_name: String,
        channel: String,
        consumer_tag: String,
        ack_required: bool,
        prefetch_count: u16,
        active: bool,
        activity_status: String,
        exclusive: bool,
        priority: i64,
        arguments: Value,
    }
    usual ["queue_name", "channel", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_are_columns<R: Row + Default>() {
        let value = serde_json::to_value(R::default()).unwrap();
        let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut columns = R::COLUMNS.to_vec();
        fields.sort_unstable();
        columns.sort_unstable();
        assert_eq!(fields, columns);
        assert!(
            R::USUAL.iter().all(|usual| R::COLUMNS.contains(usual)),
            "{:?}",
            R::USUAL
        );
    }

    #[test]
    fn every_column_is_a_field_and_every_usual_column_exists() {
        fields_are_columns::<VhostRow>();
        fields_are_columns::<UserRow>();
        fields_are_columns::<PermissionRow>();
        fields_are_columns::<UserPermissionRow>();
        fields_are_columns::<QueueRow>();
        fields_are_columns::<ExchangeRow>();
        fields_are_columns::<BindingRow>();
        fields_are_columns::<DelayedRow>();
        fields_are_columns::<PolicyRow>();
        fields_are_columns::<VhostLimitsRow>();
        fields_are_columns::<UserLimitsRow>();
        fields_are_columns::<ConnectionRow>();
        fields_are_columns::<ChannelRow>();
        fields_are_columns::<ConsumerRow>();
    }

    fn queue(name: &str, messages: u64) -> QueueRow {
        QueueRow {
            name: name.to_owned(),
            kind: "classic".to_owned(),
            messages,
            ..QueueRow::default()
        }
    }

    #[test]
    fn wanted_columns_come_in_the_wanted_order() {
        let wanted = ["messages", "type", "name", "name"].map(str::to_owned);
        let table = tabulate([queue("a", 1), queue("b", 2)], &wanted).unwrap();
        assert_eq!(table.columns, wanted);
        assert_eq!(
            serde_json::json!(table.rows),
            serde_json::json!([[1, "classic", "a", "a"], [2, "classic", "b", "b"]])
        );
    }

    #[test]
    fn the_usual_columns_come_when_none_are_wanted() {
        let table = tabulate([queue("a", 1)], &[]).unwrap();
        assert_eq!(table.columns, ["name", "messages"]);
        assert_eq!(serde_json::json!(table.rows), serde_json::json!([["a", 1]]));
    }

    #[test]
    fn an_unknown_column_is_answered_with_those_there_are() {
        let error = tabulate([VhostRow::default()], &["nmae".to_owned()]).unwrap_err();
        let known = "name, description, tags, default_queue_type, redeclare_rule, protected_from_deletion, tracing";
        assert_eq!(error.text, format!("unknown column 'nmae'; known are {known}"));
    }
}
