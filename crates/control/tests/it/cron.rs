//! CronWorkflows against the embedded API: every tick once, also with two loops and after a restart; what ends is counted.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_control::Scope;
use windlass_control::clock::Clock;

use crate::stage::Stage;

#[tokio::test]
async fn every_tick_once() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let (crons, workflows) = (stage.of("CronWorkflow", "cronworkflows"), stage.workflows());
    let object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "metadata": {"name": "often"},
        "spec": {"schedules": ["@every 1s"], "workflowMetadata": {"labels": {"team": "a"}},
            "workflowSpec": {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}], "unknownField": 1}},
    });
    crons.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let names = async || -> Vec<String> {
        let all = workflows.list(&ListParams::default()).await.unwrap().items;
        all.into_iter().map(|w| w.metadata.name.unwrap()).collect()
    };
    // Two controllers, by mistake or while one takes over from the other.
    let start = || {
        let stop = CancellationToken::new();
        (
            stop.clone(),
            tokio::spawn(windlass_control::cron::run(client.clone(), Scope::default(), Clock::default(), stop)),
        )
    };
    let both = [start(), start()];
    stage.until("three ticks", async || names().await.len() >= 3).await;
    for (stop, running) in both {
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    }
    let made = names().await;
    let seconds: BTreeSet<i64> = made.iter().map(|n| n.strip_prefix("often-").unwrap().parse().unwrap()).collect();
    assert_eq!(seconds.len(), made.len());
    let span = seconds.last().unwrap() - seconds.first().unwrap();
    assert!(made.len() as i64 <= span + 1, "{made:?}");
    let first = workflows.get(&made[0]).await.unwrap();
    assert_eq!(first.metadata.labels.clone().unwrap()["team"], "a");
    assert_eq!(first.data["spec"]["unknownField"], 1);
    assert_eq!(first.metadata.owner_references.clone().unwrap()[0].kind, "CronWorkflow");
    // Both were stopped anywhere, between a creation and its status too: nothing is listed that was not made.
    let active = async || -> BTreeSet<String> {
        let status = crons.get("often").await.unwrap().data["status"].clone();
        status["active"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(active().await.iter().all(|name| made.contains(name)), "{made:?}");
    // As after a crash between making the last one and writing the status.
    let last = seconds.last().unwrap();
    let before = jiff::Timestamp::from_second(last - 1).unwrap().to_string();
    let lost = json!({"status": {"lastScheduledTime": before}, "spec": {"concurrencyPolicy": "Forbid"}});
    crons.patch("often", &PatchParams::default(), &Patch::Merge(&lost)).await.unwrap();
    let (stop, running) = start();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(names().await, made, "Forbid, and three are active");
    stage.until("all are listed again", async || active().await.len() == made.len()).await;
    // All end: they are counted, three good ones are kept, and the next tick comes.
    for (index, name) in made.iter().enumerate() {
        let phase = if index == 0 { "Failed" } else { "Succeeded" };
        let end = json!({
            "metadata": {"labels": {"workflows.argoproj.io/completed": "true"}},
            "status": {"phase": phase, "finishedAt": format!("2026-01-01T00:00:0{index}Z")},
        });
        workflows.patch(name, &PatchParams::default(), &Patch::Merge(&end)).await.unwrap();
    }
    let status = async || -> Value { crons.get("often").await.unwrap().data["status"].clone() };
    stage
        .until("the ends are counted", async || {
            let now = status().await;
            now["failed"] == 1 && now["succeeded"] == made.len() as i64 - 1
        })
        .await;
    stage.until("the next tick", async || names().await.iter().any(|n| !made.contains(n))).await;
    // Suspended, nothing begins.
    let pause = json!({"spec": {"suspend": true, "concurrencyPolicy": null}});
    crons.patch("often", &PatchParams::default(), &Patch::Merge(&pause)).await.unwrap();
    stage
        .until("nothing begins for longer than a tick", async || {
            let count = names().await.len();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            names().await.len() == count
        })
        .await;
    // A fault is told.
    let fault = json!({"spec": {"timezone": "Mars/Base"}});
    crons.patch("often", &PatchParams::default(), &Patch::Merge(&fault)).await.unwrap();
    stage
        .until("the fault is told", async || {
            let conditions = status().await["conditions"].clone();
            conditions[0]["type"] == "SpecError" && conditions[0]["message"] == "unknown time zone Mars/Base"
        })
        .await;
    stop.cancel();
    running.await.unwrap();
}
