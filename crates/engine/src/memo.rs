//! Remembered outputs (`memoize`): what a cache's ConfigMap says of a key, and what is written into it. The entries are
//! Argo's own. It reads no ConfigMap, and a cache that cannot be written costs nothing but the next hit.
//!
//! A node asks before it begins (and after it has its locks). A hit ends it well without anything having run; a miss lets
//! it begin; a cache that is none ends it as an error.

use std::collections::HashMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windlass_lang::tags::{self, Options};
use windlass_model::parameter::{Inputs, Outputs};
use windlass_model::template::Memoize;
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
    config_map: String,
    key: String,
    max_age_ms: Option<i64>,
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
    fn memo_place(&self, memoize: &Memoize, inputs: &Inputs) -> Result<Place, String> {
        let scope = Scope { run: self, boundary: None, inputs: Some(inputs), locals: &[], globals: true, item: None };
        let text = |t: &str| {
            tags::substitute(t, &scope, &Options::default()).map_err(|faults| crate::inputs::first_message(&faults))
        };
        let map = memoize.cache.as_ref().and_then(|c| c.config_map.as_ref()).map(|m| m.name.as_str());
        let config_map = text(map.filter(|n| !n.is_empty()).ok_or("memoize.cache.configMap.name is required")?)?;
        let key = text(&memoize.key)?;
        let plain = |c: char| c.is_ascii_alphanumeric();
        if !key.starts_with(plain) || !key.chars().all(|c| plain(c) || c == '-') {
            return Err(format!("invalid cache key: {key}"));
        }
        let max_age_ms = match memoize.max_age.as_deref().filter(|t| !t.is_empty()) {
            None => None,
            Some(age) => {
                let age = text(age)?;
                Some(crate::duration::parse_ms(&age).ok_or_else(|| format!("invalid maxAge: '{age}' is no duration"))?)
            }
        };
        Ok(Place { config_map, key, max_age_ms })
    }

    /// What a row says of its cache.
    pub(crate) fn memo_told(&self, template: &Template, inputs: &Inputs, hit: bool) -> Option<Value> {
        let place = self.memo_place(template.memoize.as_ref()?, inputs).ok()?;
        Some(json!({"hit": hit, "key": place.key, "cacheName": place.config_map}))
    }

    /// Whether the cache has been asked for a node, and has answered; asks it if not.
    pub(crate) fn ask_memo(&mut self, id: &str, memoize: &Memoize, inputs: &Inputs) -> bool {
        match self.memo.asked.get(id) {
            Some(Asked::Reading(_)) => false,
            Some(_) => true,
            None => match self.memo_place(memoize, inputs) {
                Ok(place) => {
                    let config_map = place.config_map.clone();
                    self.memo.asked.insert(id.to_owned(), Asked::Reading(place));
                    self.commands.push(Command::LoadCache { node_id: id.to_owned(), config_map });
                    false
                }
                Err(message) => {
                    self.memo.asked.insert(id.to_owned(), Asked::Wrong(message));
                    true
                }
            },
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
        let memoize = template.memoize.as_ref()?;
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
        if !self.ask_memo(&id, memoize, inputs) {
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
                self.write_entry(&place.config_map, &place.key, &entry);
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
        let (config_map, key) = (text("cacheName"), text("key"));
        let now = Time::from_timestamp(self.now);
        let entry = Entry {
            node_id: row.id.clone(),
            outputs: row.outputs.clone(),
            creation_timestamp: now,
            last_hit_timestamp: now,
        };
        self.write_entry(&config_map, &key, &entry);
    }

    fn write_entry(&mut self, config_map: &str, key: &str, entry: &Entry) {
        let Ok(entry) = serde_json::to_string(entry) else { return };
        let (config_map, key) = (config_map.to_owned(), key.to_owned());
        self.commands.push(Command::SaveCache { config_map, key, entry });
    }
}
