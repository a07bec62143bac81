//! The project's own cases through the real loops; the outcome is a snapshot.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use windlass_conformance_argo::kubelet::Scripted;
use windlass_conformance_argo::own;
use windlass_conformance_argo::replay::{Play, Played, play};

use crate::house::{door, in_process, with_stopped_clock};

fn told(played: &Played) -> String {
    let mut out = String::new();
    for workflow in played.workflows.values() {
        let status = &workflow["status"];
        let message = status["message"].as_str().unwrap_or("-");
        writeln!(out, "{}: {message}", status["phase"].as_str().unwrap_or("-")).unwrap();
        let rows: BTreeMap<&str, _> = status["nodes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, row)| (row["name"].as_str().unwrap(), row))
            .collect();
        for (name, row) in rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            write!(out, "{name} {} {}", text("type"), text("phase")).unwrap();
            let message = text("message");
            writeln!(out, "{}", if message.is_empty() { String::new() } else { format!(" ({message})") }).unwrap();
        }
    }
    for miss in &played.misses {
        writeln!(out, "! {miss}").unwrap();
    }
    out
}

#[test]
fn own_cases_come_out_as_their_snapshots() {
    let cases = own::all().unwrap();
    assert!(cases.iter().filter(|c| c.name.starts_with("hang-")).count() >= 3);
    with_stopped_clock(async {
        let server = in_process().await;
        for case in cases {
            let mut script = Scripted::new(&case.pods);
            let begun = "2030-01-01T00:00:00Z".parse().unwrap();
            let mut workflow = case.workflow.clone();
            workflow["apiVersion"] = "argoproj.io/v1alpha1".into();
            workflow["kind"] = "Workflow".into();
            let since = tokio::time::Instant::now();
            let namespace = format!("own-{}", case.name);
            let play_of = Play {
                namespace: namespace.clone(),
                begun,
                objects: case.objects.clone(),
                workflows: vec![(begun, workflow)],
                actions: Vec::new(),
                script: &mut script,
                engine: windlass_engine::Config::default(),
            };
            let played = play(&door(&server, &namespace), play_of).await.unwrap();
            // Of the stopped clock, which is the workflow's own time.
            if case.name.starts_with("hang-") {
                assert!(since.elapsed().as_secs() < 5, "{} took {:?}", case.name, since.elapsed());
            }
            insta::with_settings!({snapshot_path => "../../cases", prepend_module_to_snapshot => false}, {
                insta::assert_snapshot!(case.name.clone(), told(&played));
            });
        }
    });
}
