//! Registries and git hosts that are away, silent, broken or refusing: the step fails with the cause in its message, in
//! bounded time, and nothing half-written stays.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deliveries::{Repository, deliveries, git, post, ready, sign};
use crate::hosts::{Asked, Host, Reply, nobody};
use crate::house::{House, Running, until};

/// A registry that takes everything, but breaks off the first `faults` uploads of a blob.
fn registry(faults: usize) -> Host {
    Host::start(move |asked: &Asked| {
        let upload = asked.path.contains("/blobs/uploads/");
        match asked.method.as_str() {
            "HEAD" => Reply::status(404),
            "POST" if upload => Reply::Says(202, format!("Location: {}s{}\r\n", asked.path, asked.before), Vec::new()),
            "PUT" if upload && asked.before < faults => Reply::BreaksOff,
            "PUT" => Reply::status(201),
            "DELETE" => Reply::status(204),
            _ => Reply::status(200),
        }
    })
}

/// One that wants to know who asks.
fn closed() -> Host {
    Host::start(|_| Reply::Says(401, "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned(), Vec::new()))
}

const PATIENCE: Duration = Duration::from_secs(100);

#[test]
fn registries_that_are_not_well() {
    let Some(house) = House::new("registries that are not well") else { return };
    let (silent, dying, flaky, closed) = (Host::silent(), registry(usize::MAX), registry(2), closed());
    let cases = [
        ("refused", nobody(), vec!["Connection refused"]),
        ("silent", silent.address.clone(), vec!["said nothing for 10 s"]),
        ("dying", dying.address.clone(), vec!["uploading blob sha256:"]),
        ("closed", closed.address.clone(), vec!["401", "no credential", "config.json"]),
    ];
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    house.file("context/Dockerfile", dockerfile);

    // The same from the command line, beside a workflow whose steps are kaniko's.
    let builds = cases.each_ref().map(|(name, address, _)| {
        let args = ["build", "context", "-t", &format!("{address}/{name}:v1"), "--no-cache"];
        Running::begin(&mut house.command(&args))
    });
    let task = |(name, address): (&str, &str)| {
        format!(
            "    - {{name: {name}, template: push, arguments: {{parameters: [{{name: to, value: \"{address}/{name}:v1\"}}]}}}}\n"
        )
    };
    let all = cases.iter().map(|(name, address, _)| (*name, address.as_str()));
    let tasks: String = all.chain([("flaky", flaky.address.as_str())]).map(task).collect();
    let file = house.workflow(
        "pushes",
        &format!(
            "entrypoint: main
volumes:
- name: context
  emptyDir: {{}}
templates:
- name: main
  dag:
    failFast: false
    tasks:
{tasks}- name: push
  inputs:
    parameters: [{{name: to}}]
    artifacts: [{{name: dockerfile, path: /context/Dockerfile, raw: {{data: \"FROM scratch\\nCOPY Dockerfile /\\n\"}}}}]
  container:
    image: gcr.io/kaniko-project/executor:v1.23.2
    args: [--context=dir:///context, '--destination={{{{inputs.parameters.to}}}}', --digest-file=/context/digest]
    volumeMounts: [{{name: context, mountPath: /context}}]
"
        ),
    );
    let begun = Instant::now();
    let done = Running::begin(&mut house.command(&["run", &file, "-o", "json"])).finish(PATIENCE).exits(1);
    let wf = done.json();
    let step = |name: &str| {
        let nodes = wf["status"]["nodes"].as_object().unwrap();
        nodes.values().find(|n| n["displayName"] == name).unwrap_or_else(|| panic!("no {name}: {wf:#}")).clone()
    };
    println!("the steps ended after {:?}", begun.elapsed());
    for (name, address, wanted) in &cases {
        let node = step(name);
        assert_eq!(node["phase"], "Failed", "{node:#}");
        let message = node["message"].as_str().unwrap();
        for text in wanted.iter().chain([&address.as_str(), &"push to"]) {
            assert!(message.contains(text), "{name}: {text:?} is not in {message}");
        }
        assert!(message.len() < 400 && message.lines().count() == 1, "{name}: {message}");
    }
    assert_eq!(step("flaky")["phase"], "Succeeded", "{:#}", step("flaky"));
    for (build, (name, address, wanted)) in builds.into_iter().zip(&cases) {
        let done = build.finish(PATIENCE).exits(1).says(wanted).says(&[address, "error: "]);
        assert!(done.stdout.is_empty(), "{name} printed a digest: {}", done.stdout);
    }
    // No name was given to what never arrived, and no upload of ours is left.
    house.windlass(&["image", "ls"]).ok().says(&["busybox"]);
    let names = house.windlass(&["image", "ls"]).ok().stdout;
    assert!(cases.iter().all(|(_, address, _)| !names.contains(address.as_str())), "{names}");
    assert!(flaky.asked().iter().any(|l| l.starts_with("PUT /v2/flaky/manifests/v1")), "{:?}", flaky.asked());
    assert!(!dying.asked().iter().any(|l| l.contains("/manifests/")), "{:?}", dying.asked());
}

#[test]
fn git_hosts_that_are_not_well() {
    let Some(house) = ready("git hosts that are not well") else { return };
    let repo = Repository::new(&house);
    let (commit, _) = repo.push(None);
    let root = house.path("src");
    let well = Host::git(&root, Arc::new(AtomicBool::new(true)));
    let (silent, gone, closed) = (Host::silent(), Host::start(|_| Reply::status(404)), closed());
    let broken = Host::start(|_| Reply::status(503));
    let url = |address: &str| format!("http://someone:hunter2@{address}/acme/app.git");
    let cases = [
        ("refused", url(&nobody()), "main", vec!["Connection refused", "--remap-git"]),
        ("silent", url(&silent.address), "main", vec!["said nothing for 30 s", "--remap-git"]),
        ("gone", url(&gone.address), "main", vec!["404", "no such repository"]),
        ("closed", url(&closed.address), "main", vec!["401", "credentials"]),
        ("broken", url(&broken.address), "main", vec!["503"]),
        ("branch", url(&well.address), "mian", vec!["\"mian\" does not exist", "main"]),
        ("fine", url(&well.address), "main", vec![]),
    ];
    let task = |(name, url, revision, _): &(&str, String, &str, Vec<&str>)| {
        format!("    - {{name: {name}, template: {name}}}\n# {url} {revision}\n")
    };
    let tasks: String = cases.iter().map(task).collect();
    let templates: String = cases
        .iter()
        .map(|(name, url, revision, _)| {
            format!(
                "- name: {name}
  inputs:
    artifacts: [{{name: source, path: /src, git: {{repo: \"{url}\", revision: {revision}}}}}]
  container: {{image: busybox, command: [cat, /src/changed]}}
"
            )
        })
        .collect();
    let file = house.workflow(
        "checkouts",
        &format!(
            "entrypoint: main\ntemplates:\n- name: main\n  dag:\n    failFast: false\n    tasks:\n{tasks}{templates}"
        ),
    );
    let up = house.up(&["--allow-path", root.to_str().unwrap()]);

    // The manifest of a push, from the same hosts.
    let event = |url: &str| {
        let text = String::from_utf8(repo.event(&commit)).unwrap();
        text.replace(&format!("file://{}", repo.bare()), url).into_bytes()
    };
    for (name, url, _, _) in cases.iter().filter(|(name, ..)| !matches!(*name, "branch" | "fine")) {
        let body = event(url);
        let (status, answer) = post(&up.webhooks(), "push", name, &sign(&house, &body), &body);
        assert_eq!(status, 202, "{answer}");
    }

    let begun = Instant::now();
    let running = Running::begin(&mut house.command(&["run", &file, "-o", "json"]));
    let wf = running.finish(PATIENCE).exits(1).json();
    println!("the steps ended after {:?}", begun.elapsed());
    for (name, url, _, wanted) in &cases {
        let nodes = wf["status"]["nodes"].as_object().unwrap();
        let node = nodes.values().find(|n| n["displayName"] == *name).unwrap_or_else(|| panic!("no {name}: {wf:#}"));
        if wanted.is_empty() {
            assert_eq!(node["phase"], "Succeeded", "{node:#}");
            continue;
        }
        assert_eq!(node["phase"], "Error", "{node:#}");
        told(name, node["message"].as_str().unwrap_or_default(), url, wanted);
    }
    for (name, url, _, wanted) in cases.iter().filter(|(name, ..)| !matches!(*name, "branch" | "fine")) {
        let own = |d: &Value| d["spec"]["event"]["repo"]["cloneUrl"].as_str().is_some_and(|u| u.contains(host(url)));
        let delivery = until(&format!("the delivery {name} says why"), PATIENCE, || {
            deliveries(&house).into_iter().find(|d| own(d) && d["status"]["message"].is_string())
        });
        told(name, delivery["status"]["message"].as_str().unwrap(), url, wanted);
        let again = matches!(*name, "refused" | "silent" | "broken");
        assert_eq!(delivery["status"]["phase"], if again { "Fetching" } else { "Failed" }, "{delivery:#}");
        let name = delivery["metadata"]["name"].as_str().unwrap();
        let shown = house.windlass(&["get", "delivery", name]).ok().says(wanted);
        assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
    }
    assert_eq!(git(&root.join("work"), &["status", "--porcelain"]), "");
    up.end().exits(0);
}

fn host(url: &str) -> &str {
    url.split('@').nth(1).unwrap().split('/').next().unwrap()
}

/// The message names the URL without its credentials, the cause and a way out.
#[track_caller]
fn told(name: &str, message: &str, url: &str, wanted: &[&str]) {
    assert!(message.contains(&format!("http://{}/acme/app.git", host(url))), "{name}: no URL in {message}");
    assert!(!message.contains("hunter2"), "{name}: a password is in {message}");
    for text in wanted {
        assert!(message.contains(text), "{name}: {text:?} is not in {message}");
    }
}
