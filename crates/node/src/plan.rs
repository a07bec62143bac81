//! A container's process: the Pod's words merged with the image's configuration, and the policy of this node applied. Pure.
//! What is not allowed or not supported here is refused by name; nothing is silently left out.

use crate::env;
use crate::quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, SeccompProfile as SeccompProfileSpec};
use std::collections::BTreeMap;
use windlass_sandbox::{Capabilities, Resources, SeccompProfile};

/// What an image says of its process.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) stop_signal: Option<String>,
    /// Directories that want storage of their own.
    pub(crate) volumes: Vec<String>,
}

/// What this node allows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) privileged: bool,
    /// Privileges reach beyond a user namespace.
    pub(crate) root: bool,
}

/// The process to run.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    /// As `sandbox::Host::resolve_user` reads it; empty is root.
    pub(crate) user: String,
    pub(crate) group: Option<u32>,
    pub(crate) groups: Vec<u32>,
    pub(crate) non_root: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: SeccompProfile,
    pub(crate) privileged: bool,
    pub(crate) readonly_root: bool,
    pub(crate) resources: Resources,
}

/// Faults that no retry changes: the Pod asks for what this node does not give.
pub(crate) fn refusals(pod: &Pod, allowed: Allowed) -> Vec<String> {
    let mut faults = Vec::new();
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    if spec.host_pid.unwrap_or(false) {
        faults.push("hostPID is not supported on this node".to_owned());
    }
    if spec.host_ipc.unwrap_or(false) {
        faults.push("hostIPC is not supported on this node".to_owned());
    }
    if spec.share_process_namespace.unwrap_or(false) {
        faults.push("shareProcessNamespace is not supported on this node yet".to_owned());
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        faults.push("resourceClaims are not supported on this node: it has no drivers of devices".to_owned());
    }
    if spec.runtime_class_name.is_some() {
        faults.push("runtimeClassName is not supported on this node yet".to_owned());
    }
    let pod_security = spec.security_context.as_ref();
    if pod_security.and_then(|s| s.sysctls.as_ref()).is_some_and(|s| !s.is_empty()) {
        faults.push("securityContext.sysctls are not supported on this node yet".to_owned());
    }
    for container in crate::lifecycle::containers(pod) {
        let mut fault = |text: &str| faults.push(format!("container {}: {text}", container.name));
        let security = container.security_context.as_ref();
        if security.and_then(|s| s.privileged).unwrap_or(false) {
            if !allowed.root {
                fault("privileged needs root, and this windlass was not started as root");
            } else if !allowed.privileged {
                fault("privileged is not allowed on this node: start windlass with --allow privileged");
            }
        }
        for text in crate::probe::faults(container) {
            fault(&text);
        }
        if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
            fault("volumeDevices are not supported on this node");
        }
        for hook in container.lifecycle.iter().flat_map(|l| [&l.post_start, &l.pre_stop]).flatten() {
            if hook.tcp_socket.is_some() {
                fault("tcpSocket lifecycle hooks are not supported");
            }
        }
        if container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some()) {
            fault("lifecycle.postStart is not supported on this node yet");
        }
        for name in added(container).chain(dropped(container)) {
            if Capabilities::parse(name).is_none() {
                fault(&format!("unknown capability {name:?}"));
            }
        }
        let profile = security
            .and_then(|s| s.seccomp_profile.as_ref())
            .or_else(|| pod_security.and_then(|s| s.seccomp_profile.as_ref()));
        match profile.map(|p| p.type_.as_str()) {
            Some("Localhost") => fault("seccompProfile Localhost is not supported on this node yet"),
            Some("Unconfined") if !allowed.privileged => {
                fault("seccompProfile Unconfined is not allowed on this node: start windlass with --allow privileged");
            }
            _ => {}
        }
    }
    faults
}

/// Whether no process of the Pod could change the configuration of its network namespace, or keep a way into it.
pub(crate) fn leaves_network_alone(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let confined = |profile: Option<&SeccompProfileSpec>| profile.is_none_or(|p| p.type_ == "RuntimeDefault");
    let whole = spec.and_then(|s| s.security_context.as_ref());
    confined(whole.and_then(|s| s.seccomp_profile.as_ref()))
        && !spec.and_then(|s| s.host_network).unwrap_or(false)
        && crate::lifecycle::containers(pod).filter_map(|c| Some((c, c.security_context.as_ref()?))).all(|(c, s)| {
            !s.privileged.unwrap_or(false)
                && s.proc_mount.is_none()
                && added(c).next().is_none()
                && confined(s.seccomp_profile.as_ref())
        })
}

fn added(container: &Container) -> impl Iterator<Item = &str> {
    let capabilities = container.security_context.as_ref().and_then(|s| s.capabilities.as_ref());
    capabilities.into_iter().flat_map(|c| c.add.iter().flatten()).map(String::as_str)
}

fn dropped(container: &Container) -> impl Iterator<Item = &str> {
    let capabilities = container.security_context.as_ref().and_then(|s| s.capabilities.as_ref());
    capabilities.into_iter().flat_map(|c| c.drop.iter().flatten()).map(String::as_str)
}

/// The process of `container`; `variables` is its resolved environment, `hostname` the Pod's.
pub(crate) fn process(
    pod: &Pod,
    container: &Container,
    image: &ImageConfig,
    variables: &[(String, String)],
    hostname: &str,
) -> Result<Process, env::ConfigError> {
    let known: BTreeMap<String, String> = variables.iter().cloned().collect();
    let expand = |words: Option<&Vec<String>>| -> Vec<String> {
        words.into_iter().flatten().map(|word| env::expand(word, &known)).collect()
    };
    let command = expand(container.command.as_ref());
    let given = expand(container.args.as_ref());
    let mut args = command;
    if args.is_empty() {
        args.extend(image.entrypoint.iter().cloned());
        args.extend(if given.is_empty() { image.cmd.clone() } else { given });
    } else {
        args.extend(given);
    }
    if args.is_empty() {
        return Err(env::ConfigError("no command specified".to_owned()));
    }
    let mut environment: Vec<(String, String)> = Vec::new();
    let from_image = image.env.iter().filter_map(|pair| pair.split_once('='));
    environment.extend(from_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment.push(("HOSTNAME".to_owned(), hostname.to_owned()));
    for (name, value) in variables {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), value.clone()));
    }
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let whole = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let uid = own.and_then(|s| s.run_as_user).or_else(|| whole.and_then(|s| s.run_as_user));
    let gid = own.and_then(|s| s.run_as_group).or_else(|| whole.and_then(|s| s.run_as_group));
    let non_root = own.and_then(|s| s.run_as_non_root).or_else(|| whole.and_then(|s| s.run_as_non_root));
    let number = |value: i64, what: &str| {
        u32::try_from(value).map_err(|_| env::ConfigError(format!("{what} {value} is not a valid id")))
    };
    let user = match uid {
        Some(uid) => number(uid, "runAsUser")?.to_string(),
        None => image.user.clone().unwrap_or_default(),
    };
    let mut groups = Vec::new();
    for group in whole.iter().flat_map(|s| s.supplemental_groups.iter().flatten().chain(s.fs_group.iter())) {
        groups.push(number(*group, "supplementalGroups")?);
    }
    let privileged = own.and_then(|s| s.privileged).unwrap_or(false);
    let set = |names: &mut dyn Iterator<Item = &str>| {
        names.filter_map(Capabilities::parse).fold(Capabilities::none(), Capabilities::with)
    };
    let capabilities = Capabilities::default().without(set(&mut dropped(container))).with(set(&mut added(container)));
    let profile =
        own.and_then(|s| s.seccomp_profile.as_ref()).or_else(|| whole.and_then(|s| s.seccomp_profile.as_ref()));
    let unconfined = privileged || profile.is_some_and(|p| p.type_ == "Unconfined");
    Ok(Process {
        args,
        env: environment,
        cwd: container
            .working_dir
            .clone()
            .filter(|d| !d.is_empty())
            .or_else(|| image.cwd.clone().filter(|d| !d.is_empty()))
            .unwrap_or_else(|| "/".to_owned()),
        user,
        group: gid.map(|gid| number(gid, "runAsGroup")).transpose()?,
        groups,
        non_root: non_root.unwrap_or(false),
        capabilities,
        no_new_privs: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        seccomp: if unconfined { SeccompProfile::Unconfined } else { SeccompProfile::Default },
        privileged,
        readonly_root: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        resources: resources(container, spec.resources.as_ref()),
    })
}

/// What a container may use. A limit of the whole Pod holds for each container that has none of its own.
fn resources(container: &Container, whole: Option<&ResourceRequirements>) -> Resources {
    let own = container.resources.as_ref();
    let named = |of: Option<&ResourceRequirements>, requests: bool, name: &str| {
        let map = of.and_then(|r| if requests { r.requests.as_ref() } else { r.limits.as_ref() });
        map.and_then(|m| m.get(name)).map(|q| q.0.clone())
    };
    let get = |requests: bool, name: &str| {
        let of_pod = || named(whole, requests, name).filter(|_| !requests);
        named(own, requests, name).or_else(of_pod)
    };
    let milli = |text: Option<String>| {
        text.and_then(|t| quantity::milli(&t)).and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0)
    };
    let whole = |text: Option<String>| {
        text.and_then(|t| quantity::whole(&t)).and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0)
    };
    Resources {
        memory: whole(get(false, "memory")),
        pids: None,
        cpu_millis: milli(get(false, "cpu")),
        cpu_request_millis: milli(get(true, "cpu")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/bin".into(), "MODE=image".into()],
            cwd: Some("/app".into()),
            user: Some("web".into()),
            stop_signal: None,
            volumes: Vec::new(),
        }
    }

    fn run(container: Value) -> Process {
        let mut container = container;
        container["name"] = json!("c");
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [],
            "securityContext": {"fsGroup": 5, "runAsGroup": 7}}}))
        .unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        process(&pod, &container, &image(), &[("MODE".into(), "pod".into()), ("X".into(), "1".into())], "host").unwrap()
    }

    #[test]
    fn command_and_args_as_kubernetes_merges_them() {
        assert_eq!(run(json!({})).args, ["/entry", "serve"]);
        assert_eq!(run(json!({"args": ["a$(X)"]})).args, ["/entry", "a1"]);
        assert_eq!(run(json!({"command": ["/other"]})).args, ["/other"]);
        assert_eq!(run(json!({"command": ["/other"], "args": ["b"]})).args, ["/other", "b"]);
    }

    #[test]
    fn environment_user_and_privileges() {
        let process = run(json!({}));
        let text: Vec<String> = process.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["PATH=/bin", "HOSTNAME=host", "MODE=pod", "X=1"]);
        assert_eq!((process.user.as_str(), process.group, process.cwd.as_str()), ("web", Some(7), "/app"));
        assert_eq!(process.groups, [5]);
        let process =
            run(json!({"workingDir": "/w", "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}));
        assert_eq!((process.user.as_str(), process.cwd.as_str()), ("0", "/w"));
        assert!(process.no_new_privs);
        assert_eq!(process.capabilities, Capabilities::parse("NET_ADMIN").unwrap());
        let process = run(json!({"resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}));
        assert_eq!((process.resources.memory, process.resources.cpu_millis), (Some(64 << 20), Some(500)));
    }

    #[test]
    fn who_may_change_the_network() {
        let alone = |spec: Value| leaves_network_alone(&serde_json::from_value(json!({"spec": spec})).unwrap());
        let with = |security: Value| json!({"containers": [{"name": "a"}, {"name": "b", "securityContext": security}]});
        assert!(alone(with(json!({"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}))));
        assert!(alone(with(json!({"seccompProfile": {"type": "RuntimeDefault"}}))));
        for security in [
            json!({"privileged": true}),
            json!({"capabilities": {"add": ["NET_ADMIN"]}}),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            json!({"procMount": "Unmasked"}),
        ] {
            assert!(!alone(with(security.clone())), "{security}");
        }
        assert!(!alone(json!({"containers": [], "securityContext": {"seccompProfile": {"type": "Unconfined"}}})));
        assert!(!alone(json!({"containers": [], "hostNetwork": true})));
    }

    #[test]
    fn what_is_not_given_here_is_named() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"hostNetwork": true, "hostPID": true, "containers": [
            {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["NOPE"]}},
             "readinessProbe": {"grpc": {"port": 1}}}]}}))
        .unwrap();
        let faults = refusals(&pod, Allowed::default()).join("\n");
        for word in ["hostPID", "privileged", "NOPE", "grpc"] {
            assert!(faults.contains(word), "{word}: {faults}");
        }
        assert!(faults.contains("privileged needs root"), "{faults}");
        let of = |privileged| refusals(&pod, Allowed { privileged, root: true }).join("\n");
        assert!(of(false).contains("--allow privileged") && !of(true).contains("privileged"), "{}", of(true));
    }
}
