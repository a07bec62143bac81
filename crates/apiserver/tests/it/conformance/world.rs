//! One API under test, and the few words in which cases speak to it.

use super::stub::Stub;
use futures::{Stream, StreamExt};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Identity, Options, kubeconfig::Kubeconfig, listener, tls};

/// Small enough that a case can fill it.
const RING_BYTES: usize = 1 << 20;

/// How a client with another identity is made.
enum Door {
    Process(ApiServer),
    Config(Box<kube::Config>),
}

pub(super) struct World {
    pub(super) name: &'static str,
    pub(super) client: Client,
    door: Door,
    /// What was made and is taken away again where the cluster stays.
    made: std::sync::Mutex<Vec<String>>,
    _guard: Option<(tempfile::TempDir, tokio_util::sync::DropGuard)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Value,
    pub(super) warnings: Vec<String>,
}

impl Answer {
    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert!(self.code < 300, "{} {:#}", self.code, self.body);
        self.body
    }

    /// The code, reason and message of a refusal.
    #[track_caller]
    pub(super) fn refused(&self, code: u16, reason: &str) -> &str {
        assert_eq!(self.code, code, "{:#}", self.body);
        assert_eq!(self.body["reason"].as_str().unwrap_or_default(), reason, "{:#}", self.body);
        assert_eq!(self.body["kind"], "Status");
        assert_eq!(self.body["code"], code);
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl World {
    /// Whether this is a kube-apiserver and not ours.
    pub(super) fn is_real(&self) -> bool {
        self.name == "real cluster"
    }

    pub(super) async fn in_process() -> Self {
        let mut options = Options::memory();
        options.ring_bytes = RING_BYTES;
        let server = ApiServer::open(options).await.unwrap();
        server.set_kubelet(Arc::new(Stub));
        let client = server.client(Identity::admin());
        Self {
            name: "in process",
            client,
            door: Door::Process(server),
            made: std::sync::Mutex::default(),
            _guard: None,
        }
    }

    pub(super) async fn over_https() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::file(dir.path().join("state.db"));
        options.keys = Some(dir.path().to_owned());
        options.ring_bytes = RING_BYTES;
        let server = ApiServer::open(options).await.unwrap();
        server.set_kubelet(Arc::new(Stub));
        let authority = tls::Authority::load_or_create(dir.path(), &[], jiff::Timestamp::now()).unwrap();
        let ca_pem = authority.pem().to_owned();
        let socket = listener::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let address = format!("https://{}", socket.local_addr().unwrap());
        let stop = CancellationToken::new();
        let config = tls::server_config(authority).unwrap();
        tokio::spawn(listener::serve(server.clone(), socket, config, stop.clone()));
        let path = dir.path().join("kubeconfig");
        let token = server.admin_token().unwrap().reveal();
        Kubeconfig { server: &address, ca_pem: &ca_pem, token, namespace: "default" }.write(&path).unwrap();
        let config = config_of(&path).await;
        let client = Client::try_from(config.clone()).unwrap();
        let guard = Some((dir, stop.drop_guard()));
        Self {
            name: "over https",
            client,
            door: Door::Config(Box::new(config)),
            made: std::sync::Mutex::default(),
            _guard: guard,
        }
    }

    pub(super) async fn real() -> Result<Self, String> {
        let path = match std::env::var_os("WINDLASS_CONFORMANCE_KUBECONFIG") {
            Some(path) => PathBuf::from(path),
            None => {
                let home = PathBuf::from(std::env::var_os("HOME").ok_or("no HOME")?);
                home.join(".cache/windlass-cluster/run/kubeconfig")
            }
        };
        if !path.exists() {
            return Err(format!("{} is not there", path.display()));
        }
        let config = config_of(&path).await;
        let client = Client::try_from(config.clone()).map_err(|e| e.to_string())?;
        let asked = tokio::time::timeout(Duration::from_secs(3), client.apiserver_version()).await;
        match asked {
            Ok(Ok(version)) => eprintln!("conformance: the real cluster is {}", version.git_version),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it does not answer".to_owned()),
        }
        Ok(Self {
            name: "real cluster",
            client,
            door: Door::Config(Box::new(config)),
            made: std::sync::Mutex::default(),
            _guard: None,
        })
    }

    /// A client that is a ServiceAccount, by a token that the API gave.
    pub(super) async fn as_account(&self, namespace: &str, name: &str) -> Client {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
        match &self.door {
            Door::Process(server) => {
                let account = self.get(&path).await.ok();
                server.client(Identity::service_account(namespace, name, account["metadata"]["uid"].as_str().unwrap()))
            }
            Door::Config(_) => {
                let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
                let answer = self.post(&format!("{path}/token"), request).await.ok();
                self.with_token(answer["status"]["token"].as_str().unwrap()).unwrap()
            }
        }
    }

    /// A client with this token; `None` in process, where there are no tokens.
    pub(super) fn with_token(&self, token: &str) -> Option<Client> {
        let Door::Config(config) = &self.door else { return None };
        let mut config = config.as_ref().clone();
        config.auth_info = kube::config::AuthInfo::default();
        if !token.is_empty() {
            config.auth_info.token = Some(token.to_owned().into());
        }
        Some(Client::try_from(config).unwrap())
    }

    /// A fresh namespace, usable when this returns.
    pub(super) async fn namespace(&self, about: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (n, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let name = format!("conf-{about}-{pid}-{n}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.post("/api/v1/namespaces", object).await.ok();
        self.made.lock().unwrap().push(name.clone());
        self.until(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"), |a| a.code == 200).await;
        name
    }

    /// Removes the namespaces that the cases made.
    pub(super) async fn clean(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        for name in made {
            self.delete(&format!("/api/v1/namespaces/{name}")).await;
        }
    }

    /// Asks until the answer is as wanted.
    pub(super) async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        for _ in 0..200 {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path}: not as wanted within 20 s: {:#}", self.get(path).await.body);
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        call(&self.client, "GET", path, &[], Vec::new()).await
    }

    pub(super) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        call(&self.client, "GET", path, &[("accept", accept)], Vec::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        post(&self.client, path, body).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Answer {
        call(&self.client, "PUT", path, &[("content-type", "application/json")], body.to_string().into()).await
    }

    /// `kind` is `merge`, `json` or `strategic-merge`.
    pub(super) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media = format!("application/{kind}-patch+json");
        call(&self.client, "PATCH", path, &[("content-type", &media)], body.to_string().into()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        call(&self.client, "DELETE", path, &[], Vec::new()).await
    }

    /// Watch events as they come.
    pub(super) async fn watch(&self, path: &str) -> Events {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = self.client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut rest = Vec::new();
        let stream = response.into_body().into_data_stream().flat_map(move |chunk| {
            rest.extend_from_slice(&chunk.unwrap());
            let mut events = Vec::new();
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                events.push(serde_json::from_slice::<Value>(&line).unwrap());
            }
            futures::stream::iter(events)
        });
        Events(Box::pin(stream))
    }
}

/// The events of one watch.
pub(super) struct Events(std::pin::Pin<Box<dyn Stream<Item = Value> + Send>>);

impl Events {
    /// The next event that is no bookmark, as `TYPE name`, and its object.
    pub(super) async fn next(&mut self) -> (String, Value) {
        loop {
            let event = self.any().await;
            if event["type"] != "BOOKMARK" {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                return (format!("{} {name}", event["type"].as_str().unwrap()), event["object"].clone());
            }
        }
    }

    /// The next event of any type.
    pub(super) async fn any(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(10), self.0.next())
            .await
            .expect("no event within 10 s")
            .expect("the watch ended")
    }

    /// The rest, until the server ends the watch.
    pub(super) async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            let event = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await;
            let Some(event) = event.expect("the watch has not ended within 10 s") else { return rest };
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            rest.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
    }

    /// Whether the watch says nothing for a moment.
    pub(super) async fn silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.next()).await.is_err()
    }
}

async fn config_of(path: &std::path::Path) -> kube::Config {
    let read = kube::config::Kubeconfig::read_from(path).unwrap();
    kube::Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await.unwrap()
}

pub(super) async fn post(client: &Client, path: &str, body: Value) -> Answer {
    call(client, "POST", path, &[("content-type", "application/json")], body.to_string().into()).await
}

pub(super) async fn get(client: &Client, path: &str) -> Answer {
    call(client, "GET", path, &[], Vec::new()).await
}

pub(super) async fn call(client: &Client, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Answer { code, body, warnings }
}

pub(super) fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

pub(super) fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
