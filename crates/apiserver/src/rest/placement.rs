//! Where there is one node there is nothing to choose: a pod that nothing keeps away from it is bound as it is created,
//! which is one write fewer than a binding. With any rule in the pod, or any other number of nodes, it is left to whoever
//! binds pods. Never refuses a pod.

use crate::ApiServer;
use serde_json::Value;

/// Sets `spec.nodeName` when there is only one node, it is ready, and the pod has no wish about nodes.
pub(super) fn bind_to_the_only_node(server: &ApiServer, pod: &mut Value) {
    if !has_no_wish(&pod["spec"]) {
        return;
    }
    let nodes = server.store().table("nodes").snapshot(None, None, None).unwrap_or_default().0;
    let [only] = nodes.as_slice() else { return };
    let node = only.value();
    if takes_any(&node)
        && let Some(name) = node["metadata"]["name"].as_str()
    {
        pod["spec"]["nodeName"] = name.into();
    }
}

/// Nothing in the spec speaks about nodes or names another scheduler.
fn has_no_wish(spec: &Value) -> bool {
    let empty = |key: &str| match &spec[key] {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let scheduler = spec["schedulerName"].as_str().unwrap_or("default-scheduler");
    // A claim may not be bound yet.
    let mut volumes = spec["volumes"].as_array().into_iter().flatten();
    if volumes.any(|v| v["persistentVolumeClaim"].is_object()) {
        return false;
    }
    ["nodeName", "nodeSelector", "affinity", "topologySpreadConstraints", "schedulingGates"].into_iter().all(empty)
        && scheduler == "default-scheduler"
}

/// Ready, schedulable and without taints.
fn takes_any(node: &Value) -> bool {
    let ready = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = ready.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let tainted = node["spec"]["taints"].as_array().is_some_and(|t| !t.is_empty());
    ready && !tainted && node["spec"]["unschedulable"] != true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wishes_and_taints_are_left_to_a_scheduler() {
        assert!(has_no_wish(&json!({"containers": [], "schedulerName": "default-scheduler", "nodeSelector": {}})));
        assert!(!has_no_wish(&json!({"nodeSelector": {"disk": "ssd"}})));
        assert!(!has_no_wish(&json!({"schedulerName": "mine"})));
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        assert!(!has_no_wish(&json!({"volumes": [volume]})) && has_no_wish(&json!({"volumes": [{"name": "v"}]})));
        assert!(!has_no_wish(&json!({"nodeName": "a"})));
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert!(takes_any(&json!({"status": ready})));
        assert!(!takes_any(&json!({"status": ready, "spec": {"unschedulable": true}})));
        assert!(!takes_any(&json!({"status": ready, "spec": {"taints": [{"key": "k"}]}})));
        assert!(!takes_any(&json!({})));
    }
}
