//! PersistentVolumeClaims and PersistentVolumes, as kube-controller-manager binds, protects and releases them; for claims of
//! our own class also the volume. Where a volume's data is, is for the node to know: it keeps and deletes it.
//!
//! | claim | seen | becomes |
//! |---|---|---|
//! | Pending | a volume that is free and fits, or was made for it | Bound |
//! | Pending | its class is ours, and waits for nobody | a volume is made for it |
//! | Bound | its volume is gone | Lost |
//! | deleted | no Pod that has not ended uses it | gone; its volume is Released |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use windlass_model::storage;

use crate::Error;
use crate::event::Events;

const PROTECTED: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTED: &str = "kubernetes.io/pv-protection";
/// How often Pods are asked about, while something waits for one to come or to go.
const PODS_AGAIN: Duration = Duration::from_millis(500);
const CLASS_AGAIN: Duration = Duration::from_secs(15);

struct Context {
    client: Client,
    events: Events,
}

type Claim = PersistentVolumeClaim;

/// Runs both loops for ever.
pub async fn run(client: Client) {
    let events = Events::start(client.clone(), "persistentvolume-controller");
    let ctx = Arc::new(Context { client: client.clone(), events });
    let all = watcher::Config::default;
    let claims = Controller::new(Api::<Claim>::all(client.clone()), all())
        .watches(Api::<PersistentVolume>::all(client.clone()), all(), |volume: PersistentVolume| {
            let claim = volume.spec?.claim_ref?;
            Some(ObjectRef::new(&claim.name?).within(&claim.namespace?))
        })
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx.clone())
        .for_each(|_| async {});
    let volumes = Controller::new(Api::<PersistentVolume>::all(client.clone()), all())
        .watches(Api::<Claim>::all(client), all(), |claim: Claim| {
            claim.spec?.volume_name.filter(|name| !name.is_empty()).map(|name| ObjectRef::new(&name))
        })
        .run(keep, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {});
    tokio::join!(claims, volumes);
}

async fn act(claim: Arc<Claim>, ctx: Arc<Context>) -> Result<Action, Error> {
    let api = Api::<Claim>::namespaced(ctx.client.clone(), &claim.namespace().unwrap_or_default());
    // The cache may be behind what this loop wrote itself.
    let Some(claim) = api.get_opt(&claim.name_any()).await? else { return Ok(Action::await_change()) };
    if claim.metadata.deletion_timestamp.is_some() {
        return release(&ctx, &api, &claim).await;
    }
    let volumes = Api::<PersistentVolume>::all(ctx.client.clone());
    match claim.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Bound") => {
            let name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).unwrap_or_default();
            if volumes.get_opt(&name).await?.is_none() {
                let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                ctx.events.warning(&claim, "ClaimLost", text.to_owned());
                set_status(&api, &claim.name_any(), json!({"phase": "Lost"})).await?;
            }
            Ok(Action::await_change())
        }
        Some("Lost") => Ok(Action::await_change()),
        _ => find(&ctx, &api, &volumes, &claim).await,
    }
}

/// Looks for a volume, or makes one.
async fn find(
    ctx: &Context,
    api: &Api<Claim>,
    volumes: &Api<PersistentVolume>,
    claim: &Claim,
) -> Result<Action, Error> {
    let all = volumes.list(&ListParams::default()).await?.items;
    if let Some(volume) = choose(claim, &all) {
        bind(volumes, api, claim, volume).await?;
        return Ok(Action::await_change());
    }
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Ok(Action::requeue(CLASS_AGAIN));
    }
    let class = spec.storage_class_name.clone().unwrap_or_default();
    if class.is_empty() {
        let text = "no persistent volumes available for this claim and no storage class is set";
        ctx.events.normal(claim, "FailedBinding", text.to_owned());
        return Ok(Action::requeue(CLASS_AGAIN));
    }
    let Some(found) = Api::<StorageClass>::all(ctx.client.clone()).get_opt(&class).await? else {
        let text = format!("storageclass.storage.k8s.io {class:?} not found");
        ctx.events.warning(claim, "ProvisioningFailed", text);
        return Ok(Action::requeue(CLASS_AGAIN));
    };
    if found.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") && users(ctx, claim).await?.is_empty() {
        let text = "waiting for first consumer to be created before binding";
        ctx.events.normal(claim, "WaitForFirstConsumer", text.to_owned());
        return Ok(Action::requeue(PODS_AGAIN));
    }
    if found.provisioner != storage::DRIVER {
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
             administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
             registered.",
            found.provisioner
        );
        ctx.events.normal(claim, "ExternalProvisioning", text);
        return Ok(Action::requeue(CLASS_AGAIN));
    }
    let volume = made_for(claim, &found);
    match volumes.create(&PostParams::default(), &volume).await {
        Err(kube::Error::Api(s)) if s.code == 409 => {}
        other => drop(other?),
    }
    let text = format!("Successfully provisioned volume {}", volume.name_any());
    ctx.events.normal(claim, "ProvisioningSucceeded", text);
    bind(volumes, api, claim, &volume).await?;
    Ok(Action::await_change())
}

fn reference(claim: &Claim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.namespace(),
        name: Some(claim.name_any()),
        uid: claim.uid(),
        ..ObjectReference::default()
    }
}

/// The volume for a claim of our own class: named as on a cluster, its data under the claim's name.
fn made_for(claim: &Claim, class: &StorageClass) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let handle = format!("{}_{}_{name}", claim.namespace().unwrap_or_default(), claim.name_any());
    let storage = requested(&spec).cloned().unwrap_or_default();
    let mut volume = PersistentVolume::default();
    volume.metadata.name = Some(name);
    volume.metadata.finalizers = Some(vec![storage::FINALIZER.to_owned()]);
    volume.annotations_mut().insert("pv.kubernetes.io/provisioned-by".into(), storage::DRIVER.into());
    volume.spec = Some(PersistentVolumeSpec {
        access_modes: spec.access_modes,
        capacity: Some(BTreeMap::from([("storage".to_owned(), storage)])),
        claim_ref: Some(reference(claim)),
        csi: Some(k8s_openapi::api::core::v1::CSIPersistentVolumeSource {
            driver: storage::DRIVER.to_owned(),
            volume_handle: handle,
            ..Default::default()
        }),
        persistent_volume_reclaim_policy: class.reclaim_policy.clone().or(Some("Delete".into())),
        storage_class_name: class.metadata.name.clone(),
        volume_mode: spec.volume_mode,
        ..PersistentVolumeSpec::default()
    });
    volume
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<&Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// The volume that the claim gets: the one that was made for it, else the smallest that fits.
fn choose<'a>(claim: &Claim, all: &'a [PersistentVolume]) -> Option<&'a PersistentVolume> {
    let spec = claim.spec.as_ref()?;
    let reserved = |volume: &PersistentVolume| {
        let to = volume.spec.as_ref()?.claim_ref.as_ref()?;
        let same = to.namespace == claim.namespace() && to.name.as_deref() == Some(&claim.name_any());
        Some(same && to.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.uid().as_ref()))
    };
    if let Some(volume) = all.iter().find(|v| reserved(v) == Some(true)) {
        return Some(volume);
    }
    let named = spec.volume_name.as_deref().filter(|name| !name.is_empty());
    let wanted = requested(spec).and_then(|q| bytes(&q.0)).unwrap_or(0);
    let size = |volume: &PersistentVolume| {
        let capacity = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
        bytes(&capacity.0)
    };
    let fits = |volume: &&PersistentVolume| {
        let Some(own) = &volume.spec else { return false };
        let modes = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let selected = spec.selector.as_ref().is_none_or(|selector| {
            let labels = volume.labels();
            selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v))
                && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
        });
        volume.metadata.deletion_timestamp.is_none()
            && reserved(volume).is_none()
            && named.is_none_or(|name| volume.name_any() == name)
            && own.storage_class_name.clone().unwrap_or_default() == spec.storage_class_name.clone().unwrap_or_default()
            && own.volume_mode == spec.volume_mode
            && modes(&spec.access_modes).iter().all(|mode| modes(&own.access_modes).contains(mode))
            && selected
            && size(volume).is_some_and(|size| size >= wanted)
    };
    all.iter().filter(fits).min_by_key(|volume| size(volume))
}

/// A quantity of storage in bytes.
fn bytes(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = |base: u128, n: u32| base.checked_pow(n);
    let factor = match unit {
        "" => 1,
        "k" => 1000,
        "M" => power(1000, 2)?,
        "G" => power(1000, 3)?,
        "T" => power(1000, 4)?,
        "P" => power(1000, 5)?,
        "Ki" => 1024,
        "Mi" => power(1024, 2)?,
        "Gi" => power(1024, 3)?,
        "Ti" => power(1024, 4)?,
        "Pi" => power(1024, 5)?,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let mut sum = whole.parse::<u128>().ok()?.checked_mul(factor)?;
    if !part.is_empty() {
        let scale = power(10, u32::try_from(part.len()).ok()?)?;
        sum += part.parse::<u128>().ok()?.checked_mul(factor)? / scale;
    }
    Some(sum)
}

/// Writes both ends. Each write may be the second one: what is there already changes nothing.
async fn bind(
    volumes: &Api<PersistentVolume>,
    claims: &Api<Claim>,
    claim: &Claim,
    volume: &PersistentVolume,
) -> Result<(), Error> {
    let (name, volume_name) = (claim.name_any(), volume.name_any());
    let params = PatchParams::default();
    let own = volume.spec.clone().unwrap_or_default();
    let bound_before = own.claim_ref.as_ref().is_some_and(|r| r.uid == claim.uid());
    let mut to = json!({"metadata": {"resourceVersion": volume.metadata.resource_version}, "spec": {"claimRef": reference(claim)}});
    if own.claim_ref.is_none() {
        to["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
    }
    if !bound_before {
        volumes.patch(&volume_name, &params, &Patch::Merge(to)).await?;
    }
    let status = json!({"status": {"phase": "Bound"}});
    volumes.patch_status(&volume_name, &params, &Patch::Merge(status)).await?;
    let metadata = json!({"uid": claim.uid(), "annotations": {
        "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}});
    let named = json!({"metadata": metadata, "spec": {"volumeName": volume_name}});
    claims.patch(&name, &params, &Patch::Merge(named)).await?;
    let status = json!({"phase": "Bound", "accessModes": own.access_modes, "capacity": own.capacity});
    set_status(claims, &name, status).await
}

async fn set_status(claims: &Api<Claim>, name: &str, status: serde_json::Value) -> Result<(), Error> {
    claims.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

/// The Pods that use the claim and have not ended.
async fn users(ctx: &Context, claim: &Claim) -> Result<Vec<String>, Error> {
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), &claim.namespace().unwrap_or_default());
    let live = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let name = claim.name_any();
    let uses = |pod: &Pod| {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        volumes.into_iter().any(|v| v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name))
    };
    Ok(pods.list(&live).await?.items.iter().filter(|pod| uses(pod)).map(ResourceExt::name_any).collect())
}

/// A claim that is being deleted goes when nobody uses it any more.
async fn release(ctx: &Context, api: &Api<Claim>, claim: &Claim) -> Result<Action, Error> {
    if !claim.finalizers().iter().any(|f| f == PROTECTED) {
        return Ok(Action::await_change());
    }
    if !users(ctx, claim).await?.is_empty() {
        return Ok(Action::requeue(PODS_AGAIN));
    }
    let rest: Vec<&String> = claim.finalizers().iter().filter(|f| *f != PROTECTED).collect();
    free(api, &claim.name_any(), claim.metadata.resource_version.as_deref(), json!(rest)).await?;
    Ok(Action::await_change())
}

/// Writes finalizers, of exactly the version that was seen.
async fn free<K>(api: &Api<K>, name: &str, version: Option<&str>, rest: serde_json::Value) -> Result<(), Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": version}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(s)) if s.code == 404 => {}
        other => drop(other?),
    }
    Ok(())
}

/// A volume by itself: free, released when its claim is gone, let go when it is deleted and not bound.
async fn keep(volume: Arc<PersistentVolume>, ctx: Arc<Context>) -> Result<Action, Error> {
    let api = Api::<PersistentVolume>::all(ctx.client.clone());
    let Some(volume) = api.get_opt(&volume.name_any()).await? else { return Ok(Action::await_change()) };
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
    let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
    let taken = claim.filter(|c| c.uid.as_ref().is_some_and(|uid| !uid.is_empty()));
    let now = match &taken {
        None => "Available",
        Some(to) => {
            let claims = Api::<Claim>::namespaced(ctx.client.clone(), to.namespace.as_deref().unwrap_or_default());
            let there = claims.get_opt(to.name.as_deref().unwrap_or_default()).await?;
            if there.is_some_and(|claim| claim.uid() == to.uid) { "Bound" } else { "Released" }
        }
    };
    if phase != now {
        let status = json!({"status": {"phase": now}});
        api.patch_status(&volume.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
        // The write wakes this loop again.
        return Ok(Action::await_change());
    }
    let protected = volume.finalizers().iter().any(|f| f == VOLUME_PROTECTED);
    if volume.metadata.deletion_timestamp.is_some() && protected && now != "Bound" {
        let rest: Vec<&String> = volume.finalizers().iter().filter(|f| *f != VOLUME_PROTECTED).collect();
        free(&api, &volume.name_any(), volume.metadata.resource_version.as_deref(), json!(rest)).await?;
    }
    Ok(Action::await_change())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn claim(spec: Value) -> Claim {
        let metadata = json!({"name": "c", "namespace": "n", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
        let mut spec =
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "x"});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"name": name}}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_smallest_volume_that_fits() {
        let all = [
            volume("large", "10Gi", json!({})),
            volume("fits", "2Gi", json!({})),
            volume("small", "1Gi", json!({})),
            volume("taken", "2Gi", json!({"claimRef": {"namespace": "n", "name": "other", "uid": "v"}})),
            volume("other-class", "2Gi", json!({"storageClassName": "y"})),
            volume("block", "2Gi", json!({"volumeMode": "Block"})),
        ];
        let chosen = |more: Value| {
            let mut spec = json!({"storageClassName": "x", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1.5Gi"}}});
            for (key, value) in more.as_object().unwrap() {
                spec[key] = value.clone();
            }
            choose(&claim(spec), &all).map(ResourceExt::name_any)
        };
        assert_eq!(chosen(json!({})).as_deref(), Some("fits"));
        assert_eq!(chosen(json!({"volumeName": "large"})).as_deref(), Some("large"));
        assert_eq!(chosen(json!({"volumeName": "small"})), None);
        assert_eq!(chosen(json!({"selector": {"matchLabels": {"name": "large"}}})).as_deref(), Some("large"));
        assert_eq!(chosen(json!({"accessModes": ["ReadWriteMany"]})), None);
        assert_eq!(chosen(json!({"resources": {"requests": {"storage": "11G"}}})), None);
        let reserved = [
            volume("of-another", "1Mi", json!({"claimRef": {"namespace": "n", "name": "c", "uid": "before"}})),
            volume("mine", "1Mi", json!({"claimRef": {"namespace": "n", "name": "c"}})),
        ];
        assert_eq!(choose(&claim(json!({})), &reserved).map(ResourceExt::name_any).as_deref(), Some("mine"));
    }

    #[test]
    fn quantities() {
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!((bytes("10"), bytes("1k"), bytes("2M")), (Some(10), Some(1000), Some(2_000_000)));
        assert_eq!((bytes("x"), bytes("1Zi")), (None, None));
    }
}
