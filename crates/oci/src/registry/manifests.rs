//! Manifests and tags of the registry: names of the store under `registry.windlass.internal`. A manifest is only
//! accepted when everything that it names is there.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LINK, LOCATION};
use serde_json::{Value, json};

use super::fault::Fault;
use super::{Served, blocking, reference};
use crate::store::{DOCUMENT_BYTES_MAX, Pointer, descriptors};
use crate::{Digest, Error, LOCAL_REGISTRY, Store, media};

pub(super) async fn get(served: &Served, repository: &str, version: &str) -> Result<Response, Fault> {
    let name = reference(repository, version)?;
    let store = served.store.clone();
    blocking(move || {
        let missing = || Fault::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &format!("no manifest {name} here"));
        let pointer = match store.resolve(&name) {
            Ok(Some(pointer)) => pointer,
            // A digest of something that is no manifest is simply not one.
            Ok(None) | Err(Error::Malformed { .. } | Error::TooLarge { .. }) => return Err(missing()),
            Err(error) => return Err(error.into()),
        };
        let bytes = store.read_blob(&pointer.digest).map_err(|error| match error {
            Error::BlobMissing { .. } => missing(),
            other => other.into(),
        })?;
        let response = Response::builder()
            .header(CONTENT_TYPE, &pointer.media_type)
            .header(CONTENT_LENGTH, bytes.len())
            .header("docker-content-digest", pointer.digest.as_str())
            .body(Body::from(bytes));
        response.map_err(|e| Error::malformed("response", e).into())
    })
    .await
}

pub(super) async fn put(served: &Served, repository: &str, version: &str, request: Request) -> Result<Response, Fault> {
    let name = reference(repository, version)?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let limit = usize::try_from(DOCUMENT_BYTES_MAX).unwrap_or(usize::MAX);
    let bytes = axum::body::to_bytes(request.into_body(), limit)
        .await
        .map_err(|_| Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "a manifest has at most 8 MiB"))?;
    let store = served.store.clone();
    let repository = repository.to_owned();
    blocking(move || {
        let invalid = |message: &str| Fault::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message);
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = name.digest()
            && *expected != digest
        {
            let message = format!("the manifest is {digest}");
            return Err(Fault::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message));
        }
        let media_type = media::of_manifest(&document)
            .map(str::to_owned)
            .ok_or_else(|| invalid("neither an image manifest nor an index"))?;
        if !media::is_index(&media_type) && !media::is_manifest(&media_type) {
            return Err(invalid(&format!("media type {media_type} is not supported")));
        }
        let plain = content_type.as_deref().map(|given| given.split(';').next().unwrap_or(given).trim());
        if plain.is_some_and(|given| given != media_type) {
            return Err(invalid(&format!("it says {media_type}, but was sent as {}", plain.unwrap_or_default())));
        }
        let config = document.pointer("/config/digest").and_then(Value::as_str).and_then(|d| d.parse::<Digest>().ok());
        if media::is_manifest(&media_type) && config.is_none() {
            return Err(invalid("it has no configuration"));
        }
        let needed =
            descriptors(&document, "manifests").into_iter().chain(descriptors(&document, "layers")).chain(config);
        for blob in needed {
            if !store.has_blob(&blob) && !is_elsewhere(&document, &blob) {
                let message = format!("push blob {blob} first");
                return Err(Fault::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", &message));
            }
        }
        store.put_blob(&bytes)?;
        let pointer = Pointer { digest: digest.clone(), media_type, size: bytes.len() as u64, made_here: false };
        store.point(&name, &pointer)?;
        if name.digest().is_none() {
            // Known by its digest too, and for as long: a tag that moves on leaves the manifest to those who pinned it.
            store.point(&name.with_digest(digest.clone()), &pointer)?;
        }
        let mut response = Response::builder()
            .status(StatusCode::CREATED)
            .header(LOCATION, format!("/v2/{repository}/manifests/{digest}"))
            .header("docker-content-digest", digest.as_str());
        if let Some(subject) = document.pointer("/subject/digest").and_then(Value::as_str) {
            response = response.header("oci-subject", subject);
        }
        response.body(Body::empty()).map_err(|e| Error::malformed("response", e).into())
    })
    .await
}

/// Layers that may not be distributed are fetched from the addresses in their descriptor.
fn is_elsewhere(document: &Value, blob: &Digest) -> bool {
    let layers = document.get("layers").and_then(Value::as_array);
    layers.into_iter().flatten().any(|layer| {
        layer.get("digest").and_then(Value::as_str) == Some(blob.as_str())
            && layer.get("urls").and_then(Value::as_array).is_some_and(|urls| !urls.is_empty())
    })
}

pub(super) async fn delete(served: &Served, repository: &str, version: &str) -> Result<Response, Fault> {
    let name = reference(repository, version)?;
    let store = served.store.clone();
    blocking(move || {
        let mut found = store.remove(&name)?;
        if let Some(digest) = name.digest() {
            // With the manifest go all tags of this repository that lead to it.
            for listed in store.list()? {
                let here = listed.reference.name() == name.name() && listed.pointer.digest == *digest;
                if here && store.remove(&listed.reference)? {
                    found = true;
                }
            }
        }
        if !found {
            return Err(Fault::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &format!("no manifest {name} here")));
        }
        let response = Response::builder().status(StatusCode::ACCEPTED).body(Body::empty());
        response.map_err(|e| Error::malformed("response", e).into())
    })
    .await
}

pub(super) async fn tags(
    served: &Served,
    repository: &str,
    query: &HashMap<String, String>,
) -> Result<Response, Fault> {
    let name = reference(repository, "latest")?;
    let (store, query, repository) = (served.store.clone(), query.clone(), repository.to_owned());
    blocking(move || {
        let Some(tags) = store.tags(&name)? else {
            return Err(Fault::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &format!("no repository {repository} here")));
        };
        let (page, next) = page(tags, &query)?;
        let mut response = Json(json!({"name": repository, "tags": page})).into_response();
        link(&mut response, &format!("/v2/{repository}/tags/list"), next);
        Ok(response)
    })
    .await
}

pub(super) async fn catalog(served: &Served, query: &HashMap<String, String>) -> Result<Response, Fault> {
    let (store, query) = (served.store.clone(), query.clone());
    blocking(move || {
        let (page, next) = page(store.repositories(LOCAL_REGISTRY)?, &query)?;
        let mut response = Json(json!({"repositories": page})).into_response();
        link(&mut response, "/v2/_catalog", next);
        Ok(response)
    })
    .await
}

/// How the next page starts: how many, after which one.
type Next = (usize, String);

/// What comes after `last`, at most `n`; and how the next page starts.
fn page(all: Vec<String>, query: &HashMap<String, String>) -> Result<(Vec<String>, Option<Next>), Fault> {
    let count = match query.get("n").map(|text| text.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(count)) => count,
        Some(Err(_)) => {
            return Err(Fault::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "`n` is not a number"));
        }
    };
    let mut rest = all.into_iter().filter(|item| query.get("last").is_none_or(|last| item > last));
    let page: Vec<String> = rest.by_ref().take(count).collect();
    let next = rest.next().and_then(|_| page.last().map(|last| (count, last.clone())));
    Ok((page, next))
}

fn link(response: &mut Response, path: &str, next: Option<Next>) {
    let Some((count, last)) = next else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("<{path}?n={count}&last={last}>; rel=\"next\"")) {
        response.headers_mut().insert(LINK, value);
    }
}

/// The manifests of this repository that are about another one: signatures, bills of materials.
pub(super) async fn referrers(
    served: &Served,
    repository: &str,
    digest: &str,
    query: &HashMap<String, String>,
) -> Result<Response, Fault> {
    let subject: Digest = digest.parse()?;
    let name = reference(repository, "latest")?;
    let (store, wanted) = (served.store.clone(), query.get("artifactType").cloned());
    blocking(move || {
        let mut found = Vec::new();
        for pointer in store.pinned(&name)? {
            if let Some(entry) = referrer(&store, &pointer, &subject)
                && wanted.as_ref().is_none_or(|kind| entry.get("artifactType").and_then(Value::as_str) == Some(kind))
            {
                found.push(entry);
            }
        }
        let body = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": found});
        let mut response = Json(body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX));
        if wanted.is_some() {
            headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    })
    .await
}

fn referrer(store: &Store, pointer: &Pointer, subject: &Digest) -> Option<Value> {
    let document: Value = serde_json::from_slice(&store.read_blob(&pointer.digest).ok()?).ok()?;
    if document.pointer("/subject/digest")?.as_str()? != subject.as_str() {
        return None;
    }
    let kind = document.get("artifactType").or_else(|| document.pointer("/config/mediaType"));
    let mut entry = json!({"mediaType": pointer.media_type, "digest": pointer.digest, "size": pointer.size});
    if let Some(kind) = kind {
        entry["artifactType"] = kind.clone();
    }
    if let Some(annotations) = document.get("annotations") {
        entry["annotations"] = annotations.clone();
    }
    Some(entry)
}
