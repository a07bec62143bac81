//! `windlass install`: the objects that a cluster needs to run Windlass, as YAML for kubectl. It asks no cluster.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::InstallArgs;
use crate::deploy;
use crate::print;

pub(super) fn run(args: &InstallArgs) -> Result<ExitCode> {
    if args.settings.names.remap.is_some() {
        bail!("--remap FILE is not there on the cluster: give its rules as flags, they become the controller's");
    }
    for (index, object) in deploy::manifests(args).iter().enumerate() {
        if index > 0 {
            println!("---");
        }
        print!("{}", print::yaml(object)?);
    }
    Ok(ExitCode::SUCCESS)
}
