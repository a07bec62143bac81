//! Events of a forge: one delivery is one workflow, however often it comes; what is refused says why.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use crate::hosts::Host;
use crate::house::{House, LONG, Up, not_run, program, run, until};

pub(crate) fn sign(house: &House, body: &[u8]) -> String {
    let secret = std::fs::read_to_string(house.home().join("run/webhook-secret")).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.trim().as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Posts one event as GitHub does; the status and the answer.
pub(crate) fn post(address: &str, event: &str, delivery: &str, signature: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let head = format!(
        "POST /webhooks/github HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-GitHub-Event: {event}\r\nX-GitHub-Delivery: {delivery}\r\nX-Hub-Signature-256: {signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused by its length alone may find the door shut.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
    (status, answer)
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    run(&mut command).ok().stdout.trim().to_owned()
}

/// A work tree beside a bare repository that it pushes to.
pub(crate) struct Repository<'a> {
    house: &'a House,
}

impl Repository<'_> {
    pub(crate) fn new(house: &House) -> Repository<'_> {
        std::fs::create_dir_all(house.path("src/acme")).unwrap();
        git(&house.path("src"), &["init", "-q", "--bare", "-b", "main", "acme/app.git"]);
        git(&house.path("src"), &["clone", "-q", "acme/app.git", "work"]);
        git(&house.path("src/work"), &["checkout", "-q", "-B", "main"]);
        Repository { house }
    }

    pub(crate) fn bare(&self) -> String {
        self.house.path("src/acme/app.git").to_str().unwrap().to_owned()
    }

    /// Commits a manifest (or none) and pushes it; the commit and what the push said.
    pub(crate) fn push(&self, manifest: Option<&str>) -> (String, String) {
        let work = self.house.path("src/work");
        std::fs::create_dir_all(work.join(".ci")).unwrap();
        let path = work.join(".ci/workflow.yaml");
        match manifest {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
        std::fs::write(work.join("changed"), rand::random::<u64>().to_string()).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "change"]);
        let mut push = Command::new("git");
        push.arg("-C").arg(&work).args(["push", "origin", "main"]).env_remove("WINDLASS_HOME");
        let said = run(&mut push).ok();
        (git(&work, &["rev-parse", "HEAD"]), said.stderr)
    }

    pub(crate) fn event(&self, commit: &str) -> Vec<u8> {
        let url = format!("file://{}", self.bare());
        let event = json!({
            "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit, "created": false, "deleted": false,
            "repository": {"full_name": "acme/app", "clone_url": url, "default_branch": "main", "git_url": url,
                "ssh_url": url, "html_url": url},
            "pusher": {"name": "a", "email": "a@example.org"},
        });
        serde_json::to_vec(&event).unwrap()
    }
}

const MANIFEST: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: ci-}
spec:
  entrypoint: say
  templates:
  - name: say
    container:
      image: busybox
      command: [echo, 'built {{workflow.annotations.k8s-webhook-handler.io/revision}}']
";

pub(crate) fn deliveries(house: &House) -> Vec<Value> {
    house.windlass(&["get", "delivery", "-o", "json"]).ok().json().as_array().unwrap().clone()
}

pub(crate) fn workflows(house: &House) -> Vec<String> {
    let list = house.windlass(&["list", "-o", "name"]).ok().stdout;
    list.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// The delivery's entry when the loop has decided about it.
pub(crate) fn decided(house: &House, which: impl Fn(&Value) -> bool) -> Value {
    until("the delivery is decided", Duration::from_secs(20), || {
        deliveries(house).into_iter().find(|d| which(d) && d["status"]["phase"].is_string())
    })
}

pub(crate) fn ready(case: &str) -> Option<House> {
    if program("git").is_none() {
        not_run(case, "there is no git");
        return None;
    }
    House::new(case)
}

fn up(house: &House) -> Up {
    house.up(&["--allow-path", house.path("src").to_str().unwrap()])
}

#[test]
fn the_same_delivery_twenty_times_is_one_workflow() {
    let Some(house) = ready("repeated deliveries") else { return };
    let repo = Repository::new(&house);
    let (commit, _) = repo.push(Some(MANIFEST));
    let body = repo.event(&commit);
    let id = "72d3162e-cc78-11e3-81ab-4c9367dc0958";
    let running = up(&house);
    let (address, signature) = (running.webhooks(), sign(&house, &body));
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| post(&address, "push", id, &signature, &body))).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(status, _)| (200..300).contains(status)), "{answers:?}");
    let delivery = decided(&house, |_| true);
    let name = delivery["status"]["workflow"]["name"].as_str().unwrap_or_else(|| panic!("{delivery:#}")).to_owned();
    house.windlass(&["wait", &name]).ok();
    house.windlass(&["logs", &name]).ok().says(&[&format!("built {commit}")]);
    running.end().exits(0);

    let running = up(&house);
    let (status, _) = post(&running.webhooks(), "push", id, &signature, &body);
    assert!((200..300).contains(&status));
    // Another one afterwards is decided when the first would have been.
    let (status, _) = post(&running.webhooks(), "push", "another", &signature, &body);
    assert_eq!(status, 202);
    until("the other delivery's workflow", Duration::from_secs(20), || (workflows(&house).len() == 2).then_some(()));
    assert_eq!(deliveries(&house).len(), 2);
    running.end().exits(0);
}

#[test]
fn a_push_of_git_starts_the_workflow_of_its_commit() {
    let Some(house) = ready("push") else { return };
    let repo = Repository::new(&house);
    let running = up(&house);
    house.windlass(&["hook", "install", &repo.bare()]).ok();
    let (commit, said) = repo.push(Some(MANIFEST));
    assert!(said.contains("windlass: push of refs/heads/main accepted"), "{said}");
    let delivery = decided(&house, |d| d["spec"]["event"]["event"] == "push");
    let name = delivery["status"]["workflow"]["name"].as_str().unwrap_or_else(|| panic!("{delivery:#}")).to_owned();
    house.windlass(&["wait", &name]).ok();
    let wf = house.windlass(&["get", &name, "-o", "json"]).ok().json();
    let annotations = wf["metadata"]["annotations"].as_object().unwrap();
    let ours: Vec<&String> = annotations.keys().filter(|k| k.starts_with("k8s-webhook-handler.io/")).collect();
    assert_eq!(ours.len(), 8, "{ours:?}");
    assert_eq!(annotations["k8s-webhook-handler.io/revision"], commit.as_str());
    // No `up`: the push itself is not hindered, and says what is to do.
    running.end().exits(0);
    let (_, said) = repo.push(Some(MANIFEST));
    assert!(said.contains("windlass up"), "{said}");
}

/// kill -9 while the manifest is being fetched, and while the manifest's objects are being made: what is there after the
/// next start is what one undisturbed delivery makes.
#[test]
fn a_kill_between_delivery_and_status_loses_and_doubles_nothing() {
    const OBJECTS: usize = 40;
    let Some(house) = ready("kill -9 in a delivery") else { return };
    let repo = Repository::new(&house);
    // Waits for ever: only that it was made counts here.
    let one = MANIFEST.replace("    container:\n      image: busybox\n      command:", "    suspend: {}\n#");
    let many = vec![one.as_str(); OBJECTS].join("---\n");
    let (commit, _) = repo.push(Some(&many));
    let open = Arc::new(AtomicBool::new(false));
    let host = Host::git(&house.path("src"), open.clone());
    let url = format!("http://{}/acme/app.git", host.address);
    let text = String::from_utf8(repo.event(&commit)).unwrap();
    let body = text.replace(&format!("file://{}", repo.bare()), &url).into_bytes();

    let running = up(&house);
    let (status, answer) = post(&running.webhooks(), "push", "killed", &sign(&house, &body), &body);
    assert_eq!(status, 202, "{answer}");
    // Stored and answered; the fetch is under way and will not end.
    until("the manifest is asked for", LONG, || (!host.asked().is_empty()).then_some(()));
    assert!(workflows(&house).is_empty());
    running.crash();

    open.store(true, Ordering::SeqCst);
    let running = up(&house);
    until("the first object is made", LONG, || (!workflows(&house).is_empty()).then_some(()));
    running.crash();
    let running = up(&house);
    let before = workflows(&house).len();
    println!("{before} of {OBJECTS} objects were there soon after the second kill");
    let delivery = decided(&house, |d| d["status"]["phase"] == "Submitted");
    let made = workflows(&house);
    assert_eq!(made.len(), OBJECTS, "{made:?}");
    assert_eq!(deliveries(&house).len(), 1);
    let first = delivery["status"]["workflow"]["name"].as_str().unwrap();
    assert!(made.iter().any(|name| name == first), "{delivery:#}");
    // Posted again: the same, still.
    let (status, _) = post(&running.webhooks(), "push", "killed", &sign(&house, &body), &body);
    assert!((200..300).contains(&status));
    running.crash();
    let running = up(&house);
    assert_eq!(workflows(&house).len(), OBJECTS);
    running.end().exits(0);
}

#[test]
fn what_is_refused_says_why() {
    let Some(house) = ready("refused deliveries") else { return };
    let repo = Repository::new(&house);
    let (none, _) = repo.push(None);
    let (faulty, _) = repo.push(Some(
        &MANIFEST.replace("entrypoint: say", "entrypoint: sya").replace("image:", "imgae:").replace("echo", "{a: b}"),
    ));
    let running = up(&house);
    let address = running.webhooks();
    let body = repo.event(&none);
    let (status, answer) = post(&address, "push", "bad", "sha256=00", &body);
    assert_eq!(status, 401, "{answer}");
    let large = vec![b' '; 40 << 20];
    let (status, answer) = post(&address, "push", "large", &sign(&house, &large), &large);
    assert_eq!(status, 413, "{answer}");
    let ping = br#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
    let (status, answer) = post(&address, "ping", "ping", &sign(&house, ping), ping);
    assert!((200..300).contains(&status), "{answer}");
    let (status, answer) = post(&address, "star", "star", &sign(&house, ping), ping);
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains("ignored") && answer.contains("star"), "{answer}");
    let not_json = b"{\"ref\": ";
    let (status, answer) = post(&address, "push", "torn", &sign(&house, not_json), not_json);
    assert_eq!(status, 400, "{answer}");
    assert!(workflows(&house).is_empty());

    let (status, _) = post(&address, "push", "no-manifest", &sign(&house, &body), &body);
    assert_eq!(status, 202);
    let after = |d: &Value, commit: &str| d.to_string().contains(commit);
    let delivery = decided(&house, |d| after(d, &none));
    let name = delivery["metadata"]["name"].as_str().unwrap();
    house.windlass(&["get", "delivery", name]).ok().says(&[".ci/workflow.yaml", &none[..7]]);

    let body = repo.event(&faulty);
    let (status, _) = post(&address, "push", "faulty", &sign(&house, &body), &body);
    assert_eq!(status, 202);
    let delivery = decided(&house, |d| after(d, &faulty));
    let name = delivery["metadata"]["name"].as_str().unwrap();
    let shown = house.windlass(&["get", "delivery", name]).ok();
    shown.says(&["`sya`", "did you mean `say`?", "`imgae`", ".ci/workflow.yaml:5", ".ci/workflow.yaml:9"]);

    // A repository that is not beneath --allow-path, and one that is gone.
    for (id, path) in [("outside", "/etc"), ("gone", house.path("src/gone.git").to_str().unwrap())] {
        let text = String::from_utf8(repo.event(&none)).unwrap().replace(&repo.bare(), path);
        let (status, _) = post(&address, "push", id, &sign(&house, text.as_bytes()), text.as_bytes());
        assert_eq!(status, 202);
        let delivery = decided(&house, |d| d.to_string().contains(&format!("file://{path}\"")));
        let message = delivery["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(path), "{delivery:#}");
    }
    assert!(workflows(&house).is_empty());
    running.end().exits(0);
}
