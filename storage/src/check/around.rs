//! Reading a database around what of it cannot be read: a damaged block costs what is in it, and nothing behind it.

use std::ops::ControlFlow;

use crate::engine::{Engine, Space, Visit};
use crate::error::StorageError;

/// What of a database cannot be read: keys from `from` (included) to `until` (excluded), or to the end.
pub(super) struct Gap {
    from: Vec<u8>,
    until: Option<Vec<u8>>,
    /// What the engine says of it.
    pub(super) error: String,
}

impl Gap {
    /// Would a key be in it?
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        *self.from <= *key && self.until.as_deref().is_none_or(|until| key < until)
    }
}

/// Visits all keys of a space that can be read. Returns where there may be others. Errors: those of `visit` only.
pub(super) fn scan_around(engine: &dyn Engine, space: Space, visit: Visit<'_>) -> Result<Vec<Gap>, StorageError> {
    let (mut gaps, mut from) = (Vec::new(), Vec::new());
    loop {
        let (mut reached, mut refused) = (from.clone(), None);
        let scanned = engine.scan(space, &from, &BEHIND_ALL_KEYS, &mut |key, value| {
            let visited = visit(key, value);
            reached.clear();
            reached.extend_from_slice(key);
            reached.push(0);
            Ok(visited.unwrap_or_else(|error| {
                refused = Some(error);
                ControlFlow::Break(())
            }))
        });
        if let Some(error) = refused {
            return Err(error);
        }
        let Err(error) = scanned else { return Ok(gaps) };
        let until = readable_behind(&reached, |key| can_read(engine, space, key));
        gaps.push(Gap {
            from: reached,
            until: until.clone(),
            error: error.to_string(),
        });
        match until {
            Some(key) => from = key,
            None => return Ok(gaps),
        }
    }
}

/// Can a scan begin here?
fn can_read(engine: &dyn Engine, space: Space, key: &[u8]) -> bool {
    let first = engine.scan(space, key, &BEHIND_ALL_KEYS, &mut |_, _| Ok(ControlFlow::Break(())));
    first.is_ok()
}

/// Where reading can go on behind a key where it can't. Of the keys that `is_readable` accepts it finds the first, as far as
/// [`DIGITS_MAX`] octets tell; None if it accepts none.
///
/// A key is taken for a number whose digits are octets: the last digits count up first, so what lies closest is tried first.
fn readable_behind(unreadable: &[u8], is_readable: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let above = |prefix: &[u8], digit: Option<u8>| {
        let mut key = prefix.to_vec();
        let smallest = digit.map_or(0, |digit| u16::from(digit) + 1);
        key.push(0);
        (smallest..=u16::from(u8::MAX)).find_map(|digit| {
            let last = key.len() - 1;
            key[last] = digit as u8;
            is_readable(&key).then_some(digit as u8)
        })
    };
    let (mut prefix, mut digit, mut found) = (unreadable.to_vec(), None, above(unreadable, None));
    while found.is_none() {
        digit = Some(prefix.pop()?);
        found = above(&prefix, digit);
    }
    // What begins with the digit before the one that was found was never looked at, unless it is where the search came from.
    while let Some(next) = found {
        let mut key = prefix.clone();
        key.push(next);
        let before = next.checked_sub(1).filter(|before| Some(*before) != digit);
        let Some(before) = before.filter(|_| key.len() < DIGITS_MAX) else {
            return Some(key);
        };
        prefix.push(before);
        digit = None;
        found = above(&prefix, None);
        if found.is_none() {
            return Some(key);
        }
    }
    None
}

/// No key is as long, and none begins like this: lengths of names are bounded, and the first octet is a tag or a queue's id.
const BEHIND_ALL_KEYS: [u8; 32] = [0xff; 32];
/// So many octets tell one key from the next closely enough: names are shorter as a rule.
const DIGITS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows a hole, for one that reaches from `from` to just before `until`.
    fn behind(from: &str, until: &str) -> Option<String> {
        let found = readable_behind(from.as_bytes(), |key| key >= until.as_bytes());
        found.map(|key| String::from_utf8_lossy(&key).into_owned())
    }

    #[test]
    fn reading_goes_on_at_the_very_key_behind_what_cannot_be_read() {
        for (from, until) in [
            ("orders-1", "orders-2"),
            ("orders-1", "orders-58"),
            ("orders-199", "payments"),
            ("a", "b"),
            ("a", "abcdef"),
            ("abcdef", "b"),
        ] {
            assert_eq!(behind(from, until).as_deref(), Some(until));
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_can_be_read() {
        assert_eq!(readable_behind(b"orders-1", |_| false), None);
        assert_eq!(readable_behind(b"", |_| false), None);
    }

    #[test]
    fn of_two_holes_only_the_first_is_passed() {
        let is_hole = |key: &[u8]| (key < &b"orders-3"[..]) || (key >= &b"orders-5"[..] && key < &b"orders-7"[..]);
        let found = readable_behind(b"orders-1", |key| !is_hole(key));
        assert_eq!(found.as_deref(), Some(&b"orders-3"[..]));
    }
}
