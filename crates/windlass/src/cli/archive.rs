//! Words of the verbs for archived workflows. The flags are `argo archive`'s.

use clap::{Args, Subcommand};

use super::{Follow, Format};

/// `archive …`
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveVerb {
    /// List archived workflows
    List(ArchiveListArgs),
    /// Show archived workflows
    Get(ArchiveGetArgs),
    /// Delete archived workflows
    Delete(ArchiveDeleteArgs),
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

/// Which archived workflows a verb is for.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichArchived {
    /// Names or uids
    #[arg(value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    /// All with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// All with these fields: metadata.name=…
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
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
    /// Names or uids
    #[arg(required = true, value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `archive delete`
#[derive(Debug, Args)]
pub(crate) struct ArchiveDeleteArgs {
    /// Names or uids
    #[arg(required = true, value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) named: Named,
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
    /// Set a parameter anew (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Also run again the nodes of --node-field-selector that succeeded
    #[arg(long)]
    pub(crate) restart_successful: bool,
    /// Which nodes: displayName=NAME, templateName=NAME, name=…, id=…, phase=…
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub(crate) node_field_selector: String,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// `archive resubmit`
#[derive(Debug, Args)]
pub(crate) struct ArchiveResubmitArgs {
    #[command(flatten)]
    pub(crate) which: WhichArchived,
    /// Set a parameter anew (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Take over what succeeded, with its outputs
    #[arg(long)]
    pub(crate) memoized: bool,
    /// Its priority
    #[arg(long)]
    pub(crate) priority: Option<i32>,
    #[command(flatten)]
    pub(crate) follow: Follow,
}
