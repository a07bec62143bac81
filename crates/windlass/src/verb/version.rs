//! `windlass version`.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Format, OutputArgs};

pub(super) fn run(args: OutputArgs) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::json!({"version": version})),
        _ => println!("windlass {version}"),
    }
    Ok(ExitCode::SUCCESS)
}
