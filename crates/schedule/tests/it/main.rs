//! Events and manifests as files, decisions as snapshots. A new case is a new file.
#![allow(clippy::unwrap_used, missing_docs)]

mod binding;
mod bitbucket;
mod cron;

use windlass_lang::Sources;
use windlass_schedule::github::{self, Headers, Parsed};
use windlass_schedule::payload::{self, Commit, Person, Push, Repository, Update};
use windlass_schedule::trigger::{self, Policy};

fn settings(name: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_suffix(name);
    settings.set_prepend_module_to_snapshot(false);
    settings
}

fn cases(dir: &str, ending: &str) -> Vec<(String, String)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases").join(dir);
    let mut cases: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn parse(event: &str, body: &serde_json::Value) -> Parsed {
    let headers = Headers { event: Some(event), delivery: Some("72d3162e-cc78-11e3-81ab-4c9367dc0958") };
    github::parse(headers, body.to_string().as_bytes())
}

#[test]
fn events() {
    for (name, text) in cases("", "json") {
        let case: serde_json::Value = serde_json::from_str(&text).unwrap();
        let parsed = parse(case["event"].as_str().unwrap(), &case["body"]);
        let mut lines = vec![];
        match &parsed {
            Parsed::Event(event) => {
                lines.push(format!("manifest: {:?}", trigger::manifest_source(event)));
                lines.extend(
                    trigger::annotations(event, "d").into_iter().map(|(key, value)| format!("{key}: {value:?}")),
                );
            }
            other => lines.push(format!("{other:?}")),
        }
        settings(&name).bind(|| insta::assert_snapshot!("event", lines.join("\n")));
    }
}

#[test]
fn manifests() {
    let case: serde_json::Value = serde_json::from_str(include_str!("cases/push_new_branch.json")).unwrap();
    let Parsed::Event(event) = parse("push", &case["body"]) else { panic!("an event") };
    let policy = Policy { namespace: "ci".to_owned(), ..Policy::default() };
    for (name, text) in cases("", "yaml") {
        let mut sources = Sources::default();
        let id = sources.add(".ci/workflow.yaml", text);
        let loaded = windlass_lang::yaml::load(&sources, id);
        assert!(loaded.diagnostics.is_empty());
        let decided = trigger::decide(&event, "github-1", loaded.documents.clone(), &policy);
        assert_eq!(decided.objects, trigger::decide(&event, "github-1", loaded.documents, &policy).objects);
        let objects: Vec<String> = decided
            .objects
            .iter()
            .map(|o| {
                format!("{} {}/{}\n{}", o.kind, o.namespace, o.name, serde_json::to_string_pretty(&o.object).unwrap())
            })
            .collect();
        let text = format!("{}\n{}", objects.join("\n"), windlass_lang::render(&decided.diagnostics, &sources, false));
        settings(&name).bind(|| insta::assert_snapshot!("manifest", text));
    }
}

#[test]
fn what_a_hook_sends_is_what_github_sends() {
    let repository = Repository {
        full_name: "acme/app".into(),
        clone_url: "file:///srv/app.git".into(),
        default_branch: "main".into(),
        ..Repository::default()
    };
    let (old, new, zero) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
    let person = Person { name: "A".into(), email: "a@example.org".into() };
    let commit = Commit { id: new.clone(), message: "m\n".into(), author: person.clone(), ..Commit::default() };
    let push = Push { commits: vec![commit.clone()], head: Some(commit), forced: false, pusher: person };
    let update = Update::parse(&format!("{old} {new} refs/heads/main\n")).unwrap();
    let sent = payload::events(&repository, &update, &push);
    assert_eq!(sent.len(), 1);
    insta::assert_json_snapshot!("hook_push", sent[0].payload);
    let Parsed::Event(event) = parse(sent[0].event, &sent[0].payload) else { panic!("an event") };
    assert_eq!((event.ref_.as_str(), &event.revision, &event.before), ("refs/heads/main", &new, &old));
    assert_eq!(event.repo.clone_url, "file:///srv/app.git");
    // A deletion is a push that is ignored and a delete that counts.
    let gone = Update::parse(&format!("{old} {zero} refs/heads/feature/x")).unwrap();
    let sent = payload::events(&repository, &gone, &Push::default());
    assert!(matches!(parse(sent[0].event, &sent[0].payload), Parsed::Ignored { reason: "PushOfDeletion", .. }));
    let Parsed::Event(event) = parse(sent[1].event, &sent[1].payload) else { panic!("an event") };
    assert_eq!(
        (event.event.as_str(), event.ref_.as_str(), event.revision.as_str()),
        ("delete", "refs/heads/feature/x", "")
    );
    for bad in ["", "a b c", &format!("{old} {new} main"), &format!("{old} {new}")] {
        assert_eq!(Update::parse(bad), None);
    }
}
