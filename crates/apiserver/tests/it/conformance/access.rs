//! Who may do what.

use super::world::{World, get, post};
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

pub(super) async fn account(w: &World, ns: &str, name: &str) -> kube::Client {
    w.post(&format!("/api/v1/namespaces/{ns}/serviceaccounts"), json!({"metadata": {"name": name}})).await.ok();
    w.as_account(ns, name).await
}

pub(super) async fn grant(w: &World, ns: &str, name: &str, rules: Value) {
    w.post(&format!("{RBAC}/namespaces/{ns}/roles"), json!({"metadata": {"name": name}, "rules": rules})).await.ok();
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ns}],
    });
    w.post(&format!("{RBAC}/namespaces/{ns}/rolebindings"), binding).await.ok();
}

/// A decision may take a moment to arrive where rules are cached.
async fn until_allowed(client: &kube::Client, path: &str) -> Value {
    for _ in 0..50 {
        let answer = get(client, path).await;
        if answer.code == 200 {
            return answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{path}: {:#}", get(client, path).await.body);
}

pub(super) async fn roles_decide_for_service_accounts(w: &World) {
    let ns = w.namespace("rbac").await;
    let sa = account(w, &ns, "bob").await;
    let user = format!("system:serviceaccount:{ns}:bob");
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    let refused = get(&sa, &pods).await;
    let text = format!(
        "pods is forbidden: User \"{user}\" cannot list resource \"pods\" in API group \"\" in the namespace \"{ns}\""
    );
    assert_eq!(refused.refused(403, "Forbidden"), text);
    assert_eq!(refused.body["details"], json!({"kind": "pods"}));
    let log = get(&sa, &format!("{pods}/x/log")).await;
    let text = format!(
        "pods \"x\" is forbidden: User \"{user}\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"{ns}\""
    );
    assert_eq!(log.refused(403, "Forbidden"), text);
    let nodes = get(&sa, "/api/v1/nodes").await;
    let text = format!(
        "nodes is forbidden: User \"{user}\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(nodes.refused(403, "Forbidden"), text);
    let path = get(&sa, "/metrics").await;
    assert_eq!(path.refused(403, "Forbidden"), format!("forbidden: User \"{user}\" cannot get path \"/metrics\""));
    grant(
        w,
        &ns,
        "bob",
        json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]},
        ]),
    )
    .await;
    until_allowed(&sa, &pods).await;
    assert_eq!(get(&sa, &format!("{pods}/x")).await.code, 404, "may look, finds nothing");
    assert_eq!(get(&sa, &format!("{pods}/x/log")).await.code, 403, "a subresource is its own");
    assert_eq!(get(&sa, "/api/v1/pods").await.code, 403, "all namespaces are more than one");
    assert_eq!(get(&sa, &format!("/api/v1/namespaces/{ns}/secrets/mine")).await.code, 404);
    assert_eq!(get(&sa, &format!("/api/v1/namespaces/{ns}/secrets/other")).await.code, 403);
    assert_eq!(get(&sa, "/version").await.code, 200);
    assert_eq!(get(&sa, "/apis").await.code, 200);
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": {"namespace": ns, "verb": verb, "resource": "pods"}}});
    let yes = post(&sa, reviews, ask("list")).await.ok();
    assert_eq!(yes["status"]["allowed"], true);
    let reason = format!("RBAC: allowed by RoleBinding \"bob/{ns}\" of Role \"bob\" to ServiceAccount \"bob/{ns}\"");
    assert_eq!(yes["status"]["reason"], reason);
    let no = post(&sa, reviews, ask("delete")).await.ok();
    assert_eq!(no["status"], json!({"allowed": false}));
    let whoami = post(&sa, "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await.ok();
    let info = &whoami["status"]["userInfo"];
    assert_eq!(info["username"], user);
    assert_eq!(
        info["groups"],
        json!(["system:serviceaccounts", format!("system:serviceaccounts:{ns}"), "system:authenticated"])
    );
    let rules = json!({"spec": {"namespace": ns}});
    let rules = post(&sa, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", rules).await.ok();
    let mine = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
    assert!(rules["status"]["resourceRules"].as_array().unwrap().contains(&mine), "{rules:#}");
    let other =
        json!({"spec": {"user": user, "resourceAttributes": {"namespace": ns, "verb": "list", "resource": "pods"}}});
    let other = w.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", other).await.ok();
    assert_eq!(other["status"]["allowed"], true);
}

pub(super) async fn nobody_grants_what_he_does_not_hold(w: &World) {
    let ns = w.namespace("escalate").await;
    let sa = account(w, &ns, "eve").await;
    grant(w, &ns, "eve", json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["get", "list", "create"]},
    ]))
    .await;
    let roles = format!("{RBAC}/namespaces/{ns}/roles");
    until_allowed(&sa, &roles).await;
    let wanted = json!({"metadata": {"name": "more"}, "rules": [
        {"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "delete"]},
    ]});
    let refused = post(&sa, &roles, wanted).await;
    let text = format!(
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"system:serviceaccount:{ns}:eve\" \
         (groups=[\"system:serviceaccounts\" \"system:serviceaccounts:{ns}\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}}\n\
         {{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}}"
    );
    assert_eq!(refused.refused(403, "Forbidden"), text);
    let held =
        json!({"metadata": {"name": "less"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    assert_eq!(post(&sa, &roles, held).await.code, 201);
    let bindings = format!("{RBAC}/namespaces/{ns}/rolebindings");
    let to = |role: &str| json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    assert_eq!(post(&sa, &bindings, to("cluster-admin")).await.code, 403);
    let nothing = post(&sa, &bindings, to("not-there")).await;
    assert_eq!(nothing.refused(404, "NotFound"), "rolebindings.rbac.authorization.k8s.io \"not-there\" not found");
    let changed = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other"}});
    let changed = w.patch(&format!("{bindings}/eve"), "merge", changed).await;
    assert!(changed.refused(422, "Invalid").ends_with(": cannot change roleRef"), "{:#}", changed.body);
}

pub(super) async fn tokens_are_bound(w: &World) {
    let ns = w.namespace("token").await;
    let accounts = format!("/api/v1/namespaces/{ns}/serviceaccounts");
    w.post(&accounts, json!({"metadata": {"name": "bob"}})).await.ok();
    let path = format!("{accounts}/bob/token");
    let short = w.post(&path, json!({"spec": {"expirationSeconds": 60}})).await;
    let text = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes";
    assert_eq!(short.refused(422, "Invalid"), text);
    let nobody = w.post(&format!("{accounts}/none/token"), json!({"spec": {}})).await;
    assert_eq!(nobody.refused(404, "NotFound"), "serviceaccounts \"none\" not found");
    let unbound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}});
    assert_eq!(w.post(&path, unbound).await.refused(404, "NotFound"), "pods \"none\" not found");
    let secrets = format!("/api/v1/namespaces/{ns}/secrets");
    w.post(&secrets, json!({"metadata": {"name": "anchor"}})).await.ok();
    let bound = json!({"spec": {"expirationSeconds": 600, "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "anchor"}}});
    let answer = w.post(&path, bound).await;
    assert_eq!(answer.code, 201);
    let answer = answer.ok();
    assert_eq!(answer["spec"]["expirationSeconds"], 600);
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(token.split('.').count(), 3);
    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let status = w.post(reviews, review.clone()).await.ok()["status"].clone();
    assert_eq!(status["authenticated"], true, "{status:#}");
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{ns}:bob"));
    assert_eq!(w.post(reviews, json!({"spec": {"token": "x"}})).await.ok()["status"]["error"], "invalid bearer token");
    if let Some(client) = w.with_token(&token) {
        assert_eq!(get(&client, "/api").await.code, 200);
    }
    let foreign = w.post(&path, json!({"spec": {"audiences": ["vault"]}})).await.ok();
    if let Some(client) = w.with_token(foreign["status"]["token"].as_str().unwrap()) {
        assert_eq!(get(&client, "/api").await.refused(401, "Unauthorized"), "Unauthorized");
    }
    w.delete(&format!("{secrets}/anchor")).await.ok();
    let mut left = Value::Null;
    for _ in 0..200 {
        left = w.post(reviews, review.clone()).await.ok()["status"].clone();
        if left["authenticated"] != true {
            break;
        }
        // A real server remembers its answer for ten seconds.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_ne!(left["authenticated"], true, "the token died with its secret");
}

pub(super) async fn strangers_are_refused(w: &World) {
    let Some(anonymous) = w.with_token("") else {
        eprintln!("NOT RUN [{}]: a client in this process has an identity, not a token", w.name);
        return;
    };
    assert_eq!(get(&anonymous, "/version").await.code, 200);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(&anonymous, path).await.body, "ok", "{path}");
    }
    let refused = get(&anonymous, "/api").await;
    assert_eq!(refused.refused(403, "Forbidden"), "forbidden: User \"system:anonymous\" cannot get path \"/api\"");
    assert_eq!(refused.body["details"], json!({}));
    assert_eq!(get(&anonymous, "/api/v1/namespaces/default/secrets").await.code, 403);
    let wrong = w.with_token("not-a-token").unwrap();
    assert_eq!(get(&wrong, "/version").await.refused(401, "Unauthorized"), "Unauthorized");
}

/// A role for a custom kind that says it belongs to `view` is in `edit` and `admin` too.
pub(super) async fn what_is_collected_is_collected_on(w: &World) {
    let ns = w.namespace("collect").await;
    let sa = account(w, &ns, "carol").await;
    let role = json!({
        "metadata": {"name": format!("{ns}-view"), "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": [""], "resources": [format!("{ns}things")], "verbs": ["get"]}],
    });
    w.post(&format!("{RBAC}/clusterroles"), role).await.ok();
    let binding = json!({
        "metadata": {"name": "carol"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "carol", "namespace": ns}],
    });
    w.post(&format!("{RBAC}/namespaces/{ns}/rolebindings"), binding).await.ok();
    until_allowed(&sa, &format!("/api/v1/namespaces/{ns}/configmaps")).await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": {"namespace": ns, "verb": verb, "resource": format!("{ns}things")}}});
    let mut allowed = false;
    for _ in 0..50 {
        allowed = post(&sa, reviews, ask("get")).await.ok()["status"]["allowed"] == true;
        if allowed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(allowed, "view's rules are not in admin");
    assert_eq!(post(&sa, reviews, ask("delete")).await.ok()["status"]["allowed"], false);
    w.delete(&format!("{RBAC}/clusterroles/{ns}-view")).await.ok();
}
