//! The linter's view of the cluster: templates that a manifest refers to and does not hold itself.

use std::collections::HashMap;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use windlass_engine::validate::{NoTemplates, Templates, validate};
use windlass_lang::yaml::{Document, flatten};
use windlass_lang::{Diagnostic, Sources};
use windlass_model::WorkflowSpec;

/// Checks every document; templates are only listed where one is referred to.
pub(super) async fn lint(
    client: &kube::Client,
    namespace: &str,
    sources: &Sources,
    documents: &[Document],
) -> Vec<Diagnostic> {
    let documents = flatten(documents.to_vec());
    let refers = documents.iter().any(|document| refers(&document.value));
    if !refers {
        return validate(&documents, sources, &NoTemplates);
    }
    let mut found = Found { complete: true, specs: HashMap::new() };
    found.add(client, "WorkflowTemplate", Some(namespace)).await;
    found.add(client, "ClusterWorkflowTemplate", None).await;
    validate(&documents, sources, &found)
}

fn refers(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().any(|(key, inner)| key == "templateRef" || key == "workflowTemplateRef" || refers(inner))
        }
        serde_json::Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

struct Found {
    /// A list that failed proves nothing about what is missing.
    complete: bool,
    specs: HashMap<(bool, String), WorkflowSpec>,
}

impl Found {
    async fn add(&mut self, client: &kube::Client, kind: &str, namespace: Option<&str>) {
        let kind = GroupVersionKind::gvk(windlass_model::ARGO_GROUP, windlass_model::VERSION, kind);
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let Ok(list) = api.list(&ListParams::default()).await else {
            self.complete = false;
            return;
        };
        for mut object in list.items {
            let spec = object.data.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
            match (object.metadata.name, serde_json::from_value(spec)) {
                (Some(name), Ok(spec)) => {
                    self.specs.insert((namespace.is_none(), name), spec);
                }
                _ => self.complete = false,
            }
        }
    }
}

impl Templates for Found {
    fn template(&self, cluster: bool, _namespace: Option<&str>, name: &str) -> Option<WorkflowSpec> {
        self.specs.get(&(cluster, name.to_owned())).cloned()
    }

    fn complete(&self) -> bool {
        self.complete
    }
}
