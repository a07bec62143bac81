//! kill -9 of `up` at random moments: the run goes on, and what had finished stays finished.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{House, until};

const STEPS: usize = 8;
const KILLS: usize = 10;
/// Lost pods are made again so many times; a case that kills one step more often tests something else.
const LOSSES_MAX: usize = 3;

/// xorshift: enough to be random, and the same again for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// `step uid` of each time a step's container began.
fn begun(file: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn ten_kills_and_it_ends_well() {
    let Some(house) = House::new("ten kills") else { return };
    let seed = match std::env::var("WINDLASS_TEST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) * 2_654_435_761 + 1,
    };
    println!("WINDLASS_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let share = house.path("share");
    std::fs::create_dir(&share).unwrap();
    let share_text = share.to_str().unwrap().to_owned();
    let file = house.workflow("long", &workflow(&share_text));
    let more = ["--allow-path", share_text.as_str()];
    let mut up = house.up(&more);
    let name = house.windlass(&["submit", &file, "-o", "name"]).ok().stdout.trim().to_owned();
    let mut finished: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    // By the number of steps that had finished.
    let mut killed = [0; STEPS + 1];
    for kill in 0..KILLS {
        let wait = Duration::from_millis(dice.below(1200));
        std::thread::sleep(wait);
        // Not the same step too often: its budget of lost pods is documented, and not what this asks. A pod can be lost
        // before it has written its line, so that kills are counted.
        let waited = Instant::now();
        let (seen, done) = loop {
            let seen = house.windlass(&["get", &name, "-o", "json"]).ok().json();
            let nodes = seen["status"]["nodes"].as_object().cloned().unwrap_or_default();
            let done: Vec<Value> =
                nodes.into_values().filter(|n| n["type"] == "Pod" && n["phase"] == "Succeeded").collect();
            let patient = waited.elapsed() < Duration::from_secs(20);
            if killed[done.len()] < LOSSES_MAX || done.len() == STEPS || !patient {
                break (seen, done);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        killed[done.len()] += 1;
        let lines = begun(&share.join("begun"));
        for node in &done {
            let step = node["displayName"].as_str().unwrap().to_owned();
            let own = lines.iter().filter(|(s, _)| *s == step).cloned().collect();
            finished.entry(step).or_insert(own);
        }
        println!("kill {kill} after {wait:?}: {} of {STEPS} finished", finished.len());
        assert_ne!(seen["status"]["phase"], "Failed", "{:#}", seen["status"]);
        up.crash();
        up = house.up(&more);
    }
    let wf = until("the workflow has ended", Duration::from_secs(60), || {
        let wf = house.windlass(&["get", &name, "-o", "json"]).ok().json();
        wf["status"]["finishedAt"].is_string().then_some(wf)
    });
    assert_eq!(wf["status"]["phase"], "Succeeded", "{:#}", wf["status"]);
    let lines = begun(&share.join("begun"));
    let steps: BTreeSet<&str> = lines.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(steps.len(), STEPS, "{lines:?}");
    for (step, before) in &finished {
        let now: Vec<_> = lines.iter().filter(|(s, _)| s == step).cloned().collect();
        assert_eq!(*before, now, "{step} had finished and ran again");
    }
    let uids: BTreeSet<&str> = lines.iter().map(|(_, uid)| uid.as_str()).collect();
    assert_eq!(uids.len(), lines.len(), "one pod's container ran twice: {lines:?}");
    assert!(!finished.is_empty() && lines.len() >= STEPS);
    let list = house.windlass(&["list", "-o", "name"]).ok().stdout;
    assert_eq!(list.lines().count(), 1, "{list}");
    up.end().exits(0);
}

fn workflow(share: &str) -> String {
    let steps: String = (0..STEPS).map(|i| format!("  - - {{name: s{i}, template: work}}\n")).collect();
    format!(
        "entrypoint: main
volumes:
- name: share
  hostPath: {{path: {share}}}
templates:
- name: main
  steps:
{steps}
- name: work
  container:
    image: busybox
    command: [sh, -c]
    args: ['echo {{{{node.name}}}} $UID_OF_POD | busybox sed \"s/^.*[.]//\" >> /share/begun; busybox sleep 0.4']
    env:
    - name: UID_OF_POD
      valueFrom: {{fieldRef: {{fieldPath: metadata.uid}}}}
    volumeMounts: [{{name: share, mountPath: /share}}]
"
    )
}
