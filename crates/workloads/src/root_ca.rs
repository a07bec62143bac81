//! Every namespace has a ConfigMap `kube-root-ca.crt` with the API's certificate authority: made for new namespaces, and
//! again when somebody deletes or changes it. It must never touch another ConfigMap.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::Error;

/// The ConfigMap's name, as on every cluster.
pub const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
                    the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions \
                    of Kubernetes clusters.";

struct Context {
    client: Client,
    pem: String,
}

/// Runs the loop for ever.
pub async fn run(client: Client, pem: String) {
    let ctx = Arc::new(Context { client: client.clone(), pem });
    let ours = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    Controller::new(Api::<Namespace>::all(client.clone()), watcher::Config::default())
        .watches(Api::<ConfigMap>::all(client), ours, |map: ConfigMap| {
            Some(ObjectRef::new(&map.namespace().unwrap_or_default()))
        })
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

/// What the ConfigMap has to be, where it is not that.
fn decide(there: Option<&ConfigMap>, pem: &str) -> Option<serde_json::Value> {
    let data = there.and_then(|map| map.data.as_ref());
    let right = data.is_some_and(|data| data.len() == 1 && data.get(KEY).is_some_and(|text| text == pem));
    let described = there.is_some_and(|map| map.annotations().contains_key(DESCRIPTION));
    if right && described {
        return None;
    }
    let mut wanted = json!({"metadata": {"name": NAME, "annotations": {DESCRIPTION: TEXT}}, "data": {KEY: pem}});
    // A merge patch removes what it names.
    for key in data.into_iter().flat_map(|data| data.keys()).filter(|key| *key != KEY) {
        wanted["data"][key] = serde_json::Value::Null;
    }
    Some(wanted)
}

async fn act(ns: Arc<Namespace>, context: Arc<Context>) -> Result<Action, Error> {
    if ns.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), &ns.name_any());
    let there = api.get_opt(NAME).await?;
    let Some(wanted) = decide(there.as_ref(), &context.pem) else { return Ok(Action::await_change()) };
    if there.is_some() {
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(wanted)).await?;
        return Ok(Action::await_change());
    }
    let malformed = |_| Error::Malformed { kind: "ConfigMap", name: NAME.to_owned(), field: "data" };
    let map: ConfigMap = serde_json::from_value(wanted).map_err(malformed)?;
    match api.create(&PostParams::default(), &map).await {
        // Somebody was first, or the namespace goes.
        Err(kube::Error::Api(s)) if s.code == 409 || s.code == 403 => {}
        other => drop(other?),
    }
    Ok(Action::await_change())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_and_put_right() {
        let wanted = decide(None, "PEM").unwrap();
        assert_eq!(wanted["data"], json!({"ca.crt": "PEM"}));
        let mut map: ConfigMap = serde_json::from_value(wanted).unwrap();
        assert_eq!(decide(Some(&map), "PEM"), None);
        assert_eq!(decide(Some(&map), "NEW").unwrap()["data"], json!({"ca.crt": "NEW"}));
        map.data.as_mut().unwrap().insert("x".into(), "y".into());
        assert_eq!(decide(Some(&map), "PEM").unwrap()["data"], json!({"ca.crt": "PEM", "x": null}));
    }
}
