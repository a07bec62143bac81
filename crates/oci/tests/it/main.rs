//! Images end to end: real overlay mounts, hostile archives, full disks, and real registry clients.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod attacks;
mod client;
mod host;
mod layouts;
mod model;
mod overlay;
mod registry;
mod store;

/// Says loudly what this machine cannot run.
pub fn not_run(test: &str, why: &str) {
    eprintln!("\n*** NOT RUN: {test}: {why}\n");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
