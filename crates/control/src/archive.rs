//! The archive's loop: a workflow that ended and says that it is to be archived is kept, and then says that it is. One that
//! is deleted before its turn is kept as it was when it went. Nothing waits for this loop for ever, and it holds no delete
//! up: there is no finalizer.
//!
//! | label `workflow-archiving-status` | means | next |
//! |---|---|---|
//! | `Pending` (written together with the end) | it is to be kept | kept, then `Archived` |
//! | `Archived` | there is a copy, which says `Persisted` | gone by its `ttlStrategy`, or by hand; a retry takes the label away |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use windlass_archive::Archive;
use windlass_model::labels;

use crate::again::Pauses;
use crate::part::WorkflowText;
use crate::workflow::{Settings, configuration};
use crate::{Scope, tables};

/// So many that are ready at a time are one write.
const BATCH_MAX: usize = 64;
/// So many labels are written at a time.
const LABELS_MAX: usize = 16;
/// How often a workflow is asked to say that it was archived.
const ATTEMPTS: u32 = 6;
/// How often the copies that are too old are looked for.
const EXPIRE_EVERY: SignedDuration = SignedDuration::from_mins(10);

/// Runs until `stop` is cancelled; what is not kept by then still says so at the next start.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) {
    let Some(archive) = settings.archive.clone() else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keep_all(&client, &settings.scope, archive.as_ref()) => {}
        () = expire(&client, &settings, &archive) => {}
    }
}

async fn keep_all(client: &Client, scope: &Scope, archive: &dyn Archive) {
    let selector = format!("{}=true,{}=Pending", labels::COMPLETED, labels::ARCHIVING_STATUS);
    let api: Api<WorkflowText> = scope.api(client);
    let events = watcher::watcher(api, scope.few(&selector));
    let mut batches = Box::pin(events.ready_chunks(BATCH_MAX));
    // The versions that are kept, until their workflow is not in the watch any more.
    let mut kept: HashMap<String, Option<String>> = HashMap::new();
    while let Some(batch) = batches.next().await {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        let mut failed = false;
        for event in batch {
            match event {
                Ok(Event::Apply(wf) | Event::InitApply(wf)) => there.push(wf),
                // It was deleted, or says by now that it is archived.
                Ok(Event::Delete(wf)) if kept.remove(&wf.uid().unwrap_or_default()).is_none() => gone.push(wf),
                Ok(Event::InitDone) => kept.clear(),
                Ok(_) => {}
                Err(error) => {
                    debug!(%error, "watch interrupted");
                    failed = true;
                }
            }
        }
        // The same in several versions: the last one counts.
        let known = |wf: &WorkflowText| kept.get(&wf.uid().unwrap_or_default()) == Some(&wf.resource_version());
        let there: Vec<WorkflowText> = there.into_iter().filter(|wf| !known(wf)).collect();
        let done = keep(client, archive, there.iter().chain(&gone).collect()).await;
        let mut labelled = Vec::new();
        for wf in there {
            let uid = wf.uid().unwrap_or_default();
            if done.contains(&uid) {
                kept.insert(uid, wf.resource_version());
                labelled.push(label(client.clone(), wf.metadata));
            }
        }
        futures::stream::iter(labelled).buffer_unordered(LABELS_MAX).collect::<()>().await;
        if failed {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Keeps what can be kept, however long the database needs; the uids of those.
async fn keep(client: &Client, archive: &dyn Archive, all: Vec<&WorkflowText>) -> Vec<String> {
    if all.is_empty() {
        return Vec::new();
    }
    let mut texts = Vec::with_capacity(all.len());
    for wf in &all {
        texts.push(whole(client, wf).await);
    }
    if keep_patiently(archive, texts.clone()).await.is_ok() {
        return all.iter().map(|wf| wf.uid().unwrap_or_default()).collect();
    }
    // One of them is at fault; the others are not to pay for it.
    let mut done = Vec::new();
    for (wf, text) in all.into_iter().zip(texts) {
        match keep_patiently(archive, vec![text]).await {
            Ok(()) => done.push(wf.uid().unwrap_or_default()),
            Err(error) => {
                let (namespace, workflow) = (wf.namespace(), wf.name_any());
                warn!(namespace, workflow, %error, "it cannot be archived");
            }
        }
    }
    done
}

/// A workflow as it is kept: with its node table, where that can be had. Without it, it is better kept than lost.
async fn whole(client: &Client, wf: &WorkflowText) -> String {
    let text = wf.as_str().to_owned();
    if !wf.labels().contains_key(labels::NODE_TABLE) {
        return text;
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return text };
    let mut pauses = Pauses::new();
    loop {
        match tables::whole(client, value.clone()).await {
            Ok(whole) => return whole.to_string(),
            Err(fault) if fault.is_transient() => pauses.next().await,
            Err(fault) => {
                warn!(namespace = wf.namespace(), workflow = wf.name_any(), %fault, "archived without its nodes");
                return text;
            }
        }
    }
}

async fn keep_patiently(archive: &dyn Archive, texts: Vec<String>) -> Result<(), windlass_archive::Error> {
    const PAUSE_MAX: Duration = Duration::from_secs(60);
    let mut pause = Duration::from_secs(1);
    loop {
        match archive.keep(texts.clone()).await {
            Err(error) if error.is_transient() => {
                warn!(%error, "nothing can be archived; tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            answer => return answer,
        }
    }
}

/// The workflow says that there is a copy; of another version than was kept it does not.
async fn label(client: Client, of: ObjectMeta) {
    let api: Api<WorkflowText> = Api::namespaced(client, &of.namespace.unwrap_or_default());
    let name = of.name.unwrap_or_default();
    let patch = json!({"metadata": {
        "uid": of.uid, "resourceVersion": of.resource_version, "labels": {labels::ARCHIVING_STATUS: "Archived"},
    }});
    let mut pause = Duration::from_millis(250);
    for _ in 0..ATTEMPTS {
        match api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => return,
            // Gone, or changed: then the watch tells it again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => return,
            Err(error) => debug!(workflow = name, %error, "could not say that it is archived"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Takes out what is older than `archiveTTL`, by the configuration as it is then.
async fn expire(client: &Client, settings: &Settings, archive: &Arc<dyn Archive>) {
    let clock = &settings.clock;
    loop {
        match configuration(client, settings).await {
            Ok(config) => {
                let ttl = config.archiving.ttl_ms.map(SignedDuration::from_millis);
                let before = ttl.and_then(|ttl| clock.now().checked_sub(ttl).ok()).map(text);
                if let Some(before) = before
                    && let Err(error) = archive.expire(before).await
                {
                    warn!(%error, "archived workflows that are too old stay");
                }
            }
            Err(error) => debug!(%error, "the controller's configuration cannot be read"),
        }
        clock.sleep_until(clock.now() + EXPIRE_EVERY).await;
    }
}

/// A time as objects have it.
fn text(time: Timestamp) -> String {
    time.strftime("%FT%TZ").to_string()
}
