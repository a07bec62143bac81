//! `windlass wait`, and the waiting that other verbs do: one watch on one workflow until it has ended.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use windlass_model::{NodePhase, NodeType, Workflow};

use crate::cli::NamesArgs;
use crate::connect::{Connection, connect};
use crate::objects;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: NamesArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let mut all_well = true;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        if args.ignore_not_found && objects::workflows(&connection, false).get_metadata_opt(&name).await?.is_none() {
            println!("{name} not found. Ignoring...");
            continue;
        }
        let mut notes = Notes::default();
        let wf = until_ended(&connection, &name, |wf| notes.tell(wf)).await?;
        let phase = wf.status.as_ref().map(|s| s.phase.to_string()).unwrap_or_default();
        println!("{name} {phase}");
        all_well &= objects::succeeded(&wf);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Follows one workflow: `each` sees every state, the last one is the answer.
pub(super) async fn until_ended(
    connection: &Connection,
    name: &str,
    mut each: impl FnMut(&Workflow),
) -> Result<Workflow> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher::watcher(objects::shown(connection), config).boxed();
    let mut seen = false;
    let mut silence = Silence::default();
    while let Some(event) = events.next().await {
        if event.is_ok() {
            silence.end();
        }
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                seen = true;
                let wf = objects::complete(connection, objects::typed_text(&object)?).await?;
                each(&wf);
                if objects::has_ended(&wf) {
                    return Ok(wf);
                }
            }
            Ok(Event::Delete(_)) => bail!("workflow {name} was deleted before it had ended"),
            Ok(Event::InitDone) if !seen => bail!("workflow {name} is not there (any more)"),
            Ok(_) => {}
            Err(watcher::Error::InitialListFailed(e)) if !seen => return Err(e.into()),
            Err(error) => silence.goes_on(name, &error).await?,
        }
    }
    bail!("the API ended the watch of workflow {name}")
}

/// An API that does not answer any more: told once, and given up after a while.
#[derive(Default)]
struct Silence {
    since: Option<Instant>,
    told: bool,
}

impl Silence {
    fn end(&mut self) {
        *self = Self::default();
    }

    async fn goes_on(&mut self, name: &str, error: &watcher::Error) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > SILENCE_MAX {
            bail!(
                "the API has not answered for {} s ({}): workflow {name} goes on where its cluster does, at the latest \
                 with the next `windlass up`",
                SILENCE_MAX.as_secs(),
                innermost(error)
            );
        }
        // A watch ends now and then; only what stays away is worth a word.
        if !self.told && since.elapsed() > SILENCE_TOLD {
            self.told = true;
            eprintln!("the API does not answer ({}); trying again for {} s", innermost(error), SILENCE_MAX.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }
}

/// When an API that does not answer is told.
const SILENCE_TOLD: Duration = Duration::from_secs(1);
/// When it is given up: longer than an `up` takes to start again.
const SILENCE_MAX: Duration = Duration::from_secs(20);

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// Says on stderr what a step waits for, once for each reason: nothing waits in silence.
#[derive(Default)]
pub(super) struct Notes {
    told: HashMap<String, String>,
}

impl Notes {
    /// Tells what is new in this state of the workflow.
    pub(super) fn tell(&mut self, wf: &Workflow) {
        let Some(status) = &wf.status else { return };
        let waiting = |n: &&windlass_model::NodeStatus| n.type_ == NodeType::Pod && n.phase == NodePhase::Pending;
        for node in status.nodes.values().filter(waiting) {
            // A reason alone is a state on the way; one with a message is a thing that is missing.
            let Some(message) = node.message.as_ref().filter(|m| m.contains(": ")) else { continue };
            if self.told.get(&node.id) == Some(message) {
                continue;
            }
            // The kubelet alternates between these two for one and the same cause.
            let again = message.starts_with("ImagePullBackOff") && self.told.contains_key(&node.id);
            self.told.insert(node.id.clone(), message.clone());
            if again {
                continue;
            }
            eprintln!("{} waits: {message}", node.display_name);
            if message.starts_with("ErrImage") || message.starts_with("ImagePull") {
                eprintln!(
                    "  to have the image without a registry: `windlass image import` or `windlass image from-host`"
                );
            }
        }
    }
}
