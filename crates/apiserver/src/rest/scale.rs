//! The scale subresource: replicas and selector of any kind that has them, as `autoscaling/v1` Scale.

use super::write::Step;
use super::{Call, object_response};
use crate::answer::{ApiError, Body, FieldError, json_response};
use crate::convert;
use crate::kinds::Scale;
use crate::patch::Patch;
use crate::selector::Labels;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn scale_of(object: &Value, paths: &Scale) -> Value {
    let meta = &object["metadata"];
    let number = |path: &str| object.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = paths.selector.as_deref().and_then(|path| object.pointer(&pointer(path)));
    match selector {
        Some(Value::String(text)) => status["selector"] = json!(text),
        Some(selector @ Value::Object(_)) => status["selector"] = json!(Labels::text_of(selector)),
        _ => {}
    }
    let mut kept = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(key) {
            kept[key] = value.clone();
        }
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status})
}

impl Call {
    pub(super) async fn scale(&self, verb: &str) -> Result<Response<Body>, ApiError> {
        let Some(paths) = &self.r.scale else { return Err(ApiError::no_such_path()) };
        if verb == "get" {
            let object = convert::served_value(&self.r, &*self.current()?);
            return Ok(json_response(200, &scale_of(&object, paths)));
        }
        let patch = match verb {
            "patch" => Some(Patch::read(self.content_type(), &self.body, &self.r)?),
            _ => None,
        };
        let sent = if patch.is_none() { self.decoded()? } else { Value::Null };
        let name = self.what.name.as_str();
        let done = self
            .target(name)?
            .change(|current| {
                let current = current.ok_or_else(|| ApiError::not_found(&self.r, name))?;
                let old = convert::served_value(&self.r, current);
                let wanted = match &patch {
                    Some(patch) => patch.patched(&self.r, &scale_of(&old, paths))?,
                    None => sent.clone(),
                };
                let version = wanted["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                if !version.is_empty() && old["metadata"]["resourceVersion"] != version {
                    return Err(ApiError::modified(&self.r, name));
                }
                let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
                if replicas < 0 {
                    let why = "must be greater than or equal to 0";
                    let fault = FieldError::invalid("spec.replicas", &json!(replicas), why);
                    return Err(ApiError::invalid_kind("autoscaling", "Scale", name, &[fault]));
                }
                let mut new = old.clone();
                set(&mut new, &paths.spec_replicas, json!(replicas));
                if new == old {
                    return Ok(Step::Same);
                }
                if let Some(generation) = old["metadata"]["generation"].as_i64() {
                    new["metadata"]["generation"] = json!(generation + 1);
                }
                Ok(Step::Put(new))
            })
            .await?;
        let object: Value = serde_json::from_slice(&done.bytes).map_err(ApiError::internal)?;
        Ok(object_response(200, Bytes::from(scale_of(&object, paths).to_string()), &[]))
    }
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        at = &mut at[part];
    }
    *at = value;
}
