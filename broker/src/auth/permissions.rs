//! What one user may do in one virtual host: three regular expressions over names of queues and exchanges.

use regex::{Regex, RegexBuilder};

use super::error::AuthError;
use super::oauth::Wildcard;

/// Longest accepted pattern.
pub const PATTERN_MAX_BYTES: usize = 4096;

/// Most memory one compiled pattern may take; `(a{1000}){1000}` and its kin are refused instead of compiled.
pub const COMPILED_PATTERN_MAX_BYTES: usize = 1 << 20;

/// Deepest nesting of groups in a pattern.
const PATTERN_MAX_NESTING: u32 = 50;

/// The name under which the default exchange (whose own name is empty) is checked.
pub const DEFAULT_EXCHANGE_RESOURCE: &str = "amq.default";

/// What a user wants to do with a queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Declare or delete it.
    Configure,
    /// Publish to it, or let messages flow into it.
    Write,
    /// Consume, get or purge from it, or let messages flow out of it.
    Read,
}

impl Operation {
    /// The word in `configure access to queue 'Q' in vhost 'V' refused for user 'U'`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// The compiled permissions of one user in one virtual host.
#[derive(Debug, Clone)]
pub struct Permissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Permissions {
    /// Compiles the three patterns. They are searched, not anchored, as in RabbitMQ; an empty one allows nothing.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Self, AuthError> {
        Ok(Self {
            configure: Pattern::compile(configure)?,
            write: Pattern::compile(write)?,
            read: Pattern::compile(read)?,
        })
    }

    /// Allows what one of these matches, for each operation.
    pub fn of_wildcards(configure: Vec<Wildcard>, write: Vec<Wildcard>, read: Vec<Wildcard>) -> Self {
        let pattern = |wildcards| Pattern {
            text: String::new(),
            matcher: Matcher::AnyOf(wildcards),
        };
        Self {
            configure: pattern(configure),
            write: pattern(write),
            read: pattern(read),
        }
    }

    /// Allows everything.
    pub fn all() -> Self {
        let everything = || Pattern {
            text: ".*".to_owned(),
            matcher: Matcher::Everything,
        };
        Self {
            configure: everything(),
            write: everything(),
            read: everything(),
        }
    }

    /// Allows nothing.
    pub fn none() -> Self {
        let nothing = || Pattern {
            text: String::new(),
            matcher: Matcher::Nothing,
        };
        Self {
            configure: nothing(),
            write: nothing(),
            read: nothing(),
        }
    }

    /// Whether the operation is allowed on the queue or exchange of this name; the default exchange is
    /// checked under [`DEFAULT_EXCHANGE_RESOURCE`].
    pub fn allows(&self, operation: Operation, resource_name: &str) -> bool {
        let name = if resource_name.is_empty() {
            DEFAULT_EXCHANGE_RESOURCE
        } else {
            resource_name
        };
        self.pattern(operation).matches(name)
    }

    /// The pattern's text as it was given.
    pub fn text(&self, operation: Operation) -> &str {
        &self.pattern(operation).text
    }

    fn pattern(&self, operation: Operation) -> &Pattern {
        match operation {
            Operation::Configure => &self.configure,
            Operation::Write => &self.write,
            Operation::Read => &self.read,
        }
    }
}

impl PartialEq for Permissions {
    fn eq(&self, other: &Self) -> bool {
        let texts = |p: &Self| [p.configure.text.clone(), p.write.text.clone(), p.read.text.clone()];
        texts(self) == texts(other)
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    matcher: Matcher,
}

/// `.*` and the empty pattern are most of what is in use and need no engine.
#[derive(Debug, Clone)]
enum Matcher {
    Everything,
    Nothing,
    Search(Regex),
    /// One of the scopes of a token.
    AnyOf(Vec<Wildcard>),
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, AuthError> {
        check_length(text)?;
        let matcher = match text {
            ".*" | "^.*$" | "^.*" | ".*$" => Matcher::Everything,
            // Names are never empty where they are checked, so `^$` matches none of them.
            "" | "^$" => Matcher::Nothing,
            _ => Matcher::Search(compile_search(text)?),
        };
        Ok(Self {
            text: text.to_owned(),
            matcher,
        })
    }

    fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Nothing => false,
            Matcher::Search(regex) => regex.is_match(name),
            Matcher::AnyOf(wildcards) => wildcards.iter().any(|wildcard| wildcard.matches(name)),
        }
    }
}

/// Compiles a regular expression that somebody else wrote, within bounds; names are searched for it.
pub fn compile_search(text: &str) -> Result<Regex, AuthError> {
    check_length(text)?;
    RegexBuilder::new(text)
        .size_limit(COMPILED_PATTERN_MAX_BYTES)
        .dfa_size_limit(COMPILED_PATTERN_MAX_BYTES)
        .nest_limit(PATTERN_MAX_NESTING)
        .build()
        .map_err(|error| bad_pattern(text, &error))
}

fn check_length(text: &str) -> Result<(), AuthError> {
    if text.len() > PATTERN_MAX_BYTES {
        return Err(AuthError::PatternTooLong {
            limit_bytes: PATTERN_MAX_BYTES,
        });
    }
    Ok(())
}

fn bad_pattern(pattern: &str, error: &regex::Error) -> AuthError {
    let reason = match error {
        regex::Error::CompiledTooBig(_) => "it is too complex".to_owned(),
        // The engine draws the pattern over several lines; its last line says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    };
    AuthError::BadPattern {
        pattern: pattern.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, name: &str) -> bool {
        Permissions::new("", "", pattern).unwrap().allows(Operation::Read, name)
    }

    #[test]
    fn patterns_are_searched_not_anchored() {
        let cases = [
            (".*", "anything", true),
            ("^.*$", "anything", true),
            ("^.*", "two\nlines", true),
            ("", "anything", false),
            ("^$", "anything", false),
            ("ord", "new-orders", true),
            ("^ord", "new-orders", false),
            ("^(orders|bills)$", "orders", true),
            ("^(orders|bills)$", "orders2", false),
            ("^amq\\.gen.*$", "amq.gen-xyz", true),
            ("queue", "QUEUE", false),
            ("(?i)queue", "QUEUE", true),
            ("^ü+$", "üü", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(allows(pattern, name), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn each_operation_has_its_own_pattern() {
        let permissions = Permissions::new("^c", "^w", "^r").unwrap();
        for (operation, own) in [
            (Operation::Configure, "c1"),
            (Operation::Write, "w1"),
            (Operation::Read, "r1"),
        ] {
            for name in ["c1", "w1", "r1"] {
                assert_eq!(permissions.allows(operation, name), name == own, "{operation:?} {name}");
            }
        }
        assert_eq!(permissions.text(Operation::Write), "^w");
    }

    #[test]
    fn the_default_exchange_is_checked_under_a_name_of_its_own() {
        assert!(allows("^amq\\.default$", ""));
        assert!(!allows("^orders$", ""));
        assert!(
            !allows("^$", ""),
            "the pattern that allows nothing does not match the empty name either"
        );
    }

    #[test]
    fn patterns_that_cost_too_much_are_refused() {
        let nested = format!("{}a{}", "(".repeat(1000), ")".repeat(1000));
        for pattern in ["((a{1000}){1000}){1000}", "\\pL{5000}", nested.as_str()] {
            let error = Permissions::new(pattern, "", "").unwrap_err();
            assert!(matches!(error, AuthError::BadPattern { .. }), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        let long = "a".repeat(PATTERN_MAX_BYTES + 1);
        assert_eq!(
            Permissions::new(&long, "", ""),
            Err(AuthError::PatternTooLong {
                limit_bytes: PATTERN_MAX_BYTES
            })
        );
        assert!(Permissions::new(&long[1..], "", "").is_ok());
    }

    #[test]
    fn a_bad_pattern_is_told_in_one_line() {
        let error = Permissions::new("", "orders(", "").unwrap_err();
        assert_eq!(error.to_string(), "bad regular expression 'orders(': unclosed group");
    }
}
