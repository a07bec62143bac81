//! The project's own cases through the real loops; the outcome is a snapshot.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use windlass_apiserver::ApiServer;
use windlass_conformance_argo::corpus::{self, Unstable};
use windlass_conformance_argo::kubelet::{Order, Scripted};
use windlass_conformance_argo::own::{self, Own};
use windlass_conformance_argo::replay::{Play, Played, play};

use crate::house::{door, in_process, with_stopped_clock};
use crate::recorded::{judge, replay};

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

async fn played(server: &ApiServer, case: &Own) -> Played {
    let mut script = Scripted::new(&case.pods);
    let begun = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut workflow = case.workflow.clone();
    workflow["apiVersion"] = "argoproj.io/v1alpha1".into();
    workflow["kind"] = "Workflow".into();
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
    play(&door(server, &namespace), play_of).await.unwrap()
}

#[test]
fn own_cases_come_out_as_their_snapshots() {
    let cases = own::all().unwrap();
    assert!(cases.iter().filter(|c| c.name.starts_with("hang-")).count() >= 3);
    with_stopped_clock(async {
        let server = in_process().await;
        for case in cases {
            let since = tokio::time::Instant::now();
            let played = played(&server, &case).await;
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

/// What the real controller made of the same: the same end and the same node table; and where it waits for ever, we fail.
#[test]
fn own_cases_end_as_the_real_controller_ended_them() {
    let (mut equal, mut hanging) = (0, 0);
    let mut misses = Vec::new();
    with_stopped_clock(async {
        let server = in_process().await;
        for case in own::all().unwrap() {
            let Some(recording) = corpus::own(&case.name).unwrap() else {
                assert!(case.unrecorded.is_some(), "{}: neither a recording nor a reason for none", case.name);
                continue;
            };
            if recording.finished() {
                let played = replay(&door(&server, recording.namespace()), &recording, Order::Recorded).await;
                let tiers = judge(&recording, &played, &Unstable::default());
                let all = tiers.a.misses.iter().chain(&tiers.b.misses).chain(&tiers.c.misses);
                misses.extend(all.map(|miss| format!("{}: {miss}", case.name)));
                assert!(tiers.a.all > 0, "{}: nothing was compared", case.name);
                equal += 1;
            } else {
                let theirs = &recording.workflows()[0]["status"]["phase"];
                assert_eq!(theirs, "Running", "{}", case.name);
                for ours in played(&server, &case).await.workflows.values() {
                    let phase = ours["status"]["phase"].as_str().unwrap_or_default();
                    assert!(matches!(phase, "Failed" | "Error"), "{}: {phase}", case.name);
                }
                hanging += 1;
            }
        }
    });
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    println!("{equal} own cases as Argo has them, {hanging} that Argo leaves hanging");
    assert!(equal > 0 && hanging > 0);
}
