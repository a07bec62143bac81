//! Recorded runs of the real Argo controller, and our own cases, played to the real control loops over any
//! `kube::Client`: a stub kubelet says what the pods did, and what the loops make of it is compared in a normal form.
//!
//! It must never know which API answers, and holds nothing of the recordings themselves.

pub mod compare;
pub mod corpus;
pub mod door;
pub mod kubelet;
pub mod normal;
pub mod own;
pub mod replay;
pub mod rows;
