//! Every namespace has a ServiceAccount `default`: this loop makes it for new namespaces and again when somebody
//! deletes it. It must never touch another ServiceAccount.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use crate::Error;

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let ctx = Arc::new(client.clone());
    Controller::new(Api::<Namespace>::all(client.clone()), watcher::Config::default())
        .watches(Api::<ServiceAccount>::all(client), watcher::Config::default(), |sa: ServiceAccount| {
            (sa.name_any() == "default").then(|| ObjectRef::new(&sa.namespace().unwrap_or_default()))
        })
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

async fn act(ns: Arc<Namespace>, client: Arc<Client>) -> Result<Action, Error> {
    if ns.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let api = Api::<ServiceAccount>::namespaced((*client).clone(), &ns.name_any());
    if api.get_opt("default").await?.is_none() {
        let mut sa = ServiceAccount::default();
        sa.metadata.name = Some("default".into());
        match api.create(&PostParams::default(), &sa).await {
            Err(kube::Error::Api(s)) if s.code == 409 || s.code == 403 => {}
            other => drop(other?),
        }
    }
    Ok(Action::await_change())
}
