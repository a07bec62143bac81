//! The action itself, for any kind that the API knows.

use super::{Condition, JsonPath, ResourceError};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use serde_json::{Value, json};
use std::time::Duration;
use windlass_model::parameter::Outputs;
use windlass_model::task::{ResourceTask, Task};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// `deployment.apps/web created`
    pub summary: String,
    /// The template's output parameters.
    pub outputs: Outputs,
}

/// Carries out the task's resource template and waits for its conditions.
pub async fn run(client: &kube::Client, namespace: &str, task: &Task) -> Result<Outcome, ResourceError> {
    let resource = task.resource.as_ref().ok_or_else(|| ResourceError::Template("the task has no resource".into()))?;
    if !resource.flags.is_empty() {
        let flags = resource.flags.join(" ");
        return Err(ResourceError::Template(format!("resource.flags are not supported yet: {flags}")));
    }
    let parse = |text: &Option<String>| {
        let text = text.as_deref().filter(|t| !t.trim().is_empty());
        text.map(Condition::parse).transpose().map_err(ResourceError::Template)
    };
    let success = parse(&resource.success_condition)?;
    let failure = parse(&resource.failure_condition)?;
    let mut object = manifest(&resource.manifest)?;
    if resource.set_owner_reference {
        own(&mut object, task);
    }
    let target = Target::find(client, namespace, &object).await?;
    let (mut live, verb) = target.act(resource, object).await?;
    let summary = format!("{} {verb}", target.label);
    if resource.action == "delete" {
        return Ok(Outcome { summary, outputs: Outputs::default() });
    }
    while success.is_some() || failure.is_some() {
        if let Some(failure) = failure.as_ref().filter(|c| c.holds(&live)) {
            return Err(ResourceError::FailureCondition(failure.text().to_owned()));
        }
        match &success {
            Some(success) if success.holds(&live) => break,
            Some(_) => {}
            // Only a failure to look out for, and it has not come: as Argo, that is success.
            None => break,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        live = target.read().await?;
    }
    Ok(Outcome { summary, outputs: outputs(task, &live)? })
}

fn manifest(text: &str) -> Result<Value, ResourceError> {
    let loaded = windlass_lang::yaml::load_str(text);
    if let Some(fault) = loaded.diagnostics.first() {
        return Err(ResourceError::Template(format!("the manifest cannot be read: {}", fault.message)));
    }
    let mut documents = loaded.documents.into_iter().map(|d| d.value);
    let first = documents.next().ok_or_else(|| ResourceError::Template("the manifest is empty".into()))?;
    if documents.next().is_some() {
        return Err(ResourceError::Template("the manifest holds several objects; give each its own step".into()));
    }
    Ok(first)
}

fn own(object: &mut Value, task: &Task) {
    let owner = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": task.workflow_name,
        "uid": task.workflow_uid});
    match object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) {
        Some(owners) => owners.push(owner),
        None => object["metadata"]["ownerReferences"] = json!([owner]),
    }
}

struct Target {
    api: Api<DynamicObject>,
    name: String,
    label: String,
}

impl Target {
    async fn find(client: &kube::Client, namespace: &str, object: &Value) -> Result<Self, ResourceError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        if version.is_empty() || kind.is_empty() {
            return Err(ResourceError::Template("the manifest needs apiVersion and kind".into()));
        }
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        let (resource, capabilities) = discovery::pinned_kind(client, &gvk)
            .await
            .map_err(|e| ResourceError::Api { doing: format!("looking up kind {kind}"), source: Box::new(e) })?;
        let given = text("/metadata/namespace");
        let namespace = if given.is_empty() { namespace } else { given.as_str() };
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        let name = text("/metadata/name");
        let plural = kind.to_lowercase();
        let label = if group.is_empty() { plural } else { format!("{plural}.{group}") };
        let shown = if name.is_empty() { text("/metadata/generateName") } else { name.clone() };
        Ok(Self { api, name, label: format!("{label}/{shown}") })
    }

    fn failed(&self, doing: &str) -> impl FnOnce(kube::Error) -> ResourceError + use<> {
        let doing = format!("{doing} {}", self.label);
        move |source| ResourceError::Api { doing, source: Box::new(source) }
    }

    async fn read(&self) -> Result<Value, ResourceError> {
        let live = self.api.get(&self.name).await.map_err(self.failed("reading"))?;
        Ok(value(&live))
    }

    async fn act(&self, resource: &ResourceTask, object: Value) -> Result<(Value, &'static str), ResourceError> {
        let dynamic = |object: Value| -> Result<DynamicObject, ResourceError> {
            serde_json::from_value(object).map_err(|e| ResourceError::Template(format!("the manifest: {e}")))
        };
        if self.name.is_empty() && resource.action != "create" {
            return Err(ResourceError::Template("the manifest needs metadata.name".into()));
        }
        let parameters = PatchParams::default();
        match resource.action.as_str() {
            "create" => {
                let made = self.api.create(&PostParams::default(), &dynamic(object)?).await;
                Ok((value(&made.map_err(self.failed("creating"))?), "created"))
            }
            "get" => Ok((self.read().await?, "read")),
            "replace" => {
                let mut object = object;
                let live = self.read().await?;
                object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                let made = self.api.replace(&self.name, &PostParams::default(), &dynamic(object)?).await;
                Ok((value(&made.map_err(self.failed("replacing"))?), "replaced"))
            }
            "delete" => match self.api.delete(&self.name, &DeleteParams::background()).await {
                Ok(_) => Ok((Value::Null, "deleted")),
                Err(error) => Err(self.failed("deleting")(error)),
            },
            "patch" => {
                let patched = match resource.merge_strategy.as_deref().unwrap_or("strategic") {
                    "strategic" => self.api.patch(&self.name, &parameters, &Patch::Strategic(object)).await,
                    "merge" => self.api.patch(&self.name, &parameters, &Patch::Merge(object)).await,
                    "json" => {
                        return Err(ResourceError::Template(
                            "mergeStrategy json needs a patch beside the manifest, which is not supported yet".into(),
                        ));
                    }
                    other => return Err(ResourceError::Template(format!("unknown mergeStrategy {other:?}"))),
                };
                Ok((value(&patched.map_err(self.failed("patching"))?), "patched"))
            }
            "apply" => self.apply(object, dynamic).await,
            other => Err(ResourceError::Template(format!("unknown resource action {other:?}"))),
        }
    }

    /// As `kubectl apply`: what was applied last is noted in an annotation, and what it had and the manifest no longer has
    /// is removed.
    async fn apply(
        &self,
        mut object: Value,
        dynamic: impl Fn(Value) -> Result<DynamicObject, ResourceError>,
    ) -> Result<(Value, &'static str), ResourceError> {
        let plain = object.to_string();
        object["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{plain}\n"));
        match self.api.get_opt(&self.name).await.map_err(self.failed("reading"))? {
            None => {
                let made = self.api.create(&PostParams::default(), &dynamic(object)?).await;
                Ok((value(&made.map_err(self.failed("creating"))?), "created"))
            }
            Some(live) => {
                let live = value(&live);
                let last = live.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED));
                if let Some(last) = last.and_then(Value::as_str).and_then(|l| serde_json::from_str(l).ok()) {
                    remove_gone(&last, &mut object);
                }
                let patched = self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(object)).await;
                Ok((value(&patched.map_err(self.failed("applying"))?), "configured"))
            }
        }
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// Adds a null to `new` for each field that `last` had and `new` has not.
fn remove_gone(last: &Value, new: &mut Value) {
    if let (Value::Object(last), Value::Object(new)) = (last, new) {
        for (key, value) in last {
            match new.get_mut(key) {
                None => {
                    new.insert(key.clone(), Value::Null);
                }
                Some(inner) => remove_gone(value, inner),
            }
        }
    }
}

fn outputs(task: &Task, live: &Value) -> Result<Outputs, ResourceError> {
    let mut outputs = Outputs::default();
    for parameter in &task.outputs.parameters {
        let Some(from) = &parameter.value_from else { continue };
        let text = match (&from.json_path, &from.jq_filter) {
            (Some(path), _) => JsonPath::parse(path).map_err(ResourceError::Template)?.text(live),
            (None, Some(_)) => {
                let name = &parameter.name;
                return Err(ResourceError::Template(format!(
                    "output parameter {name:?}: jqFilter is not supported yet"
                )));
            }
            (None, None) => continue,
        };
        let text = text.or_else(|| from.default.as_ref().map(ToString::to_string));
        let text = text.ok_or_else(|| {
            ResourceError::Template(format!("output parameter {:?}: the object has no such field", parameter.name))
        })?;
        let mut done = parameter.clone();
        done.value = Some(text.into());
        outputs.parameters.push(done);
    }
    Ok(outputs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_applied_is_removed() {
        let last = json!({"spec": {"a": 1, "b": {"c": 1, "d": 2}}});
        let mut new = json!({"spec": {"b": {"c": 3}}});
        remove_gone(&last, &mut new);
        assert_eq!(new, json!({"spec": {"a": null, "b": {"c": 3, "d": null}}}));
    }

    #[test]
    fn manifests_are_checked() {
        assert!(manifest("").unwrap_err().to_string().contains("empty"));
        assert!(manifest("a: 1\n---\nb: 2\n").unwrap_err().to_string().contains("several"));
        assert_eq!(manifest("kind: X").unwrap(), json!({"kind": "X"}));
    }

    #[test]
    fn outputs_by_json_path() {
        let task: Task = serde_json::from_value(json!({"outputs": {"parameters": [
            {"name": "ip", "valueFrom": {"jsonPath": "{.spec.ip}"}},
            {"name": "d", "valueFrom": {"jsonPath": "{.no}", "default": "x"}}]}}))
        .unwrap();
        let outputs = outputs(&task, &json!({"spec": {"ip": "1.2.3.4"}})).unwrap();
        let values: Vec<String> = outputs.parameters.iter().map(|p| p.value.clone().unwrap().to_string()).collect();
        assert_eq!(values, ["1.2.3.4", "x"]);
    }
}
