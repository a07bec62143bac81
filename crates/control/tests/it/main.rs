//! The loops over the embedded API in this process.
#![allow(clippy::unwrap_used, missing_docs)]

mod archive;
mod counting;
mod cron;
mod deliveries;
mod garbage;
mod instances;
mod large;
mod locks;
mod retention;
mod runs;
mod simulation;
mod stage;
mod traces;
