//! Words of the verbs that connect a git repository.

use std::path::PathBuf;

use clap::Subcommand;

/// `hook …`
#[derive(Debug, Subcommand)]
pub(crate) enum HookVerb {
    /// Print a post-receive hook that tells Windlass of each push, or install it into a repository
    #[command(after_help = "Example:\n  windlass hook install /srv/git/app.git")]
    Install {
        /// The bare repository (or work tree)
        repo: PathBuf,
        /// Print it only
        #[arg(long)]
        print: bool,
        /// Send to this URL [default: the webhooks of --home's `up`]
        #[arg(long)]
        url: Option<String>,
        /// The clone URL that events carry [default: the repository's path]
        #[arg(long)]
        clone_url: Option<String>,
    },
    /// Used by the hook: send the events on stdin
    #[command(hide = true)]
    Send {
        /// The repository
        #[arg(long)]
        repo: PathBuf,
        /// Where to
        #[arg(long)]
        url: Option<String>,
        /// The clone URL
        #[arg(long)]
        clone_url: Option<String>,
    },
}
