//! What the run holds of locks that span runs: which were asked for, what was answered, and how the status tells it.
//! Who gets a lock is decided elsewhere; a node that waits for one is in `node/admission.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use windlass_lang::tags::{self, Options};
use windlass_model::WorkflowPhase;
use windlass_model::lock::{LockAnswer, LockName};
use windlass_model::parameter::Inputs;
use windlass_model::template::Synchronization;

use crate::door::Command;
use crate::nodes::Ix;
use crate::run::Run;
use crate::scope::Scope;

/// How far one wish is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Hold {
    /// Asked for.
    Asked(Vec<LockName>),
    /// Others have it.
    Waiting { lock: LockName, message: String, holders: Vec<(LockName, Vec<String>)> },
    /// Held.
    Held(Vec<LockName>),
    /// Never to be had.
    Refused(String),
}

/// The wishes of a run, by node id; the run's own under the empty id.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    wishes: BTreeMap<String, Hold>,
    /// What each wish is for.
    wanted: BTreeMap<String, Vec<LockName>>,
    /// Locks that were there when somebody of this run asked.
    known: BTreeSet<LockName>,
    /// Nodes that were answered and may not be there any more.
    answered: Vec<String>,
    /// Whether the status must be told anew.
    changed: bool,
    /// Whether something was taken that the stored status does not know yet.
    taken: bool,
}

impl Run {
    /// Which locks a text of the user's means.
    pub(crate) fn lock_names(&self, wish: &Synchronization, inputs: Option<&Inputs>) -> Result<Vec<LockName>, String> {
        let value = serde_json::to_value(wish).map_err(|e| e.to_string())?;
        let scope = Scope { run: self, boundary: None, inputs, locals: &[], globals: true, item: None };
        let value = tags::substitute_value(&value, &scope, &Options::default())
            .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
        let wish: Synchronization = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let home = self.meta.namespace.clone().unwrap_or_default();
        let within = |n: &Option<String>| n.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| home.clone());
        let mut names = Vec::new();
        for semaphore in wish.semaphores.iter().chain(&wish.semaphore) {
            let invalid = |why: &str| format!("requested configuration is invalid: {why}");
            if let Some(database) = semaphore.database.as_ref().filter(|d| !d.is_null()) {
                if semaphore.config_map_key_ref.is_some() {
                    return Err(invalid("invalid semaphore with both ConfigMapKeyRef and Database"));
                }
                let Some(key) = database["key"].as_str().filter(|key| !key.is_empty()) else {
                    return Err(invalid("a semaphore in a database needs its key"));
                };
                let (namespace, name) = (within(&semaphore.namespace), key.to_owned());
                names.push(LockName::Database { namespace, name, mutex: false });
                continue;
            }
            let Some(key) = semaphore.config_map_key_ref.as_ref().filter(|r| !r.name.is_empty() && !r.key.is_empty())
            else {
                return Err(invalid("cannot get LockName for a Semaphore without a ConfigMapRef or Database"));
            };
            names.push(LockName::Semaphore {
                namespace: within(&semaphore.namespace),
                config_map: key.name.clone(),
                key: key.key.clone(),
            });
        }
        for mutex in wish.mutexes.iter().chain(&wish.mutex) {
            let (namespace, name) = (within(&mutex.namespace), mutex.name.clone());
            names.push(match mutex.database {
                Some(true) => LockName::Database { namespace, name, mutex: true },
                _ => LockName::Mutex { namespace, name },
            });
        }
        let before = names.len();
        names.sort();
        names.dedup();
        if names.len() != before {
            return Err("requested configuration is invalid: duplicate synchronization item found".to_owned());
        }
        Ok(names)
    }

    /// What has become of a wish.
    pub(crate) fn hold(&self, node_id: &str) -> Option<&Hold> {
        self.locks.wishes.get(node_id)
    }

    /// Whether every one of these locks was seen to be there.
    pub(crate) fn knows_locks(&self, names: &[LockName]) -> bool {
        names.iter().all(|name| name.is_mutex() || self.locks.known.contains(name))
    }

    /// Asks for locks.
    pub(crate) fn ask_locks(&mut self, node_id: &str, names: Vec<LockName>) {
        let command = Command::AskLocks {
            node_id: node_id.to_owned(),
            locks: names.clone(),
            priority: self.spec.priority.unwrap_or_default(),
            created: self.meta.creation_timestamp.map_or(self.now, |t| t.0),
        };
        self.commands.push(command);
        self.locks.wanted.insert(node_id.to_owned(), names.clone());
        self.locks.wishes.insert(node_id.to_owned(), Hold::Asked(names));
    }

    /// The answer to a wish. One that nobody has any more gives the locks back.
    pub(crate) fn observe_locks(&mut self, node_id: &str, answer: &LockAnswer) {
        let Some(names) = self.locks.wanted.get(node_id).cloned() else {
            if !matches!(answer, LockAnswer::Refused { .. }) {
                self.commands.push(Command::ReleaseLocks { node_id: Some(node_id.to_owned()) });
            }
            return;
        };
        let hold = match answer {
            LockAnswer::Granted => Hold::Held(names.clone()),
            LockAnswer::Waiting { lock, message, holders } => {
                Hold::Waiting { lock: lock.clone(), message: message.clone(), holders: holders.clone() }
            }
            LockAnswer::Refused { message } => Hold::Refused(message.clone()),
        };
        let before = self.locks.wishes.get(node_id);
        if before == Some(&hold) || matches!(before, Some(Hold::Held(_))) {
            return;
        }
        if matches!(hold, Hold::Held(_)) {
            self.locks.taken = true;
        }
        if !matches!(hold, Hold::Refused(_)) {
            self.locks.known.extend(names);
        }
        self.locks.changed = true;
        self.locks.wishes.insert(node_id.to_owned(), hold);
        self.locks.answered.push(node_id.to_owned());
        match self.nodes.find(node_id) {
            Some(ix) => self.enqueue(ix),
            None => self.look_again_at_waiting(),
        }
    }

    /// Gives a wish back, held or not.
    pub(crate) fn release_locks(&mut self, node_id: &str) {
        if self.locks.wishes.remove(node_id).is_some() {
            self.locks.wanted.remove(node_id);
            self.locks.changed = true;
            self.commands.push(Command::ReleaseLocks { node_id: Some(node_id.to_owned()) });
        }
    }

    /// The same, of a node of the table.
    pub(crate) fn release_locks_of(&mut self, ix: Ix) {
        if !self.locks.wishes.is_empty() {
            let id = self.nodes.list[ix].status.id.clone();
            self.release_locks(&id);
        }
    }

    /// Whether the run as a whole has the locks that it asks for. `Err(None)`: wait. `Err(Some)`: it never will.
    pub(crate) fn admit_run(&mut self) -> Result<(), Option<(WorkflowPhase, String)>> {
        let Some(wish) = self.spec.synchronization.clone() else { return Ok(()) };
        let failed =
            |m: String| Some((WorkflowPhase::Failed, format!("Failed to acquire the synchronization lock. {m}")));
        let names = self.lock_names(&wish, None).map_err(failed)?;
        let hold = self.hold("").cloned();
        if let (Some(how), false) = (&self.shutdown, matches!(hold, Some(Hold::Held(_)))) {
            let message = format!("Stopped with strategy '{how}'");
            self.release_locks("");
            return Err(Some((WorkflowPhase::Failed, message)));
        }
        match hold {
            _ if names.is_empty() => Ok(()),
            Some(Hold::Held(_)) => Ok(()),
            None => {
                self.ask_locks("", names);
                Err(None)
            }
            Some(Hold::Asked(_)) => Err(None),
            Some(Hold::Waiting { message, .. }) => {
                // A run that somebody retries is running already.
                let phase = match self.status.phase {
                    WorkflowPhase::Unknown => WorkflowPhase::Pending,
                    phase => phase,
                };
                if self.status.phase != phase || self.status.message.as_deref() != Some(&message) {
                    self.mark_workflow(phase, &message);
                }
                Err(None)
            }
            Some(Hold::Refused(message)) => {
                self.release_locks("");
                Err(failed(message))
            }
        }
    }

    /// The run is over, and so is all it holds.
    pub(crate) fn release_all_locks(&mut self) {
        if self.locks.wishes.is_empty() && self.status.synchronization.is_none() {
            return;
        }
        self.locks.wishes.clear();
        self.locks.wanted.clear();
        self.locks.changed = true;
        self.commands.push(Command::ReleaseLocks { node_id: None });
    }

    /// Whatever was granted to a node that did not come to be is given back.
    pub(crate) fn return_unused_locks(&mut self) {
        let answered = std::mem::take(&mut self.locks.answered);
        let unused = answered.into_iter().filter(|id| !id.is_empty() && self.nodes.find(id).is_none());
        let unused: Vec<String> = unused.collect();
        for id in unused {
            self.release_locks(&id);
        }
    }

    /// Takes up from the status what the run held when it was left. What belongs to ended nodes is given back.
    pub(crate) fn restore_locks(&mut self) {
        let Some(status) = self.status.synchronization.clone() else { return };
        self.locks.changed = true;
        let prefix = format!("{}/{}", self.meta.namespace.as_deref().unwrap_or_default(), self.workflow_name());
        for (name, holder) in held_in(&status) {
            let Some(rest) = holder.strip_prefix(&prefix) else { continue };
            let id = rest.strip_prefix('/').unwrap_or(rest).to_owned();
            self.locks.known.insert(name.clone());
            self.locks.wanted.entry(id.clone()).or_default().push(name.clone());
            if let Hold::Held(names) = self.locks.wishes.entry(id).or_insert_with(|| Hold::Held(Vec::new())) {
                names.push(name);
            }
        }
        let ended: Vec<String> = self
            .locks
            .wishes
            .keys()
            .filter(|id| {
                !id.is_empty() && self.nodes.find(id).is_none_or(|ix| self.nodes.list[ix].status.is_fulfilled())
            })
            .cloned()
            .collect();
        for id in ended {
            self.release_locks(&id);
        }
    }

    /// Writes into the status what is held and waited for; true when it must be stored before anything is done.
    pub(crate) fn tell_locks(&mut self) -> bool {
        if std::mem::take(&mut self.locks.changed) {
            let told = self.locks_told();
            if self.status.synchronization != told {
                self.status.synchronization = told;
                self.dirty = true;
            }
        }
        std::mem::take(&mut self.locks.taken)
    }

    fn locks_told(&self) -> Option<Value> {
        let own = format!("{}/{}", self.meta.namespace.as_deref().unwrap_or_default(), self.workflow_name());
        let mut holding: BTreeMap<&LockName, Vec<String>> = BTreeMap::new();
        let mut waiting: BTreeMap<&LockName, &Vec<String>> = BTreeMap::new();
        for (id, hold) in &self.locks.wishes {
            match hold {
                Hold::Held(names) => {
                    let key = if id.is_empty() { own.clone() } else { format!("{own}/{id}") };
                    names.iter().for_each(|name| holding.entry(name).or_default().push(key.clone()));
                }
                Hold::Waiting { holders, .. } => waiting.extend(holders.iter().map(|(name, who)| (name, who))),
                Hold::Asked(_) | Hold::Refused(_) => {}
            }
        }
        if holding.is_empty() && waiting.is_empty() {
            return None;
        }
        let part = |mutex: bool| {
            let row = |name: &LockName, who: &Vec<String>| {
                if mutex {
                    json!({"mutex": name.to_string(), "holder": who.first().cloned().unwrap_or_default()})
                } else {
                    json!({"semaphore": name.to_string(), "holders": who})
                }
            };
            let of_kind = |name: &LockName| name.is_mutex() == mutex;
            let held: Vec<Value> = holding.iter().filter(|(n, _)| of_kind(n)).map(|(n, w)| row(n, w)).collect();
            let awaited: Vec<Value> = waiting.iter().filter(|(n, _)| of_kind(n)).map(|(n, w)| row(n, w)).collect();
            // A patch only takes away what it names.
            let or_null = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
            match (or_null(held), or_null(awaited)) {
                (Value::Null, Value::Null) => Value::Null,
                (held, awaited) => json!({"holding": held, "waiting": awaited}),
            }
        };
        Some(json!({"mutex": part(true), "semaphore": part(false)}))
    }
}

/// Every lock and its holder that a status tells of. Names that cannot be read are passed over.
pub fn held_in(status: &Value) -> Vec<(LockName, String)> {
    let list = |kind: &str| status[kind]["holding"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let mutexes = list("mutex")
        .into_iter()
        .filter_map(|row| Some((LockName::read(row["mutex"].as_str()?, true).ok()?, text(&row["holder"])?)));
    let semaphores = list("semaphore").into_iter().flat_map(|row| {
        let name: Option<LockName> = row["semaphore"].as_str().and_then(|n| LockName::read(n, false).ok());
        let holders = row["holders"].as_array().cloned().unwrap_or_default();
        holders.into_iter().filter_map(move |holder| Some((name.clone()?, holder.as_str()?.to_owned())))
    });
    mutexes.chain(semaphores).collect()
}
