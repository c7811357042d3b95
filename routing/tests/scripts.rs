//! Runs the golden scripts in `tests/scripts`: commands, each followed by what it answers, indented.
//!
//! Empty lines and lines that start with `#` are for the reader. What merely succeeds (declaring,
//! binding, adding) answers nothing. Set `UPDATE_SCRIPTS=1` to write the present answers into the
//! files, then read the difference.
//!
//! ```text
//! declare NAME KIND [durable] [auto-delete] [internal] [alternate=NAME] [ARGUMENT=VALUE ...]
//! spread EXCHANGE COUNT                 how many of COUNT messages with different keys each queue gets
//! policy NAME [alternate=NAME]          delete NAME [if-unused]
//! queue NAME                            remove-queue NAME
//! bind SOURCE -> QUEUE KEY [NAME=VALUE ...]
//! bind SOURCE => EXCHANGE KEY [NAME=VALUE ...]     (unbind takes the same)
//! route EXCHANGE KEY[,KEY ...] [NAME=VALUE ...]
//! exchanges | queues | bindings | bindings-from NAME | bindings-to-queue NAME | bindings-to NAME
//! ```
//!
//! `''` is the empty name or key. Values are `text`, `1` (signedint), `1l` (long), `1s` (short),
//! `1t` (timestamp), `1.0` (double), `true`, `void`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path};

use amq_protocol_types::{AMQPValue, FieldTable};
use leveret_routing::{
    ALTERNATE_EXCHANGE, Binding, Declared, Destination, ExchangeKind, ExchangeOptions, ExchangePolicy, NoHeaders,
    Removed, RouteBuffer, RoutingError, RoutingTable, value_text,
};

#[test]
fn every_script_answers_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 20, "the scripts are missing");
    let mut failures = Vec::new();
    for path in paths {
        let written = fs::read_to_string(&path).unwrap();
        let answered = Script::new().run(&written);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&path, &answered).unwrap();
        } else if written != answered {
            failures.push(format!("{}\n{}", path.display(), first_difference(&written, &answered)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn first_difference(written: &str, answered: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (written, answered) = (lines(written), lines(answered));
    let at = written.iter().zip(&answered).take_while(|(w, a)| w == a).count();
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
    format!(
        "line {}\n  written:  {}\n  answered: {}",
        at + 1,
        line(&written),
        line(&answered)
    )
}

/// What an answer's lines start with.
const ANSWER: &str = "    ";

struct Script {
    table: RoutingTable<u32>,
    queues: BTreeMap<String, u32>,
}

impl Script {
    fn new() -> Self {
        Self {
            table: RoutingTable::new(),
            queues: BTreeMap::new(),
        }
    }

    fn run(&mut self, script: &str) -> String {
        let mut answered = String::new();
        for line in script.lines().filter(|line| !line.starts_with(ANSWER)) {
            answered += &format!("{line}\n");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            for answer in self.execute(line).lines() {
                answered += &format!("{ANSWER}{answer}\n");
            }
        }
        answered
    }

    fn execute(&mut self, line: &str) -> String {
        let words: Vec<_> = line
            .split(' ')
            .map(|word| if word == "''" { "" } else { word })
            .collect();
        match words.as_slice() {
            ["declare", name, rest @ ..] => self.declare(name, rest),
            ["policy", name, rest @ ..] => {
                let alternate = rest.first().and_then(|word| word.strip_prefix("alternate="));
                let policy = ExchangePolicy {
                    alternate_exchange: alternate.map(str::to_owned),
                    ..ExchangePolicy::default()
                };
                let set = self.table.set_policy(name, policy);
                answer(set.map(|()| String::new()), name)
            }
            ["delete", name, rest @ ..] => {
                let removed = self.table.delete_exchange(name, rest == ["if-unused"]);
                answer(removed.map(|removed| self.removed(&removed)), name)
            }
            ["queue", name] => {
                let queue = self.queue(name);
                let is_added = self.table.add_queue(name, queue);
                if is_added { "" } else { "refused" }.to_owned()
            }
            ["remove-queue", name] => {
                let queue = self.queue(name);
                let removed = self.table.remove_queue(queue);
                self.removed(&removed)
            }
            ["bind", source, arrow, to, key, arguments @ ..] => {
                let to = self.destination(arrow, to);
                let bound = self.table.bind(source, to, key, &field_table(arguments));
                let text = |is_new| if is_new { "" } else { "bound already" }.to_owned();
                answer(bound.map(text), source)
            }
            ["unbind", source, arrow, to, key, arguments @ ..] => {
                let to = self.destination(arrow, to);
                let removed = self.table.unbind(source, to, key, &field_table(arguments));
                self.removed(&removed)
            }
            ["spread", exchange, count] => self.spread(exchange, count.parse().unwrap()),
            ["route", exchange, keys, headers @ ..] => self.route(exchange, keys, headers),
            _ => self.list(&words),
        }
    }

    fn declare(&mut self, name: &str, words: &[&str]) -> String {
        let Some(kind) = ExchangeKind::parse(words[0]) else {
            return format!("unknown exchange type '{}'", words[0]);
        };
        let mut options = ExchangeOptions::new(kind);
        let mut arguments = FieldTable::default();
        for word in &words[1..] {
            match *word {
                "durable" => options.durable = true,
                "auto-delete" => options.auto_delete = true,
                "internal" => options.internal = true,
                other => {
                    let (name, text) = other.split_once('=').unwrap();
                    let name = if name == "alternate" { ALTERNATE_EXCHANGE } else { name };
                    arguments.insert(name.into(), value(text));
                }
            }
        }
        let declared = options
            .with_arguments(arguments)
            .and_then(|options| self.table.declare_exchange(name, options));
        let text = |declared| match declared {
            Declared::Created => String::new(),
            Declared::Existed => "existed".to_owned(),
        };
        answer(declared.map(text), name)
    }

    fn route(&self, exchange: &str, keys: &str, headers: &[&str]) -> String {
        let keys: Vec<_> = keys.split(',').collect();
        let mut buffer = RouteBuffer::new();
        let headers = (!headers.is_empty()).then(|| field_table(headers));
        let routed = self.table.route_by_keys(exchange, &keys, &headers, &mut buffer);
        let names = buffer.queues().iter().map(|queue| self.queue_name(*queue)).collect();
        answer(routed.map(|()| joined(names, " ", "no queue")), exchange)
    }

    fn spread(&self, exchange: &str, count: u32) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut buffer = RouteBuffer::new();
        for number in 0..count {
            buffer.clear();
            let key = format!("key {number}");
            self.table
                .route_by_keys(exchange, &[&key], &NoHeaders, &mut buffer)
                .unwrap();
            for queue in buffer.queues() {
                *counts.entry(self.queue_name(*queue)).or_default() += 1;
            }
        }
        let lines = counts.iter().map(|(queue, count)| format!("{queue} {count}"));
        joined(lines.collect(), "\n", "no queue")
    }

    fn list(&mut self, words: &[&str]) -> String {
        let lines: Vec<_> = match words {
            ["queues"] => self.table.queues().map(|(name, _)| name.to_owned()).collect(),
            ["exchanges"] => self
                .table
                .exchanges()
                .map(|x| {
                    let alternate = x.alternate_exchange.map(|name| format!(" alternate={name}"));
                    let counts = format!("from={} to={}", x.bindings_from, x.bindings_to);
                    format!("'{}' {} {counts}{}", x.name, x.kind(), alternate.unwrap_or_default())
                })
                .collect(),
            ["bindings"] => self.table.bindings().map(|b| self.binding(&b)).collect(),
            ["bindings-from", name] => self.table.bindings_from(name).map(|b| self.binding(&b)).collect(),
            ["bindings-to", name] => {
                let to = Destination::Exchange(*name);
                self.table.bindings_to(to).map(|b| self.binding(&b)).collect()
            }
            ["bindings-to-queue", name] => {
                let to = Destination::Queue(self.queue(name));
                self.table.bindings_to(to).map(|b| self.binding(&b)).collect()
            }
            _ => panic!("not a command: {words:?}"),
        };
        joined(lines, "\n", "none")
    }

    /// Queues get their ids as scripts mention them.
    fn queue(&mut self, name: &str) -> u32 {
        let next = self.queues.len() as u32;
        *self.queues.entry(name.to_owned()).or_insert(next)
    }

    fn queue_name(&self, queue: u32) -> String {
        self.queues.iter().find(|(_, id)| **id == queue).unwrap().0.clone()
    }

    fn destination<'a>(&mut self, arrow: &str, name: &'a str) -> Destination<u32, &'a str> {
        match arrow {
            "->" => Destination::Queue(self.queue(name)),
            "=>" => Destination::Exchange(name),
            _ => panic!("not an arrow: {arrow}"),
        }
    }

    fn binding(&self, binding: &Binding<u32>) -> String {
        let to = match &binding.destination {
            Destination::Queue(queue) => format!("-> {}", self.queue_name(*queue)),
            Destination::Exchange(name) => format!("=> {name}"),
        };
        let arguments: String = binding
            .arguments
            .into_iter()
            .map(|(name, value)| format!(" {name}={}", value_text(value)))
            .collect();
        format!("{} {to} '{}'{arguments}", binding.source, binding.routing_key)
    }

    fn removed(&self, removed: &Removed<u32>) -> String {
        let exchanges = removed.exchanges.iter().map(|x| format!("removed exchange {}", x.name));
        let bindings = removed.bindings.iter().map(|b| format!("removed {}", self.binding(b)));
        joined(exchanges.chain(bindings).collect(), "\n", "nothing removed")
    }
}

fn answer(result: Result<String, RoutingError>, exchange: &str) -> String {
    result.unwrap_or_else(|error| format!("error: {}", error.explanation(exchange, "/")))
}

fn joined(mut parts: Vec<String>, separator: &str, none: &str) -> String {
    parts.sort();
    if parts.is_empty() {
        none.to_owned()
    } else {
        parts.join(separator)
    }
}

fn field_table(words: &[&str]) -> FieldTable {
    let mut table = FieldTable::default();
    for word in words {
        let (name, text) = word.split_once('=').unwrap();
        table.insert(name.into(), value(text));
    }
    table
}

fn value(text: &str) -> AMQPValue {
    let number = |suffix| text.strip_suffix(suffix).and_then(|digits| digits.parse::<i64>().ok());
    if let Ok(number) = text.parse::<i32>() {
        AMQPValue::LongInt(number)
    } else if let Some(number) = number('l') {
        AMQPValue::LongLongInt(number)
    } else if let Some(number) = number('s') {
        AMQPValue::ShortInt(number.try_into().unwrap())
    } else if let Some(number) = number('t') {
        AMQPValue::Timestamp(number.try_into().unwrap())
    } else if let Ok(number) = text.parse::<f64>() {
        AMQPValue::Double(number)
    } else if let Ok(flag) = text.parse::<bool>() {
        AMQPValue::Boolean(flag)
    } else if text == "void" {
        AMQPValue::Void
    } else {
        AMQPValue::LongString(text.into())
    }
}
