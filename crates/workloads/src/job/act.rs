//! What a pass over a Job does: the status first, so that no pod is let go before it is noted; then finalizers, pods, and
//! the Job itself. Also pods whose Job is gone, which nobody else would let go.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Resource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::{Decision, FINALIZER, INDEX, decide, is_indexed};
use crate::Error;
use crate::event::Events;
use crate::pod::PodSeen;

/// Label that every Job's pods have, unless people chose the selector themselves.
const OF_JOB: &str = "batch.kubernetes.io/controller-uid";
/// One pass often leads to the next: a finalizer that went, a pod that is counted. So often without waiting for news.
const PASSES: usize = 4;
/// Pods of a Job with a selector of people's own tell nobody.
const MANUAL_PAUSE: Duration = Duration::from_secs(2);

struct Context {
    client: Client,
    events: Events,
}

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let events = Events::start(client.clone(), "job-controller");
    let ctx = Arc::new(Context { client: client.clone(), events });
    let jobs = Controller::new(Api::<Job>::all(client.clone()), watcher::Config::default())
        .owns(Api::<PodSeen>::all(client.clone()), watcher::Config::default().labels(OF_JOB))
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {});
    tokio::join!(jobs, orphans(client));
}

async fn act(job: Arc<Job>, context: Arc<Context>) -> Result<Action, Error> {
    let ns = job.namespace().unwrap_or_default();
    let jobs = Api::<Job>::namespaced(context.client.clone(), &ns);
    let pods = Api::<Pod>::namespaced(context.client.clone(), &ns);
    let mut look_again = None;
    for _ in 0..PASSES {
        // Read afresh: the cache that woke us may not hold what the last pass did.
        let Some(job) = jobs.get_opt(&job.name_any()).await? else { return Ok(Action::await_change()) };
        let selector = job.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}={v}"));
        let params = ListParams::default().labels(&labels.collect::<Vec<_>>().join(","));
        let uid = job.uid().unwrap_or_default();
        let owned = |p: &Pod| p.owner_references().iter().any(|o| o.controller == Some(true) && o.uid == uid);
        let mut mine = pods.list(&params).await?.items;
        mine.retain(owned);
        let decision = decide(&job, &mine, Timestamp::now());
        look_again = decision.look_again;
        let manual = job.spec.as_ref().is_some_and(|s| s.manual_selector == Some(true)) && super::end(&job).is_none();
        if manual {
            look_again = Some(look_again.map_or(MANUAL_PAUSE, |at| at.min(MANUAL_PAUSE)));
        }
        if !carry_out(&context, &jobs, &pods, &job, decision).await? {
            break;
        }
    }
    Ok(look_again.map_or_else(Action::await_change, Action::requeue))
}

/// Does what was decided; whether anything was done that the next pass should see.
async fn carry_out(
    context: &Context,
    jobs: &Api<Job>,
    pods: &Api<Pod>,
    job: &Job,
    decision: Decision,
) -> Result<bool, Error> {
    let name = job.name_any();
    let changed = job.status.as_ref() != Some(&decision.status);
    if changed {
        let patch = json!({
            "metadata": {"uid": job.uid(), "resourceVersion": job.resource_version()},
            "status": status_patch(job, &decision)?,
        });
        jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    for (warning, reason, message) in &decision.events {
        match warning {
            true => context.events.warning(job, reason, message.clone()),
            false => context.events.normal(job, reason, message.clone()),
        }
    }
    for (pod, uid) in &decision.release {
        release(pods, pod, uid).await?;
    }
    for (pod, uid, uncounted) in &decision.delete {
        if *uncounted {
            release(pods, pod, uid).await?;
        }
        let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
        match pods.delete(pod, &DeleteParams { preconditions: Some(only), ..DeleteParams::background() }).await {
            Ok(_) => context.events.normal(job, "SuccessfulDelete", format!("Deleted pod: {pod}")),
            Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => {}
            Err(e) => return Err(e.into()),
        }
    }
    for index in &decision.create {
        match pods.create(&PostParams::default(), &pod_of(job, *index)?).await {
            Ok(pod) => context.events.normal(job, "SuccessfulCreate", format!("Created pod: {}", pod.name_any())),
            Err(kube::Error::Api(s)) if (400..500).contains(&s.code) && s.code != 429 => {
                context.events.warning(job, "FailedCreate", format!("Error creating: {}", s.message));
                return Err(kube::Error::Api(s).into());
            }
            Err(e) => return Err(e.into()),
        }
    }
    if decision.expired {
        let only = Preconditions { uid: job.uid(), resource_version: None };
        match jobs.delete(&name, &DeleteParams { preconditions: Some(only), ..DeleteParams::background() }).await {
            Ok(_) => {}
            Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(changed || !decision.release.is_empty() || !decision.delete.is_empty() || !decision.create.is_empty())
}

/// The status as a merge patch: what it has no more is named.
fn status_patch(job: &Job, decision: &Decision) -> Result<Value, Error> {
    let malformed = |_| Error::Malformed { kind: "Job", name: job.name_any(), field: "status" };
    let before = serde_json::to_value(&job.status).map_err(malformed)?;
    let mut after = serde_json::to_value(&decision.status).map_err(malformed)?;
    for (key, old) in before.as_object().into_iter().flatten() {
        if after.get(key).is_none() {
            after[key] = Value::Null;
        } else if old.is_object() {
            for inner in old.as_object().into_iter().flatten().map(|(inner, _)| inner) {
                if after[key].is_object() && after[key].get(inner).is_none() {
                    after[key][inner] = Value::Null;
                }
            }
        }
    }
    Ok(after)
}

/// Takes our finalizer off a pod.
async fn release(pods: &Api<Pod>, name: &str, uid: &str) -> Result<(), Error> {
    let Some(pod) = pods.get_metadata_opt(name).await? else { return Ok(()) };
    if pod.metadata.uid.as_deref() != Some(uid) || !pod.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    let rest: Vec<&String> = pod.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": pod.resource_version(), "finalizers": rest}});
    match pods.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A pod made of the Job's template.
fn pod_of(job: &Job, index: Option<usize>) -> Result<Pod, Error> {
    let missing = |field| Error::Malformed { kind: "Job", name: job.name_any(), field };
    let template = job.spec.as_ref().map(|s| s.template.clone()).ok_or_else(|| missing("spec.template"))?;
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = None;
    pod.metadata.creation_timestamp = None;
    pod.metadata.generate_name = Some(format!("{}-", job.name_any()));
    pod.metadata.namespace = job.namespace();
    pod.metadata.owner_references = Some(vec![job.controller_owner_ref(&()).ok_or_else(|| missing("metadata.uid"))?]);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    if let Some(index) = index.filter(|_| is_indexed(job)) {
        let text = index.to_string();
        pod.metadata.generate_name = Some(format!("{}-{index}-", job.name_any()));
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
        pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(format!("{}-{index}", job.name_any()));
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                let all = container.env.get_or_insert_default();
                if !all.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
                    all.push(index_variable());
                }
            }
        }
    }
    Ok(pod)
}

fn index_variable() -> EnvVar {
    let field_path = format!("metadata.labels['{INDEX}']");
    let field_ref = Some(ObjectFieldSelector { field_path, ..Default::default() });
    EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value_from: Some(EnvVarSource { field_ref, ..Default::default() }),
        ..Default::default()
    }
}

/// Lets pods go whose Job is not there any more: the garbage collector deletes them, and waits for us.
async fn orphans(client: Client) {
    let all = Api::<PodSeen>::all(client.clone());
    let mut events = watcher::watcher(all, watcher::Config::default().labels(OF_JOB)).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                if let Err(error) = let_orphan_go(&client, &pod).await {
                    tracing::debug!(%error, pod = pod.name_any(), "a pod without a Job stays for now");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "watch of Jobs' pods interrupted");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn let_orphan_go(client: &Client, seen: &PodSeen) -> Result<(), Error> {
    let ns = seen.namespace().unwrap_or_default();
    let pods = Api::<Pod>::namespaced(client.clone(), &ns);
    if !seen.is_going() {
        return Ok(());
    }
    let Some(owner) = seen.owner_references().iter().find(|o| o.controller == Some(true) && o.kind == "Job") else {
        return Ok(());
    };
    let jobs = Api::<Job>::namespaced(client.clone(), &ns);
    if jobs.get_metadata_opt(&owner.name).await?.is_some_and(|j| j.metadata.uid.as_ref() == Some(&owner.uid)) {
        return Ok(());
    }
    if let Some(pod) = pods.get_metadata_opt(&seen.name_any()).await? {
        release(&pods, &seen.name_any(), pod.metadata.uid.as_deref().unwrap_or_default()).await?;
    }
    Ok(())
}
