//! A Pod as a reason to look at something else: whose it is and how it is labelled. What is decided about pods is decided
//! from a fresh list; the many versions of the pods of others (a run has several for each step) are passed over in the
//! watch's bytes and never built. Holds no client.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::{NamespaceResourceScope, Resource};
use serde::{Deserialize, Deserializer};

/// A Pod as a watch that only wakes its loop sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PodSeen {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
}

fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Meta {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let Meta { name, namespace, resource_version, deletion_timestamp, labels, owner_references } =
        Meta::deserialize(from)?;
    let rest = ObjectMeta::default();
    Ok(ObjectMeta { name, namespace, resource_version, deletion_timestamp, labels, owner_references, ..rest })
}

impl PodSeen {
    /// Whether it is on its way out.
    pub(crate) fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

impl Resource for PodSeen {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
