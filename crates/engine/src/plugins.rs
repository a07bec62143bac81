//! Executor plugins: which there are for a run, out of Argo's ConfigMaps or of the workflow's own `executorPlugins`, and
//! what they add to a pod. A node of a `plugin` template has a pod of its own, in which all of them run beside the one that
//! asks them. Reads no ConfigMap by itself, and never decides which plugin a template is for: they do.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use windlass_model::Template;
use windlass_model::labels;
use windlass_model::parameter::Inputs;
use windlass_model::places::{ACCOUNT_DIR, IMAGE_PROGRAM, PLUGIN_DIR, TOKENS, VERB};
use windlass_model::task::{PluginAddress, PluginTask};

use crate::door::Command;
use crate::run::Run;

/// The end of the names of ConfigMaps and ServiceAccounts of plugins.
const SUFFIX: &str = "-executor-plugin";
/// The value of the label [`labels::CONFIGMAP_TYPE`].
pub const KIND: &str = "ExecutorPlugin";
/// The volume with the tokens.
const VOLUME: &str = "var-run-argo";

/// One plugin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plugin {
    name: String,
    /// Its container, as it was written.
    container: Value,
    container_name: String,
    port: u16,
    /// It gets the token of its ServiceAccount.
    with_account: bool,
}

impl Plugin {
    /// Argo's form: one ConfigMap a plugin.
    fn of_config_map(object: &Value) -> Result<Self, String> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.strip_suffix(SUFFIX).unwrap_or(name);
        let text = object["data"]["sidecar.container"].as_str().unwrap_or_default();
        let loaded = windlass_lang::yaml::load_str(text);
        if let Some(fault) = loaded.diagnostics.iter().find(|d| d.is_error()) {
            return Err(format!("sidecar.container: {}", fault.message));
        }
        let container = loaded.documents.into_iter().next().map(|d| d.value).unwrap_or_default();
        let with_account = object["data"]["sidecar.automountServiceAccountToken"] == "true";
        Self::checked(name, container, with_account)
    }

    /// One of the workflow's own.
    fn of_spec(value: &Value) -> Result<Self, String> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let sidecar = &value["spec"]["sidecar"];
        Self::checked(name, sidecar["container"].clone(), sidecar["automountServiceAccountToken"] == true)
    }

    fn checked(name: &str, container: Value, with_account: bool) -> Result<Self, String> {
        let port = port_of(&container)?;
        let container_name = name_of(&container)?;
        Ok(Self { name: name.to_owned(), container, container_name, port, with_account })
    }

    /// Its container in a pod: with its own token, and no other.
    fn sidecar(&self) -> Value {
        let mut container = self.container.clone();
        let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        mounts.push(json!({"name": VOLUME, "mountPath": PLUGIN_DIR, "subPath": self.container_name, "readOnly": true}));
        if self.with_account {
            mounts.push(json!({"name": self.account_volume(), "mountPath": ACCOUNT_DIR, "readOnly": true}));
        }
        container["volumeMounts"] = Value::Array(mounts);
        container
    }

    fn account_volume(&self) -> String {
        format!("{}-account", self.container_name)
    }
}

/// The port of a plugin's container that Argo would take.
fn port_of(container: &Value) -> Result<u16, String> {
    if !container.is_object() {
        return Err("there is no sidecar.container".to_owned());
    }
    let port = container["ports"][0]["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or("sidecar is invalid: at least one port is mandatory")?;
    for (field, words) in [("requests", "resources requests"), ("limits", "resources limits")] {
        if !container["resources"][field].is_object() {
            return Err(format!("sidecar is invalid: {words} are mandatory"));
        }
    }
    if !container["securityContext"].is_object() {
        return Err("sidecar is invalid: security context is mandatory".to_owned());
    }
    Ok(port)
}

/// Its name, which no other container of the pod may have.
fn name_of(container: &Value) -> Result<String, String> {
    let name = container["name"].as_str().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ours = ["main", "init", "wait", "supervisor", TOKENS].contains(&name);
    if name.is_empty() || ours || !name.bytes().all(plain) {
        return Err(format!("sidecar is invalid: {name:?} cannot be its container's name"));
    }
    Ok(name.to_owned())
}

/// What is wrong with one of the workflow's own, and whether Argo refuses it too.
pub(crate) fn fault(own: &Value) -> Option<(String, bool)> {
    let container = &own["spec"]["sidecar"]["container"];
    let refused = port_of(container).err().map(|fault| (fault, true));
    refused.or_else(|| name_of(container).err().map(|fault| (fault, false)))
}

/// The plugins of a run, and why others are none.
fn plugins(own: &[Value], found: &[Value]) -> (Vec<Plugin>, Vec<String>) {
    let (mut all, mut faults): (Vec<Plugin>, Vec<String>) = (Vec::new(), Vec::new());
    let of_spec = own.iter().map(|value| (value, Plugin::of_spec(value)));
    let of_maps = found.iter().filter(|_| own.is_empty()).map(|value| (value, Plugin::of_config_map(value)));
    let (mut names, mut containers) = (BTreeSet::new(), BTreeSet::new());
    for (value, plugin) in of_spec.chain(of_maps) {
        let named = value["metadata"]["name"].as_str().unwrap_or_default();
        match plugin {
            Err(why) => faults.push(format!("{named}: {why}")),
            // The first of a name is the one of the workflow's namespace.
            Ok(plugin) if !names.insert(plugin.name.clone()) => {}
            Ok(plugin) if !containers.insert(plugin.container_name.clone()) => {
                faults.push(format!("{named}: another plugin's container has its name, {}", plugin.container_name));
            }
            Ok(plugin) => all.push(plugin),
        }
    }
    (all, faults)
}

impl Run {
    /// Whether it is known which plugins there are; if not, they are asked for.
    pub(crate) fn knows_plugins(&mut self) -> bool {
        if !self.spec.executor_plugins.is_empty() || self.plugins.is_some() {
            return true;
        }
        if self.asked.insert((3, String::new())) {
            self.commands.push(Command::FetchPlugins);
        }
        false
    }

    /// All plugins of the run, or why there are none.
    pub(crate) fn all_plugins(&self) -> Result<Vec<Plugin>, String> {
        let (all, faults) = plugins(&self.spec.executor_plugins, self.plugins.as_deref().unwrap_or_default());
        if !all.is_empty() {
            return Ok(all);
        }
        let label = labels::CONFIGMAP_TYPE;
        let none = format!("no executor plugin is there: install one as a ConfigMap labelled {label}: {KIND}");
        Err(if faults.is_empty() { none } else { format!("{none}; {}", faults.join("; ")) })
    }

    /// What the one that asks is told.
    pub(crate) fn plugin_task(
        &self,
        plugins: &[Plugin],
        template: &Template,
        inputs: &Inputs,
    ) -> Result<PluginTask, String> {
        let mut template = template.clone();
        template.inputs = inputs.clone();
        Ok(PluginTask {
            namespace: self.meta.namespace.clone().unwrap_or_default(),
            template: serde_json::to_value(&template).map_err(|e| e.to_string())?,
            plugins: plugins.iter().map(|p| PluginAddress { name: p.container_name.clone(), port: p.port }).collect(),
        })
    }
}

/// Puts the plugins into a pod whose `main` asks them: their containers, their tokens, made by an init container, and no
/// token of the step's own ServiceAccount.
pub(crate) fn add(spec: &mut Map<String, Value>, plugins: &[Plugin], executor_image: &str) {
    let list = |spec: &mut Map<String, Value>, field: &str, more: Vec<Value>, first: bool| {
        if let Value::Array(list) = spec.entry(field).or_insert_with(|| json!([])) {
            let at = if first { 0 } else { list.len() };
            list.splice(at..at, more);
        }
    };
    let tokens = json!({"name": VOLUME, "mountPath": PLUGIN_DIR});
    if let Some(Value::Array(containers)) = spec.get_mut("containers")
        && let Some(main) = containers.iter_mut().find(|c| c["name"] == "main")
    {
        let mut read = tokens.clone();
        read["readOnly"] = json!(true);
        main["volumeMounts"] = json!([read]);
    }
    let names: Vec<&str> = plugins.iter().map(|p| p.container_name.as_str()).collect();
    let command: Vec<&str> = [IMAGE_PROGRAM, VERB, TOKENS].into_iter().chain(names).collect();
    let init = json!({
        "name": TOKENS, "image": executor_image, "command": command, "volumeMounts": [tokens],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    list(spec, "initContainers", vec![init], true);
    list(spec, "containers", plugins.iter().map(Plugin::sidecar).collect(), false);
    let mut volumes = vec![json!({"name": VOLUME, "emptyDir": {}})];
    volumes.extend(plugins.iter().filter(|p| p.with_account).map(|p| {
        let secret = format!("{}{SUFFIX}.service-account-token", p.name);
        json!({"name": p.account_volume(), "secret": {"secretName": secret}})
    }));
    list(spec, "volumes", volumes, false);
    spec.insert("automountServiceAccountToken".to_owned(), json!(false));
    // Who has answered has nothing left to do, and the first process of a container rarely heeds a signal.
    spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
}
