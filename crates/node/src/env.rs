//! The environment of one container: `env`, `valueFrom`, `envFrom`, `$(VAR)` and the Services' variables. Pure: Secrets
//! and ConfigMaps come in as a function. It never drops a missing required key; the error names object and key.

use crate::downward::{self, Surroundings};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use std::collections::BTreeMap;

/// Reads the objects that an environment names. Answers `None` where the object does not exist.
pub(crate) trait Objects {
    fn secret(&self, name: &str) -> Option<&Secret>;
    fn config_map(&self, name: &str) -> Option<&ConfigMap>;
}

/// A container whose configuration cannot be made: the kubelet's `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// The variables in order; later ones win over earlier ones of the same name, as `execve` callers expect.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    around: &Surroundings,
    objects: &impl Objects,
    services: &[(String, String)],
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut known: BTreeMap<String, String> = services.iter().cloned().collect();
    let mut order: Vec<String> = services.iter().map(|(name, _)| name.clone()).collect();
    let mut set = |known: &mut BTreeMap<String, String>, name: String, value: String| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        let mut entries = Vec::new();
        if let Some(from) = &source.config_map_ref {
            match objects.config_map(&from.name) {
                Some(map) => entries.extend(map.data.clone().into_iter().flatten()),
                None if from.optional.unwrap_or(false) => {}
                None => return Err(ConfigError(format!("configmap {:?} not found", from.name))),
            }
        }
        if let Some(from) = &source.secret_ref {
            match objects.secret(&from.name) {
                Some(secret) => entries.extend(secret.data.iter().flatten().map(|(k, v)| (k.clone(), text(&v.0)))),
                None if from.optional.unwrap_or(false) => {}
                None => return Err(ConfigError(format!("secret {:?} not found", from.name))),
            }
        }
        for (key, value) in entries {
            let name = format!("{prefix}{key}");
            if is_name(&name) {
                set(&mut known, name, value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => expand(value, &known),
            (None, None) => String::new(),
            (None, Some(from)) => {
                if let Some(selector) = &from.field_ref {
                    downward::field(pod, around, selector).map_err(ConfigError)?
                } else if let Some(selector) = &from.resource_field_ref {
                    downward::resource(pod, around, Some(container), selector).map_err(ConfigError)?
                } else if let Some(key) = &from.config_map_key_ref {
                    let optional = key.optional.unwrap_or(false);
                    match objects.config_map(&key.name) {
                        None if optional => continue,
                        None => return Err(ConfigError(format!("configmap {:?} not found", key.name))),
                        Some(map) => match map.data.as_ref().and_then(|d| d.get(&key.key)) {
                            Some(value) => value.clone(),
                            None if optional => continue,
                            None => return Err(missing(&key.key, "ConfigMap", pod, &key.name)),
                        },
                    }
                } else if let Some(key) = &from.secret_key_ref {
                    let optional = key.optional.unwrap_or(false);
                    match objects.secret(&key.name) {
                        None if optional => continue,
                        None => return Err(ConfigError(format!("secret {:?} not found", key.name))),
                        Some(secret) => match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
                            Some(value) => text(&value.0),
                            None if optional => continue,
                            None => return Err(missing(&key.key, "Secret", pod, &key.name)),
                        },
                    }
                } else {
                    return Err(ConfigError(format!("variable {:?}: unknown valueFrom", variable.name)));
                }
            }
        };
        set(&mut known, variable.name.clone(), value);
    }
    Ok(order
        .into_iter()
        .filter_map(|name| {
            let value = known.remove(&name)?;
            Some((name, value))
        })
        .collect())
}

fn missing(key: &str, kind: &str, pod: &Pod, name: &str) -> ConfigError {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    ConfigError(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names that can be a variable: not empty, printable, no `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b != b'=' && (0x20..0x7f).contains(&b))
}

/// `$(VAR)` replaced where `VAR` is known, left alone where not; `$$` is one `$`.
pub(crate) fn expand(input: &str, known: &BTreeMap<String, String>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            output.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('(') {
            match tail.find(')') {
                Some(end) => {
                    let name = &tail[..end];
                    match known.get(name) {
                        Some(value) => output.push_str(value),
                        None => {
                            output.push_str("$(");
                            output.push_str(name);
                            output.push(')');
                        }
                    }
                    rest = &tail[end + 1..];
                }
                None => {
                    output.push_str("$(");
                    rest = tail;
                }
            }
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

/// The variables that Kubernetes makes for Services: always for `kubernetes`, for the namespace's own where
/// `enableServiceLinks` is not false. Headless Services have none.
pub(crate) fn services<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut variables = vec![
        ("KUBERNETES_SERVICE_HOST".to_owned(), crate::network::API_ADDRESS.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), "443".to_owned()),
    ];
    if !links {
        return variables;
    }
    for service in services {
        let Some(name) = service.metadata.name.as_deref() else { continue };
        let Some(spec) = &service.spec else { continue };
        let Some(address) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        if service.metadata.namespace.as_deref() != Some(namespace) || name == "kubernetes" {
            continue;
        }
        let base = name.to_uppercase().replace('-', "_");
        variables.push((format!("{base}_SERVICE_HOST"), address.to_owned()));
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            if index == 0 {
                variables.push((format!("{base}_SERVICE_PORT"), port.port.to_string()));
                let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
                variables.push((format!("{base}_PORT"), format!("{protocol}://{address}:{}", port.port)));
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let suffix = port_name.to_uppercase().replace('-', "_");
                variables.push((format!("{base}_SERVICE_PORT_{suffix}"), port.port.to_string()));
            }
        }
    }
    variables
}

/// The variables that lead to the API at another address.
pub(crate) fn api_at(address: std::net::SocketAddr) -> Vec<(String, String)> {
    let port = address.port().to_string();
    let pairs = [("HOST", address.ip().to_string()), ("PORT", port.clone()), ("PORT_HTTPS", port)];
    pairs.into_iter().map(|(name, value)| (format!("KUBERNETES_SERVICE_{name}"), value)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Fixed(Option<Secret>, Option<ConfigMap>);
    impl Objects for Fixed {
        fn secret(&self, name: &str) -> Option<&Secret> {
            self.0.as_ref().filter(|s| s.metadata.name.as_deref() == Some(name))
        }
        fn config_map(&self, name: &str) -> Option<&ConfigMap> {
            self.1.as_ref().filter(|s| s.metadata.name.as_deref() == Some(name))
        }
    }

    fn objects() -> Fixed {
        Fixed(
            serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"k": "dg=="}})).unwrap(),
            serde_json::from_value(json!({"metadata": {"name": "c"}, "data": {"a": "1", "bad=key": "2"}})).unwrap(),
        )
    }

    fn run(container: serde_json::Value) -> Result<Vec<(String, String)>, ConfigError> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}}))
                .unwrap();
        let around = Surroundings { node: "node".into(), ..Default::default() };
        resolve(&pod, &container, &around, &objects(), &[("S".into(), "svc".into())])
    }

    #[test]
    fn order_and_expansion() {
        let got = run(json!({"name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "none", "optional": true}}],
            "env": [{"name": "A", "value": "x$(S)$(P_a)$$(S)$(NO)$"}, {"name": "B", "value": "$(A)!"},
                    {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "zz", "optional": true}}}]}))
        .unwrap();
        let text = got.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("\n");
        assert_eq!(text, "S=svc\nP_a=1\nA=xsvc1$(S)$(NO)$\nB=xsvc1$(S)$(NO)$!\nK=v\nN=node");
    }

    #[test]
    fn missing_objects_are_named() {
        let env = |from: serde_json::Value| json!({"name": "c", "env": [{"name": "A", "valueFrom": from}]});
        let error = |value| run(value).unwrap_err().0;
        assert_eq!(
            error(env(json!({"secretKeyRef": {"name": "s", "key": "zz"}}))),
            "couldn't find key zz in Secret ns/s"
        );
        assert_eq!(error(env(json!({"secretKeyRef": {"name": "no", "key": "k"}}))), "secret \"no\" not found");
        assert_eq!(
            error(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "no"}}]})),
            "configmap \"no\" not found"
        );
    }
}
