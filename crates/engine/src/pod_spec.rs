//! The Pod of a node, and the Task in its annotation. Text in, JSON out; touches nothing of the run.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use windlass_lang::tags::{self, Options};
use windlass_model::artifact::{ArchiveStrategy, ArtifactLocation};
use windlass_model::labels;
use windlass_model::parameter::Inputs;
use windlass_model::places::{IMAGE_PROGRAM, VERB, WORK};
use windlass_model::task::{
    ContainerSetTask, ContainerTask, DataTask, HeaderTask, HttpTask, MANIFEST_PATH, ResourceTask, SCRIPT_PATH, Task,
};
use windlass_model::template::{ContainerSetTemplate, DataTemplate, HttpTemplate};
use windlass_model::{Artifact, NodeType, Template, Time};

use crate::names;
use crate::nodes::{Ix, Machine};
use crate::run::Run;
use crate::scope::Scope;

impl Run {
    /// Whether the step's outputs can only come by a report.
    pub(crate) fn expects_report(&self, ix: Ix) -> bool {
        let Some(template) = &self.nodes.list[ix].template else { return false };
        template.http.is_some()
            || template.plugin.is_some()
            || template.data.is_some()
            || !template.outputs.is_empty()
            || self.archives_logs(template)
            || (template.has_main_container() && self.includes_result(ix))
    }

    fn archives_logs(&self, template: &Template) -> bool {
        let of_template = template.archive_location.as_ref().and_then(|l| l.archive_logs);
        of_template.or(self.spec.archive_logs).or(self.config.artifact_repository.archive_logs) == Some(true)
    }

    /// Whether somebody asks for the step's standard output: the template around it names it.
    pub(crate) fn includes_result(&self, ix: Ix) -> bool {
        let node = &self.nodes.list[ix];
        let Some(boundary) = node.boundary else { return false };
        let Some(template) = &self.nodes.list[boundary].template else { return false };
        let rest = node.status.name.strip_prefix(&self.nodes.list[boundary].status.name).unwrap_or_default();
        let rest = match rest.strip_prefix('[').and_then(|r| r.split_once("].")) {
            Some((_, step)) => step,
            None => rest.strip_prefix('.').unwrap_or(rest),
        };
        let member = rest.split(['(', '.']).next().unwrap_or_default();
        let named = &self.nodes.list[boundary].results_named;
        named.get_or_init(|| results_named(template)).contains(member)
    }

    /// The names that a node's template knows of the node: what it is called, and how often it was tried.
    pub(crate) fn node_locals(&self, ix: Ix) -> Vec<(String, String)> {
        let (key, called) = self.called(ix);
        let name = ("node.name".to_owned(), self.nodes.list[ix].status.name.clone());
        let mut locals = vec![name, (key.to_owned(), called)];
        locals.extend(self.retry_locals(ix));
        locals
    }

    /// `tasks.name` or `steps.name`, and the name: with its item, not with its attempt. The entrypoint, handlers and hooks
    /// are steps without a name to Argo.
    fn called(&self, ix: Ix) -> (&'static str, String) {
        let flag = |ix: Ix| self.nodes.list[ix].status.node_flag.clone().unwrap_or_default();
        let ix = if flag(ix).retried { self.nodes.list[ix].parent.unwrap_or(ix) } else { ix };
        let node = &self.nodes.list[ix];
        let around = node.boundary.map(|boundary| &self.nodes.list[boundary].status);
        let Some(around) = around.filter(|_| !flag(ix).hooked) else { return ("steps.name", String::new()) };
        let key = if around.type_ == NodeType::Dag { "tasks.name" } else { "steps.name" };
        (key, names::display_name(&node.status.name, Some(&around.name)))
    }

    /// The names that only this node's pod knows.
    fn pod_locals(&self, ix: Ix, template: &Template, pod_name: &str) -> Vec<(String, String)> {
        let mut locals = vec![("pod.name".to_owned(), pod_name.to_owned())];
        locals.extend(self.node_locals(ix));
        for parameter in &template.outputs.parameters {
            if let Some(path) = parameter.value_from.as_ref().and_then(|v| v.path.clone()) {
                locals.push((format!("outputs.parameters.{}.path", parameter.name), path));
            }
        }
        for artifact in &template.outputs.artifacts {
            if let Some(path) = &artifact.path {
                locals.push((format!("outputs.artifacts.{}.path", artifact.name), path.clone()));
            }
        }
        locals
    }

    /// The pod for a node.
    pub(crate) fn build_pod(&self, ix: Ix) -> Result<Value, String> {
        let node = &self.nodes.list[ix];
        let Some(raw) = node.template.clone() else { return Err("the node has no template".to_owned()) };
        let Machine::Pod(machine) = &node.machine else { return Err("the node is not a pod".to_owned()) };
        let inputs = node.status.inputs.clone().unwrap_or_default();
        let locals = self.pod_locals(ix, &raw, &machine.name);
        let scope =
            Scope { run: self, boundary: None, inputs: Some(&inputs), locals: &locals, globals: true, item: None };
        let template = substituted_template(&raw, &scope)?;
        let mut inputs: Inputs = replaced(&inputs, &scope)?;
        for artifact in &mut inputs.artifacts {
            artifact.path = artifact.path.take().or_else(|| template.inputs.artifact(&artifact.name)?.path.clone());
            let manifest = template.resource.as_ref().and_then(|r| r.manifest_from.as_ref()?.artifact.as_ref());
            if artifact.path.is_none() && manifest.is_some_and(|m| m.name == artifact.name) {
                artifact.path = Some(MANIFEST_PATH.to_owned());
            }
        }

        let mut spec = Map::new();
        let (mut main, script) = main_container(&template, &self.config.executor_image)?;
        let http = template.http.as_ref().map(http_task);
        if let Some((_, secrets)) = &http
            && !secrets.is_empty()
        {
            main["env"] = json!(secrets);
        }
        let mut containers = Vec::new();
        if let Some(set) = &template.container_set {
            for container in &set.containers {
                let mut container = container.clone();
                if let Value::Object(map) = &mut container {
                    map.remove("dependencies");
                    if !set.volume_mounts.is_empty() {
                        let mounts = map.entry("volumeMounts").or_insert_with(|| json!([]));
                        if let Value::Array(mounts) = mounts {
                            mounts.extend(set.volume_mounts.iter().cloned());
                        }
                    }
                }
                containers.push(container);
            }
        } else {
            main["name"] = json!("main");
            containers.push(main.clone());
        }
        let of_main = containers.iter().find(|c| c["name"] == "main");
        let mounts = of_main.and_then(|c| c.get("volumeMounts")).cloned();
        // Where there is no `main`, the last one is shown first.
        let shown = of_main.or(containers.last()).map_or(json!("main"), |c| c["name"].clone());
        for sidecar in &template.sidecars {
            containers.push(with_mirrored_mounts(sidecar, mounts.as_ref()));
        }
        spec.insert("containers".to_owned(), Value::Array(containers));
        if !template.init_containers.is_empty() {
            let inits: Vec<Value> =
                template.init_containers.iter().map(|c| with_mirrored_mounts(c, mounts.as_ref())).collect();
            spec.insert("initContainers".to_owned(), Value::Array(inits));
        }
        let plugins = if template.plugin.is_some() { self.all_plugins()? } else { Vec::new() };
        spec.insert("restartPolicy".to_owned(), json!("Never"));
        let volume_scope = Scope {
            boundary: node.boundary,
            ..Scope { run: self, boundary: None, inputs: Some(&inputs), locals: &locals, globals: true, item: None }
        };
        let mut volumes: Vec<Value> = template.volumes.clone();
        // A pod has the workflow's volumes that it mounts, not all of them: an unused claim must not hold it up.
        let claims = self.claims();
        for name in mounted(&spec, &template) {
            let of_run = self.spec.volumes.iter().chain(&claims).find(|volume| volume["name"] == name);
            if let Some(volume) = of_run.filter(|_| !volumes.iter().any(|there| there["name"] == name)) {
                volumes.push(replaced(volume, &volume_scope)?);
            }
        }
        if !volumes.is_empty() {
            spec.insert("volumes".to_owned(), Value::Array(volumes));
        }
        if !plugins.is_empty() {
            crate::plugins::add(&mut spec, &plugins, &self.config.executor_image);
        }
        self.add_placement(&mut spec, &template, node.boundary);
        let hosts = self.hosts_to_avoid(ix);
        if !hosts.is_empty() {
            let affinity = crate::other_host::keep_away(spec.remove("affinity"), &hosts);
            spec.insert("affinity".to_owned(), affinity);
        }
        let deadline_seconds = self.pod_deadline_seconds(ix, &template)?;
        if let Some(seconds) = deadline_seconds {
            spec.insert("activeDeadlineSeconds".to_owned(), json!(seconds));
        }
        let mut task = self.task(ix, &template, &inputs, script, &scope, deadline_seconds, machine.attempt)?;
        task.http = http.map(|(http, _)| http);
        if template.plugin.is_some() {
            // As in Argo a plugin is told where its inputs are; nobody brings them.
            task.inputs.clear();
            task.plugin = Some(self.plugin_task(&plugins, &template, &inputs)?);
        }
        task.data = template.data.as_ref().map(|data| self.data_task(data)).transpose()?;
        crate::artifact_plugins::add(&mut spec, &mut task, &self.config.artifact_drivers)?;
        let mut spec = Value::Object(spec);
        for patch in [self.spec.pod_spec_patch.as_deref(), template.pod_spec_patch.as_deref()].into_iter().flatten() {
            let patch = tags::substitute(patch, &scope, &Options::default())
                .map_err(|faults| crate::inputs::first_message(&faults))?;
            let patch = parse_text(&patch).filter(|patch| crate::validate::pod_patch_fault(patch).is_none());
            // Argo's words; `lint` tells the place.
            let patch = patch.ok_or_else(|| "Error applying PodSpecPatch".to_owned())?;
            crate::merge::strategic(&mut spec, &patch);
        }

        let mut labels = Map::new();
        let mut annotations = Map::new();
        for metadata in [self.spec.pod_metadata.as_ref(), Some(&template.metadata)].into_iter().flatten() {
            for (k, v) in &metadata.labels {
                labels.insert(
                    k.clone(),
                    json!(tags::substitute(v, &scope, &Options::default()).unwrap_or_else(|_| v.clone())),
                );
            }
            for (k, v) in &metadata.annotations {
                annotations.insert(
                    k.clone(),
                    json!(tags::substitute(v, &scope, &Options::default()).unwrap_or_else(|_| v.clone())),
                );
            }
        }
        labels.insert(labels::WORKFLOW.to_owned(), json!(self.workflow_name()));
        labels.insert(labels::COMPLETED.to_owned(), json!("false"));
        if let Some(instance) = self.meta.labels.get(labels::INSTANCE) {
            labels.insert(labels::INSTANCE.to_owned(), json!(instance));
        }
        if node.on_exit {
            labels.insert(labels::ON_EXIT.to_owned(), json!("true"));
        }
        annotations.insert(labels::NODE_ID.to_owned(), json!(node.status.id));
        annotations.insert(labels::NODE_NAME.to_owned(), json!(node.status.name));
        annotations.insert(labels::ATTEMPT.to_owned(), json!(machine.attempt.to_string()));
        annotations.entry(labels::DEFAULT_CONTAINER).or_insert(shown);
        annotations.insert(labels::TASK.to_owned(), json!(serde_json::to_string(&task).map_err(|e| e.to_string())?));
        let mut metadata = json!({
            "name": machine.name,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": self.owner(),
        });
        if let Some(namespace) = &self.meta.namespace {
            metadata["namespace"] = json!(namespace);
        }
        if self.config.pod_finalizer {
            metadata["finalizers"] = json!([labels::POD_FINALIZER]);
        }
        Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    }

    /// The workflow as the owner of what is made for it.
    pub(crate) fn owner(&self) -> Value {
        json!([{
            "apiVersion": windlass_model::ARGO_API_VERSION,
            "kind": "Workflow",
            "name": self.workflow_name(),
            "uid": self.meta.uid.as_deref().unwrap_or_default(),
            "controller": true,
            "blockOwnerDeletion": true,
        }])
    }

    /// The volumes of claims that were made for the run.
    fn claims(&self) -> Vec<Value> {
        self.status.persistent_volume_claims.clone()
    }

    fn add_placement(&self, spec: &mut Map<String, Value>, template: &Template, boundary: Option<Ix>) {
        let wf = &self.spec;
        let around = boundary.and_then(|b| self.nodes.list[b].template.clone());
        let around = around.as_deref();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|v| !v.is_null()) {
                spec.insert(key.to_owned(), value);
            }
        };
        let some_list = |list: &[Value]| (!list.is_empty()).then(|| Value::Array(list.to_vec()));
        let account = template.service_account_name.clone().or_else(|| wf.service_account_name.clone());
        put("serviceAccountName", account.map(Value::String));
        let mount = template.automount_service_account_token.or(wf.automount_service_account_token);
        put("automountServiceAccountToken", mount.map(Value::Bool));
        let selector = [Some(&template.node_selector), around.map(|t| &t.node_selector), Some(&wf.node_selector)]
            .into_iter()
            .flatten()
            .find(|s| !s.is_empty());
        put("nodeSelector", selector.map(|s| json!(s)));
        put("affinity", template.affinity.clone().or_else(|| around?.affinity.clone()).or_else(|| wf.affinity.clone()));
        let tolerations = some_list(&template.tolerations)
            .or_else(|| some_list(&around?.tolerations))
            .or_else(|| some_list(&wf.tolerations));
        put("tolerations", tolerations);
        put("schedulerName", template.scheduler_name.clone().or_else(|| wf.scheduler_name.clone()).map(Value::String));
        let class = template.priority_class_name.clone().or_else(|| wf.pod_priority_class_name.clone());
        put("priorityClassName", class.map(Value::String));
        put("imagePullSecrets", some_list(&wf.image_pull_secrets));
        put("hostNetwork", wf.host_network.map(Value::Bool));
        put("dnsPolicy", wf.dns_policy.clone().map(Value::String));
        put("dnsConfig", wf.dns_config.clone());
        put("hostAliases", some_list(&template.host_aliases).or_else(|| some_list(&wf.host_aliases)));
        put("resources", template.pod_resources.clone().or_else(|| wf.pod_resources.clone()));
        put("resourceClaims", some_list(&template.resource_claims).or_else(|| some_list(&wf.resource_claims)));
        put("securityContext", template.security_context.clone().or_else(|| wf.security_context.clone()));
    }

    /// Seconds the pod may take: the template's timeout or deadline, but not longer than the run.
    fn pod_deadline_seconds(&self, ix: Ix, template: &Template) -> Result<Option<i64>, String> {
        let mut seconds = match &template.active_deadline_seconds {
            None => None,
            Some(value) => {
                Some(value.as_int().ok_or_else(|| format!("activeDeadlineSeconds '{value}' is not a whole number"))?)
            }
        };
        if let Some(timeout) = template.timeout.as_deref().filter(|t| !t.is_empty()) {
            let ms = crate::duration::parse_ms(timeout).ok_or_else(|| format!("timeout '{timeout}' cannot be read"))?;
            let started = self.nodes.list[ix].status.started_at.map_or(self.now, |t| t.0);
            let spent = self.now.as_second() - started.as_second();
            seconds = Some((ms / 1000 - spent).max(1));
        }
        if let Some(deadline) = self.deadline
            && !self.nodes.list[ix].on_exit
        {
            let left = (deadline.as_second() - self.now.as_second()).max(1);
            seconds = Some(seconds.map_or(left, |s| s.min(left)));
        }
        Ok(seconds)
    }

    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        ix: Ix,
        template: &Template,
        inputs: &Inputs,
        script: Option<String>,
        scope: &Scope<'_>,
        deadline_seconds: Option<i64>,
        attempt: u32,
    ) -> Result<Task, String> {
        let mut task = Task {
            template: template.name.clone(),
            // The answer and the data are there to be the result.
            include_result: template.http.is_some()
                || template.plugin.is_some()
                || template.data.is_some()
                || (template.has_main_container() && self.includes_result(ix)),
            script,
            workflow_name: self.workflow_name().to_owned(),
            workflow_uid: self.meta.uid.clone().unwrap_or_default(),
            node_id: self.nodes.list[ix].status.id.clone(),
            attempt,
            outputs: template.outputs.clone(),
            ..Task::default()
        };
        for artifact in &inputs.artifacts {
            let mut artifact = artifact.clone();
            let mut location = artifact.location();
            location.relocate(&self.config.artifact_repository);
            if artifact.optional && !location.has_location() {
                continue;
            }
            artifact.set_location(location);
            task.inputs.push(artifact);
        }
        for artifact in &mut task.outputs.artifacts {
            let location = self.destination(template, artifact, scope)?;
            artifact.set_location(location);
        }
        task.archive_logs = self.archives_logs(template);
        if let Some(set) = &template.container_set {
            task.container_set = Some(self.container_set_task(template, set, scope)?);
        } else if task.archive_logs {
            task.log_artifact = Some(self.kept_log(template, "main", scope)?);
        }
        if let Some(seconds) = deadline_seconds {
            let at = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(self.now);
            task.deadline = Some(Time(at));
        }
        if let Some(resource) = &template.resource {
            let named = resource.manifest_from.as_ref().and_then(|m| m.artifact.as_ref());
            let manifest_path = match named {
                None => None,
                Some(named) => {
                    let input = task.inputs.iter().find(|a| a.name == named.name).and_then(|a| a.path.clone());
                    let absent = || format!("artifact {} in `manifestFrom` is not among the inputs", named.name);
                    Some(input.ok_or_else(absent)?)
                }
            };
            task.resource = Some(ResourceTask {
                action: resource.action.clone(),
                manifest: resource.manifest.clone().unwrap_or_default(),
                manifest_path,
                merge_strategy: resource.merge_strategy.clone(),
                set_owner_reference: resource.set_owner_reference,
                success_condition: resource.success_condition.clone(),
                failure_condition: resource.failure_condition.clone(),
                flags: resource.flags.clone(),
            });
        }
        Ok(task)
    }

    fn data_task(&self, data: &DataTemplate) -> Result<DataTask, String> {
        let paths = data.source.as_ref().map(|s| &s["artifactPaths"]).filter(|p| p.is_object());
        let paths = paths.ok_or("no valid source is used for data template")?;
        let mut source: Artifact = serde_json::from_value(paths.clone()).map_err(|e| format!("artifactPaths: {e}"))?;
        let mut location = source.location();
        if !location.has_location() {
            // What it says of a bucket without saying whose is not enough: as Argo, all but the key is the repository's.
            let key = location.key().unwrap_or_default().to_owned();
            location = self.config.artifact_repository.clone();
            if !location.set_key(&key) {
                return Err(format!("artifactPaths '{}': {NO_REPOSITORY}", source.name));
            }
        }
        source.set_location(location);
        let steps = data.transformation.iter().flatten();
        let steps = steps.map(|s| s["expression"].as_str().unwrap_or_default().to_owned());
        Ok(DataTask { source, transformation: steps.collect() })
    }

    /// The log of a container, as an artifact.
    fn kept_log(&self, template: &Template, container: &str, scope: &Scope<'_>) -> Result<Artifact, String> {
        let none = ArchiveStrategy { none: Some(Default::default()), ..ArchiveStrategy::default() };
        let mut log = Artifact { name: format!("{container}-logs"), archive: Some(none), ..Artifact::default() };
        log.path = Some(format!("{container}.log"));
        let location = self.destination(template, &log, scope)?;
        // Both were for the key only: the log is told as Argo tells it.
        (log.path, log.archive) = (None, None);
        log.set_location(location);
        Ok(log)
    }

    fn container_set_task(
        &self,
        template: &Template,
        set: &ContainerSetTemplate,
        scope: &Scope<'_>,
    ) -> Result<ContainerSetTask, String> {
        let mut task = ContainerSetTask { attempts: 1, ..ContainerSetTask::default() };
        if let Some(retry) = &set.retry_strategy {
            if let Some(retries) = &retry.retries {
                let count = retries.as_int().and_then(|n| u32::try_from(n).ok());
                let count =
                    count.ok_or_else(|| format!("containerSet.retryStrategy.retries '{retries}' is no count"))?;
                // As Argo does, and not as it says: the first try is one of them.
                task.attempts = count.max(1);
            }
            if let Some(text) = retry.duration.as_deref().filter(|t| !t.is_empty()) {
                let ms = crate::duration::parse_ms(text).and_then(|ms| u64::try_from(ms).ok());
                task.pause_ms =
                    ms.ok_or_else(|| format!("containerSet.retryStrategy.duration '{text}' cannot be read"))?;
            }
        }
        if let Some(name) = never_begins(set) {
            return Err(format!(
                "container '{name}' of the set waits for one that never ends: itself, or one there is not"
            ));
        }
        for container in &set.containers {
            let name = container["name"].as_str().unwrap_or_default();
            let needed = container["dependencies"].as_array().into_iter().flatten();
            task.containers.push(ContainerTask {
                name: name.to_owned(),
                dependencies: needed.filter_map(Value::as_str).map(str::to_owned).collect(),
                log_artifact: match self.archives_logs(template) {
                    true => Some(self.kept_log(template, name, scope)?),
                    false => None,
                },
            });
        }
        Ok(task)
    }

    /// Where an output artifact goes.
    fn destination(
        &self,
        template: &Template,
        artifact: &Artifact,
        scope: &Scope<'_>,
    ) -> Result<ArtifactLocation, String> {
        let mut location = artifact.location();
        let repository = &self.config.artifact_repository;
        let archive = template.archive_location.as_ref().filter(|l| l.has_driver());
        if location.has_location() {
            return Ok(location);
        }
        if location.has_driver() {
            location.relocate(repository);
            return Ok(location);
        }
        let file = match &artifact.archive {
            Some(a) if a.none.is_some() => {
                let path = artifact.path.as_deref().unwrap_or_default();
                path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned()
            }
            Some(a) if a.zip.is_some() => format!("{}.zip", artifact.name),
            _ => format!("{}.tgz", artifact.name),
        };
        let (mut location, prefix) = match archive {
            Some(archive) => {
                let prefix = archive.key().unwrap_or_default().to_owned();
                let mut location = archive.clone();
                location.relocate(repository);
                (location, if prefix.is_empty() { self.config.key_format.clone() } else { prefix })
            }
            None => (repository.clone(), self.config.key_format.clone()),
        };
        if !location.has_driver() {
            return Err(format!("output artifact '{}': {NO_REPOSITORY}", artifact.name));
        }
        let prefix = tags::substitute(&prefix, scope, &Options::default())
            .map_err(|faults| crate::inputs::first_message(&faults))?;
        if prefix.contains("{{") {
            return Err(format!("the key of output artifact '{}' has an unknown tag: {prefix}", artifact.name));
        }
        location.set_key(&format!("{}/{file}", prefix.trim_end_matches('/')));
        location.archive_logs = None;
        Ok(location)
    }
}

/// A run without a repository, and something to keep.
const NO_REPOSITORY: &str = "You need to configure artifact storage: no artifact repository is configured for this \
     workflow; set artifactRepository in the ConfigMap workflow-controller-configmap, or an artifact-repositories ConfigMap";

/// The members of a steps or dag template whose `outputs.result` its text names.
fn results_named(template: &Template) -> BTreeSet<String> {
    let text = serde_json::to_string(template).expect("invariant: a template that was read can be written");
    let name_before = |at: usize| {
        let before = text[..at].trim_end_matches('.').trim_end_matches(['\'', '"', ']', '\\', '?']);
        before.rfind(['.', '\'', '"']).map(|separator| before[separator + 1..].to_owned())
    };
    text.match_indices("outputs.result").filter_map(|(at, _)| name_before(at)).collect()
}

/// A container of a set that could never begin, however the others end.
fn never_begins(set: &ContainerSetTemplate) -> Option<String> {
    let mut left: Vec<&Value> = set.containers.iter().collect();
    let mut over = BTreeSet::new();
    loop {
        let before = left.len();
        left.retain(|container| {
            let mut needed = container["dependencies"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let may = needed.all(|name| over.contains(name));
            if may {
                over.insert(container["name"].as_str().unwrap_or_default());
            }
            !may
        });
        match left.first() {
            None => return None,
            Some(first) if left.len() == before => return first["name"].as_str().map(str::to_owned),
            Some(_) => {}
        }
    }
}

/// The request, and the variables that bring what its headers take from Secrets.
fn http_task(http: &HttpTemplate) -> (HttpTask, Vec<Value>) {
    let mut variables = Vec::new();
    let mut headers = Vec::new();
    for header in &http.headers {
        let mut task = HeaderTask { name: header.name.clone(), ..HeaderTask::default() };
        match header.value_from.as_ref().and_then(|v| v.secret_key_ref.as_ref()) {
            Some(secret) => {
                let variable = format!("WINDLASS_HEADER_{}", variables.len());
                let reference = json!({"name": secret.name, "key": secret.key, "optional": true});
                variables.push(json!({"name": variable, "valueFrom": {"secretKeyRef": reference}}));
                task.secret = Some(format!("{}/{}", secret.name, secret.key));
                task.variable = Some(variable);
            }
            None => task.value = header.value.clone().unwrap_or_default(),
        }
        headers.push(task);
    }
    let task = HttpTask {
        method: http.method.clone().unwrap_or_default(),
        url: http.url.clone(),
        headers,
        body: http.body.clone().unwrap_or_default(),
        body_bytes: http.body_from.as_ref().and_then(|b| b.bytes.clone()),
        timeout_seconds: http.timeout_seconds,
        insecure_skip_verify: http.insecure_skip_verify,
        success_condition: http.success_condition.clone(),
    };
    (task, variables)
}

fn main_container(template: &Template, executor_image: &str) -> Result<(Value, Option<String>), String> {
    if let Some(container) = &template.container {
        return Ok((container.clone(), None));
    }
    if let Some(script) = &template.script {
        let mut container = script.clone();
        let source = match &mut container {
            Value::Object(map) => map.remove("source"),
            _ => None,
        };
        let source = source.and_then(|s| s.as_str().map(str::to_owned)).filter(|s| !s.is_empty());
        if source.is_some() {
            let args = container["args"].as_array().cloned().unwrap_or_default();
            let args: Vec<Value> = args.into_iter().chain([json!(SCRIPT_PATH)]).collect();
            container["args"] = Value::Array(args);
        }
        return Ok((container, source));
    }
    if template.container_set.is_some() {
        return Ok((json!({}), None));
    }
    if template.resource.is_some() || template.data.is_some() || template.http.is_some() || template.plugin.is_some() {
        let container = json!({"image": executor_image, "command": [IMAGE_PROGRAM, VERB, WORK]});
        return Ok((container, None));
    }
    Err(format!("template '{}' has no container", template.name))
}

fn with_mirrored_mounts(container: &Value, mounts: Option<&Value>) -> Value {
    let mut container = container.clone();
    if let Value::Object(map) = &mut container
        && map.remove("mirrorVolumeMounts") == Some(Value::Bool(true))
        && let Some(Value::Array(mirrored)) = mounts
    {
        let own = map.entry("volumeMounts").or_insert_with(|| json!([]));
        if let Value::Array(own) = own {
            own.extend(mirrored.iter().cloned());
        }
    }
    container
}

/// A leaf's template with every tag replaced; twice, since a value may hold tags itself.
pub(crate) fn substituted_template(raw: &Template, scope: &Scope<'_>) -> Result<Template, String> {
    let value = serde_json::to_value(raw).map_err(|e| e.to_string())?;
    if !tags::has_tags(&value) {
        return Ok(raw.clone());
    }
    let mut value = value;
    for _ in 0..2 {
        value = tags::substitute_value(&value, scope, &Options::default())
            .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
        if !tags::has_tags(&value) {
            break;
        }
    }
    serde_json::from_value(value).map_err(|e| format!("the template does not fit after its tags were replaced: {e}"))
}

fn replaced<T>(of: &T, scope: &Scope<'_>) -> Result<T, String>
where
    T: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    let value = serde_json::to_value(of).map_err(|e| e.to_string())?;
    if !tags::has_tags(&value) {
        return Ok(of.clone());
    }
    let value = tags::substitute_value(&value, scope, &Options::default())
        .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// YAML or JSON text as a value.
pub(crate) fn parse_text(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let loaded = windlass_lang::yaml::load_str(text);
    loaded.documents.into_iter().next().map(|d| d.value)
}

/// The names of the volumes that containers mount, in Argo's order: the main ones', the init containers', the sidecars'.
fn mounted(spec: &Map<String, Value>, template: &Template) -> Vec<String> {
    let is_sidecar = |part: &Value| template.sidecars.iter().any(|sidecar| sidecar["name"] == part["name"]);
    let parts = |key: &str| spec.get(key).and_then(Value::as_array).into_iter().flatten();
    let (side, main): (Vec<&Value>, Vec<&Value>) = parts("containers").partition(|part| is_sidecar(part));
    let all = main.into_iter().chain(parts("initContainers")).chain(side);
    all.flat_map(|part| ["volumeMounts", "volumeDevices"].into_iter().filter_map(|key| part[key].as_array()))
        .flatten()
        .filter_map(|mount| mount["name"].as_str().map(str::to_owned))
        .collect()
}
