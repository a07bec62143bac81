//! An image's configuration while it is being made: the base's, with what the instructions change, and its history. Fields
//! that are not known stay as they are.

use serde_json::{Map, Value, json};
use windlass_oci::{Image, Platform};

use crate::dockerfile::{Command, Healthcheck};

/// The configuration of the image so far.
#[derive(Clone, Debug)]
pub(crate) struct Config(Value);

impl Config {
    /// Of nothing.
    pub(crate) fn empty() -> Self {
        let platform = Platform::host();
        Self(json!({"architecture": platform.architecture, "os": platform.os, "config": {}, "history": []}))
    }

    /// Of a base.
    pub(crate) fn of(image: &Image) -> Self {
        let mut config = Self(image.config_json().clone());
        if let Some(object) = config.0.as_object_mut() {
            // What they say about the base's own making is not true of what is made from it.
            for key in ["container", "container_config", "docker_version", "id", "parent", "rootfs"] {
                object.remove(key);
            }
            if !object.get("config").is_some_and(Value::is_object) {
                object.insert("config".to_owned(), json!({}));
            }
            if !object.get("history").is_some_and(Value::is_array) {
                object.insert("history".to_owned(), json!([]));
            }
        }
        // The history has one entry a layer, or it would be wrong from here on.
        let layers = image.layers().len();
        let history = config.history();
        let counted = history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count();
        if counted < layers {
            let created = config.created();
            let missing = (counted..layers).map(|_| json!({"created": created, "created_by": "base"}));
            history_of(&mut config.0).splice(0..0, missing);
        }
        config
    }

    /// The document, without `rootfs`.
    pub(crate) fn document(&self) -> &Value {
        &self.0
    }

    fn history(&self) -> &[Value] {
        self.0["history"].as_array().map_or(&[], Vec::as_slice)
    }

    /// When the last change was made.
    pub(crate) fn created(&self) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let last = self.history().iter().filter_map(|entry| text(&entry["created"])).next_back();
        last.or_else(|| text(&self.0["created"])).unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
    }

    /// Adds an entry to the history; without a time of its own it gets that of the last change.
    pub(crate) fn remember(&mut self, by: &str, created: Option<&str>, empty: bool) {
        let created = created.map_or_else(|| self.created(), str::to_owned);
        let mut entry = json!({"created": created, "created_by": by, "comment": "windlass"});
        if empty {
            entry["empty_layer"] = json!(true);
        }
        self.0["created"] = json!(created);
        history_of(&mut self.0).push(entry);
    }

    /// Turns all history entries from `first` on into ones without a layer, except the last.
    pub(crate) fn squash_history(&mut self, first: usize, has_layer: bool) {
        let history = history_of(&mut self.0);
        let last = history.len().saturating_sub(1);
        for (at, entry) in history.iter_mut().enumerate().skip(first) {
            if let Some(entry) = entry.as_object_mut() {
                if at == last && has_layer {
                    entry.remove("empty_layer");
                } else {
                    entry.insert("empty_layer".to_owned(), json!(true));
                }
            }
        }
    }

    pub(crate) fn history_len(&self) -> usize {
        self.history().len()
    }

    fn container(&mut self) -> &mut Map<String, Value> {
        if !self.0["config"].is_object() {
            self.0["config"] = json!({});
        }
        self.0["config"].as_object_mut().expect("invariant: just made an object")
    }

    /// A text of the container's configuration.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0["config"][key].as_str().filter(|text| !text.is_empty())
    }

    /// A list of texts of the container's configuration.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let texts = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.0["config"][key].as_array().map(texts).unwrap_or_default()
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.container().insert(key.to_owned(), value);
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.container().remove(key);
    }

    /// The author, an old instruction's.
    pub(crate) fn set_author(&mut self, author: &str) {
        self.0["author"] = json!(author);
    }

    /// The environment, in order.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let pair = |text: String| {
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            (name.to_owned(), value.to_owned())
        };
        self.list("Env").into_iter().map(pair).collect()
    }

    /// Sets a variable, in its old place where it has one.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.env();
        match env.iter_mut().find(|(known, _)| known == name) {
            Some(found) => found.1 = value.to_owned(),
            None => env.push((name.to_owned(), value.to_owned())),
        }
        self.set("Env", env.into_iter().map(|(name, value)| format!("{name}={value}")).collect());
    }

    /// Adds a key to a set or map such as `Labels`, `Volumes`, `ExposedPorts`.
    pub(crate) fn insert(&mut self, map: &str, key: &str, value: Value) {
        let container = self.container();
        if !container.get(map).is_some_and(Value::is_object) {
            container.insert(map.to_owned(), json!({}));
        }
        if let Some(map) = container.get_mut(map).and_then(Value::as_object_mut) {
            map.insert(key.to_owned(), value);
        }
    }

    /// The shell of shell forms.
    pub(crate) fn shell(&self) -> Vec<String> {
        let shell = self.list("Shell");
        if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell }
    }

    /// A command as program and arguments.
    pub(crate) fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.shell();
                words.push(text.clone());
                words
            }
        }
    }

    pub(crate) fn set_healthcheck(&mut self, check: &Healthcheck) {
        let test = match &check.command {
            None => json!(["NONE"]),
            Some(Command::Shell(text)) => json!(["CMD-SHELL", text]),
            Some(Command::Exec(words)) => {
                let mut test = vec!["CMD".to_owned()];
                test.extend(words.iter().cloned());
                json!(test)
            }
        };
        let mut value = json!({ "Test": test });
        let times = [
            ("Interval", check.interval_ns),
            ("Timeout", check.timeout_ns),
            ("StartPeriod", check.start_period_ns),
            ("StartInterval", check.start_interval_ns),
            ("Retries", check.retries),
        ];
        for (key, given) in times {
            if let Some(given) = given {
                value[key] = json!(given);
            }
        }
        self.set("Healthcheck", value);
    }
}

fn history_of(document: &mut Value) -> &mut Vec<Value> {
    if !document["history"].is_array() {
        document["history"] = json!([]);
    }
    document["history"].as_array_mut().expect("invariant: just made an array")
}

/// `80`, `80/udp`, `8000-8002/tcp`: each port with its protocol.
pub(crate) fn ports(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}
