//! Rule: containers have images, names that are free, and mounts that do not collide with artifacts.

use serde_json::Value;

use super::object::{Object, Placed};
use super::report::Report;

const RESERVED: [&str; 3] = ["wait", "init", "supervisor"];

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
            image(container, &format!("{at}/{field}"), report);
        }
        mounts(placed, container, &format!("{at}/{field}"), report);
    }
    for (field, all) in [("initContainers", &template.init_containers), ("sidecars", &template.sidecars)] {
        for (i, container) in all.iter().enumerate() {
            let at = format!("{at}/{field}/{i}");
            match name(container) {
                "" => {
                    report.error("argo::missing-name", &at, "this container needs a name");
                }
                taken if RESERVED.contains(&taken) || taken == "main" => reserved(taken, &at, report),
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
            taken if RESERVED.contains(&taken) => reserved(taken, &at, report),
            name if names[..i].contains(&name) => {
                let message = format!("there are two containers named `{name}`");
                report.error("argo::duplicate-name", &format!("{at}/name"), message);
            }
            _ => {}
        }
        image(container, &at, report);
        for (d, needed) in container.get("dependencies").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let needed = needed.as_str().unwrap_or("");
            if !names.contains(&needed) {
                let at = format!("{at}/dependencies/{d}");
                report.error("argo::unknown-dependency", &at, format!("there is no container `{needed}`"));
                report.suggest(needed, names.iter().copied());
            }
        }
    }
}

fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or("")
}

fn reserved(name: &str, at: &str, report: &mut Report<'_>) {
    let message = format!("the container name `{name}` is taken by the engine itself");
    report.error("argo::reserved-name", &format!("{at}/name"), message);
}

fn image(container: &Value, at: &str, report: &mut Report<'_>) {
    if container.get("image").and_then(Value::as_str).unwrap_or("").is_empty() {
        report.error("argo::missing-image", at, "this container needs an `image`");
    }
}

/// An artifact cannot be put where a volume is mounted.
fn mounts(placed: &Placed<'_>, container: &Value, at: &str, report: &mut Report<'_>) {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    let paths: Vec<&str> = mounts.filter_map(|m| m.get("mountPath").and_then(Value::as_str)).collect();
    for (i, artifact) in placed.template.inputs.artifacts.iter().enumerate() {
        let place = format!("{}/inputs/artifacts/{i}", placed.pointer);
        let Some(path) = artifact.path.as_deref().filter(|p| !p.is_empty()) else {
            if placed.template.container.is_some() || placed.template.script.is_some() {
                report.error("argo::missing-path", &place, format!("the artifact `{}` needs a `path`", artifact.name));
            }
            continue;
        };
        if let Some(m) = paths.iter().position(|p| p.trim_end_matches('/') == path.trim_end_matches('/')) {
            let message = format!("`{path}` is the place of a volume; an artifact needs one of its own");
            report.error("argo::path-taken", &format!("{place}/path"), message);
            report.also(&format!("{at}/volumeMounts/{m}/mountPath"), "mounted here");
        }
    }
}
