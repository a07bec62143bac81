//! kill -9 at every write: a run without a crash counts the writes of a case (`kills/*.yaml`); then the loops die at the
//! n-th of them, for every n and in each [`Death`], begin again from what the API has, and go on to the end. What must hold:
//!
//! | always | what [`Witness`] says: no node has two live pods, no finished node and none whose pod ended well runs again |
//! | at the end | node tables, claims, budgets, ledgers, pods and locks are those of the run without a crash |
//!
//! By default each write is died at once, the three deaths in turn; `WINDLASS_KILLS=all` takes all three of each.
//! A failure names its kill: `WINDLASS_KILL=locks:17:unheard` runs that one alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_artifacts::AllowPaths;
use windlass_artifacts::git::{GitAccess, Mirrors};
use windlass_control::clock::Clock;
use windlass_control::delivery::{self, DeliveryLoop};
use windlass_control::{Scope, cron, garbage, retention, tables, workflow};
use windlass_engine::manual;
use windlass_model::{labels, table};
use windlass_schedule::trigger::Policy;

use super::killer::{Death, Killer};
use super::kubelet::{self, Habit};
use super::witness::{self, Witness};

/// How many runs go on at the same time: they mostly wait.
const AT_ONCE: usize = 40;
/// A run without a crash is over when nothing is left to do and nobody has written for so long.
const QUIET: Duration = Duration::from_millis(800);
/// How often a run is looked at; only one that never settles takes all of it.
const LOOKS: usize = 600;
/// When the loops of a case begin: a moment before the tick of `kills/cron.yaml`.
const BEGIN: &str = "2026-12-31T23:59:59.5Z";

const MANIFEST: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {generateName: ci-}\nspec:\n  \
    entrypoint: main\n  templates:\n  - name: main\n    container: {image: ok, command: [x]}\n";

/// The cases that are played a second time with node tables on pages.
const ON_PAGES: [&str; 4] = ["garbage", "goes", "locks", "people"];

/// What a case's end is, by kind and name; values in which two runs of the same may differ are left out.
type Stock = BTreeMap<String, Value>;

/// A file of `kills/`.
struct Case {
    name: String,
    objects: Vec<Value>,
    /// Whether node tables lie on pages.
    has_pages: bool,
}

/// One push to a repository on disk.
struct Repository {
    dir: tempfile::TempDir,
    commit: String,
}

impl Repository {
    /// Nothing where git is missing.
    fn new() -> Option<Self> {
        Command::new("git").arg("--version").output().ok()?;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        std::fs::create_dir_all(path.join(".ci")).unwrap();
        std::fs::write(path.join(".ci/workflow.yaml"), MANIFEST).unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.current_dir(&path).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
            for role in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.org");
            }
            let output = command.env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
            assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "one"]);
        let commit = git(&["rev-parse", "HEAD"]);
        Some(Self { commit, dir })
    }

    fn url(&self) -> String {
        format!("file://{}/app", self.dir.path().display())
    }

    fn mirrors(&self, of: &str) -> PathBuf {
        self.dir.path().join("mirrors").join(of)
    }
}

/// What all runs have in common.
struct Ground {
    server: ApiServer,
    repository: Option<Repository>,
}

#[test]
fn a_controller_that_dies_at_any_write_leaves_no_trace() {
    let only = std::env::var("WINDLASS_KILL").ok();
    let only: Option<Vec<&str>> = only.as_deref().map(|text| text.split(':').collect());
    let all = std::env::var("WINDLASS_KILLS").is_ok_and(|v| v == "all");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let faulty = runtime.block_on(async {
        let server = ApiServer::open(Options::memory()).await.unwrap();
        server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
        let repository = Repository::new();
        if repository.is_none() {
            eprintln!("!!! NOT RUN: the kills of a delivery; install git to run them");
        }
        let ground = Arc::new(Ground { server, repository });
        let wanted = |case: &Case| {
            only.as_ref().is_none_or(|only| only[0] == case.name)
                && (ground.repository.is_some() || case.name != "delivery")
        };
        let cases: Vec<Arc<Case>> = cases().into_iter().filter(wanted).map(Arc::new).collect();
        let calm = futures::stream::iter(cases).map(|case| {
            let ground = ground.clone();
            async move {
                let calm = turn(&ground, &case, None).await.unwrap_or_else(|why| panic!("{}: {why}", case.name));
                (case, Arc::new(calm))
            }
        });
        let calm: Vec<(Arc<Case>, Arc<Calm>)> = calm.buffered(AT_ONCE).collect().await;
        let mut kills = Vec::new();
        for (turn, (case, calm)) in calm.iter().enumerate() {
            println!("{}: {} writes", case.name, calm.writes);
            for n in 1..=calm.writes {
                for (i, death) in Death::ALL.into_iter().enumerate() {
                    let named = only.as_ref().is_none_or(|only| only[1..] == [n.to_string().as_str(), death.name()]);
                    if named && (all || only.is_some() || (n as usize + turn) % Death::ALL.len() == i) {
                        kills.push((case.clone(), calm.clone(), (n, death)));
                    }
                }
            }
        }
        println!("{} kills", kills.len());
        let kills = futures::stream::iter(kills).map(|(case, calm, at)| {
            let ground = ground.clone();
            async move {
                let name = format!("{}:{}:{}", case.name, at.0, at.1.name());
                let run = async move { turn(&ground, &case, Some((at, &calm.stock))).await.map(drop) };
                let turned = AbortOnDropHandle::new(tokio::spawn(run)).await;
                turned.unwrap_or_else(|e| Err(e.to_string())).err().map(|why| format!("WINDLASS_KILL={name}: {why}"))
            }
        });
        kills.buffer_unordered(AT_ONCE).filter_map(async |f| f).collect::<Vec<_>>().await
    });
    assert!(faulty.is_empty(), "{} kills were seen:\n{}", faulty.len(), faulty.join("\n"));
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/simulation/kills");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let loaded = windlass_lang::yaml::load_str(&std::fs::read_to_string(file).unwrap());
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let objects = loaded.documents.into_iter().map(|document| document.value).collect();
        Case { name, objects, has_pages: false }
    };
    let cases: Vec<Case> = files.iter().map(read).collect();
    let on_pages =
        |case: &Case| Case { name: format!("{}-on-pages", case.name), objects: case.objects.clone(), has_pages: true };
    let twins: Vec<Case> = cases.iter().filter(|case| ON_PAGES.contains(&case.name.as_str())).map(on_pages).collect();
    cases.into_iter().chain(twins).collect()
}

/// A run without a crash.
struct Calm {
    writes: u64,
    stock: Stock,
}

/// One run of a case in a namespace of its own: without a crash until it is quiet, or with one until all is as it was
/// without.
async fn turn(ground: &Ground, case: &Case, kill: Option<((u64, Death), &Stock)>) -> Result<Calm, String> {
    let plain = ground.server.client(Identity::admin());
    let place = kill.map_or("calm".to_owned(), |((n, death), _)| format!("{n}-{}", death.name()));
    let namespace = format!("{}-{place}", case.name);
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let namespaces: Api<Namespace> = Api::all(plain.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    for object in &case.objects {
        submit(ground, &plain, &namespace, object).await;
    }
    let witness = Arc::new(Mutex::new(Witness::default()));
    let killer = Killer::new(kill.map(|(at, _)| at));
    let habit = Habit { loses: false, pace_ms: [10, 20] };
    let seed = kill.map_or(0, |((n, _), _)| n);
    let _parts = [
        AbortOnDropHandle::new(tokio::spawn(witness::run(plain.clone(), namespace.clone(), witness.clone()))),
        AbortOnDropHandle::new(tokio::spawn(kubelet::run(plain.clone(), namespace.clone(), seed, habit))),
        AbortOnDropHandle::new(tokio::spawn(people(plain.clone(), namespace.clone()))),
        AbortOnDropHandle::new(tokio::spawn(protection(plain.clone(), namespace.clone()))),
    ];
    let mirrors = ground.repository.as_ref().map(|r| (r.dir.path().to_owned(), r.mirrors(&namespace)));
    let lives = lives(ground.server.clone(), killer.clone(), namespace.clone(), case.has_pages, mirrors);
    let _lives = AbortOnDropHandle::new(tokio::spawn(lives));
    let look = async || {
        let ended = {
            let witness = witness.lock().unwrap();
            let last = witness.last.len();
            (last > 0 && last == witness.completed()).then(|| witness.last.clone())
        };
        match ended {
            Some(last) => stock(&plain, &namespace, &last).await,
            None => Stock::from([("still going on".to_owned(), Value::Null)]),
        }
    };
    let mut quiet = (0, tokio::time::Instant::now());
    let mut looks = 0;
    let end = loop {
        looks += 1;
        tokio::time::sleep(Duration::from_millis(60)).await;
        if quiet.0 != killer.writes() {
            quiet = (killer.writes(), tokio::time::Instant::now());
        }
        let late = looks > LOOKS;
        match kill {
            None if quiet.0 == 0 || quiet.1.elapsed() < QUIET => {}
            None => {
                let now = look().await;
                if is_settled(&now) {
                    break Ok(now);
                }
            }
            Some((_, calm)) => {
                let now = look().await;
                if now == *calm {
                    break Ok(now);
                }
                if late {
                    break Err(differences(calm, &now));
                }
            }
        }
        if late {
            break Err(format!("never settles: {:?}", look().await));
        }
    };
    // The witness hears of the last writes after they are made.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let broken = witness.lock().unwrap().broken.clone();
    let faults: Vec<String> = broken.into_iter().chain(end.as_ref().err().cloned()).collect();
    match end {
        Ok(stock) if faults.is_empty() => Ok(Calm { writes: killer.writes(), stock }),
        _ => Err(format!("{}\n{}", faults.join("\n"), killer.trace())),
    }
}

/// Creates one object of a case.
async fn submit(ground: &Ground, client: &kube::Client, namespace: &str, object: &Value) {
    let mut object = object.clone();
    if let (Some(repository), true) = (&ground.repository, object["kind"] == "Delivery") {
        object["spec"]["event"]["revision"] = json!(repository.commit);
        object["spec"]["event"]["repo"]["cloneUrl"] = json!(repository.url());
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", "v1"),
    };
    let kind = text(&object["kind"]);
    let plural = match kind.as_str() {
        "Delivery" => "deliveries".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// The loops, which die and come back: at once, or when the pods have gone on for a while.
async fn lives(
    server: ApiServer,
    killer: Arc<Killer>,
    namespace: String,
    always_offload: bool,
    mirrors: Option<(PathBuf, PathBuf)>,
) {
    let clock = Clock::beginning(BEGIN.parse::<Timestamp>().unwrap());
    for life in 1.. {
        let client = killer.client(&server, life);
        let scope = Scope { namespace: Some(namespace.clone()), ..Scope::default() };
        let settings = workflow::Settings {
            clock: clock.clone(),
            scope: scope.clone(),
            always_offload,
            ..workflow::Settings::default()
        };
        let stop = CancellationToken::new();
        let mut loops = vec![
            AbortOnDropHandle::new(tokio::spawn(workflow::run(client.clone(), settings.clone(), stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(garbage::run(client.clone(), settings, stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(retention::run(
                client.clone(),
                scope.clone(),
                clock.clone(),
                stop.clone(),
            ))),
            AbortOnDropHandle::new(tokio::spawn(cron::run(client.clone(), scope, clock.clone(), stop.clone()))),
        ];
        if let Some((allowed, mirrors)) = &mirrors {
            let access = GitAccess { allow: AllowPaths::new([allowed.clone()]), ..GitAccess::default() };
            let policy = Policy { namespace: namespace.clone(), ..Policy::default() };
            let settings = delivery::Settings { namespace: namespace.clone(), policy, ..delivery::Settings::default() };
            let mirrors = Arc::new(Mirrors::new(mirrors.clone(), access));
            let running = DeliveryLoop::new(client, mirrors, settings).run(stop);
            loops.push(AbortOnDropHandle::new(tokio::spawn(async move { running.await.unwrap() })));
        }
        killer.died.notified().await;
        // Not a stop: everything in flight is gone in the middle of what it did.
        drop(loops);
        if killer.writes().is_multiple_of(2) {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
}

/// The loop that lets claims go, as each cluster has it: no pod of these runs for long.
async fn protection(client: kube::Client, namespace: String) {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client, &namespace);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(claim) | Event::InitApply(claim)) = event else { continue };
        if claim.metadata.deletion_timestamp.is_some() {
            let free = Patch::Merge(json!({"metadata": {"uid": claim.uid(), "finalizers": null}}));
            let _ = api.patch(&claim.name_any(), &PatchParams::default(), &free).await;
        }
    }
}

/// Whoever lets what is suspended go on.
async fn people(client: kube::Client, namespace: String) {
    let api = witness::workflows(&client, &namespace);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(wf) | Event::InitApply(wf)) = event else { continue };
        let stored = serde_json::to_value(&wf).unwrap();
        // Replaced by now: the next version is seen next.
        let Some(wf) = witness::whole(&client, wf).await else { continue };
        let rows = wf.data["status"]["nodes"].as_object().into_iter().flatten();
        let waits = rows.filter(|(_, row)| row["type"] == "Suspend" && row["phase"] == "Running").count() > 0;
        // Its nodes are let go when they wait; who resumes the run does not look at them.
        if !waits && wf.data["spec"]["suspend"] != true {
            continue;
        }
        let value = serde_json::to_value(&wf).unwrap();
        let Ok(mut patch) = manual::resume(&value, &manual::Selector::default(), Timestamp::now()) else { continue };
        let written = table::fit(&stored, &value, &mut patch, &tables::stamp()).unwrap();
        tables::write(&client, &namespace, &stored["metadata"], written.pages).await.unwrap();
        patch["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        // Somebody else wrote meanwhile: that is seen next.
        let _ = api.patch(&wf.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    }
}

/// What there is: the workflows as they were last, and everything else as it is.
async fn stock(client: &kube::Client, namespace: &str, last: &BTreeMap<String, DynamicObject>) -> Stock {
    let list = async |group: &str, version: &str, kind: &str, plural: &str| {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        api.list(&ListParams::default()).await.unwrap().items
    };
    let (argo, own) = ("argoproj.io", "windlass.dev");
    let mut stock = Stock::new();
    // Names that the API or a uid has a part in.
    let mut names = Vec::new();
    for (i, (name, wf)) in last.iter().enumerate() {
        if wf.metadata.generate_name.is_some() || wf.labels().contains_key(labels::CRON_WORKFLOW) || last.len() == 1 {
            names.push((name.clone(), format!("@{i}")));
        }
    }
    let called = |name: &str| names.iter().fold(name.to_owned(), |text, (name, short)| text.replace(name, short));
    for (name, wf) in last {
        stock.insert(format!("workflow {}", called(name)), told(wf, &called));
    }
    for wf in list(argo, "v1alpha1", "Workflow", "workflows").await {
        let goes = !wf.data["spec"]["ttlStrategy"].is_null();
        stock.insert(format!("still there {}", called(&wf.name_any())), json!([wf.finalizers(), goes]));
    }
    for (n, pod) in list("", "v1", "Pod", "pods").await.into_iter().enumerate() {
        // What removes artifacts has a name with a uid in it.
        let name = pod.annotations().get(labels::NODE_NAME).map_or(format!("{n} of a ledger"), |node| called(node));
        let state = json!([pod.data["status"]["phase"], pod.labels().get(labels::COMPLETED), pod.finalizers()]);
        stock.insert(format!("pod {name}"), state);
    }
    for map in list("", "v1", "ConfigMap", "configmaps").await {
        // Pages of a node table: what a crash leaves goes when nobody has named it for a while.
        if map.labels().contains_key(labels::NODE_TABLE) {
            continue;
        }
        let keys: Vec<&String> = map.data["data"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
        stock.insert(format!("map {}", map.name_any()), json!(keys));
    }
    for (group, version, kind, plural) in [
        ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ] {
        for object in list(group, version, kind, plural).await {
            stock.insert(format!("{kind} {}", called(&object.name_any())), Value::Null);
        }
    }
    let ledgers = list(argo, "v1alpha1", "WorkflowArtifactGCTask", "workflowartifactgctasks").await;
    stock.insert("ledgers".to_owned(), json!(ledgers.len()));
    for cron in list(argo, "v1alpha1", "CronWorkflow", "cronworkflows").await {
        let mut status = cron.data["status"].clone();
        for active in status["active"].as_array_mut().into_iter().flatten() {
            *active = active["name"].clone();
        }
        // A known gap: an end that only the next controller sees may go uncounted.
        if let Some(status) = status.as_object_mut() {
            status.remove("succeeded");
        }
        stock.insert(format!("cron {}", cron.name_any()), status);
    }
    for delivery in list(own, "v1alpha1", "Delivery", "deliveries").await {
        let status = serde_json::to_string(&delivery.data["status"]).unwrap().replace(namespace, "here");
        let status: Value = serde_json::from_str(&called(&status)).unwrap();
        stock.insert(format!("delivery {}", delivery.name_any()), status);
    }
    stock
}

/// Whether everything that is to end has ended, and what is to go is gone.
fn is_settled(stock: &Stock) -> bool {
    stock.iter().all(|(name, value)| match name.split(' ').next() {
        Some("still") => value[1] == false,
        Some("pod") => name.ends_with("of a ledger") || value[1] == "true",
        Some("PersistentVolumeClaim" | "PodDisruptionBudget") => false,
        Some("ledgers") => *value == 0,
        Some("cron") => value["active"].as_array().is_some_and(Vec::is_empty),
        Some("delivery") => value["phase"] == "Submitted",
        _ => true,
    })
}

/// A workflow's end: what it says of itself and of each node, without times and with names for ids.
fn told(wf: &DynamicObject, called: &impl Fn(&str) -> String) -> Value {
    let status = &wf.data["status"];
    let rows = || status["nodes"].as_object().into_iter().flatten();
    let mut ids: Vec<(&String, &str)> =
        rows().map(|(id, row)| (id, row["name"].as_str().unwrap_or_default())).collect();
    // The root's id is the beginning of the others'.
    ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
    let named = |text: &str| {
        let text =
            ids.iter().fold(text.to_owned(), |text, (id, name)| text.replace(&format!("{id:?}"), &format!("{name:?}")));
        called(&text)
    };
    let mut nodes = BTreeMap::new();
    for (_, row) in rows() {
        let mut row = row.clone();
        for of_time in ["startedAt", "finishedAt", "resourcesDuration", "estimatedDuration", "hostNodeName", "podIP"] {
            row.as_object_mut().unwrap().remove(of_time);
        }
        // A set; who comes first is who was told of first.
        if let Some(children) = row["children"].as_array_mut() {
            children.sort_by_key(Value::to_string);
        }
        // Whether the ledger was carried out before its workflow went; that it was is seen by its absence.
        for artifact in row["outputs"]["artifacts"].as_array_mut().into_iter().flatten() {
            artifact.as_object_mut().unwrap().remove("deleted");
        }
        // What was remembered and then forgotten by the death, before any status was written, is found instead of made.
        if let Some(memoized) = row["memoizationStatus"].as_object_mut() {
            memoized.remove("hit");
            row.as_object_mut().unwrap().remove("taskResultSynced");
        }
        nodes.insert(named(row["name"].as_str().unwrap_or_default()), row);
    }
    let rest: BTreeMap<&str, &Value> = ["phase", "message", "progress", "outputs", "synchronization", "conditions"]
        .into_iter()
        .map(|field| (field, &status[field]))
        .collect();
    serde_json::from_str(&named(&json!([rest, nodes]).to_string())).unwrap()
}

fn differences(calm: &Stock, now: &Stock) -> String {
    let names: std::collections::BTreeSet<&String> = calm.keys().chain(now.keys()).collect();
    let differ = names.into_iter().filter(|name| calm.get(*name) != now.get(*name));
    let told = |of: Option<&Value>| of.map_or("nothing".to_owned(), ToString::to_string);
    let lines = differ.map(|name| format!("{name}:\n  was {}\n  is  {}", told(calm.get(name)), told(now.get(name))));
    lines.collect::<Vec<_>>().join("\n")
}
