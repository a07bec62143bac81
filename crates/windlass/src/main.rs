//! `windlass`: the one binary. Roles in which it runs itself come first, then the command line.

mod archived;
mod cli;
mod cluster;
mod connect;
mod database;
mod deploy;
mod home;
mod image_commands;
mod manifest;
mod names;
mod objects;
mod pod_build;
mod print;
mod start;
mod templates;
mod verb;

/// Objects come and go by the thousand here, as many small parts each, on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    windlass_sandbox::early();
    if let Some(code) = pod_build::early().or_else(windlass_executor::early).or_else(windlass_build::early) {
        return std::process::ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    start::start(<cli::Cli as clap::Parser>::parse())
}
