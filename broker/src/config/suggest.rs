//! The nearest known name to a misspelt one.

/// Longer names are nobody's misspelling of a key, and comparing letter by letter would take its time.
const SUGGESTED_FOR_CHARS_MAX: usize = 80;

/// The candidate with the fewest edits to `name`; none for one that is longer than any key.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if is_overlong(name) {
        return None;
    }
    candidates.into_iter().min_by_key(|candidate| distance(name, candidate))
}

/// A name as a line of text can show it.
pub(super) fn shown(name: &str) -> String {
    if !is_overlong(name) {
        return name.to_owned();
    }
    name.chars().take(SUGGESTED_FOR_CHARS_MAX).chain(['…']).collect()
}

fn is_overlong(name: &str) -> bool {
    name.chars().nth(SUGGESTED_FOR_CHARS_MAX).is_some()
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, (other, cells)) in b.iter().zip(row.windows(2)).enumerate() {
            let &[diagonal, above] = cells else { continue };
            let replaced = diagonal + usize::from(letter != *other);
            let left = next.get(j).copied().unwrap_or(usize::MAX - 1);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_inserted_deleted_and_replaced_letters() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("heartbeat", "heartbeet", 1),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_name_longer_than_any_key_is_cut_and_has_no_nearest_one() {
        let long = "é".repeat(81);
        assert_eq!(nearest(&long, ["heartbeat"]), None);
        assert_eq!(shown(&long), format!("{}…", "é".repeat(80)));
        assert_eq!(nearest(&long[2..], ["heartbeat"]), Some("heartbeat"));
        assert_eq!(shown(&long[2..]), long[2..]);
    }
}
