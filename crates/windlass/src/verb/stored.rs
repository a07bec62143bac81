//! `windlass cron …`, `template …` and `cluster-template …`: what is stored and runs later, with the layouts of `argo`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use windlass_model::cron::CronWorkflow;
use windlass_model::{ARGO_GROUP, VERSION};

use crate::cli::{
    CronCreateArgs, CronVerb, Format, LintArgs, StoredDeleteArgs, StoredGetArgs, StoredListArgs, StoredNames,
    SubmitOptions, TemplateCreateArgs, TemplateVerb,
};
use crate::connect::{Connection, connect};
use crate::manifest::{self, Manifests};
use crate::print;
use crate::start::Session;
use crate::templates::Stored;
use crate::verb::{backfill, lint};

/// One of the kinds.
#[derive(Clone, Copy)]
struct Kind {
    kind: &'static str,
    plural: &'static str,
    /// `cron workflow`, as messages name it.
    words: &'static str,
    namespaced: bool,
}

const CRON: Kind = Kind { kind: "CronWorkflow", plural: "cronworkflows", words: "cron workflow", namespaced: true };
const TEMPLATE: Kind =
    Kind { kind: "WorkflowTemplate", plural: "workflowtemplates", words: "workflow template", namespaced: true };
const CLUSTER_TEMPLATE: Kind = Kind {
    kind: "ClusterWorkflowTemplate",
    plural: "clusterworkflowtemplates",
    words: "cluster workflow template",
    namespaced: false,
};

impl Kind {
    fn api(self, c: &Connection, all: bool) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(ARGO_GROUP, VERSION, self.kind), self.plural);
        match self.namespaced && !all {
            true => Api::namespaced_with(c.client.clone(), &c.namespace, &resource),
            false => Api::all_with(c.client.clone(), &resource),
        }
    }

    async fn read(self, c: &Connection, name: &str) -> Result<DynamicObject> {
        match self.api(c, false).get_opt(name).await? {
            Some(object) => Ok(object),
            None => bail!("{}.{ARGO_GROUP} \"{name}\" not found", self.plural),
        }
    }

    fn show(self, object: &DynamicObject, output: Option<Format>) -> Result<()> {
        let now = Timestamp::now();
        match output {
            Some(Format::Json) => println!("{}", serde_json::to_string_pretty(object)?),
            Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(object)?)?),
            Some(Format::Name) => println!("{}", object.name_any()),
            _ if self.kind == CRON.kind => print!("{}", print::cron::draw(&cron(object)?, now)),
            _ => {
                println!("{:<20} {}", "Name:", object.name_any());
                println!("{:<20} {}", "Namespace:", object.namespace().unwrap_or_default());
                if let Some(at) = &object.metadata.creation_timestamp {
                    println!("{:<20} {}", "Created:", print::time::stamp(at.0, now));
                }
            }
        }
        Ok(())
    }
}

fn cron(object: &DynamicObject) -> Result<CronWorkflow> {
    serde_json::from_value(serde_json::to_value(object)?).context("this is not a CronWorkflow that Windlass can read")
}

/// A cron workflow as the API has it.
pub(super) async fn read_cron(c: &Connection, name: &str) -> Result<Value> {
    Ok(serde_json::to_value(CRON.read(c, name).await?)?)
}

pub(super) async fn run_cron(session: &Session, verb: CronVerb) -> Result<ExitCode> {
    match verb {
        CronVerb::List(args) => list(session, CRON, args).await,
        CronVerb::Get(args) => get(session, CRON, args).await,
        CronVerb::Create(args) => create_cron(session, args).await,
        CronVerb::Suspend(args) => set_suspend(session, args, true).await,
        CronVerb::Resume(args) => set_suspend(session, args, false).await,
        CronVerb::Lint(args) => lint_kind(session, CRON, args).await,
        CronVerb::Update(args) => update(session, CRON, args).await,
        CronVerb::Backfill(args) => backfill::run(session, args).await,
        CronVerb::Delete(args) => delete(session, CRON, args).await,
    }
}

pub(super) async fn run_template(session: &Session, cluster: bool, verb: TemplateVerb) -> Result<ExitCode> {
    let kind = if cluster { CLUSTER_TEMPLATE } else { TEMPLATE };
    match verb {
        TemplateVerb::List(args) => list(session, kind, args).await,
        TemplateVerb::Get(args) => get(session, kind, args).await,
        TemplateVerb::Create(args) => create_templates(session, kind, args).await,
        TemplateVerb::Lint(args) => lint_kind(session, kind, args).await,
        TemplateVerb::Update(args) => update(session, kind, args).await,
        TemplateVerb::Delete(args) => delete(session, kind, args).await,
    }
}

async fn list(session: &Session, kind: Kind, args: StoredListArgs) -> Result<ExitCode> {
    let c = connect(&session.global).await?;
    let params = ListParams { label_selector: args.selector, ..ListParams::default() };
    let items = kind.api(&c, args.all_namespaces).list(&params).await?.items;
    let namespaces = args.all_namespaces && kind.namespaced;
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&items)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&items)?)?),
        Some(Format::Name) => items.iter().for_each(|o| println!("{}", o.name_any())),
        _ if items.is_empty() => println!("No {}s found", kind.words),
        _ if kind.kind == CRON.kind => {
            let all = items.iter().map(cron).collect::<Result<Vec<_>>>()?;
            print!("{}", print::cron::table(&all, namespaces, Timestamp::now()));
        }
        _ => {
            let row = |ns: String, name: String| if namespaces { vec![ns, name] } else { vec![name] };
            let mut rows = vec![row("NAMESPACE".to_owned(), "NAME".to_owned())];
            rows.extend(items.iter().map(|o| row(o.namespace().unwrap_or_default(), o.name_any())));
            print!("{}", print::columns(&rows));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(session: &Session, kind: Kind, args: StoredGetArgs) -> Result<ExitCode> {
    let c = connect(&session.global).await?;
    for name in &args.names {
        kind.show(&kind.read(&c, name).await?, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn set_suspend(session: &Session, args: StoredNames, suspend: bool) -> Result<ExitCode> {
    let c = connect(&session.global).await?;
    let patch = json!({"spec": {"suspend": suspend}});
    for name in &args.names {
        CRON.read(&c, name).await?;
        CRON.api(&c, false).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        println!("CronWorkflow '{name}' {}", if suspend { "suspended" } else { "resumed" });
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(session: &Session, kind: Kind, args: StoredDeleteArgs) -> Result<ExitCode> {
    let c = connect(&session.global).await?;
    let mut names = args.names;
    if args.all {
        names = kind
            .api(&c, false)
            .list_metadata(&ListParams::default())
            .await?
            .items
            .iter()
            .map(|o| o.name_any())
            .collect();
    } else if names.is_empty() {
        bail!("name what to delete, or say --all");
    }
    for name in names {
        kind.read(&c, &name).await?;
        kind.api(&c, false).delete(&name, &DeleteParams::background()).await?;
        println!("{} '{name}' deleted", kind.kind);
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_templates(session: &Session, kind: Kind, args: TemplateCreateArgs) -> Result<ExitCode> {
    create(session, kind, &args.files, args.output, |_| Ok(())).await
}

async fn lint_kind(session: &Session, kind: Kind, args: LintArgs) -> Result<ExitCode> {
    lint::run(session, LintArgs { kinds: vec![kind.kind.to_owned()], ..args }).await
}

/// Gives stored objects what their files say: the whole spec, and labels and annotations beside those they have.
async fn update(session: &Session, kind: Kind, args: TemplateCreateArgs) -> Result<ExitCode> {
    let manifests = Manifests::read(&args.files)?;
    if lint::refuse_faulty(session, &manifests, &Stored::called_by(&manifests, &session.global).await?)? {
        return Ok(ExitCode::from(1));
    }
    let mut c = connect(&session.global).await?;
    for document in &manifests.documents {
        let object = &document.value;
        if object["kind"] != kind.kind {
            bail!("this updates objects of kind {}, and this is a {}", kind.kind, object["kind"]);
        }
        let Some(name) = object["metadata"]["name"].as_str() else { bail!("a {} without a name", kind.kind) };
        if let (None, Some(ns)) = (&session.global.namespace, object["metadata"]["namespace"].as_str()) {
            ns.clone_into(&mut c.namespace);
        }
        let before = serde_json::to_value(kind.read(&c, name).await?)?;
        // A merge cannot take away what the file has not any more: it is named.
        let meta = json!({
            "labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"],
            "resourceVersion": before["metadata"]["resourceVersion"],
        });
        let mut patch = json!({"metadata": meta});
        for field in ["labels", "annotations"] {
            if patch["metadata"][field].is_null() {
                patch["metadata"].as_object_mut().and_then(|m| m.remove(field));
            }
        }
        patch["spec"] = replaced(&before["spec"], &object["spec"]);
        let after = kind.api(&c, false).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        kind.show(&after, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A merge patch that makes `before` to `after`, at every depth.
fn replaced(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch: serde_json::Map<String, Value> = new
        .iter()
        .map(|(key, value)| (key.clone(), old.get(key).map_or(value.clone(), |o| replaced(o, value))))
        .collect();
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

async fn create_cron(session: &Session, args: CronCreateArgs) -> Result<ExitCode> {
    let CronCreateArgs { files, name, schedule, parameters, instanceid, output } = args;
    let options = SubmitOptions { parameters, ..SubmitOptions::default() };
    create(session, CRON, &files, output, |object| {
        if let Some(name) = &name {
            object["metadata"]["name"] = json!(name);
        }
        if let Some(schedule) = &schedule {
            object["spec"]["schedules"] = json!([schedule]);
            object["spec"].as_object_mut().and_then(|spec| spec.remove("schedule"));
        }
        if let Some(id) = &instanceid {
            manifest::label_instance(object, id);
        }
        // Parameters are set where a Workflow has them.
        let mut inner = json!({"metadata": {}, "spec": object["spec"]["workflowSpec"]});
        manifest::change(&mut inner, &options)?;
        object["spec"]["workflowSpec"] = inner["spec"].take();
        Ok(())
    })
    .await
}

async fn create(
    session: &Session,
    kind: Kind,
    files: &[std::path::PathBuf],
    output: Option<Format>,
    mut change: impl FnMut(&mut Value) -> Result<()>,
) -> Result<ExitCode> {
    let manifests = Manifests::read(files)?;
    if lint::refuse_faulty(session, &manifests, &Stored::called_by(&manifests, &session.global).await?)? {
        return Ok(ExitCode::from(1));
    }
    let mut c = connect(&session.global).await?;
    for document in &manifests.documents {
        let mut object = document.value.clone();
        match object["kind"].as_str() {
            Some(own) if own == kind.kind => {}
            other => bail!("this creates objects of kind {}, and this is a {}", kind.kind, other.unwrap_or("nothing")),
        }
        change(&mut object)?;
        if let (None, Some(ns)) = (&session.global.namespace, object["metadata"]["namespace"].as_str()) {
            ns.clone_into(&mut c.namespace);
        }
        let object = serde_json::from_value(object).with_context(|| format!("this {} is not an object", kind.kind))?;
        let made = kind.api(&c, false).create(&PostParams::default(), &object).await?;
        kind.show(&made, output)?;
    }
    Ok(ExitCode::SUCCESS)
}
