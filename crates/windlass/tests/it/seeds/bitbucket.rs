//! Article 002, "CI/CD With Argo On Kubernetes": a private Bitbucket repository over ssh, docker in docker, Ansible, S3.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::recorded::assert_as_recorded;
use super::registry::{PASSWORD, Registry, USER};
use super::repositories::Repositories;
use super::sshd::Sshd;
use super::{Reader, kaniko, seed, table};
use crate::deliveries::{git, sign};
use crate::docker;
use crate::house::{Up, is_root, not_run, run, until};
use crate::minio::minio;

const NS: &str = "argo";
const REGISTRY: &str = "docker-registry.k8s.bouweceunen.com";
const BUCKET: &str = "k8s-argo-artifacts-bucket.bouweceunen.com";
const REPOSITORY: &str = "bouwe_ceunen/crypto-gathering-backend";

/// Where this repository's manifest is: not where others have it.
const SETTINGS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: windlass-webhooks}
data:
  settings.yaml: |
    repositories:
    - name: bouwe_ceunen/*
      manifest: argo.yml
      sshPrivateKeySecret: {name: bitbucket-creds, key: id_rsa}
    bitbucketServer: {url: https://git.bouweceunen.com}
";

/// The modern way to clean up: it goes by itself.
const SHORT_LIVED: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: short-lived-}
spec:
  entrypoint: say
  ttlStrategy: {secondsAfterCompletion: 1}
  templates:
  - name: say
    archiveLocation: {archiveLogs: false}
    container: {image: aws-tools, command: [echo, gone soon]}
";

struct Case {
    reader: Reader,
    registry: Registry,
    _sshd: Sshd,
    tree: std::path::PathBuf,
}

/// All that the article has before its workflow runs.
fn begin(case: &str) -> Option<Case> {
    if !is_root() {
        not_run(case, "privileged containers and sshd need root");
        return None;
    }
    let needs = [
        ("git", "git"),
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("curl", "curl"),
        ("ansible-playbook", "ansible-core"),
        ("ssh-keygen", "openssh-client"),
    ];
    let mut reader = Reader::new(case, &needs)?;
    minio()?;
    docker::images(&reader.house, REGISTRY)?;
    reader.git_image("alpine/git");
    reader.ansible("bouwe/ansible-kubectl-credstash:0.0.1");
    reader.minio();
    reader.curl("aws-tools");
    let registry = Registry::start(reader.house.path("registry"));
    let sshd = Sshd::start(reader.house.path("sshd"));
    std::fs::write(reader.house.home().join("ssh_known_hosts"), sshd.known()).unwrap();
    let repositories = Repositories::new(reader.house.path("repositories"));
    let tree = repositories.make(REPOSITORY, "master", &[("README.md", "backend\n")]);
    let backend = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/seeds/backend/.");
    run(Command::new("cp").arg("-r").arg(backend).arg(&tree)).ok();
    std::fs::copy(seed("002/cicd.yaml"), tree.join("argo.yml")).unwrap();

    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let rules = [
        format!("{REGISTRY}={}", registry.address),
        format!("git@bitbucket.org:=ssh://{user}@{}{}/", sshd.address, repositories.bare().display()),
        format!("ssh://git@git.bouweceunen.com:7999/=ssh://{user}@{}{}/", sshd.address, repositories.bare().display()),
    ];
    let auth = json!({"auths": {REGISTRY: {"username": USER, "password": PASSWORD}}}).to_string();
    let config = reader.house.file("docker.json", &auth);
    let base = format!("{REGISTRY}/base:1");
    let push = ["image", "push", "registry.windlass.internal/base:1", &base, "--docker-config", &config];
    reader.windlass(&[&push[..], &["--remap-registry", &rules[0]]].concat()).ok();

    let endpoint = "s3.amazonaws.com=http://minio:9000";
    let mut command = reader.house.up_command(&[
        "--allow",
        "privileged",
        "--webhook-namespace",
        NS,
        "--remap-registry",
        &rules[0],
        "--remap-git",
        &rules[1],
        "--remap-git",
        &rules[2],
        "--remap-endpoint",
        endpoint,
    ]);
    // The article's machines have a role for the bucket; here it is the environment.
    command.env("AWS_ACCESS_KEY_ID", "admin").env("AWS_SECRET_ACCESS_KEY", "a long password");
    reader.up = Some(Up::of(command, reader.house.home()));

    for namespace in [NS, "backend", "backend-test"] {
        reader.kubectl(&["create", "namespace", namespace]).ok();
        let words = [
            "--docker-server".to_owned() + "=" + REGISTRY,
            format!("--docker-username={USER}"),
            format!("--docker-password={PASSWORD}"),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let secret = ["create", "secret", "docker-registry", "regcred", "-n", namespace];
        reader.kubectl(&[&secret[..], &words].concat()).ok();
    }
    reader.kubectl(&["create", "serviceaccount", "argo", "-n", NS]).ok();
    reader.kubectl(&["apply", "-f", &seed("002/argo-cluster-role.yaml")]).ok();
    let binding =
        ["create", "clusterrolebinding", "argo", "--clusterrole=argo-cluster-role", "--serviceaccount=argo:argo"];
    reader.kubectl(&binding).ok();
    reader.kubectl(&["apply", "-f", &seed("002/workflow-controller-configmap.yaml")]).ok();
    let key = format!("--from-file=id_rsa={}", sshd.key().display());
    reader.kubectl(&["create", "secret", "generic", "bitbucket-creds", "-n", NS, &key]).ok();
    reader.apply(NS, "settings.yaml", SETTINGS);
    reader.apply(NS, "minio.yaml", kaniko::MINIO);
    reader.kubectl(&["rollout", "status", "-n", NS, "deployment/minio", "--timeout=60s"]).ok();
    kaniko::make_bucket(&reader, NS, BUCKET);
    Some(Case { reader, registry, _sshd: sshd, tree })
}

/// Bitbucket Cloud's push, as it posts it.
fn bitbucket(case: &Case, commit: &str) -> Value {
    let body = json!({
        "actor": {"display_name": "a"},
        "repository": {"full_name": REPOSITORY, "name": "crypto-gathering-backend", "scm": "git", "is_private": true,
            "links": {"html": {"href": format!("https://bitbucket.org/{REPOSITORY}")}}},
        "push": {"changes": [{
            "created": false, "closed": false, "forced": false, "truncated": false,
            "old": {"type": "branch", "name": "master", "target": {"type": "commit", "hash": "0".repeat(39) + "1"}},
            "new": {"type": "branch", "name": "master", "target": {"type": "commit", "hash": commit}},
        }]},
    });
    delivered(case, "bitbucket", &["-H", "X-Event-Key: repo:push", "-H", "X-Request-UUID: 4b1e"], &body)
}

/// The push of Bitbucket Server, or Data Center: no URLs, the project by its key.
fn bitbucket_server(case: &Case, before: &str, commit: &str) -> Value {
    let body = json!({
        "eventKey": "repo:refs_changed",
        "date": "2017-09-13T11:18:36+1000",
        "actor": {"name": "admin", "emailAddress": "admin@example.org", "id": 1, "active": true, "slug": "admin"},
        "repository": {"slug": "crypto-gathering-backend", "id": 84, "name": "Crypto Gathering Backend", "scmId": "git",
            "state": "AVAILABLE", "forkable": true, "public": false,
            "project": {"key": "BOUWE_CEUNEN", "id": 84, "name": "Bouwe Ceunen", "public": false, "type": "NORMAL"}},
        "changes": [{
            "ref": {"id": "refs/heads/master", "displayId": "master", "type": "BRANCH"},
            "refId": "refs/heads/master", "fromHash": before, "toHash": commit, "type": "UPDATE",
        }],
    });
    delivered(case, "bitbucketserver", &["-H", "X-Event-Key: repo:refs_changed", "-H", "X-Request-Id: f8b5"], &body)
}

/// Posts an event and gives the workflow that came of it, ended.
fn delivered(case: &Case, door: &str, headers: &[&str], body: &Value) -> Value {
    let body = body.to_string();
    let file = case.reader.house.file("push.json", &body);
    let url = format!("http://{}/webhooks/{door}", case.reader.up().webhooks());
    let signature = format!("X-Hub-Signature: {}", sign(&case.reader.house, body.as_bytes()));
    let data = format!("@{file}");
    let headers = [headers, &["-H", &signature]].concat();
    let provider = |d: &Value| d["spec"]["event"]["provider"] == door;
    let kind = ["-H", "Content-Type: application/json", "--data-binary", &data, &url];
    let said = run(Command::new("curl").arg("-sS").args(headers).args(kind)).ok();
    let mut list = Value::Null;
    let decided = until("the delivery is decided", Duration::from_secs(20), || {
        list = case.reader.windlass(&["-n", NS, "get", "delivery", "-o", "json"]).ok().json();
        list.as_array()?
            .iter()
            .find(|d| provider(d) && d["status"]["phase"].is_string() && d["status"]["phase"] != "Fetching")
            .cloned()
    });
    let name = decided["status"]["workflow"]["name"].as_str().unwrap_or_else(|| panic!("{}\n{decided:#}", said.stdout));
    case.reader.ended(NS, name)
}

#[test]
fn continuous_integration_with_argo() {
    let Some(case) = begin("article 002") else { return };
    let reader = &case.reader;
    git(&case.tree, &["add", "-A"]);
    git(&case.tree, &["commit", "-q", "-m", "the pipeline"]);
    git(&case.tree, &["push", "-q", "origin", "master"]);
    let commit = git(&case.tree, &["rev-parse", "HEAD"]);
    let tag = git(&case.tree, &["rev-parse", "--short", "HEAD"]);

    let done = reader.succeeded(bitbucket(&case, &commit));
    insta::assert_snapshot!("cicd", table::of(&done).replace(&tag, "TAG"));
    assert_as_recorded("002-cicd", &done, &[&commit]);
    let image = format!("crypto-gathering/crypto-gathering-backend:{tag}");
    case.registry.has(&image);
    let logs = reader.logs(&done);
    assert!(logs.contains("12 passing") && logs.contains("digest: sha256:"), "{logs}");
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployed = reader.kubectl(&["get", "deployment", "backend", "-n", "backend", "-o", path]).ok().stdout;
    assert_eq!(deployed, format!("{REGISTRY}/{image}"));
    reader.kubectl(&["get", "deployment", "backend", "-n", "backend-test"]).exits(1).says(&["NotFound"]);
    let name = done["metadata"]["name"].as_str().unwrap();
    let selector = format!("workflows.argoproj.io/workflow={name},app=argo");
    let pods = reader.kubectl(&["get", "pods", "-n", NS, "-l", &selector, "-o", "json"]).ok().json();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 4, "each template says app: argo");
    assert!(pods.iter().all(|p| p["spec"]["hostNetwork"] == true));
    let limits = &pods[0]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["memory"], "800Mi", "{limits:#}");
    let key = std::fs::read_to_string(case._sshd.key()).unwrap();
    let workflow = done.to_string();
    assert!(!workflow.contains(key.lines().nth(1).unwrap()) && !workflow.contains(PASSWORD));
    for address in [&case.registry.address, &case._sshd.address] {
        assert!(!workflow.contains(address), "a mapped name is in the workflow");
    }

    // The same from a Bitbucket of one's own.
    std::fs::write(case.tree.join("README.md"), "backend, again\n").unwrap();
    git(&case.tree, &["commit", "-q", "-a", "-m", "words"]);
    git(&case.tree, &["push", "-q", "origin", "master"]);
    let second = git(&case.tree, &["rev-parse", "HEAD"]);
    let again = reader.succeeded(bitbucket_server(&case, &commit, &second));
    assert_as_recorded("002-cicd", &again, &[&second]);
    let ssh = "ssh://git@git.bouweceunen.com:7999/bouwe_ceunen/crypto-gathering-backend.git";
    assert_eq!(again["metadata"]["annotations"]["k8s-webhook-handler.io/repo_ssh"], ssh);
    case.registry.has(&format!("crypto-gathering/crypto-gathering-backend:{}", &second[..tag.len()]));

    let file = reader.house.file("short-lived.yaml", SHORT_LIVED);
    let short = reader.succeeded(reader.submit(NS, &[&file]));
    let short = short["metadata"]["name"].as_str().unwrap();
    until("the workflow went by itself, and its pod", Duration::from_secs(30), || {
        let gone =
            reader.kubectl(&["get", "workflow", short, "-n", NS, "--ignore-not-found", "-o", "name"]).ok().stdout;
        let selector = format!("workflows.argoproj.io/workflow={short}");
        let pods = reader.kubectl(&["get", "pods", "-n", NS, "-l", &selector, "-o", "name"]).ok().stdout;
        (gone + &pods).trim().is_empty().then_some(())
    });

    // The clean-up, when its time has come.
    reader.apply(NS, "cleanup.yaml", include_str!("cleanup.yaml"));
    let emptied = reader.succeeded(reader.submit(NS, &["--from", "cronwf/empty-bucket"]));
    let logs = reader.logs(&emptied);
    assert!(logs.contains(&format!("deleted {name}/")), "{logs}");
    reader.kubectl(&["create", "job", "now", "-n", NS, "--from=cronjob/delete-workflows"]).ok();
    reader.kubectl(&["wait", "-n", NS, "job/now", "--for=condition=Complete", "--timeout=60s"]).ok();
    until("the workflows are gone", Duration::from_secs(30), || {
        let left = reader.kubectl(&["get", "workflows", "-n", NS, "-o", "name"]).ok().stdout;
        left.trim().is_empty().then_some(())
    });
    let Case { mut reader, .. } = case;
    reader.end();
}
