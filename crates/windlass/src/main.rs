//! The one binary: verbs, configuration, wiring.

fn main() {}
