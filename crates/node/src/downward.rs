//! The downward API: one field or resource of a Pod as text, for environment variables and files. Pure. It answers an
//! error that names the field rather than an empty text for a field that Kubernetes does not offer.

use crate::quantity;
use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// What a field may speak of that is not in the Pod's spec.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) node: String,
    pub(crate) host_ip: String,
    pub(crate) pod_ip: String,
    pub(crate) cpu_milli: i128,
    pub(crate) memory_bytes: i128,
}

/// The text of `fieldRef`.
pub(crate) fn field(pod: &Pod, around: &Surroundings, selector: &ObjectFieldSelector) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath {path:?}")),
        };
        return Ok(entries.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => around.node.clone(),
        "spec.serviceAccountName" => {
            spec.and_then(|s| s.service_account_name.clone()).unwrap_or_else(|| "default".into())
        }
        "status.hostIP" | "status.hostIPs" => around.host_ip.clone(),
        "status.podIP" | "status.podIPs" => around.pod_ip.clone(),
        _ => return Err(format!("unsupported fieldPath {path:?}")),
    })
}

/// The text of `resourceFieldRef`; `own` is the container that asks.
pub(crate) fn resource(
    pod: &Pod,
    around: &Surroundings,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let container = match &selector.container_name {
        Some(name) => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| &c.name == name)
            .ok_or_else(|| format!("container {name:?} not found"))?,
        None => own.ok_or("resourceFieldRef needs containerName here")?,
    };
    let (bound, name) = selector.resource.split_once('.').ok_or_else(|| unsupported(selector))?;
    let resources = container.resources.as_ref();
    let quantities = match bound {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported(selector)),
    };
    let named = quantities.and_then(|q| q.get(name)).and_then(|q| quantity::milli(&q.0));
    let fallback = match (bound, name) {
        ("limits", "cpu") => around.cpu_milli,
        ("limits", "memory") => around.memory_bytes.saturating_mul(1000),
        (_, "cpu" | "memory" | "ephemeral-storage") => 0,
        _ => return Err(unsupported(selector)),
    };
    let value = named.unwrap_or(fallback);
    let divisor = selector.divisor.as_ref().and_then(|d| quantity::milli(&d.0)).filter(|d| *d > 0).unwrap_or(1000);
    Ok(value.div_euclid(divisor).saturating_add(i128::from(value.rem_euclid(divisor) != 0)).to_string())
}

fn unsupported(selector: &ResourceFieldSelector) -> String {
    format!("unsupported container resource {:?}", selector.resource)
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let entries = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    entries.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "b", "labels": {"x/y": "1"}},
            "spec": {"containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}}}]},
        }))
        .unwrap();
        let around = Surroundings { node: "n".into(), pod_ip: "10.42.0.5".into(), ..Default::default() };
        let of =
            |path: &str| field(&pod, &around, &ObjectFieldSelector { field_path: path.into(), ..Default::default() });
        assert_eq!(of("metadata.name").unwrap(), "a");
        assert_eq!(of("metadata.labels['x/y']").unwrap(), "1");
        assert_eq!(of("metadata.labels").unwrap(), "x/y=\"1\"");
        assert_eq!(of("status.podIP").unwrap(), "10.42.0.5");
        assert!(of("spec.containers").unwrap_err().contains("spec.containers"));
        let own = pod.spec.as_ref().unwrap().containers.first();
        let amount = |resource: &str, divisor: Option<&str>| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            super::resource(&pod, &around, own, &selector)
        };
        assert_eq!(amount("limits.memory", Some("1Mi")).unwrap(), "64");
        assert_eq!(amount("limits.cpu", None).unwrap(), "2");
        assert_eq!(amount("requests.cpu", Some("1m")).unwrap(), "0");
        assert!(amount("limits.gpu", None).is_err());
    }
}
