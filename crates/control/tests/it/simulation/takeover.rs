//! Several controllers on one API, on a clock that only moves when everything has come to rest: one works; when it is cut
//! off, dies or leaves, another one does, after the first has ended and within the Lease's time. No pod is made twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::client::Body;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_control::clock::Clock;
use windlass_control::election::Candidate;
use windlass_control::{Scope, retention, workflow};
use windlass_schedule::lease::Terms;

use super::kubelet;
use super::witness::{self, Witness};

const NAMESPACE: &str = "takeover";

/// Keeps a stopped clock from jumping while a request is under way: tokio does not move it while a blocking task is there.
struct Hold(#[allow(dead_code, reason = "its end is the message")] mpsc::Sender<()>);

impl Hold {
    fn new() -> Self {
        let (sender, dropped) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = dropped.recv();
            // Watches hear of it meanwhile.
            std::thread::sleep(Duration::from_millis(1));
        });
        Self(sender)
    }
}

/// The pods that were made, by name.
type Made = Arc<Mutex<Vec<String>>>;

/// A client that can be cut off.
fn client(server: &ApiServer, cut: &Arc<AtomicBool>, made: &Made) -> Client {
    let (server, cut, made) = (server.clone(), cut.clone(), made.clone());
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(Identity::admin());
        let (server, cut, made) = (server.clone(), cut.clone(), made.clone());
        async move {
            if cut.load(Ordering::SeqCst) {
                // Nothing comes back, as when packets are lost.
                std::future::pending::<()>().await;
            }
            let hold = Hold::new();
            let makes_pod = request.method() == http::Method::POST && request.uri().path().ends_with("/pods");
            let (parts, body) = request.into_parts();
            let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            let pod = makes_pod.then(|| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap());
            let answer = server.handle(http::Request::from_parts(parts, Body::from(bytes))).await;
            if let Some(pod) = pod.filter(|_| answer.status().is_success()) {
                made.lock().unwrap().push(pod["metadata"]["name"].as_str().unwrap().to_owned());
            }
            drop(hold);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    Client::new(service, NAMESPACE)
}

/// What happened when, by the test's clock.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<(String, Instant)>>>);

impl Diary {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push((what, Instant::now()));
    }

    fn at(&self, what: &str) -> Option<Instant> {
        self.0.lock().unwrap().iter().find(|(note, _)| note == what).map(|(_, at)| *at)
    }

    async fn wait(&self, what: &str) -> Instant {
        for _ in 0..1000 {
            if let Some(at) = self.at(what) {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never: {what}; {:?}", self.0.lock().unwrap());
    }
}

struct Replica {
    cut: Arc<AtomicBool>,
    leave: CancellationToken,
    process: AbortOnDropHandle<()>,
}

fn replica(server: &ApiServer, name: &'static str, made: &Made, diary: &Diary) -> Replica {
    let (cut, leave, diary) = (Arc::new(AtomicBool::new(false)), CancellationToken::new(), diary.clone());
    let (client, left) = (client(server, &cut, made), leave.clone());
    let process = AbortOnDropHandle::new(tokio::spawn(async move {
        let terms = Terms::default();
        let mut candidate = Candidate::new(client.clone(), (NAMESPACE, "lease"), name, terms, Clock::default());
        candidate.win().await;
        diary.note(format!("{name} begins"));
        let stop = CancellationToken::new();
        let scope = Scope { namespace: Some(NAMESPACE.to_owned()), ..Scope::default() };
        let settings = workflow::Settings { scope: scope.clone(), ..workflow::Settings::default() };
        let loops = [
            AbortOnDropHandle::new(tokio::spawn(workflow::run(client.clone(), settings, stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(retention::run(client, scope, Clock::default(), stop.clone()))),
        ];
        tokio::select! {
            _ = candidate.keep() => {
                drop(loops);
                diary.note(format!("{name} has lost"));
            }
            () = left.cancelled() => {
                stop.cancel();
                for one in loops {
                    one.await.unwrap();
                }
                diary.note(format!("{name} has left"));
                candidate.resign().await;
            }
        }
    }));
    Replica { cut, leave, process }
}

#[tokio::test(start_paused = true)]
async fn one_works_and_the_next_takes_over() {
    let server = ApiServer::open(Options::memory()).await.unwrap();
    server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
    let (made, diary) = (Made::default(), Diary::default());
    let plain = client(&server, &Arc::default(), &Made::default());
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let namespaces: Api<Namespace> = Api::all(plain.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let witness = Arc::new(Mutex::new(Witness::default()));
    let habit = kubelet::Habit { loses: false, pace_ms: [3000, 15_000] };
    let _parts = [
        AbortOnDropHandle::new(tokio::spawn(witness::run(plain.clone(), NAMESPACE.to_owned(), witness.clone()))),
        AbortOnDropHandle::new(tokio::spawn(kubelet::run(plain.clone(), NAMESPACE.to_owned(), 7, habit))),
    ];
    // Twenty rounds of three pods: longer than everything below.
    let round = |n: i32| json!([{"name": format!("s{n}"), "template": "ok", "withItems": [1, 2, 3]}]);
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "wf"},
        "spec": {"entrypoint": "main", "templates": [
            {"name": "main", "steps": (0..20).map(round).collect::<Vec<_>>()},
            {"name": "ok", "container": {"image": "ok"}},
        ]},
    });
    let workflows = witness::workflows(&plain, NAMESPACE);
    workflows.create(&PostParams::default(), &serde_json::from_value(workflow).unwrap()).await.unwrap();

    let a = replica(&server, "a", &made, &diary);
    diary.wait("a begins").await;
    let b = replica(&server, "b", &made, &diary);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(diary.at("b begins").is_none(), "one works");

    // Cut off: it ends by itself, and only then the other one begins.
    a.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    let lost = diary.wait("a has lost").await;
    let begins = diary.wait("b begins").await;
    let terms = Terms::default();
    assert!(lost - cut <= terms.renew_deadline, "{:?}", lost - cut);
    assert!(lost < begins && begins - cut <= terms.lease + 2 * terms.retry_period, "{:?}", begins - cut);

    // Dead: after the Lease's time.
    let c = replica(&server, "c", &made, &diary);
    tokio::time::sleep(Duration::from_secs(20)).await;
    b.cut.store(true, Ordering::SeqCst);
    drop(b.process);
    let died = Instant::now();
    let begins = diary.wait("c begins").await;
    assert!(begins - died <= terms.lease + 2 * terms.retry_period, "{:?}", begins - died);

    // Gone in good order: at the next look.
    let d = replica(&server, "d", &made, &diary);
    tokio::time::sleep(Duration::from_secs(20)).await;
    c.leave.cancel();
    let left = diary.wait("c has left").await;
    let begins = diary.wait("d begins").await;
    assert!(left < begins && begins - left <= terms.retry_period, "{:?}", begins - left);

    let phase = async || workflows.get("wf").await.unwrap().data["status"]["phase"].clone();
    // Bounded by real time: on a busy machine the stopped clock runs ahead of the work.
    let patience = std::time::Instant::now();
    while phase().await == "Running" && patience.elapsed() < Duration::from_secs(120) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(phase().await, "Succeeded", "{:?}", workflows.get("wf").await.unwrap().data["status"]["message"]);
    let ended = Instant::now();
    assert!(diary.at("d has lost").is_none() && begins < ended, "the last one finished it");
    drop(d.process);
    assert_eq!(witness.lock().unwrap().broken, Vec::<String>::new());
    let mut names = made.lock().unwrap().clone();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), count), (60, 60), "each pod once");
}
