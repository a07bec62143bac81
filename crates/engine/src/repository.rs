//! Which artifact repository a run uses, out of the text of ConfigMaps. It only reads text: which ConfigMaps are looked
//! at, and where, is the caller's business.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windlass_lang::yaml;
use windlass_model::artifact::{ArtifactLocation, LocalArtifact};

use crate::pod_form::ImageCommand;

/// Where artifacts go, and under which keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// Everything but the key.
    pub location: ArtifactLocation,
    /// The form of keys; the usual one where it is not said.
    pub key_format: Option<String>,
    /// As it was written, for the status.
    written: Value,
}

/// What `workflow-controller-configmap` says of interest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllerConfig {
    /// The default repository.
    pub repository: Option<Repository>,
    /// Keys that mean something to Argo's controller and nothing here.
    pub ignored: Vec<String>,
}

impl Repository {
    /// Reads one repository, as `artifact-repositories` and the controller's configuration have it.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::of(document(text)?)
    }

    /// The repository that a status was written with.
    pub fn of_status(reference: &Value) -> Option<Self> {
        Self::of(reference.get("artifactRepository")?.clone()).ok()
    }

    fn of(value: Value) -> Result<Self, String> {
        let mut location: ArtifactLocation =
            serde_json::from_value(value.clone()).map_err(|e| format!("it is no artifact repository: {e}"))?;
        let mut key_format = None;
        if let Some(s3) = &mut location.s3 {
            let prefix = value.pointer("/s3/keyPrefix").and_then(Value::as_str).filter(|p| !p.is_empty());
            // The older spelling: a directory before the usual key.
            let older = prefix.map(|p| format!("{}/{{{{workflow.name}}}}/{{{{pod.name}}}}", p.trim_end_matches('/')));
            key_format = s3.key_format.take().filter(|f| !f.is_empty()).or(older);
            for (field, text) in [("endpoint", &s3.endpoint), ("bucket", &s3.bucket)] {
                if text.as_deref().is_none_or(str::is_empty) {
                    return Err(format!("s3.{field} is required"));
                }
            }
        }
        if !location.has_driver() {
            // Only `archiveLogs`, say: the built-in store.
            location.local = Some(LocalArtifact::default());
        }
        Ok(Self { location, key_format, written: value })
    }

    /// What the status tells of it: `reference` says where it was found.
    pub fn status(&self, reference: Value) -> Value {
        let mut status = reference;
        status["artifactRepository"] = self.written.clone();
        status
    }

    /// What the status tells of a default.
    pub fn default_status(&self) -> Value {
        self.status(json!({"default": true}))
    }
}

/// Reads the data of `workflow-controller-configmap`: a key for each setting, or all of them as the text of `config`.
pub fn controller_config(data: &BTreeMap<String, String>) -> Result<ControllerConfig, String> {
    let mut settings: BTreeMap<String, Value> = BTreeMap::new();
    for (key, text) in data {
        if key == "config" {
            let Value::Object(inner) = document(text).map_err(|e| format!("config: {e}"))? else {
                return Err("config: it is a map of settings".to_owned());
            };
            settings.extend(inner);
        } else if key == "artifactRepository" {
            settings.insert(key.clone(), document(text).map_err(|e| format!("artifactRepository: {e}"))?);
        } else {
            settings.insert(key.clone(), Value::Null);
        }
    }
    let repository = match settings.remove("artifactRepository") {
        None | Some(Value::Null) => None,
        Some(value) => Some(Repository::of(value).map_err(|e| format!("artifactRepository: {e}"))?),
    };
    settings.remove("images");
    Ok(ControllerConfig { repository, ignored: settings.into_keys().collect() })
}

/// The `images` of `workflow-controller-configmap`: what images run when nothing is said. What cannot be read is left out;
/// [`controller_config`] tells faults.
pub fn image_commands(data: &BTreeMap<String, String>) -> BTreeMap<String, ImageCommand> {
    let inner = data.get("config").and_then(|text| document(text).ok()).map(|config| config["images"].clone());
    let flat = data.get("images").and_then(|text| document(text).ok());
    let words = |value: &Value| serde_json::from_value(value.clone()).unwrap_or_default();
    let images = [flat, inner].into_iter().flatten().filter_map(|images| images.as_object().cloned()).flatten();
    images
        .map(|(image, said)| (image, ImageCommand { entrypoint: words(&said["entrypoint"]), cmd: words(&said["cmd"]) }))
        .collect()
}

fn document(text: &str) -> Result<Value, String> {
    let mut loaded = yaml::load_str(text);
    if let Some(fault) = loaded.diagnostics.iter().find(|d| d.is_error()) {
        return Err(format!("it is not YAML: {}", fault.message));
    }
    match loaded.documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(loaded.documents.remove(0).value),
        more => Err(format!("it holds {more} documents instead of one")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const S3: &str = "archiveLogs: true\ns3:\n  endpoint: minio:9000\n  bucket: b\n  insecure: true\n  keyFormat: x/{{pod.name}}\n  accessKeySecret: {name: minio, key: root-user}\n";

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn flat_keys_and_one_config_say_the_same() {
        let flat = controller_config(&data(&[("artifactRepository", S3), ("executor", "resources: {}\n")])).unwrap();
        let indented: String = S3.lines().map(|l| format!("  {l}\n")).collect();
        let config = format!("artifactRepository:\n{indented}executor:\n  resources: {{}}\n");
        assert_eq!(controller_config(&data(&[("config", &config)])).unwrap(), flat);
        assert_eq!(flat.ignored, ["executor"]);
        let repository = flat.repository.unwrap();
        assert_eq!(repository.key_format.as_deref(), Some("x/{{pod.name}}"));
        assert_eq!(repository.location.archive_logs, Some(true));
        assert_eq!(repository.location.s3.as_ref().unwrap().bucket.as_deref(), Some("b"));
        // What the status keeps is enough to go on with the same one.
        assert_eq!(Repository::of_status(&repository.default_status()).unwrap(), repository);
    }

    #[test]
    fn commands_of_images() {
        let config = "images:\n  argosay:v2: {entrypoint: [/argosay]}\n  alpine: {cmd: [sh]}\n";
        let commands = image_commands(&data(&[("config", config)]));
        assert_eq!(commands["argosay:v2"].entrypoint, ["/argosay"]);
        assert_eq!(commands["alpine"].cmd, ["sh"]);
        assert_eq!(image_commands(&data(&[("images", "alpine: {cmd: [sh]}")])).len(), 1);
        assert!(controller_config(&data(&[("config", config)])).unwrap().ignored.is_empty());
    }

    #[test]
    fn faults_are_named() {
        assert!(Repository::read("s3: {bucket: b}").unwrap_err().contains("s3.endpoint"));
        assert!(Repository::read("- x").unwrap_err().contains("no artifact repository"));
        assert!(Repository::read("a: [").unwrap_err().contains("not YAML"));
        assert!(controller_config(&data(&[("config", "x")])).unwrap_err().contains("map of settings"));
        assert_eq!(controller_config(&BTreeMap::new()).unwrap(), ControllerConfig::default());
        let logs = Repository::read("archiveLogs: true").unwrap();
        assert!(logs.location.local.is_some() && logs.location.archive_logs == Some(true));
    }

    #[test]
    fn the_older_prefix() {
        let text = "s3: {endpoint: e, bucket: b, keyPrefix: team/}";
        let format = Repository::read(text).unwrap().key_format;
        assert_eq!(format.as_deref(), Some("team/{{workflow.name}}/{{pod.name}}"));
    }
}
