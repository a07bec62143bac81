//! The binary as its users have it: every case starts `windlass` itself, with a home of its own and free ports. A case
//! that this machine cannot run says so with `NOT RUN:`, never in silence.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod archive;
mod artifact_plugins;
mod away;
mod bad_input;
mod build;
mod claims;
mod database;
mod deliveries;
mod disk;
mod docker;
mod durable;
mod events;
mod examples;
mod flags;
mod garbage;
mod host_network;
mod hosts;
mod house;
mod interrupt;
mod isolation;
mod jobs;
#[path = "../../../artifacts/tests/it/keeper.rs"]
mod keeper;
mod kinds;
mod kubectl;
mod large;
mod minio;
mod names;
mod nodes;
mod on_a_cluster;
mod plugins;
#[path = "../../../archive/tests/it/database.rs"]
mod postgres;
mod quickstart;
mod recordings;
mod rehearsal;
mod rights;
mod run;
mod seeds;
mod steer;
mod stores;
mod streams;
mod told;
mod users;
