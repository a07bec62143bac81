//! Objects of which a loop reads a part: the kind that such a part is of, so that it can be asked for and watched by
//! its type. The rest of an object is passed over in the bytes; nothing that is read so may be written back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Says of a type with `metadata` that it is a part of this kind, which lives in namespaces.
macro_rules! part_of {
    ($part:ty, $kind:expr, $group:expr, $version:expr, $plural:expr) => {
        impl kube::core::Resource for $part {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// Says of a type with `metadata` that it is a part of a Workflow.
macro_rules! part_of_workflow {
    ($part:ty) => {
        $crate::part::part_of!($part, "Workflow", windlass_model::ARGO_GROUP, windlass_model::VERSION, "workflows");
    };
}

pub(crate) use {part_of, part_of_workflow};

/// A Workflow as it came: text, and what a watch must know of it.
#[derive(Clone, Debug)]
pub struct WorkflowText {
    pub(crate) metadata: ObjectMeta,
    text: Box<RawValue>,
}

part_of_workflow!(WorkflowText);

impl WorkflowText {
    /// All of it, as JSON.
    pub fn as_str(&self) -> &str {
        self.text.get()
    }
}

impl<'de> Deserialize<'de> for WorkflowText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        let text = Box::<RawValue>::deserialize(from)?;
        let Object { metadata } = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { metadata, text })
    }
}
