//! Pods that have ended and whose run is not in memory any more: the run had ended, and the last word about the pod (the
//! label, the finalizer that goes) was lost with a request or a crash. Without it such a pod could never be deleted.
//!
//! States: *kept* (until the workflows are listed, nobody knows which runs there are) → *looked at* → released, or left
//! to its run. It must never touch a pod whose workflow has not ended.

use std::time::Duration;

use kube::{Api, Client};
use tracing::{debug, warn};

use super::Key;
use super::act::{Released, release};
use super::seen::WorkflowSeen;
use crate::pod::PodSeen;

/// How often, and with which pauses from a quarter of a second on, the release of one pod is tried.
const TRIES: u32 = 10;

/// Ended pods that nobody has spoken for yet.
#[derive(Default)]
pub(super) struct Strays {
    kept: Vec<(Key, PodSeen)>,
    listed: bool,
}

impl Strays {
    /// An ended pod of a workflow that has no resident.
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
