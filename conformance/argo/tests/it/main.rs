//! The harness at work: recordings and own cases, in process and over HTTP.
#![allow(clippy::unwrap_used, missing_docs)]

mod house;
mod http;
mod own;
mod recorded;
mod refused;
mod support;
