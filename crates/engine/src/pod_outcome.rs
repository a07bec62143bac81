//! What a pod's status says about its node. Reads; decides nothing about retries or siblings.

use serde_json::Value;
use windlass_model::places::EXIT_EXECUTOR;
use windlass_model::{NodePhase, Template};

use crate::artifact_plugins::is_plugin;

/// What became of a pod that ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub phase: NodePhase,
    pub message: String,
    pub exit_code: Option<String>,
}

/// Names of containers that are not the user's.
fn is_infrastructure(name: &str) -> bool {
    matches!(name, "init" | "wait" | "supervisor" | "argoexec")
}

fn statuses<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    pod["status"][field].as_array().into_iter().flatten()
}

fn terminated(status: &Value) -> Option<&Value> {
    Some(&status["state"]["terminated"]).filter(|t| t.is_object())
}

/// What Argo's executor, which begins every command, says of one that is not there: where nobody wraps the command, the
/// container itself could not be started, and its runtime says `exec NAME: No such file or directory` (the node agent) or
/// `exec: "NAME": executable file not found in $PATH`. The executor of wrapped commands has the same words.
fn absent_command(status: &Value) -> Option<String> {
    let ended = terminated(status)?;
    if !matches!(ended["reason"].as_str(), Some("StartError" | "ContainerCannotRun")) {
        return None;
    }
    let message = ended["message"].as_str()?;
    let program = match message.split_once("exec: \"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((program, why)) if why.contains("not found in $PATH") || why.contains("no such file") => program,
        Some(_) => return None,
        None => message.strip_suffix(": No such file or directory")?.rsplit_once(": exec ")?.1,
    };
    let why = match program.contains('/') {
        true => format!("stat {program}: no such file or directory"),
        false => "executable file not found in $PATH".to_owned(),
    };
    Some(format!("failed to find name in PATH: exec: {program:?}: {why}"))
}

/// The exit code of `main`, as text; of a container set without `main`, nothing.
pub(crate) fn exit_code(pod: &Value) -> Option<String> {
    let main = statuses(pod, "containerStatuses").find(|s| s["name"] == "main")?;
    if absent_command(main).is_some() {
        return Some(EXIT_EXECUTOR.to_string());
    }
    terminated(main)?["exitCode"].as_i64().map(|c| c.to_string())
}

/// What `main` left as its last word.
pub(crate) fn main_message(pod: &Value) -> Option<String> {
    let main = statuses(pod, "containerStatuses").find(|s| s["name"] == "main")?;
    terminated(main)?["message"].as_str().filter(|m| !m.is_empty()).map(str::to_owned)
}

/// Whether every one of the user's containers is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let mut any = false;
    for status in statuses(pod, "containerStatuses") {
        any = true;
        if status["ready"] != true {
            return false;
        }
    }
    any
}

/// Whether the step's own container could not be started, and others of the pod go on without it: a supervisor waits for a
/// command that will never come.
pub(crate) fn never_began(pod: &Value) -> bool {
    statuses(pod, "containerStatuses")
        .filter(|s| s["name"] == "main")
        .filter_map(terminated)
        .any(|t| matches!(t["reason"].as_str(), Some("StartError" | "ContainerCannotRun")) && t["exitCode"] != 0)
}

/// Whether the user's code in it ever ran.
pub(crate) fn ran(pod: &Value, template: &Template) -> bool {
    let began = |t: &Value| t["startedAt"].as_str().and_then(|s| s.parse::<jiff::Timestamp>().ok());
    statuses(pod, "containerStatuses")
        .filter(|s| template.is_main_container(s["name"].as_str().unwrap_or_default()))
        .filter_map(terminated)
        // The kubelet's word for a container that never ran is the epoch.
        .any(|t| began(t).is_some_and(|at| at.as_second() > 0))
}

/// Why a pod is pending, in words.
pub(crate) fn pending_message(pod: &Value) -> String {
    for field in ["initContainerStatuses", "containerStatuses"] {
        for status in statuses(pod, field) {
            let waiting = &status["state"]["waiting"];
            if waiting.is_object() {
                let reason = waiting["reason"].as_str().unwrap_or_default();
                return match waiting["message"].as_str() {
                    Some(message) if !message.is_empty() => format!("{reason}: {message}"),
                    _ => reason.to_owned(),
                };
            }
        }
    }
    let unschedulable = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "PodScheduled" && c["status"] == "False" && c["reason"] == "Unschedulable");
    match unschedulable {
        Some(condition) => format!("Unschedulable: {}", condition["message"].as_str().unwrap_or_default()),
        None => String::new(),
    }
}

/// Whether the infrastructure lost the pod: no fault of the user's code.
pub(crate) fn is_lost(pod: &Value) -> bool {
    matches!(pod["status"]["reason"].as_str(), Some("NodeLost" | "NodeShutdown" | "Terminated" | "NodeAffinity"))
        && pod["status"]["phase"] == "Failed"
}

/// What a pod that ended means for its node.
pub(crate) fn outcome(pod: &Value, template: &Template, daemon: bool) -> Outcome {
    let code = exit_code(pod);
    if pod["status"]["phase"] == "Succeeded" {
        if daemon {
            return Outcome { phase: NodePhase::Failed, message: String::new(), exit_code: code };
        }
        return Outcome { phase: NodePhase::Succeeded, message: String::new(), exit_code: code };
    }
    let (phase, message) = failure(pod, template);
    Outcome { phase, message, exit_code: code }
}

fn failure(pod: &Value, template: &Template) -> (NodePhase, String) {
    let failed = |t: &Value| t["exitCode"].as_i64().unwrap_or(0) != 0;
    // An input that could not be brought in is the infrastructure's failure, whatever words the pod has for it.
    if let Some(message) = pod["status"]["message"].as_str().filter(|m| !m.is_empty()) {
        let phase = match pod["status"]["reason"].as_str() {
            // The node agent's words for what is not the user's code.
            Some("InputError" | "OutputError" | "InvalidTask" | "Forbidden" | "NodeLost") => NodePhase::Error,
            _ => NodePhase::Failed,
        };
        return (phase, message.to_owned());
    }
    // What keeps artifacts ends when it is stopped, and how is nobody's business.
    for status in statuses(pod, "initContainerStatuses").filter(|s| !is_plugin(s)) {
        if let Some(t) = terminated(status).filter(|t| failed(t)) {
            let name = status["name"].as_str().unwrap_or_default();
            // The user's own have failed, ours are an error. One that was only killed is passed over.
            match t["exitCode"].as_i64() {
                _ if is_infrastructure(name) => return (NodePhase::Error, words(status, t)),
                Some(137 | 143) => {}
                _ => return (NodePhase::Failed, words(status, t)),
            }
        }
    }
    let mut all: Vec<&Value> = statuses(pod, "containerStatuses").collect();
    let rank = |s: &Value| match s["name"].as_str().unwrap_or_default() {
        name if template.is_main_container(name) => 0,
        name if is_infrastructure(name) => 1,
        _ => 2,
    };
    all.sort_by_key(|s| rank(s));
    let (mut main_ok, mut wait_ok) = (false, true);
    for status in &all {
        let name = status["name"].as_str().unwrap_or_default();
        let Some(t) = terminated(status) else {
            if let Some(reason) = status["state"]["waiting"]["reason"].as_str() {
                let message = status["state"]["waiting"]["message"].as_str().unwrap_or_default();
                let text = format!("Pod failed before {name} container starts due to {reason}: {message}");
                return (NodePhase::Error, text);
            }
            continue;
        };
        let code = t["exitCode"].as_i64().unwrap_or(0);
        if code == 0 {
            main_ok |= template.is_main_container(name);
            continue;
        }
        match name {
            name if template.is_main_container(name) => {
                let text = match absent_command(status) {
                    Some(why) => format!("{name}: Error (exit code {EXIT_EXECUTOR}): {why}"),
                    None => words(status, t),
                };
                return (NodePhase::Failed, text);
            }
            name if is_infrastructure(name) => {
                wait_ok = false;
                if main_ok || !all.iter().any(|s| template.is_main_container(s["name"].as_str().unwrap_or_default())) {
                    return (NodePhase::Error, words(status, t));
                }
            }
            _ if matches!(code, 137 | 143) => {}
            _ => return (NodePhase::Failed, words(status, t)),
        }
    }
    if main_ok && wait_ok {
        return (NodePhase::Succeeded, String::new());
    }
    (NodePhase::Failed, "pod failed, but none of its containers did".to_owned())
}

fn words(status: &Value, terminated: &Value) -> String {
    let name = status["name"].as_str().unwrap_or_default();
    let code = terminated["exitCode"].as_i64().unwrap_or(0);
    let reason = terminated["reason"].as_str().filter(|r| !r.is_empty()).unwrap_or("Error");
    let text = format!("{name}: {reason} (exit code {code})");
    match terminated["message"].as_str() {
        Some(message) if !message.is_empty() => format!("{text}: {message}"),
        _ => text,
    }
}

/// Requested resources times seconds, as Argo counts: memory in 100 Mi, at least what a container asks for.
pub(crate) fn resources_duration(pod: &Value) -> std::collections::BTreeMap<String, i64> {
    let mut total = std::collections::BTreeMap::new();
    for status in statuses(pod, "containerStatuses") {
        let Some(t) = terminated(status) else { continue };
        let at = |field: &str| t[field].as_str().and_then(|s| s.parse::<jiff::Timestamp>().ok());
        let (Some(from), Some(to)) = (at("startedAt"), at("finishedAt")) else { continue };
        // The kubelet's word for a container that never ran is the epoch.
        if from.as_second() <= 0 {
            continue;
        }
        let seconds = to.as_second() - from.as_second();
        let container =
            pod["spec"]["containers"].as_array().into_iter().flatten().find(|c| c["name"] == status["name"]);
        let request = |what: &str, base: f64, default: f64| {
            let given = container.and_then(|c| {
                let r = &c["resources"];
                r["requests"][what].as_str().or_else(|| r["limits"][what].as_str()).and_then(quantity)
            });
            given.map_or(default, |q| q / base)
        };
        *total.entry("cpu".to_owned()).or_insert(0) += (request("cpu", 1.0, 0.1) * seconds as f64) as i64;
        let memory = request("memory", 100.0 * 1024.0 * 1024.0, 1.0);
        *total.entry("memory".to_owned()).or_insert(0) += (memory * seconds as f64) as i64;
    }
    total
}

fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    Some(
        number
            * match &text[digits..] {
                "" => 1.0,
                "m" => 1e-3,
                "k" => 1e3,
                "M" => 1e6,
                "G" => 1e9,
                "Ki" => 1024.0,
                "Mi" => 1024.0 * 1024.0,
                "Gi" => 1024.0 * 1024.0 * 1024.0,
                _ => return None,
            },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(phase: &str, containers: Value) -> Value {
        json!({"status": {"phase": phase, "containerStatuses": containers}})
    }

    #[test]
    fn a_step_that_cannot_begin_is_not_waited_for() {
        let of = |state: Value| {
            let supervisor = json!({"name": "supervisor", "state": {"running": {}}});
            never_began(&pod("Running", json!([supervisor, {"name": "main", "state": state}])))
        };
        assert!(of(json!({"terminated": {"reason": "StartError", "exitCode": 128}})));
        assert!(!of(json!({"terminated": {"reason": "Error", "exitCode": 1}})) && !of(json!({"running": {}})));
    }

    #[test]
    fn init_containers_of_the_users_fail_and_ours_are_errors() {
        let of = |name: &str, code: i64| {
            let mut pod = pod("Failed", json!([{"name": "main", "state": {"terminated": {"exitCode": 1}}}]));
            let state = json!({"terminated": {"reason": "Error", "exitCode": code}});
            pod["status"]["initContainerStatuses"] = json!([{"name": name, "state": state}]);
            let outcome = outcome(&pod, &Template::default(), false);
            (outcome.phase, outcome.message)
        };
        assert_eq!(of("init", 64), (NodePhase::Error, "init: Error (exit code 64)".to_owned()));
        assert_eq!(of("mine", 7), (NodePhase::Failed, "mine: Error (exit code 7)".to_owned()));
        assert_eq!(of("mine", 137), (NodePhase::Failed, "main: Error (exit code 1)".to_owned()));
    }

    #[test]
    fn a_container_that_never_ran_took_no_resources() {
        let state = |from: &str| json!({"terminated": {"exitCode": 128, "startedAt": from, "finishedAt": "2026-11-21T07:29:34Z"}});
        let of = |from: &str| resources_duration(&pod("Failed", json!([{"name": "main", "state": state(from)}])));
        assert_eq!(of("1970-01-01T00:00:00Z"), Default::default());
        assert_eq!(of("2026-11-21T07:29:24Z")["memory"], 10);
    }

    #[test]
    fn a_command_that_is_not_there_is_argos_exit_code() {
        let of = |code: i64, message: &str| {
            let state = json!({"terminated": {"reason": "StartError", "exitCode": code, "message": message}});
            let pod = pod("Failed", json!([{"name": "main", "state": state}]));
            let outcome = outcome(&pod, &Template::default(), false);
            assert_eq!(outcome.phase, NodePhase::Failed);
            (outcome.exit_code.unwrap(), outcome.message)
        };
        let words = |why: &str| {
            ("64".to_owned(), format!("main: Error (exit code 64): failed to find name in PATH: exec: {why}"))
        };
        let ours =
            |program: &str| format!("failed to start container \"main\": exec {program}: No such file or directory");
        let runc = |why: &str| {
            format!("failed to create containerd task: unable to start container process: exec: {why}: unknown")
        };
        let plain = words("\"node\": executable file not found in $PATH");
        assert_eq!(of(127, &ours("node")), plain);
        assert_eq!(of(128, &runc("\"node\": executable file not found in $PATH")), plain);
        let path = words("\"/no/x\": stat /no/x: no such file or directory");
        assert_eq!(of(127, &ours("/no/x")), path);
        assert_eq!(of(128, &runc("\"/no/x\": stat /no/x: no such file or directory")), path);
        // What may not be executed, or could not be set up, keeps its words.
        assert_eq!(of(126, "failed to start container \"main\": exec /x: Permission denied").0, "126");
        assert_eq!(of(128, &runc("\"/x\": permission denied")).0, "128");
        assert_eq!(of(128, "failed to start container \"main\": mount /v: No such file or directory").0, "128");
    }

    #[test]
    fn failures_are_told_apart() {
        let ended = |name: &str, code: i64| {
            let reason = if code == 0 { "Completed" } else { "Error" };
            json!({"name": name, "state": {"terminated": {"exitCode": code, "reason": reason}}})
        };
        let of = |containers: Value| {
            let o = outcome(&pod("Failed", containers), &Template::default(), false);
            (o.phase, o.message)
        };
        assert_eq!(of(json!([ended("main", 1)])), (NodePhase::Failed, "main: Error (exit code 1)".to_owned()));
        assert_eq!(
            of(json!([ended("wait", 64), ended("main", 0)])),
            (NodePhase::Error, "wait: Error (exit code 64)".to_owned())
        );
        assert_eq!(of(json!([ended("main", 0), ended("side", 137)])), (NodePhase::Succeeded, String::new()));
        assert_eq!(
            of(json!([ended("main", 0), ended("side", 2)])),
            (NodePhase::Failed, "side: Error (exit code 2)".to_owned())
        );
        // Every container of a set counts, also one that was killed.
        let set = json!({"containerSet": {"containers": [{"name": "a"}, {"name": "main"}]}});
        let set: Template = serde_json::from_value(set).unwrap();
        let o = outcome(&pod("Failed", json!([ended("main", 0), ended("a", 137)])), &set, false);
        assert_eq!((o.phase, o.message), (NodePhase::Failed, "a: Error (exit code 137)".to_owned()));
    }
}
