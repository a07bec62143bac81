//! The form that the caller wants: objects, their metadata only, or a Table. Read from the `Accept` header.

use crate::answer::ApiError;
use crate::convert;
use crate::hooks;
use crate::kinds::Resource;
use crate::store::Obj;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What objects are sent as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Object,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`, with `includeObject`.
    Table(String),
}

impl Form {
    /// The first form in the header that is served.
    pub(crate) fn wanted(headers: &HeaderMap, include: &str) -> Self {
        if hooks::wants_table(headers) {
            return Self::Table(if include.is_empty() { "Metadata" } else { include }.to_owned());
        }
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let first = accept.split(',').find(|part| part.trim().starts_with("application/json"));
        if first.is_some_and(|part| part.contains("as=PartialObjectMetadata")) { Self::Metadata } else { Self::Object }
    }

    /// One object in this form.
    pub(crate) fn bytes(&self, r: &Resource, obj: &Obj, headings: bool) -> Result<Bytes, ApiError> {
        match self {
            Self::Object => Ok(convert::served(r, obj)),
            Self::Metadata => Ok(partial(obj)),
            Self::Table(include) => {
                let meta = json!({"resourceVersion": obj.rv.to_string()});
                let table = hooks::render_table(r, &[convert::served(r, obj)], meta, include, headings)?;
                Ok(Bytes::from(table.to_string()))
            }
        }
    }

    /// A list in this form.
    pub(crate) fn list(&self, r: &Resource, items: &[std::sync::Arc<Obj>], meta: Value) -> Result<Bytes, ApiError> {
        match self {
            Self::Object => {
                Ok(join(&r.list_kind, &r.api_version(), &meta, items.iter().map(|o| convert::served(r, o))))
            }
            Self::Metadata => {
                let items = items.iter().map(|o| partial(o));
                Ok(join("PartialObjectMetadataList", "meta.k8s.io/v1", &meta, items))
            }
            Self::Table(include) => {
                let items: Vec<Bytes> = items.iter().map(|o| convert::served(r, o)).collect();
                Ok(Bytes::from(hooks::render_table(r, &items, meta, include, true)?.to_string()))
            }
        }
    }
}

/// The metadata as it stands in the object's bytes: a large status is passed over, not parsed.
fn partial(obj: &Obj) -> Bytes {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    let object: Object<'_> =
        serde_json::from_slice(&obj.bytes).expect("invariant: stored bytes are JSON that we wrote");
    let metadata = object.metadata.map_or("null", RawValue::get);
    Bytes::from(format!(
        "{{\"apiVersion\":\"meta.k8s.io/v1\",\"kind\":\"PartialObjectMetadata\",\"metadata\":{metadata}}}"
    ))
}

fn join(kind: &str, api_version: &str, meta: &Value, items: impl Iterator<Item = Bytes>) -> Bytes {
    let head =
        format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{meta},\"items\":[", json!(kind), json!(api_version));
    let mut bytes = head.into_bytes();
    for (index, item) in items.enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(&item);
    }
    bytes.extend_from_slice(b"]}");
    Bytes::from(bytes)
}
