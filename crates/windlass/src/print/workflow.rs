//! One workflow as `argo get` prints it: a block of labelled lines, a blank line, the tree.

use jiff::Timestamp;
use windlass_engine::manual::Selector;
use windlass_model::{NodeStatus, Workflow};

use super::time::{seconds, stamp, words};
use super::{Look, tree};

fn line(out: &mut String, label: &str, value: &str) {
    out.push_str(format!("{label:<20} {value}").trim_end());
    out.push('\n');
}

/// `1m18s*(1 cpu),3s*(100Mi memory)`
pub(super) fn resources(all: &std::collections::BTreeMap<String, i64>) -> String {
    let unit = |k: &str| if k == "memory" { "100Mi memory".to_owned() } else { format!("1 {k}") };
    let parts: Vec<_> = all.iter().map(|(k, v)| format!("{}*({})", go(*v), unit(k))).collect();
    parts.join(",")
}

/// Seconds as Go prints a duration: `1m18s`.
fn go(seconds: i64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, m) => format!("{m}m{s}s"),
        (h, m) => format!("{h}h{m}m{s}s"),
    }
}

/// The whole text.
pub(crate) fn draw(wf: &Workflow, look: Look, now: Timestamp) -> String {
    draw_selected(wf, &Selector::default(), look, now)
}

/// The whole text, with some nodes only.
pub(crate) fn draw_selected(wf: &Workflow, selector: &Selector, look: Look, now: Timestamp) -> String {
    let mut out = String::new();
    let status = wf.status.clone().unwrap_or_default();
    line(&mut out, "Name:", wf.metadata.name.as_deref().unwrap_or_default());
    line(&mut out, "Namespace:", wf.metadata.namespace.as_deref().unwrap_or_default());
    let account = wf.spec.service_account_name.as_deref();
    line(&mut out, "ServiceAccount:", account.unwrap_or("unset (will run with the default ServiceAccount)"));
    line(&mut out, "Status:", &super::status(wf));
    if let Some(message) = &status.message {
        line(&mut out, "Message:", message);
    }
    if !status.conditions.is_empty() {
        line(&mut out, "Conditions:", "");
        for c in &status.conditions {
            line(&mut out, &format!(" {}", c.type_), c.message.as_deref().unwrap_or(&c.status));
        }
    }
    if let Some(t) = &wf.metadata.creation_timestamp {
        line(&mut out, "Created:", &stamp(t.0, now));
    }
    if let Some(t) = &status.started_at {
        line(&mut out, "Started:", &stamp(t.0, now));
    }
    if let Some(t) = &status.finished_at {
        line(&mut out, "Finished:", &stamp(t.0, now));
    }
    if let Some(t) = &status.started_at {
        line(&mut out, "Duration:", &words(seconds(t.0, status.finished_at.as_ref().map_or(now, |f| f.0))));
    }
    line(&mut out, "Progress:", status.progress.as_deref().unwrap_or_default());
    if !status.resources_duration.is_empty() {
        line(&mut out, "ResourcesDuration:", &resources(&status.resources_duration));
    }
    let parameters = wf.spec.arguments.parameters.iter();
    let parameters: Vec<_> = parameters.filter_map(|p| Some((p.name.clone(), p.value.as_ref()?.to_string()))).collect();
    if !parameters.is_empty() {
        line(&mut out, "Parameters:", "");
        for (name, value) in parameters {
            line(&mut out, &format!("  {name}:"), &value);
        }
    }
    let outputs = status.outputs.iter().flat_map(|o| &o.parameters);
    let outputs: Vec<_> = outputs.filter_map(|p| Some((p.name.clone(), p.value.as_ref()?.to_string()))).collect();
    if !outputs.is_empty() {
        line(&mut out, "Output Parameters:", "");
        for (name, value) in outputs {
            line(&mut out, &format!("  {name}:"), &value);
        }
    }
    let pod_name = |node: &NodeStatus| pod_name(wf, node);
    let tree = tree::draw_selected(wf, selector, &pod_name, look, now);
    if !tree.is_empty() {
        out.push('\n');
        out.push_str(&tree);
    }
    out
}

/// The name of a node's pod.
pub(crate) fn pod_name(wf: &Workflow, node: &NodeStatus) -> String {
    let template = node.template_ref.as_ref().map(|r| r.template.as_str()).or(node.template_name.as_deref());
    let workflow = wf.metadata.name.as_deref().unwrap_or_default();
    windlass_engine::pod_name(workflow, &node.name, template.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value;
    use windlass_engine::manual::{Retry, retry};

    use super::*;
    use crate::print::Columns;

    /// Where recordings of the real `argo` are, if they are at hand.
    fn corpus() -> Option<PathBuf> {
        let path = match std::env::var_os("WINDLASS_ARGO_CORPUS") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/argo/cases"),
        };
        path.is_dir().then_some(path)
    }

    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        for (key, value) in patch {
            if value.is_null() {
                target.as_object_mut().and_then(|m| m.remove(key));
            } else {
                merge(&mut target[key], value);
            }
        }
    }

    /// What `argo retry` printed of a workflow, and what is printed here of the same one: line by line, but for times.
    #[test]
    fn retries_are_drawn_as_argo_drew_them() {
        let Some(root) = corpus() else {
            println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
            return;
        };
        let look = Look { color: false, utf8: true, columns: Columns::Plain };
        let now = Timestamp::now();
        let (mut all, mut wrong) = (0, Vec::new());
        let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for case in names.into_iter().filter(|n| n.to_string_lossy().ends_with("--retry")) {
            let text = std::fs::read_to_string(case.join("recording.json")).unwrap();
            let recording: Value = serde_json::from_str(&text).unwrap();
            let Some(action) = recording["actions"].as_array().and_then(|a| a.iter().find(|a| a["argo"][0] == "retry"))
            else {
                continue;
            };
            let before = recording["before"].get(0).cloned();
            let (Some(mut wf), Some(0)) = (before, action["rc"].as_i64()) else { continue };
            let Ok(retried) = retry(&wf, &Retry::default(), now) else { continue };
            merge(&mut wf, &retried.patch);
            let drawn = draw(&serde_json::from_value(wf).unwrap(), look, now);
            let plain = |text: &str| -> Vec<String> {
                let times = ["Created:", "Started:", "Duration:", "ResourcesDuration:"];
                let text = anstream::adapter::strip_str(text).to_string();
                let lines = text.lines().map(|l| l.trim_end().to_owned());
                lines.filter(|l| !times.iter().any(|t| l.starts_with(t))).collect()
            };
            all += 1;
            let (theirs, ours) = (plain(action["stdout"].as_str().unwrap()), plain(&drawn));
            if theirs != ours {
                let name = case.file_name().unwrap().to_string_lossy().into_owned();
                wrong.push(format!("== {name}\n{}\n-- ours\n{}", theirs.join("\n"), ours.join("\n")));
            }
        }
        println!("{} of {all} drawn as argo drew them", all - wrong.len());
        assert!(all > 5 && wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
