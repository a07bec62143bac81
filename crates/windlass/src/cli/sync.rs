//! Words of the verbs for the sizes of semaphores. The flags are `argo sync`'s.

use clap::{Args, Subcommand, ValueEnum};

/// `sync …`
#[derive(Debug, Subcommand)]
pub(crate) enum SyncVerb {
    /// Say a limit for the first time
    Create(SyncLimitArgs),
    /// Show a limit
    Get(SyncArgs),
    /// Say a limit anew; those who wait are told at once
    Update(SyncLimitArgs),
    /// Take a limit back
    Delete(SyncArgs),
}

/// Where a limit is.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum SyncType {
    /// In the database.
    Database,
    /// In a ConfigMap.
    Configmap,
}

/// Which limit.
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// Where it is
    #[arg(long = "type", value_enum, ignore_case = true, value_name = "TYPE")]
    pub(crate) kind: SyncType,
    /// The ConfigMap
    #[arg(long, value_name = "NAME", required_if_eq("kind", "configmap"))]
    pub(crate) cm_name: Option<String>,
}

/// Which limit, and what it is.
#[derive(Debug, Args)]
pub(crate) struct SyncLimitArgs {
    #[command(flatten)]
    pub(crate) which: SyncArgs,
    /// How many may hold it at a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}
