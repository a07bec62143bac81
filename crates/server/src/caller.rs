//! Who asks for what outlives objects, whether RBAC lets them, and what they are told where not: Kubernetes' `Status`, so
//! that any client tells it. It must never decide by itself who may do what.

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::{Api, PostParams};
use kube::client::Body;
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
                let why = match error {
                    // Where it is and who logs in there is not everybody's to know.
                    Error::Postgres { .. } => {
                        "the archive's database did not answer; the controller's log says why".to_owned()
                    }
                    error => error.to_string(),
                };
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", why)
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

/// What is no access token where one should be.
pub(crate) struct NoToken;

/// The access token, as the header that it came in; nothing where there is none. What is no token is never passed over.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<HeaderValue>, NoToken> {
    let Some(header) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = header.to_str().map_err(|_| NoToken)?;
    let (scheme, token) = text.split_once(' ').ok_or(NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(NoToken);
    }
    let mut token = header.clone();
    token.set_sensitive(true);
    Ok(Some(token))
}

/// A client that is whoever has this token, out of one that is nobody.
pub(crate) fn bearing(anonymous: &kube::Client, token: HeaderValue) -> kube::Client {
    let anonymous = anonymous.clone();
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        let anonymous = anonymous.clone();
        async move { anonymous.send(request).await }
    });
    kube::Client::new(service, "default")
}

/// These routes for whoever brings a token of the cluster behind `anonymous`, whose own requests carry no credential. Who is
/// nobody there is refused before anything is looked for.
pub fn by_token(routes: Router, anonymous: kube::Client) -> Router {
    routes.route_layer(middleware::from_fn_with_state(anonymous, identify))
}

async fn identify(State(anonymous): State<kube::Client>, mut request: Request, next: Next) -> Response {
    let unknown = || {
        let message = "an access token is needed: send `Authorization: Bearer TOKEN` of an account of this cluster";
        Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response()
    };
    let Ok(Some(token)) = bearer(request.headers()) else { return unknown() };
    let caller = Caller(bearing(&anonymous, token));
    match caller.is_known().await {
        Ok(true) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(false) => unknown(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Caller {
    /// Whether the API knows who this is, whatever they may do.
    async fn is_known(&self) -> Result<bool, Refusal> {
        let attributes = ResourceAttributes { verb: Some("list".to_owned()), ..Default::default() };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        match Api::<SelfSubjectAccessReview>::all(self.0.clone()).create(&PostParams::default(), &review).await {
            Ok(_) => Ok(true),
            // Whoever may not even ask is nobody.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Ok(false),
            Err(error) => {
                tracing::warn!(%error, "the API did not say who asks for what is archived");
                let why = "the API does not answer; ask again";
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", why))
            }
        }
    }

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
