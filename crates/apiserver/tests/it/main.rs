//! The embedded API from outside: through `kube::Client`, over HTTP, across restarts.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod core;
mod kubectl;
