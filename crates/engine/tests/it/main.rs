//! Integration tests of the engine: inputs as files, results as snapshots.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod corpus;
mod lint;
mod manual;
mod pod_form;
mod resident;
mod seeds;
mod world;
