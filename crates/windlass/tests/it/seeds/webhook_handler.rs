//! Article 003, "Kubernetes Native CI With Argo": workflows of a repository's own, started by its webhooks.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::recorded::assert_as_recorded;
use super::registry::{PASSWORD, Registry, USER};
use super::repositories::{Repositories, commit, push};
use super::{Reader, seed, table};
use crate::deliveries::git;
use crate::house::{program, run, until};

const REPOSITORY: &str = "airbnb/k8s-webhook-handler";
const ECR: &str = "xxx.dkr.ecr.us-east-1.amazonaws.com";

const DOCKERFILE: &str = "\
FROM golang:1.14 AS builder
WORKDIR /src
COPY go.mod main.go ./
RUN CGO_ENABLED=0 go install ./...

FROM scratch
COPY --from=builder /go/bin/k8s-webhook-handler /
ENTRYPOINT [\"/k8s-webhook-handler\"]
";

const GO: &str = "\
package main

import \"time\"

func main() {
\tprintln(\"handling webhooks\")
\ttime.Sleep(time.Hour)
}
";

/// The account of the workflows, and what it may do; the ConfigMap as the article has it.
const CLUSTER: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: ci-workflow}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ci-workflow}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ci-workflow}
subjects: [{kind: ServiceAccount, name: ci-workflow}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ci-workflow}
---
apiVersion: v1
apiVersion: apps/v1
kind: Deployment
metadata: {name: k8s-webhook-handler}
spec:
  selector: {matchLabels: {app: k8s-webhook-handler}}
  template:
    metadata: {labels: {app: k8s-webhook-handler}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: k8s-webhook-handler, image: 'k8s-webhook-handler:before'}]
";

/// What the tools of the article's last part need beside.
const MORE: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ci-workflow}
rules:
- {apiGroups: [''], resources: [namespaces, configmaps, secrets], verbs: [get, create, patch, delete, list, watch]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ci-workflow}
subjects: [{kind: ServiceAccount, name: ci-workflow, namespace: default}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ci-workflow}
---
apiVersion: v1
kind: Secret
metadata: {name: ci-secrets}
stringData: {github-token: a-token, slack-url: 'http://outside.world/services/T0/B0/x'}
---
apiVersion: v1
kind: Namespace
metadata: {name: world}
---
apiVersion: v1
kind: Pod
metadata: {name: outside, namespace: world, labels: {app: outside}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: record, image: custom-ci-tools-image, command: [record]}]
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: world}
spec: {selector: {app: outside}, ports: [{port: 80}]}
";

/// The article's ConfigMap. Its registry gives its rights to the pod's role; here there is a password for it.
const STORE: &str = "{ \"credsStore\": \"ecr-login\" }";

/// The same with the password of the account.
fn with_password() -> String {
    json!({"credsStore": "ecr-login", "auths": {ECR: {"username": USER, "password": PASSWORD}}}).to_string()
}

struct Case {
    reader: Reader,
    registry: Registry,
    _git: crate::hosts::Host,
    repositories: Repositories,
}

fn begin(case: &str) -> Option<Case> {
    let needs = [
        ("git", "git"),
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("curl", "curl"),
        ("uvicorn", "uvicorn python3-fastapi"),
    ];
    if program("go").is_none() {
        // As for MinIO, which is built with it.
        println!("NOT RUN: {case}: there is no Go");
        eprintln!("NOT RUN: {case}: there is no Go");
        return None;
    }
    let mut reader = Reader::new(case, &needs)?;
    reader.golang("golang:1.14");
    reader.kubectl_image("bitnami/kubectl:1.17.4");
    reader.sleeper("k8s-webhook-handler:before");
    let repositories = Repositories::new(reader.house.path("repositories"));
    let registry = Registry::start(reader.house.path("registry"));
    let host = repositories.serve();
    let rules = [
        format!("{ECR}={}", registry.address),
        format!("https://github.com/=http://{}/", host.address),
        format!("git@github.com:=http://{}/", host.address),
    ];
    reader.begin(&["--remap-registry", &rules[0], "--remap-git", &rules[1], "--remap-git", &rules[2]]);
    reader.apply("default", "cluster.yaml", CLUSTER);
    docker_config(&reader, &with_password());
    pull_secret(&reader, PASSWORD);
    Some(Case { reader, registry, _git: host, repositories })
}

/// The ConfigMap that builds mount.
fn docker_config(reader: &Reader, text: &str) {
    let file = reader.house.file("config.json", text);
    reader.kubectl(&["delete", "configmap", "docker-config", "--ignore-not-found"]).ok();
    reader.kubectl(&["create", "configmap", "docker-config", &format!("--from-file={file}")]).ok();
}

/// The Secret that pods pull with.
fn pull_secret(reader: &Reader, password: &str) {
    reader.kubectl(&["delete", "secret", "ecr", "--ignore-not-found"]).ok();
    let (server, user) = (format!("--docker-server={ECR}"), format!("--docker-username={USER}"));
    let password = format!("--docker-password={password}");
    reader.kubectl(&["create", "secret", "docker-registry", "ecr", &server, &user, &password]).ok();
    let patch = r#"{"imagePullSecrets": [{"name": "ecr"}]}"#;
    reader.kubectl(&["patch", "serviceaccount", "default", "-p", patch]).ok();
}

impl Case {
    fn repository(&self) -> std::path::PathBuf {
        let files = [
            ("go.mod", "module github.com/airbnb/k8s-webhook-handler\n\ngo 1.14\n"),
            ("main.go", GO),
            ("Dockerfile", DOCKERFILE),
        ];
        self.repositories.make(REPOSITORY, "master", &files)
    }

    fn image(&self) -> String {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        self.reader.kubectl(&["get", "deployment", "k8s-webhook-handler", "-o", path]).ok().stdout
    }
}

/// The seed becomes `.ci/workflow.yaml`.
fn with_manifest(tree: &std::path::Path, text: &str) -> String {
    let id = commit(tree, &[(".ci/workflow.yaml", text)]);
    push(tree, "HEAD");
    id
}

fn table_of(workflow: &Value, commit: &str) -> String {
    table::of(workflow).replace(commit, "COMMIT")
}

#[test]
fn kubernetes_native_ci() {
    let Some(mut case) = begin("article 003") else { return };
    let reader = &case.reader;
    reader.golang("golang:1.10");
    let argo = case.repositories.make("argoproj/argo", "master", &[("VERSION", "2.1.1\n"), ("README.md", "argo\n")]);
    git(&argo, &["tag", "v2.1.1"]);
    push(&argo, "v2.1.1");
    commit(&argo, &[("VERSION", "2.2.0\n")]);
    push(&argo, "master");
    let done = reader.succeeded(reader.submit("default", &[&seed("003/input-artifact-git.yaml")]));
    let logs = reader.logs(&done);
    assert!(logs.contains("nothing to commit, working tree clean") && logs.contains(": 2.1.1"), "{logs}");
    insta::assert_snapshot!("input_artifact_git", table::of(&done));
    assert_as_recorded("003-input-artifact-git", &done, &[]);

    let tree = case.repository();
    let read = |name: &str| std::fs::read_to_string(seed(name)).unwrap();
    let id = with_manifest(&tree, &read("003/build.yaml"));
    let done = reader.succeeded(reader.pushed(REPOSITORY, "master", &id));
    insta::assert_snapshot!("build", table_of(&done, &id));
    assert_as_recorded("003-build", &done, &[&id]);
    let key = table::node(&done, done["metadata"]["name"].as_str().unwrap())["outputs"]["artifacts"][0].clone();
    assert!(key.to_string().contains("binaries"), "{key:#}");
    let archives =
        run(Command::new("find").arg(reader.house.home().join("artifacts")).args(["-name", "binaries.tgz*"])).ok();
    let listed = run(Command::new("tar").arg("-tzf").arg(archives.stdout.lines().next().unwrap())).ok().stdout;
    assert!(listed.contains("k8s-webhook-handler"), "{listed}");

    let id = with_manifest(&tree, &read("003/kaniko.yaml"));
    let done = reader.succeeded(reader.pushed(REPOSITORY, "master", &id));
    insta::assert_snapshot!("kaniko", table_of(&done, &id));
    assert_as_recorded("003-kaniko", &done, &[&id]);
    let config = case.registry.has(&format!("k8s-webhook-handler:{id}"));
    assert_eq!(config["config"]["Entrypoint"][0], "/k8s-webhook-handler");
    let name = done["metadata"]["name"].as_str().unwrap();
    let pods = ["get", "pods", "-l", &format!("workflows.argoproj.io/workflow={name}"), "-o", "yaml"];
    let pods = reader.kubectl(&pods).ok().stdout;
    assert!(pods.contains("iam.amazonaws.com/role: ci-role"), "{pods}");

    let id = with_manifest(&tree, &read("003/deploy.yaml"));
    let done = reader.succeeded(reader.pushed(REPOSITORY, "master", &id));
    insta::assert_snapshot!("deploy", table_of(&done, &id));
    assert_as_recorded("003-deploy", &done, &[&id]);
    assert_eq!(case.image(), format!("{ECR}/k8s-webhook-handler:{id}"));
    reader.kubectl(&["rollout", "status", "deployment/k8s-webhook-handler", "--timeout=60s"]).ok();

    case.tools();
    let reader = &case.reader;
    let id = with_manifest(&tree, &read("003/push-delete.yaml"));
    let done = reader.succeeded(reader.pushed(REPOSITORY, "master", &id));
    insta::assert_snapshot!("push", table_of(&done, &id));
    assert_as_recorded("003-push", &done, &[&id]);
    assert_eq!(case.image(), format!("{ECR}/k8s-webhook-handler:{id}"));
    let more = reader.house.file("more.yaml", MORE);
    reader.kubectl(&["apply", "-f", &more]).ok();
    reader.kubectl(&["create", "namespace", "preview-feature-x"]).ok();
    let done = reader.succeeded(reader.branch_deleted(REPOSITORY, "feature/x"));
    insta::assert_snapshot!("delete", table_of(&done, &id));
    assert_as_recorded("003-delete", &done, &[&id]);
    reader.kubectl(&["get", "namespace", "preview-feature-x"]).exits(1).says(&["NotFound"]);

    case.previews(&tree);
    case.without_the_password(&tree);
    case.without_the_helper(&tree);
    case.reader.end();
}

impl Case {
    /// The scripts that the article's own image has.
    fn tools(&self) {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/seeds/tools");
        self.reader.tools_image("custom-ci-tools-image", &from);
    }

    /// Who has no password is refused, for pushes and for pulls, and is told so by the name that the manifest has.
    fn without_the_password(&self, tree: &std::path::Path) {
        let reader = &self.reader;
        let pushed = commit(tree, &[("README.md", "no password\n")]);
        let text = std::fs::read_to_string(seed("003/kaniko.yaml")).unwrap();
        docker_config(reader, STORE);
        let id = with_manifest(tree, &text);
        assert_ne!(id, pushed);
        let failed = reader.pushed(REPOSITORY, "master", &id);
        assert_eq!(failed["status"]["phase"], "Failed", "{}", table::of(&failed));
        let message = failed["status"]["message"].as_str().unwrap();
        assert!(message.contains(ECR) && message.contains("refused"), "{message}");
        assert!(!failed.to_string().contains(&self.registry.address), "{failed:#}");

        pull_secret(reader, &format!("not-{PASSWORD}"));
        let image = self.image();
        let (image, policy) = (format!("--image={image}"), "--image-pull-policy=Always");
        reader.kubectl(&["run", "refused", &image, policy, "--restart=Never"]).ok();
        let path = "jsonpath={.status.containerStatuses[0].state.waiting.message}";
        let said = until("the pull is refused", Duration::from_secs(60), || {
            let said = reader.kubectl(&["get", "pod", "refused", "-o", path]).ok().stdout;
            said.contains("refused").then_some(said)
        });
        assert!(said.contains(ECR) && !said.contains(&self.registry.address), "{said}");
        let events = reader.kubectl(&["get", "events", "-A", "-o", "json"]).ok().stdout;
        assert!(!events.contains(&self.registry.address), "a mapped name is in an event");
    }

    /// A registry that no rule stands for: the article's program is asked for its credential, is absent, and is named.
    fn without_the_helper(&self, tree: &std::path::Path) {
        let address = &self.registry.address;
        let text = std::fs::read_to_string(seed("003/kaniko.yaml")).unwrap().replace(ECR, address);
        let id = with_manifest(tree, &text);
        let before = self.reader.up().said();
        assert!(!before.contains("ecr-login"), "it was asked about a registry that a rule stands for: {before}");
        let failed = self.reader.pushed(REPOSITORY, "master", &id);
        let message = failed["status"]["message"].as_str().unwrap();
        assert!(message.contains("no credential for it was found"), "{message}");
        let said = self.reader.up().said();
        let warning =
            said.lines().find(|l| l.contains("docker-credential-ecr-login")).unwrap_or_else(|| panic!("{said}"));
        assert!(warning.contains("WARN") && warning.contains("continuing without it"), "{warning}");
        assert!(warning.contains(address.as_str()), "{warning}");
    }

    /// Checksums as tags, commit statuses, Slack, and a namespace a branch.
    fn previews(&self, tree: &std::path::Path) {
        let reader = &self.reader;
        reader.kubectl(&["wait", "-n", "world", "pod/outside", "--for=condition=Ready", "--timeout=60s"]).ok();
        git(tree, &["checkout", "-q", "-b", "feature/previews"]);
        let id = with_manifest(tree, include_str!("previews.yaml"));
        let done = reader.succeeded(reader.pushed(REPOSITORY, "feature/previews", &id));
        let tag =
            table::node(&done, "calculate-tags")["outputs"]["parameters"][0]["value"].as_str().unwrap().to_owned();
        insta::assert_snapshot!("preview", table_of(&done, &id).replace(&tag, "IMAGE"));
        self.registry.has(tag.split_once('/').unwrap().1);
        let preview = "preview-feature-previews";
        let pods = reader.kubectl(&["get", "pods", "-n", preview, "-o", "name"]).ok().stdout;
        reader.kubectl(&["logs", "-n", preview, pods.trim()]).ok().says(&["handling webhooks"]);

        // Nothing that goes into the image has changed: it is not built again.
        let again = commit(tree, &[("README.md", "words\n")]);
        push(tree, "HEAD");
        let done = reader.succeeded(reader.pushed(REPOSITORY, "feature/previews", &again));
        assert_eq!(table::node(&done, "build")["type"], "Skipped", "{}", table::of(&done));
        // It does not compile: that is told too.
        let broken = commit(tree, &[("main.go", "package main\n\nfunc main() { nothing }\n")]);
        push(tree, "HEAD");
        let failed = reader.pushed(REPOSITORY, "feature/previews", &broken);
        assert_eq!(failed["status"]["phase"], "Failed");
        git(tree, &["checkout", "-q", "master"]);
        let last = with_manifest(tree, include_str!("previews.yaml"));
        assert_ne!(last, broken);
        let gone = reader.succeeded(reader.branch_deleted(REPOSITORY, "feature/previews"));
        until("the namespace is gone", Duration::from_secs(30), || {
            (reader.kubectl(&["get", "namespace", preview]).code != Some(0)).then_some(())
        });

        let heard = reader.kubectl(&["logs", "-n", "world", "outside"]).ok().stdout;
        let status = |id: &str, state: &str| {
            let path = format!("/repos/{REPOSITORY}/statuses/{id} Bearer a-token");
            format!("{path} {{\"state\": \"{state}\", \"context\": \"ci\"}}")
        };
        let slack = |wf: &Value, word: &str| {
            format!("/services/T0/B0/x - {{\"text\": \"{}: {word}\"}}", wf["metadata"]["name"].as_str().unwrap())
        };
        for line in [
            status(&id, "pending"),
            status(&id, "success"),
            status(&again, "success"),
            status(&broken, "failure"),
            slack(&failed, "Failed"),
            slack(&gone, "Succeeded"),
        ] {
            assert!(heard.lines().any(|l| l == line), "{line}\nis not in\n{heard}");
        }
        let tokens = reader.windlass(&["get", failed["metadata"]["name"].as_str().unwrap(), "-o", "yaml"]).ok().stdout;
        assert!(!tokens.contains("a-token"), "{tokens}");
    }
}
