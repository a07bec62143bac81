//! Patches: JSON patch, merge patch, strategic merge patch. Pure: a document and a patch in, a document
//! out.

mod keys;
mod merge;
mod strategic;

use crate::answer::ApiError;
use crate::kinds::Resource;
use serde_json::Value;

/// A patch as it came.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

pub(crate) const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl Patch {
    /// Reads a patch by its content type. Custom kinds take no strategic merge patches, as on every cluster.
    pub(crate) fn read(content_type: &str, body: &[u8], r: &Resource) -> Result<Self, ApiError> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let decode = |e: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding patch: {e}"));
        let object = || -> Result<Value, ApiError> {
            let value: Value = serde_json::from_slice(body).map_err(|e| decode(&e))?;
            if value.is_object() { Ok(value) } else { Err(decode(&"a patch must be a JSON object")) }
        };
        match kind {
            JSON => {
                // Read as plain JSON first: of a field that is there twice the last one counts, as everywhere.
                let value: Value = serde_json::from_slice(body).map_err(|e| decode(&e))?;
                Ok(Self::Json(serde_json::from_value(value).map_err(|e| decode(&e))?))
            }
            MERGE => Ok(Self::Merge(object()?)),
            STRATEGIC if r.builtin => Ok(Self::Strategic(object()?)),
            APPLY => Err(ApiError::new(
                415,
                "UnsupportedMediaType",
                format!("server-side apply is not served by the embedded API yet (see {})", crate::answer::DOCS_PAGE),
            )),
            STRATEGIC => Err(ApiError::unsupported_media_type(&[JSON, MERGE, APPLY])),
            _ => Err(ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")),
        }
    }

    /// Applies the patch to a document.
    pub(crate) fn patched(&self, r: &Resource, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match self {
            Self::Json(patch) => {
                json_patch::patch(&mut new, patch).map_err(|error| {
                    tracing::debug!(%error, "a JSON patch does not apply");
                    ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request")
                })?;
            }
            Self::Merge(patch) => merge::merge(&mut new, patch),
            Self::Strategic(patch) => strategic::merge(&mut new, patch, &r.group, &r.kind)?,
        }
        Ok(new)
    }
}
