//! Lists, and lists as tables.

use super::world::{World, config_map, names};
use serde_json::{Value, json};

pub(super) async fn selectors_choose(w: &World) {
    let ns = w.namespace("select").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    for (name, labels) in [("a", json!({"x": "1"})), ("b", json!({"x": "2", "y": "1"})), ("c", json!({}))] {
        w.post(&all, config_map(name, labels)).await.ok();
    }
    for (query, want) in [
        ("labelSelector=x", vec!["a", "b"]),
        ("labelSelector=x%3D1", vec!["a"]),
        ("labelSelector=x%3D%3D1", vec!["a"]),
        ("labelSelector=x!%3D1,x", vec!["b"]),
        ("labelSelector=x%20in%20(1,2),y", vec!["b"]),
        ("labelSelector=x%20notin%20(1),y%3D1", vec!["b"]),
        ("labelSelector=x%3D3", vec![]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        ("fieldSelector=metadata.name!%3Dc&labelSelector=x", vec!["a", "b"]),
    ] {
        let list = w.get(&format!("{all}?{query}")).await.ok();
        let found: Vec<String> = names(&list).into_iter().filter(|n| n != "kube-root-ca.crt").collect();
        assert_eq!(found, want, "{query}");
        assert_eq!(list["kind"], "ConfigMapList");
        assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    }
    let bad = w.get(&format!("{all}?labelSelector=x%3D%3D%3D1")).await;
    assert!(bad.refused(400, "BadRequest").starts_with("unable to parse requirement"), "{:#}", bad.body);
    let field = w.get(&format!("{all}?fieldSelector=data.a%3D1")).await;
    let text = "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!(field.refused(400, "BadRequest"), text);
    let gone = format!("{all}?labelSelector=x");
    assert_eq!(w.delete(&gone).await.code, 200);
    w.until(&gone, |a| names(&a.body).is_empty()).await;
    assert_eq!(w.get(&format!("{all}/c")).await.code, 200);
}

pub(super) async fn long_lists_come_in_chunks(w: &World) {
    let ns = w.namespace("chunks").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    for i in 0..7 {
        w.post(&all, config_map(&format!("c{i}"), json!({"mine": "yes"}))).await.ok();
    }
    let (mut token, mut found, mut rounds) = (String::new(), Vec::new(), 0);
    loop {
        let list = w.get(&format!("{all}?labelSelector=mine&limit=3&continue={token}")).await.ok();
        found.extend(names(&list));
        rounds += 1;
        match list["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    assert_eq!(found, (0..7).map(|i| format!("c{i}")).collect::<Vec<_>>());
    assert_eq!(rounds, 3);
    assert_eq!(w.get(&format!("{all}?limit=3&continue=garbage")).await.code, 400);
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn headings(table: &Value) -> String {
    let columns = table["columnDefinitions"].as_array().unwrap();
    let one = |c: &Value| format!("{}{}", c["name"].as_str().unwrap(), if c["priority"] == 0 { "" } else { "+" });
    columns.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) async fn tables_have_the_columns_of_kubectl(w: &World) {
    let ns = w.namespace("table").await;
    let core = format!("/api/v1/namespaces/{ns}");
    w.post(&format!("{core}/configmaps"), config_map("a", json!({"t": "1"}))).await.ok();
    for (path, want) in [
        (format!("{core}/pods"), "Name Ready Status Restarts Age IP+ Node+ Nominated Node+ Readiness Gates+"),
        (format!("{core}/services"), "Name Type Cluster-IP External-IP Port(s) Age Selector+"),
        (format!("{core}/configmaps"), "Name Data Age"),
        (format!("{core}/secrets"), "Name Type Data Age"),
        (format!("{core}/serviceaccounts"), "Name Secrets Age"),
        (format!("{core}/endpoints"), "Name Endpoints Age"),
        (format!("{core}/events"), "Last Seen Type Reason Object Subobject+ Source+ Message First Seen+ Count+ Name+"),
        (
            format!("{core}/persistentvolumeclaims"),
            "Name Status Volume Capacity Access Modes StorageClass VolumeAttributesClass Age VolumeMode+",
        ),
        ("/api/v1/namespaces".to_owned(), "Name Status Age"),
        (
            "/api/v1/nodes".to_owned(),
            "Name Status Roles Age Version Internal-IP+ External-IP+ OS-Image+ Kernel-Version+ Container-Runtime+",
        ),
        (
            format!("/apis/apps/v1/namespaces/{ns}/deployments"),
            "Name Ready Up-to-date Available Age Containers+ Images+ Selector+",
        ),
        (
            format!("/apis/apps/v1/namespaces/{ns}/replicasets"),
            "Name Desired Current Ready Age Containers+ Images+ Selector+",
        ),
        (format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"), "Name Holder Age"),
        (format!("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"), "Name AddressType Ports Endpoints Age"),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
            "Name Role Age Users+ Groups+ ServiceAccounts+",
        ),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(), "Name Created At"),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(), "Name Created At"),
    ] {
        let table = w.get_as(&path, TABLE).await.ok();
        assert_eq!(table["kind"], "Table", "{path}");
        assert_eq!(headings(&table), want, "{path}");
    }
    let table = w.get_as(&format!("{core}/configmaps?labelSelector=t"), TABLE).await.ok();
    let row = &table["rows"][0];
    assert_eq!(row["cells"][0], "a");
    assert_eq!(row["cells"][1].to_string().trim_matches('"'), "1");
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["name"], "a");
    let one = w.get_as(&format!("{core}/configmaps/a?includeObject=Object"), TABLE).await.ok();
    assert_eq!(one["rows"][0]["object"]["data"]["a"], "1");
    let none = w.get_as(&format!("{core}/configmaps/a?includeObject=None"), TABLE).await.ok();
    assert!(none["rows"][0].get("object").is_none_or(Value::is_null));
}
