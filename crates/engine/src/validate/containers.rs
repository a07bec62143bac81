//! Rule: containers have images, names that are free, and mounts that do not collide with artifacts; those of a set wait for
//! each other in no circle.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use windlass_lang::Severity;
use windlass_model::template::ContainerSetTemplate;

use super::object::{Object, Placed};
use super::report::Report;

/// Containers that Argo puts beside those of a step.
fn is_taken(name: &str) -> bool {
    matches!(name, "wait" | "supervisor") || name.starts_with("artifact-plugin-")
}

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, report: &mut Report<'_>) {
    let (template, at) = (placed.template, placed.pointer.as_str());
    let defaults = object.spec.as_ref().and_then(|s| s.template_defaults.as_deref());
    let brought = |field| {
        let default = defaults.and_then(|d| if field == "script" { d.script.as_ref() } else { d.container.as_ref() });
        default.and_then(|c| c.get("image")).is_some()
    };
    for (field, container) in [("container", &template.container), ("script", &template.script)] {
        let Some(container) = container else { continue };
        if !brought(field) {
            image(container, &format!("{at}/{field}"), Severity::Error, report);
        }
        mounts(placed, container, &format!("{at}/{field}"), report);
    }
    for (field, all) in [("initContainers", &template.init_containers), ("sidecars", &template.sidecars)] {
        for (i, container) in all.iter().enumerate() {
            let at = format!("{at}/{field}/{i}");
            let first = field == "initContainers";
            match name(container) {
                "" => {
                    let severity = if first { Severity::Error } else { Severity::Warning };
                    report.add(severity, "argo::missing-name", &at, "this container needs a name");
                }
                taken if is_taken(taken) && !first => reserved(taken, Severity::Error, &at, report),
                // The API server refuses such a pod.
                taken if is_taken(taken) || matches!(taken, "main" | "init") => {
                    reserved(taken, Severity::Warning, &at, report);
                }
                _ => {}
            }
        }
    }
    let Some(set) = &template.container_set else { return };
    let names: Vec<&str> = set.containers.iter().map(name).collect();
    if set.containers.is_empty() {
        report.error("argo::empty-container-set", &format!("{at}/containerSet"), "a container set needs containers");
    }
    let takes = !template.inputs.artifacts.is_empty() || !template.outputs.is_empty();
    if takes && !names.is_empty() && !names.contains(&"main") {
        let message = "inputs and outputs of a container set belong to its container `main`, and there is none";
        report.error("argo::missing-main", &format!("{at}/containerSet/containers"), message);
    }
    for (i, container) in set.containers.iter().enumerate() {
        let at = format!("{at}/containerSet/containers/{i}");
        match names[i] {
            "" => {
                report.error("argo::missing-name", &at, "this container needs a name");
            }
            taken if is_taken(taken) => reserved(taken, Severity::Error, &at, report),
            bad if !super::names::is_name(bad) => {
                let message = format!("`{bad}` is no name for a container: letters, digits and `-` only");
                report.error("argo::bad-name", &format!("{at}/name"), message);
            }
            "init" => reserved("init", Severity::Warning, &at, report),
            name if names[..i].contains(&name) => {
                let message = format!("there are two containers named `{name}`");
                report.error("argo::duplicate-name", &format!("{at}/name"), message);
            }
            _ => {}
        }
        image(container, &at, Severity::Warning, report);
        for (d, needed) in container.get("dependencies").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let needed = needed.as_str().unwrap_or("");
            if !names.contains(&needed) {
                let at = format!("{at}/dependencies/{d}");
                report.error("argo::unknown-dependency", &at, format!("there is no container `{needed}`"));
                report.suggest(needed, names.iter().copied());
            }
        }
    }
    set_as_a_whole(set, &names, &format!("{at}/containerSet"), report);
}

/// No circle, mounts that do not collide, tries that can be counted.
fn set_as_a_whole(set: &ContainerSetTemplate, names: &[&str], at: &str, report: &mut Report<'_>) {
    let needed = |container: &Value| -> BTreeSet<String> {
        let all = container.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let edges: BTreeMap<&str, BTreeSet<String>> = set.containers.iter().map(|c| (name(c), needed(c))).collect();
    let ancestors = super::graph::Ancestors::of(&edges);
    if let Some(i) = names.iter().position(|n| ancestors.has(n, n)) {
        let message = format!("the container `{}` waits for itself", names[i]);
        report.error("argo::circle", &format!("{at}/containers/{i}/dependencies"), message);
    }
    let paths: Vec<&str> =
        set.volume_mounts.iter().map(|m| m.get("mountPath").and_then(Value::as_str).unwrap_or("")).collect();
    for (i, path) in paths.iter().enumerate() {
        if let Some(first) = paths[..i].iter().position(|p| p == path) {
            let place = format!("{at}/volumeMounts/{i}/mountPath");
            report.error("argo::path-taken", &place, format!("`{path}` is mounted twice"));
            report.also(&format!("{at}/volumeMounts/{first}/mountPath"), "the first time");
        }
    }
    let Some(retry) = &set.retry_strategy else { return };
    let retries = retry.retries.as_ref().map(ToString::to_string).unwrap_or_default();
    if !retries.contains("{{") && retries.parse::<u32>().is_err() {
        let message = "`retries` must be a whole number: how often each command is tried in all";
        report.warning("argo::bad-retries", &format!("{at}/retryStrategy"), message);
    }
    let duration = retry.duration.as_deref().filter(|d| !d.is_empty() && !d.contains("{{"));
    if let Some(duration) = duration.filter(|d| !super::kinds::is_duration(d) || d.starts_with('-')) {
        let message = format!("`{duration}` is no duration: `300ms`, `90s`, `1h30m` and the like are");
        report.warning("argo::bad-duration", &format!("{at}/retryStrategy/duration"), message);
    }
}

fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or("")
}

fn reserved(name: &str, severity: Severity, at: &str, report: &mut Report<'_>) {
    let message = format!("the container name `{name}` is taken by the engine itself");
    report.add(severity, "argo::reserved-name", &format!("{at}/name"), message);
}

fn image(container: &Value, at: &str, severity: Severity, report: &mut Report<'_>) {
    if container.get("image").and_then(Value::as_str).unwrap_or("").is_empty() {
        report.add(severity, "argo::missing-image", at, "this container needs an `image`");
    }
}

/// An artifact cannot be put where a volume is mounted.
fn mounts(placed: &Placed<'_>, container: &Value, at: &str, report: &mut Report<'_>) {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    let paths: Vec<&str> = mounts.filter_map(|m| m.get("mountPath").and_then(Value::as_str)).collect();
    // Argo looks at containers, to the letter; what else collides is seen when the pod is made.
    let severity = |same: bool| match same && placed.template.container.is_some() {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    for (i, path) in paths.iter().enumerate() {
        if let Some(first) = paths[..i].iter().position(|p| bare(p) == bare(path)) {
            let place = format!("{at}/volumeMounts/{i}/mountPath");
            let message = format!("`{path}` is mounted twice");
            report.add(severity(paths[first] == *path), "argo::path-taken", &place, message);
            report.also(&format!("{at}/volumeMounts/{first}/mountPath"), "the first time");
        }
    }
    for (i, artifact) in placed.template.inputs.artifacts.iter().enumerate() {
        let place = format!("{}/inputs/artifacts/{i}", placed.pointer);
        let Some(path) = artifact.path.as_deref().filter(|p| !p.is_empty()) else { continue };
        if let Some(m) = paths.iter().position(|p| bare(p) == bare(path)) {
            let message = format!("`{path}` is the place of a volume; an artifact needs one of its own");
            report.add(severity(paths[m] == path), "argo::path-taken", &format!("{place}/path"), message);
            report.also(&format!("{at}/volumeMounts/{m}/mountPath"), "mounted here");
        }
    }
}
