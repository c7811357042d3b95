//! leveret.toml: a configuration, or mistakes that each say where they stand.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod shared;

fuzz_target!(|text: &str| shared::read("leveret.toml", text));
