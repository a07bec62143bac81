//! EndpointSlice and Endpoints: which pods stand behind a Service, and which of them are ready. One slice a Service,
//! named like it with the suffix `-windlass`; the older Endpoints object, which clients still read, mirrors it.
//! [`decide`] is pure. Services without a selector, and of type ExternalName, are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::Resource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::Error;
use crate::pod::PodSeen;
use crate::replicaset::{LIVE, is_ready};

/// Runs the loop for ever.
pub async fn run(client: Client) {
    let ctx = Arc::new(client.clone());
    let services = Controller::new(Api::<Service>::all(client.clone()), watcher::Config::default());
    let store = services.store();
    services
        .watches(Api::<PodSeen>::all(client), watcher::Config::default().fields(LIVE), move |pod: PodSeen| {
            let of_pod = |s: &Arc<Service>| s.namespace() == pod.namespace() && selects(s, &pod);
            store.state().iter().filter(|s| of_pod(s)).map(|s| ObjectRef::from_obj(&**s)).collect::<Vec<_>>()
        })
        .run(act, |_, e, _| Action::requeue(e.retry_after()), ctx)
        .for_each(|_| async {})
        .await;
}

fn selects(service: &Service, pod: &impl ResourceExt) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| pod.labels().get(k) == Some(v)))
}

/// The number of a Service's target port on one pod: a number, or the name of one of its container ports.
fn target_port(target: Option<&IntOrString>, port: i32, pod: &Pod) -> Option<i32> {
    match target {
        None => Some(port),
        Some(IntOrString::Int(n)) => Some(if *n == 0 { port } else { *n }),
        Some(IntOrString::String(name)) => pod
            .spec
            .iter()
            .flat_map(|s| &s.containers)
            .flat_map(|c| c.ports.iter().flatten())
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port),
    }
}

/// The slice's `endpoints` and `ports` for a Service and the pods of its namespace, in a stable order.
pub fn decide(service: &Service, pods: &[Pod]) -> (Value, Value) {
    let spec = service.spec.clone().unwrap_or_default();
    let mut chosen: Vec<&Pod> = pods
        .iter()
        .filter(|p| selects(service, *p))
        .filter(|p| {
            let phase = p.status.as_ref().and_then(|s| s.phase.as_deref());
            phase != Some("Succeeded") && phase != Some("Failed")
        })
        .filter(|p| p.status.as_ref().is_some_and(|s| s.pod_ip.as_deref().is_some_and(|ip| !ip.is_empty())))
        .collect();
    chosen.sort_by_key(|p| p.name_any());
    let endpoints: Vec<Value> = chosen
        .iter()
        .map(|p| {
            let terminating = p.metadata.deletion_timestamp.is_some();
            let ready = (is_ready(p) && !terminating) || spec.publish_not_ready_addresses == Some(true);
            json!({
                "addresses": [p.status.as_ref().and_then(|s| s.pod_ip.clone())],
                "conditions": {"ready": ready, "serving": is_ready(p), "terminating": terminating},
                "nodeName": p.spec.as_ref().and_then(|s| s.node_name.clone()),
                "targetRef": {"kind": "Pod", "name": p.name_any(), "namespace": p.namespace(), "uid": p.uid()},
            })
        })
        .collect();
    let ports: Vec<Value> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            // Pods of one Service nearly always agree on a named port; the first that knows the name decides.
            let number = chosen.iter().find_map(|p| target_port(port.target_port.as_ref(), port.port, p)).or(
                match &port.target_port {
                    Some(IntOrString::String(_)) => None,
                    Some(IntOrString::Int(n)) if *n != 0 => Some(*n),
                    _ => Some(port.port),
                },
            )?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some(json!({"name": port.name.clone().unwrap_or_default(), "port": number, "protocol": protocol}))
        })
        .collect();
    (Value::Array(endpoints), Value::Array(ports))
}

/// The Endpoints form of the same facts.
fn subsets(endpoints: &Value, ports: &Value) -> Value {
    let mut sides: BTreeMap<bool, Vec<Value>> = BTreeMap::new();
    for e in endpoints.as_array().into_iter().flatten() {
        if e["conditions"]["terminating"] == true {
            continue;
        }
        let address = json!({"ip": e["addresses"][0], "nodeName": e["nodeName"], "targetRef": e["targetRef"]});
        sides.entry(e["conditions"]["ready"] == true).or_default().push(address);
    }
    if sides.is_empty() {
        return json!([]);
    }
    let mut subset = json!({"ports": ports});
    for (ready, addresses) in sides {
        subset[if ready { "addresses" } else { "notReadyAddresses" }] = Value::Array(addresses);
    }
    json!([subset])
}

async fn act(service: Arc<Service>, client: Arc<Client>) -> Result<Action, Error> {
    let ns = service.namespace().unwrap_or_default();
    let name = service.name_any();
    let has_selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    let external = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    if service.metadata.deletion_timestamp.is_some() || !has_selector || external {
        return Ok(Action::await_change());
    }
    let pods = Api::<Pod>::namespaced((*client).clone(), &ns).list(&ListParams::default().fields(LIVE)).await?.items;
    let (endpoints, ports) = decide(&service, &pods);
    let owner = service.controller_owner_ref(&());
    let slices = Api::<EndpointSlice>::namespaced((*client).clone(), &ns);
    let slice_name = format!("{name}-windlass");
    let mut labels = json!({
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.windlass.dev",
    });
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    let meta = json!({"name": slice_name, "namespace": ns, "labels": labels, "ownerReferences": [owner]});
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta,
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    put(&slices, &slice_name, body, &["endpoints", "ports"]).await?;
    let old_form = Api::<Endpoints>::namespaced((*client).clone(), &ns);
    let body = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": ns, "ownerReferences": [owner]},
        "subsets": subsets(&endpoints, &ports),
    });
    put(&old_form, &name, body, &["subsets"]).await?;
    Ok(Action::await_change())
}

/// Creates the object, or patches the given fields of the one that is there. A patch that changes nothing is not a
/// write: the API server drops it.
async fn put<K>(api: &Api<K>, name: &str, body: Value, fields: &[&str]) -> Result<(), Error>
where
    K: Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let patch: serde_json::Map<String, Value> = fields.iter().map(|f| ((*f).to_owned(), body[*f].clone())).collect();
    match api.patch(name, &PatchParams::default(), &Patch::Merge(Value::Object(patch))).await {
        Err(kube::Error::Api(s)) if s.code == 404 => {
            let object = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &object).await?;
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, ready: bool, going: bool) -> Pod {
        let mut meta = json!({"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}});
        if going {
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(json!({
            "metadata": meta,
            "spec": {"nodeName": "n", "containers": [
                {"name": "c", "ports": [{"name": "http", "containerPort": 8000}]}]},
            "status": {"phase": "Running", "podIP": ip,
                       "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]}
        }))
        .unwrap()
    }

    fn service(port: Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [port]}
        }))
        .unwrap()
    }

    #[test]
    fn terminating_pods_serve_but_are_not_ready() {
        let pods = [pod("a", "10.42.0.2", true, false), pod("b", "10.42.0.3", true, true)];
        let (endpoints, ports) = decide(&service(json!({"port": 80, "targetPort": "http"})), &pods);
        assert_eq!(endpoints[0]["conditions"], json!({"ready": true, "serving": true, "terminating": false}));
        assert_eq!(endpoints[1]["conditions"], json!({"ready": false, "serving": true, "terminating": true}));
        assert_eq!(ports, json!([{"name": "", "port": 8000, "protocol": "TCP"}]));
        let old = subsets(&endpoints, &ports);
        assert_eq!(old[0]["addresses"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_pod_that_is_not_ready_is_listed_as_such() {
        let (endpoints, ports) = decide(&service(json!({"port": 80})), &[pod("a", "10.42.0.2", false, false)]);
        assert_eq!(endpoints[0]["conditions"]["ready"], false);
        assert_eq!(subsets(&endpoints, &ports)[0]["notReadyAddresses"][0]["ip"], "10.42.0.2");
        assert_eq!(ports[0]["port"], 80);
    }
}
