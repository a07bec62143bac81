//! Rule: a template is of exactly one kind, and has only what that kind can have.

use serde_json::Value;

use windlass_lang::{Severity, tags};

use super::object::{Object, Placed};
use super::report::Report;

const KINDS: [&str; 10] =
    ["container", "containerSet", "steps", "script", "resource", "dag", "suspend", "http", "plugin", "data"];

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, report: &mut Report<'_>) {
    let (template, at) = (placed.template, placed.pointer.as_str());
    let is = |kind: &&str| placed.raw.get(*kind).is_some_and(|v| !v.is_null());
    let kinds: Vec<&str> = KINDS.iter().filter(|k| is(k)).copied().collect();
    let defaults = object.spec.as_ref().and_then(|s| s.template_defaults.as_deref());
    match kinds.as_slice() {
        [] => {
            // `templateDefaults` may bring the kind.
            if defaults.and_then(|d| d.kind()).is_none() {
                let message = format!("the template `{}` does nothing", template.name);
                report.error("argo::missing-kind", at, message);
                report.help(format!("give it one of {}", KINDS.join(", ")));
            }
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("the template `{}` has several kinds: {}", template.name, kinds.join(", "));
            report.error_key("argo::several-kinds", &format!("{at}/{second}"), message);
            let first = format!("{at}/{first}");
            report.also(&first, "the first one");
        }
    }
    let kind = kinds.first().copied().unwrap_or("");
    let group = matches!(kind, "steps" | "dag");
    if !group && template.parallelism.is_some() {
        let message = "`parallelism` is for steps and dag templates only";
        report.error("argo::misplaced-field", &format!("{at}/parallelism"), message);
    }
    if matches!(kind, "steps" | "dag" | "suspend") {
        for field in ["activeDeadlineSeconds", "timeout", "pendingTimeout"] {
            let waits = kind == "suspend" && field == "activeDeadlineSeconds";
            if !waits && placed.raw.get(field).is_some_and(|v| !v.is_null()) {
                let message = format!("`{field}` is for templates that run something themselves, not for {kind}");
                report.error("argo::misplaced-field", &format!("{at}/{field}"), message);
            }
        }
    }
    if matches!(kind, "steps" | "dag" | "suspend" | "http" | "plugin") {
        for field in ["podResources", "resourceClaims"] {
            let empty = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
            if placed.raw.get(field).is_some_and(|v| !empty(v)) {
                let message = format!("`{field}` is for templates that make a pod, and {kind} makes none");
                // Argo passes the resources of what only waits for others over.
                let passed = field == "podResources" && !matches!(kind, "http" | "plugin");
                let severity = if passed { Severity::Warning } else { Severity::Error };
                report.add(severity, "argo::misplaced-field", &format!("{at}/{field}"), message);
            }
        }
    }
    if let Some(resources) = placed.raw.get("podResources") {
        pod_resources(resources, &format!("{at}/podResources"), report);
    }
    plugin(placed, report);
    deadline(placed, report);
    retry(placed, report);
    resource(placed, report);
    if let Some(duration) = placed.raw.pointer("/suspend/duration").filter(|d| d.is_number() || d.is_boolean()) {
        let place = format!("{at}/suspend/duration");
        report.error("argo::wrong-type", &place, "this must be a string, and is a number");
        report.help(format!("put it in quotes: \"{duration}\""));
    }
    if let Some(suspend) = &template.suspend
        && let Some(duration) = suspend.duration.as_ref().filter(|d| !d.as_str().contains("{{"))
        && !is_duration(duration.as_str())
    {
        let message = format!("`{duration}` is no duration: `90`, `90s`, `1h30m` and the like are");
        report.warning("argo::bad-duration", &format!("{at}/suspend/duration"), message);
    }
}

fn deadline(placed: &Placed<'_>, report: &mut Report<'_>) {
    let at = format!("{}/activeDeadlineSeconds", placed.pointer);
    let good = match placed.raw.get("activeDeadlineSeconds") {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.contains("{{") || text.parse::<i64>().is_ok_and(|n| n >= 0),
        Some(value) => value.as_f64().is_some_and(|n| n >= 0.0),
    };
    let nothing = placed.raw.get("activeDeadlineSeconds").is_some_and(|v| v == "0" || v.as_f64() == Some(0.0));
    if !good || nothing {
        // No pod can have 0, which Argo sees when it makes one.
        let severity = if good { Severity::Warning } else { Severity::Error };
        report.add(severity, "argo::bad-deadline", &at, "`activeDeadlineSeconds` must be a whole number above 0");
    }
    for field in ["timeout", "pendingTimeout"] {
        let Some(text) = placed.raw.get(field).and_then(Value::as_str) else { continue };
        let number = text.parse::<i64>().is_ok();
        if !text.contains("{{") && !text.is_empty() && (number || !is_duration(text)) {
            let message = format!("`{text}` is no duration: `90s`, `1h30m` and the like are");
            let severity = if number && field == "timeout" { Severity::Error } else { Severity::Warning };
            report.add(severity, "argo::bad-duration", &format!("{}/{field}", placed.pointer), message);
        }
    }
}

fn retry(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(retry) = &placed.template.retry_strategy else { return };
    let at = format!("{}/retryStrategy", placed.pointer);
    const POLICIES: [&str; 4] = ["Always", "OnFailure", "OnError", "OnTransientError"];
    if let Some(policy) = retry.retry_policy.as_deref().filter(|p| !p.is_empty())
        && !POLICIES.contains(&policy)
    {
        let message = format!("`{policy}` is no retry policy");
        report.error("argo::bad-retry-policy", &format!("{at}/retryPolicy"), message);
        if !report.suggest(policy, POLICIES) {
            report.help(format!("policies are {}", POLICIES.join(", ")));
        }
    }
}

fn resource(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(resource) = &placed.template.resource else { return };
    let at = format!("{}/resource", placed.pointer);
    const ACTIONS: [&str; 6] = ["get", "create", "apply", "delete", "replace", "patch"];
    let action = resource.action.as_str();
    if !action.contains("{{") && !ACTIONS.contains(&action) {
        let message = format!("`{action}` is no action on a resource");
        report.error("argo::bad-action", &format!("{at}/action"), message);
        if !report.suggest(action, ACTIONS) {
            report.help(format!("actions are {}", ACTIONS.join(", ")));
        }
    }
    let has_manifest = resource.manifest.as_deref().is_some_and(|m| !m.is_empty());
    // What is asked for or deleted may be named by flags alone.
    let needed = !matches!(action, "get" | "delete");
    if needed && !has_manifest && resource.manifest_from.is_none() {
        let message = format!("to {action} something, a `manifest` or a `manifestFrom` is needed");
        report.error("argo::missing-manifest", &at, message);
    }
    if needed && has_manifest && resource.manifest_from.is_some() {
        let message = "a resource has a `manifest` or a `manifestFrom`, not both";
        report.error_key("argo::several-manifests", &format!("{at}/manifestFrom"), message);
    }
    if let Some(from) = resource.manifest_from.as_ref().and_then(|m| m.artifact.as_ref())
        && placed.template.inputs.artifact(&from.name).is_none()
    {
        let message = format!("`manifestFrom` names the input artifact `{}`, and there is none", from.name);
        report.error("argo::unknown-artifact", &format!("{at}/manifestFrom/artifact"), message);
        report.suggest(&from.name, placed.template.inputs.artifacts.iter().map(|a| a.name.as_str()));
    }
    let Some(manifest) = resource.manifest.as_deref() else { return };
    let Some(filled) = filled(manifest) else { return };
    let loaded = windlass_lang::yaml::load_str(&filled);
    let bad = loaded.diagnostics.iter().find(|d| d.is_error());
    let not_object = loaded.documents.iter().any(|d| !(d.value.is_object() || d.value.is_array()));
    if bad.is_some() || (not_object && !manifest.contains("{{")) {
        let why = bad.map_or("it is not an object", |d| d.message.as_str());
        let severity = if bad.is_some() && needed { Severity::Error } else { Severity::Warning };
        let message = format!("the manifest is not valid: {why}");
        report.add(severity, "argo::bad-manifest", &format!("{at}/manifest"), message);
    }
}

/// The manifest with a word for each tag; nothing where a tag stays for longer than lint can see.
fn filled(manifest: &str) -> Option<String> {
    let mut out = manifest.to_owned();
    for tag in tags::find(manifest).into_iter().rev() {
        let known = |n: &str| ["inputs.parameters.", "workflow.", "pod."].iter().any(|p| n.starts_with(p));
        if tag.name().is_some_and(|n| !known(n)) {
            return None;
        }
        out.replace_range(tag.range, "x");
    }
    (!out.contains("{{")).then_some(out)
}

/// A plugin template names one plugin.
fn plugin(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(plugin) = placed.raw.get("plugin").filter(|p| !p.is_null()) else { return };
    if plugin.as_object().is_none_or(|p| p.len() != 1) {
        let at = format!("{}/plugin", placed.pointer);
        report.error("argo::bad-plugin", &at, "a plugin template is a mapping with one key: the plugin's name");
    }
}

/// What a whole pod can ask for.
pub(super) fn pod_resources(resources: &Value, at: &str, report: &mut Report<'_>) {
    if resources.get("claims").and_then(Value::as_array).is_some_and(|c| !c.is_empty()) {
        let message = "a whole pod has no claims on devices here; containers have";
        report.error("argo::bad-pod-resource", &format!("{at}/claims"), message);
    }
    for field in ["limits", "requests"] {
        for name in resources.get(field).and_then(|r| r.as_object()).into_iter().flat_map(|m| m.keys()) {
            if name != "cpu" && name != "memory" && !name.starts_with("hugepages-") {
                let at = windlass_lang::yaml::child(&format!("{at}/{field}"), name);
                let message = format!("`{name}` is no resource of a whole pod: cpu, memory and hugepages-* are");
                report.error("argo::bad-pod-resource", &at, message);
            }
        }
    }
}

/// Go's durations, and whole seconds.
pub(super) fn is_duration(text: &str) -> bool {
    let text = text.trim_start_matches(['-', '+']);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h", "d"].iter().find(|u| {
            rest[digits..]
                .strip_prefix(**u)
                .is_some_and(|r| r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit()))
        });
        match unit {
            Some(unit) if digits > 0 => rest = &rest[digits + unit.len()..],
            _ => return false,
        }
    }
    !text.is_empty()
}
