use super::*;

#[tokio::test]
async fn an_object_lives_and_dies() {
    let api = api().await;
    let (code, made) = api.post(MAPS, config_map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    let path = format!("{MAPS}/a");
    assert_eq!(api.get(&path).await, (200, made.clone()));
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let (code, put) = api.put(&path, changed.clone()).await;
    assert_eq!((code, put["data"]["k"].as_str()), (200, Some("w")));
    assert_ne!(put["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    // The version it was read at is gone.
    assert_eq!(
        message(&api.put(&path, changed).await),
        "409 Conflict Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply \
         your changes to the latest version and try again"
    );
    // Nothing changes: nothing is written.
    assert_eq!(api.put(&path, put.clone()).await, (200, put.clone()));
    assert_eq!(api.merge(&path, json!({"data": {"k": "w"}})).await, (200, put.clone()));
    let (code, status) = api.delete(&path, Value::Null).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}));
    assert_eq!(message(&api.get(&path).await), "404 NotFound configmaps \"a\" not found");
    assert_eq!(message(&api.delete(&path, Value::Null).await), "404 NotFound configmaps \"a\" not found");
}

#[tokio::test]
async fn refusals_read_as_in_kubernetes() {
    let api = api().await;
    api.post(MAPS, config_map("a")).await;
    let mut lines = Vec::new();
    let mut note = |answer: (u16, Value)| lines.push(message(&answer));
    note(api.post(MAPS, config_map("a")).await);
    note(api.post(MAPS, config_map("A_b")).await);
    note(api.post(MAPS, config_map("")).await);
    note(api.post("/api/v1/namespaces/nope/configmaps", config_map("a")).await);
    let mut elsewhere = config_map("b");
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    note(api.post(MAPS, elsewhere).await);
    let mut label = config_map("b");
    label["metadata"]["labels"] = json!({"a b": "c d"});
    note(api.post(MAPS, label).await);
    note(api.post(MAPS, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}})).await);
    note(api.put(&format!("{MAPS}/a"), config_map("z")).await);
    note(api.put(&format!("{MAPS}/none"), config_map("none")).await);
    note(api.post("/api/v1/configmaps", config_map("x")).await);
    note(api.get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers").await);
    note(api.get(&format!("{MAPS}?labelSelector=a%20b")).await);
    note(api.get(&format!("{MAPS}?resourceVersion=x")).await);
    note(api.delete("/api/v1/namespaces/default", Value::Null).await);
    note(api.send("PATCH", &format!("{MAPS}/a"), "text/plain", &json!({})).await);
    note(api.post(&format!("{PODS}/p/proxy"), json!({})).await);
    let mut account = pod("p");
    account["spec"]["serviceAccountName"] = json!("nobody");
    note(api.post(PODS, account).await);
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn generated_names_do_not_clash() {
    let api = api().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}});
    let mut names = std::collections::HashSet::new();
    for _ in 0..50 {
        let (code, made) = api.post(MAPS, map.clone()).await;
        assert_eq!(code, 201);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("x-") && name.len() == 7, "{name}");
        assert!(names.insert(name));
    }
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let api = api().await;
    let (code, made) = api.post(&format!("{MAPS}?dryRun=All"), config_map("a")).await;
    assert_eq!(code, 201);
    assert!(made["metadata"]["resourceVersion"].is_null() && made["metadata"]["uid"].is_string());
    assert_eq!(api.get(&format!("{MAPS}/a")).await.0, 404);
    let (_, real) = api.post(MAPS, config_map("a")).await;
    let (code, tried) = api.merge(&format!("{MAPS}/a?dryRun=All"), json!({"data": {"k": "x"}})).await;
    assert_eq!((code, tried["data"]["k"].as_str()), (200, Some("x")));
    assert_eq!(api.delete(&format!("{MAPS}/a?dryRun=All"), Value::Null).await.0, 200);
    assert_eq!(api.get(&format!("{MAPS}/a")).await.1, real);
}

#[tokio::test]
async fn through_kube() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api as KubeApi, DeleteParams, ListParams, Patch, PatchParams, PostParams};
    let api = api().await;
    let maps: KubeApi<ConfigMap> = KubeApi::default_namespaced(api.0.client(Identity::system("test")));
    let map: ConfigMap = serde_json::from_value(config_map("a")).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(made.metadata.name.as_deref(), Some("a"));
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"z": "1"}}))).await.unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(maps.get("a").await, Err(kube::Error::Api(status)) if status.code == 404));
}
