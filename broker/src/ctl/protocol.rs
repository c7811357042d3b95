//! What goes over the socket: one request per line, one response per line, both JSON.
//!
//! ```text
//! {"command":"add_vhost","name":"shop"}                    {"ok":"done"}
//! {"command":"delete_queue","vhost":"/","name":"nope"}     {"error":{"kind":"not_found","text":"no queue 'nope' in vhost '/'"}}
//! ```

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::answer::{Reply, Report, Response, Status, Table};
use super::error::{CtlError, ErrorKind};

/// Longest request line, its line feed included. Definitions are the long ones.
pub const MAX_REQUEST_BYTES: usize = 20 << 20;

/// Longest response line a client reads, its line feed included. Room for about a million queues with a few columns.
pub const MAX_RESPONSE_BYTES: u64 = 256 << 20;

/// So much of a request is in the log.
const DESCRIBED_CHARS_MAX: usize = 500;

/// A command for the broker.
///
/// `columns` are names of [`super::rows`]; an empty list stands for the usual ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// One that is there stays as it is.
    AddVhost {
        name: String,
        #[serde(default)]
        description: String,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        default_queue_type: Option<String>,
    },
    DeleteVhost {
        name: String,
    },
    ProtectVhost {
        name: String,
        protected: bool,
    },
    TraceVhost {
        vhost: String,
        on: bool,
    },
    ListVhosts {
        columns: Vec<String>,
    },
    /// What is not given stays. The rule is one of [`RedeclareRule`](crate::vhost::redeclare::RedeclareRule), or `default`.
    UpdateVhostMetadata {
        name: String,
        description: Option<String>,
        tags: Option<Vec<String>>,
        default_queue_type: Option<String>,
        redeclare_rule: Option<String>,
    },
    AddUser {
        name: String,
        password: Password,
    },
    DeleteUser {
        name: String,
    },
    ChangePassword {
        name: String,
        password: Password,
    },
    /// Nobody comes in with a password then.
    ClearPassword {
        name: String,
    },
    SetUserTags {
        name: String,
        tags: Vec<String>,
    },
    ListUsers {},
    SetPermissions {
        vhost: String,
        user: String,
        configure: String,
        write: String,
        read: String,
    },
    ClearPermissions {
        vhost: String,
        user: String,
    },
    ListPermissions {
        vhost: String,
    },
    ListUserPermissions {
        user: String,
    },
    SetTopicPermissions {
        vhost: String,
        user: String,
        exchange: String,
        write: String,
        read: String,
    },
    /// At all exchanges if none is named.
    ClearTopicPermissions {
        vhost: String,
        user: String,
        exchange: Option<String>,
    },
    ListTopicPermissions {
        vhost: String,
    },
    ListUserTopicPermissions {
        user: String,
    },
    ListQueues {
        vhost: String,
        columns: Vec<String>,
    },
    ListExchanges {
        vhost: String,
        columns: Vec<String>,
    },
    ListBindings {
        vhost: String,
        columns: Vec<String>,
    },
    ListConnections {
        columns: Vec<String>,
    },
    ListChannels {
        columns: Vec<String>,
    },
    ListConsumers {
        vhost: String,
        columns: Vec<String>,
    },
    PurgeQueue {
        vhost: String,
        name: String,
    },
    AlterQueue {
        vhost: String,
        name: String,
        /// JSON.
        arguments: String,
    },
    DeleteQueue {
        vhost: String,
        name: String,
        if_empty: bool,
        if_unused: bool,
    },
    SetPolicy(Box<PolicyRequest>),
    ClearPolicy {
        operator: bool,
        vhost: String,
        name: String,
    },
    ListPolicies {
        operator: bool,
        vhost: String,
    },
    /// `limits` is a JSON object as text.
    SetVhostLimits {
        vhost: String,
        limits: String,
    },
    ClearVhostLimits {
        vhost: String,
    },
    /// Those of all virtual hosts if none is named.
    ListVhostLimits {
        vhost: Option<String>,
    },
    /// `limits` is a JSON object as text.
    SetUserLimits {
        user: String,
        limits: String,
    },
    /// `limit` is the name of one, or `all`.
    ClearUserLimits {
        user: String,
        limit: String,
    },
    /// Those of all users if none is named.
    ListUserLimits {
        user: Option<String>,
    },
    /// `value` is JSON as text.
    SetGlobalParameter {
        name: String,
        value: String,
    },
    ClearGlobalParameter {
        name: String,
    },
    ListGlobalParameters {},
    ListDelayedMessages {
        vhost: String,
        exchange: String,
    },
    /// `id` is that of the list.
    CancelDelayedMessage {
        vhost: String,
        exchange: String,
        id: u64,
    },
    /// Closes the connection of this name, with 320 and the reason.
    CloseConnection {
        name: String,
        reason: String,
    },
    /// Closes those of a virtual host, or all, the oldest first.
    CloseAllConnections {
        vhost: Option<String>,
        limit: Option<usize>,
        reason: String,
    },
    CloseAllUserConnections {
        user: String,
        reason: String,
    },
    CheckRunning {},
    CheckAlarms {},
    CheckVirtualHosts {},
    CheckPortListener {
        port: u16,
    },
    /// Under any name that RabbitMQ has for it.
    CheckProtocolListener {
        protocol: String,
    },
    /// Answered by every broker that runs.
    Ping {},
    /// Does the user have this password?
    AuthenticateUser {
        name: String,
        password: Password,
    },
    /// Connects to this address in place of each listener's own.
    CheckPortConnectivity {
        address: Option<IpAddr>,
    },
    Status {},
    /// Take the broker out of service.
    Drain {},
    /// Take it back into service.
    Undrain {},
    Listeners {},
    Alarms {},
    ClusterStatus {},
    Environment {},
    ServerVersion {},
    /// Until the broker restarts or reads its configuration again. A size if `absolute`, else a fraction.
    SetVmMemoryHighWatermark {
        value: String,
        absolute: bool,
    },
    /// Until then, too. A multiple of the memory if `mem_relative`, else a size.
    SetDiskFreeLimit {
        value: String,
        mem_relative: bool,
    },
    ExportDefinitions {},
    /// Makes what a definitions file has and the broker has not; a dry run only tells.
    ImportDefinitions {
        definitions: Value,
        dry_run: bool,
    },
    /// Makes a copy of the data in this directory, which is a path on the broker's machine and does not exist.
    Backup {
        directory: String,
    },
}

/// A policy to be set. `definition` is a JSON object as text; `operator` chooses the kind of policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    pub operator: bool,
    pub vhost: String,
    pub name: String,
    pub pattern: String,
    pub definition: String,
    pub priority: i64,
    pub apply_to: String,
}

impl Request {
    /// The name of the command, such as `add_vhost`.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value
            .get("command")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Whether it changes nothing.
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Status {}
            | Self::Listeners {}
            | Self::Alarms {}
            | Self::ClusterStatus {}
            | Self::Environment {}
            | Self::ServerVersion {}
            | Self::Ping {}
            | Self::AuthenticateUser { .. }
            | Self::ExportDefinitions {} => true,
            other => ["list_", "check_"].iter().any(|start| other.name().starts_with(start)),
        }
    }

    /// For the log: what is asked for, without passwords and without end.
    pub fn described(&self) -> String {
        if let Self::ImportDefinitions { .. } = self {
            return self.name();
        }
        let mut text = format!("{self:?}");
        if let Some((end, _)) = text.char_indices().nth(DESCRIBED_CHARS_MAX) {
            text.truncate(end);
            text.push_str("...");
        }
        text
    }
}

/// A password on its way to the broker; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A request or response as the line that goes over the socket, with its line feed.
pub fn to_line(message: &impl Serialize) -> Result<Vec<u8>, CtlError> {
    let mut line = serde_json::to_vec(message).map_err(|error| {
        CtlError::new(
            ErrorKind::Internal,
            format!("a message cannot be written as JSON: {error}"),
        )
    })?;
    line.push(b'\n');
    Ok(line)
}

/// Reads the line of a request.
pub fn parse_request(line: &[u8]) -> Result<Request, CtlError> {
    serde_json::from_slice(line)
        .map_err(|error| CtlError::new(ErrorKind::Invalid, format!("not a request of this broker: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_single_lines_of_the_documented_form() {
        let request = Request::DeleteQueue {
            vhost: "/".to_owned(),
            name: "two\nlines".to_owned(),
            if_empty: true,
            if_unused: false,
        };
        let line = to_line(&request).unwrap();
        let expected = concat!(
            r#"{"command":"delete_queue","vhost":"/","name":"two\nlines","if_empty":true,"if_unused":false}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        assert_eq!(parse_request(&line), Ok(request));

        assert_eq!(to_line(&Response::Ok(Reply::Done)).unwrap(), b"{\"ok\":\"done\"}\n");
        let error = Response::Error(CtlError::new(ErrorKind::NotFound, "no queue 'q' in vhost '/'"));
        assert_eq!(
            String::from_utf8(to_line(&error).unwrap()).unwrap(),
            "{\"error\":{\"kind\":\"not_found\",\"text\":\"no queue 'q' in vhost '/'\"}}\n"
        );
    }

    #[test]
    fn requests_that_are_not_ours_are_refused() {
        let deep = "[".repeat(10_000);
        let lines = [
            "",
            "x",
            "{}",
            r#"{"command":"reboot"}"#,
            r#"{"command":"add_vhost"}"#,
            r#"{"command":"add_vhost","name":5}"#,
            r#"{"command":"add_vhost","name":"x","extra":1}"#,
            deep.as_str(),
        ];
        for line in lines {
            let error = parse_request(line.as_bytes()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{line}");
        }
    }

    #[test]
    fn passwords_do_not_show_in_debug_output() {
        let request = Request::AddUser {
            name: "app".to_owned(),
            password: Password("hush".to_owned()),
        };
        assert!(!format!("{request:?}").contains("hush"));
        assert!(!request.described().contains("hush"));
        assert_eq!(request.name(), "add_user");
    }

    #[test]
    fn what_changes_something_is_described_within_bounds() {
        let asked = Request::ListVhosts { columns: Vec::new() };
        assert!(asked.only_asks() && Request::CheckRunning {}.only_asks() && Request::Status {}.only_asks());
        let changing = Request::DeleteVhost {
            name: "é".repeat(2000)
        };
        assert!(!changing.only_asks() && !Request::Drain {}.only_asks());
        assert_eq!(changing.described().chars().count(), DESCRIBED_CHARS_MAX + "...".len());
        let definitions = Request::ImportDefinitions {
            definitions: serde_json::json!({"users": [{"name": "a", "password": "hush"}]}),
            dry_run: false,
        };
        assert_eq!(definitions.described(), "import_definitions");
    }
}
