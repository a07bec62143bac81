//! Any text, given to `depends`.
#![no_main]
#![allow(missing_docs, dead_code)]

#[path = "../../crates/lang/tests/it/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|text: &str| invariants::depends(text));
