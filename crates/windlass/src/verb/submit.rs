//! `windlass submit`: the Workflows of some files, or of a stored template, in the cluster that runs.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kube::api::PostParams;
use serde_json::{Value, json};
use windlass_model::ARGO_API_VERSION;

use crate::cli::SubmitArgs;
use crate::connect::connect;
use crate::manifest::{self, Manifests};
use crate::objects;
use crate::start::Session;
use crate::verb::{follow, lint};

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
        let name = follow::show(session, &args.follow, created)?;
        names.push((connection.clone(), name));
    }
    follow::until_ended(session, &args.follow, &names).await
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
