//! exec, attach, cp and port-forward with the real kubectl, and from a step with its own token.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::house::{Done, House, Up, not_run, program, run, until};
use crate::kubectl::kubectl;
use crate::users::{as_nobody, for_nobody};

const PODS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: tools
        command: [sh, -c, 'mkdir -p /w; echo from the pod >/w/i; exec busybox httpd -f -p 127.0.0.1:8000 -h /w']
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, annotations: {kubectl.kubernetes.io/default-container: second}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: first, image: tools, command: [sleep, '100000'], env: [{name: WHO, value: first}]}
  - {name: second, image: tools, command: [sleep, '100000'], workingDir: /tmp, env: [{name: WHO, value: second}]}
---
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: tools, command: [sh, -c, 'i=0; while :; do echo line $i; echo fault $i >&2; i=$((i+1)); sleep 0.2; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: over}
spec:
  restartPolicy: Never
  containers: [{name: main, image: tools, command: ['true']}]
";

const TOOLS: [&str; 17] = [
    "busybox",
    "stty",
    "sh",
    "sleep",
    "cat",
    "mkdir",
    "true",
    "tar",
    "rm",
    "head",
    "ls",
    "seq",
    "pwd",
    "sha256sum",
    "tty",
    "echo",
    "test",
];

/// kubectl and a shell to use it in.
struct Tools<'a> {
    house: &'a House,
    kubectl: String,
}

impl Tools<'_> {
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("K", &self.kubectl)
            .env("KUBECONFIG", self.house.home().join("run/kubeconfig"));
        command.env("HOME", self.house.path("")).current_dir(self.house.path(""));
        command
    }

    /// A script in which `$K` is kubectl.
    #[track_caller]
    fn sh(&self, script: &str) -> Done {
        run(&mut self.command(script))
    }

    #[track_caller]
    fn ready(&self) {
        let ready = "$K rollout status deploy/web --timeout=30s && $K wait --for=condition=Ready pod/two pod/talks --timeout=30s";
        self.sh(ready).ok();
    }
}

fn begin(case: &str) -> Option<(House, String)> {
    let house = House::new(case)?;
    let Some(kubectl) = kubectl() else {
        not_run(case, "there is no kubectl");
        return None;
    };
    house.image("tools", &TOOLS);
    Some((house, kubectl.to_str().unwrap().to_owned()))
}

fn descriptors(up: &Up) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", up.pid())).unwrap().count()
}

#[test]
fn commands_in_containers() {
    let Some((house, kubectl)) = begin("exec") else { return };
    let up = house.up(&[]);
    let tools = Tools { house: &house, kubectl };
    let pods = house.file("pods.yaml", PODS);
    tools.sh(&format!("$K apply -f {pods}")).ok();
    tools.ready();
    // WebSocket, as kubectl asks since 1.31, and SPDY, as it did before.
    for before in ["", "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false;"] {
        let sh = |script: &str| tools.sh(&format!("{before} {script}"));
        let done = sh("$K exec deploy/web -- sh -c 'echo out; echo err >&2; exit 3'").exits(3);
        assert_eq!(done.stdout, "out\n");
        assert_eq!(done.stderr, "err\ncommand terminated with exit code 3\n");
        assert_eq!(sh("$K exec two -- sh -c 'echo $WHO; pwd'").ok().stdout, "second\n/tmp\n");
        assert_eq!(sh("$K exec two -c first -- sh -c 'echo $WHO; pwd'").ok().stdout, "first\n/\n");
        assert_eq!(sh("echo hello | $K exec -i two -- cat").ok().stdout, "hello\n");
        // More than fits in any buffer, both ways at once.
        let done = sh("seq 1 300000 | tee sent | $K exec -i two -- cat >got; cmp sent got && wc -l <got").ok();
        assert_eq!(done.stdout.trim(), "300000");
        sh("seq 1 300000 | $K exec -i two -- head -n 1").ok().says(&["1\n"]);
        sh("$K exec two -- nosuch").exits(1).says(&["exec: \"nosuch\": executable file not found in $PATH"]);
        sh("$K exec two -- /no/such").exits(1).says(&["stat /no/such: no such file or directory"]);
        sh("$K exec two -c third -- true").exits(1).says(&["container third is not valid for pod two"]);
        sh("$K exec over -- true").exits(1).says(&["cannot exec into a container in a completed pod"]);
        sh("$K exec nothing -- true").exits(1).says(&["pods \"nothing\" not found"]);
        // A terminal: its name, its size, keys that interrupt, and no second stream.
        if program("script").is_some() {
            let talk = "(sleep 1; echo 'stty size; tty; busybox sleep 100'; sleep 1; printf '\\003'; sleep 0.5; echo 'exit 4')";
            let term = format!("{talk} | script -qec 'stty rows 41 cols 132; $K exec -it two -- sh' /dev/null");
            let done = sh(&term).exits(4).says(&["41 132", "/dev/pts/0"]);
            assert!(!done.stdout.contains("Unable to use a TTY"), "{}", done.stdout);
        } else {
            not_run("exec on a terminal", "there is no script (package util-linux)");
        }
        // Files, there and back.
        sh("rm -rf there back; mkdir there; seq 1 50000 >there/a; echo b >there/b; $K cp there two:/tmp/there -c first").ok();
        sh("$K cp two:/tmp/there back -c first && diff -r there back; $K exec two -c first -- rm -r /tmp/there").ok();
        let done = sh("timeout 3 $K attach talks").exits(124);
        assert!(done.stdout.contains("\nline ") && done.stderr.contains("\nfault "), "{done:?}");
    }
    // The process has the rights of its container and ends with it.
    let own = tools.sh("$K exec two -- cat /proc/1/status").ok().stdout;
    let further = tools.sh("$K exec two -- cat /proc/self/status").ok().stdout;
    for name in ["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Uid:", "Gid:"] {
        let line = |text: &str| text.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        assert_eq!(line(&own), line(&further));
    }

    // A caller who is killed leaves nothing behind: no process, no descriptor.
    let before = descriptors(&up);
    for kind in ["", "-i"] {
        for socket in ["true", "false"] {
            let kill = format!(
                "(while :; do echo y; done) | KUBECTL_REMOTE_COMMAND_WEBSOCKETS={socket} timeout -s KILL 2 $K exec {kind} two -- \
                 sh -c 'sleep 4242 & sleep 4242' || true"
            );
            tools.sh(&kill).ok();
        }
    }
    tools.sh("timeout -s KILL 1 $K attach talks >/dev/null || true").ok();
    let begun = Instant::now();
    until("the processes of callers who were killed are gone", Duration::from_secs(30), || {
        let text = tools.sh("$K exec two -- busybox ps").ok().stdout;
        (!text.contains("4242")).then_some(())
    });
    until("their descriptors are closed", Duration::from_secs(30), || (descriptors(&up) <= before + 2).then_some(()));
    println!("gone after {:?}", begun.elapsed());

    let exec = tools.command("$K exec two -- sleep 100");
    let exec = crate::house::Running::begin(&mut { exec });
    std::thread::sleep(Duration::from_secs(1));
    tools.sh("$K delete pod two --grace-period=0 --force").ok();
    exec.finish(Duration::from_secs(10)).exits(137);
    up.end().exits(0);
}

#[test]
fn containers_that_are_talked_to() {
    let Some((house, kubectl)) = begin("attach") else { return };
    let up = house.up(&[]);
    let tools = Tools { house: &house, kubectl };
    let run = "$K run talk -i --rm --restart=Never --image=tools";
    let done =
        tools.sh(&format!("(sleep 2; echo hello) | {run} -- sh -c 'read x; echo heard $x; cat; exit 5'")).exits(5);
    assert!(done.stdout.starts_with("heard hello\n"), "{done:?}");
    if program("script").is_some() {
        let run = "$K run term -it --rm --restart=Never --image=tools -- sh";
        let talk = "(sleep 3; echo 'stty size; tty'; sleep 1; echo 'exit 6')";
        let done = tools.sh(&format!("{talk} | script -qec 'stty rows 41 cols 132; {run}' /dev/null")).exits(6);
        done.says(&["41 132", "/dev/pts/0"]);
    } else {
        not_run("run on a terminal", "there is no script (package util-linux)");
    }
    up.end().exits(0);
}

#[test]
fn ports_of_pods() {
    let Some((house, kubectl)) = begin("port-forward") else { return };
    if program("curl").is_none() {
        return not_run("port-forward", "there is no curl");
    }
    let up = house.up(&[]);
    let tools = Tools { house: &house, kubectl };
    let pods = house.file("pods.yaml", PODS);
    tools.sh(&format!("$K apply -f {pods}")).ok();
    tools.ready();
    let before = descriptors(&up);
    let pod = tools.sh("$K get pods -l app=web -o name").ok().stdout.trim().to_owned();
    for sockets in ["true", "false"] {
        // The server listens on the pod's loopback only, where a forwarded connection comes from.
        for (target, port) in [(pod.as_str(), 8000), ("deploy/web", 8000), ("svc/web", 80)] {
            let mut forward = tools.command(&format!("exec $K port-forward {target} :{port}"));
            forward.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", sockets);
            let forward = crate::house::Running::begin(&mut forward);
            let local = until("kubectl says where it listens", Duration::from_secs(20), || {
                let said = forward.said();
                let rest = said.split_once("127.0.0.1:")?.1;
                rest.split_once(' ').map(|(port, _)| port.to_owned())
            });
            let get = format!("curl -sS -m 10 http://127.0.0.1:{local}/i");
            let done = tools.sh(&format!("{get} && {get} & {get}; wait")).ok();
            assert_eq!(done.stdout, "from the pod\n".repeat(3), "{target} {}", forward.said());
            forward.signal(rustix::process::Signal::INT);
            forward.finish(Duration::from_secs(10));
        }
        let nobody = format!(
            "export KUBECTL_PORT_FORWARD_WEBSOCKETS={sockets}; (sleep 1; curl -s -m 5 http://127.0.0.1:28763/) & \
             timeout 10 $K port-forward {pod} 28763:9"
        );
        tools.sh(&nobody).exits(1).says(&["failed to connect to localhost:9 inside the pod"]);
    }
    until("the connections are closed", Duration::from_secs(30), || (descriptors(&up) <= before + 2).then_some(()));
    up.end().exits(0);
}

const RIGHTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: runner}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: runner}
rules: [{apiGroups: [''], resources: [pods/exec], verbs: [get, create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
subjects: [{kind: ServiceAccount, name: runner, namespace: default}, {kind: ServiceAccount, name: reader, namespace: default}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: runner}
subjects: [{kind: ServiceAccount, name: runner, namespace: default}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: runner}
---
";

#[test]
fn a_step_runs_commands_in_other_pods() {
    let Some((house, kubectl)) = begin("exec from a step") else { return };
    house.image("with-kubectl", &[kubectl.as_str(), "sh", "echo"]);
    let name = std::path::Path::new(&kubectl).file_name().unwrap().to_str().unwrap().to_owned();
    let up = house.up(&[]);
    let tools = Tools { house: &house, kubectl: kubectl.clone() };
    let pods = house.file("pods.yaml", &format!("{RIGHTS}{PODS}"));
    tools.sh(&format!("$K apply -f {pods}")).ok();
    tools.ready();
    let file = house.workflow(
        "deploys",
        &format!(
            "entrypoint: main
templates:
- name: main
  steps:
  - - {{name: runner, template: runner}}
    - {{name: reader, template: reader}}
- name: runner
  serviceAccountName: runner
  script: &test
    image: with-kubectl
    command: [sh]
    source: |
      $(command -v {name} || echo {kubectl}) exec two -c second -- sh -c 'echo yarn test in $WHO; exit 7'
      echo \"it ended with $?\"
- name: reader
  serviceAccountName: reader
  script: *test
"
        ),
    );
    let kubeconfig = house.home().join("run/kubeconfig");
    let done = house.windlass(&["run", &file, "--log", "--kubeconfig", kubeconfig.to_str().unwrap()]).ok();
    done.says(&[
        ": yarn test in second",
        ": it ended with 7",
        "pods \"two\" is forbidden: User \"system:serviceaccount:default:reader\" cannot create resource \"pods/exec\"",
        ": it ended with 1",
    ]);
    up.end().exits(0);
}

#[test]
fn the_same_for_a_user_who_is_not_root() {
    let case = "exec and port-forward, not root";
    let Some(kubectl) = kubectl() else { return not_run(case, "there is no kubectl") };
    let Some((house, _)) = for_nobody(case) else { return };
    let own = house.path("kubectl");
    std::fs::copy(kubectl, &own).unwrap();
    let pods = house.file("pods.yaml", PODS);
    let names: String = TOOLS.iter().map(|t| format!(" --program {t}")).collect();
    let script = format!(
        "./windlass image from-host tools{names}
./windlass up --api-listen 127.0.0.1:0 --registry-listen 127.0.0.1:0 --webhook-listen 127.0.0.1:0 >up.log 2>&1 &
up=$!
trap \"kill $up; wait $up\" EXIT
for i in $(seq 200); do test -f $WINDLASS_HOME/run/kubeconfig && break; sleep 0.1; done
export KUBECONFIG=$WINDLASS_HOME/run/kubeconfig
sleep 1
./kubectl apply -f {pods}
./kubectl rollout status deploy/web --timeout=30s
./kubectl wait --for=condition=Ready pod/two --timeout=30s
echo typed | ./kubectl exec -i two -- cat
./kubectl exec two -- sh -c \"exit 9\" || echo \"it ended with $?\"
(sleep 1; echo tty; sleep 1; echo exit) | script -qec \"./kubectl exec -it two -- sh\" /dev/null
echo copied >file; ./kubectl cp --no-preserve=true file two:/tmp/file; ./kubectl exec two -- cat /tmp/file
./kubectl port-forward deploy/web 28764:8000 >/dev/null & forward=$!
for i in $(seq 50); do curl -s http://127.0.0.1:28764/i && break; sleep 0.1; done
kill $forward"
    );
    run(&mut as_nobody(&house, ":", &script)).ok().says(&[
        "typed\n",
        "it ended with 9\n",
        "/dev/pts/0",
        "copied\n",
        "from the pod\n",
    ]);
}
