//! Reports of runs that have ended: a WorkflowTaskResult has done its work once the end of its run is written. The API
//! reads a whole namespace to delete some of a kind by their label, so the reports of all runs that ended within a moment
//! go with one request. It must never take a report of a run that is in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tracing::debug;
use windlass_model::labels;

use super::{Key, seen};

/// How long the first of them waits for others.
const PAUSE: Duration = Duration::from_millis(500);
/// How many runs one request names: all of them have to go into its URL.
const RUNS_MAX: usize = 50;

/// Runs that have ended and left reports.
#[derive(Default)]
pub(super) struct Sweep {
    ended: BTreeMap<String, Vec<String>>,
    due: Option<Instant>,
}

impl Sweep {
    /// A run whose end is written.
    pub(super) fn add(&mut self, (namespace, name): Key) {
        self.ended.entry(namespace).or_default().push(name);
        self.due.get_or_insert_with(|| Instant::now() + PAUSE);
    }

    /// When it is time; nothing while nobody has ended.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whose reports are taken away now, in portions for [`clear`]. A run that is in memory again (retried, or another of
    /// that name) keeps its own.
    pub(super) fn take(&mut self, is_home: impl Fn(&Key) -> bool) -> Vec<Portion> {
        self.due = None;
        let mut portions = Vec::new();
        for (namespace, names) in std::mem::take(&mut self.ended) {
            let gone = |name: &String| !is_home(&(namespace.clone(), name.clone()));
            let names: Vec<String> = names.into_iter().filter(gone).collect();
            portions.extend(names.chunks(RUNS_MAX).map(|names| (namespace.clone(), names.to_vec())));
        }
        portions
    }
}

/// A namespace, and workflows in it.
type Portion = (String, Vec<String>);

/// Takes the reports of some runs away.
pub(super) async fn clear(client: Client, (namespace, names): Portion) {
    let api = Api::<DynamicObject>::namespaced_with(client, &namespace, &seen::task_results());
    let of_runs = ListParams::default().labels(&format!("{} in ({})", labels::WORKFLOW, names.join(",")));
    if let Err(e) = api.delete_collection(&DeleteParams::background(), &of_runs).await {
        debug!(namespace, runs = names.len(), error = %e, "reports stay until their workflows go");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_back_keep_their_reports_and_the_others_share_requests() {
        let mut sweep = Sweep::default();
        let key = |namespace: &str, name: String| (namespace.to_owned(), name);
        (0..60).for_each(|i| sweep.add(key("a", format!("w{i}"))));
        sweep.add(key("b", "w0".to_owned()));
        assert!(sweep.due().is_some());
        let portions = sweep.take(|key| key.0 == "a" && key.1 == "w7");
        let sizes: Vec<(&str, usize)> = portions.iter().map(|(ns, names)| (ns.as_str(), names.len())).collect();
        assert_eq!(sizes, [("a", 50), ("a", 9), ("b", 1)]);
        assert!(!portions.iter().any(|(ns, names)| ns == "a" && names.contains(&"w7".to_owned())));
        assert!(sweep.due().is_none() && sweep.take(|_| false).is_empty());
    }
}
