//! What `leveret ctl` prints: tab-separated lines like rabbitmqctl, or JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::protocol::{Reply, Status, Table};

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Formatter {
    /// Values with tabs between them, after a line with the names of the columns.
    #[default]
    Table,
    /// One JSON value: an array of objects for lists.
    Json,
}

/// Writes the answer.
pub fn print(reply: &Reply, formatter: Formatter, headers: bool, out: &mut impl Write) -> io::Result<()> {
    match (reply, formatter) {
        (Reply::Done, _) => Ok(()),
        (Reply::Message(text), Formatter::Table) => writeln!(out, "{text}"),
        (Reply::Message(text), Formatter::Json) => writeln!(out, "{}", Value::from(text.as_str())),
        (Reply::Table(table), Formatter::Table) => print_table(table, headers, out),
        (Reply::Table(table), Formatter::Json) => print_json_table(table, out),
        (Reply::Status(status), Formatter::Table) => print_status(status, out),
        (Reply::Status(status), Formatter::Json) => writeln!(out, "{}", serde_json::to_string(status)?),
    }
}

fn print_table(table: &Table, headers: bool, out: &mut impl Write) -> io::Result<()> {
    if headers {
        writeln!(out, "{}", table.columns.join("\t"))?;
    }
    for row in &table.rows {
        let cells: Vec<_> = row.iter().map(cell).collect();
        writeln!(out, "{}", cells.join("\t"))?;
    }
    Ok(())
}

/// Objects keep the order of the columns, which a map of the JSON library would not.
fn print_json_table(table: &Table, out: &mut impl Write) -> io::Result<()> {
    let mut separator = "";
    write!(out, "[")?;
    for row in &table.rows {
        let fields = table.columns.iter().zip(row);
        let fields: Vec<_> = fields
            .map(|(column, value)| format!("{}:{value}", Value::from(column.as_str())))
            .collect();
        write!(out, "{separator}\n{{{}}}", fields.join(","))?;
        separator = ",";
    }
    writeln!(out, "\n]")
}

fn print_status(status: &Status, out: &mut impl Write) -> io::Result<()> {
    let Ok(Value::Object(fields)) = serde_json::to_value(status) else {
        return Ok(());
    };
    for (name, value) in fields {
        writeln!(out, "{name}\t{}", cell(&value))?;
    }
    Ok(())
}

/// A value on one line: texts as they are, lists as rabbitmqctl prints them, tables as JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n")
            .replace('\r', "\\r"),
        Value::Array(items) => format!("[{}]", items.iter().map(cell).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) if fields.is_empty() => "[]".to_owned(),
        other => other.to_string(),
    }
}
