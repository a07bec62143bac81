//! Real git, real HTTP, real files. What cannot run here is printed loudly.
#![allow(clippy::unwrap_used, missing_docs)]

mod archives;
mod checkouts;
mod clouds;
mod http;
mod keeper;
mod mapped;
mod mirrors;
mod objects;
mod plugins;
mod repo;
mod ssh;
mod transfers;
