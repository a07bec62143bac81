//! Remembered outputs: what a cache says of a key, and what is written into it. The entries are Argo's own. It reads no
//! cache, and one that cannot be written costs nothing but the next hit.
//!
//! | the template has | is remembered in | under |
//! |---|---|---|
//! | `memoize` | the ConfigMap | its key |
//! | `memoize` and the annotation `windlass.dev/cache` | our own cache, the part `windlass.dev/cache/CONFIGMAP` | its key, of any form |
//! | the annotation alone (its own, or its workflow's) | our own cache, `windlass.dev/cache` | what it is made of: template and inputs |
//!
//! A node asks before it begins (and after it has its locks). A hit ends it well without anything having run; a miss lets
//! it begin; a cache that is none ends it as an error.

use std::collections::HashMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use windlass_lang::tags::{self, Options};
use windlass_model::parameter::{Inputs, Outputs};
use windlass_model::{NodePhase, NodeType, Template, Time, labels};

use crate::door::Command;
use crate::names;
use crate::nodes::{Call, Ix};
use crate::opening::Opened;
use crate::run::Run;
use crate::scope::Scope;

/// One thing remembered, as it stands in the ConfigMap.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "nodeID", default)]
    node_id: String,
    outputs: Option<Outputs>,
    creation_timestamp: Time,
    last_hit_timestamp: Time,
}

/// Where a node's outputs are remembered.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// A ConfigMap, or a part of our own cache.
    cache: String,
    key: String,
    max_age_ms: Option<i64>,
}

/// How a template wants to be remembered.
struct Wish {
    /// As in [`Place`].
    cache: Option<String>,
    /// The user's own; else it is made of what the template is.
    key: Option<String>,
    max_age: Option<String>,
}

/// What says nothing of what a template makes: neither the names of things, nor how often, when and where it is tried.
const NOT_MADE_OF: [&str; 19] = [
    "name",
    "metadata",
    "annotations",
    "memoize",
    "retryStrategy",
    "synchronization",
    "parallelism",
    "timeout",
    "activeDeadlineSeconds",
    "priority",
    "priorityClassName",
    "schedulerName",
    "metrics",
    "failFast",
    "nodeSelector",
    "affinity",
    "tolerations",
    "archiveLocation",
    "inputs",
];

/// Whether a cache is a part of our own, and no ConfigMap: those have no `/` in their names.
pub fn is_own_cache(name: &str) -> bool {
    name.strip_prefix(labels::CACHE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a template does work of its own that follows from what it is given.
pub(crate) fn can_be_remembered(template: &Template) -> bool {
    let works = template.container.is_some()
        || template.script.is_some()
        || template.container_set.is_some()
        || template.data.is_some();
    works && template.daemon != Some(true)
}

/// Whether it mounts what nobody can see into.
fn has_mounts(template: &Template) -> bool {
    let parts = [&template.container, &template.script];
    parts.into_iter().flatten().any(|c| c["volumeMounts"].as_array().is_some_and(|mounts| !mounts.is_empty()))
        || template.container_set.as_ref().is_some_and(|set| {
            !set.volume_mounts.is_empty() || set.containers.iter().any(|c| c["volumeMounts"].is_array())
        })
}

/// What a node that asked knows.
#[derive(Debug)]
enum Asked {
    Reading(Place),
    Hit(Option<Outputs>),
    Miss,
    Wrong(String),
}

/// The questions of a run, by node id.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    asked: HashMap<String, Asked>,
}

impl Run {
    /// How a template wants to be remembered, if it does.
    fn memo_wish(&self, template: &Template) -> Option<Wish> {
        let own = template.annotations.get(labels::CACHE).or_else(|| template.metadata.annotations.get(labels::CACHE));
        let whole = self.meta.annotations.get(labels::CACHE);
        let (said, by_whole) = match (own, whole) {
            (Some(own), _) => (own.trim(), false),
            (None, Some(whole)) => (whole.trim(), true),
            (None, None) => ("false", true),
        };
        let age = Some(said.to_owned()).filter(|said| said != "true");
        match &template.memoize {
            // The workflow's word does not take away the place that a template names itself.
            Some(memoize) => {
                let map = memoize.cache.as_ref().and_then(|c| c.config_map.as_ref()).map(|m| m.name.clone());
                let map = map.filter(|n| !n.is_empty());
                let max_age = memoize.max_age.clone().filter(|t| !t.is_empty());
                let key = Some(memoize.key.clone());
                if by_whole || said == "false" {
                    return Some(Wish { cache: map, key, max_age });
                }
                let cache = map.map_or_else(|| labels::CACHE.to_owned(), |map| format!("{}/{map}", labels::CACHE));
                Some(Wish { cache: Some(cache), key, max_age: max_age.or(age) })
            }
            None if said == "false" || !can_be_remembered(template) || (by_whole && has_mounts(template)) => None,
            None => Some(Wish { cache: Some(labels::CACHE.to_owned()), key: None, max_age: age }),
        }
    }

    fn memo_place(&self, wish: &Wish, template: &Template, inputs: &Inputs) -> Result<Place, String> {
        let scope = Scope { run: self, boundary: None, inputs: Some(inputs), locals: &[], globals: true, item: None };
        let text = |t: &str| {
            tags::substitute(t, &scope, &Options::default()).map_err(|faults| crate::inputs::first_message(&faults))
        };
        let cache = text(wish.cache.as_deref().ok_or("memoize.cache.configMap.name is required")?)?;
        let key = match &wish.key {
            Some(key) => text(key)?,
            None => made_of(template, inputs, &scope)?,
        };
        let plain = |c: char| c.is_ascii_alphanumeric();
        let fits = key.starts_with(plain) && key.chars().all(|c| plain(c) || c == '-');
        if key.is_empty() || !(fits || is_own_cache(&cache)) {
            return Err(format!("invalid cache key: {key}"));
        }
        let max_age_ms = match wish.max_age.as_deref() {
            None => None,
            Some(age) => {
                let age = text(age)?;
                Some(crate::duration::parse_ms(&age).ok_or_else(|| format!("invalid maxAge: '{age}' is no duration"))?)
            }
        };
        Ok(Place { cache, key, max_age_ms })
    }

    /// What a row says of its cache.
    pub(crate) fn memo_told(&self, template: &Template, inputs: &Inputs, hit: bool) -> Option<Value> {
        let place = self.memo_place(&self.memo_wish(template)?, template, inputs).ok()?;
        Some(json!({"hit": hit, "key": place.key, "cacheName": place.cache}))
    }

    /// Whether the cache has been asked for a node, and has answered; asks it if not. True where there is none to ask.
    pub(crate) fn ask_memo(&mut self, id: &str, template: &Template, inputs: &Inputs) -> bool {
        match self.memo.asked.get(id) {
            Some(Asked::Reading(_)) => false,
            Some(_) => true,
            None => {
                let Some(wish) = self.memo_wish(template) else { return true };
                match self.memo_place(&wish, template, inputs) {
                    Ok(place) => {
                        let (cache, key) = (place.cache.clone(), place.key.clone());
                        self.memo.asked.insert(id.to_owned(), Asked::Reading(place));
                        self.commands.push(Command::LoadCache { node_id: id.to_owned(), cache, key });
                        false
                    }
                    Err(message) => {
                        self.memo.asked.insert(id.to_owned(), Asked::Wrong(message));
                        true
                    }
                }
            }
        }
    }

    /// What a call comes to by its cache; nothing when it is to run.
    pub(crate) fn remember(
        &mut self,
        call: &Call,
        type_: NodeType,
        template: &Template,
        inputs: &Inputs,
    ) -> Option<Opened> {
        self.memo_wish(template)?;
        let id = names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        if let Some(ix) = existing {
            let row = &self.nodes.list[ix].status;
            // It has begun, or was answered before the run was loaded.
            if row.memoization_status.is_some()
                || (row.phase != NodePhase::Pending && !self.memo.asked.contains_key(&id))
            {
                return None;
            }
        }
        if !self.ask_memo(&id, template, inputs) {
            if let Some(parent) = call.parent {
                self.waiting.insert(parent);
            }
            return Some(Opened::Waiting);
        }
        match self.memo.asked.remove(&id)? {
            Asked::Reading(_) | Asked::Miss => None,
            Asked::Wrong(message) => Some(self.open_failed(call, message)),
            Asked::Hit(outputs) => {
                let new = existing.is_none();
                let told = self.memo_told(template, inputs, true);
                let ix = existing.unwrap_or_else(|| {
                    let mut row = self.row(call, type_, NodePhase::Pending);
                    row.inputs = (!inputs.is_empty()).then(|| inputs.clone());
                    self.name_for_people(&mut row, template, inputs);
                    self.nodes.insert(row)
                });
                self.attach(ix, call);
                if let Some(outputs) = &outputs {
                    self.publish_globals(outputs);
                }
                let row = &mut self.nodes.list[ix].status;
                row.memoization_status = told;
                row.outputs = outputs;
                self.mark(ix, NodePhase::Succeeded, None);
                Some(Opened::Node { ix, new })
            }
        }
    }

    /// A cache as it is now, or that there is none.
    pub(crate) fn observe_cache(&mut self, node_id: &str, object: Option<&Value>) {
        let Some(Asked::Reading(place)) = self.memo.asked.get(node_id) else { return };
        let place = place.clone();
        let answer = match self.entry(&place, object) {
            Ok(Some(mut entry)) => {
                entry.last_hit_timestamp = Time::from_timestamp(self.now);
                self.write_entry(&place.cache, &place.key, &entry);
                Asked::Hit(entry.outputs)
            }
            Ok(None) => Asked::Miss,
            Err(message) => Asked::Wrong(message),
        };
        self.memo.asked.insert(node_id.to_owned(), answer);
        match self.nodes.find(node_id) {
            Some(ix) => self.enqueue(ix),
            None => self.look_again_at_waiting(),
        }
    }

    /// What a cache has under a key that is still good.
    fn entry(&self, place: &Place, object: Option<&Value>) -> Result<Option<Entry>, String> {
        let Some(object) = object else { return Ok(None) };
        let label = labels::CONFIGMAP_TYPE;
        match object["metadata"]["labels"][label].as_str() {
            Some("Cache") => {}
            None => return Err(format!("memoization configmap doesn't have {label} label, refusing to use it")),
            Some(_) => {
                return Err(format!("memoization configmap doesn't have label {label} = Cache, refusing to use it"));
            }
        }
        let Some(text) = object["data"][&place.key].as_str().filter(|t| !t.is_empty()) else { return Ok(None) };
        let entry: Entry = serde_json::from_str(text)
            .map_err(|e| format!("malformed cache entry: could not unmarshal JSON; unable to parse: {e}"))?;
        let age = SignedDuration::from_secs(self.now.as_second() - entry.creation_timestamp.0.as_second());
        let too_old = place.max_age_ms.is_some_and(|max| age > SignedDuration::from_millis(max));
        Ok(Some(entry).filter(|entry| !entry.node_id.is_empty() && !too_old))
    }

    /// Remembers what a node made, where its row says so.
    pub(crate) fn memorize(&mut self, ix: Ix) {
        let row = &self.nodes.list[ix].status;
        // Of a retry node it is the attempt that is remembered.
        let Some(memo) = row.memoization_status.as_ref().filter(|m| m["hit"] == false && row.type_ != NodeType::Retry)
        else {
            return;
        };
        let text = |field: &str| memo[field].as_str().unwrap_or_default().to_owned();
        let (cache, key) = (text("cacheName"), text("key"));
        let now = Time::from_timestamp(self.now);
        let entry = Entry {
            node_id: row.id.clone(),
            outputs: row.outputs.clone(),
            creation_timestamp: now,
            last_hit_timestamp: now,
        };
        self.write_entry(&cache, &key, &entry);
    }

    fn write_entry(&mut self, cache: &str, key: &str, entry: &Entry) {
        let Ok(entry) = serde_json::to_string(entry) else { return };
        let (cache, key) = (cache.to_owned(), key.to_owned());
        self.commands.push(Command::SaveCache { cache, key, entry });
    }
}

/// A key of what a template is made of: itself, with its tags replaced, and its inputs. An artifact counts by its place, an
/// image by its name, which is its content where that has a digest.
fn made_of(template: &Template, inputs: &Inputs, scope: &Scope<'_>) -> Result<String, String> {
    let template = crate::pod_spec::substituted_template(template, scope)?;
    let mut value = serde_json::to_value(&template).map_err(|e| e.to_string())?;
    if let Some(fields) = value.as_object_mut() {
        NOT_MADE_OF.iter().for_each(|field| drop(fields.remove(*field)));
    }
    let inputs = serde_json::to_value(inputs).map_err(|e| e.to_string())?;
    let mut text = String::new();
    write_sorted(&json!({"form": 1, "template": value, "inputs": inputs}), &mut text);
    Ok(hex::encode(Sha256::digest(text.as_bytes())))
}

/// JSON with the keys of maps in order, so that the same says the same however it was written.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, value) in fields {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for value in list {
                write_sorted(value, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_is_the_same() {
        let text = |value: Value| {
            let mut out = String::new();
            write_sorted(&value, &mut out);
            out
        };
        let one: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": "a"}], "a": true}"#).unwrap_or_default();
        let same: Value = serde_json::from_str(r#"{"a": true, "b": [1, {"x": "a", "y": null}]}"#).unwrap_or_default();
        assert_eq!(text(one.clone()), text(same));
        assert_eq!(text(one), r#"{"a":true,"b":[1,{"x":"a","y":null,},],}"#);
        assert_ne!(text(json!(["a", "b"])), text(json!(["a,b"])));
    }

    #[test]
    fn own_caches_have_names_that_no_config_map_has() {
        assert!(is_own_cache("windlass.dev/cache") && is_own_cache("windlass.dev/cache/mine"));
        assert!(!is_own_cache("windlass.dev") && !is_own_cache("cache") && !is_own_cache("windlass.dev/caches"));
    }
}
