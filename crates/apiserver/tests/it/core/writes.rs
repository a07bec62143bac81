use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "x"}]}}},
        "status": {"replicas": 99}})
}

#[tokio::test]
async fn status_and_spec_are_kept_apart() {
    let api = api().await;
    let (_, made) = api.post(DEPLOYMENTS, deployment("d")).await;
    assert_eq!(made["status"], json!({}));
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/d");
    let both = json!({"spec": {"replicas": 3}, "status": {"replicas": 3}});
    let (_, status) = api.merge(&format!("{path}/status"), both.clone()).await;
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(3)));
    assert_eq!(status["metadata"]["generation"], 1);
    let (_, spec) = api.merge(&path, json!({"spec": {"replicas": 5}, "status": {"replicas": 7}})).await;
    assert_eq!((&spec["spec"]["replicas"], &spec["status"]["replicas"]), (&json!(5), &json!(3)));
    assert_eq!(spec["metadata"]["generation"], 2);
    let (_, scale) = api.get(&format!("{path}/scale")).await;
    assert_eq!(scale["spec"]["replicas"], 5);
    assert_eq!(scale["status"], json!({"replicas": 3, "selector": "a=b"}));
    let (code, scale) = api.merge(&format!("{path}/scale"), json!({"spec": {"replicas": 2}})).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(2)));
    assert_eq!(api.get(&path).await.1["metadata"]["generation"], 3);
    let (_, image) = api
        .strategic(&path, json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "y"}]}}}}))
        .await;
    assert_eq!(image["spec"]["template"]["spec"]["containers"][0]["image"], "y");
    let selector = api.merge(&path, json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}})).await;
    assert_eq!(selector.0, 422);
}

#[tokio::test]
async fn what_may_not_change_does_not() {
    let api = api().await;
    let (_, made) = api.post(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let meta =
        json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 7, "labels": {"x": "y"}}});
    let (_, now) = api.merge(&path, meta).await;
    assert_eq!(now["metadata"]["creationTimestamp"], made["metadata"]["creationTimestamp"]);
    assert_eq!(now["metadata"]["labels"]["x"], "y");
    assert_eq!(
        message(&api.merge(&path, json!({"metadata": {"uid": "other"}})).await),
        "422 Invalid ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable"
    );
    api.merge(&path, json!({"immutable": true})).await;
    assert_eq!(
        message(&api.merge(&path, json!({"data": {"k": "2"}})).await),
        "422 Invalid ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": []});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(api.post(bindings, binding).await.0, 201);
    let changed = api.merge(&format!("{bindings}/b"), json!({"roleRef": {"name": "s"}})).await;
    assert!(message(&changed).contains("cannot change roleRef"), "{changed:?}");
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let api = api().await;
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(api.get(&format!("{services}/kubernetes")).await.1["spec"]["clusterIP"], "10.96.0.1");
    let service = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}}})
    };
    let (mut ips, mut ports) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for n in 0..20 {
        let (code, made) = api.post(services, service(&format!("s{n}"), "NodePort")).await;
        assert_eq!(code, 201, "{made}");
        assert!(ips.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned()));
        assert!(ports.insert(made["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
    }
    assert!(ips.iter().all(|ip| ip.starts_with("10.96.")));
    assert!(ports.iter().all(|p| (30000..=32767).contains(p)));
    let path = format!("{services}/s0");
    let (_, before) = api.get(&path).await;
    // A whole update need not repeat what was given out.
    let (code, after) = api.put(&path, service("s0", "NodePort")).await;
    assert_eq!(code, 200, "{after}");
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
    assert_eq!(after["spec"]["ports"], before["spec"]["ports"]);
    let moved = api.merge(&path, json!({"spec": {"clusterIP": "10.96.7.7"}})).await;
    assert!(message(&moved).contains("may not change once set"), "{moved:?}");
    api.delete(&path, Value::Null).await;
    let mut same = service("again", "NodePort");
    same["spec"]["clusterIP"] = before["spec"]["clusterIP"].clone();
    same["spec"]["ports"][0]["nodePort"] = before["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(api.post(services, same).await.0, 201);
}

#[tokio::test]
async fn pods_go_gracefully() {
    let api = api().await;
    let (_, made) = api.post(PODS, pod("waiting")).await;
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    // No node has it: it goes at once.
    assert_eq!(api.delete(&format!("{PODS}/waiting"), Value::Null).await.0, 200);
    assert_eq!(api.get(&format!("{PODS}/waiting")).await.0, 404);
    let mut running = pod("running");
    running["spec"]["nodeName"] = json!("n");
    running["spec"]["terminationGracePeriodSeconds"] = json!(7);
    api.post(PODS, running).await;
    let path = format!("{PODS}/running");
    let (code, going) = api.delete(&path, Value::Null).await;
    assert_eq!((code, &going["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(7)));
    let (_, again) = api.delete(&path, json!({"gracePeriodSeconds": 9})).await;
    assert_eq!(again["metadata"], going["metadata"]);
    let (_, shorter) = api.delete(&path, json!({"gracePeriodSeconds": 2})).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 2);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < going["metadata"]["deletionTimestamp"].as_str());
    assert_eq!(api.delete(&path, json!({"gracePeriodSeconds": 0})).await.0, 200);
    assert_eq!(api.get(&path).await.0, 404);
    let mut kept = pod("kept");
    kept["spec"]["nodeName"] = json!("n");
    kept["metadata"]["finalizers"] = json!(["x.io/y"]);
    api.post(PODS, kept).await;
    let path = format!("{PODS}/kept");
    api.delete(&path, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(api.get(&path).await.0, 200);
    let added = api.merge(&path, json!({"metadata": {"finalizers": ["x.io/y", "x.io/z"]}})).await;
    assert!(message(&added).contains("no new finalizers can be added"), "{added:?}");
    api.merge(&path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(api.get(&path).await.0, 404);
    let (_, made) = api.post(PODS, pod("pre")).await;
    let wrong = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    assert_eq!(api.delete(&format!("{PODS}/pre"), wrong).await.0, 409);
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"]}});
    assert_eq!(api.delete(&format!("{PODS}/pre"), right).await.0, 200);
}

#[tokio::test]
async fn writers_of_one_object_do_not_lose_each_other() {
    let api = std::sync::Arc::new(api().await);
    api.post(MAPS, config_map("a")).await;
    let mut tasks = Vec::new();
    for n in 0..64 {
        let api = api.clone();
        tasks.push(tokio::spawn(async move {
            let (code, _) = api.merge(&format!("{MAPS}/a"), json!({"data": {format!("n{n}"): "1"}})).await;
            assert_eq!(code, 200);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(api.get(&format!("{MAPS}/a")).await.1["data"].as_object().unwrap().len(), 65);
}

#[tokio::test]
async fn json_patches_test_before_they_change() {
    let api = api().await;
    api.post(MAPS, config_map("a")).await;
    let patch =
        |value: &str| json!([{"op": "test", "path": "/data/k", "value": value}, {"op": "remove", "path": "/data/k"}]);
    let path = format!("{MAPS}/a");
    assert_eq!(api.send("PATCH", &path, "application/json-patch+json", &patch("x")).await.0, 422);
    let (code, now) = api.send("PATCH", &path, "application/json-patch+json", &patch("v")).await;
    assert_eq!((code, &now["data"]), (200, &json!({})));
}

#[tokio::test]
async fn large_objects_are_refused_by_size() {
    let api = api().await;
    api.post(crds::CRDS, crds::definition(false)).await;
    let mut thing = crds::thing("big");
    thing["spec"]["any"]["a"] = json!("x".repeat(1_600_000));
    let refused = "413 RequestEntityTooLarge Request entity too large: limit is 1572864";
    assert_eq!(message(&api.post(crds::THINGS, thing).await), refused);
    let mut map = config_map("big");
    map["data"]["k"] = json!("x".repeat(3_200_000));
    assert_eq!(
        message(&api.post(MAPS, map).await),
        "413 RequestEntityTooLarge Request entity too large: limit is 3145728"
    );
}
