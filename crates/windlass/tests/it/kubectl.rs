//! The real kubectl with the kubeconfig that `up` makes.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::house::{Done, House, Running, not_run, program, run, until};

/// The v1.33 of the reference cluster where it is, else the one of this machine.
pub(crate) fn kubectl() -> Option<PathBuf> {
    let built = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/windlass-cluster/bin/kubectl"));
    built.filter(|p| p.is_file()).or_else(|| program("kubectl"))
}

const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: web:v1
        ports: [{containerPort: 8000}]
        readinessProbe: {httpGet: {path: /index.html, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 8000, targetPort: 8000}]
";

/// One GET, a new connection each time.
fn get(port: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains("200 OK").then_some(text)
}

#[test]
fn a_deployment_from_apply_to_delete() {
    let Some(house) = House::new("kubectl") else { return };
    let Some(kubectl) = kubectl() else { return not_run("kubectl", "there is no kubectl") };
    for version in ["v1", "v2"] {
        let serve = format!(
            "mkdir -p /w; echo this is {version} > /w/index.html; echo serving {version}; \
                             exec busybox httpd -f -v -p 8000 -h /w"
        );
        house
            .windlass(&[
                "image",
                "from-host",
                &format!("web:{version}"),
                "--program",
                "busybox",
                "--program",
                "sh",
                "--program",
                "mkdir",
                "--cmd",
                "sh",
                "--cmd",
                "-c",
                "--cmd",
                &serve,
            ])
            .ok();
    }
    let up = house.up(&[]);
    let command = |args: &[&str]| {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
        command.env("HOME", house.path("")).env_remove("KUBECONFIG").current_dir(house.path(""));
        command
    };
    let kubectl = |args: &[&str]| -> Done { run(&mut command(args)) };
    let app = house.file("app.yaml", APP);

    let watching = Running::begin(&mut command(&["get", "pods", "-w", "--request-timeout=60s"]));
    kubectl(&["apply", "-f", &app]).ok().says(&["deployment.apps/web created", "service/web created"]);
    kubectl(&["apply", "-f", &app]).ok().says(&["deployment.apps/web unchanged", "service/web unchanged"]);
    kubectl(&["rollout", "status", "deployment/web", "--timeout=30s"]).ok().says(&["successfully rolled out"]);
    kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data}"]).ok().says(&["BEGIN CERTIFICATE"]);
    kubectl(&["delete", "configmap", "kube-root-ca.crt"]).ok();
    until("it is made again", Duration::from_secs(5), || {
        (kubectl(&["get", "configmap", "kube-root-ca.crt"]).code == Some(0)).then_some(())
    });
    kubectl(&["get", "clusterrole", "argo-aggregate-to-view", "argo-aggregate-to-edit", "argo-aggregate-to-admin"])
        .ok();
    kubectl(&["create", "rolebinding", "looks", "--clusterrole=view", "--serviceaccount=default:default"]).ok();
    let can = |verb: &str| {
        kubectl(&["auth", "can-i", verb, "workflows.argoproj.io", "--as=system:serviceaccount:default:default"])
    };
    can("list").ok().says(&["yes"]);
    can("create").exits(1).says(&["no"]);
    kubectl(&["create", "configmap", "made", "--from-literal=k=v"]).ok().says(&["configmap/made created"]);
    kubectl(&["get", "configmap", "made", "-o", "jsonpath={.data.k}"]).ok().says(&["v"]);
    kubectl(&["get", "deploy,rs,pods,svc", "-o", "wide"]).ok().says(&["2/2", "web:v1", "NodePort", "Running"]);
    let described = kubectl(&["describe", "deployment", "web"]).ok();
    let described =
        described.says(&["2 available", "2/2 replicas created", "deployment-controller", "ScalingReplicaSet"]);
    assert!(described.stdout.contains("Scaled up replica set web-"), "{}", described.stdout);
    assert!(described.stdout.contains(" from 0 to 2"), "{}", described.stdout);
    let sets = kubectl(&["describe", "rs", "-l", "app=web"]).ok().says(&["SuccessfulCreate", "Created pod: web-"]);
    assert_eq!(sets.stdout.matches("Created pod: web-").count(), 2, "{}", sets.stdout);
    kubectl(&["describe", "pods", "-l", "app=web"]).ok().says(&["web:v1", "Ready", "True", "http-get"]);

    let port = kubectl(&["get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]).ok().stdout;
    until("the Service answers", Duration::from_secs(5), || get(&port).filter(|t| t.contains("this is v1")));

    let following = Running::begin(&mut command(&["logs", "-f", "deployment/web"]));
    kubectl(&["set", "image", "deployment/web", "web=web:v2"]).ok().says(&["image updated"]);
    kubectl(&["rollout", "status", "deployment/web", "--timeout=40s"]).ok().says(&["successfully rolled out"]);
    until("the new version answers", Duration::from_secs(5), || get(&port).filter(|t| t.contains("this is v2")));
    // The followed pod went with the old version, so that following ends by itself.
    following.finish(Duration::from_secs(20)).says(&["serving v1"]);
    kubectl(&["rollout", "history", "deployment/web"]).ok().says(&["1", "2"]);
    let described = kubectl(&["describe", "deployment", "web"]).ok();
    described.says(&["Scaled up replica set web-", "Scaled down replica set web-", " from 0 to 1", " from 1 to 0"]);
    kubectl(&["describe", "rs", "-l", "app=web"]).ok().says(&["SuccessfulDelete", "Deleted pod: web-"]);

    kubectl(&["scale", "deployment/web", "--replicas=1"]).ok().says(&["scaled"]);
    kubectl(&[
        "patch",
        "deployment",
        "web",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/metadata/labels/x","value":"y"}]"#,
    ])
    .ok();
    kubectl(&["label", "deployment", "web", "z=1"]).ok();
    kubectl(&["get", "deployment", "web", "--show-labels"]).ok().says(&["x=y", "z=1", "app=web"]);
    kubectl(&["get", "nosuchkinds"]).exits(1).says(&["nosuchkinds"]);

    let begun = Instant::now();
    kubectl(&["delete", "-f", &app, "--timeout=30s"]).ok().says(&["deleted"]);
    until("the pods are gone", Duration::from_secs(20), || {
        kubectl(&["get", "pods", "-o", "name"]).ok().stdout.trim().is_empty().then_some(())
    });
    println!("gone after {:?}", begun.elapsed());
    assert!(get(&port).is_none(), "the Service is deleted and still answers");
    watching.signal(rustix::process::Signal::TERM);
    watching.finish(Duration::from_secs(5)).says(&["Running", "Terminating", "ContainerCreating"]);
    up.end().exits(0);
}

/// Pods that may not be made: the ReplicaSet and the Deployment say why, as on any cluster.
#[test]
fn a_deployment_whose_pods_are_refused_says_why() {
    let house = House::empty();
    let Some(kubectl) = kubectl() else { return not_run("kubectl", "there is no kubectl") };
    let up = house.up(&[]);
    let kubectl = |args: &[&str]| -> Done {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(house.home().join("run/kubeconfig")).args(args);
        run(command.env("HOME", house.path("")).env_remove("KUBECONFIG"))
    };
    let app = house.file(
        "app.yaml",
        &APP.replace("spec:\n      term", "spec:\n      serviceAccountName: nobody-here\n      term"),
    );
    kubectl(&["apply", "-f", &app]).ok();
    let why = "serviceaccount \"nobody-here\" not found";
    until("the Deployment says why", Duration::from_secs(10), || {
        let described = kubectl(&["describe", "deployment", "web"]).ok().stdout;
        (described.contains("ReplicaFailure") && described.contains("FailedCreate")).then_some(())
    });
    kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.conditions}"])
        .ok()
        .says(&[&why.replace('"', "\\\"")]);
    kubectl(&["describe", "rs", "-l", "app=web"]).ok().says(&["Warning", "FailedCreate", "Error creating: pods", why]);
    kubectl(&["create", "serviceaccount", "nobody-here"]).ok();
    until("the pods are made", Duration::from_secs(10), || {
        let pods = kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().stdout;
        (pods.lines().count() == 2).then_some(())
    });
    until("the failure is over", Duration::from_secs(10), || {
        let status =
            kubectl(&["get", "deployment,rs", "-o", "jsonpath={.items[*].status.conditions[*].type}"]).ok().stdout;
        (!status.contains("ReplicaFailure")).then_some(())
    });
    up.end().exits(0);
}
