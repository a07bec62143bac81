//! Integration tests: our own vectors, properties, and the recordings of the real libraries where they are at hand.
#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;
mod invariants;
mod properties;
mod vectors;
