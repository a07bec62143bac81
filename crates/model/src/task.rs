//! `Task`: what the controller tells the executor about one step, as JSON in the pod's annotation `windlass.dev/task`.
//! It never carries a secret: artifact locations name Secrets, the executor reads them.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::parameter::Outputs;
use crate::time::Time;

/// One step's work beside its containers: what to bring in, what to take out, by when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// The template's name.
    pub template: String,
    /// Whether the standard output of `main` is wanted as `outputs.result`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_result: bool,
    /// A script's source: staged read-only (mode 0755) at [`SCRIPT_PATH`]; the command already has that path as last
    /// argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Input artifacts with fully resolved locations, `path` and `mode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Artifact>,
    /// Output parameters by path (with default) and output artifacts (path, archive, optional, resolved destination
    /// key).
    #[serde(skip_serializing_if = "Outputs::is_empty")]
    pub outputs: Outputs,
    /// When the step must have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// A resource template's work; `main` is then the internal executor image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTask>,
    /// An http template's, as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTask>,
    /// A data template's, as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataTask>,
    /// Artifacts to remove, with whole locations: then this is no step but the work of a ledger
    /// ([`crate::garbage`]), `node_id` and `workflow_uid` are the ledger's name and uid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub garbage: Vec<Artifact>,
    /// A plugin template's, as well: who is to be asked, and what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginTask>,
    /// Where the log of `main` goes when it is to be kept as an artifact (`main-logs`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub archive_logs: bool,
    /// The location of the log artifact when `archiveLogs` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_artifact: Option<Artifact>,
    /// A container set's order and tries; its containers' logs are kept each on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_set: Option<ContainerSetTask>,
    /// The workflow's name.
    pub workflow_name: String,
    /// The workflow's uid.
    pub workflow_uid: String,
    /// The node's id, and the name of the WorkflowTaskResult.
    pub node_id: String,
    /// Counts pods made for one node: 0 is the first.
    pub attempt: u32,
}

impl Task {
    /// Whether the work is the executor's own, in a container of its own image.
    pub fn is_ours(&self) -> bool {
        self.resource.is_some() || self.http.is_some() || self.plugin.is_some() || self.has_source()
    }

    /// Whether something is done in stores before the work begins, by whoever holds their Secrets.
    pub fn has_source(&self) -> bool {
        self.data.is_some() || !self.garbage.is_empty()
    }

    /// What stores are asked for before the step begins.
    pub fn incoming(&self) -> impl Iterator<Item = &Artifact> {
        self.inputs.iter().chain(self.data.iter().map(|data| &data.source)).chain(&self.garbage)
    }

    /// The plugins that bring what stores are asked for before the step begins.
    pub fn plugins_before(&self) -> BTreeSet<&str> {
        self.incoming().filter_map(plugin_of).collect()
    }

    /// The plugins that keep what the step makes.
    pub fn plugins_after(&self) -> BTreeSet<&str> {
        let logs = self.logs().map(|(_, log)| log);
        self.outputs.artifacts.iter().chain(logs).filter_map(plugin_of).collect()
    }

    /// Everything of the task that is somewhere, to be completed.
    pub fn artifacts_mut(&mut self) -> impl Iterator<Item = &mut Artifact> {
        let set = self.container_set.iter_mut().flat_map(|set| &mut set.containers);
        let logs = set.filter_map(|c| c.log_artifact.as_mut()).chain(&mut self.log_artifact);
        let source = self.data.iter_mut().map(|data| &mut data.source);
        self.inputs.iter_mut().chain(source).chain(&mut self.garbage).chain(&mut self.outputs.artifacts).chain(logs)
    }

    /// The logs to keep: the container's name, and where its log goes.
    pub fn logs(&self) -> impl Iterator<Item = (&str, &Artifact)> {
        let main = self.log_artifact.iter().map(|artifact| ("main", artifact));
        let set = self.container_set.iter().flat_map(|set| &set.containers);
        let set = set.filter_map(|c| Some((c.name.as_str(), c.log_artifact.as_ref()?)));
        main.chain(set).filter(|_| self.archive_logs)
    }
}

fn plugin_of(artifact: &Artifact) -> Option<&str> {
    artifact.plugin.as_ref().map(|plugin| plugin.name.as_str())
}

/// The containers of a set: which waits for which, and how often each is tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSetTask {
    /// The containers, in the template's order.
    pub containers: Vec<ContainerTask>,
    /// How often a command is tried, the first time included.
    pub attempts: u32,
    /// The pause between tries.
    #[serde(skip_serializing_if = "is_zero")]
    pub pause_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ContainerSetTask {
    /// Whether the container of this name may begin. `ended` answers with which code another has ended; one that never
    /// began counts with the code of the one that kept it from it. They are looked at in their order, as Argo does.
    pub fn turn(&self, name: &str, ended: impl Fn(&str) -> Option<i32>) -> Turn {
        for dependency in self.container(name).into_iter().flat_map(|c| &c.dependencies) {
            match ended(dependency) {
                Some(0) => {}
                Some(code) => return Turn::Never { dependency: dependency.clone(), code },
                None => return Turn::Wait,
            }
        }
        Turn::Begin
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerTask> {
        self.containers.iter().find(|c| c.name == name)
    }
}

/// Whether a container of a set may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// One that it needs has not ended.
    Wait,
    /// It may.
    Begin,
    /// One that it needs has failed.
    Never {
        /// That one.
        dependency: String,
        /// Its exit code.
        code: i32,
    },
}

/// One container of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerTask {
    /// Its name.
    pub name: String,
    /// The containers that must have ended well before it begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// Where its log goes when it is to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_artifact: Option<Artifact>,
}

/// What a container of a set says that does not begin since one that it needs has failed, with that one's code. Its own
/// exit code is [`crate::places::EXIT_EXECUTOR`].
pub fn dependency_failed(name: &str, code: i32) -> String {
    format!("dependency {name:?} exited with non-zero code: {code}")
}

/// Where a script's source is staged.
pub const SCRIPT_PATH: &str = "/argo/staging/script";

/// Where an input artifact without a path of its own brings a resource template's manifest.
pub const MANIFEST_PATH: &str = "/argo/staging/manifest.yaml";

/// What a resource template asks for, with every tag replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceTask {
    /// `create`, `apply`, `patch`, `replace`, `delete` or `get`.
    pub action: String,
    /// The manifest: YAML or JSON text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    /// Where the manifest is, when an input artifact brings it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_path: Option<String>,
    /// `strategic` (default), `merge` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_strategy: Option<String>,
    /// Make the workflow own the resource.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub set_owner_reference: bool,
    /// Label selector syntax over fields; met means success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
    /// Label selector syntax over fields; met means failure, and failure wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<String>,
    /// kubectl's flags, as the user wrote them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A plugin template, and the executor plugins beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginTask {
    /// The workflow's namespace.
    pub namespace: String,
    /// The template as plugins see it, with every tag replaced and its inputs.
    pub template: serde_json::Value,
    /// The plugins, in the order in which they are asked.
    pub plugins: Vec<PluginAddress>,
}

/// Where a plugin answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginAddress {
    /// Its container's name; its token is beneath it.
    pub name: String,
    /// Its port, in the pod.
    pub port: u16,
}

/// An http template's request, with every tag replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTask {
    /// The method; `GET` where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The address.
    pub url: String,
    /// Headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderTask>,
    /// The body as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The body as base64, instead of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<String>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// Any certificate goes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
    /// An expression over `request` and `response`; 2xx where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
}

/// One header of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderTask {
    /// Its name.
    pub name: String,
    /// Its value, where the template has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// The Secret that holds its value, for messages: `NAME/KEY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The variable of the container's environment that brings it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

/// A data template's work, with every tag replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DataTask {
    /// The place whose keys are the data.
    pub source: Artifact,
    /// Expressions over `data`, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transformation: Vec<String>,
}
