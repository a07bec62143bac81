//! The Pods as the agent hears of them: those that have not ended are listed, then every change is followed. Of a change
//! only what the agent decides by is read; the rest stays text until somebody asks for it, which of the Pods that ended
//! nobody does.

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, ObjectMeta, Request, WatchParams};
use kube::core::WatchEvent;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Pods that have not ended.
pub(crate) const LIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";
const PODS: &str = "/api/v1/pods";
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The server ends a watch before; a connection that says nothing for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(310);

/// What is new.
#[derive(Debug)]
pub(crate) enum News {
    /// A Pod as it is now.
    Now(Seen),
    /// A Pod that is no more.
    Gone(Seen),
    /// All that live have been told; what was not among them has ended or is gone.
    Listed(Vec<Seen>),
}

/// A Pod of which the head was read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    head: Arc<Head>,
    text: Box<RawValue>,
}

/// What may change in a Pod that runs, as far as its worker cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    deleted: bool,
    grace: Option<i64>,
    finalizers: Vec<String>,
    /// Of its spec.
    hash: u64,
}

#[derive(Debug)]
struct Head {
    name: String,
    namespace: String,
    uid: String,
    version: String,
    node: String,
    phase: String,
    mark: Mark,
}

impl Seen {
    /// Its UID.
    pub(crate) fn uid(&self) -> &str {
        &self.head.uid
    }

    /// The node that it is bound to.
    pub(crate) fn node(&self) -> Option<&str> {
        Some(self.head.node.as_str()).filter(|n| !n.is_empty())
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.head.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether its deletion was asked for.
    pub(crate) fn is_deleted(&self) -> bool {
        self.head.mark.deleted
    }

    /// The grace that it was given.
    pub(crate) fn grace(&self) -> Option<i64> {
        self.head.mark.grace
    }

    /// What its worker has to be told of.
    pub(crate) fn mark(&self) -> &Mark {
        &self.head.mark
    }

    /// Only its identity.
    pub(crate) fn name(&self) -> Pod {
        let text = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        let head = &self.head;
        let (name, namespace, uid) = (text(&head.name), text(&head.namespace), text(&head.uid));
        Pod { metadata: ObjectMeta { name, namespace, uid, ..ObjectMeta::default() }, ..Pod::default() }
    }

    /// All of it.
    pub(crate) fn pod(&self) -> Result<Pod, serde_json::Error> {
        serde_json::from_str(self.text.get())
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let head = Head::read(text.get()).map_err(D::Error::custom)?;
        Ok(Self { head: Arc::new(head), text })
    }
}

impl Head {
    fn read(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(default)]
            metadata: Metadata,
            #[serde(borrow)]
            spec: Option<&'a RawValue>,
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Metadata {
            name: String,
            namespace: String,
            uid: String,
            resource_version: String,
            deletion_timestamp: Option<String>,
            deletion_grace_period_seconds: Option<i64>,
            finalizers: Option<Vec<String>>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Spec {
            node_name: Option<String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            phase: Option<String>,
        }
        let Object { metadata, spec, status } = serde_json::from_str(text)?;
        let spec_text = spec.map_or("{}", RawValue::get);
        let spec: Spec = serde_json::from_str(spec_text)?;
        let mut hasher = DefaultHasher::new();
        spec_text.hash(&mut hasher);
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            version: metadata.resource_version,
            node: spec.node_name.unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            mark: Mark {
                deleted: metadata.deletion_timestamp.is_some(),
                grace: metadata.deletion_grace_period_seconds,
                finalizers: metadata.finalizers.unwrap_or_default(),
                hash: hasher.finish(),
            },
        })
    }
}

/// Why the news stopped.
enum Stop {
    /// What is known is too old to go on from.
    Expired,
    /// The server ended the watch, as it does from time to time.
    Ended,
    Failed(kube::Error),
}

/// Tells the news, for ever.
pub(crate) async fn follow(client: &kube::Client, mut hear: impl FnMut(News)) {
    let mut version: Option<String> = None;
    let mut pause = PAUSE_MIN;
    loop {
        let begun = tokio::time::Instant::now();
        let from = match version.take() {
            Some(from) => Ok(from),
            None => list(client, &mut hear).await,
        };
        let stop = match from {
            Ok(mut from) => {
                let stop = watch(client, &mut from, &mut || pause = PAUSE_MIN, &mut hear).await;
                version = Some(from);
                stop
            }
            Err(error) => Stop::Failed(error),
        };
        match stop {
            // The next watch goes on where this one was, at once.
            Stop::Ended if begun.elapsed() > PAUSE_MIN => continue,
            Stop::Ended => {}
            Stop::Expired => version = None,
            Stop::Failed(error) => tracing::warn!(%error, "watching pods"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Tells of all Pods that live; answers the version to go on from.
async fn list(client: &kube::Client, hear: &mut impl FnMut(News)) -> Result<String, kube::Error> {
    #[derive(Deserialize)]
    struct Listing {
        metadata: Version,
        items: Vec<Seen>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    let request = Request::new(PODS).list(&ListParams::default().fields(LIVE)).map_err(kube::Error::BuildRequest)?;
    let text = client.request_text(request).await?;
    let listing: Listing = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
    drop(text);
    hear(News::Listed(listing.items));
    Ok(listing.metadata.resource_version)
}

/// Tells of changes from `version` on, which goes along.
async fn watch(
    client: &kube::Client,
    version: &mut String,
    works: &mut impl FnMut(),
    hear: &mut impl FnMut(News),
) -> Stop {
    let request = match Request::new(PODS).watch(&WatchParams::default(), version) {
        Ok(request) => request,
        Err(error) => return Stop::Failed(kube::Error::BuildRequest(error)),
    };
    let events = match client.request_events::<Seen>(request).await {
        Ok(events) => events,
        Err(kube::Error::Api(status)) if status.code == 410 => return Stop::Expired,
        Err(error) => return Stop::Failed(error),
    };
    let mut events = std::pin::pin!(events);
    loop {
        let event = match tokio::time::timeout(SILENCE_MAX, events.try_next()).await {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) | Err(_) => return Stop::Ended,
            Ok(Err(error)) => return Stop::Failed(error),
        };
        works();
        match event {
            WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                version.clone_from(&seen.head.version);
                hear(News::Now(seen));
            }
            WatchEvent::Deleted(seen) => {
                version.clone_from(&seen.head.version);
                hear(News::Gone(seen));
            }
            WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Stop::Expired,
            WatchEvent::Error(status) => return Stop::Failed(kube::Error::Api(status)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seen(pod: Value) -> Seen {
        let event = json!({"type": "MODIFIED", "object": pod}).to_string();
        // As it comes: the type before the object.
        let event = format!("{{\"type\":\"MODIFIED\",{}", &event[1..].replace(",\"type\":\"MODIFIED\"", ""));
        match serde_json::from_str::<WatchEvent<Seen>>(&event).unwrap() {
            WatchEvent::Modified(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "finalizers": ["f"]},
            "spec": {"nodeName": "here", "containers": [{"name": "main", "image": "a"}]},
            "status": {"phase": "Running"}})
    }

    #[test]
    fn the_head_and_the_whole() {
        let seen = seen(pod());
        assert_eq!((seen.uid(), seen.node(), seen.is_over()), ("u", Some("here"), false));
        assert_eq!(seen.head.version, "7");
        assert_eq!(seen.name().metadata.namespace.as_deref(), Some("ns"));
        assert_eq!(seen.pod().unwrap().spec.unwrap().containers[0].name, "main");
        let bare: Seen = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        assert_eq!((bare.node(), bare.is_over(), bare.is_deleted()), (None, false, false));
    }

    #[test]
    fn a_worker_hears_of_what_it_cares_for() {
        let before = seen(pod());
        let mut other = pod();
        other["status"] = json!({"phase": "Succeeded", "podIP": "10.42.0.2"});
        other["metadata"]["resourceVersion"] = json!("8");
        other["metadata"]["labels"] = json!({"a": "b"});
        let other = seen(other);
        assert!(other.is_over() && other.mark() == before.mark());
        let changed = |path: &str, value: Value| {
            let mut pod = pod();
            *pod.pointer_mut(path).unwrap() = value;
            seen(pod).mark() != before.mark()
        };
        assert!(changed("/metadata/finalizers", json!([])));
        assert!(changed("/spec/containers/0/image", json!("b")));
        let mut deleted = pod();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        deleted["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        let again = {
            deleted["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            seen(deleted.clone())
        };
        deleted["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        let deleted = seen(deleted);
        assert!(deleted.is_deleted() && deleted.mark() != before.mark() && again.mark() != deleted.mark());
    }
}
