//! `windlass wait`, and the waiting that other verbs do: one watch on one workflow until it has ended.

use std::process::ExitCode;

use anyhow::{Result, bail};
use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use windlass_model::Workflow;

use crate::cli::NamesArgs;
use crate::connect::{Connection, connect};
use crate::objects;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: NamesArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let mut all_well = true;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        let wf = until_ended(&connection, &name, |_| {}).await?;
        let phase = wf.status.as_ref().map(|s| s.phase.to_string()).unwrap_or_default();
        println!("{name} {phase}");
        all_well &= objects::succeeded(&wf);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Follows one workflow: `each` sees every state, the last one is the answer.
pub(super) async fn until_ended(connection: &Connection, name: &str, mut each: impl FnMut(&Workflow)) -> Result<Workflow> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher::watcher(objects::workflows(connection, false), config).boxed();
    let mut seen = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                seen = true;
                let wf = objects::typed(object)?;
                each(&wf);
                if objects::has_ended(&wf) {
                    return Ok(wf);
                }
            }
            Ok(Event::Delete(_)) => bail!("workflow {name} was deleted before it had ended"),
            Ok(Event::InitDone) if !seen => bail!("workflow {name} is not there (any more)"),
            Ok(_) => {}
            Err(watcher::Error::InitialListFailed(e)) => return Err(e.into()),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(300)).await,
        }
    }
    bail!("the API ended the watch of workflow {name}")
}
