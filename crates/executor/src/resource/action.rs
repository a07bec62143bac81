//! The action itself, for any kind that the API knows, as kubectl would do it.

use super::flags::Flags;
use super::target::{Kind, Target, value};
use super::{Condition, JsonPath, ResourceError};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, Request};
use serde_json::{Value, json};
use std::time::Duration;
use windlass_lang::jq;
use windlass_model::parameter::Outputs;
use windlass_model::task::{ResourceTask, Task};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// What is being deleted is mostly gone at once.
const LOOK_AGAIN_GONE: Duration = Duration::from_millis(100);
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const NO_NAME: &str = "Kind and name are both required but at least one of them is missing from the manifest";

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
    let flags = Flags::parse(&resource.flags).map_err(ResourceError::Template)?;
    let parse = |text: &Option<String>| {
        let text = text.as_deref().filter(|t| !t.trim().is_empty());
        text.map(Condition::parse).transpose().map_err(ResourceError::Template)
    };
    let success = parse(&resource.success_condition)?;
    let failure = parse(&resource.failure_condition)?;
    let text = match &resource.manifest_path {
        Some(path) => std::fs::read_to_string(path).map_err(|e| ResourceError::Template(format!("{path}: {e}")))?,
        None => resource.manifest.clone(),
    };
    if text.trim().is_empty() && resource.flags.is_empty() {
        return Err(ResourceError::Template("Must provide at least one of flags or manifest.".into()));
    }
    let mut objects = manifests(&text)?;
    if resource.set_owner_reference {
        objects.iter_mut().for_each(|object| own(object, task));
    }
    let namespace = flags.namespace.as_deref().unwrap_or(namespace);
    let action = Action { client, namespace, resource, flags: &flags };
    if resource.action == "delete" {
        if success.is_some() || failure.is_some() || !task.outputs.parameters.is_empty() {
            let message = "a delete has no conditions and no outputs: the object is gone";
            return Err(ResourceError::Template(message.into()));
        }
        return Ok(Outcome { summary: action.delete(objects).await?, outputs: Outputs::default() });
    }
    let Some((target, mut live, verb)) = action.act(objects).await? else {
        // Nothing was found, and that was to be ignored.
        return Ok(Outcome { summary: "nothing found".to_owned(), outputs: outputs(task, None)? });
    };
    while success.is_some() || failure.is_some() {
        if let Some(met) = failure.as_ref().and_then(|c| c.met(&live)) {
            return Err(ResourceError::FailureCondition(met.to_owned()));
        }
        match &success {
            Some(success) if success.holds(&live) => break,
            Some(_) => {}
            // Only a failure to look out for, and it has not come: as Argo, that is success.
            None => break,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        match target.read().await {
            Ok(now) => live = now,
            Err(error) if error.is_gone() => {
                let message = "The resource has been deleted while its status was still being checked";
                return Err(ResourceError::Template(format!("{message}: {error}")));
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome { summary: format!("{} {verb}", target.label), outputs: outputs(task, Some(&live))? })
}

fn manifests(text: &str) -> Result<Vec<Value>, ResourceError> {
    let loaded = windlass_lang::yaml::load_str(text);
    if let Some(fault) = loaded.diagnostics.first() {
        return Err(ResourceError::Template(format!("the manifest cannot be read: {}", fault.message)));
    }
    Ok(loaded.documents.into_iter().map(|d| d.value).filter(|v| !v.is_null()).collect())
}

fn own(object: &mut Value, task: &Task) {
    let owner = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": task.workflow_name,
        "uid": task.workflow_uid, "controller": true, "blockOwnerDeletion": true});
    match object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) {
        Some(owners) => owners.push(owner),
        None => object["metadata"]["ownerReferences"] = json!([owner]),
    }
}

fn dynamic(object: Value) -> Result<DynamicObject, ResourceError> {
    serde_json::from_value(object).map_err(|e| ResourceError::Template(format!("the manifest: {e}")))
}

/// One action on the API.
struct Action<'a> {
    client: &'a kube::Client,
    namespace: &'a str,
    resource: &'a ResourceTask,
    flags: &'a Flags,
}

type Acted = (Target, Value, &'static str);

impl Action<'_> {
    /// The object that a manifest describes.
    async fn described(&self, object: &Value) -> Result<Target, ResourceError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let given = text("/metadata/namespace");
        let namespace = if given.is_empty() { self.namespace } else { given };
        let name = text("/metadata/name");
        let shown = if name.is_empty() { text("/metadata/generateName") } else { name };
        Ok(Kind::of(self.client, object).await?.target(self.client, namespace, name, shown))
    }

    /// The one object that the flags name.
    async fn named(&self) -> Result<Target, ResourceError> {
        match self.flags.objects.as_slice() {
            [one] => {
                let kind = Kind::named(self.client, &one.kind).await?;
                Ok(kind.target(self.client, self.namespace, &one.name, &one.name))
            }
            _ => Err(ResourceError::Template(NO_NAME.into())),
        }
    }

    fn post(&self) -> PostParams {
        PostParams { dry_run: self.flags.dry_run, field_manager: self.flags.field_manager.clone() }
    }

    fn patch_params(&self) -> PatchParams {
        PatchParams {
            dry_run: self.flags.dry_run,
            force: self.flags.server_side && self.flags.force_conflicts,
            field_manager: self.flags.field_manager.clone(),
            ..PatchParams::default()
        }
    }

    /// Everything but `delete`; nothing where the object is not there and need not be.
    async fn act(&self, mut objects: Vec<Value>) -> Result<Option<Acted>, ResourceError> {
        if objects.len() > 1 {
            let message = "the manifest holds several objects; give each its own step";
            return Err(ResourceError::Template(message.into()));
        }
        let object = objects.pop();
        let action = self.resource.action.as_str();
        if action == "patch" {
            return self.patch(object).await.map(Some);
        }
        if action == "get" {
            let target = match &object {
                Some(object) => self.described(object).await?,
                None => self.named().await?,
            };
            return match target.read().await {
                Ok(live) => Ok(Some((target, live, "read"))),
                Err(error) if error.is_gone() && self.flags.ignore_not_found => Ok(None),
                Err(error) => Err(error),
            };
        }
        let mut object = object.ok_or_else(|| ResourceError::Template("the manifest is empty".into()))?;
        let target = self.described(&object).await?;
        if target.name.is_empty() && action != "create" {
            return Err(ResourceError::Template("the manifest needs metadata.name".into()));
        }
        let (live, verb) = match action {
            "create" => {
                if self.flags.save_config {
                    note(&mut object);
                }
                let made = target.api.create(&self.post(), &dynamic(object)?).await;
                let live = value(&made.map_err(target.failed("creating"))?);
                let name = live["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let label = target.label.split('/').next().unwrap_or_default();
                let target = Target { label: format!("{label}/{name}"), name, ..target };
                return Ok(Some((target, live, "created")));
            }
            "replace" if self.flags.force => {
                self.remove(&target).await?;
                let made = target.api.create(&self.post(), &dynamic(object)?).await;
                (value(&made.map_err(target.failed("replacing"))?), "replaced")
            }
            "replace" => {
                let live = target.read().await?;
                object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                let made = target.api.replace(&target.name, &self.post(), &dynamic(object)?).await;
                (value(&made.map_err(target.failed("replacing"))?), "replaced")
            }
            "apply" if self.flags.server_side => {
                let mut params = self.patch_params();
                params.field_manager.get_or_insert_with(|| "kubectl".to_owned());
                let made = target.api.patch(&target.name, &params, &Patch::Apply(object)).await;
                (value(&made.map_err(target.failed("applying"))?), "serverside-applied")
            }
            "apply" => self.apply(&target, object).await?,
            other => return Err(ResourceError::Template(format!("unknown resource action {other:?}"))),
        };
        Ok(Some((target, live, verb)))
    }

    /// The manifest is the patch. Its kind and name say of what, unless the flags do.
    async fn patch(&self, object: Option<Value>) -> Result<Acted, ResourceError> {
        let strategy = self.flags.patch_type.as_deref().or(self.resource.merge_strategy.as_deref());
        let strategy = strategy.filter(|s| !s.is_empty()).unwrap_or("strategic");
        let by_flags = strategy == "json" || object.as_ref().is_none_or(|o| o["kind"].is_null());
        let target = match &object {
            Some(object) if !by_flags || !self.flags.names_objects() => self.described(object).await?,
            _ => self.named().await?,
        };
        let body = match (&self.flags.patch, object) {
            (Some(text), _) => manifests(text)?.pop(),
            (None, object) => object,
        };
        let body = body.ok_or_else(|| ResourceError::Template("there is no patch: give a manifest or -p".into()))?;
        let (params, name) = (self.patch_params(), target.name.as_str());
        let sub = self.flags.subresource.as_deref();
        let patched = match (strategy, sub) {
            ("strategic", None) => target.api.patch(name, &params, &Patch::Strategic(body)).await,
            ("strategic", Some(sub)) => target.api.patch_subresource(sub, name, &params, &Patch::Strategic(body)).await,
            ("merge", None) => target.api.patch(name, &params, &Patch::Merge(body)).await,
            ("merge", Some(sub)) => target.api.patch_subresource(sub, name, &params, &Patch::Merge(body)).await,
            ("json", sub) => self.patch_json(&target, sub, &params, body).await?,
            (other, _) => return Err(ResourceError::Template(format!("unknown mergeStrategy {other:?}"))),
        };
        let live = value(&patched.map_err(target.failed("patching"))?);
        Ok((target, live, "patched"))
    }

    async fn patch_json(
        &self,
        target: &Target,
        sub: Option<&str>,
        params: &PatchParams,
        body: Value,
    ) -> Result<Result<DynamicObject, kube::Error>, ResourceError> {
        if !body.is_array() {
            return Err(ResourceError::Template("a patch of type json is a list of operations".into()));
        }
        // The typed form would need a crate of its own: the request is the same but for its type.
        let request = Request::new(target.api.resource_url());
        let plain = Patch::Merge(&body);
        let request = match sub {
            Some(sub) => request.patch_subresource(sub, &target.name, params, &plain),
            None => request.patch(&target.name, params, &plain),
        };
        let mut request = request.map_err(|e| ResourceError::Template(e.to_string()))?;
        let kind = "application/json-patch+json".parse();
        if let Ok(kind) = kind {
            request.headers_mut().insert("content-type", kind);
        }
        Ok(self.client.request(request).await)
    }

    /// Deletes what the manifest or the flags name; says what.
    async fn delete(&self, objects: Vec<Value>) -> Result<String, ResourceError> {
        let mut targets = Vec::new();
        for object in &objects {
            targets.push(self.described(object).await?);
        }
        for named in &self.flags.objects {
            let kind = Kind::named(self.client, &named.kind).await?;
            targets.push(kind.target(self.client, self.namespace, &named.name, &named.name));
        }
        for word in &self.flags.types {
            if self.flags.selector.is_none() && self.flags.field_selector.is_none() && !self.flags.all {
                let message = format!("resource(s) were provided, but no name was specified: {word}");
                return Err(ResourceError::Template(message));
            }
            let kind = Kind::named(self.client, word).await?;
            let list = ListParams {
                label_selector: self.flags.selector.clone(),
                field_selector: self.flags.field_selector.clone(),
                ..ListParams::default()
            };
            let found = kind.api(self.client, self.namespace).list(&list).await;
            let found =
                found.map_err(|e| ResourceError::Api { doing: format!("listing {word}"), source: Box::new(e) })?;
            let names = found.items.into_iter().filter_map(|o| o.metadata.name);
            targets.extend(names.map(|name| kind.target(self.client, self.namespace, &name, &name)));
        }
        if targets.is_empty() && !self.flags.names_objects() {
            return Err(ResourceError::Template(
                "nothing to delete: neither the manifest nor the flags name it".into(),
            ));
        }
        let mut told = Vec::new();
        for target in &targets {
            if target.name.is_empty() {
                return Err(ResourceError::Template("the manifest needs metadata.name".into()));
            }
            if self.remove(target).await? {
                told.push(format!("{} deleted", target.label));
            }
        }
        Ok(if told.is_empty() { "nothing found to delete".to_owned() } else { told.join("\n") })
    }

    /// Deletes one object and waits until it is gone; whether it was there.
    async fn remove(&self, target: &Target) -> Result<bool, ResourceError> {
        let policy = match self.flags.cascade.as_deref() {
            Some("orphan") => PropagationPolicy::Orphan,
            Some("foreground") => PropagationPolicy::Foreground,
            _ => PropagationPolicy::Background,
        };
        let force = self.flags.force.then_some(0);
        let params = DeleteParams {
            dry_run: self.flags.dry_run,
            grace_period_seconds: self.flags.grace_seconds.or(force),
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        let gone = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 404);
        // Who may delete need not be allowed to look.
        let before = match target.api.get_opt(&target.name).await {
            Ok(Some(before)) => before.metadata.uid,
            Ok(None) => return Ok(false),
            Err(kube::Error::Api(status)) if status.code == 403 => None,
            Err(error) => return Err(target.failed("reading")(error)),
        };
        match target.api.delete(&target.name, &params).await {
            Ok(_) => {}
            Err(error) if gone(&error) => return Ok(false),
            Err(error) => return Err(target.failed("deleting")(error)),
        }
        while before.is_some() && !self.flags.no_wait && !self.flags.dry_run {
            match target.api.get_opt(&target.name).await {
                Ok(Some(now)) if now.metadata.uid == before => tokio::time::sleep(LOOK_AGAIN_GONE).await,
                Ok(_) => break,
                Err(error) => return Err(target.failed("waiting for the end of")(error)),
            }
        }
        Ok(true)
    }

    /// As `kubectl apply`: what was applied last is noted in an annotation, and what it had and the manifest no longer has
    /// is removed.
    async fn apply(&self, target: &Target, mut object: Value) -> Result<(Value, &'static str), ResourceError> {
        note(&mut object);
        match target.api.get_opt(&target.name).await.map_err(target.failed("reading"))? {
            None => {
                let made = target.api.create(&self.post(), &dynamic(object)?).await;
                Ok((value(&made.map_err(target.failed("creating"))?), "created"))
            }
            Some(live) => {
                let live = value(&live);
                let last = live.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED));
                if let Some(last) = last.and_then(Value::as_str).and_then(|l| serde_json::from_str(l).ok()) {
                    remove_gone(&last, &mut object);
                }
                let patched = target.api.patch(&target.name, &self.patch_params(), &Patch::Merge(object)).await;
                Ok((value(&patched.map_err(target.failed("applying"))?), "configured"))
            }
        }
    }
}

/// Notes what is applied in the object itself.
fn note(object: &mut Value) {
    let plain = object.to_string();
    object["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{plain}\n"));
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

/// The output parameters, from the object; from their defaults where there is none.
fn outputs(task: &Task, live: Option<&Value>) -> Result<Outputs, ResourceError> {
    let mut outputs = Outputs::default();
    for parameter in &task.outputs.parameters {
        let Some(from) = &parameter.value_from else { continue };
        let wrong = |why: String| ResourceError::Template(format!("output parameter {:?}: {why}", parameter.name));
        let text = match (live, &from.json_path, &from.jq_filter) {
            (None, _, _) => None,
            (Some(live), Some(path), _) => JsonPath::parse(path).map_err(wrong)?.text(live),
            (Some(live), None, Some(filter)) => {
                let answers = jq::run(filter, live).map_err(|fault| wrong(fault.message))?;
                Some(answers.join("\n").trim().to_owned())
            }
            (Some(_), None, None) => continue,
        };
        let text = text.or_else(|| from.default.as_ref().map(ToString::to_string)).unwrap_or_default();
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
    fn manifests_are_read() {
        assert_eq!(manifests("").unwrap(), Vec::<Value>::new());
        assert_eq!(manifests("a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert_eq!(manifests("kind: X").unwrap(), [json!({"kind": "X"})]);
        assert!(manifests("a: [").unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn outputs_by_json_path_and_jq() {
        let task: Task = serde_json::from_value(json!({"outputs": {"parameters": [
            {"name": "ip", "valueFrom": {"jsonPath": "{.spec.ip}"}},
            {"name": "d", "valueFrom": {"jsonPath": "{.no}", "default": "x"}},
            {"name": "none", "valueFrom": {"jsonPath": "{.no}"}},
            {"name": "jq", "valueFrom": {"jqFilter": ".spec.list[] | .a"}}]}}))
        .unwrap();
        let values = |live: Option<&Value>| -> Vec<String> {
            let outputs = outputs(&task, live).unwrap();
            outputs.parameters.iter().map(|p| p.value.clone().unwrap().to_string()).collect()
        };
        let live = json!({"spec": {"ip": "1.2.3.4", "list": [{"a": "b"}, {"a": 2}]}});
        assert_eq!(values(Some(&live)), ["1.2.3.4", "x", "", "b\n2"]);
        assert_eq!(values(None), ["", "x", "", ""]);
    }
}
