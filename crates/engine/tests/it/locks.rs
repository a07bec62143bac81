//! What a run says while it waits for a lock, and that it lets go of all it has whatever ends it.

use serde_json::{Value, json};
use windlass_engine::Observation;

use crate::world::{Script, World};

const SCRIPT: &str = r#"
workflow:
  metadata: {name: w}
  spec:
    entrypoint: main
    synchronization: {mutexes: [{name: run}]}
    templates:
      - name: main
        steps: [[{name: a, template: one, withItems: [1, 2]}]]
      - name: one
        synchronization: {semaphores: [{configMapKeyRef: {name: limits, key: one}}]}
        container: {image: busybox}
objects:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: limits}, data: {one: "1"}}
"#;

fn row<'a>(stored: &'a Value, name: &str) -> &'a Value {
    stored["status"]["nodes"].as_object().unwrap().values().find(|row| row["name"] == name).unwrap()
}

#[test]
fn the_status_tells_what_is_held_and_awaited() {
    let script = Script::parse(SCRIPT);
    let mut world = World::new(&script);
    world.step(vec![Observation::Surveyed]);
    let (first, second) = (row(&world.stored, "w[0].a(0:1)"), row(&world.stored, "w[0].a(1:2)"));
    let holder = format!("default/w/{}", first["id"].as_str().unwrap());
    let lock = "default/ConfigMap/limits/one";
    assert_eq!(
        world.stored["status"]["synchronization"],
        json!({
            "mutex": {"holding": [{"mutex": "default/Mutex/run", "holder": "default/w"}]},
            "semaphore": {
                "holding": [{"semaphore": lock, "holders": [holder]}],
                "waiting": [{"semaphore": lock, "holders": [holder]}],
            },
        })
    );
    assert_eq!(second["phase"], "Pending");
    assert_eq!(second["message"], "Waiting for default/ConfigMap/limits/one lock. Lock status: 0/1");
    assert_eq!(second["synchronizationStatus"], json!({"waiting": lock}));
    assert_eq!(first["synchronizationStatus"], Value::Null);
    world.run_out(|_| 0, World::reload);
    assert_eq!(world.stored["status"]["phase"], "Succeeded");
    assert_eq!(world.stored["status"]["synchronization"], Value::Null);
    assert_eq!(row(&world.stored, "w[0].a(1:2)")["message"], Value::Null);
    world.told();
}

#[test]
fn a_run_that_waits_is_pending_and_can_be_stopped() {
    let text = format!("{SCRIPT}held: {{default/Mutex/run: 60}}\n");
    let script = Script::parse(&text);
    let mut world = World::new(&script);
    assert!(!world.step(vec![Observation::Surveyed]));
    assert_eq!(world.stored["status"]["phase"], "Pending");
    assert_eq!(world.stored["status"]["message"], "Waiting for default/Mutex/run lock. Lock status: 0/1");
    assert_eq!(world.stored["status"]["startedAt"], Value::Null);
    assert_eq!(world.stored["status"]["nodes"], Value::Null);
    world.reload();
    let stop =
        Observation::Control { suspend: false, shutdown: Some("Terminate".to_owned()), active_deadline_seconds: None };
    assert!(world.step(vec![stop]));
    assert_eq!(world.stored["status"]["phase"], "Failed");
    assert_eq!(world.stored["status"]["message"], "Stopped with strategy 'Terminate'");
    world.told();
}

#[test]
fn a_node_that_waits_ends_with_its_run() {
    let script = Script::parse(SCRIPT);
    let mut world = World::new(&script);
    world.step(vec![Observation::Surveyed]);
    let stop =
        Observation::Control { suspend: false, shutdown: Some("Stop".to_owned()), active_deadline_seconds: None };
    assert!(world.step(vec![stop]));
    assert_eq!(row(&world.stored, "w[0].a(1:2)")["message"], "Stopped with strategy 'Stop'");
    assert_eq!(row(&world.stored, "w[0].a(1:2)")["synchronizationStatus"], Value::Null);
    world.told();
}

#[test]
fn a_suspended_run_takes_no_lock() {
    let script = Script::parse(SCRIPT);
    let mut world = World::new(&script);
    world.step(vec![Observation::Surveyed]);
    let control = |suspend| Observation::Control { suspend, shutdown: None, active_deadline_seconds: None };
    world.step(vec![control(true)]);
    let pod = world.running.keys().next().unwrap().clone();
    let seen = world.end(&pod);
    world.step(seen);
    assert_eq!(world.stored["status"]["synchronization"]["semaphore"], Value::Null, "nobody is kept waiting");
    assert!(world.running.is_empty());
    world.step(vec![control(false)]);
    assert_eq!(world.running.len(), 1);
    world.run_out(|_| 0, |_| {});
    assert_eq!(world.stored["status"]["phase"], "Succeeded");
}
