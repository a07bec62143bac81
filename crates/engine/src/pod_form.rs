//! The `pod` form of a step: a pod as the engine makes it becomes one that any kubelet runs, with the executor inside.
//! Pure: pod in, pod out.
//!
//! Only what a step needs is added. One with nothing to bring, to take or to end stays the user's pod. Otherwise:
//!
//! | there is | added |
//! |---|---|
//! | an input, a script, or anything below | an init container: this program into an `emptyDir`, inputs to their paths |
//! | a kaniko step, unless its own image is to be used | nothing: our program is its image, and builds |
//! | an output, a captured result, a kept log, progress of its own, a sidecar, a set | a supervisor, first of the containers; every command wrapped |
//!
//! Wrapped commands must be known, so that an image's own one is asked for ([`images_without_command`]). The executor's
//! containers hold its own token and the Secrets of artifact locations; the user's containers hold neither.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use windlass_model::kaniko::{arguments, is_kaniko};
use windlass_model::places::*;
use windlass_model::task::{SCRIPT_PATH, Task};
use windlass_model::{Artifact, labels};

use crate::artifact_plugins;

/// How steps get their executor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodForm {
    /// The image that holds this program at [`IMAGE_PROGRAM`].
    pub image: String,
    /// Its pull policy.
    pub pull_policy: Option<String>,
    /// The Secret, in the workflow's namespace, with the token that reports are written with.
    pub token_secret: String,
    /// Environment of the executor's containers.
    pub env: Vec<(String, String)>,
    /// Leave kaniko steps to their own image.
    pub kaniko_image: bool,
}

/// What an image runs when nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageCommand {
    /// `ENTRYPOINT`
    pub entrypoint: Vec<String>,
    /// `CMD`
    pub cmd: Vec<String>,
}

/// What has to be added to a pod.
struct Needs {
    task: Task,
    /// Inputs, a script, or this program itself.
    init: bool,
    /// Something that only a report can bring.
    reports: bool,
    /// That, or sidecars to end.
    supervisor: bool,
}

impl Needs {
    fn of(pod: &Value) -> Result<Option<Self>, String> {
        let Some(text) = pod["metadata"]["annotations"][labels::TASK].as_str() else { return Ok(None) };
        let task: Task = serde_json::from_str(text).map_err(|e| format!("the step's task cannot be read: {e}"))?;
        let tells = tells_progress(pod, &task);
        let reports = tells || !task.outputs.is_empty() || task.include_result || task.archive_logs;
        let sidecars = containers(pod).any(|c| c["name"] != "main");
        let supervisor = reports || sidecars || task.container_set.is_some();
        let init = supervisor || !task.inputs.is_empty() || task.script.is_some() || task.is_ours();
        Ok(Some(Self { task, init, reports, supervisor }))
    }
}

/// Whether the step writes its progress into a file, as far as its text shows: then somebody has to read it.
fn tells_progress(pod: &Value, task: &Task) -> bool {
    let names = |text: &str| text.contains(PROGRESS_VARIABLE);
    let mut main = containers(pod).filter(|c| c["name"] == "main");
    main.any(|c| names(&c.to_string())) || task.script.as_deref().is_some_and(names)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["containers"].as_array().into_iter().flatten()
}

fn has_words(value: &Value) -> bool {
    value.as_array().is_some_and(|words| !words.is_empty())
}

/// The images whose own command has to be known before [`wrap`] can do its work.
pub fn images_without_command(pod: &Value, form: &PodForm) -> BTreeSet<String> {
    match Needs::of(pod) {
        Ok(Some(needs)) if needs.supervisor => containers(pod)
            .filter(|c| !has_words(&c["command"]) && build_arguments(c, form).is_none())
            .filter_map(|c| c["image"].as_str().map(str::to_owned))
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// The arguments of a container that builds an image by us.
fn build_arguments(container: &Value, form: &PodForm) -> Option<Vec<String>> {
    let image = container["image"].as_str()?;
    if form.kaniko_image || !is_kaniko(image) {
        return None;
    }
    let words = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
    arguments(&words(&container["command"]), &words(&container["args"]))
}

/// Our program instead of kaniko's. It makes namespaces of its own for the commands of the Dockerfile, as root of its
/// container without any privilege; what forbids that by default is let go for this one container.
fn build_here(container: &mut Value, args: Vec<String>, form: &PodForm, pod_security: &Value) {
    container["image"] = json!(form.image);
    container["command"] = json!([IMAGE_PROGRAM, VERB, BUILD]);
    container["args"] = json!(args);
    set(container, "imagePullPolicy", json!(form.pull_policy));
    if let Value::Object(map) = container {
        if let Value::Array(env) = map.entry("env").or_insert_with(|| json!([])) {
            env.extend(form.env.iter().map(|(name, value)| json!({"name": name, "value": value})));
        }
        if let Value::Object(security) = map.entry("securityContext").or_insert_with(|| json!({})) {
            if pod_security["runAsUser"].is_null() {
                security.entry("runAsUser").or_insert_with(|| json!(0));
            }
            for profile in ["seccompProfile", "appArmorProfile"] {
                security.entry(profile).or_insert_with(|| json!({"type": "Unconfined"}));
            }
        }
    }
    mount(container, json!({"name": BUILD_VOLUME, "mountPath": BUILD_DIR}));
}

/// The pod with its executor inside; an error is a text for the node.
pub fn wrap(mut pod: Value, form: &PodForm, commands: &BTreeMap<String, ImageCommand>) -> Result<Value, String> {
    let Some(needs) = Needs::of(&pod)? else { return Ok(pod) };
    let task = &needs.task;
    for artifact in task.incoming().chain(&task.outputs.artifacts).chain(task.logs().map(|(_, log)| log)) {
        if artifact.local.is_some() {
            return Err(format!(
                "artifact {:?} is in the built-in store, which this cluster does not have: configure an artifact repository",
                artifact.name
            ));
        }
    }
    // The node agent's form would act on the other name.
    let annotations = &mut pod["metadata"]["annotations"];
    if let Some(text) = annotations.as_object_mut().and_then(|a| a.remove(labels::TASK))
        && needs.init
    {
        annotations[labels::POD_TASK] = text;
    }
    let security = pod["spec"]["securityContext"].clone();
    let mut builds = false;
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if let Some(args) = build_arguments(container, form) {
            build_here(container, args, form, &security);
            builds = true;
        }
    }
    if builds
        && let Value::Object(spec) = &mut pod["spec"]
        && let Value::Array(volumes) = spec.entry("volumes").or_insert_with(|| json!([]))
    {
        volumes.push(json!({"name": BUILD_VOLUME, "emptyDir": {}}));
    }
    if !needs.init {
        return Ok(pod);
    }
    let main = containers(&pod).find(|c| c["name"] == "main");
    // A container set needs none where it has neither inputs nor outputs.
    let main = main.or_else(|| containers(&pod).next().filter(|_| task.container_set.is_some())).cloned();
    let main = main.ok_or_else(|| "the pod has no container named main".to_owned())?;
    let inputs = Inputs::of(task, &main)?;
    let init = init_container(&needs, form, &inputs, &main, &security);

    let inits = pod.pointer_mut("/spec/initContainers").and_then(Value::as_array_mut);
    for container in inits.into_iter().flatten() {
        if container["command"][2] == TOKENS && container["command"][1] == VERB {
            container["image"] = json!(form.image);
            set(container, "imagePullPolicy", json!(form.pull_policy));
        }
    }
    let spec = pod["spec"].as_object_mut().ok_or_else(|| "the pod has no spec".to_owned())?;
    let mut users: Vec<Value> = match spec.remove("containers") {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    for container in &mut users {
        let is_main = container["name"] == "main";
        if is_main && task.is_ours() {
            container["image"] = json!(form.image);
            let program = if needs.supervisor { PROGRAM } else { IMAGE_PROGRAM };
            container["command"] = json!([program, VERB, WORK]);
            set(container, "args", Value::Null);
            set(container, "imagePullPolicy", json!(form.pull_policy));
            mount(container, json!({"name": RUN, "mountPath": RUN_DIR}));
        }
        if needs.supervisor {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let role = match &task.container_set {
                Some(set) if set.container(&name).is_some() => vec![MEMBER, &name],
                _ if is_main => vec![MAIN],
                _ => vec![SIDECAR],
            };
            supervised(container, &role, commands)?;
            if is_main && !task.is_ours() {
                name_progress_file(container);
            }
        }
        if is_main {
            for mounted in &inputs.mounted {
                mount(container, mounted.clone());
            }
            if task.script.is_some() {
                let script = json!({"name": RUN, "mountPath": SCRIPT_PATH, "subPath": SCRIPT_FILE, "readOnly": true});
                mount(container, script);
            }
        }
    }
    let mut all = Vec::with_capacity(users.len() + 1);
    if needs.supervisor {
        // First, so that it is there when the others begin.
        all.push(supervisor_container(
            form,
            &keys(task.outputs.artifacts.iter().chain(task.logs().map(|(_, log)| log))),
            &task.plugins_after(),
        ));
    }
    all.append(&mut users);
    spec.insert("containers".to_owned(), Value::Array(all));
    let inits = spec.entry("initContainers").or_insert_with(|| json!([]));
    if let Value::Array(list) = inits {
        // What keeps artifacts is there before.
        let first = list.iter().take_while(|c| artifact_plugins::is_plugin(c)).count();
        list.insert(first, init);
    }
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Value::Array(list) = volumes {
        list.extend(pod_volumes(&needs, form, &inputs));
    }
    Ok(pod)
}

/// Volumes that are added.
const RUN: &str = "windlass-run";
const BIN: &str = "windlass-bin";
const TASK: &str = "windlass-task";
const INPUTS: &str = "windlass-inputs";
const BUILD_VOLUME: &str = "windlass-build";
const TOKEN: &str = "windlass-token";
/// The same Secret without its token: it tells whether there is one.
const ACCOUNT: &str = "windlass-account";

/// Where inputs go.
#[derive(Default)]
struct Inputs {
    /// Mounts of `main` for inputs that are in no volume of the step.
    mounted: Vec<Value>,
    /// Mounts of `main` that hold inputs: (its path, the mount as the init container has it).
    within: Vec<(String, Value)>,
}

impl Inputs {
    fn of(task: &Task, main: &Value) -> Result<Self, String> {
        let mut inputs = Self::default();
        let mounts: Vec<(String, &Value)> = main["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| Some((clean(m["mountPath"].as_str()?), m)))
            .collect();
        for (index, artifact) in task.inputs.iter().enumerate() {
            let path = clean(artifact.path.as_deref().unwrap_or_default());
            let wrong = |problem: String| format!("artifact {:?}: {problem}", artifact.name);
            if path == "/" {
                return Err(wrong("it has no path, or the root directory's".to_owned()));
            }
            let around = mounts.iter().filter(|(at, _)| is_within(&path, at)).max_by_key(|(at, _)| at.len());
            let Some((at, volume)) = around else {
                let sub_path = format!("{index}/content");
                inputs.mounted.push(json!({"name": INPUTS, "mountPath": path, "subPath": sub_path}));
                continue;
            };
            if *at == path {
                return Err(wrong(format!("path {path} is also a volume mount")));
            }
            if volume["readOnly"] == true {
                return Err(wrong(format!("path {path} is inside a read-only volume")));
            }
            if inputs.within.iter().all(|(known, _)| known != at) {
                let mut mount = (*volume).clone();
                mount["mountPath"] = json!(format!("{VOLUMES_DIR}{at}"));
                inputs.within.push((at.clone(), mount));
            }
        }
        Ok(inputs)
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_within(path: &str, directory: &str) -> bool {
    directory == "/" || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn set(of: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = of {
        match value {
            Value::Null => drop(map.remove(key)),
            value => drop(map.insert(key.to_owned(), value)),
        }
    }
}

fn mount(container: &mut Value, mount: Value) {
    if let Value::Object(map) = container
        && let Value::Array(mounts) = map.entry("volumeMounts").or_insert_with(|| json!([]))
        && mounts.iter().all(|m| m["mountPath"] != mount["mountPath"])
    {
        mounts.push(mount);
    }
}

/// Wraps the command: the words after `--` are what the container would have run.
fn supervised(container: &mut Value, role: &[&str], commands: &BTreeMap<String, ImageCommand>) -> Result<(), String> {
    let words = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
    let (mut run, args) = (words(&container["command"]), words(&container["args"]));
    if run.is_empty() {
        let image = container["image"].as_str().unwrap_or_default();
        let known = commands.get(image).ok_or_else(|| format!("the command of image {image} is not known"))?;
        run = known.entrypoint.iter().map(|w| json!(w)).collect();
        match args.is_empty() {
            true => run.extend(known.cmd.iter().map(|w| json!(w))),
            false => run.extend(args),
        }
        if run.is_empty() {
            let name = container["name"].as_str().unwrap_or_default();
            return Err(format!(
                "container '{name}': image {image} has no command of its own, and none is given: set command"
            ));
        }
    } else {
        run.extend(args);
    }
    let wrapper: Vec<&str> = [PROGRAM, VERB].iter().chain(role).chain(&["--"]).copied().collect();
    container["command"] = json!(wrapper);
    container["args"] = Value::Array(run);
    mount(container, json!({"name": BIN, "mountPath": BIN_DIR, "readOnly": true}));
    mount(container, json!({"name": RUN, "mountPath": RUN_DIR}));
    Ok(())
}

/// Where the step may write its progress, for the supervisor to see.
fn name_progress_file(container: &mut Value) {
    let Value::Object(map) = container else { return };
    if let Value::Array(env) = map.entry("env").or_insert_with(|| json!([])) {
        env.push(json!({"name": PROGRESS_VARIABLE, "value": format!("{RUN_DIR}/{PROGRESS_FILE}")}));
    }
}

/// The Secrets that these artifacts' locations name: name to keys.
fn keys<'a>(artifacts: impl Iterator<Item = &'a Artifact>) -> BTreeMap<String, BTreeSet<String>> {
    fn collect(value: &Value, into: &mut BTreeMap<String, BTreeSet<String>>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let is_ref = name.ends_with("Secret") || name == "secretKeyRef";
                    match (is_ref, inner["name"].as_str(), inner["key"].as_str()) {
                        (true, Some(name), Some(key)) => {
                            into.entry(name.to_owned()).or_default().insert(key.to_owned());
                        }
                        _ => collect(inner, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            _ => {}
        }
    }
    let mut all = BTreeMap::new();
    for artifact in artifacts {
        collect(&serde_json::to_value(artifact.location()).unwrap_or_default(), &mut all);
    }
    all
}

fn secret_volume(name: &str) -> String {
    // A Secret's name may be longer than a volume's, and have dots.
    let plain: String = name.chars().map(|c| if c == '.' { '-' } else { c }).take(30).collect();
    format!("windlass-secret-{plain}-{}", crate::names::fnv32a(name))
}

fn secret_mounts(secrets: &BTreeMap<String, BTreeSet<String>>) -> impl Iterator<Item = Value> {
    secrets.keys().map(
        |name| json!({"name": secret_volume(name), "mountPath": format!("{SECRETS_DIR}/{name}"), "readOnly": true}),
    )
}

fn pod_volumes(needs: &Needs, form: &PodForm, inputs: &Inputs) -> Vec<Value> {
    let task = &needs.task;
    let field = format!("metadata.annotations['{}']", labels::POD_TASK);
    let mut volumes = vec![
        json!({"name": RUN, "emptyDir": {}}),
        json!({"name": TASK, "downwardAPI": {"items": [{"path": TASK_FILE, "fieldRef": {"fieldPath": field}}]}}),
        // What is missing is told by the init container, in words; the kubelet would wait for ever.
        json!({"name": ACCOUNT, "secret": {
            "secretName": form.token_secret, "optional": true, "items": [{"key": "namespace", "path": "namespace"}],
        }}),
    ];
    if needs.supervisor {
        volumes.push(json!({"name": TOKEN, "secret": {"secretName": form.token_secret, "optional": true}}));
        volumes.push(json!({"name": BIN, "emptyDir": {}}));
    }
    if !inputs.mounted.is_empty() {
        volumes.push(json!({"name": INPUTS, "emptyDir": {}}));
    }
    for (name, keys) in keys(task.incoming().chain(&task.outputs.artifacts).chain(task.logs().map(|(_, log)| log))) {
        let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
        let secret = json!({"secretName": name, "items": items, "optional": true});
        volumes.push(json!({"name": secret_volume(&name), "secret": secret}));
    }
    volumes
}

fn own_container(name: &str, form: &PodForm, role: &[&str]) -> Map<String, Value> {
    let mut env: Vec<Value> = form.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    // The root is read-only.
    env.push(json!({"name": "TMPDIR", "value": RUN_DIR}));
    let mut container = Map::new();
    container.insert("name".to_owned(), json!(name));
    container.insert("image".to_owned(), json!(form.image));
    if let Some(policy) = &form.pull_policy {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    let command: Vec<&str> = [IMAGE_PROGRAM, VERB].iter().chain(role).copied().collect();
    container.insert("command".to_owned(), json!(command));
    container.insert("env".to_owned(), Value::Array(env));
    container
}

/// The mounts of both of the executor's containers. What is where a pod's token is keeps the step's own from being there.
fn own_mounts(account: &str) -> Vec<Value> {
    vec![
        json!({"name": RUN, "mountPath": RUN_DIR}),
        json!({"name": TASK, "mountPath": TASK_DIR, "readOnly": true}),
        json!({"name": account, "mountPath": ACCOUNT_DIR, "readOnly": true}),
    ]
}

fn confined() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn supervisor_container(
    form: &PodForm,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    plugins: &BTreeSet<&str>,
) -> Value {
    let mut container = own_container("supervisor", form, &[SUPERVISE]);
    let plugins = plugins.iter().map(|name| artifact_plugins::mount(name));
    let mounts: Vec<Value> = own_mounts(TOKEN).into_iter().chain(secret_mounts(secrets)).chain(plugins).collect();
    container.insert("volumeMounts".to_owned(), Value::Array(mounts));
    container.insert("securityContext".to_owned(), confined());
    Value::Object(container)
}

/// Inputs belong to whom the step runs as, where the pod says who that is; else to root, as which most images run.
fn init_container(needs: &Needs, form: &PodForm, inputs: &Inputs, main: &Value, pod_security: &Value) -> Value {
    let mut role = vec![INIT.to_owned()];
    if needs.supervisor {
        role.push("--program".to_owned());
    }
    if needs.reports {
        role.push("--reports".to_owned());
    }
    role.extend(inputs.within.iter().map(|(path, _)| format!("--volume={path}")));
    let role: Vec<&str> = role.iter().map(String::as_str).collect();
    let mut container = own_container("init", form, &role);
    let mut mounts = own_mounts(ACCOUNT);
    if needs.supervisor {
        mounts.push(json!({"name": BIN, "mountPath": BIN_DIR}));
    }
    if !inputs.mounted.is_empty() {
        mounts.push(json!({"name": INPUTS, "mountPath": INPUTS_DIR}));
    }
    mounts.extend(inputs.within.iter().map(|(_, mount)| mount.clone()));
    mounts.extend(secret_mounts(&keys(needs.task.incoming())));
    mounts.extend(needs.task.plugins_before().into_iter().map(artifact_plugins::mount));
    container.insert("volumeMounts".to_owned(), Value::Array(mounts));

    let mut security = confined();
    let said = |field: &str| {
        let own = &main["securityContext"][field];
        if own.is_null() { &pod_security[field] } else { own }
    };
    let as_root =
        said("runAsUser").as_i64() == Some(0) || (said("runAsUser").is_null() && said("runAsNonRoot") != true);
    match said("runAsUser") {
        Value::Null if said("runAsNonRoot") == true => {}
        Value::Null => security["runAsUser"] = json!(0),
        user => security["runAsUser"] = user.clone(),
    }
    if !said("runAsGroup").is_null() {
        security["runAsGroup"] = said("runAsGroup").clone();
    }
    if as_root && !inputs.within.is_empty() {
        // The step's volume may belong to anybody.
        security["capabilities"]["add"] = json!(["CHOWN", "DAC_OVERRIDE", "FOWNER"]);
    }
    container.insert("securityContext".to_owned(), security);
    Value::Object(container)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(clean("/a//b/../c/."), "/a/c");
        assert_eq!(clean(""), "/");
        assert!(is_within("/code/src", "/code") && is_within("/code", "/code") && !is_within("/codes", "/code"));
    }

    #[test]
    fn volumes_of_secrets_have_names_that_volumes_may_have() {
        let long = secret_volume(&"a.b".repeat(60));
        assert!(long.len() <= 63 && !long.contains('.'), "{long}");
        assert_ne!(secret_volume("a.b"), secret_volume("a-b"));
    }
}
