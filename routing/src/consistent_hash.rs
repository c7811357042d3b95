//! Consistent-hash exchange: of all bindings one takes the message, always the same one for the same hash.
//!
//! Rendezvous hashing: each binding draws a number from the message's hash and its destination's name, and the
//! highest number wins. With weights, a number `u` between 0 and 1 counts as `u^(1/weight)`, so that a binding of
//! weight 2 wins twice as often as one of weight 1. Nothing depends on the order in which bindings came or on what was
//! removed before: a binding that goes hands its own messages to the others and moves no other message, and a restart
//! moves none at all. The price is one step per binding.

use std::{collections::BTreeMap, hash::Hash};

use crate::{
    buffer::{Found, MessageHeaders},
    entry::Entry,
    error::{RoutingError, WeightError},
    hash_on::HashOn,
    stable_hash::mixed,
};

/// The largest weight of a binding, as in RabbitMQ.
pub const WEIGHT_MAX: u32 = 10_000;

/// The bindings of one consistent-hash exchange.
#[derive(Debug)]
pub(crate) struct ConsistentHashMatcher<Q> {
    hash_on: HashOn,
    choices: Vec<Choice<Q>>,
    /// How many bindings have each weight: while all have the same, no logarithm is needed.
    weights: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct Choice<Q> {
    entry: Entry<Q>,
    /// Hash of the destination's name.
    seed: u64,
    weight: u32,
}

impl<Q: Copy + Eq + Hash> ConsistentHashMatcher<Q> {
    pub(crate) fn new(hash_on: HashOn) -> Self {
        Self {
            hash_on,
            choices: Vec::new(),
            weights: BTreeMap::new(),
        }
    }

    /// The binding key is the weight.
    pub(crate) fn insert(&mut self, routing_key: &str, seed: u64, entry: Entry<Q>) -> Result<u32, RoutingError> {
        let weight = parse_weight(routing_key)?;
        self.choices.push(Choice { entry, seed, weight });
        *self.weights.entry(weight).or_default() += 1;
        Ok(self.choices.len() as u32 - 1)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<u32> {
        let slot = slot as usize;
        if slot < self.choices.len() {
            let removed = self.choices.swap_remove(slot);
            if let Some(count) = self.weights.get_mut(&removed.weight) {
                *count -= 1;
                if *count == 0 {
                    self.weights.remove(&removed.weight);
                }
            }
        }
        self.choices.get(slot).map(|moved| moved.entry.binding)
    }

    #[inline]
    pub(crate) fn matches(&self, routing_keys: &[&str], message: &dyn MessageHeaders, found: &mut Found<Q>) {
        found.varies |= self.hash_on != HashOn::RoutingKey;
        let hash = self.hash_on.hash(routing_keys, message);
        if let Some(choice) = self.choose(hash) {
            found.reach(std::slice::from_ref(&choice.entry));
        }
    }

    fn choose(&self, hash: u64) -> Option<&Choice<Q>> {
        let draw = |choice: &Choice<Q>| mixed(hash ^ choice.seed);
        if self.weights.len() == 1 {
            return self.choices.iter().max_by_key(|choice| draw(choice));
        }
        let score = |choice: &Choice<Q>| logarithm_of_fraction(draw(choice)) / f64::from(choice.weight);
        let scored = self.choices.iter().map(|choice| (score(choice), choice));
        let (_, chosen) = scored.max_by(|(left, _), (right, _)| left.total_cmp(right))?;
        Some(chosen)
    }
}

/// The logarithm of the bits taken as a fraction above 0 and not above 1.
fn logarithm_of_fraction(bits: u64) -> f64 {
    const FRACTION_BITS: u32 = 53;
    let numerator = (bits >> (u64::BITS - FRACTION_BITS)) + 1;
    (numerator as f64 / (1_u64 << FRACTION_BITS) as f64).ln()
}

fn parse_weight(routing_key: &str) -> Result<u32, RoutingError> {
    let digits = routing_key.strip_prefix(['+', '-']).unwrap_or(routing_key);
    let refused = |reason| RoutingError::Weight {
        key: routing_key.to_owned(),
        reason,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(WeightError::NotAnInteger));
    }
    if routing_key.starts_with('-') || digits.bytes().all(|byte| byte == b'0') {
        return Err(refused(WeightError::NotPositive));
    }
    match digits.parse() {
        Ok(weight) if weight <= WEIGHT_MAX => Ok(weight),
        _ => Err(refused(WeightError::TooLarge)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_integers_from_1_to_10000() {
        assert_eq!(parse_weight("1"), Ok(1));
        assert_eq!(parse_weight("+0010000"), Ok(10_000));
        for (key, reason) in [
            ("", WeightError::NotAnInteger),
            ("abc", WeightError::NotAnInteger),
            ("1.0", WeightError::NotAnInteger),
            ("-", WeightError::NotAnInteger),
            ("0", WeightError::NotPositive),
            ("-3", WeightError::NotPositive),
            ("10001", WeightError::TooLarge),
            ("99999999999999999999", WeightError::TooLarge),
        ] {
            let key = key.to_owned();
            assert_eq!(parse_weight(&key), Err(RoutingError::Weight { key, reason }));
        }
    }
}
