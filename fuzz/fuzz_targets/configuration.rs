//! leveret.toml: a configuration, or mistakes that each say where they stand.

#![no_main]

use leveret::config::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = Sources {
        files: vec![("leveret.toml".into(), text.to_owned())],
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
});
