//! Resubmitting a run: a new workflow of the same spec, and with `memoized` one that takes over what succeeded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use windlass_model::{NodePhase, NodeStatus, NodeType, Time, WorkflowPhase, labels};

use super::{child, read, with_parameters};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Resubmit {
    /// Take over what succeeded. The new name cannot be left to the API then, so its end is given here.
    pub memoized: Option<String>,
    /// Arguments of the workflow, given anew.
    pub parameters: Vec<(String, String)>,
}

/// Labels that belong to the old run alone.
const OWN: &[&str] = &[
    labels::CREATOR,
    "workflows.argoproj.io/creator-email",
    "workflows.argoproj.io/creator-preferred-username",
    labels::PHASE,
    labels::COMPLETED,
    labels::ARCHIVING_STATUS,
];

/// The object to create.
pub fn resubmit(workflow: &Value, how: &Resubmit, now: Timestamp) -> Result<Value, String> {
    let (typed, status) = read(workflow)?;
    let old = typed.metadata.name.clone().unwrap_or_default();
    let prefix = workflow["metadata"]["generateName"].as_str().filter(|p| !p.is_empty());
    let prefix = prefix.map_or_else(|| format!("{old}-"), str::to_owned);
    let mut new = json!({
        "apiVersion": workflow["apiVersion"], "kind": workflow["kind"],
        "metadata": {"generateName": prefix, "namespace": workflow["metadata"]["namespace"]},
        "spec": workflow["spec"],
    });
    if typed.spec.active_deadline_seconds == Some(0) {
        child(&mut new, "spec").remove("activeDeadlineSeconds");
    }
    child(&mut new, "spec").remove("shutdown");
    let kept = workflow["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let mut kept: Map<String, Value> = kept.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
    kept.insert(labels::RESUBMITTED_FROM.to_owned(), json!(old));
    child(&mut new, "metadata").insert("labels".to_owned(), Value::Object(kept));
    for field in ["annotations", "ownerReferences"] {
        if !workflow["metadata"][field].is_null() {
            new["metadata"][field] = workflow["metadata"][field].clone();
        }
    }
    if !how.parameters.is_empty() {
        let parameters = with_parameters(&workflow["spec"]["arguments"], &how.parameters);
        child(&mut new["spec"], "arguments").insert("parameters".to_owned(), parameters);
    }
    let Some(suffix) = &how.memoized else { return Ok(new) };
    if !matches!(status.phase, WorkflowPhase::Failed | WorkflowPhase::Error) {
        return Err("workflow must be Failed/Error to resubmit in memoized mode".to_owned());
    }
    let name = format!("{prefix}{suffix}");
    new["metadata"]["name"] = json!(name);
    let nodes = Renamed { old: &old, new: &name, rows: &status.nodes }.nodes(&workflow["status"]["nodes"], now);
    new["status"] = json!({
        "nodes": nodes, "conditions": [{"type": "Completed", "status": "False"}],
        "storedTemplates": workflow["status"]["storedTemplates"],
    });
    Ok(new)
}

/// A node table under another workflow's name.
struct Renamed<'a> {
    old: &'a str,
    new: &'a str,
    rows: &'a BTreeMap<String, NodeStatus>,
}

impl Renamed<'_> {
    fn name(&self, name: &str) -> String {
        name.strip_prefix(self.old).map_or_else(|| name.to_owned(), |rest| format!("{}{rest}", self.new))
    }

    fn id(&self, id: &str) -> String {
        let name = self.rows.get(id).map_or(id, |row| row.name.as_str());
        crate::names::node_id(self.new, &self.name(name))
    }

    fn nodes(&self, raw: &Value, now: Timestamp) -> Map<String, Value> {
        let exit = format!("{}.onExit", self.old);
        let mut all = Map::new();
        for row in self.rows.values().filter(|row| !row.name.starts_with(&exit)) {
            if row.type_ == NodeType::Skipped && !self.succeeded_after(row) {
                continue;
            }
            let failed = row.phase.is_fail_or_error();
            let mut new = raw[&row.id].clone();
            new["name"] = json!(self.name(&row.name));
            new["id"] = json!(self.id(&row.id));
            if row.display_name == self.old {
                new["displayName"] = json!(self.new);
            }
            if let Some(boundary) = row.boundary_id.as_deref().filter(|b| !b.is_empty()) {
                new["boundaryID"] = json!(self.id(boundary));
            }
            if let Some(scope) = row.template_scope.as_deref().and_then(|s| s.strip_prefix("local/"))
                && scope == self.old
            {
                new["templateScope"] = json!(format!("local/{}", self.new));
            }
            for (field, edges) in [("children", &row.children), ("outboundNodes", &row.outbound_nodes)] {
                if !edges.is_empty() {
                    new[field] = json!(edges.iter().map(|id| self.id(id)).collect::<Vec<_>>());
                }
            }
            let ran = row.type_ == NodeType::Pod;
            let at = if failed && ran { Value::Null } else { json!(Time::from_timestamp(now)) };
            new["startedAt"] = at.clone();
            new["finishedAt"] = at;
            new["message"] = Value::Null;
            if ran && !failed {
                new["phase"] = json!(NodePhase::Skipped);
                new["type"] = json!(NodeType::Skipped);
                new["message"] = json!(format!("original pod: {}", row.id));
            } else if ran || matches!(row.type_, NodeType::Http | NodeType::Plugin | NodeType::Container) {
                new["phase"] = json!(NodePhase::Pending);
            } else if row.type_ != NodeType::Skipped {
                // What goes around others runs from the start; a suspend node waits anew.
                new["phase"] = json!(NodePhase::Running);
                new["finishedAt"] = Value::Null;
                if row.type_ == NodeType::Suspend {
                    let parameters = new["outputs"]["parameters"].as_array().into_iter().flatten();
                    let asked = parameters.map(|p| json!({"name": p["name"], "valueFrom": {"supplied": {}}}));
                    let asked: Vec<Value> = asked.collect();
                    new["outputs"] = if asked.is_empty() { Value::Null } else { json!({"parameters": asked}) };
                }
            }
            if let Some(fields) = new.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            all.insert(self.id(&row.id), new);
        }
        // An edge to a row that did not come along leads nowhere.
        let known: Vec<String> = all.keys().cloned().collect();
        for row in all.values_mut() {
            for field in ["children", "outboundNodes"] {
                if let Some(edges) = row[field].as_array_mut() {
                    edges.retain(|id| known.iter().any(|k| id == k));
                }
            }
            if let Some(fields) = row.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
        }
        all
    }

    fn succeeded_after(&self, row: &NodeStatus) -> bool {
        row.children
            .iter()
            .filter_map(|id| self.rows.get(id))
            .any(|to| to.phase == NodePhase::Succeeded || self.succeeded_after(to))
    }
}
