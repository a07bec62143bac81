use super::*;

fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    let mut map = config_map(name);
    map["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks}]);
    map
}

#[tokio::test]
async fn dependents_go_with_their_owner() {
    let api = api().await;
    let (_, owner) = api.post(MAPS, config_map("owner")).await;
    let (_, child) = api.post(MAPS, owned("child", &owner, false)).await;
    api.post(MAPS, owned("grandchild", &child, false)).await;
    api.delete(&format!("{MAPS}/owner"), Value::Null).await;
    api.until(&format!("{MAPS}/child"), 404).await;
    api.until(&format!("{MAPS}/grandchild"), 404).await;
    // An object whose owner is gone already does not stay.
    api.post(MAPS, owned("late", &owner, false)).await;
    api.until(&format!("{MAPS}/late"), 404).await;
}

#[tokio::test]
async fn one_owner_is_enough_to_stay() {
    let api = api().await;
    let (_, one) = api.post(MAPS, config_map("one")).await;
    let (_, two) = api.post(MAPS, config_map("two")).await;
    let mut child = owned("child", &one, false);
    child["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "two", "uid": two["metadata"]["uid"]}));
    api.post(MAPS, child).await;
    api.delete(&format!("{MAPS}/one"), Value::Null).await;
    for _ in 0..500 {
        let (code, child) = api.get(&format!("{MAPS}/child")).await;
        assert_eq!(code, 200);
        if child["metadata"]["ownerReferences"].as_array().unwrap().len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the reference to the owner that is gone stays");
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_its_dependents() {
    let api = api().await;
    let (_, owner) = api.post(MAPS, config_map("owner")).await;
    let mut child = owned("child", &owner, true);
    child["metadata"]["finalizers"] = json!(["x.io/hold"]);
    api.post(MAPS, child).await;
    let (_, going) = api.delete(&format!("{MAPS}/owner"), json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    for _ in 0..500 {
        if api.get(&format!("{MAPS}/child")).await.1["metadata"]["deletionTimestamp"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(api.get(&format!("{MAPS}/owner")).await.0, 200);
    api.merge(&format!("{MAPS}/child"), json!({"metadata": {"finalizers": null}})).await;
    api.until(&format!("{MAPS}/owner"), 404).await;
    assert_eq!(api.get(&format!("{MAPS}/child")).await.0, 404);
}

#[tokio::test]
async fn orphans_stay() {
    let api = api().await;
    let (_, owner) = api.post(MAPS, config_map("owner")).await;
    api.post(MAPS, owned("child", &owner, false)).await;
    api.delete(&format!("{MAPS}/owner?propagationPolicy=Orphan"), Value::Null).await;
    api.until(&format!("{MAPS}/owner"), 404).await;
    let (code, child) = api.get(&format!("{MAPS}/child")).await;
    assert_eq!(code, 200);
    assert!(child["metadata"]["ownerReferences"].is_null());
}

#[tokio::test]
async fn a_namespace_takes_its_content_along() {
    let api = api().await;
    let (code, made) = api
        .post("/api/v1/namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}))
        .await;
    assert_eq!(code, 201);
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    assert_eq!((&made["spec"]["finalizers"], &made["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    assert_eq!(api.get("/api/v1/namespaces/n/serviceaccounts/default").await.0, 200);
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["x.io/hold"]);
    api.post("/api/v1/namespaces/n/configmaps", held).await;
    let (code, going) = api.delete("/api/v1/namespaces/n", Value::Null).await;
    assert_eq!((code, &going["status"]["phase"]), (200, &json!("Terminating")));
    assert_eq!(
        message(&api.post("/api/v1/namespaces/n/configmaps", config_map("late")).await),
        "403 Forbidden configmaps \"late\" is forbidden: unable to create new content in namespace n because it is \
         being terminated"
    );
    api.until("/api/v1/namespaces/n/serviceaccounts/default", 404).await;
    assert_eq!(api.get("/api/v1/namespaces/n").await.0, 200);
    api.merge("/api/v1/namespaces/n/configmaps/held", json!({"metadata": {"finalizers": null}})).await;
    api.until("/api/v1/namespaces/n", 404).await;
}
