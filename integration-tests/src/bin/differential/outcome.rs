//! What a step led to, in a form that can be compared.
//!
//! What reaches different channels has no order, and neither has what different queues send to one channel at once. So an
//! event belongs to a stream (the replies, the returns, the deliveries to one consumer), and only inside a stream the order
//! counts.

use std::fmt::Write;

/// Which events keep their order among each other. The order of the variants is that in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    Replies,
    Returns,
    /// By consumer tag.
    Deliveries(String),
    /// Sorted, because a broker may confirm in any order.
    Confirms,
    /// Sorted: a queue tells its consumers in no order.
    Cancels,
    Close,
    /// What no client should ever see.
    Strange,
}

/// Something that a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Connection and channel, such as `c0.1`.
    pub place: String,
    pub stream: Stream,
    pub text: String,
}

/// All that a step led to, everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub lines: Vec<String>,
}

impl Outcome {
    /// Puts `events` into an order that does not depend on chance, and what the queues hold after them.
    pub fn of(mut events: Vec<Event>, queues: Vec<String>) -> Self {
        events.sort_by(|one, other| {
            let by_stream = (&one.place, &one.stream).cmp(&(&other.place, &other.stream));
            let sorted = matches!(one.stream, Stream::Confirms | Stream::Cancels);
            by_stream.then_with(|| {
                if sorted {
                    one.text.cmp(&other.text)
                } else {
                    std::cmp::Ordering::Equal
                }
            })
        });
        let mut lines: Vec<String> = events
            .into_iter()
            .map(|event| format!("{} {}", event.place, event.text))
            .collect();
        lines.extend(queues);
        Self { lines }
    }
}

/// What one broker said and the other did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub rabbitmq: Vec<String>,
    pub leveret: Vec<String>,
}

/// Lines that are only on one side, in their order; none if the outcomes are equal.
pub fn compare(rabbitmq: &Outcome, leveret: &Outcome) -> Option<Difference> {
    if rabbitmq == leveret {
        return None;
    }
    let only = |these: &Outcome, those: &Outcome| {
        let mut others = those.lines.clone();
        let mut left = Vec::new();
        for line in &these.lines {
            match others.iter().position(|other| other == line) {
                Some(at) => drop(others.swap_remove(at)),
                None => left.push(line.clone()),
            }
        }
        left
    };
    let mut difference = Difference {
        rabbitmq: only(rabbitmq, leveret),
        leveret: only(leveret, rabbitmq),
    };
    if difference.rabbitmq.is_empty() && difference.leveret.is_empty() {
        // The same lines in another order.
        difference = Difference {
            rabbitmq: rabbitmq.lines.clone(),
            leveret: leveret.lines.clone(),
        };
    }
    Some(difference)
}

/// Characters in each column of [`side_by_side`].
const COLUMN: usize = 84;

/// Two transcripts beside each other: each step, then what RabbitMQ said on the left and Leveret on the right.
pub fn side_by_side(steps: &[String], rabbitmq: &[Outcome], leveret: &[Outcome]) -> String {
    let nothing = Outcome::default();
    let mut text = format!("{:COLUMN$}   | Leveret\n", "RabbitMQ");
    for (number, step) in steps.iter().enumerate() {
        let left = rabbitmq.get(number).unwrap_or(&nothing);
        let right = leveret.get(number).unwrap_or(&nothing);
        let _ = writeln!(text, "{number:3} {step}");
        for row in 0..left.lines.len().max(right.lines.len()) {
            let left = left.lines.get(row).map_or("", String::as_str);
            let right = right.lines.get(row).map_or("", String::as_str);
            rows(&mut text, left, right);
        }
    }
    text
}

/// One pair of lines, broken where they are longer than the column.
fn rows(text: &mut String, left: &str, right: &str) {
    let mark = if left == right { ' ' } else { '*' };
    let (left, right) = (pieces(left), pieces(right));
    for row in 0..left.len().max(right.len()) {
        let left = left.get(row).map_or("", String::as_str);
        let right = right.get(row).map_or("", String::as_str);
        let line = format!("    {left:COLUMN$} {mark} | {right}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn pieces(line: &str) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    characters
        .chunks(COLUMN - 4)
        .map(|piece| piece.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(place: &str, stream: Stream, text: &str) -> Event {
        Event {
            place: place.into(),
            stream,
            text: text.into(),
        }
    }

    #[test]
    fn what_two_consumers_get_at_once_may_come_in_any_order() {
        let to = |tag: &str, text: &str| event("c0.1", Stream::Deliveries(tag.into()), text);
        let one = Outcome::of(vec![to("a", "m1"), to("b", "m1"), to("a", "m2")], vec![]);
        let other = Outcome::of(vec![to("b", "m1"), to("a", "m1"), to("a", "m2")], vec![]);
        assert_eq!(compare(&one, &other), None);
    }

    #[test]
    fn what_one_consumer_gets_must_come_in_order() {
        let to = |text: &str| event("c0.1", Stream::Deliveries("a".into()), text);
        let one = Outcome::of(vec![to("m1"), to("m2")], vec![]);
        let other = Outcome::of(vec![to("m2"), to("m1")], vec![]);
        assert!(compare(&one, &other).is_some());
    }

    #[test]
    fn confirms_may_come_in_any_order() {
        let confirm = |text: &str| event("c0.1", Stream::Confirms, text);
        let one = Outcome::of(vec![confirm("ack 2"), confirm("ack 1")], vec![]);
        let other = Outcome::of(vec![confirm("ack 1"), confirm("ack 2")], vec![]);
        assert_eq!(compare(&one, &other), None);
    }

    #[test]
    fn a_difference_is_what_only_one_side_has() {
        let lines = |lines: &[&str]| Outcome {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let difference = compare(&lines(&["same", "left", "twice", "twice"]), &lines(&["same", "twice"])).unwrap();
        assert_eq!(difference.rabbitmq, ["left", "twice"]);
        assert!(difference.leveret.is_empty());
    }

    #[test]
    fn transcripts_stand_beside_each_other_with_differences_marked() {
        let outcome = |line: &str| Outcome {
            lines: vec![line.to_owned()],
        };
        let text = side_by_side(&["basic.get".into()], &[outcome("get-empty")], &[outcome("get-ok")]);
        let line = text.lines().last().unwrap();
        assert!(
            line.starts_with("    get-empty ") && line.ends_with("* | get-ok"),
            "{line}"
        );
    }
}
