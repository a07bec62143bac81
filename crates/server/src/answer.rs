//! Small JSON answers: a status word, what it means and what to do next. They must never repeat a secret or a path of
//! this machine.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    code: StatusCode,
    body: Value,
    retry_after_s: Option<u32>,
}

impl Answer {
    /// An answer with a status word and a sentence.
    pub fn new(code: StatusCode, status: &str, message: impl Into<String>) -> Self {
        Self { code, body: json!({"status": status, "message": message.into()}), retry_after_s: None }
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }

    /// Says when to come again.
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The status word.
    pub fn status(&self) -> &str {
        self.body["status"].as_str().unwrap_or_default()
    }

    /// The Delivery that it tells of.
    pub fn delivery(&self) -> Option<&str> {
        self.body["delivery"].as_str()
    }

    /// The status code.
    pub fn code(&self) -> StatusCode {
        self.code
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == StatusCode::PAYLOAD_TOO_LARGE || self.code == StatusCode::REQUEST_TIMEOUT {
            // What is left of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// 404 for everything else.
pub async fn no_such_path() -> Answer {
    Answer::new(
        StatusCode::NOT_FOUND,
        "error",
        "no such path; webhooks are posted to /webhooks/github or /webhooks/bitbucket, events to /api/v1/events/NAMESPACE/",
    )
}
