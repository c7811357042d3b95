//! Features that sequences use only when they are switched on, because Leveret does not have all of them yet.

use crate::values::any;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{AMQPValue, BasicProperties, FieldTable};

/// What is switched on, by the names in [`Switches::NAMES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    names: Vec<String>,
}

impl Switches {
    /// What Leveret has, which is on unless it is told otherwise.
    pub const USUAL: &str = "dead-letters,single-active";
    pub const NAMES: [&str; 5] = ["ttl", "dead-letters", "limits", "priorities", "single-active"];

    /// The names in `list`, with commas between them; `all` is all of them.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => names.extend(Self::NAMES.map(str::to_owned)),
                known if Self::NAMES.contains(&known) => names.push(known.to_owned()),
                unknown => {
                    let known = Self::NAMES.join(", ");
                    return Err(format!("there is no feature `{unknown}`; there are: {known}, all"));
                }
            }
        }
        Ok(Self { names })
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.names.iter().any(|on| on == name)
    }

    /// Arguments that give a queue one of the features that are on.
    pub fn queue_arguments(&self, random: &mut Random) -> Vec<(&'static str, AMQPValue)> {
        let mut arguments = Vec::new();
        // Either nothing has expired at the end of a step or everything: what lies between depends on the machine.
        if self.is_on("ttl") && random.chance(20) {
            arguments.push(("x-message-ttl", AMQPValue::LongInt(0)));
        }
        if self.is_on("limits") && random.chance(40) {
            let limit = i32::try_from(random.below(4)).unwrap_or(0);
            arguments.push(match random.below(3) {
                0 => ("x-max-length-bytes", AMQPValue::LongInt(limit * 3)),
                _ => ("x-max-length", AMQPValue::LongInt(limit)),
            });
            if random.chance(50) {
                let overflow = any(random, &["drop-head", "reject-publish", "reject-publish-dlx"]);
                arguments.push(("x-overflow", AMQPValue::LongString(overflow.into())));
            }
        }
        if self.is_on("dead-letters") && random.chance(50) {
            let exchange = any(random, &["", "xf", "xd", "xt", "amq.topic"]);
            arguments.push(("x-dead-letter-exchange", AMQPValue::LongString(exchange.into())));
            if random.chance(50) {
                let key = any(random, &["q0", "q1", "q2", "a.b"]);
                arguments.push(("x-dead-letter-routing-key", AMQPValue::LongString(key.into())));
            }
        }
        if self.is_on("priorities") && random.chance(40) {
            let levels = any(random, &[1, 3, 10, 255]);
            arguments.push(("x-max-priority", AMQPValue::LongInt(levels)));
        }
        if self.is_on("single-active") && random.chance(25) {
            arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
        }
        arguments
    }

    /// [`Switches::queue_arguments`] as a table.
    pub fn queue_arguments_table(&self, random: &mut Random) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in self.queue_arguments(random) {
            table.insert(name.into(), value);
        }
        table
    }

    /// `properties` with what the features that are on have to do with.
    pub fn properties(&self, random: &mut Random, mut properties: BasicProperties) -> BasicProperties {
        if self.is_on("priorities") && random.chance(60) {
            properties = properties.with_priority(any(random, &[0, 1, 2, 3, 9, 200]));
        }
        if self.is_on("ttl") && random.chance(20) {
            properties = properties.with_expiration("0".into());
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_switched_on_by_name() {
        let switches = Switches::parse("ttl, limits").unwrap();
        assert!(switches.is_on("ttl") && switches.is_on("limits") && !switches.is_on("priorities"));
        assert!(
            Switches::NAMES
                .iter()
                .all(|name| Switches::parse("all").unwrap().is_on(name))
        );
    }

    #[test]
    fn a_feature_that_is_not_there_is_named_with_those_that_are() {
        let error = Switches::parse("ttl,streams").unwrap_err();
        assert!(error.contains("`streams`") && error.contains("dead-letters"), "{error}");
    }
}
