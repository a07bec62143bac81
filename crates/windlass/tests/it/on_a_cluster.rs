//! The same workflows on one machine and on a real cluster, with Windlass as its controller and the executor in the pods: the
//! node tables are compared, and what differs is a snapshot. The pod form also runs on one machine, always; the cluster is on
//! demand, for its nodes have to run pods:
//!
//! - `WINDLASS_CLUSTER_KUBECONFIG`: its administrator; `kubectl` is on the PATH.
//! - `WINDLASS_CLUSTER_REGISTRY`: `HOST:PORT` of a registry without TLS that the nodes ask for every image, whatever its name.
//! - `WINDLASS_CLUSTER_HOST`: the address at which pods reach this machine.
//!
//! It works in one namespace of its own, which it deletes; the kinds stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hosts::{Host, Reply};
use crate::house::{BINARY, Done, House, Running, program, run, until};
use crate::minio::Minio;

const IMAGE: &str = "windlass.it/windlass:1";
const BUSYBOX: &str = "windlass.it/busybox:1";
/// One workflow on a machine with other work.
const SLOW: Duration = Duration::from_secs(240);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster")
}

/// What the environment says of the cluster; says loudly where it says nothing.
struct Cluster {
    kubeconfig: String,
    registry: String,
    host: String,
}

impl Cluster {
    fn find() -> Option<Self> {
        let value = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let Some(kubeconfig) = value("WINDLASS_CLUSTER_KUBECONFIG") else {
            println!("NOT RUN: there is no cluster; WINDLASS_CLUSTER_KUBECONFIG names one (on demand: ci/full)");
            return None;
        };
        // Who names a cluster wants it used: what is missing then is a fault.
        let need = |name: &str| value(name).unwrap_or_else(|| panic!("{name} is not set"));
        Some(Self { kubeconfig, registry: need("WINDLASS_CLUSTER_REGISTRY"), host: need("WINDLASS_CLUSTER_HOST") })
    }
}

/// A namespace with Windlass in it.
struct Installed<'a> {
    cluster: &'a Cluster,
    house: &'a House,
    namespace: String,
}

impl Installed<'_> {
    fn kubectl(&self, args: &[&str], input: &str) -> Done {
        let mut command = Command::new("kubectl");
        command.args(["--kubeconfig", &self.cluster.kubeconfig, "-n", &self.namespace]).args(args);
        let file = self.house.file("input.yaml", input);
        if !input.is_empty() {
            command.args(["-f", &file]);
        }
        run(&mut command)
    }

    fn windlass(&self, args: &[&str]) -> Done {
        let mut all = vec!["--kubeconfig", &self.cluster.kubeconfig, "-n", &self.namespace];
        all.extend(args);
        Running::begin(&mut self.house.command(&all)).finish(SLOW)
    }

    /// Runs one workflow to its end.
    fn run(&self, file: &Path) -> Value {
        let done = self.windlass(&["submit", file.to_str().unwrap()]).ok();
        let name = done.stdout.lines().find_map(|l| l.strip_prefix("Name:")).unwrap().trim().to_owned();
        self.windlass(&["wait", &name]);
        self.windlass(&["get", &name, "-o", "json"]).ok().json()
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let kubectl = |args: &[&str]| {
            let mut command = Command::new("kubectl");
            let _ = command.args(["--kubeconfig", &self.cluster.kubeconfig]).args(args).output();
        };
        if std::thread::panicking() {
            let told = self.kubectl(&["get", "pods,workflows"], "");
            eprintln!("{}\n{}", told.stdout, self.kubectl(&["logs", "deploy/windlass-controller"], "").stdout);
        }
        let controller = format!("windlass-controller-{}", self.namespace);
        kubectl(&["delete", "clusterrole,clusterrolebinding", &controller, "--ignore-not-found"]);
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// Makes the image of the steps under this name, and gives it to the nodes' registry.
fn publish(cluster: &Cluster, house: &House, image: &str, programs: &[&str]) {
    house.image(image, programs);
    push(cluster, house, image);
}

fn push(cluster: &Cluster, house: &House, image: &str) {
    let rules = ["windlass.it", "docker.io"].map(|from| format!("--remap-registry={from}={}", cluster.registry));
    house.windlass(&["image", "push", image, "--insecure", &rules[0], &rules[1]]).ok();
}

/// Makes our own image, and installs into a namespace that is not there yet.
fn install<'a>(namespace: &str, cluster: &'a Cluster, house: &'a House, git: &str) -> Installed<'a> {
    publish(cluster, house, BUSYBOX, &["busybox", "sh", "echo", "cat", "mkdir"]);
    let own = house.path("windlass");
    match program("strip") {
        Some(_) => drop(run(Command::new("strip").arg("-o").arg(&own).arg(BINARY)).ok()),
        None => drop(std::fs::copy(BINARY, &own).unwrap()),
    }
    let add = format!("{}:/windlass", own.display());
    let made = ["image", "from-host", IMAGE, "--add", &add, "--entrypoint", "/windlass", "--user", "65532"];
    house.windlass(&made).ok();
    push(cluster, house, IMAGE);

    let mut there = Command::new("kubectl");
    there.args(["--kubeconfig", &cluster.kubeconfig, "get", "namespace", namespace]);
    assert_ne!(run(&mut there).code, Some(0), "somebody uses the namespace {namespace} of this cluster");
    let installed = Installed { cluster, house, namespace: namespace.to_owned() };
    let rules = [
        format!("--remap-git=http://git.windlass.it/={git}/"),
        format!("--remap-registry=windlass.it={}", cluster.registry),
        format!("--remap-registry=docker.io={}", cluster.registry),
    ];
    let mut flags = vec!["install", "--image", IMAGE, "--image-pull-policy", "Always"];
    flags.extend(["--managed-namespace", namespace, "--controller-namespace", namespace]);
    flags.extend(rules.iter().map(String::as_str));
    let insecure = format!("--insecure-registry={}", cluster.registry);
    flags.push(&insecure);
    let manifests = house.windlass(&flags).ok().stdout;
    installed.kubectl(&["apply", "--server-side", "--force-conflicts"], &manifests).ok();
    // A small node may have promised its processors to others.
    installed.kubectl(&["set", "resources", "deploy/windlass-controller", "--requests=cpu=0,memory=0"], "").ok();
    installed.kubectl(&["rollout", "status", "deploy/windlass-controller", "--timeout=50s"], "").ok();
    installed
}

fn fresh(case: &str) -> String {
    format!("windlass-it-{case}-{}", std::process::id())
}

const ENTRY: &str = "windlass.it/entry:1";

/// An image with a command of its own.
fn entry(house: &House) {
    let made = ["image", "from-host", ENTRY, "--program", "echo", "--entrypoint", "echo", "--entrypoint", "own"];
    let made: Vec<&str> = made.into_iter().chain(["--cmd", "default"]).collect();
    house.windlass(&made).ok();
}

/// What of a file is around its workflow, and the workflow, which comes last.
fn parts(house: &House, name: &str) -> (String, PathBuf) {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let (objects, workflow) = text.rsplit_once("---\n").unwrap();
    (objects.to_owned(), PathBuf::from(house.file("workflow.yaml", workflow)))
}

/// The Service behind which pods find it.
fn service(cluster: &Cluster, minio: &Minio) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: minio}}\nspec: {{ports: [{{port: 9000}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: minio}}\n\
         subsets: [{{addresses: [{{ip: {}}}], ports: [{{port: {}}}]}}]\n---\n",
        cluster.host, minio.port
    )
}

/// A repository with these files, served by git itself.
fn repository(house: &House, files: &[(&str, &str)]) -> PathBuf {
    let work = house.path("work");
    std::fs::create_dir_all(&work).unwrap();
    for (name, text) in files {
        std::fs::write(work.join(name), text).unwrap();
    }
    let root = house.path("git");
    std::fs::create_dir_all(&root).unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(&work).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        run(command.args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(args)).ok();
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["clone", "-q", "--bare", ".", root.join("app.git").to_str().unwrap()]);
    root
}

/// Without the workflow's name, without the hashes that follow from it, and without addresses.
fn plain(text: &str, name: &str) -> String {
    let text = text.replace(name, "WF");
    let mut out = String::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let numeric = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| numeric(c) != numeric(rest.chars().next().unwrap())).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        match part.trim_end_matches('.') {
            address if address.parse::<std::net::Ipv4Addr>().is_ok() => out.push_str(&part.replace(address, "IP")),
            number if number.len() > 5 && number.bytes().all(|b| b.is_ascii_digit()) => {
                out.push_str(&part.replace(number, "N"));
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// The node table as far as both ways of running have to agree: by full name, field by field.
fn table(workflow: &Value) -> BTreeMap<String, Value> {
    let name = workflow["metadata"]["name"].as_str().unwrap();
    let nodes = workflow["status"]["nodes"].as_object().unwrap();
    let named = |id: &Value| plain(nodes[id.as_str().unwrap()]["name"].as_str().unwrap(), name);
    let mut rows = BTreeMap::new();
    let status = &workflow["status"];
    let row = json!({"phase": status["phase"], "message": status["message"], "progress": status["progress"]});
    rows.insert("(workflow)".to_owned(), serde_json::from_str(&plain(&row.to_string(), name)).unwrap());
    for node in nodes.values() {
        let outputs = &node["outputs"];
        let mut children: Vec<String> = node["children"].as_array().into_iter().flatten().map(named).collect();
        children.sort();
        let mut artifacts: Vec<Value> = outputs["artifacts"].as_array().cloned().unwrap_or_default();
        artifacts.sort_by_key(|a| a["name"].as_str().unwrap_or_default().to_owned());
        let row = json!({
            "displayName": node["displayName"], "type": node["type"], "phase": node["phase"], "message": node["message"],
            "templateName": node["templateName"], "progress": node["progress"], "children": children,
            "inputs": node["inputs"], "result": outputs["result"], "exitCode": outputs["exitCode"],
            "parameters": outputs["parameters"], "artifacts": artifacts,
        });
        // A namespace of its own for each run of the suite.
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap();
        let row = match namespace.starts_with("windlass-it-") {
            true => row.to_string().replace(namespace, "default"),
            false => row.to_string(),
        };
        let row = serde_json::from_str(&plain(&row, name)).unwrap();
        rows.insert(plain(node["name"].as_str().unwrap(), name), row);
    }
    rows
}

/// What differs, one line a field.
fn differences(one: &Value, cluster: &Value) -> String {
    let (one, cluster) = (table(one), table(cluster));
    let mut lines = vec![format!("{} rows", one.len())];
    let names: std::collections::BTreeSet<&String> = one.keys().chain(cluster.keys()).collect();
    for name in names {
        match (one.get(name), cluster.get(name)) {
            (Some(here), Some(there)) => {
                for (field, value) in here.as_object().unwrap() {
                    if value != &there[field] {
                        lines.push(format!("{name} {field}:\n  node form: {value}\n  pod form:  {}", there[field]));
                    }
                }
            }
            (Some(_), None) => lines.push(format!("{name}: only in the node form")),
            _ => lines.push(format!("{name}: only in the pod form")),
        }
    }
    lines.join("\n")
}

#[test]
fn workflows_come_out_the_same() {
    let Some(cluster) = Cluster::find() else { return };
    let house = House::empty();
    let minio = Minio::start_at(&house, "0.0.0.0").expect("the suite has a real S3 server");
    let root = repository(&house, &[("main.py", "print('hello')\n")]);
    let git = Host::start_at("0.0.0.0:0", move |_| Reply::Git(root.clone()));
    let port = git.address.rsplit(':').next().unwrap();
    let installed = install(&fresh("same"), &cluster, &house, &format!("http://{}:{port}", cluster.host));

    let one_machine = |files: &[&str]| {
        let mut command = vec!["run", "-o", "json"];
        let endpoint = format!("--remap-endpoint=minio:9000=http://127.0.0.1:{}", minio.port);
        let rule = format!("--remap-git=http://git.windlass.it/=http://127.0.0.1:{port}/");
        command.extend([endpoint.as_str(), rule.as_str()]);
        command.extend(files);
        Running::begin(&mut house.command(&command)).finish(SLOW).json()
    };
    let path = |name: &str| folder().join(name).to_str().unwrap().to_owned();

    let here = one_machine(&[&path("basics.yaml")]);
    let there = installed.run(&folder().join("basics.yaml"));
    insta::assert_snapshot!("basics", differences(&here, &there));

    entry(&house);
    push(&cluster, &house, ENTRY);
    let here = one_machine(&[&path("others.yaml")]);
    let (objects, workflow) = parts(&house, "others.yaml");
    installed.kubectl(&["apply"], &objects).ok();
    let there = installed.run(&workflow);
    insta::assert_snapshot!("others", differences(&here, &there));

    let repository = std::fs::read_to_string(folder().join("repository.yaml")).unwrap();
    installed.kubectl(&["apply"], &format!("{}{repository}", service(&cluster, &minio))).ok();
    let here = one_machine(&[&path("repository.yaml"), &path("artifacts.yaml")]);
    let there = installed.run(&folder().join("artifacts.yaml"));
    insta::assert_snapshot!("artifacts", differences(&here, &there));

    // The executor's own account is the only one that may report, and the pods' own is not in its containers.
    let may = |account: &str, verb: &str, kind: &str| {
        let who = format!("--as=system:serviceaccount:{}:{account}", installed.namespace);
        let exec = verb == "exec";
        let mut question = vec!["auth", "can-i", if exec { "create" } else { verb }, kind, &who];
        question.extend(exec.then_some("--subresource=exec"));
        installed.kubectl(&question, "").stdout.trim() == "yes"
    };
    assert!(may("windlass-executor", "create", "workflowtaskresults.argoproj.io"));
    assert!(!may("windlass-executor", "get", "secrets") && !may("windlass-executor", "list", "pods"));
    assert!(!may("default", "create", "workflowtaskresults.argoproj.io"));
    assert!(may("windlass-controller", "create", "pods") && !may("windlass-controller", "get", "secrets"));
    assert!(!may("windlass-controller", "exec", "pods"));
}

#[test]
fn a_namespace_that_is_not_set_up_says_so_before_the_step_runs() {
    let Some(cluster) = Cluster::find() else { return };
    let house = House::empty();
    let installed = install(&fresh("unset"), &cluster, &house, "http://nobody.invalid");
    installed.kubectl(&["delete", "secret", "windlass-executor-token"], "").ok();
    let spec = format!(
        "entrypoint: a\ntemplates:\n- name: a\n  container: {{image: '{BUSYBOX}', command: [echo, never]}}\n  \
         outputs: {{parameters: [{{name: p, valueFrom: {{path: /p, default: x}}}}]}}\n"
    );
    let workflow = installed.run(Path::new(&house.workflow("unset", &spec)));
    let node = workflow["status"]["nodes"].as_object().unwrap().values().next().unwrap().clone();
    let message = node["message"].as_str().unwrap_or_default();
    assert!(message.contains("windlass install --workflow-namespace"), "{node:#}");
    assert_eq!(node["phase"], "Error");
}

/// The application of the first article, in as few lines: it answers what it was built with.
const DOCKERFILE: &str = "\
FROM windlass.it/busybox:1
ARG FROM_ARGO
ENV FROM_ARGO=$FROM_ARGO
COPY main.py /app/
RUN mkdir -p /www/value && echo \"$FROM_ARGO\" > /www/value/argo && cat /app/main.py > /www/value/git
CMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]
";

/// The first article as it stands: its templates, role, binding, Secret and workflow, here and there.
#[test]
fn the_first_article_comes_out_the_same() {
    let Some(cluster) = Cluster::find() else { return };
    let house = House::empty();
    let minio = Minio::start_at(&house, "0.0.0.0").expect("the suite has a real S3 server");
    // The bucket that the article makes by hand.
    minio.make_bucket("argo-bucket");
    let root = repository(&house, &[("main.py", "git_value = 'github main branch'\n"), ("Dockerfile", DOCKERFILE)]);
    let git = Host::start_at("0.0.0.0:0", move |_| Reply::Git(root.clone()));
    let port = git.address.rsplit(':').next().unwrap().to_owned();
    publish(&cluster, &house, "bash:latest", &["busybox", "bash", "ls"]);

    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/seeds/000");
    let seed = |name: &str| std::fs::read_to_string(seeds.join(name)).unwrap();
    let values: String = seed("artifact-repository.values.yaml").lines().map(|l| format!("    {l}\n")).collect();
    let around = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: huadmin}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: minio}}\n\
         stringData: {{root-user: root-user, root-password: root-password}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: workflow-controller-configmap}}\ndata:\n  config: |\n{values}---\n"
    );
    let seeds_of =
        ["docker-secret.yaml", "pod-controller.yaml", "rb-admin-pod.yaml", "git-clone.yaml", "image-build.yaml"];
    let objects: String = seeds_of.iter().map(|name| format!("{}---\n", seed(name))).collect();
    let submit = |verb: &mut dyn FnMut(&[&str]) -> Done| {
        let workflow = seeds.join("argo-ci.yaml");
        let workflow = workflow.to_str().unwrap();
        let git = "git-url=http://git.windlass.it/app.git";
        let done = verb(&["submit", workflow, "-p", git, "-p", "FROM_ARGO=argo test", "-p", "image_tag=v1"]).ok();
        let name = done.stdout.lines().find_map(|l| l.strip_prefix("Name:")).unwrap().trim().to_owned();
        verb(&["wait", &name]);
        verb(&["get", &name, "-o", "json"]).ok().json()
    };

    // On one machine.
    let registry = &cluster.registry;
    let flags = [
        format!("--remap-endpoint=minio:9000=http://127.0.0.1:{}", minio.port),
        format!("--remap-git=http://git.windlass.it/=http://127.0.0.1:{port}/"),
        format!("--remap-registry=docker.io={registry}"),
        format!("--remap-registry=windlass.it={registry}"),
        format!("--insecure-registry={registry}"),
    ];
    let up = house.up(&flags.each_ref().map(String::as_str));
    let kubeconfig = house.home().join("run/kubeconfig");
    let kubectl = |args: &[&str], input: &str| {
        let file = house.file("here.yaml", input);
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&kubeconfig).args(args);
        run(if input.is_empty() { &mut command } else { command.args(["-f", &file]) }).ok()
    };
    kubectl(&["create", "namespace", "argo-wf"], "");
    kubectl(&["apply", "-n", "argo-wf"], &format!("{around}{objects}"));
    let here = submit(&mut |args| {
        let all: Vec<&str> = ["-n", "argo-wf"].iter().chain(args).copied().collect();
        Running::begin(&mut house.command(&all)).finish(SLOW)
    });
    up.end();

    // On the cluster.
    let installed = install("argo-wf", &cluster, &house, &format!("http://{}:{port}", cluster.host));
    installed.kubectl(&["apply"], &format!("{}{around}{objects}", service(&cluster, &minio))).ok();
    let there = submit(&mut |args| installed.windlass(args));
    insta::assert_snapshot!("first_article", differences(&here, &there));
    assert_eq!(there["status"]["phase"], "Succeeded", "{}", there["status"]);

    // The image is what the article builds: a pod of it answers what the workflow was given.
    let node =
        installed.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.labels.kubernetes\\.io/hostname}"], "");
    let pod = seed("fastapi-sample.yaml").replace("k3s-worker-1", node.ok().stdout.trim());
    installed.kubectl(&["apply"], &pod).ok();
    installed.kubectl(&["wait", "pod/fastapi-test", "--for=condition=Ready", "--timeout=50s"], "").ok();
    let value = until("the application answers", Duration::from_secs(20), || {
        let path = "/api/v1/namespaces/argo-wf/pods/fastapi-test:8000/proxy/value/argo";
        let told = installed.kubectl(&["get", "--raw", path], "");
        (told.code == Some(0)).then_some(told.stdout)
    });
    assert_eq!(value.trim(), "argo test");
}

/// Both forms on one machine, so that the second is looked at where there is no cluster, too.
#[test]
fn the_pod_form_runs_on_one_machine() {
    let Some(house) = House::new("the pod form on one machine") else { return };
    house.image(BUSYBOX, &["busybox", "sh", "echo", "cat", "mkdir"]);
    let up = house.up(&["--executor", "pod"]);
    let kubeconfig = house.home().join("run/kubeconfig");
    set_up(&house, &kubeconfig);
    entry(&house);
    let run = |args: &[&str]| Running::begin(&mut house.command(args)).finish(SLOW);
    let mut there = Vec::new();
    for name in FORMS {
        let file = folder().join(name);
        // All at once: the objects around it are made, the workflow is followed.
        there.push(run(&["run", file.to_str().unwrap(), "-o", "json"]).json());
    }
    up.end();
    for (name, there) in FORMS.iter().zip(&there) {
        let here = run(&["run", folder().join(name).to_str().unwrap(), "-o", "json"]).json();
        insta::assert_snapshot!(format!("both_forms_{}", name.trim_end_matches(".yaml")), differences(&here, there));
    }
}

/// What needs no artifact repository.
const FORMS: [&str; 6] = ["basics.yaml", "others.yaml", "plugins.yaml", "requests.yaml", "resources.yaml", "sets.yaml"];

/// What `install` makes in a namespace, and the token that a cluster's own controller would write.
fn set_up(house: &House, kubeconfig: &Path) {
    let objects = house.windlass(&["install", "--image", "none", "--workflow-namespace", "default", "--no-controller"]);
    let objects: Vec<String> = objects
        .ok()
        .stdout
        .split("---\n")
        .filter(|text| text.contains("windlass-executor") && !text.contains("kind: Secret"))
        .map(str::to_owned)
        .collect();
    let objects: Vec<Value> =
        objects.iter().map(|text| windlass_lang::yaml::load_str(text).documents.remove(0).value).collect();
    assert_eq!(objects.len(), 3, "a role, an account, a binding");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let post = |path: String, body: &Value| {
            let request = http::Request::post(path).header("content-type", "application/json");
            client.request::<Value>(request.body(body.to_string().into_bytes()).unwrap())
        };
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        for object in &objects {
            let path = match object["kind"].as_str().unwrap() {
                "ServiceAccount" => "/api/v1/namespaces/default/serviceaccounts".to_owned(),
                "RoleBinding" => format!("{rbac}/namespaces/default/rolebindings"),
                _ => format!("{rbac}/clusterroles"),
            };
            post(path, object).await.unwrap();
        }
        let account = "/api/v1/namespaces/default/serviceaccounts/windlass-executor/token";
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let token = post(account.to_owned(), &asked).await.unwrap();
        let root = http::Request::get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").body(Vec::new());
        let root: Value = client.request(root.unwrap()).await.unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windlass-executor-token"},
            "stringData": {
                "token": token["status"]["token"], "ca.crt": root["data"]["ca.crt"], "namespace": "default",
            },
        });
        post("/api/v1/namespaces/default/secrets".to_owned(), &secret).await.unwrap();
    });
}
