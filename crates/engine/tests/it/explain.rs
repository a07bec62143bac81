//! Why nodes wait, were skipped, failed or ran again: one YAML file a case. Pods that the script does not name go on, so
//! runs stop half-way; what is explained is a snapshot.

use std::path::Path;

use serde_json::Value;
use windlass_engine::Config;
use windlass_engine::explain::explain;
use windlass_model::Workflow;

use crate::world::{Script, World};

#[test]
fn reasons() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = Script::parse(&std::fs::read_to_string(&file).unwrap());
        let mut world = World::new(&script);
        world.run_scripted();
        let mut stored = world.stored.clone();
        stored["kind"] = "Workflow".into();
        let workflow: Workflow = serde_json::from_value(stored).unwrap();
        let pods: Vec<Value> = world.running.values().map(|(_, _, pod)| pod.clone()).collect();
        let said = explain(&workflow, &pods, &Config::default(), world.now);
        let mut out = format!("{} {:?} {:?}\n", said.workflow, said.phase, said.message);
        for reason in &said.reasons {
            out.push_str(&format!("  {reason}\n"));
        }
        for node in said.nodes.iter().filter(|n| n.is_telling()) {
            out.push_str(&format!("{} {}\n", node.name, node.state()));
            for reason in &node.reasons {
                out.push_str(&format!("  {reason}\n"));
            }
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({snapshot_path => "../explain", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, out);
        });
    }
}
