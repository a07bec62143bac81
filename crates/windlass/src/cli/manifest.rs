//! Words of the verbs that read manifests and need no cluster: lint, test, convert.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Format;

/// The form of what `lint` prints.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum LintFormat {
    /// With the lines that it is about
    Pretty,
    /// A line a fault
    Simple,
    /// For programs
    Json,
}

/// `lint`
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Files and directories (`-` is stdin)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only objects of these kinds, comma separated: workflows, workflowtemplates, cronworkflows,
    /// clusterworkflowtemplates, workfloweventbindings, all
    #[arg(long, value_name = "KIND,…", default_value = "all", value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Know only the templates of these files, not those of the cluster
    #[arg(long)]
    pub(crate) offline: bool,
    /// With --strict=false unknown fields are warnings
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) strict: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<LintFormat>,
}

/// `test`
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The manifest under test (`-` is stdin)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Files with cases [default: NAME.test.yaml beside NAME.yaml]
    #[arg(value_name = "CASE")]
    pub(crate) cases: Vec<PathBuf>,
    /// Only cases with this text in their name
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Also draw the nodes of cases that passed
    #[arg(long)]
    pub(crate) show: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `convert`
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Files and directories (`-` is stdin)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Change the files themselves
    #[arg(long, conflicts_with = "output")]
    pub(crate) write: bool,
    /// Print the objects as JSON or YAML, instead of the text with its comments
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}
