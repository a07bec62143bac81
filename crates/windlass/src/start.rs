//! From words to a verb: tracing, the hosting namespaces for verbs that run containers, the runtime, the exit code.
//!
//! Exit codes: 0 done and well; 1 the work failed or the input is wrong; 2 the command line is wrong; 130 interrupted.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use windlass_sandbox::{EnterOptions, Host};

use crate::cli::{Cli, Color, Global, Verb};
use crate::home::Home;
use crate::{print, verb};

/// What a verb needs beside its own flags.
pub(crate) struct Session {
    pub(crate) global: Global,
    /// The process that hosts containers, for verbs that start the embedded cluster in their own process.
    pub(crate) host: Option<Host>,
    /// The home that `host` was entered for.
    pub(crate) home: Option<Home>,
    pub(crate) look: print::Look,
}

/// Runs the verb and says how it went.
pub(crate) fn start(cli: Cli) -> ExitCode {
    set_up_tracing(&cli.global);
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let color = match cli.global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let look = print::Look { color, utf8: true, columns: print::Columns::Plain };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("the TLS provider was chosen twice");
    }
    // Namespaces are entered, or tried, while there is one thread: the runtime comes after.
    if let Verb::Doctor(args) = &cli.verb {
        return verb::doctor::run(&cli.global, look, args);
    }
    let (host, home) =
        if hosts_containers(&cli) { enter(&cli).map(|(h, d)| (Some(h), Some(d)))? } else { (None, None) };
    let session = Session { global: cli.global, host, home, look };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(verb::run(session, cli.verb));
    // A verb that has answered does not wait for threads that still read a pipe.
    runtime.shutdown_background();
    code
}

/// Whether this verb runs containers in its own process.
fn hosts_containers(cli: &Cli) -> bool {
    let elsewhere = || {
        cli.global.kubeconfig.is_some()
            || cli.global.context.is_some()
            || Home::find(cli.global.home.as_deref()).is_ok_and(|h| h.up().is_some())
    };
    match &cli.verb {
        Verb::Up(args) => !args.print_kubeconfig,
        Verb::Quickstart(_) | Verb::Build(_) => true,
        Verb::Run(_) => !elsewhere(),
        _ => false,
    }
}

fn enter(cli: &Cli) -> Result<(Host, Home)> {
    let home = match &cli.verb {
        Verb::Quickstart(args) => verb::quickstart::home(args)?,
        _ => Home::find(cli.global.home.as_deref())?,
    };
    home.create()?;
    let options = EnterOptions { scratch: home.scratch(), tmpfs_bytes: None, spawners: None };
    let host =
        Host::enter(options).context("containers cannot run here; `windlass doctor` says why and what would help")?;
    Ok((host, home))
}

fn set_up_tracing(global: &Global) {
    let level = match global.verbose {
        // What the client meets on its way is told by who uses it, once.
        0 => "warn,kube_client=off",
        1 => "windlass=info,windlass_control=info,windlass_node=info,windlass_server=info,windlass_apiserver=info,warn",
        2 => "debug,hyper=info,h2=info,rustls=info,hickory_resolver=info,kube_client=info,tower=info",
        _ => "trace",
    };
    let wanted = std::env::var("WINDLASS_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| level.parse().unwrap_or_default());
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    tracing_subscriber::registry().with(lines).with(filter).init();
}
