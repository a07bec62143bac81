//! `windlass submit`: the Workflows of some files, or of a stored template, in the cluster that runs.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};
use windlass_model::ARGO_API_VERSION;

use crate::cli::{Format, SubmitArgs};
use crate::connect::connect;
use crate::manifest::{self, Manifests};
use crate::start::Session;
use crate::verb::{lint, logs, wait, watch};
use crate::{objects, print};

pub(super) async fn run(session: &Session, args: SubmitArgs) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    if let Some(from) = &args.from {
        wanted.push(workflow_from(from)?);
    }
    if args.files.is_empty() && args.from.is_none() {
        bail!("nothing to submit: name files, or a template with --from workflowtemplate/NAME");
    }
    let manifests = Manifests::read(&args.files)?;
    if lint::refuse_faulty(session, &manifests)? {
        return Ok(ExitCode::from(1));
    }
    for document in &manifests.documents {
        match document.value["kind"].as_str() {
            Some("Workflow") => wanted.push(document.value.clone()),
            Some(kind) => bail!("submit creates Workflows, and this is a {kind}: `windlass run` takes all objects"),
            None => bail!("an object without a kind"),
        }
    }
    if wanted.is_empty() {
        bail!("no Workflow in these files");
    }
    let mut connection = connect(&session.global).await?;
    let mut names = Vec::new();
    for mut workflow in wanted {
        manifest::change(&mut workflow, &args.options)?;
        if let (None, Some(ns)) = (&session.global.namespace, workflow["metadata"]["namespace"].as_str()) {
            ns.clone_into(&mut connection.namespace);
        }
        let object = serde_json::from_value(workflow).context("this Workflow is not an object")?;
        let created = objects::workflows(&connection, false).create(&PostParams::default(), &object).await?;
        let name = created.name_any();
        match args.output {
            Some(Format::Name) => println!("{name}"),
            Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&created)?),
            Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&created)?)?),
            _ if args.watch || args.log => {}
            _ => {
                let wf = objects::typed(created)?;
                print!("{}", print::workflow::draw(&wf, session.look, jiff::Timestamp::now()));
            }
        }
        names.push((connection.clone(), name));
    }
    let mut all_well = true;
    for (connection, name) in &names {
        let mut notes = wait::Notes::default();
        let ended = if args.watch {
            watch::follow(connection, name, session.look).await?
        } else if args.log {
            let tail = logs::stream(connection.clone(), name.clone(), logs::Wanted::live(), session.look);
            let ended = wait::until_ended(connection, name, |wf| notes.tell(wf)).await?;
            tail.finish().await;
            ended
        } else if args.wait {
            let ended = wait::until_ended(connection, name, |wf| notes.tell(wf)).await?;
            logs::print_failures(connection, &ended, session.look).await;
            ended
        } else {
            continue;
        };
        all_well &= objects::succeeded(&ended);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The Workflow that `--from KIND/NAME` means.
fn workflow_from(from: &str) -> Result<Value> {
    let Some((kind, name)) = from.split_once('/') else {
        bail!("--from {from}: write workflowtemplate/NAME or clusterworkflowtemplate/NAME");
    };
    let cluster = match kind.to_lowercase().as_str() {
        "workflowtemplate" | "wftmpl" => false,
        "clusterworkflowtemplate" | "cwft" => true,
        other => bail!("--from {other}/…: only workflowtemplate and clusterworkflowtemplate are known"),
    };
    let mut reference = json!({"name": name});
    if cluster {
        reference["clusterScope"] = json!(true);
    }
    Ok(json!({
        "apiVersion": ARGO_API_VERSION, "kind": "Workflow",
        "metadata": {"generateName": format!("{name}-")},
        "spec": {"workflowTemplateRef": reference},
    }))
}
