//! Events against the embedded API in this process, each sender with a token of its own and no more rights than it has.

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_server::{EventOptions, Events, Secrets};

use crate::answer;

struct House {
    client: kube::Client,
    router: Router,
}

impl House {
    async fn new(options: EventOptions) -> Self {
        let server = ApiServer::open(Options::memory()).await.unwrap();
        server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
        let client = server.client(Identity::admin());
        let events = Events::new(server.outside_client(), client.clone(), options);
        Self { client, router: events.routes() }
    }

    fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk_with_plural(&gvk, plural))
    }

    fn argo(&self, kind: &str) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", kind, &format!("{}s", kind.to_ascii_lowercase()))
    }

    async fn create(&self, api: &Api<DynamicObject>, object: Value) {
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    async fn binding(&self, name: &str, selector: &str, template: &str) {
        let binding = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowEventBinding", "metadata": {"name": name},
            "spec": {
                "event": {"selector": selector},
                "submit": {
                    "workflowTemplateRef": {"name": template},
                    "arguments": {"parameters": [{"name": "message", "valueFrom": {"event": "payload.message"}}]},
                },
            },
        });
        self.create(&self.argo("WorkflowEventBinding"), binding).await;
    }

    async fn template(&self, name: &str) {
        let template = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": name},
            "spec": {
                "entrypoint": "main", "workflowMetadata": {"labels": {"team": "web"}},
                "templates": [{"name": "main", "suspend": {}}],
            },
        });
        self.create(&self.argo("WorkflowTemplate"), template).await;
    }

    /// A token of an account that may do this to Argo's kinds, and nothing else.
    async fn sender(&self, name: &str, may: &[(&str, &str)]) -> String {
        let rbac = "rbac.authorization.k8s.io";
        let meta = json!({"name": name});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta});
        self.create(&self.api("", "v1", "ServiceAccount", "serviceaccounts"), account).await;
        let rules: Vec<Value> = may
            .iter()
            .map(|(resource, verb)| json!({"apiGroups": ["argoproj.io"], "resources": [resource], "verbs": [verb]}))
            .collect();
        let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": rules});
        self.create(&self.api(rbac, "v1", "Role", "roles"), role).await;
        let bound = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        });
        self.create(&self.api(rbac, "v1", "RoleBinding", "rolebindings"), bound).await;
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{name}/token");
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(asked.to_string().into_bytes()).unwrap();
        let token: Value = self.client.request(request).await.unwrap();
        token["status"]["token"].as_str().unwrap().to_owned()
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &str) -> (StatusCode, Value) {
        let mut request = Request::post(path).header("x-kind", "tea").header("X-Kind", "hot");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        answer(&self.router, request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn workflows(&self) -> Vec<DynamicObject> {
        self.argo("Workflow").list(&ListParams::default()).await.unwrap().items
    }
}

const MAY: [(&str, &str); 3] =
    [("workfloweventbindings", "list"), ("workflowtemplates", "get"), ("workflows", "create")];
const PATH: &str = "/api/v1/events/default/";

#[tokio::test]
async fn an_event_becomes_workflows() {
    let house = House::new(EventOptions::default()).await;
    house.template("greet").await;
    house.binding("all", "true", "greet").await;
    house
        .binding("some", r#"payload.n > 2 && metadata["x-kind"] == ["tea", "hot"] && discriminator == "d""#, "greet")
        .await;
    let token = house.sender("sender", &MAY).await;
    let (code, body) = house.post(PATH, Some(&token), r#"{"message": "{{x}} $(id)", "n": 3}"#).await;
    assert_eq!((code, body["workflows"].as_array().unwrap().len()), (StatusCode::OK, 1), "{body}");
    let (code, body) = house.post(&format!("{PATH}d"), Some(&token), r#"{"message": "two", "n": 3}"#).await;
    assert_eq!((code, body["workflows"].as_array().unwrap().len()), (StatusCode::OK, 2), "{body}");
    let made = house.workflows().await;
    assert_eq!(made.len(), 3);
    let first = made.iter().find(|w| w.data["spec"]["arguments"]["parameters"][0]["value"] == "{{x}} $(id)").unwrap();
    insta::assert_json_snapshot!(
        "event_workflow",
        json!({"labels": first.metadata.labels, "spec": first.data["spec"]})
    );
    assert!(first.metadata.name.as_deref().unwrap().starts_with("greet-"));
}

#[tokio::test]
async fn every_answer_to_an_event() {
    let options = EventOptions { body_bytes_max: 1000, ..EventOptions::default() };
    let house = House::new(options).await;
    house.template("greet").await;
    house.binding("all", "true", "greet").await;
    let all = house.sender("all", &MAY).await;
    let none = house.sender("none", &[]).await;
    let looks = house.sender("looks", &MAY[..2]).await;
    let big = format!("\"{}\"", "x".repeat(1000));
    let mut lines = Vec::new();
    let good = r#"{"message": "m"}"#;
    for (name, path, token, body) in [
        ("no token", PATH, None, good),
        ("not a token", PATH, Some("nobody"), good),
        ("no rights", PATH, Some(none.as_str()), good),
        ("may not create", PATH, Some(looks.as_str()), good),
        ("elsewhere", "/api/v1/events/kube-system/", Some(all.as_str()), good),
        ("no namespace", "/api/v1/events/..%2F..%2Fx/y", Some(all.as_str()), good),
        ("too large", PATH, Some(all.as_str()), big.as_str()),
        ("no JSON", PATH, Some(all.as_str()), "{"),
        ("without what the binding asks for", PATH, Some(all.as_str()), ""),
    ] {
        let (code, body) = house.post(path, token, body).await;
        lines.push(format!("{name}: {} {body}", code.as_u16()));
    }
    let basic = Request::post(PATH).header("authorization", "Basic YTpi").body(Body::empty()).unwrap();
    lines.push(format!("basic: {}", answer(&house.router, basic).await.0));
    let get = Request::get(PATH).body(Body::empty()).unwrap();
    lines.push(format!("GET: {}", answer(&house.router, get).await.0));
    insta::assert_snapshot!("event_answers", lines.join("\n"));
    assert_eq!(house.workflows().await.len(), 0);
}

/// What is wrong with one binding hinders no other, and is told once where people look.
#[tokio::test]
async fn a_wrong_binding_is_told() {
    let house = House::new(EventOptions::default()).await;
    house.template("greet").await;
    house.binding("absent", "true", "none").await;
    house.binding("good", "true", "greet").await;
    house.binding("wrong", "payload.message", "greet").await;
    let token = house.sender("sender", &MAY).await;
    for _ in 0..2 {
        let (code, body) = house.post(PATH, Some(&token), r#"{"message": "hush"}"#).await;
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["workflows"].as_array().unwrap().len(), 1, "{body}");
        let said = body["message"].as_str().unwrap();
        assert!(said.contains("absent: ") && said.contains("wrong: ") && !said.contains("hush"), "{said}");
    }
    assert_eq!(house.workflows().await.len(), 2);
    let events = house.api("", "v1", "Event", "events").list(&ListParams::default()).await.unwrap().items;
    let told: Vec<String> = events
        .iter()
        .map(|e| {
            let about = e.data["involvedObject"]["name"].as_str().unwrap();
            format!("{about} {} {}", e.data["reason"].as_str().unwrap(), e.data["message"].as_str().unwrap())
        })
        .collect();
    insta::assert_snapshot!("event_told", told.join("\n"));
}

#[tokio::test]
async fn a_full_house_says_so() {
    let house = House::new(EventOptions { at_a_time: 1, waiting_max: 0, ..EventOptions::default() }).await;
    let token = house.sender("sender", &MAY).await;
    // One whose body does not come holds the only place, from when its body is asked for.
    let (began, begun) = tokio::sync::oneshot::channel();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let body = futures::stream::once(async move {
        let _ = began.send(());
        let _ = gone.await;
        Ok::<_, std::io::Error>("{}")
    });
    let slow = Request::post(PATH).header("authorization", format!("Bearer {token}"));
    let slow = slow.body(Body::from_stream(body)).unwrap();
    let router = house.router.clone();
    let first = tokio::spawn(async move { answer(&router, slow).await });
    begun.await.unwrap();
    let (code, body) = house.post(PATH, Some(&token), "{}").await;
    assert_eq!(
        (code, body["message"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("too many events at a time; send it again"))
    );
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().0, StatusCode::OK);
    assert_eq!(house.post(PATH, Some(&token), "{}").await.0, StatusCode::OK);
}

impl House {
    /// Argo's Secret of those who sign.
    async fn clients(&self, clients: Value) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "argo-workflows-webhook-clients"},
            "stringData": clients,
        });
        self.create(&self.api("", "v1", "Secret", "secrets"), secret).await;
    }

    async fn webhook(&self, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
        let mut request = Request::post(PATH);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&self.router, request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

/// Who signs acts as the account whose secret it is, and as nobody else.
#[tokio::test]
async fn a_forge_that_signs_needs_no_token() {
    let house = House::new(EventOptions { body_bytes_max: 1000, ..EventOptions::default() }).await;
    house.template("greet").await;
    house.binding("all", "metadata[\"x-gitlab-token\"] == nil", "greet").await;
    house.sender("github.com", &MAY).await;
    house.sender("gitlab.com", &MAY[..2]).await;
    house.sender("b1", &MAY).await;
    house.sender("b2", &MAY).await;
    let (body, big) = (r#"{"message": "m"}"#, format!("\"{}\"", "x".repeat(1000)));
    let sign = |secret: &str, body: &str| Secrets::one(secret).sign(body.as_bytes()).unwrap();
    let (right, wrong, no_json, too_big) =
        (sign("shh!", body), sign("shh", body), sign("shh!", "{"), sign("shh!", &big));
    let (of_nobody, of_two) = (sign("for-nobody", body), sign("second", body));
    let (github, server) = (("x-github-event", "push"), ("x-event-key", "repo:refs_changed"));
    let gitlab = ("x-gitlab-event", "Push Hook");
    let mut lines = Vec::new();
    let asked = [github, ("x-hub-signature-256", right.as_str())];
    lines.push(format!("no Secret: {}", house.webhook(&asked, body).await.0));
    house
        .clients(json!({
            "github.com": "type: github\nsecret: \"shh!\"\n", "gitlab.com": "type: gitlab\nsecret: token\n",
            "b1": "type: bitbucketserver\nsecret: first\n", "b2": "type: bitbucketserver\nsecret: second\n",
            "nobody": "type: github\nsecret: for-nobody\n", "broken": "type: gitea\nsecret: x\n",
        }))
        .await;
    for (name, headers, body) in [
        ("right", asked.to_vec(), body),
        // As Argo: nothing keeps count of deliveries.
        ("again", asked.to_vec(), body),
        ("the second of two clients", vec![server, ("x-hub-signature", of_two.as_str())], body),
        ("an account that may not create", vec![gitlab, ("x-gitlab-token", "token")], body),
        ("no JSON", vec![github, ("x-hub-signature-256", no_json.as_str())], "{"),
        ("too large", vec![github, ("x-hub-signature-256", too_big.as_str())], big.as_str()),
        ("wrong", vec![github, ("x-hub-signature-256", wrong.as_str())], body),
        ("of another body", vec![github, ("x-hub-signature-256", right.as_str())], "{}"),
        ("none", vec![github], body),
        ("no event", vec![asked[1]], body),
        ("another forge's", vec![gitlab, ("x-hub-signature-256", right.as_str())], body),
        ("an account that is not there", vec![github, ("x-hub-signature-256", of_nobody.as_str())], body),
        ("a token beside it", vec![asked[0], asked[1], ("authorization", "Bearer nobody")], body),
        ("no token beside it", vec![asked[0], asked[1], ("authorization", "Basic YTpi")], body),
    ] {
        let (code, answer) = house.webhook(&headers, body).await;
        let made = answer["workflows"].as_array().map_or(0, Vec::len);
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(!message.contains("shh") && !message.contains("second"), "{message}");
        lines.push(format!("{name}: {} {made}, {message}", code.as_u16()));
    }
    insta::assert_snapshot!("event_signed", lines.join("\n"));
    assert_eq!(house.workflows().await.len(), 3);
}
