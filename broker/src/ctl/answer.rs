//! What the broker answers to a command.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CtlError;

/// The broker's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Ok(Reply),
    Error(CtlError),
}

impl From<Result<Reply, CtlError>> for Response {
    fn from(result: Result<Reply, CtlError>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(error) => Self::Error(error),
        }
    }
}

impl From<Result<Table, CtlError>> for Response {
    fn from(result: Result<Table, CtlError>) -> Self {
        result.map(Reply::Table).into()
    }
}

/// What a command that succeeded brings back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, and there is nothing to say.
    Done,
    /// It is done, and this is worth a line.
    Message(String),
    Table(Table),
    Status(Box<Status>),
    Report(Box<Report>),
    Definitions(Box<Value>),
}

/// Rows of a `list_` command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub columns: Vec<String>,
    /// Each row has one value per column, in their order.
    pub rows: Vec<Vec<Value>>,
}

/// Answer of `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub product: String,
    pub version: String,
    pub node_name: String,
    pub cluster_name: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub data_dir: String,
    /// Such as `amqp 127.0.0.1:5672`.
    pub listeners: Vec<String>,
    /// Reasons why publishers are blocked; empty when all is well.
    pub alarms: Vec<String>,
    pub vhosts: u64,
    pub connections: u64,
    pub channels: u64,
    pub queues: u64,
    pub consumers: u64,
    pub messages_ready: u64,
    pub messages_unacknowledged: u64,
    /// Resident memory of the broker.
    pub memory_bytes: u64,
    pub open_files: u64,
}

/// What there is to say, twice: for people, and for programs in the form that rabbitmqctl gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub lines: Vec<String>,
    pub json: Value,
}
