//! Archived workflows, asked for by people with different rights.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_archive::{Archive, SqliteArchive};
use windlass_server::archived::{Caller, by_token, has, routes};

fn workflow(uid: &str, name: &str, namespace: &str, minute: u32, team: &str) -> String {
    let at = format!("2026-11-21T12:{minute:02}:00Z");
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"uid": uid, "name": name, "namespace": namespace, "labels": {"team": team}},
        "spec": {"entrypoint": "main"},
        "status": {"phase": "Failed", "startedAt": at, "finishedAt": at, "nodes": {"n": {}}},
    })
    .to_string()
}

struct House {
    api: ApiServer,
    archive: SqliteArchive,
    _dir: tempfile::TempDir,
}

impl House {
    async fn ask(&self, who: &Identity, method: &str, path: &str) -> (u16, Value) {
        assert!(has(path.split('?').next().unwrap()), "{path}");
        let router = routes(Arc::new(self.archive.clone()));
        let request = Request::builder().method(method).uri(path);
        let request = request.extension(Caller(self.api.client(who.clone()))).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|w| w["metadata"]["name"].as_str().unwrap_or_else(|| w.as_str().unwrap())).collect()
}

#[tokio::test]
async fn rbac_decides_who_sees_what_is_archived() {
    let api = ApiServer::open(Options::memory()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = SqliteArchive::new(dir.path().join("archive.db"));
    let all = vec![
        workflow("u1", "build", "default", 1, "red"),
        workflow("u2", "build", "default", 2, "blue"),
        workflow("u3", "nightly", "kube-system", 3, "red"),
    ];
    archive.keep(all).await.unwrap();
    let house = House { api, archive, _dir: dir };
    let admin = Identity::admin();
    let role = |kind: &str, more: Value| {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "reader"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let client = house.api.client(admin.clone());
    for (plural, object) in [
        (
            "roles",
            role(
                "Role",
                json!({"rules": [{"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "list"]}]}),
            ),
        ),
        (
            "rolebindings",
            role(
                "RoleBinding",
                json!({
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
                    "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
                }),
            ),
        ),
    ] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/default/{plural}");
        let request = Request::post(path).header("content-type", "application/json");
        client.request::<Value>(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap();
    }
    let reader = Identity::service_account("default", "reader", "x");

    let (code, list) = house.ask(&admin, "GET", "/api/v1/archived-workflows").await;
    assert_eq!((code, names(&list)), (200, vec!["nightly", "build", "build"]), "{list}");
    assert!(list["items"][0]["status"].get("nodes").is_none());
    let one_page = "/api/v1/archived-workflows?listOptions.limit=1&listOptions.labelSelector=team%3Dred";
    let (_, list) = house.ask(&admin, "GET", one_page).await;
    assert_eq!((names(&list), &list["metadata"]["continue"]), (vec!["nightly"], &json!("1")), "{list}");
    assert_eq!(list["metadata"]["remainingItemCount"], 1);
    let (_, list) = house.ask(&admin, "GET", &format!("{one_page}&listOptions.continue=1")).await;
    assert_eq!((names(&list), list["metadata"].get("continue")), (vec!["build"], None), "{list}");
    let (_, list) = house.ask(&admin, "GET", "/api/v1/archived-workflows?namePrefix=night&nameFilter=Contains").await;
    assert_eq!(names(&list), ["nightly"]);

    // One namespace's reader: neither others' nor all, and nothing is deleted.
    let (code, list) = house.ask(&reader, "GET", "/api/v1/archived-workflows?namespace=default").await;
    assert_eq!((code, names(&list)), (200, vec!["build", "build"]));
    for path in [
        "/api/v1/archived-workflows",
        "/api/v1/archived-workflows?namespace=kube-system",
        "/api/v1/archived-workflows/u3",
    ] {
        let (code, refused) = house.ask(&reader, "GET", path).await;
        assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{path}: {refused}");
    }
    let (code, _) = house.ask(&Identity::anonymous(), "GET", "/api/v1/archived-workflows?namespace=default").await;
    assert_eq!(code, 403);
    let (code, whole) = house.ask(&reader, "GET", "/api/v1/archived-workflows/u1").await;
    assert_eq!((code, whole["status"]["nodes"].is_object()), (200, true));
    let (code, _) = house.ask(&reader, "DELETE", "/api/v1/archived-workflows/u1").await;
    assert_eq!(code, 403);
    let (code, values) = house
        .ask(&reader, "GET", "/api/v1/archived-workflows-label-values?namespace=default&listOptions.labelSelector=team")
        .await;
    assert_eq!((code, names(&values)), (200, vec!["blue", "red"]));
    let (code, keys) = house.ask(&admin, "GET", "/api/v1/archived-workflows-label-keys").await;
    assert_eq!((code, names(&keys)[0]), (200, "team"));

    assert_eq!(house.ask(&admin, "DELETE", "/api/v1/archived-workflows/u1").await.0, 200);
    let (code, gone) = house.ask(&admin, "GET", "/api/v1/archived-workflows/u1").await;
    assert_eq!((code, &gone["kind"], &gone["reason"]), (404, &json!("Status"), &json!("NotFound")));
    for bad in [
        "?listOptions.labelSelector=a%20b",
        "?listOptions.limit=x",
        "?nameFilter=Sounds&namePrefix=a",
        "?listOptions.fieldSelector=x%3Dy",
    ] {
        let (code, refused) = house.ask(&admin, "GET", &format!("/api/v1/archived-workflows{bad}")).await;
        assert_eq!(code, 400, "{bad}: {refused}");
    }
}

#[tokio::test]
async fn a_token_says_who_asks() {
    let api = ApiServer::open(Options::memory()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let archive = SqliteArchive::new(dir.path().join("archive.db"));
    archive.keep(vec![workflow("u1", "build", "default", 1, "red")]).await.unwrap();
    let client = api.client(Identity::admin());
    let create = async |path: &str, object: Value| -> Value {
        let request = Request::post(path).header("content-type", "application/json");
        client.request(request.body(object.to_string().into_bytes()).unwrap()).await.unwrap()
    };
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let mut tokens = Vec::new();
    for name in ["reader", "nobody"] {
        create(accounts, json!({"metadata": {"name": name}})).await;
        let asked =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
        let answer = create(&format!("{accounts}/{name}/token"), asked).await;
        tokens.push(answer["status"]["token"].as_str().unwrap().to_owned());
    }
    let rules = json!([{"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "list"]}]);
    create(&format!("{rbac}/roles"), json!({"metadata": {"name": "reader"}, "rules": rules})).await;
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    });
    create(&format!("{rbac}/rolebindings"), binding).await;

    let router = by_token(routes(Arc::new(archive)), api.outside_client());
    let ask = async |authorization: Option<&str>, path: &str| {
        let mut request = Request::get(path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&body).unwrap_or_default())
    };
    let (reader, nobody) = (format!("Bearer {}", tokens[0]), format!("bearer {}", tokens[1]));
    let (list, one) = ("/api/v1/archived-workflows?namespace=default", "/api/v1/archived-workflows/u1");
    for path in [list, one] {
        assert_eq!(ask(Some(&reader), path).await.0, 200, "{path}");
        let (code, refused) = ask(Some(&nobody), path).await;
        assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{path}: {refused}");
    }
    // Whoever is nobody learns nothing, not even of what there is not.
    for authorization in [None, Some("Bearer x"), Some("Basic YTpi"), Some("Bearer "), Some("x")] {
        for path in [list, one, "/api/v1/archived-workflows/none"] {
            let (code, refused) = ask(authorization, path).await;
            assert_eq!((code, &refused["kind"]), (401, &json!("Status")), "{authorization:?} {path}: {refused}");
        }
    }
    assert_eq!(ask(None, "/api/v1/other").await.0, 404);
}
