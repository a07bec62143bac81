//! Claims as Pods of this node use them: whether they are bound, where their data is, and its end. A volume of the local
//! driver is a directory of the home; it is deleted when its volume is released and says so, and never before.

use crate::agent::Agent;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use windlass_model::storage;

/// Where a claim's data is, or why that is not known: the text, and whether no retry helps.
pub(crate) type Place = Result<PathBuf, (String, bool)>;

/// What is known of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Unbound,
    Bound,
    Deleted,
}

/// The claims of all namespaces, as a scheduler needs them.
#[derive(Debug, Default)]
pub(crate) struct Claims(RwLock<HashMap<(String, String), Known>>);

impl Claims {
    fn learn(&self, claim: &PersistentVolumeClaim) {
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let known = match (claim.metadata.deletion_timestamp.is_some(), bound) {
            (true, _) => Known::Deleted,
            (false, true) => Known::Bound,
            (false, false) => Known::Unbound,
        };
        self.change(claim, Some(known));
    }

    fn change(&self, claim: &PersistentVolumeClaim, known: Option<Known>) {
        let key = (claim.namespace().unwrap_or_default(), claim.name_any());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(known) => drop(all.insert(key, known)),
            None => drop(all.remove(&key)),
        }
    }

    /// `None` where every claim of `pod` is bound, else kube-scheduler's message.
    pub(crate) fn misfit(&self, pod: &Pod) -> Option<String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let mut names = volumes.filter_map(|v| v.persistent_volume_claim.as_ref()).map(|c| &c.claim_name).peekable();
        names.peek()?;
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let reason = names.find_map(|name| match all.get(&(namespace.to_owned(), name.clone())) {
            Some(Known::Bound) => None,
            None => Some(format!("persistentvolumeclaim {name:?} not found")),
            Some(Known::Deleted) => Some(format!("persistentvolumeclaim {name:?} is being deleted")),
            Some(Known::Unbound) => Some("pod has unbound immediate PersistentVolumeClaims".to_owned()),
        })?;
        let preemption = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        Some(format!("0/1 nodes are available: {reason}. {preemption}"))
    }
}

/// Follows claims for ever: Pods that waited for one are looked at again.
pub(crate) async fn follow(agent: Agent) {
    let api = Api::<PersistentVolumeClaim>::all(agent.config().client.clone());
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Apply(claim) | watcher::Event::InitApply(claim))) => agent.claims().learn(&claim),
            Ok(Some(watcher::Event::Delete(claim))) => agent.claims().change(&claim, None),
            Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "watching claims"),
        }
        agent.look_again();
    }
}

/// The directory of every local volume.
fn data(home: &Path) -> PathBuf {
    home.join("volumes/claims")
}

/// The directory of a local volume's data; a handle is one name.
fn directory(home: &Path, handle: &str) -> Option<PathBuf> {
    let one = !handle.is_empty() && !handle.contains('/') && !matches!(handle, "." | "..");
    one.then(|| data(home).join(handle))
}

/// Where the data of a bound claim is.
pub(crate) async fn place(agent: &Agent, namespace: &str, claim: &str) -> Place {
    let config = agent.config();
    let api = |error: kube::Error| (error.to_string(), false);
    let claims = Api::<PersistentVolumeClaim>::namespaced(config.client.clone(), namespace);
    let found = claims.get_opt(claim).await.map_err(api)?;
    let found = found.ok_or_else(|| (format!("persistentvolumeclaim {claim:?} not found"), false))?;
    let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let name = found.spec.and_then(|s| s.volume_name).filter(|n| bound && !n.is_empty());
    let name = name.ok_or_else(|| (format!("persistentvolumeclaim {claim:?} is not bound"), false))?;
    let volumes = Api::<PersistentVolume>::all(config.client.clone());
    let volume = volumes.get_opt(&name).await.map_err(api)?;
    let volume = volume.ok_or_else(|| (format!("persistentvolume {name:?} not found"), false))?;
    let spec = volume.spec.unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err((format!("persistentvolume {name:?}: volumes of mode Block are not supported on this node"), true));
    }
    if let Some(csi) = spec.csi.filter(|csi| csi.driver == storage::DRIVER) {
        let wrong = || (format!("persistentvolume {name:?}: bad volumeHandle {:?}", csi.volume_handle), true);
        return directory(&config.home, &csi.volume_handle).ok_or_else(wrong);
    }
    let path = spec.host_path.map(|h| h.path).or_else(|| spec.local.map(|l| l.path));
    let Some(path) = path else {
        let text = "only volumes of this node's own class, hostPath and local are supported on this node";
        return Err((format!("persistentvolume {name:?}: {text}"), true));
    };
    let (root, rest) = config.allow_paths.resolve(Path::new(&path)).map_err(|e| (format!("hostPath: {e}"), true))?;
    Ok(root.join(rest))
}

/// Follows volumes for ever, and ends the data of those that are done with.
pub(crate) async fn reclaim(agent: Agent) {
    let api = Api::<PersistentVolume>::all(agent.config().client.clone());
    let stream = watcher(api.clone(), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Apply(volume) | watcher::Event::InitApply(volume))) => {
                if let Err(error) = end(&agent.config().home, &api, &volume).await {
                    // The next start tries again.
                    tracing::warn!(volume = %volume.name_any(), %error, "a volume stays");
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "watching volumes"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("API: {0}")]
    Api(#[from] kube::Error),
}

async fn end(home: &Path, api: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<(), EndError> {
    let Some(spec) = &volume.spec else { return Ok(()) };
    let Some(csi) = spec.csi.as_ref().filter(|csi| csi.driver == storage::DRIVER) else { return Ok(()) };
    let released = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
    let deleted = volume.metadata.deletion_timestamp.is_some();
    let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    // One that is deleted while it is bound waits for its claim.
    if !(released && (deleted || delete)) || !volume.finalizers().iter().any(|f| f == storage::FINALIZER) {
        return Ok(());
    }
    if delete && let Some(directory) = directory(home, &csi.volume_handle) {
        match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory)).await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let name = volume.name_any();
    let rest: Vec<&String> = volume.finalizers().iter().filter(|f| *f != storage::FINALIZER).collect();
    let metadata = serde_json::json!({"finalizers": rest, "resourceVersion": volume.metadata.resource_version});
    let freed = Patch::Merge(serde_json::json!({"metadata": metadata}));
    // A conflict comes with a newer version, which is told as well.
    match api.patch(&name, &PatchParams::default(), &freed).await {
        Err(kube::Error::Api(s)) if matches!(s.code, 404 | 409) => return Ok(()),
        other => drop(other?),
    }
    if !deleted {
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(s)) if s.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_wait_for_their_claims_in_the_schedulers_words() {
        let claims = Claims::default();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
            .unwrap();
        let mut claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n"}})).unwrap();
        let says = |text: &str| assert!(claims.misfit(&pod).unwrap().contains(text), "{:?}", claims.misfit(&pod));
        says("0/1 nodes are available: persistentvolumeclaim \"c\" not found. preemption: ");
        claims.learn(&claim);
        says("available: pod has unbound immediate PersistentVolumeClaims. ");
        claim.status = Some(serde_json::from_value(json!({"phase": "Bound"})).unwrap());
        claims.learn(&claim);
        assert_eq!(claims.misfit(&pod), None);
        claim.metadata.deletion_timestamp = serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap();
        claims.learn(&claim);
        says("persistentvolumeclaim \"c\" is being deleted");
        claims.change(&claim, None);
        says("not found");
        assert_eq!(claims.misfit(&Pod::default()), None);
    }

    #[test]
    fn a_handle_leads_nowhere_else() {
        let home = Path::new("/h");
        assert_eq!(directory(home, "a_b").unwrap(), Path::new("/h/volumes/claims/a_b"));
        for bad in ["", ".", "..", "a/b", "/etc"] {
            assert_eq!(directory(home, bad), None, "{bad}");
        }
    }
}
