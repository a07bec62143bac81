//! The loops behind the API: they take the work that the writer saw and hand it to garbage collection, to the ending of
//! namespaces and of definitions. Holds no policy; ends when the server is dropped.

use crate::ApiServer;
use crate::answer::ApiError;
use crate::kinds::Resource;
use crate::rest::DeleteOptions;
use crate::rest::delete::{delete as delete_object, is_finished};
use crate::rest::write::{Step, Target};
use crate::server::WeakServer;
use crate::store::{Obj, Work};
use crate::{crd, gc, namespace};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc::UnboundedReceiver};

/// Writes that the collector has under way at once.
const AT_ONCE: usize = 32;

/// Takes work until the store is closed.
pub(crate) async fn run(server: WeakServer, mut feed: UnboundedReceiver<Work>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(work) = feed.recv().await {
        let Some(server) = server.upgrade() else { return };
        match work {
            // These wait for others, so they do not take a permit.
            Work::Namespace(name) => drop(tokio::spawn(async move { namespace::finish(&server, &name).await })),
            Work::Definition(name) => drop(tokio::spawn(async move { crd::finish(&server, &name).await })),
            work => {
                for action in gc::decide(&server, &work) {
                    let Ok(permit) = permits.clone().acquire_owned().await else { return };
                    let server = server.clone();
                    tokio::spawn(async move {
                        gc::act(&server, action).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

/// Changes a stored object in place; removes it if that was the last thing it waited for.
pub(crate) async fn edit(
    server: &ApiServer,
    storage: &str,
    key: &str,
    mut change: impl FnMut(&mut Value),
) -> Result<(), ApiError> {
    let registry = server.registry();
    let Some(r) = registry.of_storage(storage) else { return Ok(()) };
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let target = Target { server, r, namespace, name, dry_run: false };
    let done = target
        .change(|current| {
            let current = current.ok_or_else(|| ApiError::not_found(r, name))?;
            let old = current.value();
            let mut new = old.clone();
            change(&mut new);
            if is_finished(r, &new) {
                return Ok(Step::Remove);
            }
            Ok(if new == old { Step::Same } else { Step::Put(new) })
        })
        .await;
    match done {
        Err(error) if error.code == 404 => Ok(()),
        done => done.map(|_| ()),
    }
}

/// Deletes a stored object. That it is gone already, or is another one by now, is no fault.
pub(crate) async fn delete(
    server: &ApiServer,
    r: &Arc<Resource>,
    obj: &Obj,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let target = Target { server, r, namespace: &obj.meta.namespace, name: &obj.meta.name, dry_run: false };
    match delete_object(&target, options).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
