//! The words of the command line: verbs, flags, help. Only words: what a verb does is in `verb/`.

use std::path::PathBuf;

mod archive;
mod by_hand;
mod cache;
mod cluster;
mod hook;
mod image;
mod manifest;
mod on_cluster;
mod stored;
mod sync;
mod trace;
mod workflow;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use archive::*;
pub(crate) use by_hand::*;
pub(crate) use cache::*;
pub(crate) use cluster::*;
pub(crate) use hook::*;
pub(crate) use image::*;
pub(crate) use manifest::*;
pub(crate) use on_cluster::*;
pub(crate) use stored::*;
pub(crate) use sync::*;
pub(crate) use trace::*;
pub(crate) use workflow::*;

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
    #[command(flatten)]
    pub(crate) server: ArgoServerArgs,
    /// More about what happens, on stderr (repeat for more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colour: auto means on a terminal only
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
}

/// Another address for what outlives objects, by the names that `argo` has for it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArgoServerArgs {
    /// Ask for archived workflows and remembered outputs at this address instead of the API's, with the token ARGO_TOKEN: a
    /// controller's --events-listen
    #[arg(short = 's', long, global = true, env = "ARGO_SERVER", value_name = "HOST:PORT")]
    pub(crate) argo_server: Option<String>,
    /// Whether that address speaks TLS
    #[arg(
        short = 'e', long, global = true, env = "ARGO_SECURE", value_name = "BOOL", default_value_t = true,
        action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide = true
    )]
    pub(crate) secure: bool,
    /// Its certificate is not looked at
    #[arg(
        short = 'k', long, global = true, env = "ARGO_INSECURE_SKIP_VERIFY", hide = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(crate) insecure_skip_verify: bool,
    /// The path below which it is
    #[arg(short = 'b', long, global = true, env = "ARGO_BASE_HREF", value_name = "PATH", hide = true)]
    pub(crate) argo_base_href: Option<String>,
    /// It is always asked by HTTP
    #[arg(
        long, global = true, env = "ARGO_HTTP1", hide = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(crate) argo_http1: bool,
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
    /// Copy the artifacts that a workflow made into a directory
    #[command(
        after_help = "Example:\n  windlass cp @latest out\n  windlass cp my-wf out --artifact-name report --path '{artifactName}'"
    )]
    Cp(Box<CopyArgs>),
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
    /// Say why a workflow's nodes wait, were skipped, failed or ran again
    #[command(after_help = "Example:\n  windlass explain @latest\n  windlass explain my-wf deploy")]
    Explain(ExplainArgs),
    /// Show a workflow as it was at any moment of its run
    #[command(
        after_help = "Example:\n  windlass replay my-wf\n  windlass replay my-wf --at 12s\n  windlass replay my-wf --step"
    )]
    Replay(ReplayArgs),
    /// Cron workflows: list, get, create, lint, update, suspend, resume, backfill, delete
    #[command(subcommand, after_help = "Example:\n  windlass cron create nightly.yaml\n  windlass cron list")]
    Cron(CronVerb),
    /// Workflow templates: list, get, create, lint, update, delete
    #[command(subcommand, after_help = "Example:\n  windlass template create build.yaml")]
    Template(TemplateVerb),
    /// Cluster workflow templates: list, get, create, lint, update, delete
    #[command(subcommand, after_help = "Example:\n  windlass cluster-template list")]
    ClusterTemplate(TemplateVerb),
    /// Finished workflows that are kept: list, get, delete, retry, resubmit, and their labels
    #[command(
        subcommand,
        after_help = "Example:\n  windlass archive list -l team=red\n  windlass archive retry nightly-x7k2p\n  windlass archive list-label-values -l team"
    )]
    Archive(ArchiveVerb),
    /// The sizes of semaphores: create, get, update, delete
    #[command(
        subcommand,
        after_help = "Example:\n  windlass sync create deploys --type database --limit 2\n  windlass sync update deploys --type configmap --cm-name limits --limit 3"
    )]
    Sync(SyncVerb),
    /// Outputs that are remembered (`windlass.dev/cache`): list, clear
    #[command(subcommand, after_help = "Example:\n  windlass cache list\n  windlass cache clear --key some-key")]
    Cache(CacheVerb),
    /// Set what a suspend step waits for
    #[command(subcommand)]
    Node(NodeVerb),
    /// Delete workflows
    #[command(after_help = "Example:\n  windlass delete my-wf\n  windlass delete --completed")]
    Delete(DeleteArgs),
    /// Find what is wrong in manifests, all of it, with the place and a way out
    #[command(after_help = "Example:\n  windlass lint .ci/workflow.yaml")]
    Lint(LintArgs),
    /// Write Argo 3's spellings as Argo 4 has them; comments and order stay
    #[command(after_help = "Example:\n  windlass convert nightly.yaml\n  windlass convert manifests/ --write")]
    Convert(ConvertArgs),
    /// Run a workflow without containers against cases: what its pods do, and what the end must be
    #[command(
        after_help = "Example:\n  windlass test release.yaml\n  windlass test release.yaml release.test.yaml --only flaky"
    )]
    Test(TestArgs),
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
