use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

async fn open(path: &std::path::Path) -> Api {
    Api(ApiServer::open(Options::file(path)).await.unwrap())
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (made, service, version) = {
        let api = open(&path).await;
        let (_, made) = api.post(MAPS, config_map("a")).await;
        api.post(MAPS, config_map("gone")).await;
        api.delete(&format!("{MAPS}/gone"), Value::Null).await;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"clusterIP": "10.96.0.99", "ports": [{"port": 1}]}});
        let (_, service) = api.post("/api/v1/namespaces/default/services", service).await;
        (made, service, api.get(MAPS).await.1["metadata"]["resourceVersion"].clone())
    };
    let api = open(&path).await;
    assert_eq!(api.get(&format!("{MAPS}/a")).await.1, made);
    assert_eq!(api.get(&format!("{MAPS}/gone")).await.0, 404);
    assert_eq!(api.get(MAPS).await.1["metadata"]["resourceVersion"], version);
    assert_eq!(api.get("/api/v1/namespaces/default/services/s").await.1, service);
    let taken = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "t"},
        "spec": {"clusterIP": "10.96.0.99", "ports": [{"port": 1}]}});
    assert_eq!(api.post("/api/v1/namespaces/default/services", taken).await.0, 422);
    // Versions of before are not remembered.
    let old = made["metadata"]["resourceVersion"].as_str().unwrap();
    let frame = api.watch(&format!("{MAPS}?watch=1&resourceVersion={old}")).await.next().await.unwrap();
    assert_eq!((&frame["object"]["code"], frame["object"]["reason"].as_str()), (&json!(410), Some("Expired")));
    let (_, next) = api.post(MAPS, config_map("b")).await;
    let number = |v: &Value| v["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&next) > version.as_str().unwrap().parse::<u64>().unwrap());
}

#[tokio::test]
async fn a_full_disk_fails_the_write_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::file(dir.path().join("state.db"));
    options.max_pages = Some(60);
    let api = Api(ApiServer::open(options).await.unwrap());
    api.post(MAPS, config_map("small")).await;
    let mut big = config_map("big");
    big["data"]["k"] = json!("x".repeat(1_000_000));
    let failed = api.post(MAPS, big).await;
    assert_eq!((failed.0, failed.1["reason"].as_str()), (507, Some("InsufficientStorage")), "{failed:?}");
    assert!(message(&failed).contains("database or disk is full"), "{failed:?}");
    assert_eq!(api.get(&format!("{MAPS}/big")).await.0, 404);
    assert_eq!(api.get(&format!("{MAPS}/small")).await.0, 200);
    // What fits still goes, and versions are without a gap.
    let (code, changed) = api.merge(&format!("{MAPS}/small"), json!({"data": {"k": "2"}})).await;
    assert_eq!(code, 200, "{changed}");
}

/// Not a test by itself: what the next test starts and kills. It writes, and says what was acknowledged.
#[tokio::test]
async fn writer_to_be_killed() {
    let Ok(path) = std::env::var("WINDLASS_TEST_STATE") else { return };
    let api = std::sync::Arc::new(open(path.as_ref()).await);
    let mut tasks = Vec::new();
    for task in 0..8 {
        let api = api.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                let (code, made) = api.post(MAPS, json!({"metadata": {"generateName": format!("w{task}-{n}-")}})).await;
                assert_eq!(code, 201);
                println!("\nwrote {}", made["metadata"]["name"].as_str().unwrap());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["core::durable::writer_to_be_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env("WINDLASS_TEST_STATE", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = acknowledged.len() + 20 + usize::try_from(round * 37).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while acknowledged.len() < wanted {
            let line = lines.next().expect("the writer writes").unwrap();
            acknowledged.extend(line.strip_prefix("wrote ").map(str::to_owned));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts too.
        for line in lines.map_while(Result::ok) {
            acknowledged.extend(line.strip_prefix("wrote ").map(str::to_owned));
        }
        let api = open(&path).await;
        for name in &acknowledged {
            assert_eq!(
                api.get(&format!("{MAPS}/{name}")).await.0,
                200,
                "{name} was acknowledged in or before round {round}"
            );
        }
    }
}
