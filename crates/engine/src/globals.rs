//! What `{{workflow.*}}` stands for. Computed from the workflow and its spec; changes only by global outputs and the
//! phase.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_model::parameter::Outputs;
use windlass_model::workflow::WorkflowSpec;
use windlass_model::{ObjectMeta, Parameter, labels};

/// The names that are the same everywhere in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Name to text.
    pub texts: BTreeMap<String, String>,
    /// Global artifacts by name.
    pub artifacts: BTreeMap<String, windlass_model::Artifact>,
}

impl Globals {
    /// The names that the workflow's metadata and spec give. Parameters come with [`Globals::set_parameters`].
    pub(crate) fn new(meta: &ObjectMeta, spec: &WorkflowSpec) -> Self {
        let mut this = Self::default();
        let name = meta.name.clone().unwrap_or_default();
        this.set("workflow.name", name);
        this.set("workflow.namespace", meta.namespace.clone().unwrap_or_default());
        this.set("workflow.uid", meta.uid.clone().unwrap_or_default());
        this.set("workflow.mainEntrypoint", spec.entrypoint.clone().unwrap_or_default());
        // What the spec says, and not what the pods run as where it says nothing.
        this.set("workflow.serviceAccountName", spec.service_account_name.clone().unwrap_or_default());
        if let Some(priority) = spec.priority {
            this.set("workflow.priority", priority.to_string());
        }
        if let Some(at) = &meta.creation_timestamp {
            this.set_time("workflow.creationTimestamp", at.0);
        }
        if let Some(at) = meta.annotations.get(labels::SCHEDULED_TIME) {
            this.set("workflow.scheduledTime", at.clone());
        }
        this.set_metadata(&meta.labels, &meta.annotations);
        this
    }

    fn set_time(&mut self, name: &str, at: Timestamp) {
        let zoned = at.to_zoned(jiff::tz::TimeZone::UTC);
        // Go's default form of a time.
        self.set(name, zoned.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
        self.set(&format!("{name}.RFC3339"), at.to_string());
        self.set(&format!("{name}.s"), at.as_second().to_string());
        for c in "aAbBcCdDeFgGHIjklmMnprRStTuUVwWxXyYzZ".chars() {
            let format = format!("%{c}");
            if let Ok(text) = jiff::fmt::strtime::format(&format, &zoned) {
                self.set(&format!("{name}.{c}"), text);
            }
        }
    }

    /// Labels and annotations, with their JSON forms.
    pub(crate) fn set_metadata(&mut self, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) {
        for (key, value) in annotations {
            self.set(&format!("workflow.annotations.{key}"), value.clone());
        }
        for (key, value) in labels {
            self.set(&format!("workflow.labels.{key}"), value.clone());
        }
        let annotations = json!(annotations).to_string();
        self.set("workflow.annotations.json", annotations.clone());
        self.set("workflow.annotations", annotations);
        let labels = json!(labels).to_string();
        self.set("workflow.labels.json", labels.clone());
        self.set("workflow.labels", labels);
    }

    /// The workflow's own parameters, whose values are known by now.
    pub(crate) fn set_parameters(&mut self, parameters: &[Parameter]) {
        for parameter in parameters {
            if let Some(value) = &parameter.value {
                self.set(&format!("workflow.parameters.{}", parameter.name), value.0.clone());
            }
        }
        let list = serde_json::to_string(parameters).unwrap_or_default();
        self.set("workflow.parameters.json", list.clone());
        self.set("workflow.parameters", list);
    }

    /// Global outputs as the status has them.
    pub(crate) fn set_outputs(&mut self, outputs: &Outputs) {
        for parameter in &outputs.parameters {
            if let Some(value) = &parameter.value {
                self.set(&format!("workflow.outputs.parameters.{}", parameter.name), value.0.clone());
            }
        }
        for artifact in &outputs.artifacts {
            self.artifacts.insert(artifact.name.clone(), artifact.clone());
        }
    }

    /// Sets one name.
    pub(crate) fn set(&mut self, name: &str, text: impl Into<String>) {
        self.texts.insert(name.to_owned(), text.into());
    }

    /// `workflow.failures`: what failed, as a quoted JSON list.
    pub(crate) fn set_failures(&mut self, failures: &Value) {
        let list =
            if failures.as_array().is_some_and(Vec::is_empty) { "null".to_owned() } else { failures.to_string() };
        self.set("workflow.failures", Value::String(list).to_string());
    }
}
