//! `/api/v1/windlass/remembered/{namespace}`: outputs that are remembered in our own cache, listed and forgotten. Who may
//! list or delete the namespace's workflows may do that with what they made. It never tells what an entry holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use windlass_archive::Memory;

use crate::caller::{Caller, Refusal};

const ROOT: &str = "/api/v1/windlass/remembered/";

/// Both of them. Each request has to bring its [`Caller`] as an extension.
pub fn routes(memory: Arc<dyn Memory>) -> Router {
    Router::new().route("/api/v1/windlass/remembered/{namespace}", get(list).delete(forget)).with_state(memory)
}

/// Whether a path is one of these.
pub fn has(path: &str) -> bool {
    path.starts_with(ROOT)
}

async fn list(
    State(memory): State<Arc<dyn Memory>>,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
) -> Result<Json<Value>, Refusal> {
    caller.may("list", Some(&namespace), None).await?;
    let all = memory.remembered(namespace).await?.into_iter();
    let row = |r: windlass_archive::Remembered| json!({"cache": r.cache, "key": r.key, "bytes": r.bytes, "written": r.written});
    Ok(Json(json!({"items": all.map(row).collect::<Vec<_>>()})))
}

async fn forget(
    State(memory): State<Arc<dyn Memory>>,
    Extension(caller): Extension<Caller>,
    Path(namespace): Path<String>,
    Query(mut query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, Refusal> {
    caller.may("delete", Some(&namespace), None).await?;
    let count = memory.forget(namespace, query.remove("cache"), query.remove("key")).await?;
    Ok(Json(json!({"forgotten": count})))
}
