//! Where the recordings are, and how one is read. They are not part of the project: they are looked for in
//! `../shared/corpus/argo` beside the workspace, or where `WINDLASS_ARGO_CORPUS` says. Reads files and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// One case.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The folder's name.
    pub name: String,
    /// `recording.json`.
    pub value: Value,
}

/// The folder of recordings, where there is one.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let path = match std::env::var_os("WINDLASS_ARGO_CORPUS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/argo"),
    };
    path.join("cases").is_dir().then_some(path)
}

/// The names of all cases.
pub fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("cases"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The recording of one of the project's own cases, which the project keeps: `recordings/NAME.json`, written by `record`.
pub fn own(name: &str) -> std::io::Result<Option<Recording>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(format!("{name}.json"));
    let text = match std::fs::read_to_string(path) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let value = serde_json::from_str(&text).map_err(std::io::Error::other)?;
    Ok(Some(Recording { name: name.to_owned(), value }))
}

/// The recordings of the project's own manifests that ran with real pods: `pods/NAME.json.gz`.
pub fn with_pods() -> std::io::Result<Vec<Recording>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("pods"))? {
        let path = entry?.path();
        let file = flate2::read::GzDecoder::new(std::fs::File::open(&path)?);
        let value: Value = serde_json::from_reader(file).map_err(std::io::Error::other)?;
        all.push(Recording { name: value["case"].as_str().unwrap_or_default().to_owned(), value });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// One case's recording.
pub fn read(folder: &Path, name: &str) -> std::io::Result<Recording> {
    let text = std::fs::read_to_string(folder.join("cases").join(name).join("recording.json"))?;
    let value = serde_json::from_str(&text).map_err(std::io::Error::other)?;
    Ok(Recording { name: name.to_owned(), value })
}

/// What two runs of Argo gave differently: case and tier to paths.
#[derive(Clone, Debug, Default)]
pub struct Unstable(BTreeMap<(String, char), BTreeSet<String>>);

impl Unstable {
    /// Reads `UNSTABLE.tsv`.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(folder.join("UNSTABLE.tsv"))?;
        let mut all: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let parts: Vec<&str> = line.split('\t').collect();
            if let [case, tier, path] = parts.as_slice()
                && let Some(tier) = tier.chars().next()
            {
                all.entry(((*case).to_owned(), tier)).or_default().insert((*path).to_owned());
            }
        }
        Ok(Self(all))
    }

    /// Whether a place, or one above it, or one in it came out differently.
    #[must_use]
    pub fn has(&self, case: &str, tier: char, path: &str) -> bool {
        self.0.get(&(case.to_owned(), tier)).is_some_and(|paths| {
            paths.iter().any(|p| {
                let within =
                    |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                within(path, p) || within(p, path)
            })
        })
    }

    /// Whether anything of a case came out differently in a tier.
    #[must_use]
    pub fn any(&self, case: &str, tier: char) -> bool {
        self.0.contains_key(&(case.to_owned(), tier))
    }
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

impl Recording {
    /// The name space.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.value["namespace"].as_str().unwrap_or("default")
    }

    /// Whether the workflows came to their end while they were watched.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.value["finished"] == true
    }

    /// The workflows as they ended.
    #[must_use]
    pub fn workflows(&self) -> Vec<&Value> {
        list(&self.value, "workflows").filter(|w| w["status"]["startedAt"].is_string()).collect()
    }

    /// Whether somebody submitted a workflow of this name: the others were made of it by a step or a command.
    #[must_use]
    pub fn was_submitted(&self, name: &str) -> bool {
        list(&self.value, "submitted").any(|o| o["kind"] == "Workflow" && o["metadata"]["name"] == name)
    }

    /// The images that the containers of the manifest ran, the executor's own left out.
    #[must_use]
    pub fn images(&self) -> BTreeSet<&str> {
        let pods = || list(&self.value, "pods").map(|pod| &pod["spec"]);
        let parts = pods().flat_map(|spec| list(spec, "containers").chain(list(spec, "initContainers")));
        let of_executor = |part: &&Value| matches!(part["name"].as_str(), Some("wait" | "init"));
        parts
            .filter(|part| !of_executor(part))
            .filter_map(|part| part["image"].as_str())
            .filter(|image| !image.contains("/argoexec:"))
            .collect()
    }

    /// A workflow just before somebody's retry or resubmission of it.
    #[must_use]
    pub fn before(&self, name: &str) -> Option<&Value> {
        list(&self.value, "before").find(|w| w["metadata"]["name"] == name)
    }

    /// When the first of them began.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        self.workflows().iter().filter_map(|w| time(&self.first(w)["startedAt"])).min().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The first status of a workflow that ended: before a retry, where there was one.
    #[must_use]
    pub fn first<'v>(&'v self, workflow: &'v Value) -> &'v Value {
        let before = workflow["metadata"]["name"].as_str().and_then(|name| self.before(name));
        &before.unwrap_or(workflow)["status"]
    }

    /// A workflow as it was submitted, and when.
    #[must_use]
    pub fn submission(&self, recorded: &Value) -> (Timestamp, Value) {
        let name = &recorded["metadata"]["name"];
        let own = list(&self.value, "submitted").find(|o| o["kind"] == "Workflow" && o["metadata"]["name"] == *name);
        let mut workflow = own.unwrap_or(recorded).clone();
        if own.is_none() {
            if let Some(spec) = workflow["spec"].as_object_mut() {
                spec.remove("shutdown");
            }
            if let Some(labels) = workflow["metadata"]["labels"].as_object_mut() {
                labels.retain(|key, _| !matches!(key.rsplit('/').next(), Some("completed" | "phase")));
            }
        }
        if let Some(object) = workflow.as_object_mut() {
            object.remove("status");
        }
        (time(&self.first(recorded)["startedAt"]).unwrap_or_else(|| self.begun()), bare(workflow))
    }

    /// The objects that were there before.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        list(&self.value, "submitted").filter(|o| o["kind"] != "Workflow").cloned().map(bare).collect()
    }

    /// What somebody did meanwhile: when, and the words of the command line.
    #[must_use]
    pub fn actions(&self) -> Vec<(Timestamp, &Value)> {
        let begun = self.begun();
        let at = |a: &Value| begun.checked_add(SignedDuration::from_millis(a["at_ms"].as_i64()?)).ok();
        list(&self.value, "actions").filter_map(|a| Some((at(a)?, a))).collect()
    }

    /// The pods of a name, the older first.
    #[must_use]
    pub fn pods(&self) -> BTreeMap<String, Vec<&Value>> {
        let mut all: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for pod in list(&self.value, "pods") {
            all.entry(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).or_default().push(pod);
        }
        for pods in all.values_mut() {
            pods.sort_by_key(|p| p["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned());
        }
        all
    }

    /// A step's report by its node's id.
    #[must_use]
    pub fn report(&self, node_id: &str) -> Option<&Value> {
        list(&self.value, "taskResults").find(|r| r["metadata"]["name"] == node_id)
    }

    /// A node's last row, of whichever workflow.
    #[must_use]
    pub fn node(&self, id: &str) -> &Value {
        let found = list(&self.value, "workflows").map(|w| &w["status"]["nodes"][id]).find(|n| n.is_object());
        found.unwrap_or(&Value::Null)
    }

    /// Whether a pod was ever seen to run.
    #[must_use]
    pub fn ran(&self, pod: &str) -> bool {
        list(&self.value, "timeline").any(|seen| seen[1] == "pod" && seen[2] == pod && seen[3] == "Running")
    }

    /// When a pod was seen to have ended.
    #[must_use]
    pub fn ended(&self, pod: &Value, row: &Value) -> Timestamp {
        let name = &pod["metadata"]["name"];
        let seen = |e: &&Value| e[1] == "pod" && e[2] == *name && (e[3] == "Succeeded" || e[3] == "Failed");
        let all: Vec<&Value> = list(&self.value, "timeline").filter(seen).collect();
        if let [only] = all.as_slice()
            && let Some(at) = only[0].as_i64()
            && let Ok(at) = self.begun().checked_add(SignedDuration::from_millis(at))
        {
            return at;
        }
        list(&pod["status"], "containerStatuses")
            .filter_map(|s| time(&s["state"]["terminated"]["finishedAt"]))
            .chain(time(&row["finishedAt"]))
            .max()
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// An object without what the API server gave it.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata
            .retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations" | "finalizers"));
    }
    object
}
