//! Words of the verbs that make workflows and look at them. The flags are `argo`'s.

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, Follow, Format, RemapArgs};

/// Parameters and the like of a workflow that is made.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SubmitOptions {
    /// Set an input parameter (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Parameters from a YAML file
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) parameter_file: Option<PathBuf>,
    /// Set an annotation (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Set labels, comma separated
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub(crate) labels: Option<String>,
    /// Start at this template
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) entrypoint: Option<String>,
    /// The workflow's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The beginning of the workflow's name
    #[arg(long, value_name = "PREFIX")]
    pub(crate) generate_name: Option<String>,
    /// Run the pods as this ServiceAccount
    #[arg(long, value_name = "NAME")]
    pub(crate) serviceaccount: Option<String>,
    /// Run by the controller of this instance (Argo's `instanceID`): sets its label
    #[arg(long, env = "ARGO_INSTANCEID", value_name = "ID")]
    pub(crate) instanceid: Option<String>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Files with objects, one of them a Workflow (`-` is stdin)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) options: SubmitOptions,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Stream the logs of the steps
    #[arg(long)]
    pub(crate) log: bool,
    /// Form of the result
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `submit`
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Files with Workflows (`-` is stdin)
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Make the workflow from what is stored: cronwf/NAME, workflowtemplate/NAME or clusterworkflowtemplate/NAME
    #[arg(long, value_name = "KIND/NAME")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) options: SubmitOptions,
    /// Its priority among those that wait
    #[arg(long)]
    pub(crate) priority: Option<i32>,
    /// The time that it counts as scheduled for
    #[arg(long, value_name = "TIME")]
    pub(crate) scheduled_time: Option<String>,
    /// Only print what would be created
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let the API look at it, and create nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) server_dry_run: bool,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those that run
    #[arg(long)]
    pub(crate) running: bool,
    /// Only those that have ended
    #[arg(long)]
    pub(crate) completed: bool,
    /// Only in these phases, comma separated
    #[arg(long, value_name = "PHASE,…")]
    pub(crate) status: Option<String>,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only with these fields: metadata.name=…
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// Only those that were made again from another one
    #[arg(long)]
    pub(crate) resubmitted: bool,
    /// Only those of this instance of the controller
    #[arg(long, env = "ARGO_INSTANCEID", value_name = "ID")]
    pub(crate) instanceid: Option<String>,
    /// Ask the API for so many at a time
    #[arg(long, value_name = "COUNT")]
    pub(crate) chunk_size: Option<u32>,
    /// Only names with this beginning
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Only those finished longer ago than this: 7d, 3h
    #[arg(long, value_name = "DURATION")]
    pub(crate) older: Option<String>,
    /// Only those begun since: 7d, 3h
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// Without the head line
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// `NAME…`, `@latest`, `delivery` or `delivery NAME`
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Without box characters
    #[arg(long)]
    pub(crate) no_utf8: bool,
    /// Only nodes of this phase: Pending, Running, Succeeded, Skipped, Failed, Error
    #[arg(long, value_name = "PHASE")]
    pub(crate) status: Option<String>,
    /// Only nodes that fit: displayName=build,phase!=Succeeded
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) node_field_selector: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// One name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The workflow (`@latest` is the newest)
    pub(crate) name: String,
}

/// Several names.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// The workflows (`@latest` is the newest)
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// No error when it is not there
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The workflows
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All of the namespace
    #[arg(long)]
    pub(crate) all: bool,
    /// All that have ended
    #[arg(long)]
    pub(crate) completed: bool,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only with these fields: metadata.name=…
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// Only those finished longer ago than this: 7d, 3h
    #[arg(long, value_name = "DURATION")]
    pub(crate) older: Option<String>,
    /// Only names with this beginning
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Only in these phases, comma separated
    #[arg(long, value_name = "PHASE,…")]
    pub(crate) status: Option<String>,
    /// Also where a finalizer holds it
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No error when it is not there
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

/// `logs`
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The workflow (`@latest` is the newest)
    pub(crate) name: String,
    /// Only this pod
    pub(crate) pod: Option<String>,
    /// The container
    #[arg(short, long, default_value = "main")]
    pub(crate) container: String,
    /// Go on until the workflow has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines with this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) grep: Option<String>,
    /// Only the last lines of each pod
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<i64>,
    /// Only newer than this: 5m, 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// With the time of each line
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Only pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
}

/// `cp`
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The workflow (`@latest` is the newest)
    pub(crate) name: String,
    /// The directory to copy into
    #[arg(value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Only artifacts of the node with this id
    #[arg(long, value_name = "ID")]
    pub(crate) node_id: Option<String>,
    /// Only artifacts of nodes of this template
    #[arg(long, value_name = "NAME")]
    pub(crate) template_name: Option<String>,
    /// Only artifacts of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) artifact_name: Option<String>,
    /// Where each goes within DIR: {namespace}, {workflowName}, {nodeId}, {templateName}, {artifactName} are replaced
    #[arg(long, value_name = "PATH", default_value = "{namespace}/{workflowName}/{nodeId}/outputs/{artifactName}")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) names: RemapArgs,
}
