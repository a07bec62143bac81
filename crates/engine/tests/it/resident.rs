//! A resident run and one that is loaded anew after every step decide the same; and big runs are not walked for every
//! pod.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use crate::world::{Script, World};

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|f| Script::parse(&std::fs::read_to_string(f).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loaded_anew_it_decides_the_same(order in proptest::collection::vec(0usize..8, 64)) {
        for script in scripts() {
            let mut resident = World::new(&script);
            let mut picks = order.iter().copied().cycle();
            resident.run_out(|_| picks.next().unwrap_or(0), |_| {});
            let mut fresh = World::new(&script);
            let mut picks = order.iter().copied().cycle();
            fresh.run_out(|_| picks.next().unwrap_or(0), World::reload);
            prop_assert_eq!(resident.told(), fresh.told());
            prop_assert!(fresh.run.is_completed());
            prop_assert_eq!(&resident.stored["status"]["nodes"], &fresh.stored["status"]["nodes"]);
            // What was patched together is what the run says.
            let whole = serde_json::to_value(resident.run.status()).unwrap();
            prop_assert_eq!(&resident.stored["status"]["nodes"], &whole["nodes"]);
            prop_assert_eq!(&resident.stored["status"]["phase"], &whole["phase"]);
        }
    }
}

#[test]
fn a_wide_loop_costs_no_walk_for_each_pod() {
    let script = Script {
        workflow: json!({
            "metadata": {"name": "wide"},
            "spec": {"entrypoint": "main", "templates": [
                {"name": "main", "steps": [[{"name": "s", "template": "one", "withSequence": {"count": 10_000},
                    "arguments": {"parameters": [{"name": "n", "value": "{{item}}"}]}}]]},
                {"name": "one", "inputs": {"parameters": [{"name": "n"}]},
                    "container": {"image": "busybox", "args": ["{{inputs.parameters.n}}"]}},
            ]},
        }),
        objects: Vec::new(),
        pods: Default::default(),
        hands: Vec::new(),
        held: Vec::new(),
    };
    let mut world = World::new(&script);
    world.step(vec![windlass_engine::Observation::Surveyed]);
    assert_eq!(world.running.len(), 10_000);
    let names: Vec<String> = world.running.keys().cloned().collect();
    for name in &names[..names.len() - 1] {
        let seen = world.end(name);
        world.run.step(&seen, world.now);
        let patch = world.run.take_patch().unwrap();
        assert_eq!(patch["status"]["nodes"].as_object().unwrap().len(), 1, "one pod, one row");
    }
    let seen = world.end(&names[names.len() - 1]);
    assert!(world.step(seen));
    assert_eq!(world.run.status().progress.as_deref(), Some("10000/10000"));
}
