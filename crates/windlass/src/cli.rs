//! The words of the command line: verbs, flags, help. Only words: what a verb does is in `verb/`.

use std::path::PathBuf;

mod by_hand;
mod on_cluster;
mod stored;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use by_hand::*;
pub(crate) use on_cluster::*;
pub(crate) use stored::*;

/// `git push` to the new version running, with the YAML you already have.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Start here:\n  windlass quickstart        the whole story in a temporary folder, in half a minute\n  windlass doctor            what this machine allows, and what that means\n  windlass run hello.yaml    run one workflow, nothing else needed"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where this Windlass keeps everything [default: $XDG_DATA_HOME/windlass]
    #[arg(long, global = true, env = "WINDLASS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Talk to the cluster of this kubeconfig instead of the `up` of --home
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Talk to the cluster of this context
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace [default: default]
    #[arg(short, long, global = true, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// More about what happens, on stderr (repeat for more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colour: auto means on a terminal only
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people, with more columns.
    Wide,
    /// For people, shorter.
    Short,
    /// Names only.
    Name,
    /// For programs.
    Json,
    /// For people who edit.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the embedded cluster: API, node agent, registry, webhooks
    #[command(
        after_help = "Example:\n  windlass up --allow-path ~/src\n  kubectl --kubeconfig \"$(windlass up --print-kubeconfig)\" get pods -A"
    )]
    Up(Box<UpArgs>),
    /// Run the objects of some files: all others first, then the one Workflow, shown live
    #[command(after_help = "Example:\n  windlass run hello-world.yaml -p message=hi --log")]
    Run(Box<RunArgs>),
    /// Create the Workflows of some files in the running Windlass
    #[command(after_help = "Example:\n  windlass submit ci.yaml -p revision=main --wait")]
    Submit(SubmitArgs),
    /// List workflows
    #[command(after_help = "Example:\n  windlass list --running -o name")]
    List(ListArgs),
    /// Show a workflow (`@latest` is the newest), or a delivery
    #[command(after_help = "Example:\n  windlass get @latest\n  windlass get delivery")]
    Get(GetArgs),
    /// Follow a workflow until it ends
    #[command(after_help = "Example:\n  windlass watch @latest")]
    Watch(NameArgs),
    /// Print the logs of a workflow's pods
    #[command(
        after_help = "Example:\n  windlass logs @latest -f\n  windlass logs my-wf my-wf-build-123 -c main --tail 20"
    )]
    Logs(LogsArgs),
    /// Wait until workflows have ended; exit 1 when one did not succeed
    #[command(after_help = "Example:\n  windlass wait @latest")]
    Wait(NamesArgs),
    /// Stop workflows: running steps end, exit handlers still run
    #[command(after_help = "Example:\n  windlass stop my-wf --message 'wrong branch'")]
    Stop(StopArgs),
    /// Terminate workflows: everything ends at once
    #[command(after_help = "Example:\n  windlass terminate my-wf")]
    Terminate(TerminateArgs),
    /// Keep workflows from beginning anything new; what runs goes on
    #[command(after_help = "Example:\n  windlass suspend my-wf")]
    Suspend(SuspendArgs),
    /// Let suspended workflows, or suspend steps of them, go on
    #[command(after_help = "Example:\n  windlass resume my-wf --node-field-selector displayName=approve")]
    Resume(ResumeArgs),
    /// Run the failed steps of workflows again; what succeeded stays
    #[command(
        after_help = "Example:\n  windlass retry my-wf\n  windlass retry my-wf --restart-successful --node-field-selector displayName=build"
    )]
    Retry(Box<RetryArgs>),
    /// Run workflows once more from the start, as new ones
    #[command(
        after_help = "Example:\n  windlass resubmit my-wf -p revision=main\n  windlass resubmit my-wf --memoized"
    )]
    Resubmit(Box<ResubmitArgs>),
    /// Cron workflows: list, get, create, suspend, resume, delete
    #[command(subcommand, after_help = "Example:\n  windlass cron create nightly.yaml\n  windlass cron list")]
    Cron(CronVerb),
    /// Workflow templates: list, get, create, delete
    #[command(subcommand, after_help = "Example:\n  windlass template create build.yaml")]
    Template(TemplateVerb),
    /// Cluster workflow templates: list, get, create, delete
    #[command(subcommand, after_help = "Example:\n  windlass cluster-template list")]
    ClusterTemplate(TemplateVerb),
    /// Set what a suspend step waits for
    #[command(subcommand)]
    Node(NodeVerb),
    /// Delete workflows
    #[command(after_help = "Example:\n  windlass delete my-wf\n  windlass delete --completed")]
    Delete(DeleteArgs),
    /// Find what is wrong in manifests, all of it, with the place and a way out
    #[command(after_help = "Example:\n  windlass lint .ci/workflow.yaml")]
    Lint(LintArgs),
    /// Build an image from a Dockerfile, without a daemon
    #[command(
        after_help = "Example:\n  windlass build . --destination registry.windlass.internal/app:v1 --build-arg 'VERSION=one two'"
    )]
    Build(Box<BuildArgs>),
    /// Images of this machine: list, pull, push, import, export, make
    #[command(subcommand)]
    Image(ImageVerb),
    /// Connect a git repository on this machine
    #[command(subcommand)]
    Hook(HookVerb),
    /// Run the workflows of a Kubernetes cluster
    #[command(
        after_help = "Example:\n  windlass controller --kubeconfig ~/.kube/config --image registry.example/windlass:0.1.0"
    )]
    Controller(Box<ControllerArgs>),
    /// Print what a Kubernetes cluster needs to run Windlass
    #[command(
        after_help = "Example:\n  windlass install --image registry.example/windlass:0.1.0 --workflow-namespace ci | kubectl apply --server-side -f -"
    )]
    Install(Box<InstallArgs>),
    /// What this machine allows, and what that means
    #[command(after_help = "Example:\n  windlass doctor -o json")]
    Doctor(DoctorArgs),
    /// The whole story in a temporary folder: push, test, build, deploy, push again
    #[command(after_help = "Example:\n  windlass quickstart --keep")]
    Quickstart(QuickstartArgs),
    /// Shell completions
    #[command(after_help = "Example:\n  windlass completion bash > /etc/bash_completion.d/windlass")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The version
    #[command(after_help = "Example:\n  windlass version -o json")]
    Version(OutputArgs),
}

/// `-o`
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

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

/// Parameters and the like of a workflow that is made.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SubmitOptions {
    /// Set an input parameter (repeatable)
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Parameters from a YAML file
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) parameter_file: Option<PathBuf>,
    /// Set an annotation (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Set labels, comma separated
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub(crate) labels: Option<String>,
    /// Start at this template
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) entrypoint: Option<String>,
    /// The workflow's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The beginning of the workflow's name
    #[arg(long, value_name = "PREFIX")]
    pub(crate) generate_name: Option<String>,
    /// Run the pods as this ServiceAccount
    #[arg(long, value_name = "NAME")]
    pub(crate) serviceaccount: Option<String>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Files with objects, one of them a Workflow (`-` is stdin)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) options: SubmitOptions,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Stream the logs of the steps
    #[arg(long)]
    pub(crate) log: bool,
    /// Form of the result
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `submit`
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Files with Workflows (`-` is stdin)
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Make the workflow from what is stored: cronwf/NAME, workflowtemplate/NAME or clusterworkflowtemplate/NAME
    #[arg(long, value_name = "KIND/NAME")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) options: SubmitOptions,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those that run
    #[arg(long)]
    pub(crate) running: bool,
    /// Only those that have ended
    #[arg(long)]
    pub(crate) completed: bool,
    /// Only in these phases, comma separated
    #[arg(long, value_name = "PHASE,…")]
    pub(crate) status: Option<String>,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only names with this beginning
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Only those finished longer ago than this: 7d, 3h
    #[arg(long, value_name = "DURATION")]
    pub(crate) older: Option<String>,
    /// Only those begun since: 7d, 3h
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// Without the head line
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// `get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// `NAME…`, `@latest`, `delivery` or `delivery NAME`
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Without box characters
    #[arg(long)]
    pub(crate) no_utf8: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
}

/// One name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The workflow (`@latest` is the newest)
    pub(crate) name: String,
}

/// Several names.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// The workflows (`@latest` is the newest)
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The workflows
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All of the namespace
    #[arg(long)]
    pub(crate) all: bool,
    /// All that have ended
    #[arg(long)]
    pub(crate) completed: bool,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No error when it is not there
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

/// `logs`
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The workflow (`@latest` is the newest)
    pub(crate) name: String,
    /// Only this pod
    pub(crate) pod: Option<String>,
    /// The container
    #[arg(short, long, default_value = "main")]
    pub(crate) container: String,
    /// Go on until the workflow has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines with this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) grep: Option<String>,
    /// Only the last lines of each pod
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<i64>,
    /// Only newer than this: 5m, 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// With the time of each line
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Only pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
}

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
    Pull(ImageArgs),
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

/// `image pull`
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image
    pub(crate) name: String,
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

/// `image push`
#[derive(Debug, Args)]
pub(crate) struct ImagePushArgs {
    /// The image
    pub(crate) name: String,
    /// The name to push it under
    pub(crate) to: Option<String>,
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_words_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            if verb.has_subcommands() {
                continue;
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("windlass "), "{} has no example", verb.get_name());
        }
    }

    /// Every example of the help is a command line that is understood; the verbs' flags do not clash with those of all.
    #[test]
    fn every_example_is_understood() {
        let mut verbs: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        let inner: Vec<clap::Command> = verbs.iter().flat_map(|v| v.get_subcommands().cloned()).collect();
        verbs.extend(inner);
        let mut understood = 0;
        for verb in verbs {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().map(str::trim).filter(|l| l.starts_with("windlass ")) {
                // What a shell would take away.
                let line = line.split(" | ").next().unwrap().split(" > ").next().unwrap().replace('\'', "\"");
                // Words in quotes are one.
                let word = |(at, text): (usize, &str)| match at % 2 {
                    0 => text.to_owned(),
                    _ => text.replace(' ', "_"),
                };
                let line: String = line.split('"').enumerate().map(word).collect();
                if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
                    let kind = error.kind();
                    assert!(matches!(kind, clap::error::ErrorKind::DisplayHelp), "{line}: {error}");
                }
                understood += 1;
            }
        }
        assert!(understood > 15, "only {understood} examples were found");
    }
}
