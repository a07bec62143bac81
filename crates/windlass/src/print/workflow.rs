//! One workflow as `argo get` prints it: a block of labelled lines, a blank line, the tree.

use jiff::Timestamp;
use windlass_model::{NodeStatus, Workflow};

use super::time::{seconds, stamp, words};
use super::{Look, tree};

fn line(out: &mut String, label: &str, value: &str) {
    out.push_str(format!("{label:<20} {value}").trim_end());
    out.push('\n');
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
        let unit = |k: &str| if k == "memory" { "100Mi memory".to_owned() } else { format!("1 {k}") };
        let parts: Vec<_> =
            status.resources_duration.iter().map(|(k, v)| format!("{}*({})", go(*v), unit(k))).collect();
        line(&mut out, "ResourcesDuration:", &parts.join(","));
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
    let tree = tree::draw(wf, &pod_name, look, now);
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
