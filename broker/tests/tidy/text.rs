//! Reading Rust by its text: what is code, what it names, how long its functions are.

use std::ops::Range;

/// Where a text literal ends that begins at `start`, if one does. Knows plain, byte, C and raw strings, and characters.
fn literal_end(bytes: &[u8], start: usize) -> Option<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let follows_word = start > 0 && is_word(bytes[start - 1]);
    match bytes[start] {
        b'"' => Some(string_end(bytes, start + 1)),
        b'r' if !follows_word || matches!(bytes[start - 1], b'b' | b'c') => {
            let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
            if bytes.get(start + 1 + hashes) != Some(&b'"') {
                return None;
            }
            let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let body = start + 2 + hashes;
            let length = bytes[body..].windows(end.len()).position(|window| window == end)?;
            Some(body + length + end.len())
        }
        b'\'' => {
            // A lifetime has no closing quote behind its first character.
            let rest = std::str::from_utf8(&bytes[start + 1..]).ok()?;
            let mut chars = rest.char_indices();
            match chars.next()?.1 {
                '\\' => Some(start + 1 + 2 + rest[2..].find('\'')? + 1),
                _ => match chars.next()? {
                    (length, '\'') => Some(start + 1 + length + 1),
                    _ => None,
                },
            }
        }
        _ => None,
    }
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The text with comments and literals replaced by blanks; line breaks stay.
pub fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes.get(at..at + 2) {
            Some(b"//") => Some(
                bytes[at..]
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(bytes.len(), |length| at + length),
            ),
            Some(b"/*") => Some(block_comment_end(bytes, at)),
            _ => literal_end(bytes, at),
        };
        let end = end.map(|end| end.min(bytes.len()));
        let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
        match end {
            Some(end) => code.extend(bytes[at..end].iter().map(blank)),
            None => code.push(bytes[at]),
        }
        at = end.unwrap_or(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// Blanks `#[cfg(test)]` items that begin a line, through the closing brace that begins one.
pub fn without_inline_tests(code: &str) -> String {
    let mut in_tests = false;
    let mut kept = String::new();
    for line in code.lines() {
        in_tests |= line == "#[cfg(test)]";
        if !in_tests {
            kept.push_str(line);
        }
        kept.push('\n');
        // A declaration of a module in another file ends at once.
        in_tests &= line != "}" && !line.ends_with(';') || line == "#[cfg(test)]" || line.starts_with(' ');
    }
    kept
}

/// Whether the code names this, as a whole word or path.
pub fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name)
        .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + name.len()..].starts_with(is_word))
}

/// Every function with its first line and its number of lines.
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String = code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        if let Some(body) = body_of(code, at) {
            let first_line = code[..at].matches('\n').count() + 1;
            found.push((name, first_line, code[at..body.end].matches('\n').count() + 1));
        }
    }
    found
}

/// The braces of the function that begins at `start`; none for a declaration without a body.
fn body_of(code: &str, start: usize) -> Option<Range<usize>> {
    let (mut depth, mut begin, mut groups) = (0, None, 0);
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' if begin.is_none() => groups += 1,
            ')' | ']' if begin.is_none() => groups -= 1,
            ';' if begin.is_none() && groups == 0 => return None,
            '{' => {
                begin.get_or_insert(at);
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(start + begin?..start + at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn blanking_keeps_code_and_lines() {
    let text = "let a = \"fn x() {\"; // fn y\nlet b = r#\"tokio \" \"#; let c = '{'; let d: &'a str = b\"\\\"}\";\n/* a /* b */ c */ end";
    let code = blanked(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('\n').count(), 2);
    assert!(!code.contains(['{', '}', '"', '/']), "{code}");
    assert!(!code.contains("tokio") && !code.contains("fn"), "{code}");
    assert!(code.contains("let d: &'a str = b") && code.ends_with(" end"), "{code}");
}

#[test]
fn functions_are_measured_from_their_name_to_their_closing_brace() {
    let code = "trait T { fn declared(&self, x: [u8; 4]) -> u8; }\nfn one() -> [u8; 2] { [1, 2] }\nfn two()\n{\n    if x { y }\n}\n";
    let measured: Vec<(String, usize, usize)> = functions(code);
    assert_eq!(measured, [("one".to_owned(), 2, 1), ("two".to_owned(), 3, 4)]);
}

#[test]
fn inline_tests_are_left_out_and_nothing_else() {
    let text = "fn a() {}\n#[cfg(test)]\nmod b;\nfn c() {}\n#[cfg(test)]\nmod tests {\n    use x;\n    fn d() {\n    }\n}\nfn e() {}\n";
    let kept = without_inline_tests(text);
    assert_eq!(kept.lines().count(), text.lines().count());
    assert_eq!(
        kept.split_whitespace().collect::<Vec<_>>().join(" "),
        "fn a() {} fn c() {} fn e() {}"
    );
}
