//! Templates that are stored in the cluster, for lint: a workflow may call what is not in its own file. Only reads.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use windlass_engine::validate::Templates;
use windlass_model::{ARGO_GROUP, VERSION, WorkflowSpec};

use crate::cli::Global;
use crate::connect::{Connection, connect};
use crate::manifest::Manifests;

/// The templates that some manifests may call.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// By namespace and name; ClusterWorkflowTemplates have no namespace.
    specs: HashMap<(Option<String>, String), WorkflowSpec>,
    /// Where objects without a namespace go.
    namespace: String,
    /// Whether some could not be looked at.
    unsure: bool,
}

impl Stored {
    /// What is stored in the cluster that the flags name, where these manifests call something. A cluster that does not
    /// answer is told by who creates something in it; faults of the files come first.
    pub(crate) async fn called_by(manifests: &Manifests, global: &Global) -> Result<Self> {
        let calls = |text: &str| text.contains("\"templateRef\"") || text.contains("\"workflowTemplateRef\"");
        if !manifests.documents.iter().any(|d| calls(&d.value.to_string())) {
            return Ok(Self::default());
        }
        match connect(global).await {
            Ok(connection) => Self::read(&connection, manifests).await,
            Err(_) => Ok(Self::default()),
        }
    }

    async fn read(connection: &Connection, manifests: &Manifests) -> Result<Self> {
        let mut stored = Self { namespace: connection.namespace.clone(), ..Self::default() };
        let named = manifests.documents.iter().filter_map(|d| d.value["metadata"]["namespace"].as_str());
        let mut namespaces: BTreeSet<String> = named.map(str::to_owned).collect();
        namespaces.insert(connection.namespace.clone());
        let kind = |kind: &str, plural: &str| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(ARGO_GROUP, VERSION, kind), plural)
        };
        let own = kind("WorkflowTemplate", "workflowtemplates");
        for namespace in namespaces {
            let api = Api::namespaced_with(connection.client.clone(), &namespace, &own);
            stored.take(Some(namespace), api).await?;
        }
        let cluster = kind("ClusterWorkflowTemplate", "clusterworkflowtemplates");
        stored.take(None, Api::all_with(connection.client.clone(), &cluster)).await?;
        Ok(stored)
    }

    async fn take(&mut self, namespace: Option<String>, api: Api<DynamicObject>) -> Result<()> {
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            // Who may submit need not be allowed to look; the controller will tell.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                self.unsure = true;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for object in list.items {
            let name = object.metadata.name.unwrap_or_default();
            match serde_json::from_value(object.data["spec"].clone()) {
                Ok(spec) => drop(self.specs.insert((namespace.clone(), name), spec)),
                Err(_) => self.unsure = true,
            }
        }
        Ok(())
    }
}

impl Templates for Stored {
    fn template(&self, cluster: bool, namespace: Option<&str>, name: &str) -> Option<WorkflowSpec> {
        let namespace = (!cluster).then(|| namespace.unwrap_or(&self.namespace).to_owned());
        self.specs.get(&(namespace, name.to_owned())).cloned()
    }

    fn complete(&self) -> bool {
        !self.unsure
    }
}
