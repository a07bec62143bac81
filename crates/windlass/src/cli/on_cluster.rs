//! The words of verbs that bring Windlass to a Kubernetes cluster.

use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use windlass_control::{Instance, Scope};
use windlass_schedule::lease::Terms;

use super::RemapArgs;

/// Kubernetes' words for when an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum PullPolicy {
    /// Always.
    Always,
    /// Where it is not there.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// As manifests say it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The form of executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, ValueEnum)]
pub(crate) enum ExecutorForm {
    /// The node agent does it; pods are the user's containers, untouched.
    #[default]
    Node,
    /// Inside of each pod.
    Pod,
}

/// Who builds in kaniko steps.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum KanikoBy {
    /// Our builder, inside of the step's container.
    Windlass,
    /// The image of the manifest, as it is.
    Image,
}

/// What `controller` is told, and `install` writes down for it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControllerSettings {
    /// The image with this program at /windlass, for the executor in steps' pods
    #[arg(long, value_name = "IMAGE", env = "WINDLASS_IMAGE")]
    pub(crate) image: String,
    /// When that image is pulled [default: Kubernetes' own rule]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) image_pull_policy: Option<PullPolicy>,
    /// Who builds in kaniko steps: our builder in the step's container, or the image that the manifest names
    #[arg(long, value_enum, default_value = "windlass", value_name = "WHO")]
    pub(crate) kaniko: KanikoBy,
    /// Only workflows of this namespace are run [default: all]
    #[arg(long, value_name = "NS")]
    pub(crate) managed_namespace: Option<String>,
    /// Only workflows with this label `controller-instanceid` are run [default: `instanceID` of the ConfigMap; without one those
    /// that have no such label]
    #[arg(long, env = "ARGO_INSTANCEID", value_name = "ID", value_parser = instance)]
    pub(crate) instanceid: Option<String>,
    /// Where the controller is, and its ConfigMap workflow-controller-configmap
    #[arg(long, default_value = "windlass-system", value_name = "NS")]
    pub(crate) controller_namespace: String,
    /// Address at which events are taken, and what is archived is asked for (HTTP: put what speaks TLS before it):
    /// 0.0.0.0:2746 [default: none]
    #[arg(long, value_name = "ADDR")]
    pub(crate) events_listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub(crate) names: RemapArgs,
}

impl ControllerSettings {
    /// Whose workflows are run, where `configured` is the instance that the ConfigMap says.
    pub(crate) fn scope(&self, configured: Option<String>) -> Scope {
        let instance = Instance::of(self.instanceid.clone().or(configured));
        Scope { namespace: self.managed_namespace.clone(), instance }
    }
}

/// Who of several controllers works, by Argo's names.
#[derive(Debug, Args)]
pub(crate) struct ElectionArgs {
    /// Work without asking who else does: there is one controller, and no lease
    #[arg(long, env = "LEADER_ELECTION_DISABLE", value_parser = FalseyValueParser::new())]
    pub(crate) leader_election_disable: bool,
    /// The name of this process in the lease; no other one may have it [default: the host's, and a number]
    #[arg(long, value_name = "NAME", env = "LEADER_ELECTION_IDENTITY")]
    pub(crate) leader_election_identity: Option<String>,
    /// How long others respect a lease that is not renewed
    #[arg(long, value_name = "TIME", env = "LEADER_ELECTION_LEASE_DURATION", default_value = "15s", value_parser = time)]
    pub(crate) leader_election_lease_duration: Duration,
    /// How long the holder goes on when it cannot renew
    #[arg(long, value_name = "TIME", env = "LEADER_ELECTION_RENEW_DEADLINE", default_value = "10s", value_parser = time)]
    pub(crate) leader_election_renew_deadline: Duration,
    /// How often the lease is looked at
    #[arg(long, value_name = "TIME", env = "LEADER_ELECTION_RETRY_PERIOD", default_value = "5s", value_parser = time)]
    pub(crate) leader_election_retry_period: Duration,
}

impl ElectionArgs {
    /// How long what takes.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            lease: self.leader_election_lease_duration,
            renew_deadline: self.leader_election_renew_deadline,
            retry_period: self.leader_election_retry_period,
        }
    }
}

fn instance(text: &str) -> Result<String, String> {
    windlass_engine::repository::instance(text).map(Option::unwrap_or_default)
}

fn time(text: &str) -> Result<Duration, &'static str> {
    windlass_schedule::retention::duration(text).ok_or("a time is a number with a unit: 15s, 1m30s")
}

/// `controller`
#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    pub(crate) settings: ControllerSettings,
    #[command(flatten)]
    pub(crate) election: ElectionArgs,
    /// Address of /metrics: the metrics of workflows, for Prometheus [default: none]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<std::net::SocketAddr>,
}

/// `install`
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) settings: ControllerSettings,
    /// A namespace in which workflows run: what their executor needs there (repeatable) [default: --managed-namespace, or
    /// the controller's]
    #[arg(long, value_name = "NS")]
    pub(crate) workflow_namespace: Vec<String>,
    /// A ServiceAccount of the workflow namespaces as which signed webhooks may act: the controller may read the Secret
    /// argo-workflows-webhook-clients there and make tokens of these accounts, of no others (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) webhook_account: Vec<String>,
    /// A Secret of the controller's namespace that `persistence.postgresql` names: the controller may read it, and no other one
    /// (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) database_secret: Vec<String>,
    /// How many controllers there are: one works, the others stand by
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) replicas: u32,
    /// Without the controller itself, which then runs elsewhere with --kubeconfig
    #[arg(long)]
    pub(crate) no_controller: bool,
    /// Only what the executor needs in the workflow namespaces
    #[arg(long)]
    pub(crate) only_namespaces: bool,
}
