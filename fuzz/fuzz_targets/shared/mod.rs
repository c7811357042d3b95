//! What both targets of configuration files do.

use leveret::config::Sources;

/// Reads a file of this name: it is a configuration, or it has mistakes that each fit into a line.
pub fn read(name: &str, text: &str) {
    let sources = Sources {
        files: vec![(name.into(), text.to_owned())],
        ..Sources::default()
    };
    match sources.check() {
        Ok(loaded) => {
            let _ = (loaded.settings.describe(), loaded.settings.values().count());
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(!mistake.to_string().contains('\n'), "{mistake}");
            }
        }
    }
}
