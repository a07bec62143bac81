//! What every case gets: an API in this process with a TLS door, an agent, an image, a namespace of its own.

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options, listener, tls};
use windlass_artifacts::AllowPaths;
use windlass_artifacts::git::GitAccess;
use windlass_artifacts::store::LocalStore;
use windlass_executor::inputs::Stores;
use windlass_node::{Agent, BuildFailure, BuildRequest, Config, LogOptions, Policy, StepBuilder};
use windlass_oci::client::ClientOptions;
use windlass_oci::{Reference, Store};
use windlass_sandbox::Host;

pub const IMAGE: &str = "images.example/box:1";
const APPLETS: [&str; 24] = [
    "sh", "true", "false", "cat", "echo", "id", "ls", "sleep", "hostname", "touch", "mkdir", "wc", "stat", "nc", "ip",
    "kill", "readlink", "wget", "httpd", "nslookup", "env", "test", "seq", "tr",
];

#[derive(Clone)]
pub struct Bench {
    pub api: ApiServer,
    pub client: kube::Client,
    pub agent: Agent,
    pub namespace: String,
    /// Of the Workflow `wf`, which owns the reports.
    pub workflow_uid: String,
    pub host: Host,
    pub home: PathBuf,
    pub store: Store,
    pub api_address: SocketAddr,
    pub ca_pem: Vec<u8>,
}

/// A root filesystem with busybox.
pub fn layer(layer: &Path) -> Result<(), String> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.ok_or("no /bin/busybox")?;
    for directory in ["bin", "etc", "tmp", "root", "var/www"] {
        std::fs::create_dir_all(layer.join(directory)).unwrap();
    }
    std::fs::copy(busybox, layer.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var:/bin/sh\n").unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
    Ok(())
}

/// Stands for the builder: tells where it was asked to work.
struct Recorder;

#[async_trait::async_trait]
impl StepBuilder for Recorder {
    async fn build(&self, request: BuildRequest) -> Result<(), BuildFailure> {
        request.log.out(&format!("args {:?} in {}", request.args, request.cwd.display()));
        let dockerfile = request.paths.place(&request.cwd.join("Dockerfile")).path();
        match std::fs::read_to_string(&dockerfile) {
            Ok(text) => request.log.out(text.trim()),
            Err(error) => return Err(BuildFailure { code: 1, message: error.to_string() }),
        }
        std::fs::write(request.paths.place(Path::new("/dev/termination-log")).path(), "sha256:feed").unwrap();
        std::fs::write(request.paths.place(Path::new("/tmp-digest")).path(), "sha256:feed\n").unwrap();
        match request.docker_config.as_deref() {
            Some(b"{}") => Ok(()),
            _ => Err(BuildFailure { code: 1, message: "no config.json".to_owned() }),
        }
    }
}

/// A server on this machine that says one line to whoever connects.
fn stand_in() -> windlass_node::StandIn {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"the stand-in\n");
        }
    });
    windlass_node::StandIn { host: "images.corp.example".into(), ports: vec![80, 443], to }
}

impl Bench {
    pub async fn start(host: Host, directory: &Path) -> Self {
        let api = ApiServer::open(Options::memory()).await.unwrap();
        api.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
        let listener = listener::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let api_address = listener.local_addr().unwrap();
        let authority = tls::Authority::ephemeral(&[], jiff::Timestamp::now()).unwrap();
        let ca_pem = authority.pem().as_bytes().to_vec();
        let config = tls::server_config(authority).unwrap();
        tokio::spawn(listener::serve(api.clone(), listener, config, CancellationToken::new()));
        let home = directory.join("home");
        std::fs::create_dir_all(home.join("allowed")).unwrap();
        let store = Store::open(home.join("images")).unwrap();
        let spec = windlass_oci::host::HostSpec {
            add: vec![(directory.join("layer"), PathBuf::from("/"))],
            ..windlass_oci::host::HostSpec::default()
        };
        windlass_oci::host::build(&store, &spec, &[Reference::parse(IMAGE).unwrap()]).unwrap();
        let bench = Self {
            client: api.client(Identity::admin()),
            agent: Self::agent(&api, &host, &home, &store, api_address, &ca_pem, "node").await,
            api,
            namespace: String::new(),
            workflow_uid: String::new(),
            host,
            home,
            store,
            api_address,
            ca_pem,
        };
        let agent = bench.agent.clone();
        tokio::spawn(async move { agent.run(std::future::pending()).await });
        bench
    }

    pub async fn agent(
        api: &ApiServer,
        host: &Host,
        home: &Path,
        store: &Store,
        api_address: SocketAddr,
        ca_pem: &[u8],
        name: &str,
    ) -> Agent {
        let allow = AllowPaths::new([home.join("allowed")]);
        let agent = Agent::new(Config {
            name: name.into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            home: home.to_owned(),
            host: host.clone(),
            store: store.clone(),
            registries: ClientOptions { retries: 0, ..ClientOptions::new() },
            client: api.client(Identity::system(&format!("system:node:{name}"))),
            api: api_address,
            ca_pem: ca_pem.to_vec(),
            registry: None,
            outward: false,
            stand_ins: vec![stand_in()],
            allow_paths: allow.clone(),
            policy: Policy::default(),
            stores: Stores {
                local: LocalStore::open(&home.join("artifacts")).unwrap(),
                git: GitAccess { allow, ..GitAccess::default() },
                outside: windlass_artifacts::Outside::default(),
            },
            builder: Some(Arc::new(Recorder)),
            executable: None,
        });
        agent.await.unwrap()
    }

    /// With a namespace of its own, and its default ServiceAccount.
    pub async fn enter(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        let all: Api<Namespace> = Api::all(self.client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        all.create(&PostParams::default(), &object).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = accounts.create(&PostParams::default(), &account).await;
        self.create(
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "wf"}, "spec": {}}),
        )
        .await;
        let workflow = self.kind("argoproj.io/v1alpha1", "Workflow").get("wf").await.unwrap();
        self.workflow_uid = workflow.metadata.uid.unwrap();
        self
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn kind(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates any object in the namespace.
    pub async fn create(&self, object: Value) {
        let text = |key: &str| object[key].as_str().unwrap().to_owned();
        let api = self.kind(&text("apiVersion"), &text("kind"));
        let typed: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &typed).await.unwrap();
    }

    /// Creates a Pod; `spec` may leave out images and the restart policy (`Never`).
    pub async fn pod(&self, name: &str, spec: Value) -> Pod {
        self.annotated(name, json!({}), spec).await
    }

    pub async fn annotated(&self, name: &str, annotations: Value, mut spec: Value) -> Pod {
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = json!(IMAGE);
                }
            }
        }
        if spec["restartPolicy"].is_null() {
            spec["restartPolicy"] = json!("Never");
        }
        let object =
            json!({"metadata": {"name": name, "annotations": annotations, "labels": {"app": name}}, "spec": spec});
        let pod: Pod = serde_json::from_value(object).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    /// A step's Pod whose only container runs `script`.
    pub async fn step(&self, name: &str, task: Value, mut container: Value) -> Pod {
        let mut task = task;
        task["nodeId"] = json!(name);
        task["workflowName"] = json!("wf");
        task["workflowUid"] = json!(self.workflow_uid);
        let volumes = container.as_object_mut().unwrap().remove("volumes").unwrap_or(json!([]));
        container["name"] = json!("main");
        let spec = json!({"containers": [container], "volumes": volumes});
        self.annotated(name, json!({"windlass.dev/task": task.to_string()}), spec).await
    }

    /// Waits until the Pod is as `want` says; tells how it is where it never gets so.
    pub async fn until(&self, name: &str, want: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let pod = self.pods().get_opt(name).await.unwrap();
            let pod = serde_json::to_value(pod).unwrap();
            if want(&pod) {
                return pod;
            }
            if begun.elapsed() > Duration::from_secs(25) {
                panic!("pod {name} never got there: {:#}", pod["status"]);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for the end; answers the Pod.
    pub async fn ended(&self, name: &str) -> Value {
        self.until(name, |pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))).await
    }

    /// Waits for success.
    pub async fn succeeded(&self, name: &str) -> Value {
        let pod = self.ended(name).await;
        if pod["status"]["phase"] != "Succeeded" {
            let log = self.logs(&pod, "main").await;
            panic!("pod {name}: {:#}\nlog of main:\n{log}", pod["status"]);
        }
        pod
    }

    pub async fn logs(&self, pod: &Value, container: &str) -> String {
        self.logs_with(pod, container, LogOptions::default()).await
    }

    pub async fn logs_with(&self, pod: &Value, container: &str, options: LogOptions) -> String {
        use futures::TryStreamExt;
        let text = |key: &str| pod["metadata"][key].as_str().unwrap().to_owned();
        match self.agent.logs(&text("namespace"), &text("name"), &text("uid"), container, options) {
            Ok(stream) => {
                let chunks: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
                String::from_utf8_lossy(&chunks.concat()).into_owned()
            }
            Err(error) => format!("{error}\n"),
        }
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&Default::default()).await.unwrap();
        let about = all.items.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(name));
        about.map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect()
    }
}
