//! Integration tests of the engine: inputs as files, results as snapshots.
#![allow(clippy::unwrap_used, missing_docs)]

mod corpus;
mod lint;
