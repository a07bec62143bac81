//! Words of the verbs for remembered outputs.

use clap::{Args, Subcommand};

use super::Format;

/// `cache …`
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// List what is remembered
    List(CacheListArgs),
    /// Forget what is remembered: all of the namespace, a part, or one key
    Clear(CacheClearArgs),
}

/// `cache list`
#[derive(Debug, Args)]
pub(crate) struct CacheListArgs {
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `cache clear`
#[derive(Debug, Args)]
pub(crate) struct CacheClearArgs {
    /// Only this part: windlass.dev/cache, windlass.dev/cache/NAME
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache: Option<String>,
    /// Only this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}
