//! Names of the outside world, and the artifact repository: a real S3 server behind a Service, one behind a rule, and what
//! is said where nobody answers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{House, Running, not_run, program};
use crate::minio;

const SERVER: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: minio}
stringData: {root-user: root-user, root-password: root-password}
---
apiVersion: v1
kind: Pod
metadata: {name: minio, labels: {app: minio}}
spec:
  containers:
  - name: minio
    image: minio/minio
    command: [PROGRAM, server, --quiet, /data]
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
---
";

const REPOSITORY: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-controller-configmap}
data:
  config: |
    artifactRepository:
      archiveLogs: true
      s3:
        accessKeySecret: {name: minio, key: root-user}
        secretKeySecret: {name: minio, key: root-password}
        insecure: true
        bucket: argo-bucket
        endpoint: ENDPOINT
        createBucketIfNotPresent: {}
    executor: {resources: {}}
---
";

const WORKFLOW: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: through-s3-}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: wait, template: wait}
    - - {name: make, template: make}
    - - {name: use, template: use, arguments: {artifacts: [{name: in, from: '{{steps.make.outputs.artifacts.out}}'}]}}
    - - {name: by-key, template: use, arguments: {artifacts: [{name: in, s3: {key: '{{workflow.name}}/fixed'}}]}}
  - name: wait
    archiveLocation: {archiveLogs: false}
    container:
      image: busybox
      command: [sh, -c]
      args: ['until wget -q -O /dev/null http://minio:9000/minio/health/ready; do sleep 0.2; done']
  - name: make
    container: {image: busybox, command: [sh, -c], args: ['echo making; mkdir /out /dir; echo made > /out/file; echo loose > /dir/file']}
    outputs:
      artifacts:
      - {name: out, path: /out}
      - {name: fixed, path: /dir, archive: {none: {}}, s3: {key: '{{workflow.name}}/fixed'}}
      - {name: packed, path: /dir, archive: {zip: {}}}
  - name: use
    inputs: {artifacts: [{name: in, path: /in}]}
    container: {image: busybox, command: [sh, -c], args: ['echo got $(cat /in/file)']}
";

/// With the images of the server and of the steps, and the server's manifest.
fn house(case: &str) -> Option<(House, String)> {
    let house = House::new(case)?;
    let server = minio::image(&house)?;
    house.image("busybox", &["busybox", "sh", "echo", "cat", "mkdir", "wget", "sleep"]);
    // Where it is on this machine it is in the image.
    Some((house, SERVER.replace("PROGRAM", &server)))
}

fn node<'a>(workflow: &'a Value, name: &str) -> &'a Value {
    let nodes = workflow["status"]["nodes"].as_object().unwrap();
    nodes.values().find(|n| n["displayName"] == name).unwrap_or_else(|| panic!("no node {name} in {workflow:#}"))
}

#[test]
fn artifacts_and_logs_go_to_the_bucket_behind_a_service() {
    // As the Service's name, and as AWS's name by a rule that the file has: the manifest is the same.
    for (endpoint, insecure) in [("minio:9000", "true"), ("s3.amazonaws.com", "false")] {
        // A home of its own: the Pod of the server ends with its `run`.
        let Some((house, server)) = house("a bucket behind a Service") else { return };
        let repository =
            REPOSITORY.replace("ENDPOINT", endpoint).replace("insecure: true", &format!("insecure: {insecure}"));
        let file = house.file("all.yaml", &format!("{server}{repository}{WORKFLOW}"));
        let table = house.file("table.yaml", "endpoint: {s3.amazonaws.com: 'http://minio:9000'}\n");
        let running = Running::begin(&mut house.command(&["run", &file, "--remap", &table, "-v", "-o", "json"]));
        let done = running.finish(Duration::from_secs(180)).ok();
        let workflow = done.json();
        let make = node(&workflow, "make");
        let name = workflow["metadata"]["name"].as_str().unwrap();
        let artifacts = make["outputs"]["artifacts"].as_array().unwrap();
        let keys: Vec<&str> = artifacts.iter().map(|a| a["s3"]["key"].as_str().unwrap()).collect();
        let pod = make["id"].as_str().unwrap().replace(name, &format!("{name}-make"));
        let expected = ["out.tgz", "packed.zip", "main.log"].map(|file| format!("{name}/{pod}/{file}"));
        assert!(expected.iter().all(|key| keys.contains(&key.as_str())), "{keys:?} {expected:?}");
        assert!(keys.contains(&format!("{name}/fixed").as_str()), "{keys:?}");
        // In the node table only the key, as Argo writes it; the rest is in the status, once.
        assert!(artifacts.iter().all(|a| a["s3"].as_object().unwrap().len() == 1), "{artifacts:#?}");
        assert!(artifacts.iter().all(|a| a["archiveLogs"].is_null()), "{artifacts:#?}");
        assert_eq!(workflow["status"]["artifactRepositoryRef"]["artifactRepository"]["s3"]["endpoint"], endpoint);
        assert!(!workflow.to_string().contains("http://minio:9000\""), "a mapped name is in no object");
        assert!(node(&workflow, "wait")["outputs"]["artifacts"].is_null());
        if endpoint.starts_with("s3.") {
            assert!(done.stderr.contains("endpoint remap"), "{}", done.stderr);
        }
    }
}

#[test]
fn the_table_is_shown_and_its_faults_are_told() {
    let house = House::empty();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::write(house.home().join("remap.yaml"), "git: {'git@github.com:': /srv/git/}\n").unwrap();
    let rule = "docker.io=127.0.0.1:5055";
    let done = house.windlass(&["doctor", "--remap-registry", rule]);
    done.says(&["docker.io", "→ 127.0.0.1:5055", "--remap-registry", "git@github.com:", "remap.yaml"]);
    let json = house.windlass(&["doctor", "-o", "json"]).json();
    assert_eq!(json["names"][0]["from"], "git@github.com:", "{json:#}");
    house
        .windlass(&["image", "pull", "x", "--remap-registry", "nonsense"])
        .exits(1)
        .says(&["--remap-registry", "FROM=TO"]);
    std::fs::write(house.home().join("remap.yaml"), "gti: {}\n").unwrap();
    house.windlass(&["doctor"]).exits(1).says(&["remap.yaml:1:1", "there is no `gti`"]);
}

#[test]
fn a_missing_rule_is_named_by_the_step_that_needs_it() {
    let Some(house) = House::new("a missing rule") else { return };
    if program("ssh-keygen").is_none() {
        not_run("a missing rule", "there is no ssh-keygen (package openssh-client)");
        return;
    }
    let key = house.path("key");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).output();
    assert!(made.unwrap().status.success());
    let key = std::fs::read_to_string(key).unwrap().replace('\n', "\n    ");
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: git}}\nstringData:\n  user: u\n  key: |\n    {key}\n---\n"
    );
    let ssh = "git: {repo: 'git@windlass.invalid:team/app.git', sshPrivateKeySecret: {name: git, key: key}}";
    let s3 = "s3: {endpoint: s3.windlass.invalid, bucket: b, key: k, accessKeySecret: {name: git, key: user}, secretKeySecret: {name: git, key: user}}";
    let cases = [
        ("ssh", ssh, "--remap-git git@windlass.invalid:=URL"),
        ("https", "git: {repo: 'https://windlass.invalid/a/b'}", "--remap-git https://windlass.invalid/=URL"),
        ("s3", s3, "--remap-endpoint s3.windlass.invalid=http://HOST:PORT"),
        (
            "http",
            "http: {url: 'https://files.windlass.invalid/x'}",
            "--remap-endpoint files.windlass.invalid=http://HOST:PORT",
        ),
    ];
    let tasks: String = cases.iter().map(|(name, ..)| format!("    - {{name: {name}, template: {name}}}\n")).collect();
    let steps: String = cases
        .iter()
        .map(|(name, artifact, _)| {
            format!("- name: {name}\n  inputs: {{artifacts: [{{name: in, path: /in, {artifact}}}]}}\n  container: {{image: busybox, command: [echo]}}\n")
        })
        .collect();
    let workflow = house.workflow(
        "missing",
        &format!("entrypoint: main\ntemplates:\n- name: main\n  dag:\n    failFast: false\n    tasks:\n{tasks}{steps}"),
    );
    let file = house.file("all.yaml", &format!("{secret}{}", std::fs::read_to_string(workflow).unwrap()));
    let begun = Instant::now();
    let workflow = house.windlass(&["run", &file, "-o", "json"]).exits(1).json();
    for (name, _, wanted) in cases {
        let message = node(&workflow, name)["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(wanted) && message.contains("cannot be resolved"), "{name}: {message}");
    }
    // All four at once, the start of everything included; each has less than five seconds (tested beside the code).
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
