//! `/api/v1/archived-workflows…`, as argo-server has it: finished runs that are kept. Whether somebody may see or delete
//! one is what RBAC says of `workflows.argoproj.io`, asked with the caller's own client. Faults are Kubernetes' `Status`,
//! so that any client tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use windlass_archive::{Archive, Error, Name, Selector, Wanted};

use crate::caller::Refusal;
pub use crate::caller::{Caller, by_token};

/// Everything about archived workflows. Each request has to bring its [`Caller`] as an extension.
pub fn routes(archive: Arc<dyn Archive>) -> Router {
    Router::new()
        .route("/api/v1/archived-workflows", get(list))
        .route("/api/v1/archived-workflows/{uid}", get(one).delete(delete))
        .route("/api/v1/archived-workflows-label-keys", get(label_keys))
        .route("/api/v1/archived-workflows-label-values", get(label_values))
        .with_state(archive)
}

/// Whether a path is one of these.
pub fn has(path: &str) -> bool {
    let rest = path.strip_prefix("/api/v1/archived-workflows");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with("-label-"))
}

type Answer = Result<Json<Value>, Refusal>;
type Asked = Query<BTreeMap<String, String>>;

fn said<'q>(query: &'q BTreeMap<String, String>, key: &str) -> Option<&'q str> {
    query.get(key).map(String::as_str).filter(|text| !text.is_empty())
}

/// What a list is asked for, in argo-server's words.
fn wanted(query: &BTreeMap<String, String>) -> Result<Wanted, Refusal> {
    let bad = |what: String| Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", what);
    let number = |key: &str| match said(query, key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| bad(format!("{key}: `{text}` is no number"))),
    };
    let mut wanted = Wanted {
        namespace: said(query, "namespace").map(str::to_owned),
        labels: Selector::parse(said(query, "listOptions.labelSelector").unwrap_or_default())?,
        limit: number("listOptions.limit")?.filter(|limit| *limit > 0),
        offset: number("listOptions.continue")?.unwrap_or(0),
        ..Wanted::default()
    };
    if let Some(name) = said(query, "namePrefix") {
        wanted.name = match said(query, "nameFilter").unwrap_or("Prefix") {
            "Prefix" => Name::Prefix(name.to_owned()),
            "Exact" => Name::Exact(name.to_owned()),
            "Contains" => Name::Contains(name.to_owned()),
            other => return Err(bad(format!("nameFilter: `{other}` is not Prefix, Exact or Contains"))),
        };
    }
    for field in said(query, "listOptions.fieldSelector").into_iter().flat_map(|text| text.split(',')) {
        let value = |sign: &str| field.split_once(sign).map(|(_, value)| value.trim_start_matches('=').to_owned());
        match field {
            _ if field.starts_with("metadata.namespace=") => wanted.namespace = value("=").filter(|n| !n.is_empty()),
            _ if field.starts_with("metadata.name=") => wanted.name = value("=").map_or(Name::Any, Name::Exact),
            _ if field.starts_with("spec.startedAt>") => wanted.started_after = value(">"),
            _ if field.starts_with("spec.startedAt<") => wanted.started_before = value("<"),
            _ => {
                return Err(bad(format!(
                    "`{field}`: archived workflows are found by metadata.namespace, metadata.name and spec.startedAt"
                )));
            }
        }
    }
    Ok(wanted)
}

async fn list(
    State(archive): State<Arc<dyn Archive>>,
    Extension(caller): Extension<Caller>,
    Query(query): Asked,
) -> Result<Response, Refusal> {
    let wanted = wanted(&query)?;
    caller.may("list", wanted.namespace.as_deref(), None).await?;
    let page = archive.list(wanted.clone()).await?;
    let given = wanted.offset + page.items.len() as u64;
    let mut metadata = json!({"resourceVersion": ""});
    if page.more {
        metadata["continue"] = json!(given.to_string());
        let total = archive.count(wanted).await?;
        metadata["remainingItemCount"] = json!(total.saturating_sub(given));
    }
    let items = page.items.into_iter().map(RawValue::from_string).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|e| Error::Unreadable(e.to_string()))?;
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        api_version: &'static str,
        kind: &'static str,
        metadata: Value,
        items: Vec<Box<RawValue>>,
    }
    let api_version = windlass_model::ARGO_API_VERSION;
    Ok(Json(List { api_version, kind: "WorkflowList", metadata, items }).into_response())
}

/// The workflow of a uid, if the caller may do this with it.
async fn found(archive: &dyn Archive, caller: &Caller, verb: &str, uid: &str) -> Result<String, Refusal> {
    let Some(text) = archive.get(uid.to_owned()).await? else {
        return Err(Refusal::not_found(uid));
    };
    let (namespace, name) = place(&text)?;
    caller.may(verb, Some(&namespace), Some(&name)).await?;
    Ok(text)
}

fn place(text: &str) -> Result<(String, String), Refusal> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        name: String,
    }
    let Object { metadata } = serde_json::from_str(text).map_err(|e| Error::Unreadable(e.to_string()))?;
    Ok((metadata.namespace, metadata.name))
}

async fn one(
    State(archive): State<Arc<dyn Archive>>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
) -> Result<Response, Refusal> {
    let text = found(archive.as_ref(), &caller, "get", &uid).await?;
    Ok(([(http::header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn delete(
    State(archive): State<Arc<dyn Archive>>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
) -> Answer {
    found(archive.as_ref(), &caller, "delete", &uid).await?;
    match archive.remove(uid.clone()).await? {
        true => Ok(Json(json!({}))),
        false => Err(Refusal::not_found(&uid)),
    }
}

async fn label_keys(
    State(archive): State<Arc<dyn Archive>>,
    Extension(caller): Extension<Caller>,
    Query(query): Asked,
) -> Answer {
    let namespace = said(&query, "namespace").map(str::to_owned);
    caller.may("list", namespace.as_deref(), None).await?;
    Ok(Json(json!({"items": archive.label_keys(namespace).await?})))
}

async fn label_values(
    State(archive): State<Arc<dyn Archive>>,
    Extension(caller): Extension<Caller>,
    Query(query): Asked,
) -> Answer {
    let namespace = said(&query, "namespace").map(str::to_owned);
    caller.may("list", namespace.as_deref(), None).await?;
    let selector = Selector::parse(said(&query, "listOptions.labelSelector").unwrap_or_default())?;
    let Some(key) = selector.only_key() else {
        let why = "name one label key and nothing of its value: the selector `team`, say";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", why));
    };
    Ok(Json(json!({"items": archive.label_values(namespace, key.to_owned()).await?})))
}
