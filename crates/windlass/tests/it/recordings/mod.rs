//! The recordings of the real Argo, each with real containers on the embedded cluster, in both forms of executor: the API,
//! the node agent, the sandbox, the executor and the artifact store are the product's own, and what comes out is compared
//! with what Argo made of the same (tiers A and B of `conformance/argo`). It is on demand, for it takes minutes:
//!
//! - `WINDLASS_RECORDINGS`: the forms, such as `node,pod`. `ci/full` sets it.
//! - `ONLY`: the cases whose name has this in it.
//!
//! What is left out and what may differ is in `conformance/argo/real.tsv`, each with its reason; what is left out by a rule
//! is counted and printed.

mod bucket;
mod images;
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use windlass_conformance_argo::compare::{self, Place, Tiers};
use windlass_conformance_argo::corpus::{self, Recording, Unstable};
use windlass_conformance_argo::replay::Played;

use crate::house::{House, not_run};
use images::Images;
use real::Stage;

/// So many cases at once: most of what they do is to sleep.
const TOGETHER: usize = 6;

/// A row of `real.tsv`: a case in one form (or `*`) is left `out`, or has this in a miss.
struct Row {
    case: String,
    form: String,
    what: String,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/argo/real.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [case, form, what, why] = parts.as_slice() else { panic!("not a row of four: {line}") };
        assert!(!why.is_empty() && matches!(*form, "node" | "pod" | "*"), "{line}");
        Row { case: (*case).to_owned(), form: (*form).to_owned(), what: (*what).to_owned() }
    };
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(row).collect()
}

impl Row {
    fn is_of(&self, case: &str, form: &str) -> bool {
        self.case == case && (self.form == form || self.form == "*")
    }
}

/// Why a case is not run, by a rule.
fn left_out(recording: &Recording, images: &Images, rows: &[Row], form: &str) -> Option<String> {
    if recording.workflows().is_empty() {
        return Some("refused when it was created".to_owned());
    }
    let text = recording.value["pods"].to_string();
    if text.contains("import random") || text.contains("$RANDOM") {
        return Some("decided by dice".to_owned());
    }
    if let Some(image) = recording.images().into_iter().find(|image| !images.has(image)) {
        return Some(format!("there is no image {image} here"));
    }
    let named = rows.iter().any(|row| row.is_of(&recording.name, form) && row.what == "out");
    named.then(|| "named in real.tsv".to_owned())
}

/// Tiers A and B of a case.
fn judge(recording: &Recording, played: &Played, unstable: &Unstable) -> Tiers {
    let mut tiers = Tiers::default();
    // A workflow that a step made has a name of its own here: only how it ended is compared.
    let name_of = |w: &Value| w["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let theirs: BTreeSet<String> = recording.workflows().into_iter().map(name_of).collect();
    let mut made = played.workflows.iter().filter(|(name, _)| !theirs.contains(*name)).map(|(_, workflow)| workflow);
    for (number, recorded) in recording.workflows().into_iter().enumerate() {
        let place = Place { case: &recording.name, number, unstable };
        let name = name_of(recorded);
        let before = [played.before.get(&name), recording.before(&name)];
        if let Some(ours) = played.workflows.get(&name) {
            compare::workflow([Some(ours), before[0]], [Some(recorded), before[1]], place, &mut tiers);
        } else {
            compare::phase(made.next().unwrap_or(&Value::Null), recorded, place, &mut tiers.a);
        }
    }
    for miss in &played.misses {
        tiers.a.all += 1;
        tiers.a.misses.push(miss.clone());
    }
    tiers
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Plays all cases in one form, with the program of the bucket where there is one; the tiers by case.
fn play_all(
    house: &House,
    server: Option<&str>,
    cases: Vec<Recording>,
    unstable: &Arc<Unstable>,
) -> BTreeMap<String, Tiers> {
    runtime().block_on(async {
        let stage = Stage::of(house, server.is_some()).await;
        if let Some(program) = server {
            stage.make(&bucket::server(program)).await;
            stage.has_bucket().await;
        }
        let stage = Arc::new(stage);
        let places = Arc::new(tokio::sync::Semaphore::new(TOGETHER));
        let mut tasks = tokio::task::JoinSet::new();
        for recording in cases {
            let (stage, places, unstable) = (stage.clone(), places.clone(), unstable.clone());
            tasks.spawn(async move {
                let _place = places.acquire_owned().await.unwrap();
                let begun = std::time::Instant::now();
                let played = stage.play(&recording).await;
                if let Some(dir) = std::env::var_os("WINDLASS_RECORDINGS_KEEP") {
                    let path = Path::new(&dir).join(format!("{}.json", recording.name));
                    let text = serde_json::to_string_pretty(&played.workflows).unwrap();
                    std::fs::write(path, text).unwrap();
                }
                eprintln!("{} {:.1} s", recording.name, begun.elapsed().as_secs_f64());
                let tiers = judge(&recording, &played, &unstable);
                (recording.name, tiers)
            });
        }
        tasks.join_all().await.into_iter().collect()
    })
}

/// One form: what it says of itself, and the differences in tier A that no row names; nothing where it cannot be run.
fn form(form: &str, images: &Images, folder: &Path) -> Option<(String, Vec<String>)> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let rows = rows();
    let unstable = Arc::new(Unstable::read(folder).unwrap());
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut cases = Vec::new();
    for name in corpus::names(folder).unwrap().into_iter().filter(|name| name.contains(&only)) {
        let recording = corpus::read(folder, &name).unwrap();
        match left_out(&recording, images, &rows, form) {
            Some(why) => out.entry(why).or_default().push(name),
            None => cases.push(recording),
        }
    }
    // The longest first, so that none is waited for alone.
    cases.sort_by_key(|case| std::cmp::Reverse(case.value["seconds"].as_i64()));
    let house = House::empty();
    images.bring(&house);
    let mut server = None;
    if form == "pod" {
        // The built-in store is the node agent's: pods have a bucket.
        server = Some(crate::minio::image(&house)?);
        // What the controller is told it reads when it starts.
        let up = house.up(&["--executor", form]);
        runtime().block_on(async { Stage::of(&house, false).await.make(&bucket::configuration()).await });
        up.end().exits(0);
    }
    let up = house.up(&["--executor", form]);
    let results = play_all(&house, server.as_deref(), cases, &unstable);
    up.end().exits(0);

    let mut told = String::new();
    let mut named = 0;
    let mut unnamed = Vec::new();
    let (mut a, mut b, mut whole) = (compare::Tally::default(), compare::Tally::default(), 0);
    let mut misses = String::new();
    for (case, tiers) in &results {
        a.add(&tiers.a);
        b.add(&tiers.b);
        whole += usize::from(tiers.a.misses.is_empty());
        for (tier, tally) in [('A', &tiers.a), ('B', &tiers.b)] {
            for miss in &tally.misses {
                let known = rows.iter().any(|row| row.is_of(case, form) && miss.contains(&row.what));
                named += usize::from(known);
                writeln!(misses, "{tier} {case}  {miss}{}", if known { "  (named)" } else { "" }).unwrap();
                if !known && tier == 'A' {
                    unnamed.push(format!("{form}: {case}: {miss}"));
                }
            }
        }
    }
    writeln!(told, "executor {form}: {} cases with real containers", results.len()).unwrap();
    writeln!(told, "  tier A: {whole} of {} cases equal, {} of {} fields", results.len(), a.same, a.all).unwrap();
    writeln!(told, "  tier B: {} of {} fields equal ({:.2} %)", b.same, b.all, b.percent()).unwrap();
    writeln!(told, "  {named} of {} differences are named in real.tsv", a.misses.len() + b.misses.len()).unwrap();
    for (why, names) in &out {
        writeln!(told, "  left out, {why}: {}", names.len()).unwrap();
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-argo-{form}.txt"));
    std::fs::write(&path, format!("{told}\n{misses}")).unwrap();
    writeln!(told, "  differences: {}", path.display()).unwrap();
    Some((told, unnamed))
}

#[test]
fn recordings_come_out_alike_with_real_containers() {
    let Ok(forms) = std::env::var("WINDLASS_RECORDINGS") else {
        println!(
            "NOT RUN: the recordings with real containers; WINDLASS_RECORDINGS=node,pod runs them (on demand: ci/full)"
        );
        return;
    };
    let Some(folder) = corpus::folder() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let maker = House::empty();
    let Some(images) = Images::make(&maker) else {
        return not_run("recordings", "there is no busybox (package busybox-static)");
    };
    let mut unnamed = Vec::new();
    for name in forms.split(',') {
        assert!(matches!(name, "node" | "pod"), "WINDLASS_RECORDINGS: `{name}` is no form of executor");
        let Some((told, more)) = form(name, &images, &folder) else {
            not_run(&format!("recordings, executor {name}"), "there is no minio to be the bucket");
            continue;
        };
        print!("{told}");
        unnamed.extend(more);
    }
    assert!(unnamed.is_empty(), "tier A differs, and real.tsv does not say why:\n{}", unnamed.join("\n"));
}
