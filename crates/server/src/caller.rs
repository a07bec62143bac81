//! Who asks for what outlives objects, whether RBAC lets them, and what they are told where not: Kubernetes' `Status`, so
//! that any client tells it. It must never decide by itself who may do what.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::{Api, PostParams};
use serde_json::json;
use windlass_archive::Error;
use windlass_model::ARGO_GROUP;

/// Who asks: a client that has the caller's rights and no others.
#[derive(Clone)]
pub struct Caller(pub kube::Client);

/// Why there is no answer.
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub(crate) fn not_found(uid: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("there is no archived workflow {uid:?}"))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Question(why) => Self::new(StatusCode::BAD_REQUEST, "BadRequest", why),
            error => {
                tracing::warn!(%error, "the archive did not answer");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        (self.code, Json(body)).into_response()
    }
}

impl Caller {
    /// Whether RBAC lets the caller do this with workflows.
    pub(crate) async fn may(&self, verb: &str, namespace: Option<&str>, name: Option<&str>) -> Result<(), Refusal> {
        let text = |t: Option<&str>| t.filter(|t| !t.is_empty()).map(str::to_owned);
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(ARGO_GROUP.to_owned()),
            resource: Some("workflows".to_owned()),
            namespace: text(namespace),
            name: text(name),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let place = namespace.map_or_else(|| "all namespaces".to_owned(), |n| format!("namespace {n:?}"));
        let no = || {
            let message = format!("you may not {verb} workflows in {place}, nor what is kept of them");
            Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message)
        };
        match Api::<SelfSubjectAccessReview>::all(self.0.clone()).create(&PostParams::default(), &review).await {
            Ok(SelfSubjectAccessReview { status: Some(SubjectAccessReviewStatus { allowed: true, .. }), .. }) => Ok(()),
            Ok(_) => Err(no()),
            // Whoever may not even ask is nobody.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Err(no()),
            Err(error) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())),
        }
    }
}
