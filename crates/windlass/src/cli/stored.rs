//! Words of the verbs for what is stored and runs later: cron workflows and workflow templates. The flags are `argo`'s.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// `cron …`
#[derive(Debug, Subcommand)]
pub(crate) enum CronVerb {
    /// List cron workflows, with their last and next run
    List(StoredListArgs),
    /// Show cron workflows
    Get(StoredGetArgs),
    /// Create the cron workflows of some files
    Create(CronCreateArgs),
    /// Begin nothing new
    Suspend(StoredNames),
    /// Go on; the last run that was missed is made up for
    Resume(StoredNames),
    /// Delete cron workflows
    Delete(StoredDeleteArgs),
}

/// `template …` and `cluster-template …`
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    /// List templates
    List(StoredListArgs),
    /// Show templates
    Get(StoredGetArgs),
    /// Create the templates of some files
    Create(TemplateCreateArgs),
    /// Delete templates
    Delete(StoredDeleteArgs),
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct StoredListArgs {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `get`
#[derive(Debug, Args)]
pub(crate) struct StoredGetArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// Names only.
#[derive(Debug, Args)]
pub(crate) struct StoredNames {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct StoredDeleteArgs {
    /// Their names
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All of the namespace
    #[arg(long)]
    pub(crate) all: bool,
}

/// `template create`
#[derive(Debug, Args)]
pub(crate) struct TemplateCreateArgs {
    /// Files with templates (`-` is stdin)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `cron create`
#[derive(Debug, Args)]
pub(crate) struct CronCreateArgs {
    /// Files with cron workflows (`-` is stdin)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Another name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Another schedule, in place of the file's
    #[arg(long, value_name = "CRON")]
    pub(crate) schedule: Option<String>,
    /// Set a parameter of its workflows (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}
