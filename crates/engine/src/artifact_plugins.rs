//! Artifact plugins: drivers that the controller's configuration names (`artifactDrivers`), each an image. A pod whose
//! artifacts one of them keeps has its container, which starts before everything else and ends after everything else (an
//! init container that goes on), and a volume with its socket. Who moves artifacts speaks to it there. Reads and writes JSON
//! only; which artifacts a pod has is the task's to say.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use windlass_lang::suggest::nearest;
use windlass_model::places::{ARTIFACT_PLUGIN, ARTIFACT_SOCKET, artifact_plugin_dir};
use windlass_model::task::Task;
use windlass_model::workflow::WorkflowSpec;
use windlass_model::{Artifact, ArtifactLocation};

/// One plugin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArtifactDriver {
    /// Its name in artifacts.
    pub name: String,
    /// Its image, which runs with the socket's path as its one argument.
    pub image: String,
    /// How long it is waited for, where the artifact does not say it.
    pub timeout_seconds: Option<i32>,
}

/// Reads the setting.
pub(crate) fn read(value: &Value) -> Result<Vec<ArtifactDriver>, String> {
    let list = value.as_array().ok_or("it is a list")?;
    let mut drivers = Vec::new();
    for entry in list {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let timeout_seconds = entry["connectionTimeoutSeconds"].as_i64().and_then(|s| i32::try_from(s).ok());
        let driver = ArtifactDriver {
            name: text("name"),
            image: text("image"),
            timeout_seconds: timeout_seconds.filter(|s| *s > 0),
        };
        for (field, text) in [("name", &driver.name), ("image", &driver.image)] {
            if text.is_empty() {
                return Err(format!("each has a {field}, and one has not"));
            }
        }
        // Volumes and containers are called by it.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !driver.name.chars().all(plain)
            || driver.name.ends_with('-')
            || ARTIFACT_PLUGIN.len() + driver.name.len() > 63
        {
            return Err(format!("{}: a name is at most 47 of a-z, 0-9 and '-'", driver.name));
        }
        drivers.push(driver);
    }
    Ok(drivers)
}

/// The plugins of these names, each once; an unknown one is told in Argo's words.
fn known<'a>(names: &BTreeSet<String>, drivers: &'a [ArtifactDriver]) -> Result<Vec<&'a ArtifactDriver>, String> {
    let find = |name: &String| {
        drivers.iter().find(|d| d.name == *name).ok_or_else(|| {
            let near = nearest(name, drivers.iter().map(|d| d.name.as_str()));
            let help = match (near, drivers.is_empty()) {
                (Some(near), _) => format!("did you mean {near}?"),
                (None, true) => "name it and its image in artifactDrivers of workflow-controller-configmap".to_owned(),
                (None, false) => {
                    let names: Vec<&str> = drivers.iter().map(|d| d.name.as_str()).collect();
                    format!("artifactDrivers of workflow-controller-configmap has {}", names.join(", "))
                }
            };
            format!("artifact driver {name} not found: {help}")
        })
    };
    names.iter().map(find).collect()
}

/// Puts the plugins of the task's artifacts into the pod, and their timeouts into the artifacts.
pub(crate) fn add(spec: &mut Map<String, Value>, task: &mut Task, drivers: &[ArtifactDriver]) -> Result<(), String> {
    let names: BTreeSet<String> =
        task.plugins_before().into_iter().chain(task.plugins_after()).map(str::to_owned).collect();
    let known = known(&names, drivers)?;
    task.artifacts_mut().for_each(|artifact| complete(artifact, &known));
    into_pod(spec, &known);
    Ok(())
}

/// The plugins of artifacts that a pod is to remove; their timeouts go into the artifacts.
pub(crate) fn complete_all<'a, 'd>(
    artifacts: impl Iterator<Item = &'a mut Artifact>,
    drivers: &'d [ArtifactDriver],
) -> Result<Vec<&'d ArtifactDriver>, String> {
    let artifacts: Vec<&mut Artifact> = artifacts.collect();
    let names = artifacts.iter().filter_map(|a| a.plugin.as_ref()).map(|plugin| plugin.name.clone()).collect();
    let known = known(&names, drivers)?;
    artifacts.into_iter().for_each(|artifact| complete(artifact, &known));
    Ok(known)
}

fn complete(artifact: &mut Artifact, drivers: &[&ArtifactDriver]) {
    let Some(plugin) = &mut artifact.plugin else { return };
    if plugin.connection_timeout_seconds.is_none_or(|s| s == 0) {
        let driver = drivers.iter().find(|d| d.name == plugin.name);
        plugin.connection_timeout_seconds = driver.and_then(|d| d.timeout_seconds);
    }
}

/// Takes back what [`add`] has completed, where the repository does not say it: it is not about this artifact.
pub(crate) fn forget_timeout(location: &mut ArtifactLocation, config: &crate::Config) {
    let Some(plugin) = &mut location.plugin else { return };
    let of_repository = config.artifact_repository.plugin.as_ref().filter(|p| p.name == plugin.name);
    let of_driver = config.artifact_drivers.iter().find(|d| d.name == plugin.name).and_then(|d| d.timeout_seconds);
    if let Some(repository) = of_repository
        && plugin.connection_timeout_seconds == of_driver
    {
        plugin.connection_timeout_seconds = repository.connection_timeout_seconds;
    }
}

/// Puts plugins into a pod's spec.
pub(crate) fn into_pod(spec: &mut Map<String, Value>, drivers: &[&ArtifactDriver]) {
    if drivers.is_empty() {
        return;
    }
    let volumes = drivers.iter().map(|d| json!({"name": format!("{ARTIFACT_PLUGIN}{}", d.name), "emptyDir": {}}));
    if let Value::Array(all) = spec.entry("volumes").or_insert_with(|| json!([])) {
        all.extend(volumes);
    }
    let containers = drivers.iter().map(|driver| {
        let (name, directory) = (format!("{ARTIFACT_PLUGIN}{}", driver.name), artifact_plugin_dir(&driver.name));
        json!({
            "name": name,
            "image": driver.image,
            // The image's own command, as in Argo.
            "args": [format!("{directory}/{ARTIFACT_SOCKET}")],
            "restartPolicy": "Always",
            "volumeMounts": [{"name": name, "mountPath": directory}],
        })
    });
    if let Value::Array(all) = spec.entry("initContainers").or_insert_with(|| json!([])) {
        all.splice(0..0, containers);
    }
}

/// The mount of a plugin's socket, of who moves artifacts.
pub(crate) fn mount(name: &str) -> Value {
    json!({"name": format!("{ARTIFACT_PLUGIN}{name}"), "mountPath": artifact_plugin_dir(name)})
}

/// Whether a container is a plugin's.
pub(crate) fn is_plugin(container: &Value) -> bool {
    container["name"].as_str().is_some_and(|name| name.starts_with(ARTIFACT_PLUGIN))
}

/// Whether a spec has an artifact of a plugin in its own text.
pub fn are_named(spec: &WorkflowSpec) -> bool {
    let templates = || spec.templates.iter();
    let artifacts = templates().flat_map(|t| t.inputs.artifacts.iter().chain(&t.outputs.artifacts));
    artifacts.chain(&spec.arguments.artifacts).any(|a| a.plugin.is_some())
        || templates().any(|t| t.archive_location.as_ref().is_some_and(|l| l.plugin.is_some()))
        || templates().any(|t| t.data.is_some())
}
