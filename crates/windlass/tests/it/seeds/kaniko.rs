//! Articles 000 and 001, "Build CI Workflow": Argo Workflows, Kaniko and MinIO, in English and in Korean.

use std::time::Duration;

use super::recorded::assert_as_recorded;
use super::registry::{PASSWORD, Registry, USER};
use super::repositories::Repositories;
use super::{Reader, get, seed, table};
use crate::house::{run, until};
use crate::minio::minio;

/// The application as the article shows it.
const MAIN: &str = "\
import os
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

app = FastAPI()

git_value = \"github main branch\"
outer_value = os.environ.get(\"FROM_ARGO\", \"Not from Argo\")

@app.get(\"/\")
def read_root():
    return RedirectResponse(\"/docs\")


@app.get(\"/value/git\")
def read_git():
    return git_value


@app.get(\"/value/argo\")
def read_git():
    return outer_value
";

const DOCKERFILE: &str = "\
FROM python:3.9
ARG FROM_ARGO
ENV FROM_ARGO=$FROM_ARGO
WORKDIR /app
COPY . .
RUN python3 -c 'import main'
EXPOSE 8000
CMD [\"uvicorn\", \"main:app\", \"--host\", \"0.0.0.0\", \"--port\", \"8000\"]
";

/// What `helm install minio` leaves behind, as far as the article uses it.
pub(super) const MINIO: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: minio}
stringData: {root-user: admin, root-password: 'a long password'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: minio, labels: {app: minio}}
spec:
  selector: {matchLabels: {app: minio}}
  template:
    metadata: {labels: {app: minio}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: minio
        image: minio/minio
        args: [server, --quiet, /data]
        env:
        - {name: MINIO_ROOT_USER, valueFrom: {secretKeyRef: {name: minio, key: root-user}}}
        - {name: MINIO_ROOT_PASSWORD, valueFrom: {secretKeyRef: {name: minio, key: root-password}}}
        - {name: MINIO_BROWSER, value: 'off'}
        - {name: MINIO_UPDATE, value: 'off'}
        readinessProbe: {httpGet: {path: /minio/health/ready, port: 9000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: minio}
spec: {selector: {app: minio}, ports: [{port: 9000}]}
";

/// What the Role of the article allows, and what it does not.
const RIGHTS: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: rights-}
spec:
  serviceAccountName: huadmin
  entrypoint: ask
  templates:
  - name: ask
    container:
      image: bitnami/kubectl
      command: [sh, -c]
      args:
      - |
        kubectl get pods -o name && kubectl label pod \"$HOSTNAME\" asked=yes || exit 1
        kubectl get secrets && exit 1
        kubectl delete pod \"$HOSTNAME\" && exit 1
        kubectl get pods -n default && exit 1
        exit 0
";

const NS: &str = "argo-wf";

/// A bucket, made as by hand in the console.
pub(super) fn make_bucket(reader: &Reader, namespace: &str, name: &str) {
    let forward = reader.forward(namespace, "minio", 9000);
    let url = format!("http://{}/{name}", forward.address);
    run(std::process::Command::new("curl").args([
        "-fsS",
        "--aws-sigv4",
        "aws:amz:us-east-1:s3",
        "-u",
        "admin:a long password",
        "-X",
        "PUT",
        &url,
    ]))
    .ok();
}

#[test]
fn build_ci_workflow() {
    let case = "articles 000 and 001";
    let needs = [
        ("git", "git"),
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("curl", "curl"),
        ("uvicorn", "uvicorn python3-fastapi"),
    ];
    let Some(mut reader) = Reader::new(case, &needs) else { return };
    if minio().is_none() {
        return;
    }
    reader.bash();
    reader.python();
    reader.kubectl_image("bitnami/kubectl");
    reader.minio();
    let repositories = Repositories::new(reader.house.path("repositories"));
    repositories.make(
        "BeaverHouse/dive-argo-fastapi",
        "main",
        &[("Dockerfile", DOCKERFILE), ("main.py", MAIN), ("설명서.md", "# 예제 애플리케이션\n")],
    );
    let registry = Registry::start(reader.house.path("registry"));
    let git = repositories.serve();
    let to_registry = format!("docker.io={}", registry.address);
    let to_git = format!("https://github.com/=http://{}/", git.address);
    let flags = ["--remap-registry", &to_registry, "--remap-git", &to_git, "--node-name", "k3s-worker-1"];
    reader.begin(&flags);

    reader.kubectl(&["create", "namespace", NS]).ok();
    reader.kubectl(&["create", "serviceaccount", "huadmin", "-n", NS]).ok();
    reader.kubectl(&["apply", "-n", NS, "-f", &seed("000/docker-secret.yaml")]).ok();
    reader.kubectl(&["apply", "-n", NS, "-f", &seed("000/git-clone-first.yaml")]).ok();
    let url = "git-url=https://github.com/BeaverHouse/dive-argo-fastapi.git";

    // The article needs MinIO from here on. Here there is a store already.
    let clone = ["--from", "workflowtemplate/git-clone", "--entrypoint", "checkout", "-p", url];
    let done = reader.succeeded(reader.submit(NS, &clone));
    let logs = reader.logs(&done);
    for file in ["Dockerfile", "main.py", "설명서.md"] {
        assert!(logs.contains(file), "{logs}");
    }
    assert!(table::node(&done, done["metadata"]["name"].as_str().unwrap())["outputs"]["artifacts"][0]["s3"].is_null());

    reader.apply(NS, "minio.yaml", MINIO);
    reader.kubectl(&["rollout", "status", "-n", NS, "deployment/minio", "--timeout=60s"]).ok();
    make_bucket(&reader, NS, "argo-bucket");

    // Flat keys, as the chart writes them today.
    let values = std::fs::read_to_string(seed("000/artifact-repository.values.yaml")).unwrap();
    let flat: String = values.lines().skip(1).map(|l| format!("{}\n", l.strip_prefix("  ").unwrap_or(l))).collect();
    let map = "workflow-controller-configmap";
    let literal = format!("--from-literal=artifactRepository={flat}");
    reader.kubectl(&["create", "configmap", map, "-n", NS, &literal]).ok();
    let done = reader.succeeded(reader.submit(NS, &clone));
    let outputs = &table::node(&done, done["metadata"]["name"].as_str().unwrap())["outputs"]["artifacts"];
    assert_eq!(outputs.as_array().unwrap().len(), 1, "archiveLogs is false: {outputs:#}");
    assert!(outputs[0]["s3"]["key"].as_str().unwrap().ends_with("/source-code.tgz"), "{outputs:#}");
    assert_as_recorded("000-git-clone-first", &done, &[]);
    // One key with everything; and the logs are kept too.
    reader.kubectl(&["delete", "configmap", map, "-n", NS]).ok();
    let values = reader.house.file("values.yaml", &values.replace("archiveLogs: false", "archiveLogs: true"));
    reader.kubectl(&["create", "configmap", map, "-n", NS, &format!("--from-file=config={values}")]).ok();

    for file in ["000/pod-controller.yaml", "000/rb-admin-pod.yaml", "000/git-clone.yaml", "000/image-build.yaml"] {
        reader.kubectl(&["apply", "-n", NS, "-f", &seed(file)]).ok();
    }
    let ci = seed("000/argo-ci.yaml");
    let done = reader.succeeded(reader.submit(NS, &[&ci, "-p", url, "-p", "FROM_ARGO=argo test"]));
    insta::assert_snapshot!("argo_ci", table::of(&done));
    assert_as_recorded("000-argo-ci", &done, &[]);
    let config = registry.has("haulrest/fastapi-sample:v1");
    let env = config["config"]["Env"].to_string();
    assert!(env.contains("FROM_ARGO=argo test"), "{env}");

    rights(&reader);

    // The article's image is public; the one of this registry needs the Secret for pulls too.
    let patch = r#"{"imagePullSecrets": [{"name": "docker-secret"}]}"#;
    reader.kubectl(&["patch", "serviceaccount", "default", "-n", NS, "-p", patch]).ok();
    reader.kubectl(&["apply", "-n", NS, "-f", &seed("000/fastapi-sample.yaml")]).ok();
    reader.kubectl(&["expose", "-n", NS, "pod", "fastapi-test", "--name=lb-fastapi", "--port=8000"]).ok();
    ready(&reader);
    assert_eq!(served(&reader, "/value/git"), "\"github main branch\"");
    assert_eq!(served(&reader, "/value/argo"), "\"argo test\"");

    // Article 001 is the same in Korean. The name is taken: as in the article, the workflow of before is deleted.
    reader.windlass(&["-n", NS, "delete", "argo-ci"]).ok();
    let words = "FROM_ARGO=아르고 테스트";
    let done = reader.succeeded(reader.submit(NS, &[&ci, "-p", url, "-p", words, "-p", "image_tag=v2"]));
    insta::assert_snapshot!("argo_ci_korean", table::of(&done));
    assert_as_recorded("001-argo-ci", &done, &[]);
    let env = registry.has("haulrest/fastapi-sample:v2")["config"]["Env"].to_string();
    assert!(env.contains(words), "{env}");
    reader.kubectl(&["delete", "pod", "fastapi-test", "-n", NS, "--grace-period=1"]).ok();
    let pod = std::fs::read_to_string(seed("000/fastapi-sample.yaml")).unwrap();
    reader.apply(NS, "fastapi-sample.yaml", &pod.replace("sample:v1", "sample:v2"));
    ready(&reader);
    assert_eq!(served(&reader, "/value/argo"), "\"아르고 테스트\"");

    // Another password: the push is refused, and the step says so.
    reader.windlass(&["-n", NS, "delete", "argo-ci"]).ok();
    reader.kubectl(&["delete", "secret", "docker-secret", "-n", NS]).ok();
    let server = "--docker-server=https://index.docker.io/v1/";
    let (user, wrong) = (format!("--docker-username={USER}"), format!("--docker-password=not-{PASSWORD}"));
    reader.kubectl(&["create", "secret", "docker-registry", "docker-secret", "-n", NS, server, &user, &wrong]).ok();
    let failed = reader.submit(NS, &[&ci, "-p", url, "-p", words, "-p", "image_tag=v3"]);
    assert_eq!(failed["status"]["phase"], "Failed");
    let message = table::node(&failed, "kaniko-process")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("docker.io/haulrest/fastapi-sample"), "{message}");
    assert!(message.contains("refused") || message.contains("401") || message.contains("unauthorized"), "{message}");
    let text = failed.to_string();
    assert!(!text.contains(&registry.address) && !text.contains(&git.address), "a mapped name is in an object");
    reader.end();
}

/// Waits for the article's pod.
fn ready(reader: &Reader) {
    reader.kubectl(&["wait", "-n", NS, "pod/fastapi-test", "--for=condition=Ready", "--timeout=60s"]).ok();
}

/// What the Service answers, by a port-forward of its own: kubectl's ends when nobody listens yet.
fn served(reader: &Reader, path: &str) -> String {
    until("the application answers", Duration::from_secs(60), || {
        let forward = reader.forward(NS, "lb-fastapi", 8000);
        get(&forward.address, path).filter(|(status, _)| *status == 200).map(|(_, body)| body)
    })
}

fn rights(reader: &Reader) {
    let file = reader.house.file("rights.yaml", RIGHTS);
    let done = reader.succeeded(reader.submit(NS, &[&file]));
    let logs = reader.logs(&done);
    assert!(logs.contains("labeled"), "{logs}");
    let who = "User \"system:serviceaccount:argo-wf:huadmin\" cannot";
    for refused in [
        format!("secrets is forbidden: {who} list resource \"secrets\" in API group \"\" in the namespace \"argo-wf\""),
        format!("is forbidden: {who} delete resource \"pods\""),
        format!("pods is forbidden: {who} list resource \"pods\" in API group \"\" in the namespace \"default\""),
    ] {
        assert!(logs.contains(&refused), "{refused}\nis not in\n{logs}");
    }
}
