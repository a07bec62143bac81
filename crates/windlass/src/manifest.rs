//! Files of objects: read with their places, linted, changed by the flags of `submit` and `run`. Reads files and stdin;
//! must never talk to a cluster.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use windlass_lang::yaml::Document;
use windlass_lang::{Diagnostic, Sources, yaml};
use windlass_model::labels;

use crate::cli::SubmitOptions;

/// The texts of some files and the documents in them.
#[derive(Default)]
pub(crate) struct Manifests {
    pub(crate) sources: Sources,
    pub(crate) documents: Vec<Document>,
    pub(crate) faults: Vec<Diagnostic>,
}

impl Manifests {
    /// Reads files, and stdin for `-`. What is wrong with their YAML is in `faults`.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for path in paths {
            let (name, text) = text_of(path)?;
            let id = all.sources.add(name, text);
            let loaded = yaml::load(&all.sources, id);
            all.faults.extend(loaded.diagnostics);
            for document in loaded.documents {
                let count = match document.value["items"].as_array() {
                    Some(items) if document.value["kind"].as_str().is_some_and(|k| k.ends_with("List")) => items.len(),
                    _ => {
                        all.documents.push(document);
                        continue;
                    }
                };
                all.documents.extend((0..count).filter_map(|i| document.part(&format!("/items/{i}"))));
            }
        }
        Ok(all)
    }
}

pub(crate) fn text_of(path: &Path) -> Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("<stdin>".to_owned(), text));
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        anyhow::anyhow!("{} is not UTF-8 text: see line {line}", path.display())
    })?;
    Ok((path.display().to_string(), text))
}

/// All manifests beneath files and directories (`*.yaml`, `*.yml`, `*.json`), in a stable order.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inner: Vec<PathBuf> =
                std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
            inner.sort();
            let wanted =
                |p: &PathBuf| p.is_dir() || p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            inner.retain(wanted);
            found.extend(find(&inner)?);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// The two sides of `KEY=VALUE`.
pub(crate) fn pair<'a>(text: &'a str, flag: &str) -> Result<(&'a str, &'a str)> {
    text.split_once('=').with_context(|| format!("{flag} {text:?} has no `=`: write {flag} KEY=VALUE"))
}

/// Makes an object that instance's.
pub(crate) fn label_instance(object: &mut Value, id: &str) {
    child(&mut object["metadata"], "labels").insert(labels::INSTANCE.to_owned(), id.into());
}

/// Puts the flags' parameters, annotations, names into a Workflow.
pub(crate) fn change(workflow: &mut Value, options: &SubmitOptions) -> Result<()> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    if let Some(path) = &options.parameter_file {
        let file = Manifests::read(std::slice::from_ref(path))?;
        if let Some(fault) = file.faults.first() {
            bail!("{} is not YAML: {}", path.display(), fault.message);
        }
        let Some(Value::Object(map)) = file.documents.first().map(|d| &d.value) else {
            bail!("{} is not a map of parameters", path.display());
        };
        for (k, v) in map {
            parameters.push((k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
        }
    }
    for text in &options.parameters {
        let (k, v) = pair(text, "-p")?;
        parameters.push((k.to_owned(), v.to_owned()));
    }
    if !workflow["spec"].is_object() || !workflow["metadata"].is_object() {
        bail!("this Workflow has no metadata or no spec");
    }
    for (name, value) in parameters {
        let arguments = child(&mut workflow["spec"], "arguments");
        let list = arguments.entry("parameters").or_insert_with(|| json!([]));
        if list.is_null() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else { bail!("spec.arguments.parameters is not a list") };
        match list.iter_mut().find(|p| p["name"] == name.as_str()) {
            Some(old) => *old = json!({"name": name, "value": value}),
            None => list.push(json!({"name": name, "value": value})),
        }
    }
    for text in &options.annotations {
        let (k, v) = pair(text, "--annotation")?;
        child(&mut workflow["metadata"], "annotations").insert(k.to_owned(), v.into());
    }
    for text in options.labels.iter().flat_map(|l| l.split(',')).filter(|l| !l.is_empty()) {
        let (k, v) = pair(text, "-l")?;
        child(&mut workflow["metadata"], "labels").insert(k.to_owned(), v.into());
    }
    if let Some(id) = &options.instanceid {
        label_instance(workflow, id);
    }
    if let Some(name) = &options.name {
        workflow["metadata"]["name"] = json!(name);
    }
    if let Some(prefix) = &options.generate_name {
        workflow["metadata"]["generateName"] = json!(prefix);
        if options.name.is_none()
            && let Some(meta) = workflow["metadata"].as_object_mut()
        {
            meta.remove("name");
        }
    }
    if let Some(entrypoint) = &options.entrypoint {
        workflow["spec"]["entrypoint"] = json!(entrypoint);
    }
    if let Some(account) = &options.serviceaccount {
        workflow["spec"]["serviceAccountName"] = json!(account);
    }
    Ok(())
}

/// The map under `key`, made when it is not there.
fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent[key].is_object() {
        parent[key] = json!({});
    }
    parent[key].as_object_mut().expect("just made an object")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn flags_replace_parameters_and_add_annotations() {
        let mut wf = json!({"metadata": {"generateName": "a-"}, "spec": {"arguments": {"parameters": [
            {"name": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}}});
        let options = SubmitOptions {
            parameters: vec!["x=1=2".into(), "y=".into()],
            annotations: vec!["k8s-webhook-handler.io/ref=refs/heads/main".into()],
            labels: Some("a=b,c=d".into()),
            ..Default::default()
        };
        change(&mut wf, &options).unwrap();
        assert_eq!(
            wf["spec"]["arguments"]["parameters"],
            json!([{"name": "x", "value": "1=2"}, {"name": "y", "value": ""}])
        );
        assert_eq!(wf["metadata"]["annotations"]["k8s-webhook-handler.io/ref"], "refs/heads/main");
        assert_eq!(wf["metadata"]["labels"], json!({"a": "b", "c": "d"}));
        let wrong = SubmitOptions { parameters: vec!["novalue".into()], ..Default::default() };
        assert!(change(&mut wf, &wrong).unwrap_err().to_string().contains("KEY=VALUE"));
    }
}
