//! The real loops over the embedded API in memory, on days when everything goes wrong: seeded worlds in which requests
//! are lost, watches break, clocks jump and the controller dies after its n-th write. Nothing here knows how the loops do
//! their work; it only knows what must be true of the result:
//!
//! | always | no node has two live pods, no mutex two holders; a finished node neither moves, runs again nor is forgotten |
//! | once the faults end | every workflow ends, as it does in the same world without faults; no pod is held back |
//!
//! `WINDLASS_SEEDS=10000` runs more worlds (from `WINDLASS_SEEDS_FROM` on), `WINDLASS_SEED=17` one of them. A failure prints its seed. The seed decides
//! the faults and the pods' lives; the threads' own order it cannot decide.

mod dice;
mod faults;
mod killer;
mod kills;
mod kubelet;
mod takeover;
mod witness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use windlass_apiserver::{ApiServer, Identity, Options};
use windlass_control::clock::Clock;
use windlass_control::{Scope, retention, tables, workflow};
use windlass_model::labels;

use dice::Dice;
use faults::Faults;
use witness::Witness;

/// How many worlds a run of the tests has.
const SEEDS: u64 = 200;
/// How many worlds turn at the same time: they mostly wait.
const AT_ONCE: usize = 40;
/// How many worlds have one API, each in a namespace of its own.
const WORLDS_PER_API: usize = 100;
/// How long the faults last.
const STORM: Duration = Duration::from_secs(4);
/// How often a world is looked at until it has settled; only one that never would takes all of it. Looks are counted and
/// no time is taken: a machine that stood still has had no chance to settle.
const LOOKS: usize = 600;

type Ends = BTreeMap<String, witness::End>;

#[test]
fn two_hundred_bad_days() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let from = number("WINDLASS_SEEDS_FROM").unwrap_or(0);
    let seeds = match number("WINDLASS_SEED") {
        Some(seed) => seed..seed + 1,
        None => from..from + number("WINDLASS_SEEDS").unwrap_or(SEEDS),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let count = seeds.end - seeds.start;
    let faulty: Vec<String> = runtime.block_on(async {
        let mut faulty = Vec::new();
        for seeds in seeds.collect::<Vec<_>>().chunks(WORLDS_PER_API) {
            let server = ApiServer::open(Options::memory()).await.unwrap();
            server.ensure_crds(&windlass_model::crds::manifests()).await.unwrap();
            let worlds = futures::stream::iter(seeds).map(|&seed| {
                let server = server.clone();
                async move {
                    // A panic in a world is that world's failure, and names its seed.
                    let turned = AbortOnDropHandle::new(tokio::spawn(world(server, seed))).await;
                    turned.unwrap_or_else(|e| Err(e.to_string())).err().map(|what| format!("seed {seed}: {what}"))
                }
            });
            let broken: Vec<String> = worlds.buffer_unordered(AT_ONCE).filter_map(async |f| f).collect().await;
            // A long run says at once what it has found.
            broken.iter().for_each(|what| println!("{what}"));
            println!("up to seed {}: {} more broke", seeds.last().unwrap_or(&0), broken.len());
            faulty.extend(broken);
        }
        faulty
    });
    println!("{count} worlds");
    assert!(faulty.is_empty(), "{} of {count} worlds broke:\n{}", faulty.len(), faulty.join("\n"));
}

/// The workflows of a world: files, so that a new one is no Rust.
fn inputs() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/simulation/workflows");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let mut documents = windlass_lang::yaml::load_str(&text).documents;
        documents.remove(0).value
    };
    files.iter().map(read).collect()
}

/// One world twice: with faults, then the same without; both must end the same.
async fn world(server: ApiServer, seed: u64) -> Result<(), String> {
    let faults = Faults::new(seed);
    let stormy = turn(&server, seed, Some(&faults)).await.map_err(|what| {
        let done = faults.done.lock().unwrap();
        format!("{what}\n  faults: {}", done.join("; "))
    })?;
    let calm = turn(&server, seed, None).await?;
    for (name, end) in &calm {
        let other = stormy.get(name).ok_or(format!("{name} is gone"))?;
        let differences = end.differences(other);
        if !differences.is_empty() {
            let done = faults.done.lock().unwrap();
            return Err(format!("{name} ends differently: {}\n  faults: {}", differences.join("; "), done.join("; ")));
        }
    }
    Ok(())
}

/// Whether node tables lie on pages in a world: in every fourth.
fn has_pages(seed: u64) -> bool {
    seed % 4 == 3
}

/// The controller of a world, which dies and comes back.
async fn controller(client: kube::Client, namespace: String, clock: Clock, faults: Option<Arc<Faults>>, seed: u64) {
    let mut dice = Dice::of(seed, "restarts");
    loop {
        let scope = Scope { namespace: Some(namespace.clone()), ..Scope::default() };
        let settings = workflow::Settings {
            clock: clock.clone(),
            scope: scope.clone(),
            always_offload: has_pages(seed),
            ..workflow::Settings::default()
        };
        let stop = CancellationToken::new();
        let loops = [
            AbortOnDropHandle::new(tokio::spawn(tables::run(
                client.clone(),
                scope.clone(),
                clock.clone(),
                stop.clone(),
            ))),
            AbortOnDropHandle::new(tokio::spawn(workflow::run(client.clone(), settings, stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(retention::run(client.clone(), scope, clock.clone(), stop.clone()))),
        ];
        match &faults {
            Some(faults) => faults.crash.notified().await,
            None => std::future::pending().await,
        }
        // Not a stop: everything in flight is gone in the middle of what it did.
        drop(loops);
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
    }
}

async fn turn(server: &ApiServer, seed: u64, faults: Option<&Arc<Faults>>) -> Result<Ends, String> {
    let plain = server.client(Identity::admin());
    let namespace = format!("{}-{seed}", if faults.is_some() { "storm" } else { "calm" });
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let namespaces: Api<Namespace> = Api::all(plain.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let witness = Arc::new(Mutex::new(Witness::default()));
    let jump = Arc::new(AtomicI64::new(0));
    let seen = jump.clone();
    let clock = Clock::of(move || Timestamp::now() + SignedDuration::from_secs(seen.load(Ordering::SeqCst)));
    let client = faults.map_or_else(|| plain.clone(), |faults| faults.client(server));
    let habit = kubelet::Habit { loses: faults.is_some(), pace_ms: [120, 250] };
    let _parts = [
        AbortOnDropHandle::new(tokio::spawn(witness::run(plain.clone(), namespace.clone(), witness.clone()))),
        AbortOnDropHandle::new(tokio::spawn(kubelet::run(plain.clone(), namespace.clone(), seed, habit))),
        AbortOnDropHandle::new(tokio::spawn(controller(client, namespace.clone(), clock, faults.cloned(), seed))),
    ];
    let api = witness::workflows(&plain, &namespace);
    let mut dice = Dice::of(seed, "submissions");
    for input in inputs() {
        api.create(&PostParams::default(), &serde_json::from_value(input).unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
    }
    if let Some(faults) = faults {
        let quarter = STORM / 4;
        for _ in 0..4 {
            tokio::time::sleep(quarter).await;
            // Forward by up to two minutes, back by up to ten seconds.
            jump.fetch_add(dice.below(130).cast_signed() - 10, Ordering::SeqCst);
        }
        faults.end();
    }
    let mut open = unsettled(&plain, &namespace).await;
    for _ in 0..LOOKS {
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        open = unsettled(&plain, &namespace).await;
    }
    if !open.is_empty() {
        return Err(format!("never settles: {}", open.join("; ")));
    }
    // The witness hears of the last writes after they are made.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let broken = witness.lock().unwrap().broken.clone();
    if !broken.is_empty() {
        return Err(broken.join("; "));
    }
    let mut ends = Ends::new();
    for wf in api.list(&ListParams::default()).await.unwrap().items {
        let is_paged = wf.labels().contains_key(labels::NODE_TABLE);
        let wf = witness::whole(&plain, wf).await.ok_or("a part of a node table is gone")?;
        if is_paged != has_pages(seed) {
            return Err(format!("the node table of {} lies where it should not", wf.name_any()));
        }
        ends.insert(wf.name_any(), witness::end(&wf));
    }
    Ok(ends)
}

/// What has not come to rest: workflows that go on, pods whose end nobody took note of.
async fn unsettled(client: &kube::Client, namespace: &str) -> Vec<String> {
    let runs = witness::workflows(client, namespace).list(&ListParams::default()).await.unwrap().items;
    let done = |labels: &BTreeMap<String, String>| labels.get(labels::COMPLETED).is_some_and(|v| v == "true");
    let running = runs.iter().filter(|wf| !done(wf.labels()));
    let told = |wf: &DynamicObject| {
        format!("{}: {}, locks {}", wf.name_any(), unfinished(wf), wf.data["status"]["synchronization"])
    };
    let mut open: Vec<String> = running.map(told).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap().items;
    let held = pods.iter().filter(|pod| !done(pod.labels()) || !pod.finalizers().is_empty());
    open.extend(held.map(|pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        format!("pod {} ({phase}, of {}) is not released", pod.name_any(), pod.annotations()[labels::NODE_NAME])
    }));
    open
}

fn unfinished(wf: &DynamicObject) -> Value {
    let nodes = wf.data["status"]["nodes"].as_object().into_iter().flatten();
    json!(nodes.map(|(_, n)| json!([n["name"], n["phase"], n["message"]])).collect::<Vec<_>>())
}
