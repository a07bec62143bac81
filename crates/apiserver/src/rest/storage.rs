//! What the API adds to claims and volumes as they are made: the finalizers that keep them while they are used, and the
//! storage class of a claim that names none. Binds nothing.

use super::metadata;
use crate::ApiServer;
use crate::kinds::Resource;
use serde_json::{Value, json};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Completes a new claim or volume.
pub(super) fn complete(server: &ApiServer, r: &Resource, object: &mut Value) {
    if r.is("", "persistentvolumeclaims") {
        protect(object, "kubernetes.io/pvc-protection");
        if object["spec"].get("storageClassName").is_none_or(Value::is_null)
            && let Some(class) = default_class(server)
        {
            object["spec"]["storageClassName"] = json!(class);
        }
    }
    if r.is("", "persistentvolumes") {
        protect(object, "kubernetes.io/pv-protection");
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let list = metadata::of(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|f| f == finalizer)
    {
        list.push(json!(finalizer));
    }
}

/// The newest of the classes that are the default.
fn default_class(server: &ApiServer) -> Option<String> {
    let classes = server.store().table("storageclasses.storage.k8s.io").snapshot(None, None, None).ok()?.0;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(String, String)> = classes
        .iter()
        .map(|class| class.value())
        .filter(|class| class["metadata"]["annotations"][DEFAULT_CLASS] == "true")
        .map(|class| (text(&class["metadata"]["creationTimestamp"]), text(&class["metadata"]["name"])))
        .collect();
    // Of those that were made at one time the first by name.
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().next().map(|(_, name)| name)
}
