//! `windlass submit`: the Workflows of some files, or of a stored template, in the cluster that runs.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kube::api::PostParams;
use serde_json::{Value, json};
use windlass_model::ARGO_API_VERSION;

use crate::cli::{Format, SubmitArgs};
use crate::connect::connect;
use crate::manifest::{self, Manifests};
use crate::start::Session;
use crate::templates::Stored;
use crate::verb::{follow, lint, stored};
use crate::{objects, print};

pub(super) async fn run(session: &Session, args: SubmitArgs) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    if let Some(from) = &args.from {
        wanted.push(workflow_from(session, from).await?);
    }
    if args.files.is_empty() && args.from.is_none() {
        bail!("nothing to submit: name files, or a template with --from workflowtemplate/NAME");
    }
    let manifests = Manifests::read(&args.files)?;
    if lint::refuse_faulty(session, &manifests, &Stored::called_by(&manifests, &session.global).await?)? {
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
    if args.dry_run {
        for mut workflow in wanted {
            change(&mut workflow, &args)?;
            print_only(&workflow, args.follow.output)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut connection = connect(&session.global).await?;
    let params = PostParams { dry_run: args.server_dry_run, ..PostParams::default() };
    let mut names = Vec::new();
    for mut workflow in wanted {
        change(&mut workflow, &args)?;
        if let (None, Some(ns)) = (&session.global.namespace, workflow["metadata"]["namespace"].as_str()) {
            ns.clone_into(&mut connection.namespace);
        }
        let object = serde_json::from_value(workflow).context("this Workflow is not an object")?;
        let created = objects::workflows(&connection, false).create(&params, &object).await?;
        if args.server_dry_run {
            print_only(&serde_json::to_value(created)?, args.follow.output)?;
            continue;
        }
        let name = follow::show(session, &connection, &args.follow, created).await?;
        names.push((connection.clone(), name));
    }
    follow::until_ended(session, &args.follow, &names).await
}

/// What the flags say of a workflow.
fn change(workflow: &mut Value, args: &SubmitArgs) -> Result<()> {
    manifest::change(workflow, &args.options)?;
    if let Some(priority) = args.priority {
        workflow["spec"]["priority"] = json!(priority);
    }
    if let Some(time) = &args.scheduled_time {
        time.parse::<jiff::Timestamp>().with_context(|| format!("--scheduled-time {time} is no RFC 3339 time"))?;
        if !workflow["metadata"]["annotations"].is_object() {
            workflow["metadata"]["annotations"] = json!({});
        }
        workflow["metadata"]["annotations"]["workflows.argoproj.io/scheduled-time"] = json!(time);
    }
    Ok(())
}

fn print_only(workflow: &Value, output: Option<Format>) -> Result<()> {
    let meta = &workflow["metadata"];
    match output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(workflow)?),
        Some(Format::Name) => {
            println!("{}", meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or_default());
        }
        _ => print!("{}", print::yaml(workflow)?),
    }
    Ok(())
}

/// The Workflow that `--from KIND/NAME` means.
async fn workflow_from(session: &Session, from: &str) -> Result<Value> {
    let Some((kind, name)) = from.split_once('/') else {
        bail!("--from {from}: write cronwf/NAME, workflowtemplate/NAME or clusterworkflowtemplate/NAME");
    };
    let cluster = match kind.to_lowercase().as_str() {
        "cronwf" | "cronworkflow" | "cronworkflows" | "cwf" => {
            let connection = connect(&session.global).await?;
            let cron = stored::read_cron(&connection, name).await?;
            let mut workflow = windlass_schedule::cron::workflow(&cron, jiff::Timestamp::now());
            // By hand it may run more than once in a second.
            workflow["metadata"]["name"].take();
            workflow["metadata"]["generateName"] = json!(format!("{name}-"));
            return Ok(workflow);
        }
        "workflowtemplate" | "workflowtemplates" | "wftmpl" => false,
        "clusterworkflowtemplate" | "clusterworkflowtemplates" | "cwft" | "clusterwftmpl" => true,
        other => bail!("--from {other}/…: known are cronwf, workflowtemplate and clusterworkflowtemplate"),
    };
    let mut reference = json!({"name": name});
    let mut labels = json!({windlass_model::labels::WORKFLOW_TEMPLATE: name});
    if cluster {
        reference["clusterScope"] = json!(true);
        labels = json!({windlass_model::labels::CLUSTER_WORKFLOW_TEMPLATE: name});
    }
    Ok(json!({
        "apiVersion": ARGO_API_VERSION, "kind": "Workflow",
        "metadata": {"generateName": format!("{name}-"), "labels": labels},
        "spec": {"workflowTemplateRef": reference},
    }))
}
