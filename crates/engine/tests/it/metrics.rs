//! What nodes and runs tell of the user's own metrics.

use crate::world::{Script, World};
use windlass_engine::Observation;

const SCRIPT: &str = r#"
workflow:
  metadata: {name: w}
  spec:
    entrypoint: main
    arguments: {parameters: [{name: team, value: blue}]}
    metrics:
      prometheus:
        - {name: run_seconds, help: the run, gauge: {realtime: true, value: "{{workflow.duration}}"}}
        - {name: runs, help: runs, labels: [{key: status, value: "{{workflow.status}}"}], counter: {value: "1"}}
    templates:
      - name: main
        metrics: {prometheus: [{name: main_seconds, help: main, gauge: {value: "{{duration}}"}}]}
        steps: [[{name: a, template: often}], [{name: b, template: bad}]]
      - name: often
        retryStrategy: {limit: 2}
        metrics:
          prometheus:
            - name: tries
              help: tries
              when: "{{status}} == Failed"
              labels: [{key: team, value: "{{workflow.parameters.team}}"}, {key: code, value: "{{exitCode}}"}]
              counter: {value: "1"}
            - {name: size, help: size, histogram: {buckets: [5, 1], value: "{{outputs.parameters.size}}"}, when: "{{status}} == Succeeded"}
        container: {image: busybox}
        outputs: {parameters: [{name: size, valueFrom: {path: /size}}]}
      - name: bad
        metrics:
          prometheus:
            - {name: odd, help: odd, counter: {value: many}}
        container: {image: busybox}
pods:
  "w[0].a(0)": {exit: 3, parameters: {size: 0}}
  "w[0].a(1)": {parameters: {size: 4}}
"#;

#[test]
fn metrics_are_told_when_nodes_and_the_run_begin_and_end() {
    let script = Script::parse(SCRIPT);
    let mut world = World::new(&script);
    world.run_out(|_| 0, |_| {});
    assert_eq!(world.stored["status"]["phase"], "Succeeded", "a bad metric is no failure");
    let conditions = world.stored["status"]["conditions"].as_array().unwrap();
    let fault = conditions.iter().find(|c| c["type"] == "MetricsError").unwrap();
    assert_eq!(fault["message"], "could not construct metric 'odd': its value 'many' is not a number");
    let told: Vec<String> =
        world.metrics.iter().map(|m| format!("{} {:?} {:?}", m.name, m.labels, m.reading)).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_a_registry_does_not_take_is_a_condition() {
    let script = Script::parse(SCRIPT);
    let mut world = World::new(&script);
    world.step(vec![Observation::Surveyed, Observation::MetricRefused { message: "no".to_owned() }]);
    let conditions = world.stored["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "MetricsError" && c["message"] == "no"));
}
