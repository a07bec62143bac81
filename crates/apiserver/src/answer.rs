//! Answers that are not objects: `Status`, with the reasons, codes and sentences of Kubernetes. Knows no store and no
//! request.

use crate::kinds::Resource;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// The body of every answer: bytes at once, or a stream of them.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The page that says what is served.
pub const DOCS_PAGE: &str = "docs/kubernetes-api.md";

/// One fault of a field, as `Invalid` answers list them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueForbidden`, `FieldValueNotSupported`, …
    pub reason: &'static str,
    /// `spec.containers[0].name`.
    pub field: String,
    /// What follows the field: `Required value: must be given`.
    pub message: String,
}

impl FieldError {
    /// `Invalid value: <value>: <detail>`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {value}: {detail}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// `Required value`, with a detail if there is one.
    #[must_use]
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `Forbidden: <detail>`.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// `Duplicate value: <value>`.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }
}

/// A refusal or failure, ready to be sent as a `Status`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason: `NotFound`; empty for codes that Kubernetes gives no reason.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// `details` of the Status.
    pub details: Option<Value>,
}

impl ApiError {
    /// Any answer.
    #[must_use]
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    fn about(self, r: &Resource, name: &str) -> Self {
        let details = details(&r.group, &r.plural, name);
        self.with_details(details)
    }

    /// 404 for an object.
    #[must_use]
    pub fn not_found(r: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", r.qualified())).about(r, name)
    }

    /// 404 for a path.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(json!({}))
    }

    /// 404 for a resource of Kubernetes that this server leaves out, naming the page that lists what is served.
    #[must_use]
    pub fn not_served(group: &str, version: &str, plural: &str) -> Self {
        let of = crate::kinds::api_version(group, version);
        let message = format!(
            "the server could not find the requested resource: {plural} in {of} is not served by the embedded API \
             (see {DOCS_PAGE} for what is)"
        );
        Self::new(404, "NotFound", message).with_details(details(group, plural, ""))
    }

    /// 409 on creation.
    #[must_use]
    pub fn already_exists(r: &Resource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", r.qualified())).about(r, name)
    }

    /// 409 for a stale write.
    #[must_use]
    pub fn modified(r: &Resource, name: &str) -> Self {
        Self::conflict(
            r,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 with another cause.
    #[must_use]
    pub fn conflict(r: &Resource, name: &str, cause: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {cause}", r.qualified());
        Self::new(409, "Conflict", message).about(r, name)
    }

    /// 403.
    #[must_use]
    pub fn forbidden(r: &Resource, name: &str, cause: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {cause}", r.qualified())
        } else {
            format!("{} {name:?} is forbidden: {cause}", r.qualified())
        };
        Self::new(403, "Forbidden", message).about(r, name)
    }

    /// 422 with every faulty field.
    #[must_use]
    pub fn invalid(r: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_kind(&r.group, &r.kind, name, errors)
    }

    /// 422 for a kind that is not a stored resource.
    #[must_use]
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors
            .iter()
            .map(|e| format!("{}: {}", if e.field.is_empty() { "[]" } else { &e.field }, e.message))
            .collect();
        let list = if lines.len() == 1 { lines[0].clone() } else { format!("[{}]", lines.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let causes: Vec<Value> =
            errors.iter().map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field})).collect();
        let mut about = details(group, kind, name);
        about["causes"] = Value::Array(causes);
        Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {list}")).with_details(about)
    }

    /// 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(json!({}))
    }

    /// 410 for a version of the past.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 500.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {cause}"))
            .with_details(json!({"causes": [{"message": cause.to_string()}]}))
    }

    /// 501 for a part of Kubernetes that this server does not have yet.
    #[must_use]
    pub fn not_implemented(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{what} is not served by the embedded API (see {DOCS_PAGE})"))
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        json_response(self.code, &self.status())
    }
}

/// `details` that name a resource and an object.
#[must_use]
pub fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

/// An answer of JSON.
#[must_use]
pub fn json_response(code: u16, value: &Value) -> Response<Body> {
    bytes_response(code, "application/json", Bytes::from(value.to_string()))
}

/// An answer of bytes.
#[must_use]
pub fn bytes_response(code: u16, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body of bytes at once.
#[must_use]
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
