//! Names that a broker makes up, told apart by the order in which they came.
//!
//! Two brokers never make the same name. In an outcome `<queue 1>` stands for the first queue that the broker named,
//! wherever its name appears.

use crate::operations::{GENERATED, REPLY};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Queue,
    ConsumerTag,
    ReplyTo,
}

impl Kind {
    /// What its names begin with, at both brokers.
    const ALL: [(Self, &str, &str); 3] = [
        (Self::Queue, "amq.gen-", "queue"),
        (Self::ConsumerTag, "amq.ctag-", "consumer"),
        (Self::ReplyTo, "amq.rabbitmq.reply-to.", "reply-to"),
    ];
}

#[derive(Debug, Default)]
pub struct Names {
    made: Vec<(Kind, String, String)>,
}

impl Names {
    /// Notes `name` if a broker made it.
    pub fn note(&mut self, name: &str) {
        let Some((kind, _, word)) = Kind::ALL.into_iter().find(|(_, prefix, _)| name.starts_with(prefix)) else {
            return;
        };
        if self.made.iter().any(|(_, known, _)| known == name) {
            return;
        }
        let number = self.of_kind(kind).count() + 1;
        self.made.push((kind, name.to_owned(), format!("<{word} {number}>")));
    }

    /// What is meant by a name in a step: itself, or one that this broker made.
    pub fn resolve(&self, name: &str) -> String {
        let placeholders = [(GENERATED, Kind::Queue), (REPLY, Kind::ReplyTo)];
        for (prefix, kind) in placeholders {
            if let Some(age) = name.strip_prefix(prefix).and_then(|age| age.parse().ok()) {
                let names: Vec<&str> = self.of_kind(kind).collect();
                return names.iter().rev().nth(age).map_or("none-yet", |name| name).to_owned();
            }
        }
        name.to_owned()
    }

    /// `text` with what stands for names in their places.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for (_, name, symbol) in &self.made {
            if masked.contains(name.as_str()) {
                masked = masked.replace(name.as_str(), symbol);
            }
        }
        masked
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.made
            .iter()
            .filter(move |(of, _, _)| *of == kind)
            .map(|(_, name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_by_a_broker_are_numbered_as_they_come() {
        let mut names = Names::default();
        for name in ["amq.gen-x", "amq.ctag-y", "amq.gen-z", "amq.gen-x", "q0"] {
            names.note(name);
        }
        assert_eq!(
            names.mask("no queue 'amq.gen-z', nor amq.gen-x, nor q0, for amq.ctag-y"),
            "no queue '<queue 2>', nor <queue 1>, nor q0, for <consumer 1>"
        );
    }

    #[test]
    fn a_step_means_the_latest_name() {
        let mut names = Names::default();
        assert_eq!(names.resolve("gen:0"), "none-yet");
        names.note("amq.gen-old");
        names.note("amq.gen-new");
        assert_eq!(names.resolve("gen:0"), "amq.gen-new");
        assert_eq!(names.resolve("gen:1"), "amq.gen-old");
        assert_eq!(names.resolve("q0"), "q0");
    }
}
