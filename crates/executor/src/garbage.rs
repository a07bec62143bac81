//! The work of a ledger: artifacts removed from their stores, each on its own. What is not there any more is removed. It is
//! done by whoever holds the stores' Secrets; the pod's own container only tells how it went.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use windlass_artifacts::Cancel;
use windlass_artifacts::location::Location;
use windlass_model::Artifact;
use windlass_model::parameter::Outputs;

use crate::inputs::{Secrets, Stores, value};

/// So many at the same time.
const HANDS: usize = 8;
/// A store that does not answer is asked so often, after 250 ms, 500 ms, 1 s.
const TRIES: u32 = 4;

/// Removes them all; in their order nothing, or why one is still there. Blocks.
pub fn remove(garbage: &[Artifact], stores: &Stores, secrets: &Secrets, cancel: &Cancel) -> Vec<Option<String>> {
    let next = AtomicUsize::new(0);
    let mut told = vec![None; garbage.len()];
    let hand = || {
        let mut mine = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(artifact) = garbage.get(at) else { return mine };
            mine.push((at, remove_one(artifact, stores, secrets, cancel).err()));
        }
    };
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS.min(garbage.len())).map(|_| scope.spawn(hand)).collect();
        for hand in hands {
            for (at, answer) in hand.join().unwrap_or_default() {
                told[at] = answer;
            }
        }
    });
    told
}

fn remove_one(artifact: &Artifact, stores: &Stores, secrets: &Secrets, cancel: &Cancel) -> Result<(), String> {
    let json = value(artifact).map_err(|e| e.to_string())?;
    let location = Location::parse(&json, &|r| secrets.get(r).cloned()).map_err(|e| e.to_string())?;
    let driver = location.driver(&stores.local, &stores.outside).map_err(|e| e.to_string())?;
    let mut attempt = 0;
    loop {
        match driver.delete(cancel) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && attempt + 1 < TRIES && !cancel.is_cancelled() => {
                std::thread::sleep(Duration::from_millis(250 << attempt));
                attempt += 1;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What the pod reports: one entry an artifact, and in words what stayed.
pub fn told(garbage: &[Artifact], answers: &Value) -> (Outputs, Option<String>) {
    let errors: Vec<String> = garbage
        .iter()
        .zip(answers.as_array().into_iter().flatten())
        .filter_map(|(artifact, answer)| Some(format!("{}: {}", artifact.name, answer.as_str()?)))
        .collect();
    let outputs = Outputs { result: Some(answers.to_string()), ..Outputs::default() };
    let problem = match errors.as_slice() {
        [] => None,
        [first, ..] => Some(format!("{} of {} artifacts could not be removed; {first}", errors.len(), garbage.len())),
    };
    (outputs, problem)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use windlass_artifacts::git::GitAccess;
    use windlass_artifacts::store::{Driver, LocalStore, Payload};

    #[test]
    fn each_on_its_own_and_twice_is_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores {
            local: LocalStore::open(dir.path()).unwrap(),
            git: GitAccess::default(),
            outside: windlass_artifacts::Outside::default(),
        };
        let save = |key: &str| {
            let object = stores.local.at(key).unwrap();
            object.save(Payload::File(&mut &b"x"[..]), &Cancel::new()).unwrap();
            object
        };
        let (a, kept) = (save("wf/a"), save("wf/kept"));
        let garbage: Vec<Artifact> = serde_json::from_value(json!([
            {"name": "a", "local": {"key": "wf/a"}},
            {"name": "never", "local": {"key": "wf/never"}},
            {"name": "up", "local": {"key": "wf/../x"}},
            {"name": "nowhere"},
        ]))
        .unwrap();
        for _ in 0..2 {
            let answers = remove(&garbage, &stores, &Secrets::new(), &Cancel::new());
            assert_eq!((&answers[0], &answers[1]), (&None, &None));
            let (outputs, problem) = told(&garbage, &json!(answers));
            assert!(problem.unwrap().starts_with("2 of 4 artifacts could not be removed; up: "));
            let result: Vec<Option<String>> = serde_json::from_str(&outputs.result.unwrap()).unwrap();
            assert_eq!(result.iter().filter(|r| r.is_some()).count(), 2);
        }
        assert!(!a.exists(&Cancel::new()).unwrap());
        assert!(kept.exists(&Cancel::new()).unwrap());
        assert_eq!(told(&garbage[..1], &json!([null])).1, None);
    }
}
