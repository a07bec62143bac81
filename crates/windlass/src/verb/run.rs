//! `windlass run FILE…`: all other objects first, then the one Workflow, shown until it has ended. It uses the `up` of
//! its home where one runs, another cluster where one is named, and else starts the whole embedded cluster in its own
//! process, under the home's lock. Ctrl-C ends the containers and says so.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::Value;
use windlass_model::{Workflow, labels};

use crate::cli::{ClusterArgs, Format, RunArgs};
use crate::cluster::{Cluster, Listen};
use crate::connect::{Connection, connect};
use crate::home::{Home, Lock};
use crate::manifest::{self, Manifests};
use crate::start::Session;
use crate::templates::Stored;
use crate::verb::{lint, logs, shutdown, wait, watch};
use crate::{objects, print};

pub(super) async fn run(session: Session, args: RunArgs) -> Result<ExitCode> {
    let manifests = Manifests::read(&args.files)?;
    // A cluster that runs elsewhere may have what the files do not.
    let stored = match &session.host {
        None => Stored::called_by(&manifests, &session.global).await?,
        Some(_) => Stored::default(),
    };
    if lint::refuse_faulty(&session, &manifests, &stored)? {
        return Ok(ExitCode::from(1));
    }
    let (workflow, others) = split(&manifests)?;
    let mut workflow = workflow.clone();
    manifest::change(&mut workflow, &args.options)?;
    // Also where SIGINT was ignored when this program was begun, as in a script's background.
    let mut interrupted: Interruption = Box::pin(interruption()?);

    let Some(host) = session.host.clone() else {
        tell_without_effect(&args.cluster);
        let connection = connect(&session.global).await?;
        return run_in(&session, &args, connection, workflow, &others, interrupted).await;
    };
    let home = Home::find(session.global.home.as_deref())?;
    let lock = tokio::select! {
        lock = turn(&home) => lock?,
        () = &mut interrupted => {
            eprintln!("interrupted: nothing was started");
            return Ok(ExitCode::from(130));
        }
    };
    let Some(lock) = lock else {
        // An `up` has started meanwhile.
        let connection = connect(&session.global).await?;
        return run_in(&session, &args, connection, workflow, &others, interrupted).await;
    };
    let cluster = Cluster::start(host, home, lock, &args.cluster, Listen::private()).await?;
    let namespace = session.global.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let connection = Connection { client: cluster.client(), namespace, server: None };
    let outcome = run_in(&session, &args, connection, workflow, &others, interrupted).await;
    cluster.stop().await;
    outcome
}

/// Flags of a cluster that runs already are its own: silence would be a lie.
fn tell_without_effect(flags: &ClusterArgs) {
    let given = [
        ("--allow", !flags.allow.is_empty()),
        ("--allow-path", !flags.allow_path.is_empty()),
        ("--node-name", flags.node_name.is_some()),
        ("--node-label", !flags.node_label.is_empty()),
    ];
    for (flag, _) in given.iter().filter(|(_, given)| *given) {
        eprintln!("note: {flag} has no effect here: the cluster runs already; give it to its `windlass up`");
    }
}

/// Ends with the first SIGINT or SIGTERM.
type Interruption = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The home for this process, once no other `run` has it; nothing where an `up` does.
async fn turn(home: &Home) -> Result<Option<Lock>> {
    let mut told = false;
    loop {
        if let Some(lock) = home.try_lock()? {
            return Ok(Some(lock));
        }
        if home.up().is_some() {
            return Ok(None);
        }
        if let (false, Some(other)) = (told, home.ports()) {
            told = true;
            eprintln!(
                "waiting: another `windlass run` (process {}) has {}\n  at the same time: start `windlass up` first, or \
                 give each its own --home DIR",
                other.pid,
                home.root().display()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The one Workflow, and everything else in the order it was written.
fn split(manifests: &Manifests) -> Result<(&Value, Vec<&Value>)> {
    let (workflows, others): (Vec<&Value>, Vec<&Value>) =
        manifests.documents.iter().map(|d| &d.value).partition(|v| v["kind"] == "Workflow");
    match workflows.as_slice() {
        [one] => Ok((one, others)),
        [] => bail!("no Workflow in these files: `run` takes any objects and the one Workflow to run"),
        several => bail!("{} Workflows in these files, and `run` runs one: use `windlass submit`", several.len()),
    }
}

async fn run_in(
    session: &Session,
    args: &RunArgs,
    mut connection: Connection,
    workflow: Value,
    others: &[&Value],
    mut interrupted: Interruption,
) -> Result<ExitCode> {
    if let (None, Some(ns)) = (&session.global.namespace, workflow["metadata"]["namespace"].as_str()) {
        ns.clone_into(&mut connection.namespace);
    }
    let object = serde_json::from_value(workflow).context("this Workflow is not an object")?;
    let begin = async {
        let mut kinds = objects::Kinds::default();
        for object in others {
            let (word, done) =
                objects::apply(&connection.client, &connection.namespace, &mut kinds, (*object).clone()).await?;
            if args.output.is_none() {
                eprintln!("{} {} {word}", object["kind"].as_str().unwrap_or_default(), done.name_any());
            }
        }
        anyhow::Ok(objects::workflows(&connection, false).create(&PostParams::default(), &object).await?)
    };
    let created = tokio::select! {
        created = begin => created?,
        () = &mut interrupted => {
            eprintln!("interrupted while the objects were created: `windlass list` shows whether the workflow was");
            return Ok(ExitCode::from(130));
        }
    };
    let name = created.name_any();
    let Some(ended) = until_end_or_interrupt(session, args, &connection, &name, interrupted).await? else {
        return Ok(ExitCode::from(130));
    };
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&ended)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&ended)?)?),
        Some(Format::Name) => println!("{name}"),
        _ => {}
    }
    Ok(if objects::succeeded(&ended) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The ended workflow, or nothing when the user interrupted it.
async fn until_end_or_interrupt(
    session: &Session,
    args: &RunArgs,
    connection: &Connection,
    name: &str,
    first: Interruption,
) -> Result<Option<Workflow>> {
    let quiet = args.output.is_some();
    let mut notes = wait::Notes::default();
    let showing = async {
        if args.log {
            let tail = logs::stream(connection.clone(), name.to_owned(), logs::Wanted::live(), session.look);
            let ended = wait::until_ended(connection, name, |wf| notes.tell(wf)).await?;
            tail.finish().await;
            if !quiet {
                print!("{}", print::workflow::draw(&ended, session.look, jiff::Timestamp::now()));
                logs::print_failures(connection, &ended, session.look).await;
            }
            Ok(ended)
        } else if quiet {
            wait::until_ended(connection, name, |wf| notes.tell(wf)).await
        } else {
            watch::follow(connection, name, session.look).await
        }
    };
    tokio::select! {
        ended = showing => return ended.map(Some),
        () = first => {}
    }
    eprintln!("\ninterrupted: ending the containers of workflow {name}");
    shutdown::set(connection, name, "Terminate", Some("interrupted")).await?;
    let end = wait::until_ended(connection, name, |_| {});
    tokio::select! {
        ended = end => {
            let phase = ended?.status.map(|s| s.phase.to_string()).unwrap_or_default();
            end_pods(connection, name).await?;
            eprintln!("workflow {name} was terminated: {phase}");
        }
        _ = interrupted() => eprintln!("interrupted again: leaving at once"),
    }
    Ok(None)
}

/// How long the containers of an interrupted workflow have to end by themselves.
const GRACE: Duration = Duration::from_secs(2);

/// Waits until the pods of a terminated workflow have ended; those that take long are deleted at once.
async fn end_pods(connection: &Connection, name: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let own = ListParams::default().labels(&format!("{}={name}", labels::WORKFLOW));
    let begun = Instant::now();
    loop {
        let phase = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        let mut left = pods.list(&own).await?.items;
        left.retain(|p| !matches!(phase(p).as_str(), "Succeeded" | "Failed"));
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > GRACE {
            for pod in left {
                let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                match pods.delete(&pod.name_any(), &params).await {
                    Err(kube::Error::Api(s)) if s.code == 404 => {}
                    other => drop(other?),
                }
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// SIGINT or SIGTERM.
pub(super) async fn interrupted() -> std::io::Result<()> {
    interruption()?.await;
    Ok(())
}

/// The same, and it counts from now on, not only from when it is waited for.
pub(super) fn interruption() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
    })
}
