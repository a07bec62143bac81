//! Replays recordings of the real Argo controller, where they are at hand: the recorded pods' ends and reports are
//! told to
//! the engine, and what it makes of them is compared with what Argo made.
//!
//! The recordings are not part of the project. They are looked for in `../shared/corpus/argo/cases` beside the
//! workspace,
//! or where `WINDLASS_ARGO_CORPUS` says. The mismatches are written to `target/tmp/argo-corpus.txt`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use windlass_engine::manual::{Retry, retry};
use windlass_engine::{Command, Config, Observation, Run};
use windlass_model::Workflow;

use crate::world::{Caches, LockRoom};

/// How many cases must match; raise when more do.
const FLOOR_PHASE: usize = 248;
const FLOOR_NODES: usize = 247;

fn corpus() -> Option<PathBuf> {
    let path = match std::env::var_os("WINDLASS_ARGO_CORPUS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/argo/cases"),
    };
    path.is_dir().then_some(path)
}

#[test]
fn recorded_runs_are_replayed() {
    let Some(root) = corpus() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let mut report = String::new();
    let (mut all, mut phases, mut nodes) = (0, 0, 0);
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let name = name.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(root.join(&name).join("recording.json")).unwrap();
        let recording: Value = serde_json::from_str(&text).unwrap();
        for (i, recorded) in recording["workflows"].as_array().unwrap().iter().enumerate() {
            let Some(outcome) = replay(&recording, recorded) else { continue };
            all += 1;
            phases += usize::from(outcome.phase.is_empty());
            nodes += usize::from(outcome.phase.is_empty() && outcome.nodes.is_empty());
            if !outcome.phase.is_empty() || !outcome.nodes.is_empty() {
                writeln!(report, "== {name}#{i}").unwrap();
                for line in outcome.phase.iter().chain(&outcome.nodes) {
                    writeln!(report, "   {line}").unwrap();
                }
            }
        }
    }
    let summary =
        format!("tier A (phase, message): {phases} of {all} match\ntier B (node table): {nodes} of {all} match\n");
    println!("{summary}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("argo-corpus.txt");
    std::fs::write(&path, format!("{summary}\n{report}")).unwrap();
    println!("mismatches: {}", path.display());
    assert!(phases >= FLOOR_PHASE, "tier A fell below {FLOOR_PHASE}: {phases}");
    assert!(nodes >= FLOOR_NODES, "tier B fell below {FLOOR_NODES}: {nodes}");
}

#[derive(Default)]
struct Outcome {
    phase: Vec<String>,
    nodes: Vec<String>,
}

struct Replay<'a> {
    recording: &'a Value,
    nodes: &'a Value,
    started: Timestamp,
    pods: HashMap<String, Vec<&'a Value>>,
    reports: HashMap<String, &'a Value>,
    /// Pods that were created and have not ended, by when they ended in the recording.
    running: BTreeMap<(Timestamp, String), &'a Value>,
    locks: LockRoom,
    caches: Caches,
}

fn replay(recording: &Value, recorded: &Value) -> Option<Outcome> {
    let name = recorded["metadata"]["name"].as_str()?;
    let before = recorded["before"].as_object().is_some();
    let goal = if before { &recorded["before"]["status"] } else { &recorded["status"] };
    let submitted = recording["submitted"].as_array()?.iter().find(|o| o["metadata"]["name"] == *name);
    let mut workflow = submitted.unwrap_or(recorded).clone();
    workflow.as_object_mut()?.remove("status");
    if submitted.is_none() {
        workflow["spec"].as_object_mut()?.remove("shutdown");
        workflow["metadata"]["labels"] = Value::Null;
    }
    workflow["metadata"]["creationTimestamp"] = recorded["metadata"]["creationTimestamp"].clone();
    workflow["metadata"]["uid"] = recorded["metadata"]["uid"].clone();
    let mut outcome = Outcome::default();
    let workflow: Workflow = match serde_json::from_value(workflow) {
        Ok(workflow) => workflow,
        Err(e) => {
            outcome.phase.push(format!("cannot be read: {e}"));
            return Some(outcome);
        }
    };
    let started: Timestamp = goal["startedAt"].as_str()?.parse().ok()?;
    let mut pods: HashMap<String, Vec<&Value>> = HashMap::new();
    for pod in recording["pods"].as_array()? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        pods.entry(name).or_default().push(pod);
    }
    play(recording, &workflow, goal, pods, started, &["stop", "terminate", "resume"], &mut outcome);
    Some(outcome)
}

/// What became of a workflow, with the pods that were recorded.
fn play(
    recording: &Value,
    workflow: &Workflow,
    goal: &Value,
    pods: HashMap<String, Vec<&Value>>,
    started: Timestamp,
    verbs: &[&str],
    outcome: &mut Outcome,
) {
    let reports = recording["taskResults"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|r| (r["metadata"]["name"].as_str().unwrap_or_default().to_owned(), r))
        .collect();
    let home = workflow.metadata.namespace.as_deref().unwrap_or_default();
    let key = format!("{home}/{}", workflow.metadata.name.as_deref().unwrap_or_default());
    let locks = LockRoom::new(&key, recording["submitted"].as_array().map(Vec::as_slice).unwrap_or_default());
    let caches = Caches::new(recording["submitted"].as_array().map(Vec::as_slice).unwrap_or_default());
    let mut replay =
        Replay { recording, nodes: &goal["nodes"], started, pods, reports, running: BTreeMap::new(), locks, caches };
    // What the pods did is told by the recording, so that even what we do not run yet has its node table.
    let config = Config { refuse_unsupported: false, ..Config::default() };
    let mut run = Run::load(workflow, &config);
    let mut now = started;
    let mut actions: Vec<(Timestamp, String)> = recording["actions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|a| {
            let verb = a["argo"][0].as_str()?.to_owned();
            let at = started.checked_add(SignedDuration::from_millis(a["at_ms"].as_i64()?)).ok()?;
            Some((at, verb))
        })
        .filter(|(_, verb)| verbs.contains(&verb.as_str()))
        .rev()
        .collect();
    let mut todo: Vec<Observation> = vec![Observation::Surveyed];
    let mut stuck = false;
    for _ in 0..20_000 {
        let decision = run.step(&todo, now);
        todo.clear();
        for command in decision.commands {
            replay.locks.perform(&command);
            replay.perform(command, &mut todo);
        }
        todo.extend(replay.locks.answers());
        if decision.completed {
            break;
        }
        if !todo.is_empty() {
            continue;
        }
        let next_pod = replay.running.first_key_value().map(|((at, _), _)| *at);
        let next_action = actions.last().map(|(at, _)| *at);
        let next = [next_pod, next_action, decision.wake].into_iter().flatten().min();
        let Some(next) = next else {
            stuck = true;
            break;
        };
        now = now.max(next);
        if next_action == Some(next) {
            let (_, verb) = actions.pop().unwrap();
            todo.push(match verb.as_str() {
                "stop" => control("Stop"),
                "terminate" => control("Terminate"),
                _ => Observation::Resume { node_ids: Vec::new(), parameters: Vec::new(), message: None },
            });
        } else if next_pod == Some(next) {
            let ((_, _), pod) = replay.running.pop_first().unwrap();
            let id = pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"].as_str().unwrap_or_default();
            if let Some(report) = replay.reports.get(id)
                && let Ok(report) = serde_json::from_value((*report).clone())
            {
                todo.push(Observation::TaskResult(report));
            }
            todo.push(Observation::Pod(pod.clone()));
        }
    }
    compare(&run, goal, stuck, outcome);
}

/// `argo retry` as it was recorded: the run as it had ended, our change of it, and then the pods that came after.
#[test]
fn recorded_retries_end_as_argos_did() {
    let Some(root) = corpus() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let (mut all, mut report) = (0, String::new());
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let text = std::fs::read_to_string(root.join(&name).join("recording.json")).unwrap();
        let recording: Value = serde_json::from_str(&text).unwrap();
        let Some(action) = recording["actions"].as_array().into_iter().flatten().find(|a| a["argo"][0] == "retry")
        else {
            continue;
        };
        all += 1;
        let mut outcome = Outcome::default();
        retried(&recording, action, &mut outcome);
        for line in outcome.phase.iter().chain(&outcome.nodes) {
            writeln!(report, "{}: {line}", name.to_string_lossy()).unwrap();
        }
    }
    println!("{all} retries\n{report}");
    assert!(all >= 10, "only {all} retries were found");
    assert!(report.is_empty(), "{report}");
}

fn retried(recording: &Value, action: &Value, outcome: &mut Outcome) {
    let flags: Vec<&str> = action["argo"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut workflow = recording["before"][0].clone();
    let name = workflow["metadata"]["name"].clone();
    let goal = recording["workflows"].as_array().unwrap().iter().find(|w| w["metadata"]["name"] == name).unwrap();
    let how = Retry { restart_successful: flags.contains(&"--restart-successful"), ..Retry::default() };
    let started: Timestamp = goal["status"]["startedAt"].as_str().unwrap().parse().unwrap();
    let retried = match retry(&workflow, &how, started) {
        Ok(retried) => retried,
        Err(refusal) => {
            if action["rc"] == 0 {
                outcome.phase.push(format!("refused: {refusal}"));
            }
            return;
        }
    };
    if action["rc"] != 0 {
        outcome.phase.push(format!("not refused, as Argo does: {}", action["stderr"]));
        return;
    }
    let deleted = action["stderr"].as_str().unwrap().split("podDeleted=").skip(1);
    let deleted: BTreeSet<&str> = deleted.map(|t| t.split_whitespace().next().unwrap()).collect();
    let ours: BTreeSet<&str> = retried.pods.iter().map(String::as_str).collect();
    if deleted != ours {
        outcome.nodes.push(format!("pods deleted  ours {ours:?}  theirs {deleted:?}"));
    }
    crate::world::merge(&mut workflow, &retried.patch);
    let mut pods: HashMap<String, Vec<&Value>> = HashMap::new();
    for pod in recording["pods"].as_array().unwrap() {
        // Of two pods of a name the retry's is the later one.
        let all = pods.entry(pod["metadata"]["name"].as_str().unwrap().to_owned()).or_default();
        all.push(pod);
        all.sort_by_key(|p| std::cmp::Reverse(p["metadata"]["creationTimestamp"].as_str().unwrap_or_default()));
        all.truncate(1);
    }
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    play(recording, &workflow, &goal["status"], pods, started, &[], outcome);
}

fn control(how: &str) -> Observation {
    Observation::Control { suspend: false, shutdown: Some(how.to_owned()), active_deadline_seconds: None }
}

impl Replay<'_> {
    fn perform(&mut self, command: Command, todo: &mut Vec<Observation>) {
        match command {
            Command::CreatePod { node_id, name, .. } => {
                let pod = self.pods.get_mut(&name).filter(|p| !p.is_empty()).map(|p| p.remove(0));
                let row = &self.nodes[&node_id];
                match pod {
                    Some(pod) => {
                        let mut running = pod.clone();
                        let ready = row["podIP"].is_string();
                        running["status"]["phase"] = "Running".into();
                        for status in running["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
                            status["ready"] = ready.into();
                            status["state"] = serde_json::json!({"running": {}});
                        }
                        if ready {
                            running["status"]["podIP"] = row["podIP"].clone();
                        }
                        let ran = pod["status"]["containerStatuses"].as_array().into_iter().flatten().any(|s| {
                            s["state"]["terminated"]["startedAt"].is_string() || s["state"]["running"].is_object()
                        });
                        if ran {
                            todo.push(Observation::Pod(running));
                        } else {
                            let mut pending = pod.clone();
                            pending["status"]["phase"] = "Pending".into();
                            pending["status"]["containerStatuses"] = Value::Null;
                            pending["status"]["initContainerStatuses"] = Value::Null;
                            todo.push(Observation::Pod(pending));
                        }
                        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
                        if ended && !(ready && row["phase"] == "Succeeded") {
                            let at = self.seen_ended(&name).unwrap_or_else(|| ended_at(pod, row));
                            self.running.insert((at, name), pod);
                        }
                    }
                    None => {
                        if let Some(message) = row["message"].as_str().filter(|m| m.contains("is forbidden")) {
                            let from = message.find("pods \"").unwrap_or(0);
                            todo.push(Observation::PodRefused {
                                node_id,
                                message: message[from..].to_owned(),
                                transient: false,
                            });
                        }
                    }
                }
            }
            Command::LoadCache { node_id, config_map } => todo.push(self.caches.load(node_id, &config_map)),
            Command::SaveCache { config_map, key, entry } => self.caches.save(&config_map, &key, &entry),
            Command::FetchTemplate { cluster, name } => {
                let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
                todo.push(Observation::Template { cluster, object: self.submitted(kind, &name), name });
            }
            Command::CreateClaim { name, .. } => todo.push(Observation::ClaimMade { name }),
            Command::FetchConfigMap { name } => {
                todo.push(Observation::ConfigMap { object: self.submitted("ConfigMap", &name), name });
            }
            _ => {}
        }
    }

    /// When the pod was seen to have ended, in milliseconds of the recording.
    fn seen_ended(&self, name: &str) -> Option<Timestamp> {
        let ended = |e: &&Value| e[1] == "pod" && e[2] == name && (e[3] == "Succeeded" || e[3] == "Failed");
        let all: Vec<&Value> = self.recording["timeline"].as_array()?.iter().filter(ended).collect();
        let [only] = all.as_slice() else { return None };
        self.started.checked_add(SignedDuration::from_millis(only[0].as_i64()?)).ok()
    }

    fn submitted(&self, kind: &str, name: &str) -> Option<Value> {
        let all = self.recording["submitted"].as_array()?;
        all.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).cloned()
    }
}

fn ended_at(pod: &Value, row: &Value) -> Timestamp {
    pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["state"]["terminated"]["finishedAt"].as_str())
        .chain(row["finishedAt"].as_str())
        .filter_map(|t| t.parse().ok())
        .max()
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn compare(run: &Run, goal: &Value, stuck: bool, outcome: &mut Outcome) {
    let ours = run.status();
    if stuck {
        outcome.phase.push(format!("stuck: {:?}", run.unfinished()));
    }
    let pair = |phase: &str, message: &str| format!("{phase}: {message}");
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let theirs = pair(&text(&goal["phase"]), &text(&goal["message"]));
    let mine = pair(ours.phase.as_str(), ours.message.as_deref().unwrap_or_default());
    if mine != theirs {
        outcome.phase.push(format!("workflow  ours {mine}\n             theirs {theirs}"));
    }
    let ours = serde_json::to_value(&ours.nodes).unwrap();
    let ids: BTreeSet<&String> =
        ours.as_object().unwrap().keys().chain(goal["nodes"].as_object().into_iter().flat_map(|m| m.keys())).collect();
    for id in ids {
        let (a, b) = (&ours[id], &goal["nodes"][id]);
        let label = text(if b.is_null() { &a["name"] } else { &b["name"] });
        if a.is_null() || b.is_null() {
            outcome.nodes.push(format!("{label}: only {}", if a.is_null() { "theirs" } else { "ours" }));
            continue;
        }
        for field in [
            "name",
            "type",
            "phase",
            "displayName",
            "templateName",
            "boundaryID",
            "message",
            "templateScope",
            "nodeFlag",
        ] {
            if a[field] != b[field] && !(text(&a[field]).is_empty() && text(&b[field]).is_empty() && field == "message")
            {
                outcome.nodes.push(format!("{label}: {field}  ours {}  theirs {}", a[field], b[field]));
            }
        }
        for field in ["children", "outboundNodes"] {
            let set = |v: &Value| v.as_array().into_iter().flatten().map(text).collect::<HashSet<_>>();
            if set(&a[field]) != set(&b[field]) {
                outcome.nodes.push(format!("{label}: {field}  ours {}  theirs {}", a[field], b[field]));
            }
        }
        for field in ["inputs", "outputs"] {
            let parameters = |v: &Value| {
                v[field]["parameters"]
                    .as_array()
                    .map(|l| l.iter().map(|p| (text(&p["name"]), text(&p["value"]))).collect::<BTreeSet<_>>())
                    .unwrap_or_default()
            };
            if parameters(a) != parameters(b) {
                outcome.nodes.push(format!("{label}: {field}  ours {}  theirs {}", a[field], b[field]));
            }
        }
    }
}
