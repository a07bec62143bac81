//! Deletions: preconditions, grace, finalizers, and who deletes the dependents. Knows which kinds are special in this
//! and nothing of how dependents are found.

use super::write::{Done, Step, Target};
use super::{Call, DeleteOptions, Propagation, metadata, object_response};
use crate::answer::{ApiError, Body, json_response};
use crate::convert;
use crate::crd;
use crate::kinds::Resource;
use crate::store::Obj;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Namespaces that every cluster needs.
const PERMANENT: [&str; 4] = ["default", "kube-public", "kube-system", "windlass-system"];

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn is_finished(r: &Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    let waits_for_namespace =
        r.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta["deletionTimestamp"].is_string()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && metadata::finalizers(object).is_empty()
        && !waits_for_namespace
}

/// Deletes one object, or marks it as being deleted.
pub(crate) async fn delete(target: &Target<'_>, options: &DeleteOptions) -> Result<Done, ApiError> {
    let dry_run = target.dry_run || options.dry_run;
    let target = Target { dry_run, ..*target };
    target.change(|current| step(target.r, target.name, current, options)).await
}

fn step(r: &Resource, name: &str, current: Option<&Arc<Obj>>, options: &DeleteOptions) -> Result<Step, ApiError> {
    let current = current.ok_or_else(|| ApiError::not_found(r, name))?;
    let old = convert::served_value(r, current);
    let meta = &old["metadata"];
    let differs = |what: &str, wanted: &Option<String>, key: &str| match wanted {
        Some(wanted) if meta[key] != wanted.as_str() => {
            let have = meta[key].as_str().unwrap_or_default();
            let after = if what == "UID" { "deleted and then recreated" } else { "modified" };
            // Kubernetes names the kind here, not the resource.
            let qualified = if r.group.is_empty() { r.kind.clone() } else { format!("{}.{}", r.kind, r.group) };
            let why = format!(
                "Operation cannot be fulfilled on {qualified} {name:?}: the {what} in the precondition ({wanted}) does not \
                 match the {what} in record ({have}). The object might have been {after}"
            );
            Err(ApiError::new(409, "Conflict", why).with_details(crate::answer::details(&r.group, &r.kind, name)))
        }
        _ => Ok(()),
    };
    differs("UID", &options.uid, "uid")?;
    differs("ResourceVersion", &options.version, "resourceVersion")?;
    if r.is("", "namespaces") && PERMANENT.contains(&name) {
        return Err(ApiError::forbidden(r, name, "this namespace may not be deleted"));
    }
    let mut new = old.clone();
    match options.propagation {
        Some(Propagation::Orphan) => {
            metadata::set_finalizer(&mut new, FOREGROUND, false);
            metadata::set_finalizer(&mut new, ORPHAN, true);
        }
        Some(Propagation::Foreground) => {
            metadata::set_finalizer(&mut new, ORPHAN, false);
            metadata::set_finalizer(&mut new, FOREGROUND, true);
        }
        Some(Propagation::Background) => {
            metadata::set_finalizer(&mut new, ORPHAN, false);
            metadata::set_finalizer(&mut new, FOREGROUND, false);
        }
        None => {}
    }
    if r.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crd::terminate(&mut new);
    }
    mark(r, &mut new, &old, options.grace_s);
    if is_finished(r, &new) {
        return Ok(Step::Remove);
    }
    Ok(if new == old { Step::Same } else { Step::Put(new) })
}

/// Writes when, and after how long, the object goes.
fn mark(r: &Resource, new: &mut Value, old: &Value, asked_s: Option<i64>) {
    let grace_s = if r.is("", "pods") { pod_grace_s(old, asked_s) } else { 0 };
    let before = old["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let had_s = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let second = jiff::Timestamp::now().as_second();
    let at = match before {
        // It is already going: only a shorter period changes that.
        Some(_) if grace_s >= had_s => return,
        Some(before) => (before.as_second() - had_s + grace_s).max(second),
        None => second + grace_s,
    };
    if r.is("", "namespaces") {
        new["status"]["phase"] = json!("Terminating");
    }
    let meta = metadata::of(new);
    let at = jiff::Timestamp::from_second(at).unwrap_or_default();
    meta.insert("deletionTimestamp".to_owned(), json!(at.to_string()));
    // A namespace's end is not a matter of seconds.
    if !r.is("", "namespaces") {
        meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace_s));
    }
    if let Some(generation) = old["metadata"]["generation"].as_i64().filter(|&g| g > 0 && before.is_none()) {
        meta.insert("generation".to_owned(), json!(generation + 1));
    }
}

/// How long a pod may take to go. One that no node has, or that has ended, goes at once.
fn pod_grace_s(pod: &Value, asked_s: Option<i64>) -> i64 {
    let scheduled = pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !scheduled || ended {
        return 0;
    }
    asked_s.unwrap_or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)).max(0)
}

impl Call {
    fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let body = if self.body.is_empty() { None } else { Some(self.decoded()?) };
        DeleteOptions::read(body.as_ref(), &self.query)
    }

    pub(super) async fn delete(&self) -> Result<Response<Body>, ApiError> {
        let options = self.delete_options()?;
        let done = delete(&self.target(&self.what.name)?, &options).await?;
        if !done.removed || self.r.returns_deleted {
            return Ok(object_response(200, done.bytes, &[]));
        }
        let object: Value = serde_json::from_slice(&done.bytes).map_err(ApiError::internal)?;
        let mut details = crate::answer::details(&self.r.group, &self.r.plural, &self.what.name);
        details["uid"] = object["metadata"]["uid"].clone();
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok(json_response(200, &status))
    }

    pub(super) async fn delete_collection(&self) -> Result<Response<Body>, ApiError> {
        let options = self.delete_options()?;
        if self.r.namespaced && self.what.namespace.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        let selectors = self.selectors()?;
        let namespace = Some(self.what.namespace.as_str()).filter(|ns| !ns.is_empty());
        let store = self.server.store();
        let (all, rv) = store.table(&self.r.storage).snapshot(namespace, None, None).unwrap_or_default();
        let mut gone = Vec::new();
        for obj in all.iter().filter(|o| selectors.matches(&o.meta)) {
            let target = Target {
                server: &self.server,
                r: &self.r,
                namespace: &obj.meta.namespace,
                name: &obj.meta.name,
                dry_run: options.dry_run,
            };
            match delete(&target, &options).await {
                Ok(_) => gone.push(obj.clone()),
                // Somebody else was faster, or it may not go.
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let meta = json!({"resourceVersion": rv.to_string()});
        let list = self.form().list(&self.r, &gone, meta)?;
        Ok(object_response(200, list, &[]))
    }
}
