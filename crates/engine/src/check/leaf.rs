//! The body of a template that does its work itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;
use windlass_model::Template;
use windlass_model::scalar::IntOrString;
use windlass_model::template::{ContainerSetTemplate, ResourceTemplate};

use super::base::{Base, Kind};
use super::fill::PLACEHOLDER;
use super::names::{self, Form};
use super::scope::View;

static EXPRESSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{\s*=\s*(.+?)\s*\}\}").expect("invariant: a constant pattern"));

/// A filled template, its text, what is known in it, and where it stands.
pub(super) fn check(template: &Template, text: &str, view: &View<'_>, base: &Base<'_>) -> Result<(), String> {
    let name = &template.name;
    view.resolve(text).map_err(|wrong| format!("templates.{name}: {wrong}"))?;
    let at = format!("templates.{name}");
    if let Some(container) = &template.container {
        mounts(&at, container, template)?;
        image(&format!("{at}.container"), container, base, |defaults| defaults.container.as_ref())?;
    }
    if let Some(set) = &template.container_set {
        container_set(set).map_err(|wrong| format!("{at}.containerSet.{wrong}"))?;
        let (inputs, outputs) = (&template.inputs, &template.outputs);
        let moves = !inputs.artifacts.is_empty() || !outputs.parameters.is_empty() || !outputs.artifacts.is_empty();
        if moves && !template.has_main_container() {
            return Err(format!(
                "{at}.containerSet.containers must have a container named \"main\" for input or output"
            ));
        }
        reserved(&set.containers).map_err(|wrong| format!("{at}.containerSet.containers: {wrong}"))?;
    }
    reserved(&template.sidecars).map_err(|wrong| format!("{at}.sidecars: {wrong}"))?;
    if let Some(resource) = &template.resource {
        check_resource(&at, resource, template)?;
    }
    if let Some(script) = &template.script {
        image(&format!("{at}.script"), script, base, |defaults| defaults.script.as_ref())?;
    }
    if let Some(seconds) = &template.active_deadline_seconds {
        let wrong = match seconds {
            IntOrString::Int(n) => *n < 0,
            IntOrString::String(text) => match text.parse::<i64>() {
                Ok(n) => n < 0,
                Err(_) => !((text.starts_with("{{") && text.ends_with("}}")) || text.starts_with(PLACEHOLDER)),
            },
        };
        if wrong {
            return Err(format!("{at}.activeDeadlineSeconds must be a positive integer > 0 or an argo variable"));
        }
    }
    match template.parallelism {
        Some(_) => Err(format!("{at}.parallelism is only valid for steps and dag templates")),
        None => Ok(()),
    }
}

fn word<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// No two things at one path of the container.
fn mounts(at: &str, container: &Value, template: &Template) -> Result<(), String> {
    let mut taken: HashMap<&str, String> = HashMap::new();
    for (i, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let path = word(mount, "mountPath");
        if let Some(by) = taken.get(path) {
            return Err(format!("{at}.container.volumeMounts[{i}].mountPath '{path}' already mounted in {by}"));
        }
        taken.insert(path, format!("container.volumeMounts.{}", word(mount, "name")));
    }
    for (i, artifact) in template.inputs.artifacts.iter().enumerate() {
        let path = artifact.path.as_deref().unwrap_or_default();
        if let Some(by) = taken.get(path) {
            return Err(format!("{at}.inputs.artifacts[{i}].path '{path}' already mounted in {by}"));
        }
        taken.insert(path, format!("inputs.artifacts.{}", artifact.name));
    }
    Ok(())
}

fn image(at: &str, container: &Value, base: &Base<'_>, of: impl Fn(&Template) -> Option<&Value>) -> Result<(), String> {
    let defaults = base.defaults().filter(|_| base.kind != Kind::Cluster);
    let set = |container: &Value| !word(container, "image").is_empty();
    match set(container) || defaults.and_then(of).is_some_and(set) {
        true => Ok(()),
        false => Err(format!("{at}.image may not be empty")),
    }
}

/// Names that the executor's own containers have.
fn reserved(containers: &[Value]) -> Result<(), String> {
    let taken = |name: &str| matches!(name, "wait" | "supervisor") || name.starts_with("artifact-plugin-");
    match containers.iter().map(|c| word(c, "name")).find(|name| taken(name)) {
        Some(name) => Err(format!("\"{name}\" is a reserved Argo container name")),
        None => Ok(()),
    }
}

fn container_set(set: &ContainerSetTemplate) -> Result<(), String> {
    if set.containers.is_empty() {
        return Err("containers must have at least one container".to_owned());
    }
    names::list(set.containers.iter().map(|c| word(c, "name")), Form::Field)
        .map_err(|wrong| format!("containers{wrong}"))?;
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for (i, mount) in set.volume_mounts.iter().enumerate() {
        let path = word(mount, "mountPath");
        if let Some(by) = taken.insert(path, word(mount, "name")) {
            return Err(format!("volumeMounts[{i}].mountPath '{path}' already mounted in volumeMounts.{by}"));
        }
    }
    let needs = |c: &'_ Value| -> Vec<String> {
        let all = c["dependencies"].as_array().into_iter().flatten();
        all.map(|d| d.as_str().unwrap_or_default().to_owned()).collect()
    };
    let graph: BTreeMap<&str, Vec<String>> = set.containers.iter().map(|c| (word(c, "name"), needs(c))).collect();
    for container in &set.containers {
        let name = word(container, "name");
        if let Some(unknown) = graph[name].iter().find(|d| !graph.contains_key(d.as_str())) {
            return Err(format!("containers.{name} dependency '{unknown}' not defined"));
        }
    }
    circle(&graph).map_or(Ok(()), |circle| Err(format!("containers dependency cycle detected: {circle}")))
}

/// A circle of dependencies, as it is found from the first name on.
fn circle(graph: &BTreeMap<&str, Vec<String>>) -> Option<String> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in graph.keys() {
        // Where we are, and the next of its needs to look at.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.last().copied() {
            let need = graph.get(name).filter(|_| !done.contains(name)).and_then(|needs| needs.get(next));
            let Some(need) = need else {
                done.insert(name);
                path.pop();
                continue;
            };
            if let Some(top) = path.last_mut() {
                top.1 += 1;
            }
            // What the walk began with is not on the path it tells.
            if path[1..].iter().any(|(name, _)| name == need) {
                let names: Vec<&str> = path[1..].iter().map(|(name, _)| *name).collect();
                return Some(format!("{}->{need}", names.join("->")));
            }
            path.push((need, 0));
        }
    }
    None
}

fn check_resource(at: &str, resource: &ResourceTemplate, template: &Template) -> Result<(), String> {
    let action = resource.action.as_str();
    let known = ["get", "create", "apply", "delete", "replace", "patch"];
    if !action.starts_with(PLACEHOLDER) && !known.contains(&action) {
        return Err(format!("{at}.resource.action must be one of: {}", known.join(", ")));
    }
    if matches!(action, "delete" | "get") {
        return Ok(());
    }
    let manifest = resource.manifest.as_deref().filter(|m| !m.is_empty());
    match (manifest, &resource.manifest_from) {
        (None, None) => {
            return Err(format!("either {at}.resource.manifest or {at}.resource.manifestFrom must be specified"));
        }
        (Some(_), Some(_)) => {
            return Err(
                "shouldn't have both `manifest` and `manifestFrom` specified in `Manifest` for resource template"
                    .to_owned(),
            );
        }
        _ => {}
    }
    let from = resource.manifest_from.as_ref().and_then(|from| from.artifact.as_ref());
    let inputs: HashSet<&str> = template.inputs.artifacts.iter().map(|a| a.name.as_str()).collect();
    if let Some(from) = from.filter(|from| !inputs.contains(from.name.as_str())) {
        return Err(format!("artifact {} in `manifestFrom` refer to a non-exist artifact", from.name));
    }
    let Some(manifest) = manifest.filter(|m| !m.starts_with(PLACEHOLDER)) else { return Ok(()) };
    let filled = EXPRESSION.replace_all(manifest, format!("{PLACEHOLDER}0"));
    // A key that stands there twice is no fault of the form.
    let faults = ["yaml::syntax", "yaml::unknown-alias", "yaml::recursive-alias", "yaml::bad-key"];
    let loaded = windlass_lang::yaml::load_str(first_document(&filled));
    match loaded.diagnostics.iter().any(|d| faults.contains(&d.code.as_ref())) {
        true => Err(format!("{at}.resource.manifest must be a valid yaml")),
        false => Ok(()),
    }
}

/// The first document of a text: nobody reads the others.
fn first_document(text: &str) -> &str {
    let mut begun = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if begun && (bare == "---" || line.starts_with("--- ") || bare == "...") {
            return &text[..at];
        }
        begun |= !bare.is_empty() && bare != "---" && !bare.starts_with('#');
        at += line.len();
    }
    text
}
