//! Making a sequence that differs as short as it can be while it still differs.

/// The shortest list found by leaving out parts of `items` while `differs` holds: first large parts, then single items.
///
/// `differs` is asked as long as it gives an answer; `None` ends the search with what has been found.
pub fn shrink<T: Clone>(items: &[T], mut differs: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut shortest = items.to_vec();
    let mut part = shortest.len().div_ceil(2);
    loop {
        let before = shortest.len();
        let mut from = 0;
        while from < shortest.len() {
            let to = (from + part).min(shortest.len());
            let without: Vec<T> = [&shortest[..from], &shortest[to..]].concat();
            match differs(&without) {
                None => return shortest,
                Some(true) => shortest = without,
                Some(false) => from = to,
            }
        }
        // A round of single items that left nothing out is the end.
        if part <= 1 && shortest.len() == before {
            return shortest;
        }
        part = (part / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_left() {
        let items: Vec<u32> = (0..100).collect();
        let differs = |items: &[u32]| Some([7, 42, 43].iter().all(|needed| items.contains(needed)));
        assert_eq!(shrink(&items, differs), [7, 42, 43]);
    }

    #[test]
    fn order_is_kept() {
        let items = [3, 1, 2, 9, 9];
        let differs = |items: &[i32]| Some(items.iter().filter(|item| **item < 9).eq([3, 1, 2].iter()));
        assert_eq!(shrink(&items, differs), [3, 1, 2]);
    }

    #[test]
    fn what_was_found_counts_when_the_time_is_over() {
        let mut asked = 0;
        let items: Vec<u32> = (0..8).collect();
        let shortest = shrink(&items, |_| {
            asked += 1;
            (asked <= 1).then_some(true)
        });
        assert_eq!(shortest, [4, 5, 6, 7]);
    }

    #[test]
    fn a_sequence_that_always_differs_shrinks_to_nothing() {
        assert!(shrink(&[1, 2, 3], |_| Some(true)).is_empty());
    }
}
