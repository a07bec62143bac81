//! Pods whose run is not in memory any more: the run had ended, and the last word about the pod (the label, the finalizer
//! that goes, the stop of one that goes on) was lost with a request or a crash. Without it such a pod could never be
//! deleted, and a daemon would run for ever.
//!
//! States: *kept* (until the workflows are listed, nobody knows which runs there are) → *looked at* → released or stopped,
//! or left to its run. It must never touch a pod whose workflow has not ended.

use std::time::Duration;

use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tracing::{debug, warn};

use super::Key;
use super::act::{Released, release};
use super::seen::WorkflowSeen;
use crate::pod::PodSeen;

/// How often, and with which pauses from a quarter of a second on, the release of one pod is tried.
const TRIES: u32 = 10;

/// Pods that nobody has spoken for yet.
#[derive(Default)]
pub(super) struct Strays {
    kept: Vec<(Key, PodSeen)>,
    listed: bool,
}

impl Strays {
    /// A pod of a workflow that has no resident.
    pub(super) fn take(&mut self, client: &Client, key: Key, pod: PodSeen) {
        match self.listed {
            true => drop(tokio::spawn(look(client.clone(), key, pod))),
            false => self.kept.push((key, pod)),
        }
    }

    /// Every workflow has been seen once: who has no resident now has ended, or is gone.
    pub(super) fn workflows_are_listed(&mut self, client: &Client, is_home: impl Fn(&Key) -> bool) {
        self.listed = true;
        for (key, pod) in std::mem::take(&mut self.kept) {
            // A resident has read its pods itself.
            if !is_home(&key) {
                tokio::spawn(look(client.clone(), key, pod));
            }
        }
    }
}

async fn look(client: Client, key: Key, pod: PodSeen) {
    let mut pause = Duration::from_millis(250);
    for _ in 0..TRIES {
        let workflows: Api<WorkflowSeen> = Api::namespaced(client.clone(), &key.0);
        match workflows.get_opt(&key.1).await {
            Ok(Some(workflow))
                if !workflow.has_ended() && workflow.metadata.uid.as_ref().is_some_and(|uid| pod.is_of(uid)) =>
            {
                return;
            }
            // Its owner has gone, and takes it along.
            Ok(None) if !pod.has_ended() => return,
            Ok(Some(_)) if !pod.has_ended() => {
                let pods = Api::<PodSeen>::namespaced(client.clone(), &key.0);
                let only = Preconditions { uid: pod.uid_text().map(str::to_owned), resource_version: None };
                let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
                match pods.delete(pod.name(), &params).await {
                    // How it ended is told then, as of every other one.
                    Ok(_) => return debug!(namespace = key.0, pod = pod.name(), "a stray pod was stopped"),
                    Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => return,
                    Err(e) => debug!(namespace = key.0, pod = pod.name(), error = %e, "stopped later"),
                }
            }
            Ok(_) => {
                let pods = Api::<PodSeen>::namespaced(client.clone(), &key.0);
                if release(&pods, pod.name(), pod.uid_text()).await == Released::Yes {
                    debug!(namespace = key.0, workflow = key.1, pod = pod.name(), "a stray pod was released");
                    return;
                }
            }
            Err(e) => debug!(namespace = key.0, workflow = key.1, error = %e, "looked at again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    warn!(namespace = key.0, workflow = key.1, pod = pod.name(), "a pod of an ended workflow could not be released");
}
