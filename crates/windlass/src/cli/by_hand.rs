//! Words of the verbs by which people steer runs: suspend, resume, stop, terminate, retry, resubmit, node. The flags are
//! `argo`'s.

use clap::{Args, Subcommand};

use super::Format;

/// Which workflows a verb is for: by name, or all that fit.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Which {
    /// The workflows (`@latest` is the newest)
    #[arg(value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) all: AllWith,
}

/// All workflows that fit, instead of names or beside them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AllWith {
    /// All with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// All with these fields: metadata.name=…
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
}

/// How a workflow that was made, or made to run again, is followed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Follow {
    /// Wait until it has ended
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// Follow it until it has ended
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the logs until it has ended
    #[arg(long)]
    pub(crate) log: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `suspend`
#[derive(Debug, Args)]
pub(crate) struct SuspendArgs {
    /// The workflows (`@latest` is the newest)
    #[arg(required = true, value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
}

/// `resume`
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The workflows (`@latest` is the newest)
    #[arg(required = true, value_name = "WORKFLOW")]
    pub(crate) names: Vec<String>,
    /// Only suspend nodes with these fields: displayName=approve, inputs.parameters.NAME.value=VALUE
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub(crate) node_field_selector: String,
}

/// `stop`
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Why: kept as an annotation, or as the message of the nodes that a selector names
    #[arg(long)]
    pub(crate) message: Option<String>,
    /// Only end suspend nodes with these fields, as failed: displayName=approve
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub(crate) node_field_selector: String,
    /// Say what would be stopped
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `terminate`
#[derive(Debug, Args)]
pub(crate) struct TerminateArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Say what would be terminated
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a retry runs again, and with what.
#[derive(Debug, Clone, Args)]
pub(crate) struct RetryHow {
    /// Set a parameter anew (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Also run again the nodes of --node-field-selector that succeeded
    #[arg(long)]
    pub(crate) restart_successful: bool,
    /// Which nodes: displayName=NAME, templateName=NAME, name=…, id=…, phase=…
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub(crate) node_field_selector: String,
}

/// `retry`
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) how: RetryHow,
    /// Only say which nodes would run again, which would stay, and which pods would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// What a resubmitted workflow has of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResubmitHow {
    /// Set a parameter anew (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Take over what succeeded, with its outputs
    #[arg(long)]
    pub(crate) memoized: bool,
    /// Its priority
    #[arg(long)]
    pub(crate) priority: Option<i32>,
}

/// `resubmit`
#[derive(Debug, Args)]
pub(crate) struct ResubmitArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) how: ResubmitHow,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// `node …`
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Set a suspend node's outputs, message or phase
    #[command(
        after_help = "Example:\n  windlass node set my-wf -p approve=yes --node-field-selector displayName=approve"
    )]
    Set(NodeSetArgs),
}

/// `node set`
#[derive(Debug, Args)]
pub(crate) struct NodeSetArgs {
    /// The workflow (`@latest` is the newest)
    #[arg(value_name = "WORKFLOW")]
    pub(crate) name: String,
    /// Which suspend nodes: displayName=approve
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) node_field_selector: String,
    /// Set an output that is to be supplied (repeatable)
    #[arg(short = 'p', long = "output-parameter", value_name = "NAME=VALUE")]
    pub(crate) outputs: Vec<String>,
    /// Set the message
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Set the phase: Succeeded, Failed, Error, Skipped
    #[arg(long)]
    pub(crate) phase: Option<String>,
}
