//! The same over HTTP: twenty recordings on the embedded API behind TLS on loopback, and all of them on the cluster that
//! `WINDLASS_CONFORMANCE_KUBECONFIG` names. What was not run is printed.

use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use tokio_util::sync::CancellationToken;
use windlass_apiserver::{ApiServer, Options, kubeconfig, listener, tls};
use windlass_conformance_argo::corpus::{self, Unstable};
use windlass_conformance_argo::door::Door;
use windlass_conformance_argo::kubelet::Order;

use crate::house::with_stopped_clock;
use crate::recorded::{judge, replay};

/// How many recordings go over HTTP in every run.
const MANY: usize = 20;

/// Serves the embedded API on a thread of its own, with a clock that goes; the text of a kubeconfig.
fn serve(stop: CancellationToken) -> (std::thread::JoinHandle<()>, String) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = tempfile::tempdir().unwrap();
            let mut options = Options::memory();
            options.keys = Some(home.path().to_owned());
            let server = ApiServer::open(options).await.unwrap();
            server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
            let authority = tls::Authority::load_or_create(home.path(), &[], jiff::Timestamp::now()).unwrap();
            let ca_pem = authority.pem().to_owned();
            let socket = listener::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            let address = format!("https://{}", socket.local_addr().unwrap());
            let token = server.admin_token().unwrap().reveal();
            let config = kubeconfig::Kubeconfig { server: &address, ca_pem: &ca_pem, token, namespace: "default" };
            let path = home.path().join("kubeconfig");
            config.write(&path).unwrap();
            sender.send(std::fs::read_to_string(path).unwrap()).unwrap();
            listener::serve(server, socket, tls::server_config(authority).unwrap(), stop).await;
        });
    });
    (thread, receiver.recv().unwrap())
}

async fn client(text: &str) -> Client {
    let config = Kubeconfig::from_yaml(text).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    // Of a stopped clock these would be over at once.
    config.connect_timeout = None;
    config.read_timeout = None;
    config.write_timeout = None;
    Client::try_from(config).unwrap()
}

/// Tells a cluster our kinds, and waits until it knows them.
fn teach(text: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(text).await;
        let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        for manifest in windlass_model::crds::manifests() {
            let object: DynamicObject = serde_json::from_value(manifest).unwrap();
            let params = PatchParams::apply("windlass-conformance").force();
            api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.unwrap();
        }
        for kind in ["workflows", "workflowtaskresults", "workflowtemplates", "clusterworkflowtemplates"] {
            let gvk = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
            let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&gvk, kind));
            let mut asked = 0;
            while let Err(fault) = api.list(&ListParams::default()).await {
                asked += 1;
                assert!(asked < 100, "{kind}: {fault}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
}

/// Takes away what an earlier run left in a name space.
async fn sweep(client: &Client, namespace: &str) {
    let kinds = [
        ("argoproj.io", "v1alpha1", "workflows"),
        ("argoproj.io", "v1alpha1", "workflowtaskresults"),
        ("", "v1", "pods"),
        ("", "v1", "configmaps"),
        ("", "v1", "persistentvolumeclaims"),
    ];
    for (group, version, kind) in kinds {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), kind);
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        api.delete_collection(&now, &ListParams::default()).await.unwrap();
    }
}

/// Plays recordings over a kubeconfig; what came out otherwise in tier A.
fn over(text: &str, names: &[String], linger: Duration) -> Vec<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = corpus::folder().unwrap();
    let unstable = Unstable::read(&folder).unwrap();
    with_stopped_clock(async {
        let mut other = Vec::new();
        for name in names {
            let recording = corpus::read(&folder, name).unwrap();
            let client = client(text).await;
            sweep(&client, recording.namespace()).await;
            let door = Door::new(&client, recording.namespace(), linger);
            let played = replay(&door, &recording, Order::Recorded).await;
            let tiers = judge(&recording, &played, &unstable);
            other.extend(tiers.a.misses.iter().map(|miss| format!("{name}: {miss}")));
        }
        other
    })
}

/// Recordings that people do not act on, evenly from the list.
fn some(names: &[String]) -> Vec<String> {
    let quiet: Vec<&String> = names.iter().filter(|n| !n.contains("--")).collect();
    quiet.iter().step_by(quiet.len() / MANY).take(MANY).map(|n| (*n).clone()).collect()
}

#[test]
fn twenty_recordings_over_http() {
    let Some(folder) = corpus::folder() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let stop = CancellationToken::new();
    let (thread, text) = serve(stop.clone());
    let names = some(&corpus::names(&folder).unwrap());
    let other = over(&text, &names, Duration::from_millis(4));
    stop.cancel();
    thread.join().unwrap();
    println!("over HTTP: {} recordings, {} differences in tier A", names.len(), other.len());
    assert_eq!(names.len(), MANY);
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn all_recordings_on_a_real_cluster() {
    let Some(path) = std::env::var_os("WINDLASS_CONFORMANCE_KUBECONFIG") else {
        println!(
            "NOT RUN: the recordings on a real kube-apiserver. Set WINDLASS_CONFORMANCE_KUBECONFIG, or run ci/full"
        );
        return;
    };
    let Some(folder) = corpus::folder() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let names: Vec<String> = corpus::names(&folder).unwrap().into_iter().filter(|n| n.contains(&only)).collect();
    let text = std::fs::read_to_string(path).unwrap();
    teach(&text);
    let other = over(&text, &names, Duration::from_millis(20));
    println!("on a real kube-apiserver: {} recordings, {} differences in tier A", names.len(), other.len());
    assert!(other.is_empty(), "{}", other.join("\n"));
}
