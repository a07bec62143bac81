//! The row of a pod: the one kind whose status column takes thought. Pure.

use super::age;
use jiff::Timestamp;
use serde_json::{Value, json};

fn list<'a>(v: &'a Value, pointer: &str) -> &'a [Value] {
    v.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn restarts(status: &Value) -> i64 {
    status.get("restartCount").and_then(Value::as_i64).unwrap_or_default()
}

/// How a terminated container is named: its reason, else signal or exit code.
fn ending(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match terminated.get("signal").and_then(Value::as_i64).unwrap_or_default() {
        0 => format!("ExitCode:{}", terminated.get("exitCode").and_then(Value::as_i64).unwrap_or_default()),
        signal => format!("Signal:{signal}"),
    }
}

/// Restarts, and when the last one ended.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += restarts(status);
        let at = text(status, "/lastState/terminated/finishedAt");
        // RFC 3339 in UTC without fractions orders as text.
        if at > self.last.as_str() {
            at.clone_into(&mut self.last);
        }
    }

    fn cell(&self, now: Timestamp) -> String {
        if self.count != 0 && !self.last.is_empty() {
            format!("{} ({} ago)", self.count, age::since(Some(&self.last), now))
        } else {
            self.count.to_string()
        }
    }
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

fn summarize(pod: &Value) -> Summary {
    let init_specs = list(pod, "/spec/initContainers");
    let sidecar =
        |name: &str| init_specs.iter().any(|c| text(c, "/name") == name && text(c, "/restartPolicy") == "Always");
    let total = list(pod, "/spec/containers").len()
        + init_specs.iter().filter(|c| text(c, "/restartPolicy") == "Always").count();
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        other => other.to_owned(),
    };
    let conditions = list(pod, "/status/conditions");
    let condition =
        |kind: &str| conditions.iter().find(|c| text(c, "/type") == kind).is_some_and(|c| text(c, "/status") == "True");
    if conditions.iter().any(|c| text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let (mut ready, mut initializing) = (0, false);
    let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
    for (i, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        restarts.add(status);
        let is_sidecar = sidecar(text(status, "/name"));
        if is_sidecar {
            sidecar_restarts.add(status);
        }
        let terminated = status.pointer("/state/terminated");
        if terminated.is_some_and(|t| t.get("exitCode").and_then(Value::as_i64) == Some(0)) {
            continue;
        }
        if is_sidecar && status.get("started").and_then(Value::as_bool) == Some(true) {
            ready += usize::from(status.get("ready").and_then(Value::as_bool) == Some(true));
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        reason = match terminated {
            Some(terminated) => format!("Init:{}", ending(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", init_specs.len()),
        };
        initializing = true;
        break;
    }
    if !initializing || condition("Initialized") {
        restarts = sidecar_restarts;
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            restarts.add(status);
            let waiting = text(status, "/state/waiting/reason");
            let is_ready = status.get("ready").and_then(Value::as_bool) == Some(true);
            if !waiting.is_empty() {
                waiting.clone_into(&mut reason);
            } else if let Some(terminated) = status.pointer("/state/terminated") {
                reason = ending(terminated);
            } else if is_ready && status.pointer("/state/running").is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            if condition("Ready") { "Running" } else { "NotReady" }.clone_into(&mut reason);
        }
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()) {
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut reason);
        }
    }
    Summary { reason, ready, total, restarts }
}

/// The cells, in the order of the columns.
pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let or_none = |s: &str| if s.is_empty() { json!("<none>") } else { json!(s) };
    let gates = list(pod, "/spec/readinessGates");
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let conditions = list(pod, "/status/conditions");
        let open = |gate: &&Value| {
            conditions.iter().any(|c| text(c, "/type") == text(gate, "/conditionType") && text(c, "/status") == "True")
        };
        format!("{}/{}", gates.iter().filter(open).count(), gates.len())
    };
    vec![
        json!(text(pod, "/metadata/name")),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(summary.restarts.cell(now)),
        json!(age::since(pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now)),
        or_none(text(pod, "/status/podIPs/0/ip")),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        json!(gates),
    ]
}

/// What a finished pod's row says beside its cells.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
