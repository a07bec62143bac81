//! `/api/v1/sync/{namespace}[/{key}]`, as argo-server has it: the sizes of semaphores in the database. There are no
//! permissions of their own for them: who may do a thing to workflows of the namespace may do it to its limits. Those that are
//! in ConfigMaps are ConfigMaps, and are not asked for here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_archive::Limits;

use crate::caller::{Caller, Refusal};

const ROOT: &str = "/api/v1/sync/";

/// All of them. Each request has to bring its [`Caller`] as an extension.
pub fn routes(limits: Arc<dyn Limits>) -> Router {
    Router::new()
        .route("/api/v1/sync/{namespace}", post(create))
        .route("/api/v1/sync/{namespace}/{key}", get(read).put(update).delete(delete))
        .with_state(limits)
}

/// Whether a path is one of these.
pub fn has(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// A limit, as it is sent.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    key: String,
    #[serde(default)]
    limit: i64,
    #[serde(default)]
    r#type: Option<Value>,
}

type Answer = Result<Json<Value>, Refusal>;

fn told(namespace: &str, key: &str, limit: u32) -> Json<Value> {
    Json(json!({"key": key, "namespace": namespace, "limit": limit, "type": "DATABASE"}))
}

fn not_found(namespace: &str, key: &str) -> Refusal {
    let message = format!("there is no limit of {key:?} in namespace {namespace:?} of the database");
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
}

impl Sent {
    /// The number, if it is one that can be said.
    fn limit(&self) -> Result<u32, Refusal> {
        let bad = |why: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", why));
        let in_database = self.r#type.as_ref().is_none_or(|t| t == "DATABASE" || t == 1);
        match u32::try_from(self.limit) {
            _ if !in_database => bad("only limits in the database are kept here; others are in their ConfigMaps"),
            Ok(limit) if limit > 0 => Ok(limit),
            _ => bad("limit must be greater than zero"),
        }
    }
}

async fn create(
    State(limits): State<Arc<dyn Limits>>,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
    Json(sent): Json<Sent>,
) -> Answer {
    caller.may("create", Some(&namespace), None).await?;
    let limit = sent.limit()?;
    if sent.key.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", "a limit needs a key"));
    }
    match limits.create_limit(format!("{namespace}/{}", sent.key), limit).await? {
        true => Ok(told(&namespace, &sent.key, limit)),
        false => {
            let message = format!("there is a limit of {:?} in namespace {namespace:?} already", sent.key);
            Err(Refusal::new(StatusCode::CONFLICT, "AlreadyExists", message))
        }
    }
}

type Place = Path<(String, String)>;

async fn read(
    State(limits): State<Arc<dyn Limits>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, key)): Place,
) -> Answer {
    caller.may("get", Some(&namespace), None).await?;
    let limit = limits.limit(format!("{namespace}/{key}")).await?;
    Ok(told(&namespace, &key, limit.ok_or_else(|| not_found(&namespace, &key))?))
}

async fn update(
    State(limits): State<Arc<dyn Limits>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, key)): Place,
    Json(sent): Json<Sent>,
) -> Answer {
    caller.may("update", Some(&namespace), None).await?;
    let limit = sent.limit()?;
    match limits.update_limit(format!("{namespace}/{key}"), limit).await? {
        true => Ok(told(&namespace, &key, limit)),
        false => Err(not_found(&namespace, &key)),
    }
}

async fn delete(
    State(limits): State<Arc<dyn Limits>>,
    Extension(caller): Extension<Caller>,
    Path((namespace, key)): Place,
) -> Answer {
    caller.may("delete", Some(&namespace), None).await?;
    match limits.delete_limit(format!("{namespace}/{key}")).await? {
        true => Ok(Json(json!({}))),
        false => Err(not_found(&namespace, &key)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use windlass_apiserver::{ApiServer, Identity, Options};
    use windlass_archive::SqliteArchive;

    #[tokio::test]
    async fn limits_are_said_by_who_may() {
        let api = ApiServer::open(Options::memory()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let limits = SqliteArchive::new(dir.path().join("archive.db"));
        let ask = async |who: Identity, method: &str, path: &str, body: Value| {
            assert!(has(path));
            let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
            let request = request.extension(Caller(api.client(who))).body(axum::body::Body::from(body.to_string()));
            let answer = routes(Arc::new(limits.clone())).oneshot(request.unwrap()).await.unwrap();
            let code = answer.status().as_u16();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (code, serde_json::from_slice::<Value>(&bytes).unwrap()["limit"].clone())
        };
        let (all, one) = ("/api/v1/sync/ns", "/api/v1/sync/ns/k");
        let said = |n: i64| json!({"key": "k", "limit": n, "type": "DATABASE"});
        let none = || Value::Null;
        assert_eq!(ask(Identity::admin(), "PUT", one, said(2)).await, (404, none()));
        assert_eq!(ask(Identity::admin(), "POST", all, said(0)).await, (400, none()));
        assert_eq!(
            ask(Identity::admin(), "POST", all, json!({"key": "k", "limit": 1, "type": "CONFIGMAP"})).await.0,
            400
        );
        assert_eq!(ask(Identity::admin(), "POST", all, said(2)).await, (200, json!(2)));
        assert_eq!(ask(Identity::admin(), "POST", all, said(3)).await, (409, none()));
        assert_eq!(ask(Identity::admin(), "PUT", one, said(3)).await, (200, json!(3)));
        let nobody = || Identity::service_account("ns", "nobody", "x");
        for (method, path) in [("POST", all), ("GET", one), ("PUT", one), ("DELETE", one)] {
            assert_eq!(ask(nobody(), method, path, said(9)).await, (403, none()), "{method}");
        }
        assert_eq!(ask(Identity::admin(), "GET", one, none()).await, (200, json!(3)));
        assert_eq!(ask(Identity::admin(), "DELETE", one, none()).await, (200, none()));
        assert_eq!(ask(Identity::admin(), "GET", one, none()).await, (404, none()));
    }
}
