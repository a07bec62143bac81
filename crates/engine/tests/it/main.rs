//! Integration tests of the engine: inputs as files, results as snapshots.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod check;
mod convert;
mod crashes;
mod defaults;
mod explain;
mod garbage;
mod lint;
mod locks;
mod manual;
mod metrics;
mod past;
mod pending;
mod pod_form;
mod progress;
mod resident;
mod restrictions;
mod seeds;
mod spans;
mod world;
