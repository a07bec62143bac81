//! What is summed up at the end (`progress`, `resourcesDuration`), and the status as a patch. Changes no phase.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};
use windlass_model::{NodeType, labels};

use crate::nodes::{is_executable, parse_progress};
use crate::run::Run;

/// How many steps a summing walk may take before inner nodes go without.
const WALK_MAX: usize = 20_000_000;

impl Run {
    /// Progress and resources of the run and of its inner nodes. Edges are order, so a node sums all that comes after
    /// it.
    pub(crate) fn sum_up(&mut self) {
        let (mut done, mut all) = (0, 0);
        let mut total: BTreeMap<String, i64> = BTreeMap::new();
        for node in &self.nodes.list {
            if is_executable(node.status.type_) {
                let (d, a) = parse_progress(node.status.progress.as_deref());
                done += d;
                all += a;
            }
            for (what, amount) in &node.status.resources_duration {
                if is_executable(node.status.type_) {
                    *total.entry(what.clone()).or_insert(0) += amount;
                }
            }
        }
        self.status.progress = Some(format!("{done}/{all}"));
        self.status.resources_duration = total;
        let inner: Vec<usize> = (0..self.nodes.list.len())
            .filter(|ix| {
                !is_executable(self.nodes.list[*ix].status.type_) && !self.nodes.list[*ix].status.children.is_empty()
            })
            .collect();
        if inner.len().saturating_mul(self.nodes.list.len()) > WALK_MAX {
            return;
        }
        for ix in inner {
            let (mut done, mut all) = (0, 0);
            let mut resources: BTreeMap<String, i64> = BTreeMap::new();
            let mut seen: HashSet<usize> = HashSet::new();
            let mut stack = vec![ix];
            while let Some(at) = stack.pop() {
                for child in self.nodes.list[at].status.children.iter().filter_map(|id| self.nodes.find(id)) {
                    if !seen.insert(child) {
                        continue;
                    }
                    stack.push(child);
                    let row = &self.nodes.list[child].status;
                    if is_executable(row.type_) {
                        let (d, a) = parse_progress(row.progress.as_deref());
                        done += d;
                        all += a;
                        for (what, amount) in &row.resources_duration {
                            *resources.entry(what.clone()).or_insert(0) += amount;
                        }
                    }
                }
            }
            let row = &mut self.nodes.list[ix].status;
            if all > 0 {
                row.progress = Some(format!("{done}/{all}"));
            }
            row.resources_duration = resources;
            self.changed.insert(ix);
        }
    }

    /// The status without its nodes and templates, as JSON.
    pub(crate) fn top_status(&self) -> Value {
        let mut status = self.status.clone();
        status.nodes.clear();
        status.stored_templates.clear();
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        value["labels"] = json!(self.meta.labels);
        value["annotations"] = json!(self.meta.annotations);
        value
    }

    /// What changed since the last call, as a merge patch of the Workflow (`status`, and labels in `metadata`).
    /// Nothing when nothing changed.
    pub fn take_patch(&mut self) -> Option<Value> {
        if !self.dirty && self.changed.is_empty() {
            return None;
        }
        if !self.meta.labels.contains_key(labels::GARBAGE) && self.makes_garbage() {
            self.meta.labels.insert(labels::GARBAGE.to_owned(), "true".to_owned());
        }
        let mut status = Map::new();
        let mut metadata = Map::new();
        let top = self.top_status();
        if let (Value::Object(now), before) = (&top, &self.written) {
            for (key, value) in now {
                if before.get(key) == Some(value) {
                    continue;
                }
                if key == "labels" || key == "annotations" {
                    metadata.insert(key.clone(), value.clone());
                } else {
                    status.insert(key.clone(), value.clone());
                }
            }
            for key in before.as_object().into_iter().flat_map(Map::keys) {
                if !now.contains_key(key) {
                    status.insert(key.clone(), Value::Null);
                }
            }
        }
        if self.status.stored_templates.len() != self.written_templates {
            self.written_templates = self.status.stored_templates.len();
            status.insert("storedTemplates".to_owned(), json!(self.status.stored_templates));
        }
        let mut nodes = Map::new();
        for ix in std::mem::take(&mut self.changed) {
            let row = &self.nodes.list[ix].status;
            let mut value = serde_json::to_value(row).unwrap_or_default();
            // What a row may lose again is deleted by name.
            for key in ["message", "daemoned", "podIP", "finishedAt", "progress", "inputs", "synchronizationStatus"] {
                if value.get(key).is_none() {
                    value[key] = Value::Null;
                }
            }
            nodes.insert(row.id.clone(), value);
        }
        if !nodes.is_empty() {
            status.insert("nodes".to_owned(), Value::Object(nodes));
            if !self.is_completed() {
                status.insert("progress".to_owned(), json!(self.progress()));
            }
        }
        self.written = top;
        self.dirty = false;
        let phase = self.status.phase;
        let labels_now = metadata.entry("labels").or_insert_with(|| json!({}));
        labels_now[labels::PHASE] = json!(phase.as_str());
        if phase.is_completed() {
            labels_now[labels::COMPLETED] = json!("true");
        } else {
            labels_now[labels::COMPLETED] = json!("false");
        }
        metadata.entry("annotations").or_insert_with(|| json!({}))[labels::POD_NAME_FORMAT] = json!("v2");
        Some(json!({"metadata": metadata, "status": status}))
    }

    /// Whether a node that changed has made an artifact that goes one day.
    fn makes_garbage(&self) -> bool {
        let rows = self.changed.iter().map(|ix| &self.nodes.list[*ix].status);
        rows.filter(|row| row.type_ == NodeType::Pod)
            .filter_map(|row| row.outputs.as_ref())
            .any(|outputs| outputs.artifacts.iter().any(|a| crate::garbage::strategy(&self.spec, a).is_some()))
    }

    /// How many of the nodes that work have ended well, of how many.
    pub fn progress(&self) -> String {
        let (done, all) = self.nodes.progress;
        format!("{done}/{all}")
    }
}
