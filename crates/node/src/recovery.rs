//! What an agent makes of what the one before it left: its notes (`journal`), its Pods, its directories. Containers die with
//! their agent: a Pod that had begun is `NodeLost`, unless its end had been noted; one that had not begun simply runs.

use crate::agent::{Agent, is_over};
use crate::feed;
use crate::journal::Left;
use crate::worker;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long after the Pods were listed old logs are looked for.
const SWEEP_AFTER: Duration = Duration::from_secs(2);
const SWEEP_AT_ONCE: u32 = 500;
const LOST: &str = "The node agent ended while the pod was running";

/// The directory of one Pod.
pub(crate) fn pod_directory(home: &Path, uid: &str) -> PathBuf {
    home.join("volumes/pods").join(uid)
}

/// What an earlier agent left of `pod`; `None` where nothing had been started.
fn left(noted: &mut HashMap<String, Left>, pod: &Pod) -> Option<Left> {
    let noted = noted.remove(pod.metadata.uid.as_deref().unwrap_or_default());
    let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    noted.or(running.then_some(Left::Begun))
}

/// Tells the API of every Pod that died with an earlier agent, and clears what that agent left on disk.
pub(crate) async fn take_up(agent: &Agent) -> Result<(), kube::Error> {
    let config = agent.config();
    let api: Api<Pod> = Api::all(config.client.clone());
    let pods = api.list(&ListParams::default().fields(feed::LIVE)).await?;
    let mut noted = agent.journal().read();
    for pod in &pods.items {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty());
        if is_over(pod) || node.is_some_and(|n| n != config.name) {
            continue;
        }
        let status = match left(&mut noted, pod) {
            None => continue,
            Some(Left::Ended(status)) => *status,
            Some(Left::Begun) => lost(pod, Timestamp::now()),
        };
        match worker::write(&agent.api(pod), pod, &status).await {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    if let Err(error) = agent.journal().clear() {
        tracing::warn!(%error, "what an earlier agent noted of its pods stays");
    }
    let directory = config.home.join("volumes/pods");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "an old pod's directory stays");
        }
    }
    Ok(())
}

/// The status of a Pod whose agent died under it.
fn lost(pod: &Pod, now: Timestamp) -> PodStatus {
    let mut status = pod.status.clone().unwrap_or_default();
    status.phase = Some("Failed".into());
    status.reason = Some("NodeLost".into());
    status.message = Some(LOST.into());
    let names: Vec<String> = pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.clone()).collect();
    let known = status.container_statuses.take().unwrap_or_default();
    let of = |name: String| {
        known
            .iter()
            .find(|s| s.name == name)
            .cloned()
            .unwrap_or_else(|| ContainerStatus { name, ..ContainerStatus::default() })
    };
    let mut all: Vec<ContainerStatus> = names.into_iter().map(of).collect();
    for container in all.iter_mut().chain(status.init_container_statuses.iter_mut().flatten()) {
        container.ready = false;
        container.started = Some(false);
        let state = container.state.get_or_insert_default();
        if state.terminated.is_some() {
            continue;
        }
        let started_at = state.running.take().and_then(|r| r.started_at);
        *state = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                started_at,
                finished_at: Some(Time(now)),
                container_id: container.container_id.clone(),
                signal: None,
            }),
            ..ContainerState::default()
        };
    }
    status.container_statuses = Some(all);
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady") {
            condition.status = "False".into();
            condition.reason = Some("PodFailed".into());
            condition.last_transition_time = Some(Time(now));
        }
    }
    status
}

/// Removes the logs of Pods that were deleted while no agent saw it: some time after the Pods were listed, as nobody waits
/// for it.
pub(crate) async fn sweep(agent: Agent) {
    loop {
        agent.listed().await;
        tokio::time::sleep(SWEEP_AFTER).await;
        let kept = kept(&agent.config().home);
        // Read before the Pods: a directory is only made for a Pod that is there.
        if kept.is_empty() {
            continue;
        }
        match alive(&agent).await {
            Ok(alive) => drop_logs(kept.into_iter().filter(|(uid, _)| !alive.contains(uid))),
            Err(error) => tracing::debug!(%error, "logs of pods that are gone stay for now"),
        }
    }
}

/// The UIDs of all Pods, ended ones too; a part at a time, as there may be many.
async fn alive(agent: &Agent) -> Result<HashSet<String>, kube::Error> {
    let api: Api<Pod> = Api::all(agent.config().client.clone());
    let mut uids = HashSet::new();
    let mut parameters = ListParams::default().limit(SWEEP_AT_ONCE);
    loop {
        let part = api.list_metadata(&parameters).await?;
        uids.extend(part.items.into_iter().filter_map(|pod| pod.metadata.uid));
        match part.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(uids),
        }
    }
}

/// The directories of logs, by their Pods' UIDs.
fn kept(home: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(home.join("logs")).into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name();
        Some((name.to_str()?.rsplit('_').next()?.to_owned(), entry.path()))
    };
    entries.filter_map(named).collect()
}

fn drop_logs(of: impl Iterator<Item = (String, PathBuf)>) {
    for (_, path) in of {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::debug!(path = %path.display(), %error, "an old log stays");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "main"}]}, "status": status}))
        .unwrap()
    }

    #[test]
    fn a_pod_that_began_is_lost_unless_its_end_was_noted() {
        let pending = pod(json!({"phase": "Pending"}));
        let noted = |left: Left| HashMap::from([("u".to_owned(), left)]);
        assert_eq!(left(&mut HashMap::new(), &pending), None);
        assert_eq!(left(&mut HashMap::new(), &pod(json!({"phase": "Running"}))), Some(Left::Begun));
        assert_eq!(left(&mut noted(Left::Begun), &pending), Some(Left::Begun));
        let end = || Left::Ended(Box::new(PodStatus { phase: Some("Succeeded".into()), ..PodStatus::default() }));
        assert_eq!(left(&mut noted(end()), &pod(json!({"phase": "Running"}))), Some(end()));
    }

    #[test]
    fn the_lost_status_says_so() {
        let status = lost(
            &pod(json!({"phase": "Running", "containerStatuses": [{"name": "main", "ready": true,
            "restartCount": 0, "image": "i", "imageID": "", "state": {"running": {}}}]})),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("NodeLost")));
        let main = &status.container_statuses.unwrap()[0];
        assert!(!main.ready);
        assert_eq!(main.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 137);
    }

    #[test]
    fn logs_are_known_by_their_pods() {
        let home = tempfile::tempdir().unwrap();
        assert!(kept(home.path()).is_empty());
        for uid in ["a", "b"] {
            fs::create_dir_all(home.path().join(format!("logs/ns_p_{uid}"))).unwrap();
        }
        drop_logs(kept(home.path()).into_iter().filter(|(uid, _)| uid == "b"));
        assert!(home.path().join("logs/ns_p_a").exists() && !home.path().join("logs/ns_p_b").exists());
    }
}
