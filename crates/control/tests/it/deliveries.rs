//! Deliveries from stored event to created Workflow, with repositories made by the git program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_artifacts::AllowPaths;
use windlass_artifacts::git::{GitAccess, Mirrors};
use windlass_control::delivery::{DeliveryLoop, Settings};

use crate::stage::Stage;

const MANIFEST: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata:\n  generateName: ci-\nspec:\n  \
    entrypoint: main\n  templates:\n  - name: main\n    container: {image: busybox, command: [\"true\"]}\n";

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.org");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

struct House {
    dir: tempfile::TempDir,
    stage: Stage,
}

impl House {
    /// Nothing where git is missing, and says so.
    async fn new() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("!!! NOT RUN: the git program is missing; install git to run this test");
            return None;
        }
        Some(Self { dir: tempfile::tempdir().unwrap(), stage: Stage::new().await })
    }

    /// A repository with this manifest; answers its path and commit.
    fn repo(&self, name: &str, manifest: Option<&str>) -> (PathBuf, String) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.join(".ci")).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        std::fs::write(path.join("README"), name).unwrap();
        if let Some(manifest) = manifest {
            std::fs::write(path.join(".ci/workflow.yaml"), manifest).unwrap();
        }
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "one"]);
        let commit = git(&path, &["rev-parse", "HEAD"]);
        (path, commit)
    }

    fn api(&self, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1alpha1", kind), plural);
        Api::namespaced_with(self.stage.client.clone(), "default", &resource)
    }

    fn deliveries(&self) -> Api<DynamicObject> {
        self.api("windlass.dev", "Delivery", "deliveries")
    }

    async fn workflows(&self) -> Vec<DynamicObject> {
        self.api("argoproj.io", "Workflow", "workflows").list(&ListParams::default()).await.unwrap().items
    }

    async fn deliver(&self, name: &str, event: &str, url: &str, revision: &str) {
        let object = json!({
            "apiVersion": "windlass.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": name},
            "spec": {"event": {
                "provider": "github", "event": event, "deliveryId": name, "ref": "refs/heads/main", "revision": revision,
                "repo": {"fullName": format!("acme/{name}"), "cloneUrl": url},
            }},
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.deliveries().create(&PostParams::default(), &object).await.unwrap();
    }

    fn start(&self, settings: Settings) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let allow = AllowPaths::new([self.dir.path().to_owned()]);
        let mirrors =
            Arc::new(Mirrors::new(self.dir.path().join("mirrors"), GitAccess { allow, ..GitAccess::default() }));
        let stop = CancellationToken::new();
        let running = DeliveryLoop::new(self.stage.client.clone(), mirrors, settings).run(stop.clone());
        (stop, tokio::spawn(async move { running.await.unwrap() }))
    }

    /// Waits for a phase, and answers the status.
    async fn until(&self, name: &str, what: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..400 {
            let status = self.deliveries().get(name).await.unwrap().data["status"].clone();
            if what(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name}: {}", self.deliveries().get(name).await.unwrap().data["status"]);
    }

    async fn finished(&self, name: &str) -> Value {
        self.until(name, |status| matches!(status["phase"].as_str(), Some("Submitted" | "Ignored" | "Failed"))).await
    }
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[tokio::test]
async fn a_push_becomes_one_workflow_whatever_happens() {
    let Some(house) = House::new().await else { return };
    let (path, commit) = house.repo("app", Some(MANIFEST));
    house.deliver("app", "push", &url(&path), &commit).await;
    let (stop, running) = house.start(Settings::default());
    let status = house.finished("app").await;
    assert_eq!(status["phase"], "Submitted", "{status}");
    let workflows = house.workflows().await;
    assert_eq!(workflows.len(), 1);
    let name = workflows[0].metadata.name.clone().unwrap();
    assert_eq!(status["workflow"], json!({"namespace": "default", "name": name}));
    assert!(name.starts_with("ci-"));
    let annotations = workflows[0].metadata.annotations.clone().unwrap();
    assert_eq!(annotations["k8s-webhook-handler.io/revision"], commit);
    assert_eq!(annotations["windlass.dev/repo_clone_url"], url(&path));
    // A deletion reads the default branch.
    house.deliver("gone", "delete", &url(&path), "").await;
    assert_eq!(house.finished("gone").await["phase"], "Submitted");
    assert_eq!(house.workflows().await.len(), 2);
    stop.cancel();
    running.await.unwrap();
    // As after a crash between create and status: the status is not there, the Workflow is.
    let patch = json!({"status": {"phase": null, "reason": null, "message": null, "workflow": null}});
    house.deliveries().patch_status("app", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let (stop, running) = house.start(Settings::default());
    assert_eq!(house.finished("app").await["workflow"]["name"], name.as_str());
    assert_eq!(house.workflows().await.len(), 2);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn every_failure_is_said_in_the_status() {
    let Some(house) = House::new().await else { return };
    let (without, commit) = house.repo("without", None);
    house.deliver("missing", "push", &url(&without), &commit).await;
    let (wrong, commit) = house
        .repo("wrong", Some("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {}\nspec: {entrypont: x}\n"));
    house.deliver("wrong", "push", &url(&wrong), &commit).await;
    let (fixed, commit) = house.repo("fixed", Some(&MANIFEST.replace("generateName: ci-", "name: fixed")));
    house.deliver("first", "push", &url(&fixed), &commit).await;
    house.deliver("outside", "push", "file:///etc", "").await;
    house.deliver("lost", "push", &url(&fixed), &"1".repeat(40)).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.deliver("away", "push", &format!("http://{closed}/app.git"), &commit).await;
    let settings =
        Settings { backoff: Duration::from_millis(300), give_up_after: Duration::from_secs(2), ..Settings::default() };
    let (stop, running) = house.start(settings);
    let waiting = house.until("away", |status| status["phase"] == "Fetching").await;
    assert_eq!(waiting["reason"], "HostUnreachable");
    assert!(waiting["message"].as_str().unwrap().contains("trying again in"), "{waiting}");
    assert_eq!(house.finished("first").await["phase"], "Submitted");
    house.deliver("second", "push", &url(&fixed), &commit).await;
    for (name, phase, reason, text) in [
        ("missing", "Ignored", "MissingManifest", ".ci/workflow.yaml"),
        ("wrong", "Failed", "InvalidManifest", "entrypont"),
        ("outside", "Failed", "PathNotAllowed", "--allow-path"),
        ("lost", "Failed", "MissingRevision", "1111"),
        ("away", "Failed", "HostUnreachable", "given up after"),
        ("second", "Failed", "NameTaken", "generateName"),
    ] {
        let status = house.finished(name).await;
        assert_eq!(
            (status["phase"].as_str(), status["reason"].as_str()),
            (Some(phase), Some(reason)),
            "{name}: {status}"
        );
        assert!(status["message"].as_str().unwrap().contains(text), "{name}: {status}");
    }
    let wrong = house.finished("wrong").await;
    assert!(wrong["diagnostics"].as_array().unwrap().len() >= 2, "{wrong}");
    assert_eq!(house.workflows().await.len(), 1);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn old_deliveries_go() {
    let Some(house) = House::new().await else { return };
    for n in 0..6 {
        house.deliver(&format!("d{n}"), "push", "file:///nowhere", "").await;
    }
    let (stop, running) = house.start(Settings { keep: 2, ..Settings::default() });
    for _ in 0..200 {
        if house.deliveries().list(&ListParams::default()).await.unwrap().items.len() <= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = house.deliveries().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.len(), 2);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_bitbucket_push_runs_the_file_that_the_settings_name() {
    let Some(house) = House::new().await else { return };
    // A server whose clone URLs are `{url}/scm/{project}/{repository}.git`.
    let (path, commit) = house.repo("scm/cg/backend.git", None);
    std::fs::write(path.join("argo.yml"), MANIFEST).unwrap();
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-q", "-m", "two"]);
    let second = git(&path, &["rev-parse", "HEAD"]);
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(house.stage.client.clone(), "default");
    let set = async |text: &str| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "windlass-webhooks"},
            "data": {"settings.yaml": text}});
        let params = PatchParams::default();
        if maps.patch("windlass-webhooks", &params, &Patch::Merge(&map)).await.is_err() {
            maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
        }
    };
    let deliver = async |name: &str, event: &str, revision: &str| {
        let object = json!({
            "apiVersion": "windlass.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": name},
            "spec": {"event": {
                "provider": "bitbucketserver", "event": event, "deliveryId": name, "ref": "refs/heads/main",
                "revision": revision, "repo": {"fullName": "CG/backend", "owner": "CG", "name": "backend"},
            }},
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        house.deliveries().create(&PostParams::default(), &object).await.unwrap();
        house.finished(name).await
    };
    let (stop, running) = house.start(Settings::default());
    let status = deliver("unset", "push", &second).await;
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NoCloneUrl")), "{status}");
    set("repositories: [{name: CG/*, manifest: 7}]").await;
    let status = deliver("wrong", "push", &second).await;
    assert_eq!(status["reason"], "InvalidSettings", "{status}");
    let server = format!("bitbucketServer: {{url: '{}'}}\n", url(house.dir.path()));
    set(&format!("{server}repositories: [{{name: CG/*, manifest: argo.yml}}]")).await;
    let status = deliver("first", "push", &commit).await;
    assert_eq!(status["reason"], "MissingManifest", "{status}");
    let secret = "sshPrivateKeySecret: {name: bitbucket-creds, key: id_rsa}";
    set(&format!("{server}repositories: [{{name: CG/*, {secret}}}]")).await;
    let status = deliver("no-secret", "push", &second).await;
    assert_eq!(status["reason"], "InvalidSettings", "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("the key id_rsa of the Secret default/bitbucket-creds"), "{message}");
    set(&format!("{server}repositories: [{{name: CG/*, manifest: argo.yml}}]")).await;
    let status = deliver("second", "push", &second).await;
    assert_eq!(status["phase"], "Submitted", "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("argo.yml at {} made", &second[..12])), "{message}");
    let workflows = house.workflows().await;
    let annotations = workflows[0].metadata.annotations.clone().unwrap();
    assert_eq!(annotations["k8s-webhook-handler.io/repo_name"], "CG/backend");
    assert!(annotations["k8s-webhook-handler.io/repo_url"].ends_with("/scm/cg/backend.git"));
    assert_eq!(annotations["k8s-webhook-handler.io/event_type"], "push");
    // A deletion reads the default branch.
    assert_eq!(deliver("gone", "delete", "").await["phase"], "Submitted");
    stop.cancel();
    running.await.unwrap();
}
