//! A real dockerd in a privileged sidecar, as people have it who build with docker: it builds, runs what it built, and
//! pushes through the remap table. And what is said where privileged containers are not allowed.

use std::fs;
use std::time::Duration;

use crate::hosts::nobody;
use crate::house::{House, Running, Up, is_root, not_run, program, run, until};
use crate::users::{as_nobody, for_nobody};

/// The shape of a pipeline that builds with docker-in-docker: `steps`, labels, resources, the node's network, a Secret's key
/// as the client's configuration, the daemon as a sidecar with the same mounts.
const PIPELINE: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: regcred}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{\"auths\": {\"docker-registry.k8s.example.com\": {\"username\": \"ci\", \"password\": \"PASSWORD\"}}}'
---
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: backend--}
spec:
  hostNetwork: true
  entrypoint: cicd
  volumes:
  - {name: docker-config, secret: {secretName: regcred}}
  arguments:
    parameters: [{name: image-name, value: docker-registry.k8s.example.com/crypto/backend}]
  templates:
  - name: cicd
    steps:
    - - {name: build, template: build-push-docker, arguments: {parameters: [{name: image-tag, value: abc123}]}}
    - - {name: use, template: use, arguments: {parameters: [{name: image-tag, value: abc123}]}}
  - name: build-push-docker
    inputs:
      artifacts:
      - {name: dockerfile, path: /src/Dockerfile, raw: {data: \"FROM docker-registry.k8s.example.com/base:1\\nRUN echo made by $(cat /proc/1/comm) > /made\\n\"}}
      parameters: [{name: image-tag}]
    metadata: {labels: {app: argo}}
    container:
      image: docker:18.09
      resources: {requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: 400m, memory: 800Mi}}
      workingDir: /src
      command: [sh, -c]
      args: ['until docker ps; do sleep 1; done; cd /src
        && docker build . -t {{workflow.parameters.image-name}}:{{inputs.parameters.image-tag}} && docker push {{workflow.parameters.image-name}}:{{inputs.parameters.image-tag}}
        && docker info | grep Driver: && docker run --rm -m 64m {{workflow.parameters.image-name}}:{{inputs.parameters.image-tag}} cat /made']
      env: [{name: DOCKER_HOST, value: 127.0.0.1}]
      volumeMounts:
      - {name: docker-config, mountPath: /root/.docker/config.json, subPath: .dockerconfigjson}
    sidecars:
    - name: docker-in-docker
      image: docker:18.09-dind
      resources: {requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: '2', memory: 800Mi}}
      securityContext: {privileged: true}
      mirrorVolumeMounts: true
  - name: use
    inputs: {parameters: [{name: image-tag}]}
    container:
      image: '{{workflow.parameters.image-name}}:{{inputs.parameters.image-tag}}'
      command: [cat, /made]
";

/// The images that the pipeline names, of this machine's own docker, for a registry without TLS.
pub(crate) fn images(house: &House, registry: &str) -> Option<()> {
    let missing: Vec<&str> =
        ["dockerd", "containerd", "runc", "iptables", "busybox"].into_iter().filter(|p| program(p).is_none()).collect();
    if !missing.is_empty() {
        not_run(
            "a real dockerd",
            &format!("there is no {} (packages docker.io, iptables, busybox-static)", missing.join(", ")),
        );
        return None;
    }
    // The client that came with the daemon, whatever other one is found first.
    let client = ["/usr/bin/docker"].into_iter().find(|p| fs::exists(p).unwrap()).unwrap_or("docker");
    house.image("docker:18.09", &["sh", "sleep", "grep", client]);
    let extensions = fs::read_dir("/usr/lib").unwrap().flatten().map(|e| e.path().join("xtables"));
    let extensions = extensions.into_iter().find(|p| p.is_dir()).unwrap_or_else(|| panic!("no xtables in /usr/lib"));
    let settings = house.file("daemon.json", &format!("{{\"insecure-registries\": [\"{registry}\"]}}\n"));
    let mut args: Vec<String> = ["image", "from-host", "docker:18.09-dind"].map(str::to_owned).into();
    for program in
        ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-init", "docker-proxy", "iptables"]
    {
        args.extend(["--program".to_owned(), program.to_owned()]);
    }
    args.extend(["--add".to_owned(), extensions.to_str()?.to_owned()]);
    args.extend(["--add".to_owned(), format!("{settings}:/etc/docker/daemon.json")]);
    args.extend(["--volume", "/var/lib/docker", "--entrypoint", "dockerd"].map(str::to_owned));
    for word in ["--host=unix:///var/run/docker.sock", "--host=tcp://0.0.0.0:2375", "--tls=false"] {
        args.push(format!("--cmd={word}"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    house.windlass(&args).ok();
    // A base as this daemon reads it: images of this machine have layers of a newer kind.
    let context = house.path("base");
    fs::create_dir_all(context.join("bin")).unwrap();
    for name in ["sh", "cat", "echo", "sleep"] {
        fs::copy(program("busybox")?, context.join("bin").join(name)).unwrap();
    }
    house.file("base/Dockerfile", "FROM scratch\nCOPY bin /bin\n");
    house.windlass(&["build", context.to_str()?, "-t", "registry.windlass.internal/base:1"]).ok();
    Some(())
}

#[test]
fn a_real_dockerd_builds_and_pushes() {
    let case = "a real dockerd";
    if !is_root() {
        return not_run(case, "privileged containers need root");
    }
    let house = House::empty();
    if images(&house, "docker-registry.k8s.example.com").is_none() {
        return;
    }
    let registry = nobody();
    let rule = format!("docker-registry.k8s.example.com={registry}");
    let args = ["--api-listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0", "--registry-listen", &registry];
    let mut command = house.command(&["up", "--allow", "privileged", "--remap-registry", &rule]);
    command.args(args);
    let up = Up::of(command, house.home());
    let token = fs::read_to_string(house.home().join("run/registry-token")).unwrap();
    let file = house.file("pipeline.yaml", &PIPELINE.replace("PASSWORD", token.trim()));
    let begun = std::time::Instant::now();
    let done = Running::begin(&mut house.command(&["run", &file, "--log"])).finish(Duration::from_secs(180)).ok();
    println!("the pipeline took {:?}", begun.elapsed());
    let done =
        done.says(&["Storage Driver: ", "Cgroup Driver: cgroupfs", "abc123: digest: sha256:", "✔ build", "✔ use"]);
    // Once run by docker inside the sidecar, once pulled through the rule and run by us.
    let made: Vec<&str> = done.stdout.lines().filter(|l| l.ends_with(": made by sh")).collect();
    assert_eq!(made.len(), 2, "{}", done.stdout);
    house.windlass(&["image", "ls"]).ok().says(&["docker-registry.k8s.example.com/crypto/backend:abc123"]);
    // The daemon's gigabytes go with its pod.
    until("nothing of the pods is left on disk", Duration::from_secs(20), || {
        fs::read_dir(house.home().join("volumes/pods")).unwrap().next().is_none().then_some(())
    });
    up.end().exits(0);
}

const PRIVILEGED: &str = "entrypoint: main
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'mount -t tmpfs none /mnt && echo mounted']
    securityContext: {privileged: true}
";

#[test]
fn privileged_only_where_it_was_said() {
    let case = "privileged";
    let house = House::empty();
    if !house.has_busybox(case) {
        return;
    }
    house.image("busybox", &["busybox", "sh", "echo", "mkdir", "mount"]);
    let file = house.workflow("privileged", &PRIVILEGED.replace("mount -t", "mkdir -p /mnt; mount -t"));
    let refused = ["container main: privileged", "--allow privileged"];
    if is_root() {
        house.windlass(&["run", &file]).exits(1).says(&refused);
        house.windlass(&["run", &file, "--allow", "privileged", "--log"]).ok().says(&[": mounted"]);
        // Who has it already is told by the flag's owner, not by whoever asks.
        let up = house.up(&[]);
        let done = house.windlass(&["run", &file, "--allow", "privileged"]).exits(1).says(&refused);
        assert!(done.stderr.contains("--allow has no effect"), "{}", done.stderr);
        up.end().exits(0);
    } else {
        house.windlass(&["run", &file, "--allow", "privileged"]).exits(1).says(&["privileged needs root"]);
    }
    let Some((house, _)) = for_nobody(case) else { return };
    house.workflow("privileged", PRIVILEGED);
    let words = "./windlass image from-host busybox --program busybox --program sh
./windlass run privileged.yaml --allow privileged";
    run(&mut as_nobody(&house, ":", words)).exits(1).says(&["privileged needs root", "not started as root"]);
}
