//! What `leveret ctl` prints: tab-separated lines like rabbitmqctl, or JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::protocol::{Reply, Status, Table};

/// Form of the output: values with tabs between them under a line with the names of the columns, or one JSON value
/// (an array of objects for lists).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Formatter {
    #[default]
    Table,
    Json,
    /// Lists with commas between values and texts in quotes; all else as a table.
    Csv,
    /// Lists in frames; all else as a table.
    PrettyTable,
}

/// Writes the answer.
pub fn print(reply: &Reply, formatter: Formatter, headers: bool, out: &mut impl Write) -> io::Result<()> {
    let json = formatter == Formatter::Json;
    match reply {
        Reply::Done => Ok(()),
        Reply::Message(text) if json => writeln!(out, "{}", Value::from(text.as_str())),
        Reply::Message(text) => writeln!(out, "{text}"),
        Reply::Table(table) => match formatter {
            Formatter::Json => print_json_table(table, out),
            // As rabbitmqctl, which prints nothing for an empty list.
            _ if table.rows.is_empty() => Ok(()),
            Formatter::Table => print_table(table, headers, out),
            Formatter::Csv => print_csv(table, headers, out),
            Formatter::PrettyTable => print_framed(table, headers, out),
        },
        Reply::Definitions(definitions) => writeln!(out, "{}", serde_json::to_string_pretty(definitions)?),
        Reply::Report(report) if json => writeln!(out, "{}", report.json),
        Reply::Report(report) => report.lines.iter().try_for_each(|line| writeln!(out, "{line}")),
        Reply::Status(status) if json => writeln!(out, "{}", serde_json::to_string(status)?),
        Reply::Status(status) => print_status(status, out),
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

fn print_csv(table: &Table, headers: bool, out: &mut impl Write) -> io::Result<()> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    if headers {
        let names: Vec<_> = table.columns.iter().map(|column| quoted(column)).collect();
        writeln!(out, "{}", names.join(","))?;
    }
    for row in &table.rows {
        let cells = row.iter().map(|value| match value {
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::String(text) => quoted(text),
            other => quoted(&cell(other)),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

fn print_framed(table: &Table, headers: bool, out: &mut impl Write) -> io::Result<()> {
    let names = headers.then(|| table.columns.clone());
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
    let lines: Vec<Vec<String>> = names.into_iter().chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let rule = |left: &str, between: &str, right: &str| {
        let dashes: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}", dashes.join(between))
    };
    writeln!(out, "{}", rule("┌", "┬", "┐"))?;
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            writeln!(out, "{}", rule("├", "┼", "┤"))?;
        }
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} "));
        writeln!(out, "│{}│", cells.collect::<Vec<_>>().join("│"))?;
    }
    writeln!(out, "{}", rule("└", "┴", "┘"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(reply: &Reply, formatter: Formatter, headers: bool) -> String {
        let mut out = Vec::new();
        print(reply, formatter, headers, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn table() -> Reply {
        let columns = ["name", "durable", "arguments"].map(str::to_owned).to_vec();
        let rows = vec![
            vec![json!("tasks"), json!(true), json!({})],
            vec![json!("a\tb\n"), json!(false), json!({"x-max-length": 5})],
        ];
        Reply::Table(Table { columns, rows })
    }

    #[test]
    fn lists_are_lines_with_tabs_under_the_names_of_the_columns() {
        let lines = "tasks\ttrue\t[]\na\\tb\\n\tfalse\t{\"x-max-length\":5}\n";
        assert_eq!(
            printed(&table(), Formatter::Table, true),
            format!("name\tdurable\targuments\n{lines}")
        );
        assert_eq!(printed(&table(), Formatter::Table, false), lines);
    }

    #[test]
    fn lists_with_commas_have_their_texts_in_quotes() {
        let Reply::Table(mut table) = table() else { panic!() };
        table.rows[1][0] = json!("say \"hi\", twice");
        let text = "\"name\",\"durable\",\"arguments\"\n\"tasks\",true,\"[]\"\n\
                    \"say \"\"hi\"\", twice\",false,\"{\"\"x-max-length\"\":5}\"\n";
        let reply = Reply::Table(table);
        assert_eq!(printed(&reply, Formatter::Csv, true), text);
        assert_eq!(printed(&reply, Formatter::Csv, false), text.split_once('\n').unwrap().1);
    }

    #[test]
    fn lists_in_frames_are_as_wide_as_their_longest_value() {
        let reply = Reply::Table(Table {
            columns: vec!["name".to_owned(), "messages".to_owned()],
            rows: vec![vec![json!("größer"), json!(5)]],
        });
        let frame = "┌────────┬──────────┐\n│ name   │ messages │\n├────────┼──────────┤\n│ größer │ 5        │\n└────────┴──────────┘\n";
        assert_eq!(printed(&reply, Formatter::PrettyTable, true), frame);
    }

    #[test]
    fn an_empty_list_prints_nothing_but_as_json() {
        let empty = Reply::Table(Table {
            columns: vec!["name".to_owned()],
            rows: Vec::new(),
        });
        for formatter in [Formatter::Table, Formatter::Csv, Formatter::PrettyTable] {
            assert_eq!(printed(&empty, formatter, true), "");
        }
        assert_eq!(printed(&empty, Formatter::Json, true), "[\n]\n");
    }

    #[test]
    fn json_lists_are_arrays_of_objects_in_the_order_of_the_columns() {
        let text = printed(&table(), Formatter::Json, true);
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected = json!([
            {"name": "tasks", "durable": true, "arguments": {}},
            {"name": "a\tb\n", "durable": false, "arguments": {"x-max-length": 5}},
        ]);
        assert_eq!(value, expected);
        assert!(
            text.contains(r#"{"name":"tasks","durable":true,"arguments":{}}"#),
            "{text}"
        );
        let empty = Reply::Table(Table {
            columns: vec!["name".to_owned()],
            rows: Vec::new(),
        });
        assert_eq!(
            serde_json::from_str::<Value>(&printed(&empty, Formatter::Json, true)).unwrap(),
            json!([])
        );
    }

    #[test]
    fn tags_are_printed_as_rabbitmqctl_does() {
        assert_eq!(
            cell(&json!(["administrator", "monitoring"])),
            "[administrator, monitoring]"
        );
        assert_eq!(cell(&json!([])), "[]");
    }

    #[test]
    fn status_is_a_name_and_a_value_per_line() {
        let status = Status {
            node_name: "rabbit@one".to_owned(),
            listeners: vec!["amqp [::]:5672".to_owned()],
            ..Status::default()
        };
        let text = printed(&Reply::Status(Box::new(status)), Formatter::Table, true);
        assert!(text.lines().any(|line| line == "node_name\trabbit@one"), "{text}");
        assert!(text.lines().any(|line| line == "listeners\t[amqp [::]:5672]"), "{text}");
    }

    #[test]
    fn what_is_merely_done_prints_nothing() {
        assert_eq!(printed(&Reply::Done, Formatter::Table, true), "");
        assert_eq!(
            printed(&Reply::Message("purged 3 messages".to_owned()), Formatter::Table, true),
            "purged 3 messages\n"
        );
    }
}
