//! Store, REST, watch, patches, collection: asked with raw requests, so that every byte counts.

mod crds;
mod crud;
mod durable;
mod gc;
mod lists;
mod writes;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;
use windlass_apiserver::{ApiServer, Body, Identity, Options};

pub(crate) struct Api(pub(crate) ApiServer);

pub(crate) async fn api() -> Api {
    Api(ApiServer::open(Options::memory()).await.unwrap())
}

impl Api {
    pub(crate) async fn raw(&self, method: &str, path: &str, kind: &str, body: Bytes) -> http::Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .extension(Identity::system("test"))
            .body(Full::new(body))
            .unwrap();
        self.0.handle(request).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let response = self.raw(method, path, kind, bytes).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "application/json", &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", &body).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("PATCH", path, "application/merge-patch+json", &body).await
    }

    pub(crate) async fn strategic(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("PATCH", path, "application/strategic-merge-patch+json", &body).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("DELETE", path, "application/json", &body).await
    }

    /// Starts a watch; frames are read with [`Frames::next`].
    pub(crate) async fn watch(&self, path: &str) -> Frames {
        let response = self.raw("GET", path, "application/json", Bytes::new()).await;
        assert_eq!(response.status(), 200, "{path}");
        Frames { body: response.into_body(), buffer: Vec::new() }
    }

    /// Waits until a path answers with this code.
    pub(crate) async fn until(&self, path: &str, code: u16) -> Value {
        for _ in 0..500 {
            let (now, value) = self.get(path).await;
            if now == code {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} never answered {code}: {:?}", self.get(path).await);
    }
}

/// A watch's frames.
pub(crate) struct Frames {
    body: Body,
    buffer: Vec<u8>,
}

impl Frames {
    /// The next frame; `None` when the watch ends.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("a frame in time");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// `TYPE name` of the next frame.
    pub(crate) async fn line(&mut self) -> String {
        let frame = self.next().await.expect("a frame");
        format!("{} {}", frame["type"].as_str().unwrap(), frame["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "a"}]}})
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

pub(crate) fn message(answer: &(u16, Value)) -> String {
    format!(
        "{} {} {}",
        answer.0,
        answer.1["reason"].as_str().unwrap_or("-"),
        answer.1["message"].as_str().unwrap_or("-")
    )
}
