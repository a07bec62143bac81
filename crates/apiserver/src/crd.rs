//! CustomResourceDefinitions: checked, established, served, and taken away with everything that was made of them.
//! Conversion between versions changes `apiVersion` only. Knows no kind by name.

use crate::ApiServer;
use crate::answer::{ApiError, FieldError};
use crate::background;
use crate::kinds::{PrinterColumn, Resource, Scale, api_version};
use crate::rest::{DeleteOptions, metadata};
use crate::store::key_of;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The table of definitions.
pub(crate) const TABLE: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Keeps a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn versions(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["versions"].as_array().into_iter().flatten()
}

/// The faults of a definition.
pub(crate) fn validate(object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let spec = &object["spec"];
    let (group, plural) = (text(spec, "group"), text(&spec["names"], "plural"));
    let name = text(&object["metadata"], "name");
    let expected = format!("{plural}.{group}");
    if name != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        faults.push(FieldError::invalid("metadata.name", &json!(name), why));
    }
    for (field, value) in
        [("spec.group", group), ("spec.names.plural", plural), ("spec.names.kind", text(&spec["names"], "kind"))]
    {
        if value.is_empty() {
            faults.push(FieldError::required(field, ""));
        }
    }
    if !matches!(text(spec, "scope"), "Namespaced" | "Cluster") {
        faults.push(FieldError::not_supported("spec.scope", &json!(text(spec, "scope")), &["Cluster", "Namespaced"]));
    }
    if versions(object).filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        faults.push(FieldError::invalid("spec.versions", &spec["versions"], why));
    }
    for (index, version) in versions(object).enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
            faults.push(FieldError::required(field, "schemas are required"));
        }
    }
    if text(&spec["conversion"], "strategy") == "Webhook" {
        faults.push(FieldError::not_supported("spec.conversion.strategy", &json!("Webhook"), &["None"]));
    }
    faults
}

/// Gives a definition's spec what it may leave out. An update is compared with what was stored after that.
pub(crate) fn default(object: &mut Value) {
    let kind = text(&object["spec"]["names"], "kind").to_owned();
    let names = &mut object["spec"]["names"];
    if names.is_object() {
        if text(names, "singular").is_empty() {
            names["singular"] = json!(kind.to_lowercase());
        }
        if text(names, "listKind").is_empty() {
            names["listKind"] = json!(format!("{kind}List"));
        }
    }
    if object["spec"]["conversion"].is_null() {
        object["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// Completes a definition: default names, conditions, accepted names, stored versions.
pub(crate) fn establish(object: &mut Value, old: Option<&Value>) {
    default(object);
    let storage = versions(object).find(|v| v["storage"] == true).map(|v| v["name"].clone());
    let mut stored = old.and_then(|o| o["status"]["storedVersions"].as_array().cloned()).unwrap_or_default();
    stored.extend(storage.filter(|s| !stored.contains(s)));
    let old_conditions = old.and_then(|o| o["status"]["conditions"].as_array().cloned());
    let conditions = old_conditions.filter(|c| !c.is_empty()).unwrap_or_else(|| {
        let now = metadata::now_text();
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now})
        };
        vec![
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]
    });
    object["status"] =
        json!({"conditions": conditions, "acceptedNames": object["spec"]["names"], "storedVersions": stored});
}

/// Prepares a definition for its end: it stays until its objects are gone.
pub(crate) fn terminate(object: &mut Value) {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return;
    }
    metadata::set_finalizer(object, CLEANUP, true);
    let condition = json!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        "lastTransitionTime": metadata::now_text()});
    if let Some(list) = object["status"]["conditions"].as_array_mut() {
        list.retain(|c| c["type"] != "Terminating");
        list.push(condition);
    }
}

/// What a definition serves.
pub(crate) fn resources(object: &Value) -> Vec<Resource> {
    let spec = &object["spec"];
    let names = &spec["names"];
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
    };
    let Some(storage) = versions(object).find(|v| v["storage"] == true) else { return Vec::new() };
    let group = text(spec, "group");
    let storage_api_version = api_version(group, text(storage, "name"));
    let served = versions(object).filter(|v| v["served"] == true || v["storage"] == true);
    let mut list = Vec::new();
    for version in served {
        let sub = &version["subresources"];
        let scale = sub["scale"].is_object().then(|| Scale {
            spec_replicas: text(&sub["scale"], "specReplicasPath").to_owned(),
            status_replicas: text(&sub["scale"], "statusReplicasPath").to_owned(),
            selector: sub["scale"]["labelSelectorPath"].as_str().map(str::to_owned),
        });
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten().map(|c| PrinterColumn {
            name: text(c, "name").to_owned(),
            kind: text(c, "type").to_owned(),
            format: text(c, "format").to_owned(),
            description: text(c, "description").to_owned(),
            priority: c["priority"].as_i64().unwrap_or(0),
            json_path: text(c, "jsonPath").to_owned(),
        });
        let selectable = version["selectableFields"].as_array().into_iter().flatten();
        list.push(Resource {
            group: group.to_owned(),
            version: text(version, "name").to_owned(),
            kind: text(names, "kind").to_owned(),
            list_kind: text(names, "listKind").to_owned(),
            plural: text(names, "plural").to_owned(),
            singular: text(names, "singular").to_owned(),
            short_names: strings(&names["shortNames"]),
            categories: strings(&names["categories"]),
            namespaced: text(spec, "scope") == "Namespaced",
            status: sub["status"].is_object(),
            scale,
            generation: true,
            create_on_update: false,
            returns_deleted: false,
            selectable: selectable.map(|f| text(f, "jsonPath").trim_start_matches('.').to_owned()).collect(),
            storage: format!("{}.{group}", text(names, "plural")),
            storage_api_version: storage_api_version.clone(),
            builtin: false,
            schema: Some(Arc::new(version["schema"]["openAPIV3Schema"].clone())),
            columns: columns.collect(),
        });
    }
    list
}

/// Serves what the stored definition says now, or no longer.
pub(crate) fn committed(server: &ApiServer, object: &Value) {
    let name = text(&object["metadata"], "name").to_owned();
    let spec = &object["spec"];
    let (group, plural) = (text(spec, "group").to_owned(), text(&spec["names"], "plural").to_owned());
    server.change_registry(|registry| {
        // Under the registry's lock, what is stored now counts, so that two changes cannot be taken in the wrong
        // order.
        registry.remove_custom(&group, &plural);
        let current = server.store().table(TABLE).get(&key_of("", &name));
        for resource in current.map(|obj| resources(&obj.value())).unwrap_or_default() {
            registry.insert(resource);
        }
    });
}

/// Whether a custom kind's definition is going.
pub(crate) fn is_terminating(server: &ApiServer, r: &Resource) -> bool {
    if r.builtin {
        return false;
    }
    let key = key_of("", &format!("{}.{}", r.plural, r.group));
    server.store().table(TABLE).get(&key).is_some_and(|obj| obj.meta.deleting)
}

/// Creates definitions or brings them up to date.
pub(crate) async fn ensure(server: &ApiServer, definitions: &[Value]) -> Result<(), ApiError> {
    for wanted in definitions {
        let name = text(&wanted["metadata"], "name");
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let created = server.internal(http::Method::POST, path, "application/json", wanted).await;
        match created {
            Err(error) if error.reason == "AlreadyExists" => {
                let patch = json!([{"op": "replace", "path": "/spec", "value": wanted["spec"]}]);
                let path = format!("{path}/{name}");
                server.internal(http::Method::PATCH, &path, "application/json-patch+json", &patch).await?;
            }
            other => {
                other?;
            }
        }
    }
    Ok(())
}

/// Takes away the objects of a definition that is going, then the definition.
pub(crate) async fn finish(server: &ApiServer, name: &str) {
    let key = key_of("", name);
    let mut pause = Duration::from_millis(10);
    while let Some(definition) = server.store().table(TABLE).get(&key).filter(|d| d.meta.deleting) {
        let Some(r) = resources(&definition.value()).into_iter().next().map(Arc::new) else { return };
        let table = server.store().table(&r.storage);
        let (all, _) = table.snapshot(None, None, None).unwrap_or_default();
        if all.is_empty() {
            let edited = background::edit(server, TABLE, &key, |object| {
                metadata::set_finalizer(object, CLEANUP, false);
            });
            if let Err(error) = edited.await {
                tracing::warn!(%error, crd = name, "cannot end a CustomResourceDefinition yet");
            }
            if metadata::finalizers(&definition.value()).len() > 1 {
                return;
            }
        }
        for obj in all.iter().filter(|o| !o.meta.deleting) {
            if let Err(error) = background::delete(server, &r, obj, &DeleteOptions::default()).await {
                tracing::warn!(%error, crd = name, object = %obj.meta.key(), "cannot delete yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
