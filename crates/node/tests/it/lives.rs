//! How Pods go on and end: restarts, probes, deletion, and an agent that comes after another.

use crate::bench::Bench;
use crate::{List, cases};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub fn list() -> List {
    cases![
        restarts_and_their_previous_log,
        a_dead_container_is_restarted,
        startup_gates_readiness,
        deletion_is_graceful,
        deletion_is_not_endless,
        the_active_deadline,
        an_agent_after_another,
    ]
}

fn main_status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

async fn restarts_and_their_previous_log(bench: Bench) {
    let script = "test -f /v/once && { echo second; exit 0; }; touch /v/once; echo first; exit 1";
    bench
        .pod(
            "p",
            json!({"restartPolicy": "OnFailure", "volumes": [{"name": "v", "emptyDir": {}}], "containers": [
                {"name": "main", "command": ["sh", "-c", script], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
        )
        .await;
    let pod = bench.succeeded("p").await;
    assert_eq!(main_status(&pod)["restartCount"], 1);
    assert_eq!(main_status(&pod)["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(bench.logs(&pod, "main").await, "second\n");
    let previous = windlass_node::LogOptions { previous: true, ..Default::default() };
    assert_eq!(bench.logs_with(&pod, "main", previous).await, "first\n");
    bench.pod("q", json!({"restartPolicy": "Always", "containers": [{"name": "main", "command": ["false"]}]})).await;
    let pod = bench.until("q", |pod| main_status(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    let message = main_status(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s"), "{message}");
    bench.delete("q").await;
    bench.until("q", Value::is_null).await;
}

async fn a_dead_container_is_restarted(bench: Bench) {
    bench
        .pod(
            "p",
            json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "containers": [{"name": "main",
                "command": ["sh", "-c", "touch /tmp/alive; sleep 1; rm -f /tmp/alive 2>/dev/null || busybox rm /tmp/alive; sleep 1000"],
                "livenessProbe": {"exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}}]}),
        )
        .await;
    let pod = bench.until("p", |pod| main_status(pod)["restartCount"].as_i64().unwrap_or(0) >= 1).await;
    assert_eq!(main_status(&pod)["lastState"]["terminated"]["exitCode"], 137);
    let events = bench.events("p").await.join("\n");
    assert!(events.contains("Unhealthy: Liveness probe failed") && events.contains("will be restarted"), "{events}");
    bench.delete("p").await;
    bench.until("p", Value::is_null).await;
}

async fn startup_gates_readiness(bench: Bench) {
    bench
        .pod(
            "p",
            json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "containers": [{"name": "main",
                "command": ["sh", "-c", "sleep 0.5; nc -l -p 7000 -e true & sleep 1000"],
                "startupProbe": {"exec": {"command": ["sh", "-c", "sleep 0.1"]}, "periodSeconds": 1},
                "readinessProbe": {"exec": {"command": ["true"]}}}]}),
        )
        .await;
    let pod = bench.until("p", |pod| main_status(pod)["ready"] == true).await;
    assert_eq!(main_status(&pod)["started"], true);
    bench.delete("p").await;
    bench.until("p", Value::is_null).await;
}

async fn deletion_is_graceful(bench: Bench) {
    let script = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done";
    bench
        .pod("p", json!({"restartPolicy": "Always", "containers": [{"name": "main", "command": ["sh", "-c", script]}]}))
        .await;
    let pod = bench.until("p", |pod| main_status(pod)["ready"] == true).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let follow = windlass_node::LogOptions { follow: true, ..Default::default() };
    let log = tokio::spawn({
        let bench = bench.clone();
        async move { bench.logs_with(&pod, "main", follow).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    bench.delete("p").await;
    bench.until("p", Value::is_null).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(log.await.unwrap(), "up\nbye\n");
}

async fn deletion_is_not_endless(bench: Bench) {
    let script = "trap '' TERM; while true; do sleep 0.1; done";
    bench
        .pod(
            "p",
            json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "command": ["sh", "-c", script]}]}),
        )
        .await;
    bench.until("p", |pod| main_status(pod)["ready"] == true).await;
    let begun = Instant::now();
    bench.delete("p").await;
    bench.until("p", Value::is_null).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
}

async fn the_active_deadline(bench: Bench) {
    bench
        .pod(
            "p",
            json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "command": ["sleep", "1000"]}]}),
        )
        .await;
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(pod["status"]["message"], "Pod was active on the node longer than the specified deadline");
}

async fn an_agent_after_another(bench: Bench) {
    let home = bench.home.join("second");
    std::fs::create_dir_all(home.join("allowed")).unwrap();
    let make =
        || Bench::agent(&bench.api, &bench.host, &home, &bench.store, bench.api_address, &bench.ca_pem, "second");
    let first = make().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        first.run(async { drop(stopped.await) }).await.unwrap();
    });
    let on_second =
        |script: &str| json!({"nodeName": "second", "containers": [{"name": "main", "command": ["sh", "-c", script]}]});
    bench.pod("p", on_second("sleep 1000")).await;
    bench.until("p", |pod| pod["status"]["phase"] == "Running").await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    bench.pod("q", on_second("true")).await;
    let gone = home.join("logs/ns_deleted_f6b1");
    std::fs::create_dir_all(&gone).unwrap();
    let second = make().await;
    tokio::spawn(async move { second.run(std::future::pending()).await });
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["reason"], "NodeLost");
    assert_eq!(main_status(&pod)["state"]["terminated"]["exitCode"], 137);
    // What had not begun simply runs.
    bench.succeeded("q").await;
    // Logs stay for as long as their Pods, and those of Pods that were deleted meanwhile go.
    let begun = Instant::now();
    while gone.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the log of a pod that is gone stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let kept = std::fs::read_dir(home.join("logs")).unwrap().flatten();
    assert!(kept.into_iter().any(|e| e.file_name().to_str().unwrap().ends_with(uid)));
}
