//! Words of the verbs that tell how a run came to be as it is: explain, replay.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The workflow (`@latest` is the newest)
    #[arg(value_name = "WORKFLOW", required_unless_present = "file")]
    pub(crate) name: Option<String>,
    /// Only this node: its name, `@` with what follows the workflow's name, or its id
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Explain a workflow that `get -o json` printed (`-` is stdin)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Also the nodes that succeeded, and those that only hold others
    #[arg(long)]
    pub(crate) all: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The workflow (`@latest` is the newest)
    #[arg(value_name = "WORKFLOW", required_unless_present = "file")]
    pub(crate) name: Option<String>,
    /// Replay a workflow that `get -o json` printed (`-` is stdin)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Show it as it was this long after its start (`12s`, `1h5m`), or at this time
    #[arg(long, value_name = "WHEN", conflicts_with = "step")]
    pub(crate) at: Option<String>,
    /// Show every moment, one after the other; on a terminal each waits for Enter
    #[arg(long)]
    pub(crate) step: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}
