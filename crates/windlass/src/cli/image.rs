//! Words of the verbs that make images and keep them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ClusterArgs, Format, OutputArgs};

/// `build`
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The context: a directory
    // An id of its own: `--context` is a kubeconfig's, and clap keeps both in one table.
    #[arg(id = "directory", value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: PathBuf,
    /// The Dockerfile, relative to the context
    #[arg(short = 'f', long = "file", visible_alias = "dockerfile", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Push to this name (repeatable) [default: registry.windlass.internal/DIRECTORY:latest]
    #[arg(short = 't', long, value_name = "IMAGE")]
    pub(crate) destination: Vec<String>,
    /// Set a build argument (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Stop at this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Do not use the layer cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Build only
    #[arg(long)]
    pub(crate) no_push: bool,
    /// Credentials: a docker config.json [default: ~/.docker/config.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) docker_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Form of the result
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List the images of this machine
    Ls(OutputArgs),
    /// Pull an image
    #[command(after_help = "Example:\n  windlass image pull registry.example.com/app:v1")]
    Pull(ImagePullArgs),
    /// Push an image, under its own or another name
    #[command(after_help = "Example:\n  windlass image push app:v1 registry.example.com/app:v1")]
    Push(ImagePushArgs),
    /// Import an OCI layout (directory or tar) or a `docker save` archive
    #[command(after_help = "Example:\n  windlass image import app.tar app:v1")]
    Import {
        /// The layout or archive
        path: PathBuf,
        /// The name [default: the one inside]
        name: Option<String>,
    },
    /// Export an image as an OCI layout (a directory, or a tar when the path ends in .tar)
    #[command(after_help = "Example:\n  windlass image export app:v1 app.tar")]
    Export {
        /// The image
        name: String,
        /// Where to
        path: PathBuf,
    },
    /// Remove an image
    #[command(after_help = "Example:\n  windlass image rm app:v1")]
    Rm {
        /// The image
        name: String,
    },
    /// Make an image out of this machine's own programs
    #[command(
        after_help = "Example:\n  windlass image from-host alpine/git --program git --program sh --entrypoint git\n  windlass image from-host python:3 --package python3-minimal --program sh"
    )]
    FromHost(FromHostArgs),
}

/// How a registry is reached.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Credentials: a docker config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) docker_config: Option<PathBuf>,
    /// Ask TO for FROM's images (repeatable): docker.io=127.0.0.1:5000
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) remap_registry: Vec<String>,
    /// Plain HTTP
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// `image pull`
#[derive(Debug, Args)]
pub(crate) struct ImagePullArgs {
    /// The image
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// `image push`
#[derive(Debug, Args)]
pub(crate) struct ImagePushArgs {
    /// The image
    pub(crate) name: String,
    /// The name to push it under
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// `image from-host`
#[derive(Debug, Args)]
pub(crate) struct FromHostArgs {
    /// The image's name, as manifests have it
    pub(crate) name: String,
    /// A program with the libraries it needs (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) program: Vec<String>,
    /// An installed Debian package's files and its dependencies' (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) package: Vec<String>,
    /// A file or directory (repeatable)
    #[arg(long, value_name = "SRC:DST")]
    pub(crate) add: Vec<String>,
    /// Entrypoint, one argument a flag
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// Default command, one argument a flag
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) cmd: Vec<String>,
    /// Environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// A directory with storage of its own in each container (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) volume: Vec<String>,
}
