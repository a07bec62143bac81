//! Events about workflows, as Argo's controller posts them, which `kubectl describe` shows. The same one again is counted,
//! also after a restart: its name follows from what it says. An Event that cannot be written is dropped; it must never
//! keep anything else from being done.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tracing::debug;
use windlass_model::ARGO_API_VERSION;

/// Who says so: Argo's name.
const COMPONENT: &str = "workflow-controller";
/// What the API takes of a message.
const MESSAGE_MAX: usize = 1024;

/// The workflow that an Event is about; it may be gone.
pub(crate) struct About<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
}

/// Posts something that a person should see.
pub(crate) async fn warning(client: &Client, about: &About<'_>, reason: &str, message: &str, at: Timestamp) {
    let api: Api<Event> = Api::namespaced(client.clone(), about.namespace);
    let message = &message[..message.floor_char_boundary(MESSAGE_MAX)];
    let name = format!("{}.{:016x}", about.name, hash(&[about.uid, reason, message].join("/")));
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(about.namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(ARGO_API_VERSION.to_owned()),
            kind: Some("Workflow".to_owned()),
            namespace: Some(about.namespace.to_owned()),
            name: Some(about.name.to_owned()),
            uid: Some(about.uid.to_owned()),
            ..ObjectReference::default()
        },
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        type_: Some("Warning".to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    };
    let written = match api.create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(s)) if s.code == 409 => {
            let count = api.get_opt(&name).await.ok().flatten().and_then(|e| e.count).unwrap_or(1);
            let more = Patch::Merge(json!({"count": count + 1, "lastTimestamp": Time(at)}));
            api.patch(&name, &PatchParams::default(), &more).await
        }
        written => written,
    };
    if let Err(error) = written {
        debug!(namespace = about.namespace, workflow = about.name, reason, %error, "an event was not written");
    }
}

/// FNV-1a: the same in every release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
