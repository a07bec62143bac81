//! Words of the verbs for what is stored and runs later: cron workflows and workflow templates. The flags are `argo`'s.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, LintArgs};

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
    /// Find what is wrong in cron workflows
    Lint(LintArgs),
    /// Give cron workflows what their files say now
    Update(TemplateCreateArgs),
    /// Run what a cron workflow would have run between two times
    Backfill(BackfillArgs),
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
    /// Find what is wrong in templates
    Lint(LintArgs),
    /// Give templates what their files say now
    Update(TemplateCreateArgs),
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
    /// Run by the controller of this instance (Argo's `instanceID`): sets its label
    #[arg(long, env = "ARGO_INSTANCEID", value_name = "ID")]
    pub(crate) instanceid: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `cron backfill`
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// The cron workflow
    #[arg(value_name = "CRON")]
    pub(crate) cron: String,
    /// From this time on: 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) start: String,
    /// Before this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) end: Option<String>,
    /// All at a time, and not one after the other
    #[arg(long)]
    pub(crate) parallel: bool,
    /// So many at the most
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) maxworkflowcount: usize,
    /// Give each its time as this parameter
    #[arg(long, value_name = "PARAMETER", default_value = "cronScheduleTime")]
    pub(crate) argname: String,
    /// The beginning of their names [default: the cron workflow's name and `-backfill`]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) name: Option<String>,
    /// Only say what would run
    #[arg(long)]
    pub(crate) dry_run: bool,
}
