//! One file a verb. A verb reads its flags, talks to a cluster or starts one, and prints; what it prints is drawn in
//! `print/`.

mod archive;
mod backfill;
mod build;
mod by_hand;
mod cache;
mod completion;
mod controller;
mod convert;
mod cp;
mod delete;
pub(crate) mod doctor;
mod explain;
mod follow;
mod get;
mod hook;
mod image;
mod install;
mod lint;
mod list;
mod logs;
pub(crate) mod quickstart;
mod replay;
mod run;
mod shutdown;
mod stored;
mod submit;
mod sync;
mod test;
mod up;
mod version;
mod wait;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Verb;
use crate::start::Session;

/// Runs a verb.
pub(crate) async fn run(session: Session, verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(args) => up::run(session, *args).await,
        Verb::Run(args) => run::run(session, *args).await,
        Verb::Submit(args) => submit::run(&session, args).await,
        Verb::List(args) => list::run(&session, args).await,
        Verb::Get(args) => get::run(&session, args).await,
        Verb::Watch(args) => watch::run(&session, args).await,
        Verb::Logs(args) => logs::run(&session, args).await,
        Verb::Cp(args) => cp::run(&session, *args).await,
        Verb::Wait(args) => wait::run(&session, args).await,
        Verb::Stop(args) => shutdown::stop(&session, args).await,
        Verb::Terminate(args) => shutdown::terminate(&session, args).await,
        Verb::Suspend(args) => by_hand::suspend(&session, args).await,
        Verb::Resume(args) => by_hand::resume(&session, args).await,
        Verb::Retry(args) => by_hand::retry(&session, *args).await,
        Verb::Resubmit(args) => by_hand::resubmit(&session, *args).await,
        Verb::Cron(verb) => stored::run_cron(&session, verb).await,
        Verb::Template(verb) => stored::run_template(&session, false, verb).await,
        Verb::ClusterTemplate(verb) => stored::run_template(&session, true, verb).await,
        Verb::Archive(verb) => archive::run(&session, verb).await,
        Verb::Sync(verb) => sync::run(&session, verb).await,
        Verb::Cache(verb) => cache::run(&session, verb).await,
        Verb::Node(verb) => by_hand::node(&session, verb).await,
        Verb::Delete(args) => delete::run(&session, args).await,
        Verb::Lint(args) => lint::run(&session, args).await,
        Verb::Convert(args) => convert::run(&session, &args),
        Verb::Explain(args) => explain::run(&session, args).await,
        Verb::Replay(args) => replay::run(&session, args).await,
        Verb::Test(args) => test::run(&session, &args),
        Verb::Build(args) => build::run(session, *args).await,
        Verb::Image(verb) => image::run(&session, verb).await,
        Verb::Hook(verb) => hook::run(&session, verb).await,
        Verb::Controller(args) => controller::run(&session, *args).await,
        Verb::Install(args) => install::run(&args),
        Verb::Doctor(_) => unreachable!("doctor answers before there is a runtime"),
        Verb::Quickstart(args) => quickstart::run(session, args).await,
        Verb::Completion { shell } => completion::run(shell),
        Verb::Version(args) => version::run(args),
    }
}
