//! Patterns of scopes: `*` stands for any text, all else for itself, percent-encoded where it must be.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    /// What stands between the stars.
    parts: Vec<String>,
}

impl Wildcard {
    /// Reads a pattern. What is encoded wrongly is no pattern.
    pub fn parse(pattern: &str) -> Option<Wildcard> {
        let parts = pattern.split('*').map(decoded).collect::<Option<_>>()?;
        Some(Wildcard { parts })
    }

    /// Matches everything.
    pub fn any() -> Wildcard {
        Wildcard {
            parts: vec![String::new(), String::new()],
        }
    }

    /// Does the whole text match?
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return text == first;
        };
        let inner = text
            .strip_prefix(first.as_str())
            .and_then(|text| text.strip_suffix(last.as_str()));
        let Some(mut text) = inner else { return false };
        // The earliest place of each part leaves the most room for the others.
        for part in between {
            match text.find(part.as_str()) {
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text_and_all_else_for_itself() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("%2F", "/", true),
            ("%2a", "*", true),
            ("%2a", "x", false),
            ("a.c", "abc", false),
            ("%2F*", "/x", true),
            ("*ü*", "büro", true),
        ] {
            assert_eq!(
                Wildcard::parse(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(Wildcard::parse(bad), None, "{bad}");
        }
    }
}
