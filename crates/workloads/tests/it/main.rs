//! The loops over the embedded API in this process, with the test as the kubelet.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../control/tests/it/counting.rs"]
mod counting;
mod pods;
