//! One line of a script, cut into words.

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

/// The words after a command: what stands alone, flags among them, and `name=value`.
pub struct Words {
    words: Vec<String>,
}

impl Words {
    /// Cuts at spaces; quotes keep spaces together, and `""` is an empty word.
    pub fn of(line: &str) -> Words {
        let mut words = Vec::new();
        let (mut word, mut quoted, mut started) = (String::new(), false, false);
        for c in line.chars() {
            match c {
                '"' => (quoted, started) = (!quoted, true),
                ' ' if !quoted => {
                    if std::mem::take(&mut started) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => {
                    word.push(c);
                    started = true;
                }
            }
        }
        if started {
            words.push(word);
        }
        Words { words }
    }

    /// The first word.
    pub fn take_first(&mut self) -> String {
        self.words.remove(0)
    }

    /// Replaces words; what the script calls by a name of its own.
    pub fn replace(&mut self, with: impl Fn(&str) -> String) {
        self.words = self.words.iter().map(|word| with(word)).collect();
    }

    /// The word in this place.
    pub fn at(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub fn short(&self, index: usize) -> ShortString {
        short(self.at(index))
    }

    pub fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, index: usize) -> T {
        self.at(index)
            .parse()
            .unwrap_or_else(|error| panic!("'{}' is no number: {error:?}", self.at(index)))
    }

    pub fn has(&self, flag: &str) -> bool {
        self.words.iter().any(|word| word == flag)
    }

    /// The text of `name=text`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// Every `name=text`.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.words.iter().filter_map(|word| word.split_once('='))
    }

    pub fn value_or<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str, default: T) -> T {
        self.value(name).map_or(default, |text| text.parse().unwrap())
    }

    /// All of `x-name=value`, `hash-name=value` and `alternate-exchange=value` as a table. `int:5`, `long:5`,
    /// `short:5`, `uint:5`, `octet:5`, `double:5`, `bool:true` and `text:5` choose a type,
    /// `nested:5` is a table of five levels; without any, digits are an int and all else is text.
    pub fn arguments(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for word in &self.words {
            if let Some((name, value)) = word.split_once('=')
                && (name == "alternate-exchange" || ["x-", "h-", "hash-"].iter().any(|start| name.starts_with(start)))
            {
                table.insert(short(name), typed(value));
            }
        }
        table
    }
}

pub fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap()
}

fn typed(text: &str) -> AMQPValue {
    match text.split_once(':') {
        Some(("int", number)) => AMQPValue::LongInt(number.parse().unwrap()),
        Some(("long", number)) => AMQPValue::LongLongInt(number.parse().unwrap()),
        Some(("octet", number)) => AMQPValue::ShortShortUInt(number.parse().unwrap()),
        Some(("short", number)) => AMQPValue::ShortInt(number.parse().unwrap()),
        Some(("uint", number)) => AMQPValue::LongUInt(number.parse().unwrap()),
        Some(("double", number)) => AMQPValue::Double(number.parse().unwrap()),
        Some(("bool", value)) => AMQPValue::Boolean(value.parse().unwrap()),
        Some(("nested", levels)) => nested(levels.parse().unwrap()),
        Some(("text", text)) => AMQPValue::LongString(text.into()),
        _ => text
            .parse()
            .map_or_else(|_| AMQPValue::LongString(text.into()), AMQPValue::LongInt),
    }
}

/// A table `levels` deep.
fn nested(levels: usize) -> AMQPValue {
    let mut table = FieldTable::default();
    for _ in 1..levels {
        let mut outer = FieldTable::default();
        outer.insert(short("t"), AMQPValue::FieldTable(table));
        table = outer;
    }
    AMQPValue::FieldTable(table)
}

/// Octets written as hexadecimal digits, spaces allowed between them.
pub fn hex(words: &[&str]) -> Vec<u8> {
    let digits: String = words.concat();
    assert!(digits.len().is_multiple_of(2), "an octet has two digits");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
