//! `windlass stop` and `windlass terminate`: both set `spec.shutdown`; the engine does the rest.

use std::process::ExitCode;

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cli::{StopArgs, TerminateArgs};
use crate::connect::{Connection, connect};
use crate::objects;
use crate::start::Session;
use crate::verb::by_hand::{chosen, fail_nodes};

pub(super) async fn stop(session: &Session, args: StopArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    for name in chosen(&connection, &args.which).await? {
        if args.dry_run {
            println!("workflow {name} stopped (dry-run)");
            continue;
        }
        match args.node_field_selector.is_empty() {
            true => set(&connection, &name, "Stop", args.message.as_deref()).await?,
            false => fail_nodes(&connection, &name, &args.node_field_selector, args.message.as_deref()).await?,
        }
        println!("workflow {name} stopped");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn terminate(session: &Session, args: TerminateArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    for name in chosen(&connection, &args.which).await? {
        if args.dry_run {
            println!("workflow {name} terminated (dry-run)");
            continue;
        }
        set(&connection, &name, "Terminate", None).await?;
        println!("workflow {name} terminated");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets `spec.shutdown` of a workflow that has not ended.
pub(super) async fn set(connection: &Connection, name: &str, strategy: &str, message: Option<&str>) -> Result<()> {
    let wf = objects::read(connection, name).await?;
    if objects::has_ended(&wf) {
        anyhow::bail!(
            "cannot shutdown a completed workflow: workflow: {name:?}, namespace: {:?}",
            connection.namespace
        );
    }
    let mut patch = json!({"spec": {"shutdown": strategy}});
    if let Some(message) = message {
        patch["metadata"] = json!({"annotations": {"windlass.dev/shutdown-message": message}});
    }
    objects::workflows(connection, false).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
