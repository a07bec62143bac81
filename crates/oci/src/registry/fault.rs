//! What the registry answers when something is wrong: the specification's error body and codes.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::Action;
use crate::Error;

pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    pub(super) fn unauthorized(had_credentials: bool, action: Action, repository: &str) -> Self {
        let what = match action {
            Action::Pull => "pulling from",
            Action::Push => "pushing to",
            Action::Delete => "deleting from",
        };
        let repository = if repository.is_empty() { "this registry" } else { repository };
        let message = if had_credentials {
            format!("these credentials do not allow {what} {repository}")
        } else {
            format!("{what} {repository} needs a token: give it as the password, with any user")
        };
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", &message)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        (self.status, Json(body)).into_response()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::NotFound { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Error::BlobMissing { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::DigestMismatch { .. } | Error::BadDigest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Error::Malformed { .. } | Error::Unsupported { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Error::Reference(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            _ if error.is_disk_full() => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        };
        if status.is_server_error() {
            tracing::error!(%error, "the built-in registry could not answer");
        }
        Self { status, code, message: error.to_string() }
    }
}
