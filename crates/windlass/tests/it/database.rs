//! A controller on a cluster with the archive in a real PostgreSQL: the API is real and in this process, the controller is the
//! program, and people ask at its listener with tokens of their own.

use std::net::{Ipv4Addr, TcpListener};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_apiserver::auth::StaticToken;
use windlass_apiserver::kubeconfig::Kubeconfig;
use windlass_apiserver::{ApiServer, Identity, Options, listener, tls};

use crate::house::{Done, House, LONG, Running, run, until};
use crate::postgres::{PASSWORD, Postgres, USER};

struct Stage {
    house: House,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
    stop: CancellationToken,
    /// Where the controller's listener is.
    address: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    fn new() -> Self {
        let house = House::empty();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (keys, stop) = (house.path("keys"), CancellationToken::new());
        std::fs::create_dir_all(&keys).unwrap();
        let client = runtime.block_on(async {
            let server = ApiServer::open(Options { keys: Some(keys.clone()), ..Options::memory() }).await.unwrap();
            server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
            let listener = listener::bind((Ipv4Addr::LOCALHOST, 0).into(), false).await.unwrap();
            let url = format!("https://{}", listener.local_addr().unwrap());
            let authority = tls::Authority::load_or_create(&keys, &[], jiff::Timestamp::now()).unwrap();
            let ca = authority.pem().to_owned();
            let config = tls::server_config(authority).unwrap();
            tokio::spawn(listener::serve(server.clone(), listener, config, stop.clone()));
            let token = StaticToken::load_or_create(&keys.join("token")).unwrap();
            let kubeconfig = Kubeconfig { server: &url, ca_pem: &ca, token: token.reveal(), namespace: "default" };
            kubeconfig.write(&house.path("kubeconfig")).unwrap();
            server.client(Identity::admin())
        });
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        Self { house, runtime, client, stop, address: free.to_string() }
    }

    fn kubeconfig(&self) -> String {
        self.house.path("kubeconfig").to_str().unwrap().to_owned()
    }

    fn create(&self, group: &str, plural: &str, object: &Value) -> Value {
        let request = http::Request::post(format!("/{group}/namespaces/default/{plural}"));
        let request = request.header("content-type", "application/json").body(object.to_string().into_bytes()).unwrap();
        self.runtime.block_on(self.client.request(request)).unwrap()
    }

    /// A token of an account that may do this with workflows.
    fn token(&self, name: &str, verbs: &[&str]) -> String {
        let rbac = "apis/rbac.authorization.k8s.io/v1";
        self.create("api/v1", "serviceaccounts", &json!({"metadata": {"name": name}}));
        let rule = json!({"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": verbs});
        self.create(rbac, "roles", &json!({"metadata": {"name": name}, "rules": [rule]}));
        self.create(
            rbac,
            "rolebindings",
            &json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
            }),
        );
        let asked =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
        let answer = self.create("api/v1", &format!("serviceaccounts/{name}/token"), &asked);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The program with `argo`'s variables.
    fn asks(&self, token: &str, args: &[&str]) -> Done {
        let mut command = self.house.command(args);
        command.env("ARGO_SERVER", &self.address).env("ARGO_SECURE", "false").env("ARGO_TOKEN", token);
        run(&mut command)
    }

    /// A workflow that ends without a pod, and goes as soon as it may.
    fn submit(&self, name: &str) {
        let spec = json!({
            "entrypoint": "main", "ttlStrategy": {"secondsAfterCompletion": 0},
            "templates": [
                {"name": "main", "steps": [[{"name": "never", "template": "t", "when": "1 == 2"}]]},
                {"name": "t", "suspend": {}},
            ],
        });
        let workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": name, "labels": {"team": "red"}}, "spec": spec,
        });
        self.create("apis/argoproj.io/v1alpha1", "workflows", &workflow);
    }

    fn workflow(&self, name: &str) -> Option<Value> {
        let path = format!("/apis/argoproj.io/v1alpha1/namespaces/default/workflows/{name}");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        match self.runtime.block_on(self.client.request(request)) {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn controller(&self, more: &[&str]) -> Running {
        let kubeconfig = self.kubeconfig();
        let mut args = vec!["--kubeconfig", &kubeconfig, "controller", "--image", "none", "-v"];
        args.extend(["--controller-namespace", "default", "--leader-election-disable", "--events-listen"]);
        args.push(&self.address);
        args.extend(more);
        Running::begin(&mut self.house.command(&args))
    }

    fn configure(&self, persistence: &str) {
        let map = json!({"metadata": {"name": "workflow-controller-configmap"}, "data": {"persistence": persistence}});
        self.create("api/v1", "configmaps", &map);
    }

    fn reconfigure(&self, persistence: &str) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        let patch = Patch::Merge(json!({"data": {"persistence": persistence}}));
        let name = "workflow-controller-configmap";
        self.runtime.block_on(async { maps.patch(name, &PatchParams::default(), &patch).await }).unwrap();
    }
}

fn persistence(port: u16, more: &str) -> String {
    format!(
        "{more}\npostgresql:\n  host: localhost\n  port: {port}\n  database: postgres\n  tableName: argo_workflows\n\
         \x20 userNameSecret: {{name: db, key: user}}\n  passwordSecret: {{name: db, key: password}}\n"
    )
}

#[test]
fn what_ends_on_a_cluster_is_kept_in_a_database() {
    let Some(mut database) = Postgres::start("a controller with a database") else { return };
    let stage = Stage::new();
    let port = database.port;
    stage.configure(&persistence(port, "archive: true"));
    // The controller begins before the Secret and the database are there, and runs workflows.
    database.end();
    let controller = stage.controller(&[]);
    let said = |words: &str| until(words, LONG, || controller.said().contains(words).then_some(()));
    said("there is no Secret default/db");
    let secret = json!({"metadata": {"name": "db"}, "stringData": {"user": USER, "password": PASSWORD}});
    stage.create("api/v1", "secrets", &secret);
    stage.submit("early");
    let label = |name: &str| stage.workflow(name).map(|wf| wf["metadata"]["labels"].clone()).unwrap_or_default();
    let pending = || {
        let labels = label("early");
        let is = |key: &str| labels[format!("workflows.argoproj.io/{key}")].clone();
        (is("completed") == "true" && is("workflow-archiving-status") == "Pending").then_some(())
    };
    until("it has ended, and waits", LONG, pending);
    let reader = stage.token("reader", &["get", "list"]);
    stage.asks(&reader, &["archive", "list"]).exits(1).says(&["the archive's database did not answer"]);
    database.begin(&[]);
    let gone =
        |name: &'static str| until("it is kept, and gone", LONG, || stage.workflow(name).is_none().then_some(()));
    gone("early");
    said("finished workflows and remembered outputs are in this database");
    stage.asks(&reader, &["archive", "list"]).ok().says(&["default", "early", "Succeeded"]);
    stage
        .asks(&format!("Bearer {reader}"), &["archive", "get", "early"])
        .ok()
        .says(&["Status:              Succeeded"]);
    stage.asks(&reader, &["archive", "list-label-values", "-l", "team"]).ok().says(&["red\n"]);
    let listed = stage.asks(&reader, &["archive", "list", "-l", "team=red", "-o", "json"]).ok().json();
    let uid = listed[0]["metadata"]["uid"].as_str().unwrap();
    let rows = "SELECT uid, clustername, instanceid, namespace FROM argo_archived_workflows";
    assert_eq!(database.ask("postgres", rows), format!("{uid}|default||default"));
    // Who may not, may not; who is nobody is told so.
    let poor = stage.token("poor", &["create"]);
    for args in [&["archive", "list"][..], &["archive", "get", uid], &["cache", "list"]] {
        stage.asks(&poor, args).exits(1).says(&["you may not"]);
        stage.asks("nobody", args).exits(1).says(&["an access token is needed"]);
        stage.asks("", args).exits(1).says(&["ARGO_TOKEN"]);
    }
    stage.asks(&reader, &["archive", "list", "-A"]).exits(1).says(&["you may not list workflows in all namespaces"]);
    stage.asks(&reader, &["archive", "delete", uid]).exits(1).says(&["you may not delete"]);
    // Verbs for what is there find it too, where both are named.
    let kubeconfig = stage.kubeconfig();
    stage.asks(&reader, &["--kubeconfig", &kubeconfig, "get", "early"]).ok().says(&["Status:              Succeeded"]);
    stage.asks(&reader, &["--kubeconfig", &kubeconfig, "list"]).ok().says(&["early", "Succeeded"]);
    stage.house.windlass(&["--kubeconfig", &kubeconfig, "list"]).ok().says(&["No workflows found"]);
    stage.asks(&reader, &["archive", "retry", uid]).exits(1).says(&["name a cluster with --kubeconfig"]);
    // The database goes away in the middle, and the login is another one when it is back.
    database.end();
    stage.submit("meanwhile");
    until("it has ended", LONG, || (label("meanwhile")["workflows.argoproj.io/phase"] == "Succeeded").then_some(()));
    stage.asks(&reader, &["archive", "list"]).exits(1).says(&["did not answer"]);
    database.begin(&[]);
    gone("meanwhile");
    let other = json!({"stringData": {"password": "another-one"}});
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), "default");
    stage.runtime.block_on(secrets.patch("db", &PatchParams::default(), &Patch::Merge(&other))).unwrap();
    let breaks = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'windlass'";
    database.ask("postgres", &format!("ALTER USER {USER} PASSWORD 'another-one'; {breaks}"));
    let both = || {
        let answer = stage.asks(&reader, &["archive", "list", "-o", "name"]);
        (answer.code == Some(0)).then_some(answer.stdout)
    };
    assert_eq!(until("it has logged in again", LONG, both).lines().count(), 2);
    // Switched off, it counts at once.
    stage.reconfigure(&persistence(port, "archive: false"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    stage.submit("unkept");
    gone("unkept");
    assert_eq!(stage.asks(&reader, &["archive", "list", "-o", "name"]).ok().stdout.lines().count(), 2);
    let told = controller.said();
    assert!(!told.contains(PASSWORD) && !told.contains("another-one"), "{told}");
    controller.signal(rustix::process::Signal::TERM);
    controller.finish(LONG).ok();
}

const CACHED: &str = "
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {annotations: {windlass.dev/cache: 'true'}}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: none, command: [make]}
";

#[test]
fn what_was_made_on_a_cluster_is_found_again() {
    let Some(database) = Postgres::start("a cache in a database") else { return };
    let stage = Stage::new();
    let secret = json!({"metadata": {"name": "db"}, "stringData": {"user": USER, "password": PASSWORD}});
    stage.create("api/v1", "secrets", &secret);
    stage.configure(&persistence(database.port, "archive: false"));
    let controller = stage.controller(&[]);
    let token = stage.token("keeper", &["get", "list", "delete"]);
    let file = stage.house.file("cached.yaml", CACHED);
    let kubeconfig = stage.kubeconfig();
    let submit = |name: &str| {
        stage.house.windlass(&["--kubeconfig", &kubeconfig, "submit", &file, "--name", name]).ok();
    };
    let phase = |name: &str| stage.workflow(name).unwrap()["status"]["phase"].clone();
    let hit = |name: &str| stage.workflow(name).unwrap()["status"]["nodes"][name]["memoizationStatus"]["hit"].clone();
    let pods: Api<Pod> = Api::namespaced(stage.client.clone(), "default");
    submit("first");
    let name = until("its pod", LONG, || {
        let all = stage.runtime.block_on(pods.list(&Default::default())).unwrap();
        all.items.first().and_then(|pod| pod.metadata.name.clone())
    });
    // Nobody runs pods here, so this is how it went.
    let ended = json!({"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "main", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    }]}});
    stage.runtime.block_on(pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ended))).unwrap();
    until("it has ended", LONG, || (phase("first") == "Succeeded").then_some(()));
    let listed = until("it is remembered", LONG, || {
        let listed = stage.asks(&token, &["cache", "list"]).ok();
        listed.stdout.contains("windlass.dev/cache ").then_some(listed)
    });
    listed.says(&["BYTES"]);
    submit("second");
    until("it runs nothing", LONG, || (phase("second") == "Succeeded").then_some(()));
    assert_eq!((hit("first"), hit("second")), (json!(false), json!(true)));
    assert_eq!(database.ask("postgres", "SELECT clustername, namespace FROM windlass_remembered"), "default|default");
    // Nothing of it was archived: that has to be asked for, here.
    assert_eq!(database.ask("postgres", "SELECT count(*) FROM pg_tables WHERE tablename = 'schema_history'"), "1");
    stage.asks(&token, &["archive", "list"]).ok().says(&["No archived workflows found"]);
    stage.asks(&token, &["cache", "clear"]).ok().says(&["1 remembered outputs forgotten"]);
    drop(controller);
}

#[test]
fn a_database_that_cannot_be_one_ends_the_start() {
    let stage = Stage::new();
    stage.configure(&persistence(1, "archive: true").replace("host: localhost", "host: ''"));
    let done = stage.controller(&[]).finish(LONG);
    done.exits(1).says(&["workflow-controller-configmap: persistence.postgresql.host is required"]);
    // Without one nothing is kept, and there is nothing to ask for.
    stage.reconfigure("archive: true");
    let controller = stage.controller(&[]);
    let token = stage.token("reader", &["get", "list"]);
    let refused = until("the listener is there", LONG, || {
        let answer = stage.asks(&token, &["archive", "list"]);
        answer.stderr.contains("keeps no such thing").then_some(answer)
    });
    refused.exits(1).says(&["a controller with a database"]);
    assert!(controller.said().contains("nothing is archived"), "{}", controller.said());
    drop(controller);
}
