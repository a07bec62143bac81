//! Events: what `kubectl describe` shows. Written in the background, counted instead of repeated, dropped rather than
//! ever delaying a Pod. A step's Pod gets none unless something goes wrong.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::collections::HashMap;
use tokio::sync::mpsc;

const QUEUE: usize = 1024;
/// How many different events are remembered, to count repeats.
const REMEMBERED_MAX: usize = 4096;

/// The recorder. Clones write to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<Entry>,
    node: String,
}

#[derive(Debug)]
struct Entry {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
    at: Timestamp,
    /// What the scheduler does, where it is the scheduler's event.
    action: Option<&'static str>,
}

impl Events {
    /// Starts the writer; it ends with the last clone.
    pub(crate) fn start(client: kube::Client, node: &str) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, entries, node.to_owned()));
        Self { queue, node: node.to_owned() }
    }

    /// Something ordinary about a Pod.
    pub(crate) fn normal(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.put(about(pod), "Normal", reason, message.into());
    }

    /// Something that a person should see.
    pub(crate) fn warning(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.put(about(pod), "Warning", reason, message.into());
    }

    /// What a scheduler says of a Pod, in its form.
    pub(crate) fn scheduling(&self, pod: &Pod, kind: &'static str, reason: &str, action: &'static str, text: String) {
        let reason = reason.to_owned();
        let action = Some(action);
        self.send(Entry { about: about(pod), kind, reason, message: text, at: Timestamp::now(), action });
    }

    pub(crate) fn service_warning(&self, namespace: &str, name: &str, reason: &str, message: &str) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        };
        self.put(about, "Warning", reason, message.to_owned());
    }

    fn put(&self, about: ObjectReference, kind: &'static str, reason: &str, message: String) {
        self.send(Entry { about, kind, reason: reason.to_owned(), message, at: Timestamp::now(), action: None });
    }

    fn send(&self, entry: Entry) {
        if let Err(error) = self.queue.try_send(entry) {
            tracing::debug!(%error, node = %self.node, "an event was dropped");
        }
    }
}

fn about(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// What makes two events the same: namespace, object, reason and message.
type Same = (String, Option<String>, String, String);

async fn write(client: kube::Client, mut entries: mpsc::Receiver<Entry>, node: String) {
    let mut seen: HashMap<Same, (String, i32)> = HashMap::new();
    while let Some(entry) = entries.recv().await {
        let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let subject = entry.about.uid.clone().or_else(|| entry.about.name.clone());
        let key = (namespace.clone(), subject, entry.reason.clone(), entry.message.clone());
        if let Some((name, count)) = seen.get_mut(&key) {
            *count += 1;
            let body = serde_json::json!({"count": *count, "lastTimestamp": Time(entry.at)});
            if api.patch(name, &PatchParams::default(), &Patch::Merge(body)).await.is_ok() {
                continue;
            }
        }
        let name =
            format!("{}.{:x}", entry.about.name.as_deref().unwrap_or("unknown"), uuid::Uuid::new_v4().as_u64_pair().0);
        let mut event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: entry.about,
            reason: Some(entry.reason),
            message: Some(entry.message),
            type_: Some(entry.kind.into()),
            count: Some(1),
            first_timestamp: Some(Time(entry.at)),
            last_timestamp: Some(Time(entry.at)),
            source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.clone()) }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(node.clone()),
            ..Event::default()
        };
        if let Some(action) = entry.action {
            event.action = Some(action.to_owned());
            event.event_time = Some(MicroTime(entry.at));
            event.source = Some(EventSource::default());
            event.reporting_component = Some("default-scheduler".to_owned());
            event.reporting_instance = Some(format!("default-scheduler-{node}"));
            (event.count, event.first_timestamp, event.last_timestamp) = (None, None, None);
        }
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if seen.len() >= REMEMBERED_MAX {
                    seen.clear();
                }
                seen.insert(key, (name, 1));
            }
            Err(error) => tracing::debug!(%error, "an event was not written"),
        }
    }
}
