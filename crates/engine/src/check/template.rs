//! What is asked of a template before its body is looked at: its kind, its inputs, what only some kinds may have.

use serde_json::Value;
use windlass_model::Template;
use windlass_model::artifact::{ArtifactLocation, HdfsArtifact};
use windlass_model::template::TemplateKind;

use super::names::{self, Form};
use super::scope::Scope;

/// The kind's name.
pub(super) fn kind_word(template: &Template) -> &'static str {
    match template.kind() {
        Some(TemplateKind::Container) => "Container",
        Some(TemplateKind::Script) => "Script",
        Some(TemplateKind::Steps) => "Steps",
        Some(TemplateKind::Dag) => "DAG",
        Some(TemplateKind::Suspend) => "Suspend",
        Some(TemplateKind::Resource) => "Resource",
        Some(TemplateKind::Http) => "HTTP",
        Some(TemplateKind::Plugin) => "Plugin",
        Some(TemplateKind::Data) => "Data",
        Some(TemplateKind::ContainerSet) => "ContainerSet",
        None => "Unknown",
    }
}

/// Whether it does its work itself and calls nobody.
pub(super) fn is_leaf(template: &Template) -> bool {
    template.is_pod() || matches!(template.kind(), Some(TemplateKind::Http | TemplateKind::Plugin))
}

/// Everything before the body; what it takes becomes known.
pub(super) fn check(template: &Template) -> Result<Scope, String> {
    let name = &template.name;
    let kinds = [
        template.container.is_some(),
        template.container_set.is_some(),
        template.steps.is_some(),
        template.script.is_some(),
        template.resource.is_some(),
        template.dag.is_some(),
        template.suspend.is_some(),
        template.data.is_some(),
        template.http.is_some(),
        template.plugin.is_some(),
    ];
    let known = "choose one of: container, containerSet, steps, script, resource, dag, suspend, template, template ref";
    match kinds.iter().filter(|set| **set).count() {
        0 => return Err(format!("templates.{name} template type unspecified. {known}")),
        1 => {}
        _ => return Err(format!("templates.{name} multiple template types specified. {known}")),
    }
    if let Some(resources) = &template.pod_resources {
        if matches!(template.kind(), Some(TemplateKind::Http | TemplateKind::Plugin)) {
            let kind = kind_word(template);
            return Err(format!("templates.{name}.podResources is not supported for {kind} templates"));
        }
        pod_resources(&format!("templates.{name}.podResources"), resources)?;
    }
    let mut scope = inputs(template)?;
    if template.init_containers.iter().any(|c| c["name"].as_str().is_none_or(str::is_empty)) {
        return Err("initContainers must all have container name".to_owned());
    }
    if template.is_pod() {
        scope.add("pod.name");
    }
    if is_leaf(template) {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        for artifact in template.outputs.artifacts.iter().filter(|a| set(&a.path)) {
            scope.add(format!("outputs.artifacts.{}.path", artifact.name));
        }
        for parameter in &template.outputs.parameters {
            if parameter.value_from.as_ref().is_some_and(|f| set(&f.path)) {
                scope.add(format!("outputs.parameters.{}.path", parameter.name));
            }
        }
    }
    Ok(scope)
}

/// What only templates of some kinds may say, once values are put in.
pub(super) fn check_kind(written: &Template, filled: &Template) -> Result<(), String> {
    let kind = match filled.kind() {
        Some(_) => kind_word(filled),
        None => "Unknown",
    };
    if !written.resource_claims.is_empty() && !filled.is_pod() {
        return Err(format!(
            "templates.{}.resourceClaims is not supported for {kind} templates, which do not create a pod",
            written.name
        ));
    }
    if let Some(timeout) = filled.timeout.as_deref().filter(|t| !t.is_empty()) {
        if !is_leaf(filled) {
            return Err(format!("{kind} template doesn't support timeout field"));
        }
        if timeout.parse::<i64>().is_ok() {
            return Err(format!("{} has invalid duration format in timeout", filled.name));
        }
    }
    if filled.pending_timeout.as_deref().is_some_and(|t| !t.is_empty()) && !is_leaf(filled) {
        return Err(format!("{kind} template doesn't support pendingTimeout field"));
    }
    Ok(())
}

fn inputs(template: &Template) -> Result<Scope, String> {
    let (name, inputs) = (&template.name, &template.inputs);
    names::list(inputs.parameters.iter().map(|p| p.name.as_str()), Form::Value)
        .map_err(|wrong| format!("templates.{name}.inputs.parameters{wrong}"))?;
    names::list(inputs.artifacts.iter().map(|a| a.name.as_str()), Form::Value)
        .map_err(|wrong| format!("templates.{name}.inputs.artifacts{wrong}"))?;
    let mut scope = Scope::default();
    for parameter in &inputs.parameters {
        scope.add(format!("inputs.parameters.{}", parameter.name));
    }
    if !inputs.parameters.is_empty() {
        scope.add("inputs.parameters");
    }
    for artifact in &inputs.artifacts {
        let word = format!("inputs.artifacts.{}", artifact.name);
        let at = format!("templates.{name}.{word}");
        let path = artifact.path.as_deref().unwrap_or_default();
        if is_leaf(template) {
            check_path(&artifact.name, path).map_err(|wrong| format!("error in {at}: {wrong}"))?;
            scope.add(format!("{word}.path"));
        } else if !path.is_empty() {
            return Err(format!("{at}.path only valid in container/script templates"));
        }
        if artifact.from.as_deref().is_some_and(|f| !f.is_empty()) {
            return Err(format!("{at}.from not valid in inputs"));
        }
        location(&at, &artifact.location())?;
        scope.add(word);
    }
    Ok(scope)
}

/// An artifact's path is there and stays below where it says it is.
pub(super) fn check_path(name: &str, path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err(format!("Artifact '{name}' did not specify a path"));
    }
    let safe = match path.split_once("/../") {
        Some((before, _)) => before,
        // Argo's pattern takes any two letters for the dots; that does no harm, and is its verdict.
        None => {
            let last_two = path.char_indices().rev().nth(2).filter(|(_, c)| *c == '/');
            last_two.map_or("", |(at, _)| path.get(..path.len() - 3).unwrap_or(&path[..at]))
        }
    };
    let cleaned = clean(path);
    let below = cleaned.strip_prefix(safe).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| !rest.is_empty());
    match safe.is_empty() || below {
        true => Ok(()),
        false => Err(format!(
            "Artifact '{name}' attempted to use a path containing '..'. Directory traversal is not permitted"
        )),
    }
}

/// A path without `.`, `..` and needless slashes.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A place of artifacts that lacks nothing.
pub(super) fn location(at: &str, location: &ArtifactLocation) -> Result<(), String> {
    if location.git.as_ref().is_some_and(|git| git.repo.is_empty()) {
        return Err(format!("{at}.git.repo is required"));
    }
    location.hdfs.as_ref().map_or(Ok(()), |hdfs| hadoop(&format!("{at}.hdfs"), hdfs))
}

fn hadoop(at: &str, hdfs: &HdfsArtifact) -> Result<(), String> {
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let (ticket, keytab) = (hdfs.krb_c_cache_secret.is_some(), hdfs.krb_keytab_secret.is_some());
    let named = !empty(&hdfs.krb_service_principal_name) && hdfs.krb_config_config_map.is_some();
    if hdfs.addresses.is_empty() {
        return Err(format!("{at}.addresses is required"));
    }
    if empty(&hdfs.path) {
        return Err(format!("{at}.path is required"));
    }
    if !hdfs.path.as_deref().unwrap_or_default().starts_with('/') {
        return Err(format!("{at}.path must be a absolute file path"));
    }
    if empty(&hdfs.hdfs_user) && !ticket && !keytab {
        return Err(format!("either {at}.hdfsUser, {at}.krbCCacheSecret or {at}.krbKeytabSecret is required"));
    }
    if keytab && (!named || empty(&hdfs.krb_username) || empty(&hdfs.krb_realm)) {
        return Err(format!(
            "{at}.krbServicePrincipalName, {at}.krbConfigConfigMap, {at}.krbUsername and {at}.krbRealm are required \
             with {at}.krbKeytabSecret"
        ));
    }
    if ticket && !named {
        return Err(format!(
            "{at}.krbServicePrincipalName and {at}.krbConfigConfigMap are required with {at}.krbCCacheSecret"
        ));
    }
    Ok(())
}

/// A whole pod's resources: Kubernetes knows few of them.
pub(super) fn pod_resources(at: &str, resources: &Value) -> Result<(), String> {
    if resources["claims"].as_array().is_some_and(|c| !c.is_empty()) {
        return Err(format!("{at}.claims is not supported for pod-level resources"));
    }
    let names = ["limits", "requests"].into_iter().filter_map(|field| resources[field].as_object());
    for name in names.flat_map(|map| map.keys()) {
        if name != "cpu" && name != "memory" && !name.starts_with("hugepages-") {
            return Err(format!(
                "{at}: \"{name}\" is not a valid pod-level resource, only cpu, memory and hugepages-* are supported"
            ));
        }
    }
    Ok(())
}
