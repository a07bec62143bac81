//! Words of the verbs for archived workflows. The flags are `argo archive`'s.

use clap::{Args, Subcommand};

use super::{AllWith, Follow, Format, ResubmitHow, RetryHow};

/// `archive …`
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveVerb {
    /// List archived workflows
    List(ArchiveListArgs),
    /// Show archived workflows
    Get(ArchiveGetArgs),
    /// Delete archived workflows
    Delete(ArchivedNames),
    /// List the keys of archived workflows' labels
    ListLabelKeys(ArchivePlace),
    /// List the values that a label of archived workflows has
    ListLabelValues(ArchiveValuesArgs),
    /// Bring back archived workflows, and run their failed steps again
    Retry(Box<ArchiveRetryArgs>),
    /// Run archived workflows once more from the start, as new ones
    Resubmit(Box<ArchiveResubmitArgs>),
}

/// Which namespaces.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchivePlace {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// How an archived workflow is named.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// The arguments are names
    #[arg(long = "name", conflicts_with = "force_uid")]
    pub(crate) force_name: bool,
    /// The arguments are uids
    #[arg(long = "uid")]
    pub(crate) force_uid: bool,
}

/// Archived workflows, one by one.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchivedNames {
    /// Names or uids
    #[arg(required = true, value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
}

/// Which archived workflows a verb is for: by name, or all that fit.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichArchived {
    /// Names or uids
    #[arg(value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) all: AllWith,
}

/// `archive list`
#[derive(Debug, Args)]
pub(crate) struct ArchiveListArgs {
    #[command(flatten)]
    pub(crate) place: ArchivePlace,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Ask for so many at a time
    #[arg(long, value_name = "COUNT")]
    pub(crate) chunk_size: Option<u32>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `archive get`
#[derive(Debug, Args)]
pub(crate) struct ArchiveGetArgs {
    #[command(flatten)]
    pub(crate) which: ArchivedNames,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `archive list-label-values`
#[derive(Debug, Args)]
pub(crate) struct ArchiveValuesArgs {
    /// The label's key
    #[arg(short = 'l', long, required = true, value_name = "KEY")]
    pub(crate) selector: String,
    #[command(flatten)]
    pub(crate) place: ArchivePlace,
}

/// `archive retry`
#[derive(Debug, Args)]
pub(crate) struct ArchiveRetryArgs {
    #[command(flatten)]
    pub(crate) which: WhichArchived,
    #[command(flatten)]
    pub(crate) how: RetryHow,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// `archive resubmit`
#[derive(Debug, Args)]
pub(crate) struct ArchiveResubmitArgs {
    #[command(flatten)]
    pub(crate) which: WhichArchived,
    #[command(flatten)]
    pub(crate) how: ResubmitHow,
    #[command(flatten)]
    pub(crate) follow: Follow,
}
