//! Which artifact repository a run uses, out of the text of ConfigMaps. It only reads text: which ConfigMaps are looked
//! at, and where, is the caller's business.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windlass_lang::yaml;
use windlass_model::artifact::{ArtifactLocation, LocalArtifact};

use crate::artifact_plugins::{self, ArtifactDriver};
use crate::persistence::Archiving;
use crate::pod_form::ImageCommand;
use crate::restrictions::Referencing;

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
    /// How many workflows run at once.
    pub parallelism: Option<usize>,
    /// The same in each namespace.
    pub namespace_parallelism: Option<usize>,
    /// How many pods are made in a second, and how many at once.
    pub resource_rate_limit: Option<(f64, u32)>,
    /// What workflows leave out: a part of a workflow.
    pub workflow_defaults: Option<Value>,
    /// Which finished workflows are archived, and for how long.
    pub archiving: Archiving,
    /// Whether workflows must refer to stored templates.
    pub referencing: Option<Referencing>,
    /// Whose workflows the controller runs, by their label; those without one where it is not said.
    pub instance: Option<String>,
    /// Artifact plugins.
    pub artifact_drivers: Vec<ArtifactDriver>,
    /// Keys that mean something to Argo's controller and nothing here.
    pub ignored: Vec<String>,
}

impl ControllerConfig {
    /// The keys that have no effect for who keeps archived workflows in a database, or elsewhere.
    pub fn without_effect(&self, has_database: bool) -> Vec<String> {
        let unused = (self.archiving.database.is_some() && !has_database).then(|| "persistence.postgresql".to_owned());
        self.ignored.iter().cloned().chain(unused).collect()
    }
}

/// The usual form of keys.
const KEY_FORMAT: &str = "{{workflow.name}}/{{pod.name}}";

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
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
        let required = |fields: &[&str]| match fields.iter().find(|field| text(field).is_none()) {
            Some(field) => Err(format!("{} is required", field.trim_start_matches('/').replace('/', "."))),
            None => Ok(()),
        };
        if let Some(gcs) = &mut location.gcs {
            key_format = gcs.key_format.take();
            required(&["/gcs/bucket"])?;
        } else if let Some(azure) = &mut location.azure {
            key_format = azure.blob_name_format.take();
            required(&["/azure/endpoint", "/azure/container"])?;
        } else if let Some(oss) = &mut location.oss {
            key_format = oss.key_format.take();
            required(&["/oss/endpoint", "/oss/bucket"])?;
        } else if let Some(artifactory) = &mut location.artifactory {
            // The address is the key.
            let format = artifactory.key_format.take().filter(|f| !f.is_empty());
            required(&["/artifactory/repoURL", "/artifactory/usernameSecret/name"])?;
            let url = text("/artifactory/repoURL").unwrap_or_default().trim_end_matches('/');
            key_format = Some(format!("{url}/{}", format.as_deref().unwrap_or(KEY_FORMAT)));
        } else if let Some(plugin) = &mut location.plugin {
            // Of a location it is a key, here it is not.
            plugin.key = None;
            key_format = text("/plugin/keyFormat").map(str::to_owned);
            required(&["/plugin/name", "/plugin/configuration"])?;
        } else if location.hdfs.is_some() {
            return Err("there is no hdfs driver; use s3, gcs, azure, oss, artifactory or a plugin".to_owned());
        }
        key_format = key_format.filter(|format| !format.is_empty());
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

/// Settings whose text is read.
const READ: [&str; 9] = [
    "artifactDrivers",
    "artifactRepository",
    "instanceID",
    "parallelism",
    "namespaceParallelism",
    "resourceRateLimit",
    "workflowDefaults",
    "workflowRestrictions",
    "persistence",
];

/// Reads the data of `workflow-controller-configmap`: a key for each setting, or all of them as the text of `config`.
pub fn controller_config(data: &BTreeMap<String, String>) -> Result<ControllerConfig, String> {
    let mut settings: BTreeMap<String, Value> = BTreeMap::new();
    for (key, text) in data {
        if key == "config" {
            let Value::Object(inner) = document(text).map_err(|e| format!("config: {e}"))? else {
                return Err("config: it is a map of settings".to_owned());
            };
            settings.extend(inner);
        } else if READ.contains(&key.as_str()) {
            settings.insert(key.clone(), document(text).map_err(|e| format!("{key}: {e}"))?);
        } else {
            settings.insert(key.clone(), Value::Null);
        }
    }
    let repository = match settings.remove("artifactRepository") {
        None | Some(Value::Null) => None,
        Some(value) => Some(Repository::of(value).map_err(|e| format!("artifactRepository: {e}"))?),
    };
    settings.remove("images");
    let number = |key: &str, value: Option<Value>| match value {
        None | Some(Value::Null) => Ok(None),
        // A flat key's value is a text, which may be quoted once more.
        Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| format!("{key}: it is a whole number")),
        Some(value) => {
            let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
            number.map(Some).ok_or_else(|| format!("{key}: it is a whole number"))
        }
    };
    let parallelism = number("parallelism", settings.remove("parallelism"))?;
    let namespace_parallelism = number("namespaceParallelism", settings.remove("namespaceParallelism"))?;
    let resource_rate_limit = match settings.remove("resourceRateLimit").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let burst = value["burst"].as_u64().and_then(|n| u32::try_from(n).ok());
            let pair = value["limit"].as_f64().zip(burst).filter(|(limit, _)| *limit > 0.0);
            Some(pair.ok_or("resourceRateLimit: it has a `limit` and a `burst`, both numbers")?)
        }
    };
    let workflow_defaults = settings.remove("workflowDefaults").filter(|value| !value.is_null());
    if workflow_defaults.as_ref().is_some_and(|value| !value.is_object()) {
        return Err("workflowDefaults: it is a part of a workflow".to_owned());
    }
    let artifact_drivers = match settings.remove("artifactDrivers").filter(|value| !value.is_null()) {
        None => Vec::new(),
        Some(value) => artifact_plugins::read(&value).map_err(|e| format!("artifactDrivers: {e}"))?,
    };
    let (archiving, ignored) = match settings.remove("persistence").filter(|value| !value.is_null()) {
        None => Default::default(),
        Some(value) => Archiving::read(value).map_err(|e| format!("persistence: {e}"))?,
    };
    let instance = match settings.remove("instanceID").filter(|value| !value.is_null()) {
        None => None,
        Some(Value::String(id)) => self::instance(&id).map_err(|e| format!("instanceID: {e}"))?,
        Some(_) => return Err("instanceID: it is a text".to_owned()),
    };
    let restrictions = settings.remove("workflowRestrictions").unwrap_or_default();
    let referencing = match restrictions["templateReferencing"].as_str().unwrap_or_default() {
        "" => None,
        text => {
            let wrong = "workflowRestrictions.templateReferencing: it is Strict or Secure";
            Some(Referencing::read(text).ok_or(wrong)?)
        }
    };
    Ok(ControllerConfig {
        repository,
        parallelism,
        namespace_parallelism,
        resource_rate_limit,
        workflow_defaults,
        archiving,
        referencing,
        instance,
        artifact_drivers,
        ignored: settings.into_keys().chain(ignored).collect(),
    })
}

/// An `instanceID`, which is the value of a label; nothing where it is empty.
pub fn instance(text: &str) -> Result<Option<String>, String> {
    match crate::check::label(text) {
        Some(wrong) => Err(format!("it is the value of a label, which {wrong}")),
        None => Ok(Some(text.to_owned()).filter(|id| !id.is_empty())),
    }
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
    fn limits_and_defaults() {
        let flat = data(&[
            ("parallelism", "10"),
            ("namespaceParallelism", "\"4\""),
            ("resourceRateLimit", "limit: 2.5\nburst: 3\n"),
            ("workflowDefaults", "spec: {parallelism: 3}\n"),
            ("workflowRestrictions", "templateReferencing: Secure\n"),
            ("instanceID", "my-ci"),
        ]);
        let config = "parallelism: 10\nnamespaceParallelism: 4\nresourceRateLimit: {limit: 2.5, burst: 3}\n\
                      workflowDefaults: {spec: {parallelism: 3}}\n\
                      workflowRestrictions: {templateReferencing: Secure}\ninstanceID: my-ci\n";
        let read = controller_config(&flat).unwrap();
        assert_eq!(read, controller_config(&data(&[("config", config)])).unwrap());
        assert_eq!((read.parallelism, read.namespace_parallelism), (Some(10), Some(4)));
        assert_eq!(read.resource_rate_limit, Some((2.5, 3)));
        assert_eq!(read.workflow_defaults, Some(json!({"spec": {"parallelism": 3}})));
        assert_eq!(read.referencing, Some(Referencing::Secure));
        assert_eq!(read.instance.as_deref(), Some("my-ci"));
        assert!(read.ignored.is_empty());
        for (key, text) in [
            ("instanceID", "my ci"),
            ("instanceID", "[ci]"),
            ("workflowRestrictions", "templateReferencing: Sometimes"),
            ("parallelism", "many"),
            ("parallelism", "-1"),
            ("resourceRateLimit", "{limit: 2}"),
            ("workflowDefaults", "[]"),
        ] {
            let fault = controller_config(&data(&[(key, text)])).unwrap_err();
            assert!(fault.starts_with(key), "{fault}");
        }
    }

    #[test]
    fn what_is_archived() {
        let text = "archive: true\narchiveTTL: 10d\narchiveLabelSelector: {matchLabels: {keep: 'yes'}}\nnodeStatusOffLoad: true\npostgresql: {host: db}\n";
        let indented: String = text.lines().map(|l| format!("  {l}\n")).collect();
        let read = controller_config(&data(&[("persistence", text)])).unwrap();
        assert_eq!(read, controller_config(&data(&[("config", &format!("persistence:\n{indented}"))])).unwrap());
        assert_eq!((read.archiving.on, read.archiving.ttl_ms), (Some(true), Some(864_000_000)));
        assert_eq!(read.archiving.selector, Some(json!({"matchLabels": {"keep": "yes"}})));
        assert_eq!(read.without_effect(false), ["persistence.postgresql"]);
        assert!(read.without_effect(true).is_empty());
        assert_eq!(controller_config(&data(&[("persistence", "archive: false")])).unwrap().archiving.on, Some(false));
        assert_eq!(controller_config(&BTreeMap::new()).unwrap().archiving, Archiving::default());
        for (text, word) in [
            ("archive: sometimes", "archive"),
            ("archiveTTL: later", "archiveTTL"),
            ("archiveLabelSelector: a=b", "Selector"),
        ] {
            let fault = controller_config(&data(&[("persistence", text)])).unwrap_err();
            assert!(fault.starts_with("persistence: ") && fault.contains(word), "{fault}");
        }
    }

    #[test]
    fn artifact_drivers() {
        let text = "- {name: keeper, image: 'keeper:1', connectionTimeoutSeconds: 9}\n- {name: other, image: o}\n";
        let read = controller_config(&data(&[("artifactDrivers", text)])).unwrap();
        let indented: String = text.lines().map(|l| format!("  {l}\n")).collect();
        assert_eq!(read, controller_config(&data(&[("config", &format!("artifactDrivers:\n{indented}"))])).unwrap());
        assert!(read.ignored.is_empty());
        let seen: Vec<_> = read.artifact_drivers.iter().map(|d| (d.name.as_str(), d.timeout_seconds)).collect();
        assert_eq!(seen, [("keeper", Some(9)), ("other", None)]);
        for (text, word) in
            [("[{name: a}]", "image"), ("[{image: a}]", "name"), ("{}", "list"), ("[{name: A_b, image: i}]", "A_b")]
        {
            let fault = controller_config(&data(&[("artifactDrivers", text)])).unwrap_err();
            assert!(fault.starts_with("artifactDrivers: ") && fault.contains(word), "{fault}");
        }
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
    fn every_driver_has_its_form_of_keys() {
        let format = |text: &str| Repository::read(text).map(|r| r.key_format);
        assert_eq!(format("gcs: {bucket: b, keyFormat: x}").unwrap().as_deref(), Some("x"));
        assert_eq!(format("gcs: {bucket: b, keyFormat: ''}").unwrap(), None);
        assert_eq!(
            format("azure: {endpoint: e, container: c, blobNameFormat: names}").unwrap().as_deref(),
            Some("names")
        );
        assert_eq!(format("oss: {endpoint: e, bucket: b, keyFormat: z}").unwrap().as_deref(), Some("z"));
        let plugin = Repository::read("plugin: {name: p, configuration: c, keyFormat: k}").unwrap();
        assert_eq!((plugin.key_format.as_deref(), plugin.location.plugin.unwrap().key), (Some("k"), None));
        let artifactory = "artifactory: {repoURL: 'http://a/r/', usernameSecret: {name: s, key: k}}";
        assert_eq!(format(artifactory).unwrap().as_deref(), Some("http://a/r/{{workflow.name}}/{{pod.name}}"));
        for (text, fault) in [
            ("gcs: {}", "gcs.bucket is required"),
            ("azure: {endpoint: e}", "azure.container is required"),
            ("oss: {bucket: b}", "oss.endpoint is required"),
            ("artifactory: {repoURL: u}", "artifactory.usernameSecret.name is required"),
            ("hdfs: {addresses: [a]}", "there is no hdfs driver"),
            ("plugin: {name: p}", "plugin.configuration is required"),
        ] {
            assert!(format(text).unwrap_err().contains(fault), "{text}");
        }
    }

    #[test]
    fn the_older_prefix() {
        let text = "s3: {endpoint: e, bucket: b, keyPrefix: team/}";
        let format = Repository::read(text).unwrap().key_format;
        assert_eq!(format.as_deref(), Some("team/{{workflow.name}}/{{pod.name}}"));
    }
}
