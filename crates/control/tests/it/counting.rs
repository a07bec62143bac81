//! A client that counts what lists hold: who should not read everything is caught by it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use serde_json::Value;
use windlass_apiserver::{ApiServer, Identity};

/// How many objects of each kind of list were sent as parts of one.
pub(crate) type Listed = Arc<Mutex<BTreeMap<String, usize>>>;

/// A client that may do everything, and what its lists held.
pub(crate) fn client(server: &ApiServer) -> (kube::Client, Listed) {
    let listed = Listed::default();
    let (server, counts) = (server.clone(), listed.clone());
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        request.extensions_mut().insert(Identity::admin());
        let (server, counts) = (server.clone(), counts.clone());
        async move {
            let watches = request.uri().query().unwrap_or_default().contains("watch=true");
            let response = server.handle(request).await;
            if watches {
                return Ok::<_, Infallible>(response);
            }
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some(items) = object["items"].as_array() {
                let kind = object["kind"].as_str().unwrap_or_default().to_owned();
                *counts.lock().unwrap().entry(kind).or_default() += items.len();
            }
            let body = http_body_util::Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync();
            Ok(http::Response::from_parts(parts, body))
        }
    });
    (kube::Client::new(service, "default"), listed)
}
