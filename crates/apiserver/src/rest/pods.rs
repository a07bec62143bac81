//! Subresources of pods: logs, eviction, binding, the way to `streams`, and a clear answer about those that are not
//! served. Reads no log itself.

use super::delete::delete;
use super::write::Step;
use super::{Call, DeleteOptions};
use crate::answer::{ApiError, Body, json_response};
use crate::convert;
use crate::kubelet::LogOptions;
use crate::streams::{self, Ask, Kind};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

impl Call {
    pub(super) async fn pod_subresource(&self, subresource: &str, verb: &str) -> Result<Response<Body>, ApiError> {
        match (subresource, verb) {
            ("log", "get") => self.pod_log().await,
            ("eviction", "create") => self.evict().await,
            ("binding", "create") => self.bind().await,
            ("exec", "get" | "create") => self.pod_streams(Kind::Exec).await,
            ("attach", "get" | "create") => self.pod_streams(Kind::Attach).await,
            ("portforward", "get" | "create") => self.pod_streams(Kind::PortForward).await,
            ("proxy" | "ephemeralcontainers" | "resize", _) => {
                Err(ApiError::not_implemented(&format!("pods/{subresource}")))
            }
            _ => Err(ApiError::no_such_path()),
        }
    }

    /// A scheduler's choice: the node, and that the pod is scheduled, once and for all.
    async fn bind(&self) -> Result<Response<Body>, ApiError> {
        let binding = self.decoded()?;
        let name = self.what.name.as_str();
        let node = binding["target"]["name"].as_str().filter(|n| !n.is_empty());
        let node = node.ok_or_else(|| ApiError::bad_request("a Binding needs target.name"))?;
        let now = format!("{:.0}", jiff::Timestamp::now());
        let bound = |current: Option<&std::sync::Arc<crate::store::Obj>>| {
            let current = current.ok_or_else(|| ApiError::not_found(&self.r, name))?;
            let mut pod = convert::served_value(&self.r, current);
            let refused = |why: String| {
                let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
                Err(ApiError::new(409, "Conflict", message))
            };
            let uid = binding["metadata"]["uid"].as_str().filter(|u| !u.is_empty());
            if uid.is_some_and(|uid| pod["metadata"]["uid"] != uid) {
                return refused(format!("the pod's uid is {}", pod["metadata"]["uid"]));
            }
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
            }
            if let Some(taken) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                return refused(format!("pod {name} is already assigned to node {taken:?}"));
            }
            pod["spec"]["nodeName"] = json!(node);
            let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now});
            match pod["status"]["conditions"].as_array_mut() {
                Some(all) => {
                    all.retain(|c| c["type"] != "PodScheduled");
                    all.push(scheduled);
                }
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
            Ok(Step::Put(pod))
        };
        self.target(name)?.change(bound).await?;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(json_response(201, &status))
    }

    async fn evict(&self) -> Result<Response<Body>, ApiError> {
        let eviction = self.decoded()?;
        let options = DeleteOptions::read(Some(&eviction["deleteOptions"]), &self.query)?;
        delete(&self.target(&self.what.name)?, &options).await?;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(json_response(201, &status))
    }

    async fn pod_streams(&self, kind: Kind) -> Result<Response<Body>, ApiError> {
        let pod = convert::served_value(&self.r, &*self.current()?);
        let ask = Ask {
            kind,
            pod: &pod,
            query: &self.raw_query,
            headers: &self.headers,
            upgrade: self.upgrade.clone(),
            kubelet: self.server.kubelet(),
        };
        streams::serve(ask).await
    }

    async fn pod_log(&self) -> Result<Response<Body>, ApiError> {
        let pod = convert::served_value(&self.r, &*self.current()?);
        let options = self.log_options(&pod)?;
        // A step's pod runs unbound (one write fewer): only one that has not begun has nothing to show.
        let bound = pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
        let begun = pod["status"]["phase"].as_str().is_some_and(|p| p != "Pending");
        let stream = if !bound && !begun {
            futures::stream::empty().boxed()
        } else {
            let Some(kubelet) = self.server.kubelet() else {
                return Err(ApiError::new(503, "ServiceUnavailable", "no node agent serves this pod's logs"));
            };
            kubelet.logs(&pod, options).await?
        };
        let mut response = Response::new(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    fn log_options(&self, pod: &Value) -> Result<LogOptions, ApiError> {
        let query = &self.query;
        let positive = |key: &str| -> Result<Option<u64>, ApiError> {
            match query.number(key)? {
                None => Ok(None),
                Some(n) => u64::try_from(n).map(Some).map_err(|_| {
                    ApiError::new(
                        422,
                        "Invalid",
                        format!("PodLogOptions is invalid: {key}: must be greater than or equal to 0"),
                    )
                }),
            }
        };
        let since_seconds = positive("sinceSeconds")?;
        let since_time = query.text("sinceTime");
        let since = if let Some(seconds) = since_seconds {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            jiff::Timestamp::from_second(jiff::Timestamp::now().as_second().saturating_sub(seconds)).ok()
        } else if since_time.is_empty() {
            None
        } else {
            Some(since_time.parse().map_err(|_| ApiError::bad_request(format!("invalid sinceTime {since_time:?}")))?)
        };
        Ok(LogOptions {
            container: streams::container(pod, query.text("container"))?,
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            tail_lines: positive("tailLines")?,
            since,
            limit_bytes: positive("limitBytes")?,
        })
    }
}
