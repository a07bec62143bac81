//! Words of the verbs that start the embedded cluster or look at what it needs: up, doctor, quickstart.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ExecutorForm, Format};

/// Names of the outside world: who really answers them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RemapArgs {
    /// Pull and push FROM's images at TO (repeatable): docker.io=127.0.0.1:5000
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) remap_registry: Vec<String>,
    /// Fetch repositories whose URL begins with FROM from TO instead (repeatable)
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) remap_git: Vec<String>,
    /// Reach the S3 or HTTP server FROM at TO (repeatable): s3.amazonaws.com=http://minio:9000
    #[arg(long, value_name = "FROM=TO")]
    pub(crate) remap_endpoint: Vec<String>,
    /// A file of such rules; flags come before it [default: remap.yaml in --home]
    #[arg(long, value_name = "FILE")]
    pub(crate) remap: Option<PathBuf>,
    /// This registry speaks plain HTTP (repeatable; loopback ones may always)
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
}

/// `doctor`
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) names: RemapArgs,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// What the embedded cluster is told, by `up` and by verbs that start it in their own process.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Local git repositories and hostPath volumes may come from beneath this directory (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) allow_path: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) names: RemapArgs,
    /// Allow pods what reaches this machine itself (repeatable)
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) allow: Vec<Allow>,
    /// The name of this machine as a Node [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Who moves steps' inputs and outputs: the node agent, or an executor in each pod, as on a cluster
    #[arg(long, value_enum, default_value = "node", value_name = "FORM")]
    pub(crate) executor: ExecutorForm,
    /// A label of the Node (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) node_label: Vec<String>,
}

/// What pods may do only where it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allow {
    /// Privileged containers: they can do what root can on this machine
    Privileged,
    /// Pods with hostNetwork get this machine's own network, its loopback included
    HostNetwork,
}

/// `up`
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Address of the Kubernetes API (HTTPS); port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:6470", value_name = "ADDR")]
    pub(crate) api_listen: std::net::SocketAddr,
    /// Address of the registry (HTTP)
    #[arg(long, default_value = "127.0.0.1:6471", value_name = "ADDR")]
    pub(crate) registry_listen: std::net::SocketAddr,
    /// Address of the webhooks (HTTP)
    #[arg(long, default_value = "127.0.0.1:6472", value_name = "ADDR")]
    pub(crate) webhook_listen: std::net::SocketAddr,
    /// Address of /metrics: the metrics of workflows, for Prometheus [default: none]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<std::net::SocketAddr>,
    /// The file with the webhooks' secret [default: one is made in --home]
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// The namespace that deliveries and their workflows live in
    #[arg(long, default_value = "default", value_name = "NS")]
    pub(crate) webhook_namespace: String,
    /// Print the path of the kubeconfig and exit
    #[arg(long)]
    pub(crate) print_kubeconfig: bool,
}

/// `quickstart`
#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Keep the folder and everything in it, and say how to go on
    #[arg(long)]
    pub(crate) keep: bool,
    /// Work in this folder instead of a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
