//! The language of the session scripts; `tests/session_scripts.rs` describes it.

mod settings;
mod show;

use std::fmt::Write as _;
use std::time::Duration;

use leveret::auth::{HashedPassword, TopicPermissionRecord};
use leveret::vhost::redeclare::RedeclareRule;
use leveret_storage::Crash;

use crate::virtual_broker::client::{PROTOCOL_HEADER, octets};
use crate::virtual_broker::words::Words;
use crate::virtual_broker::{Wire, World};

const DASHES: &str = "----";
/// What the broker makes up, by the beginning that tells what it is; scripts call it by number.
const RANDOM_NAMES: [(&str, &str); 3] = [
    ("amq.gen-", "$queue"),
    ("amq.ctag-", "$tag"),
    ("amq.rabbitmq.reply-to.", "$reply"),
];

/// The script with the lines that its clients really read.
pub fn replay(script: &str) -> String {
    let mut runner = Runner::default();
    let mut output = String::new();
    let mut in_answers = false;
    for line in script.lines() {
        if line == DASHES {
            in_answers = true;
            let answers = runner.take_answers();
            writeln!(output, "{DASHES}\n{answers}").unwrap();
        } else if line.is_empty() {
            in_answers = false;
        } else if !in_answers {
            writeln!(output, "{line}").unwrap();
            if !line.starts_with('#') {
                runner.run(line);
            }
        }
    }
    assert!(
        runner.take_answers().is_empty(),
        "commands without a line of dashes at the end"
    );
    output.truncate(output.trim_end().len());
    output + "\n"
}

#[derive(Default)]
struct Runner {
    world: Option<World>,
    wires: Vec<Wire>,
    names: Vec<String>,
    closes_told: Vec<bool>,
    /// What the broker made up, in the order of its first appearance.
    random: Vec<(&'static str, String)>,
    said: String,
}

impl Runner {
    fn run(&mut self, line: &str) {
        let (line, together) = match line.strip_prefix("& ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let mut words = Words::of(line);
        let command = words.take_first();
        words.replace(|word| self.real_name(word));
        if command == "broker" {
            assert!(self.world.is_none(), "the broker is there already");
            self.world = Some(world(&words));
            return;
        }
        self.world.get_or_insert_with(|| world(&Words::of("")));
        match address(&command) {
            Some((name, channel)) => self.say_as_client(name, channel, words),
            None => self.run_outside(&command, &words),
        }
        if !together {
            self.settle();
        }
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().unwrap()
    }

    fn settle(&mut self) {
        self.world.as_ref().unwrap().settle(&mut self.wires);
    }

    /// A client's own words.
    fn say_as_client(&mut self, name: &str, channel: u16, mut words: Words) {
        let index = self
            .names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| self.connect(name, &Words::of("")));
        let command = words.take_first();
        let octets = if command == "protocol-header" {
            PROTOCOL_HEADER.to_vec()
        } else {
            octets(channel, &command, &words)
        };
        self.wires[index].send(&octets);
    }

    /// What happens around the clients.
    fn run_outside(&mut self, command: &str, words: &Words) {
        match command {
            "accept" => drop(self.accept(words.at(0))),
            "connect" => drop(self.connect(words.value("name").unwrap_or_default(), words)),
            "cut" => self.cut(words.value("name").unwrap_or_default()),
            "stop-reading" => self.wire(words).readable_bytes = Some(0),
            "read" => self.wire(words).readable_bytes = None,
            "hold-loads" => self.world().loads_are_held = true,
            "load" => self.world().loads_are_held = false,
            "commit" => self.world().commit(words.has("lazily")),
            "fail-syncs" => self.world().disk.fail_syncs_after(Some(0)),
            "crash" => self.crash(words.has("power")),
            "advance" => self.advance(seconds(words.at(0))),
            "alarm" => {
                let broker = &self.world().broker;
                broker.alarms.set(words.has("memory"), words.has("disk"));
                broker.announce_alarm();
            }
            "close-connections" => {
                self.world().broker.close_connections(words.at(0), |_| true);
            }
            "add-vhost" => drop(self.world().broker.add_vhost(words.at(0)).unwrap()),
            "delete-vhost" => drop(self.world().broker.delete_vhost(words.at(0)).unwrap()),
            "user" => self.put_user(words),
            "topic-permission" => self.restrict_topics(words),
            "delete-user" => self.delete_user(words.at(0)),
            "status" => self.tell_status(),
            "deliver-due" => {
                let later = leveret::timer::unix_millis() + seconds(words.at(0)).as_millis() as u64;
                self.world().broker.vhost("/").unwrap().deliver_due(later);
            }
            "policy" | "clear-policy" | "vhost-limits" | "user-limits" | "in-force" | "alter" | "redeclare-rule" => {
                let broker = self.world().broker.clone();
                self.said += &settings::run(&broker, command, words);
            }
            unknown => panic!("unknown command {unknown}"),
        }
    }

    fn accept(&mut self, name: &str) -> usize {
        let world = self.world.as_ref().unwrap();
        self.wires.push(Wire::accept(&world.broker, world.now));
        self.names.push(name.to_owned());
        self.closes_told.push(false);
        self.names.len() - 1
    }

    /// The whole handshake and channel 1, of which nothing is shown.
    fn connect(&mut self, name: &str, words: &Words) -> usize {
        let index = self.accept(name);
        let vhost = words.value("vhost").unwrap_or("/");
        let steps = [
            octets(0, "connection.start-ok", words),
            octets(0, "connection.tune-ok", words),
            octets(0, "connection.open", &Words::of(vhost)),
            octets(1, "channel.open", words),
        ];
        self.wires[index].send(PROTOCOL_HEADER);
        for step in steps {
            self.wires[index].send(&step);
            self.settle();
        }
        let answers = show::lines(&std::mem::take(&mut self.wires[index].received));
        assert_eq!(
            answers.last().map(String::as_str),
            Some("1 channel.open-ok"),
            "{name} cannot connect: {answers:?}"
        );
        index
    }

    fn index(&self, name: &str) -> usize {
        self.names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| panic!("no connection '{name}'"))
    }

    fn wire(&mut self, words: &Words) -> &mut Wire {
        let index = self.index(words.value("name").unwrap_or_default());
        &mut self.wires[index]
    }

    fn cut(&mut self, name: &str) {
        let index = self.index(name);
        let broker = &self.world.as_ref().unwrap().broker;
        self.wires[index].close(broker);
        self.closes_told[index] = true;
    }

    fn crash(&mut self, power: bool) {
        self.wires.clear();
        self.names.clear();
        self.closes_told.clear();
        self.world().crash(if power { Crash::PowerCut } else { Crash::Killed });
    }

    fn advance(&mut self, duration: Duration) {
        self.world.as_mut().unwrap().advance(duration, &mut self.wires);
    }

    /// `user NAME PASSWORD CONFIGURE WRITE READ`
    fn put_user(&mut self, words: &Words) {
        let broker = self.world().broker.clone();
        let mut edit = broker.users.edit();
        let password = HashedPassword::new(words.at(1).as_bytes(), *b"salt").unwrap();
        if edit.contains_user(words.at(0)) {
            edit.change_password(words.at(0), password).unwrap();
        } else {
            edit.add_user(words.at(0), password, Vec::new()).unwrap();
        }
        let tags = words.value("tags").unwrap_or_default().split(',');
        let tags = tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        edit.set_tags(words.at(0), tags).unwrap();
        edit.set_permissions(words.at(0), "/", words.at(2), words.at(3), words.at(4))
            .unwrap();
        broker.commit_users(edit).unwrap();
    }

    /// `topic-permission USER EXCHANGE WRITE READ`
    fn restrict_topics(&mut self, words: &Words) {
        let broker = self.world().broker.clone();
        let mut edit = broker.users.edit();
        let [user, exchange, write, read] = [0, 1, 2, 3].map(|index| words.at(index).to_owned());
        let vhost = "/".to_owned();
        edit.set_topic_permissions(TopicPermissionRecord {
            user,
            vhost,
            exchange,
            write,
            read,
        })
        .unwrap();
        broker.commit_users(edit).unwrap();
    }

    fn delete_user(&mut self, name: &str) {
        let broker = self.world().broker.clone();
        let mut edit = broker.users.edit();
        edit.delete_user(name).unwrap();
        broker.commit_users(edit).unwrap();
    }

    fn tell_status(&mut self) {
        for (name, wire) in self.names.iter().zip(&self.wires) {
            let status = match (wire.is_closed(), wire.accepts_input()) {
                (true, _) => "is closed",
                (false, true) => "is read",
                (false, false) => "is not read",
            };
            writeln!(self.said, "{}{status}", prefix(name, ' ')).unwrap();
        }
    }

    /// What all clients have read since the last time, and whose socket was closed.
    fn take_answers(&mut self) -> String {
        for index in 0..self.wires.len() {
            let lines = show::lines(&std::mem::take(&mut self.wires[index].received));
            for line in lines {
                let line = self.scripted_names(&line);
                writeln!(self.said, "{}{line}", prefix(&self.names[index], '.')).unwrap();
            }
            if self.wires[index].is_closed() && !std::mem::replace(&mut self.closes_told[index], true) {
                writeln!(self.said, "{}socket closed", prefix(&self.names[index], ' ')).unwrap();
            }
        }
        std::mem::take(&mut self.said)
    }

    /// The broker's name for what a script calls `$queue1`.
    fn real_name(&self, word: &str) -> String {
        let mut word = word.to_owned();
        for (number, (kind, name)) in self.numbered() {
            word = word.replace(&format!("{kind}{number}"), name);
        }
        assert!(
            !word.starts_with('$'),
            "{word} has not been shown yet: a line of dashes must come first"
        );
        word
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, (&'static str, &str))> {
        self.random.iter().enumerate().map(|(index, (kind, name))| {
            let number = self.random[..=index].iter().filter(|(other, _)| other == kind).count();
            (number, (*kind, name.as_str()))
        })
    }

    /// The line with random names replaced by numbers.
    fn scripted_names(&mut self, line: &str) -> String {
        for (beginning, kind) in RANDOM_NAMES {
            let Some(start) = line.find(beginning) else { continue };
            let rest = &line[start..];
            let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            if name.len() == beginning.len() + 22 && !self.random.iter().any(|(_, known)| known == name) {
                self.random.push((kind, name.to_owned()));
            }
        }
        let mut line = line.to_owned();
        for (number, (kind, name)) in self.numbered() {
            line = line.replace(name, &format!("{kind}{number}"));
        }
        line
    }
}

/// `b.1` is channel 1 of the connection `b`, `1` that of the connection without a name.
fn address(command: &str) -> Option<(&str, u16)> {
    let (name, channel) = command.split_once('.').unwrap_or(("", command));
    Some((name, channel.parse().ok()?))
}

fn prefix(name: &str, separator: char) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!("{name}{separator}")
    }
}

fn seconds(text: &str) -> Duration {
    let seconds: f64 = text.strip_suffix('s').unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds)
}

fn world(words: &Words) -> World {
    let mut config = World::config();
    config.max_message_size = words.value_or("max_message_size", config.max_message_size);
    config.channel_max = words.value_or("channel_max", config.channel_max);
    config.heartbeat = words.value_or("heartbeat", config.heartbeat);
    config.consumer_max_per_channel = words.value("consumer_max").map(|text| text.parse().unwrap());
    config.connection_max = words.value("connection_max").map(|text| text.parse().unwrap());
    config.queue_memory_budget = words.value_or("queue_memory_budget", config.queue_memory_budget);
    let rule = words
        .value("redeclare_rule")
        .map(|name| RedeclareRule::parse(name).unwrap());
    config.redeclare_rule = rule.unwrap_or(config.redeclare_rule);
    let mut options = World::options();
    options.pending_bytes_max = words.value_or("pending_bytes_max", options.pending_bytes_max);
    World::new(config, options)
}
