//! The end of a namespace: everything in it is deleted, then it goes itself. No new objects can come meanwhile; the
//! store's writer sees to that.

use crate::ApiServer;
use crate::background;
use crate::rest::{DeleteOptions, metadata};
use crate::store::key_of;
use serde_json::{Value, json};
use std::time::Duration;

/// After this long, the namespace's status tells what is still in it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Empties a terminating namespace and removes it. Ends when it is gone.
pub(crate) async fn finish(server: &ApiServer, name: &str) {
    let key = key_of("", name);
    let mut pause = Duration::from_millis(5);
    let started = tokio::time::Instant::now();
    while server.store().table("namespaces").get(&key).is_some_and(|ns| ns.meta.deleting) {
        let registry = server.registry();
        let mut remaining = Vec::new();
        for table in server.store().tables() {
            let Some(r) = registry.of_storage(&table.storage).filter(|r| r.namespaced) else { continue };
            let (all, _) = table.snapshot(Some(name), None, None).unwrap_or_default();
            for obj in all.iter().filter(|o| !o.meta.deleting) {
                if let Err(error) = background::delete(server, r, obj, &DeleteOptions::default()).await {
                    tracing::warn!(%error, namespace = name, object = %obj.meta.key(), "cannot delete yet");
                }
            }
            let (left, _) = table.snapshot(Some(name), None, None).unwrap_or_default();
            if !left.is_empty() {
                remaining.push(format!("{} has {} resource instances", r.qualified(), left.len()));
            }
        }
        let done = remaining.is_empty();
        if done || started.elapsed() > PATIENCE {
            let edited = background::edit(server, "namespaces", &key, |object| {
                if done {
                    object["spec"]["finalizers"] = json!([]);
                } else {
                    tell(object, &remaining);
                }
            });
            if let Err(error) = edited.await {
                tracing::warn!(%error, namespace = name, "cannot end a namespace yet");
            }
        }
        if done
            && !server.store().table("namespaces").get(&key).is_some_and(|ns| {
                // Finalizers of others: they remove the namespace when they are done.
                ns.meta.deleting && metadata::finalizers(&ns.value()).is_empty()
            })
        {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Notes in the namespace's conditions what is left.
fn tell(namespace: &mut Value, remaining: &[String]) {
    let message = format!("Some resources are remaining: {}", remaining.join(", "));
    if !namespace["status"]["conditions"].is_array() {
        namespace["status"]["conditions"] = json!([]);
    }
    let Some(list) = namespace["status"]["conditions"].as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == "NamespaceContentRemaining") {
        Some(condition) => condition["message"] = json!(message),
        None => list
            .push(json!({"type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain",
            "message": message, "lastTransitionTime": metadata::now_text()})),
    }
}
