//! Workflows and their companions as this command line reads and writes them. Writes are creates and merge patches: no
//! object that was read is ever written back whole.

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde_json::Value;
use windlass_control::part::WorkflowText;
use windlass_control::tables;
use windlass_model::{ARGO_GROUP, VERSION, WINDLASS_GROUP, Workflow, WorkflowPhase};

use crate::archived;
use crate::connect::Connection;

/// Workflows of one namespace, or of all.
pub(crate) fn workflows(c: &Connection, all: bool) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(ARGO_GROUP, VERSION, "Workflow"), "workflows");
    api(c, &kind, all)
}

/// Workflows of one namespace, to be shown.
pub(crate) fn shown(c: &Connection) -> Api<WorkflowText> {
    Api::namespaced(c.client.clone(), &c.namespace)
}

/// What a watch brought, in the typed form. A run of a thousand steps changes often and is as large as its steps are many, so
/// it is parsed once, into the form that is shown.
pub(crate) fn typed_text(text: &WorkflowText) -> Result<Workflow> {
    serde_json::from_str(text.as_str()).context(UNREADABLE)
}

const UNREADABLE: &str = "this is not a Workflow that Windlass can read";

/// Deliveries of one namespace.
pub(crate) fn deliveries(c: &Connection) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(WINDLASS_GROUP, VERSION, "Delivery");
    api(c, &ApiResource::from_gvk_with_plural(&gvk, "deliveries"), false)
}

fn api(c: &Connection, kind: &ApiResource, all: bool) -> Api<DynamicObject> {
    if all { Api::all_with(c.client.clone(), kind) } else { Api::namespaced_with(c.client.clone(), &c.namespace, kind) }
}

/// The typed form of what the API answered.
pub(crate) fn typed(object: DynamicObject) -> Result<Workflow> {
    let value = serde_json::to_value(object)?;
    serde_json::from_value(value).context(UNREADABLE)
}

/// A workflow with its node table, where that lies outside of it. A table that is lost is told, and the rest is shown.
pub(crate) async fn complete(c: &Connection, mut wf: Workflow) -> Result<Workflow> {
    match tables::complete(&c.client, &mut wf).await {
        Ok(()) => {}
        Err(fault) if fault.is_transient() => return Err(fault.into()),
        Err(fault) => eprintln!("warning: workflow {}: {fault}", wf.metadata.name.as_deref().unwrap_or_default()),
    }
    Ok(wf)
}

/// `@latest` becomes the newest workflow's name.
pub(crate) async fn resolve(c: &Connection, name: &str) -> Result<String> {
    if name != "@latest" {
        return Ok(name.to_owned());
    }
    let all = workflows(c, false).list_metadata(&ListParams::default()).await?.items;
    let newest = all.into_iter().max_by_key(|w| w.metadata.creation_timestamp.as_ref().map(|t| t.0));
    let newest = newest.and_then(|w| w.metadata.name);
    newest.ok_or_else(|| anyhow!("there is no workflow in namespace {}", c.namespace))
}

/// Reads one workflow, from the archive where it is not there any more.
pub(crate) async fn read_or_archived(c: &Connection, name: &str) -> Result<Workflow> {
    if let Some(object) = workflows(c, false).get_opt(name).await? {
        return complete(c, typed(object)?).await;
    }
    match archived::newest(c, name).await {
        Ok(Some(kept)) => archived::typed(&kept),
        Err(error) if !archived::has_none(&error) => Err(error),
        _ => read(c, name).await,
    }
}

/// Reads one workflow.
pub(crate) async fn read(c: &Connection, name: &str) -> Result<Workflow> {
    match workflows(c, false).get_opt(name).await? {
        Some(object) => complete(c, typed(object)?).await,
        None => bail!(
            "workflows.argoproj.io \"{name}\" not found in namespace {}: `windlass list -A` shows all there are",
            c.namespace
        ),
    }
}

/// A workflow that `get -o json` or `-o yaml` printed, from a file.
pub(crate) fn from_file(path: &std::path::Path) -> Result<Workflow> {
    let (name, text) = crate::manifest::text_of(path)?;
    let loaded = windlass_lang::yaml::load_str(&text);
    let all: Vec<Value> = loaded.documents.into_iter().map(|d| d.value).filter(|v| v["kind"] == "Workflow").collect();
    match all.as_slice() {
        [one] => serde_json::from_value(one.clone()).with_context(|| format!("{name}: {UNREADABLE}")),
        several => bail!("{name} has {} Workflows, and one is wanted", several.len()),
    }
}

/// Whether a workflow has ended.
pub(crate) fn has_ended(wf: &Workflow) -> bool {
    wf.status
        .as_ref()
        .is_some_and(|s| matches!(s.phase, WorkflowPhase::Succeeded | WorkflowPhase::Failed | WorkflowPhase::Error))
}

/// Whether it ended well.
pub(crate) fn succeeded(wf: &Workflow) -> bool {
    wf.status.as_ref().is_some_and(|s| s.phase == WorkflowPhase::Succeeded)
}

/// Creates an object of any kind, or brings the one of that name up to date. Answers `created`, `configured` or
/// `unchanged`, and the object.
pub(crate) async fn apply(
    client: &Client,
    namespace: &str,
    kinds: &mut Kinds,
    object: Value,
) -> Result<(&'static str, DynamicObject)> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let (resource, scope) = kinds.find(client, &version, &kind).await?;
    let ns = object["metadata"]["namespace"].as_str().unwrap_or(namespace).to_owned();
    let api: Api<DynamicObject> = match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), &ns, &resource),
    };
    let typed: DynamicObject = serde_json::from_value(object.clone())
        .with_context(|| format!("{kind} {} is not an object", object["metadata"]["name"]))?;
    let name = typed.metadata.name.clone();
    let label = || format!("{kind}/{}", name.as_deref().unwrap_or("(generated name)"));
    let Some(name) = &name else {
        return Ok(("created", api.create(&PostParams::default(), &typed).await.with_context(label)?));
    };
    match api.create(&PostParams::default(), &typed).await {
        Ok(created) => Ok(("created", created)),
        Err(kube::Error::Api(s)) if s.reason == "AlreadyExists" => {
            let before = api.get(name).await.with_context(label)?.metadata.resource_version;
            let after = api.patch(name, &PatchParams::default(), &Patch::Merge(&object)).await.with_context(label)?;
            let word = if after.metadata.resource_version == before { "unchanged" } else { "configured" };
            Ok((word, after))
        }
        Err(e) => Err(e).with_context(label),
    }
}

/// Which resource serves a kind, asked of the API once a group.
#[derive(Default)]
pub(crate) struct Kinds {
    known: Vec<(ApiResource, Scope)>,
}

impl Kinds {
    async fn find(&mut self, client: &Client, api_version: &str, kind: &str) -> Result<(ApiResource, Scope)> {
        let hit = |k: &&(ApiResource, Scope)| k.0.api_version == api_version && k.0.kind == kind;
        if let Some(found) = self.known.iter().find(hit) {
            return Ok(found.clone());
        }
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = discovery::pinned_kind(client, &gvk).await.map_err(|e| match e {
            kube::Error::Api(s) => anyhow!("{api_version} {kind} is not served here: {}", s.message),
            kube::Error::Discovery(_) => {
                anyhow!("{api_version} {kind} is not served here; docs/kubernetes-api.md lists the kinds that are")
            }
            other => anyhow!(other).context(format!("asking for {api_version} {kind}")),
        })?;
        self.known.push((resource.clone(), capabilities.scope.clone()));
        Ok((resource, capabilities.scope))
    }
}
