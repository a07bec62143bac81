//! A run at moments of its past.

use windlass_engine::past::{at, moments};
use windlass_model::Workflow;

use crate::world::{Script, World};

#[test]
fn the_past_is_what_the_table_says() {
    let text = include_str!("../cases/retry.yaml");
    let script = Script::parse(text);
    let mut world = World::new(&script);
    world.run_out(|_| 0, |_| {});
    let mut stored = world.stored.clone();
    stored["kind"] = "Workflow".into();
    let workflow: Workflow = serde_json::from_value(stored).unwrap();
    let all = moments(&workflow);
    let mut out = String::new();
    for moment in &all {
        let then = at(&workflow, moment.at);
        let status = then.status.as_ref().unwrap();
        let mut rows: Vec<String> = status.nodes.values().map(|n| format!("{} {}", n.display_name, n.phase)).collect();
        rows.sort();
        let progress = status.progress.as_deref().unwrap_or_default();
        out.push_str(&format!("{} {} {progress}: {}\n", moment.at, status.phase, rows.join(", ")));
    }
    // The last moment is the end itself, but for what only the end sums up.
    let last = at(&workflow, all.last().unwrap().at);
    assert_eq!(last.status.as_ref().unwrap().nodes, workflow.status.as_ref().unwrap().nodes);
    assert_eq!(serde_json::to_value(&last).unwrap()["spec"], serde_json::to_value(&workflow).unwrap()["spec"]);
    insta::assert_snapshot!(out);
}
