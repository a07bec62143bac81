//! The places where the request pipeline asks the rooms around it: authorization, discovery, protobuf, defaults, field
//! validation, tables, reviews and tokens. Each function is one question; the answers live in those rooms. Never reads
//! the store by itself.
//!
//! Order of one request: identity (a request extension, set by the in-process client or by the listener) → [`authorize`] →
//! [`non_resource`] or the resource path → [`virtual_create`] for kinds that are asked, not stored → [`decode`] →
//! [`unknown_fields`] → [`default_object`] → [`validate_object`] → store → [`render_table`] where a table is wanted.

use crate::ApiServer;
use crate::answer::{ApiError, Body, FieldError};
use crate::auth::{Attributes, Identity};
use crate::kinds::Resource;
use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};
use serde_json::Value;

/// May this identity do that? `Err` is the 403 (or 401).
pub(crate) fn authorize(_server: &ApiServer, _who: &Identity, _what: &Attributes) -> Result<(), ApiError> {
    Ok(())
}

/// Paths that name no resource: `/version`, `/healthz`, discovery, OpenAPI. `None` is a 404.
pub(crate) fn non_resource(_server: &ApiServer, _parts: &Parts) -> Option<Response<Body>> {
    None
}

/// A POST to a resource that is asked and not stored: the reviews of `authorization.k8s.io` and `authentication.k8s.io`, and
/// the subresource `serviceaccounts/token`. `None`: not one of those.
pub(crate) fn virtual_create(
    _server: &ApiServer,
    _who: &Identity,
    _what: &Attributes,
    _headers: &HeaderMap,
    _body: &Bytes,
) -> Option<Result<Value, ApiError>> {
    None
}

/// A request body: JSON, YAML or protobuf, by its content type, as a JSON object.
pub(crate) fn decode(_content_type: &str, body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("the object provided is unrecognized (must be of type json): {e}")))
}

/// Whether the caller may write this object, beyond the verb: RBAC escalation checks. `old` is absent on creation.
pub(crate) fn admit(
    _server: &ApiServer,
    _who: &Identity,
    _r: &Resource,
    _namespace: &str,
    _object: &Value,
    _old: Option<&Value>,
) -> Result<(), ApiError> {
    Ok(())
}

/// Fills in the defaults of a built-in kind. Custom kinds are defaulted by their schema, elsewhere.
pub(crate) fn default_object(_r: &Resource, _object: &mut Value) {}

/// The faults of a built-in kind, beyond metadata. `old` is absent on creation.
pub(crate) fn validate_object(_r: &Resource, _object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    Vec::new()
}

/// Paths of fields that a built-in kind does not have: `spec.foo`.
pub(crate) fn unknown_fields(_r: &Resource, _object: &Value) -> Vec<String> {
    Vec::new()
}

/// Whether the `Accept` header prefers a Table.
pub(crate) fn wants_table(_headers: &HeaderMap) -> bool {
    false
}

/// Objects as a `Table`. `include` is the query parameter `includeObject`: `None`, `Metadata` (default) or `Object`.
/// `list_meta` is the list's metadata (resourceVersion, continue, …). `headings` is false for watch events after the first.
pub(crate) fn render_table(
    _r: &Resource,
    _objects: &[Bytes],
    list_meta: Value,
    _include: &str,
    _headings: bool,
) -> Result<Value, ApiError> {
    Ok(serde_json::json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "rows": []}))
}
