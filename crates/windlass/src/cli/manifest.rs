//! Words of the verbs that read manifests and need no cluster: lint, test, convert.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// `lint`
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Files and directories (`-` is stdin)
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
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
