//! What people do by hand: one YAML file a case. Whenever nothing goes on by itself the next of `hands` is done to the
//! workflow as it is stored, the run is loaded anew, and goes on. Snapshots tell each decision and what came of it.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use windlass_engine::manual::{NodeValues, Resubmit, Retry, Selector, resubmit, resume, retry, set_node, suspend};

use crate::world::{Script, World, merge};

fn pairs(value: &Value) -> Vec<(String, String)> {
    let all = value.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[test]
fn cases_by_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manual");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = Script::parse(&std::fs::read_to_string(&file).unwrap());
        let mut out = String::new();
        let mut world = World::new(&script);
        world.run_out(|_| 0, |_| {});
        writeln!(out, "{}", world.told()).unwrap();
        for hand in &script.hands {
            let text = |key: &str| hand[key].as_str().map(str::to_owned);
            let verb = text("verb").unwrap();
            let selector = Selector::parse(&text("selector").unwrap_or_default()).unwrap();
            let parameters = pairs(&hand["parameters"]);
            writeln!(out, "=== {}", serde_json::to_string(hand).unwrap()).unwrap();
            let decided = match verb.as_str() {
                "suspend" => suspend(&world.stored),
                "resume" => resume(&world.stored, &selector, world.now),
                "set" => {
                    let values =
                        NodeValues { phase: text("phase"), message: text("message"), outputs: pairs(&hand["outputs"]) };
                    set_node(&world.stored, &selector, &values, world.now)
                }
                "retry" => {
                    let restart_successful = hand["restartSuccessful"] == true;
                    retry(&world.stored, &Retry { restart_successful, selector, parameters }, world.now).map(|r| {
                        writeln!(out, "pods deleted: {}", r.pods.join(" ")).unwrap();
                        r.patch
                    })
                }
                "resubmit" => {
                    let memoized = (hand["memoized"] == true).then(|| "new".to_owned());
                    resubmit(&world.stored, &Resubmit { memoized, parameters }, world.now)
                }
                other => panic!("no verb {other}"),
            };
            let patch = match decided {
                Ok(patch) => patch,
                Err(refusal) => {
                    writeln!(out, "refused: {refusal}").unwrap();
                    continue;
                }
            };
            if verb == "resubmit" {
                writeln!(out, "{}", serde_json::to_string_pretty(&patch["metadata"]).unwrap()).unwrap();
                world.stored = patch;
                world.stored["metadata"]["name"] = "w-new".into();
                world.stored["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z".into();
            } else {
                merge(&mut world.stored, &patch);
            }
            world.commands.clear();
            world.reload();
            world.run_out(|_| 0, |_| {});
            writeln!(out, "{}", world.told()).unwrap();
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({snapshot_path => "../manual", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, out);
        });
    }
}
