//! The real `kubectl` against the embedded API over HTTPS, as people use it. Where there is none, the test says so.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options, kubeconfig::Kubeconfig, listener, tls};

/// `KUBECTL`, the one that `../shared/cluster` built, or the one in the path.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECTL").map(PathBuf::from);
    let built = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/windlass-cluster/bin/kubectl"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("kubectl"));
    named.into_iter().chain(built).chain(in_path).find(|p| p.exists())
}

struct Kubectl {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg("30").arg(&self.program).args(line.split(' ').filter(|w| !w.is_empty()));
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.env("KUBECONFIG", self.home.path().join("kubeconfig"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &str, input: &str) -> Output {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The output of a command that must succeed.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    #[track_caller]
    fn ok_with(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {line}\n{out}{err}");
        eprintln!("$ kubectl {line}\n{out}{err}");
        out.into_owned()
    }

    /// What a command that must fail says.
    #[track_caller]
    fn fails(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        assert!(!output.status.success(), "kubectl {line} did not fail");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        eprintln!("$ kubectl {line}\n{text}");
        text
    }
}

async fn start(home: &Path) -> (ApiServer, tokio_util::sync::DropGuard) {
    let mut options = Options::file(home.join("state.db"));
    options.keys = Some(home.to_owned());
    let server = ApiServer::open(options).await.unwrap();
    let authority = tls::Authority::load_or_create(home, &[], jiff::Timestamp::now()).unwrap();
    let ca_pem = authority.pem().to_owned();
    let socket = listener::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let address = format!("https://{}", socket.local_addr().unwrap());
    let stop = CancellationToken::new();
    let config = tls::server_config(authority).unwrap();
    tokio::spawn(listener::serve(server.clone(), socket, config, stop.clone()));
    let token = server.admin_token().unwrap().reveal();
    let config = Kubeconfig { server: &address, ca_pem: &ca_pem, token, namespace: "default" };
    config.write(&home.join("kubeconfig")).unwrap();
    (server, stop.drop_guard())
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works() {
    let Some(program) = program() else {
        eprintln!("NOT RUN: kubectl against the embedded API: no kubectl in PATH, and KUBECTL names none");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let (server, _guard) = start(home.path()).await;
    let client = server.client(Identity::admin());
    let kubectl = Kubectl { program, home };
    let walk = tokio::task::spawn_blocking(move || walk(&kubectl, &client, &tokio::runtime::Handle::current()));
    tokio::time::timeout(Duration::from_secs(240), walk).await.unwrap().unwrap();
}

fn walk(k: &Kubectl, client: &kube::Client, runtime: &tokio::runtime::Handle) {
    // Creations, which kubectl sends as protobuf.
    assert_eq!(k.ok("create namespace demo"), "namespace/demo created\n");
    k.ok("create configmap conf --from-literal=a=1 -n demo");
    k.ok("create secret generic sec --from-literal=p=q -n demo");
    k.ok("create serviceaccount bob -n demo");
    k.ok("create deployment made --image=nginx --replicas=0 --port=80 -n demo");
    k.ok("create service clusterip made --tcp=80:8080 -n demo");
    k.ok("create role look --verb=get,list --resource=pods -n demo");
    k.ok("create rolebinding look --role=look --serviceaccount=demo:bob -n demo");
    assert_eq!(k.ok("get configmap conf -n demo -o jsonpath={.data.a}"), "1");
    assert_eq!(k.ok("get secret sec -n demo -o jsonpath={.data.p}"), "cQ==");
    let made = k.ok("get deployment made -n demo -o json");
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["spec"]["replicas"], 0);
    assert_eq!(made["spec"]["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");

    // Apply, twice, and with a change.
    assert_eq!(k.ok_with("apply -n demo -f -", WEB), "deployment.apps/web created\nservice/web created\n");
    assert_eq!(k.ok_with("apply -n demo -f -", WEB), "deployment.apps/web unchanged\nservice/web unchanged\n");
    let changed = WEB.replace("replicas: 2", "replicas: 3");
    assert_eq!(k.ok_with("apply -n demo -f -", &changed), "deployment.apps/web configured\nservice/web unchanged\n");
    assert_eq!(k.ok("get deployment web -n demo -o jsonpath={.spec.replicas}"), "3");
    let typo = k.fails("apply -n demo -f -", &WEB.replace("replicas", "replica"));
    assert!(typo.contains("strict decoding error: unknown field \"spec.replica\""), "{typo}");
    let faulty = k.fails(
        "apply -n demo -f -",
        &WEB.replace("image: web:1", "imagePullPolicy: Sometimes")
            .replace("name: web\n  labels", "name: web2\n  labels"),
    );
    assert!(faulty.contains("* spec.template.spec.containers[0].image: Required value"), "{faulty}");
    assert!(
        faulty.contains("Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\""),
        "{faulty}"
    );
    k.ok_with("diff -n demo -f -", &changed);

    // Looking.
    let table = k.ok("get deployments -n demo -o wide");
    assert!(table.starts_with("NAME"), "{table}");
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    );
    assert!(table.contains("0/3") && table.contains("web:1"), "{table}");
    k.ok("get all -n demo");
    k.ok("get deploy,svc,cm,sa -n demo -l app=web --show-labels");
    assert!(k.ok("get ns").contains("demo"));
    assert!(
        k.ok("describe deployment web -n demo").contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge")
    );
    assert!(k.ok("describe service web -n demo").contains("TargetPort:"));
    assert!(k.ok("explain deployment.spec.strategy").contains("rollingUpdate"));
    assert!(k.ok("api-resources").contains("deployments"));
    assert!(k.ok("version").contains("Server Version: v1.33.0+windlass"));
    assert!(
        k.fails("get pods nothing -n demo", "").contains("Error from server (NotFound): pods \"nothing\" not found")
    );

    // Changing.
    assert_eq!(k.ok("label deployment web tier=front -n demo"), "deployment.apps/web labeled\n");
    assert_eq!(k.ok("annotate deployment web note=x -n demo"), "deployment.apps/web annotated\n");
    k.ok("set image deployment/web web=web:2 -n demo");
    assert_eq!(k.ok("get deploy web -n demo -o jsonpath={.spec.template.spec.containers[0].image}"), "web:2");
    k.ok(r#"patch deployment web -n demo -p {"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s:1"}]}}}}"#);
    assert_eq!(
        k.ok("get deploy web -n demo -o jsonpath={.spec.template.spec.containers[*].name}").split(' ').count(),
        2
    );
    k.ok(r#"patch deployment web -n demo --type=json -p [{"op":"replace","path":"/spec/replicas","value":1}]"#);
    k.ok("scale deployment web --replicas=2 -n demo");
    assert_eq!(k.ok("get deploy web -n demo -o jsonpath={.spec.replicas}"), "2");
    k.ok("delete deployment web -n demo --dry-run=server");

    // A rollout, with this test as the controller.
    let status = json!({"status": {"observedGeneration": 99, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}});
    let request = http::Request::patch("/apis/apps/v1/namespaces/demo/deployments/web/status")
        .header("content-type", "application/merge-patch+json")
        .body(status.to_string().into_bytes())
        .unwrap();
    runtime.block_on(client.request::<Value>(request)).unwrap();
    let rollout = k.ok("rollout status deployment/web -n demo --timeout=10s");
    assert!(rollout.contains("deployment \"web\" successfully rolled out"), "{rollout}");

    // Watching.
    let watching = k.command("get configmaps conf -n demo -w -o name --request-timeout=3s").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    k.ok("label configmap conf seen=yes -n demo");
    let watched = watching.wait_with_output().unwrap();
    let lines = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert_eq!(lines.lines().filter(|l| *l == "configmap/conf").count(), 2, "{lines}");

    // Rights.
    assert_eq!(k.ok("auth can-i list pods -n demo"), "yes\n");
    assert_eq!(k.ok("auth can-i list pods -n demo --as=system:serviceaccount:demo:bob"), "yes\n");
    let no = k.run("auth can-i delete pods -n demo --as=system:serviceaccount:demo:bob", "");
    assert_eq!(String::from_utf8_lossy(&no.stdout), "no\n");
    assert!(k.ok("auth whoami").contains("admin"));
    assert!(k.ok("auth can-i --list -n demo --as=system:serviceaccount:demo:bob").contains("pods"));
    let token = k.ok("create token bob -n demo");
    let bob = k.run(&format!("get secrets -n demo --token={}", token.trim()), "");
    let text = String::from_utf8_lossy(&bob.stderr).into_owned();
    let want = "Error from server (Forbidden): secrets is forbidden: User \"system:serviceaccount:demo:bob\" cannot list resource \"secrets\" in API group \"\" in the namespace \"demo\"";
    assert_eq!(text.trim(), want);

    // Removing.
    assert_eq!(k.ok("delete deployment web -n demo"), "deployment.apps \"web\" deleted\n");
    assert_eq!(k.ok("delete configmap,secret --all -n demo").lines().count(), 2);
    k.ok("delete namespace demo --timeout=20s");
    assert!(k.fails("get namespace demo", "").contains("NotFound"));
}
