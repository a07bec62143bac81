//! Any text, given to the YAML loader.
#![no_main]
#![allow(missing_docs, dead_code)]

#[path = "../../crates/lang/tests/it/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|text: &str| invariants::yaml(text));
