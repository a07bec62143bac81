//! The recordings of the real controller, in process: every case, and a second time with completions shuffled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use windlass_conformance_argo::compare::{self, Place, Tally, Tiers};
use windlass_conformance_argo::corpus::{self, Recording, Unstable};
use windlass_conformance_argo::door::Door;
use windlass_conformance_argo::kubelet::{Order, Recorded};
use windlass_conformance_argo::replay::{Play, Played, play};

use crate::house::{door, in_process, with_stopped_clock};

/// Plays a recording through a door.
pub(crate) async fn replay(door: &Door, recording: &Recording, order: Order) -> Played {
    for (name, message) in refusals(recording) {
        door.refuse(&name, &message);
    }
    let mut script = Recorded::new(recording, order);
    let workflows = recording.workflows();
    let words = |action: &Value| {
        action["argo"].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
    };
    let play_of = Play {
        namespace: recording.namespace().to_owned(),
        begun: recording.begun(),
        objects: recording.objects(),
        workflows: workflows.iter().map(|w| recording.submission(w)).collect(),
        actions: recording
            .actions()
            .into_iter()
            .map(|(at, action)| {
                // Where pods end at other times only the condition counts.
                let at = if matches!(order, Order::Recorded) { at } else { recording.begun() };
                (at, words(action), action["rc"] == 0)
            })
            .collect(),
        script: &mut script,
        // What the pods did is told by the recording, so that even what is not run yet has its node table.
        engine: windlass_engine::Config { refuse_unsupported: false, ..windlass_engine::Config::default() },
    };
    play(door, play_of).await.unwrap_or_else(|fault| Played { misses: vec![fault.to_string()], ..Played::default() })
}

/// Pods that the API server refused in the recording, with its words.
fn refusals(recording: &Recording) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for workflow in recording.workflows() {
        for (_, row) in workflow["status"]["nodes"].as_object().into_iter().flatten() {
            let message = row["message"].as_str().unwrap_or_default();
            if row["type"] == "Pod"
                && message.contains("is forbidden")
                && let Some(from) = message.find("pods \"")
                && let Some(name) = message[from + 6..].split('"').next()
            {
                out.push((name.to_owned(), message[from..].to_owned()));
            }
        }
    }
    out
}

/// Compares what was played with what was recorded.
pub(crate) fn judge(recording: &Recording, played: &Played, unstable: &Unstable) -> Tiers {
    let mut tiers = Tiers::default();
    let nothing = Value::Null;
    for (number, theirs) in recording.workflows().into_iter().enumerate() {
        let place = Place { case: &recording.name, number, unstable };
        let name = theirs["metadata"]["name"].as_str().unwrap();
        let ours = played.workflows.get(name).unwrap_or(&nothing);
        let before = [played.before.get(name), recording.before(name)];
        compare::workflow([Some(ours), before[0]], [Some(theirs), before[1]], place, &mut tiers);
        let of = |pods: Vec<&Value>, workflow: &Value| -> Vec<(Value, Value)> {
            let mine = |p: &&&Value| p["metadata"]["labels"]["workflows.argoproj.io/workflow"] == name;
            let agents = |p: &&&Value| p["metadata"]["annotations"]["workflows.argoproj.io/node-name"].is_string();
            pods.iter().filter(mine).filter(agents).map(|p| ((*p).clone(), workflow.clone())).collect()
        };
        let left = of(played.pods.iter().collect(), ours);
        let right = of(recording.pods().into_values().flatten().collect(), theirs);
        compare::pods(&left, &right, place, name, &mut tiers.c);
    }
    for (_, action) in recording.actions().into_iter().filter(|(_, a)| a["argo"][0] == "retry" && a["rc"] == 0) {
        let said = action["stderr"].as_str().unwrap_or_default().split("podDeleted=").skip(1);
        let theirs: BTreeSet<String> = said.filter_map(|t| t.split_whitespace().next().map(str::to_owned)).collect();
        let ours = action["argo"][1].as_str().and_then(|name| played.deleted.get(name)).cloned().unwrap_or_default();
        tiers.b.all += 1;
        if ours == theirs {
            tiers.b.same += 1;
        } else {
            tiers.b.misses.push(format!("pods deleted by the retry  ours {ours:?}  theirs {theirs:?}"));
        }
    }
    for miss in &played.misses {
        // A place where dice fell differently has its pods there or not.
        if !unstable.any(&recording.name, 'C') {
            tiers.a.all += 1;
            tiers.a.misses.push(miss.clone());
        }
    }
    tiers
}

/// Every case on two threads, each with an API of its own.
fn all(folder: &Path, names: &[String], order: Order) -> BTreeMap<String, Tiers> {
    each(names, |name| corpus::read(folder, name).unwrap(), &Unstable::read(folder).unwrap(), order)
}

fn each<T: Sync>(
    cases: &[T],
    read: impl Fn(&T) -> Recording + Sync,
    unstable: &Unstable,
    order: Order,
) -> BTreeMap<String, Tiers> {
    let halves: Vec<Vec<&T>> = (0..2).map(|half| cases.iter().skip(half).step_by(2).collect()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = halves
            .iter()
            .map(|half| {
                let read = &read;
                scope.spawn(move || {
                    with_stopped_clock(async move {
                        let server = in_process().await;
                        let mut out = Vec::new();
                        for case in half {
                            let recording = read(case);
                            let played = replay(&door(&server, recording.namespace()), &recording, order).await;
                            out.push((recording.name.clone(), judge(&recording, &played, unstable)));
                        }
                        out
                    })
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn passes(tiers: &Tiers) -> String {
    let mut out = String::new();
    for (letter, tally) in [('A', &tiers.a), ('B', &tiers.b), ('C', &tiers.c)] {
        if tally.misses.is_empty() {
            out.push(letter);
        }
    }
    out
}

pub(crate) fn passing() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("passing.txt")).unwrap_or_default();
    let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    rows.map(|(name, tiers)| (name.to_owned(), tiers.to_owned())).collect()
}

/// What is left out: `case tier what`, each with a reason.
fn ignored() -> Vec<(String, String, String)> {
    let rows = include_str!("../../ignore.tsv").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    rows.map(|line| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [case, what, why] = parts.as_slice() else { panic!("not a row of three: {line}") };
        assert!(!why.is_empty(), "{line}");
        ((*case).to_owned(), (*what).to_owned(), (*why).to_owned())
    })
    .collect()
}

fn total(all: &BTreeMap<String, Tiers>, of: fn(&Tiers) -> &Tally) -> Tally {
    let mut sum = Tally::default();
    for tiers in all.values() {
        sum.add(of(tiers));
    }
    sum
}

#[test]
fn recordings_are_replayed() {
    let Some(folder) = corpus::folder() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let names: Vec<String> = corpus::names(&folder).unwrap().into_iter().filter(|n| n.contains(&only)).collect();
    let mut results = all(&folder, &names, Order::Recorded);
    // What is left out on purpose, counted; what is left out and agrees must come back in.
    let mut left_out = 0;
    let mut idle = Vec::new();
    for (case, what, _) in ignored().iter().filter(|(case, what, _)| names.contains(case) && what != "order") {
        let tiers = results.get_mut(case).unwrap();
        let mut found = false;
        for tally in [&mut tiers.a, &mut tiers.b, &mut tiers.c] {
            let before = tally.misses.len();
            tally.misses.retain(|miss| !miss.contains(what.as_str()));
            found |= tally.misses.len() < before;
            left_out += before - tally.misses.len();
            tally.all -= before - tally.misses.len();
        }
        if !found {
            idle.push(format!("{case}: {what}"));
        }
    }
    let mut report = String::new();
    let cases = |letter: char| results.values().filter(|t| passes(t).contains(letter)).count();
    let (a, b, c) = (total(&results, |t| &t.a), total(&results, |t| &t.b), total(&results, |t| &t.c));
    for (letter, what, tally) in [('A', "phase, message", &a), ('B', "node table", &b), ('C', "pods", &c)] {
        let (same, all, percent) = (tally.same, tally.all, tally.percent());
        let line = format!(
            "tier {letter} ({what}): {} of {} cases; {same} of {all} fields ({percent:.2} %)\n",
            cases(letter),
            results.len()
        );
        report.push_str(&line);
    }
    writeln!(report, "left out by ignore.tsv: {left_out} fields").unwrap();
    print!("{report}");
    for (name, tiers) in &results {
        for (letter, tally) in [('A', &tiers.a), ('B', &tiers.b), ('C', &tiers.c)] {
            for miss in &tally.misses {
                writeln!(report, "{letter} {name}  {miss}").unwrap();
            }
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-argo.txt");
    std::fs::write(&path, &report).unwrap();
    println!("misses: {}", path.display());
    // passing.txt only grows.
    let known = passing();
    let mut lost = Vec::new();
    for (name, tiers) in known.iter().filter(|(name, _)| names.contains(name)) {
        let now = passes(&results[name]);
        lost.extend(tiers.chars().filter(|t| !now.contains(*t)).map(|t| format!("{name}: tier {t}")));
    }
    if std::env::var_os("WINDLASS_GROW_PASSING").is_some() {
        let mut text = String::from("# Cases that pass, and in which tiers. A row may grow and must never shrink.\n");
        for (name, tiers) in &results {
            let mut both: BTreeSet<char> = passes(tiers).chars().collect();
            both.extend(known.get(name).into_iter().flat_map(|t| t.chars()));
            if !both.is_empty() {
                writeln!(text, "{name} {}", both.into_iter().collect::<String>()).unwrap();
            }
        }
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("passing.txt"), text).unwrap();
    }
    assert!(lost.is_empty(), "passed before and fail now:\n{}", lost.join("\n"));
    assert!(idle.is_empty(), "in ignore.tsv for nothing: {idle:?}");
}

#[test]
fn shuffled_completions_end_alike() {
    let Some(folder) = corpus::folder() else {
        println!("NOT RUN: no recordings of Argo at hand (set WINDLASS_ARGO_CORPUS)");
        return;
    };
    let only = std::env::var("ONLY").unwrap_or_default();
    let seed = std::env::var("WINDLASS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let by_order: BTreeSet<String> =
        ignored().into_iter().filter(|(_, what, _)| what == "order").map(|(case, ..)| case).collect();
    let known = passing();
    let names: Vec<String> = corpus::names(&folder)
        .unwrap()
        .into_iter()
        .filter(|n| n.contains(&only) && known.get(n).is_some_and(|t| t.contains('A')))
        .collect();
    let results = all(&folder, &names, Order::Shuffled(seed));
    let mut other = Vec::new();
    let mut marked = 0;
    for (name, tiers) in &results {
        if tiers.a.misses.is_empty() {
            continue;
        }
        if by_order.contains(name) {
            marked += 1;
        } else {
            other.push(format!("{name}: {}", tiers.a.misses.join("; ")));
        }
    }
    println!(
        "seed {seed}: {} of {} cases end alike in tier A, {marked} more are marked `order`",
        results.len() - marked - other.len(),
        results.len()
    );
    assert!(other.is_empty(), "seed {seed}:\n{}", other.join("\n"));
}

/// Only what comes out alike in everything is kept there: a difference is a fault, or the recording is none to keep.
#[test]
fn own_manifests_end_as_with_real_pods() {
    let recordings = corpus::with_pods().unwrap();
    assert!(!recordings.is_empty());
    let results = each(&recordings, Recording::clone, &Unstable::default(), Order::Recorded);
    let fields: usize = results.values().map(|t| t.a.all + t.b.all + t.c.all).sum();
    println!("own manifests with real pods: {} recordings, {fields} fields", results.len());
    let mut misses = Vec::new();
    for (name, tiers) in &results {
        let all = [&tiers.a, &tiers.b, &tiers.c].into_iter().flat_map(|tally| &tally.misses);
        misses.extend(all.map(|miss| format!("{name}: {miss}")));
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}
