//! `windlass stop` and `windlass terminate`: both set `spec.shutdown`; the engine does the rest.

use std::process::ExitCode;

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cli::{NamesArgs, StopArgs};
use crate::connect::{Connection, connect};
use crate::objects;
use crate::start::Session;

pub(super) async fn stop(session: &Session, args: StopArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        set(&connection, &name, "Stop", args.message.as_deref()).await?;
        println!("workflow {name} stopped");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn terminate(session: &Session, args: NamesArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        set(&connection, &name, "Terminate", None).await?;
        println!("workflow {name} terminated");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets `spec.shutdown` of a workflow that has not ended.
pub(super) async fn set(connection: &Connection, name: &str, strategy: &str, message: Option<&str>) -> Result<()> {
    let wf = objects::read(connection, name).await?;
    if objects::has_ended(&wf) {
        anyhow::bail!("cannot shut down workflow {name}: it has ended already");
    }
    let mut patch = json!({"spec": {"shutdown": strategy}});
    if let Some(message) = message {
        patch["metadata"] = json!({"annotations": {"windlass.dev/shutdown-message": message}});
    }
    objects::workflows(connection, false).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
