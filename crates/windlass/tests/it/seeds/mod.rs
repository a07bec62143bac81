//! The articles that Windlass was asked for, end to end: the manifests of `conformance/seeds` as they stand, applied to an
//! `up` with the commands that the articles have, against a real registry with basic auth, a real S3 server, git over HTTP
//! and a real sshd. What an article calls by a name of the outside world is served here by a `--remap-*` rule.
//!
//! Each case prints what this machine could not run. The node tables are snapshots.

mod bitbucket;
mod forge;
mod images;
mod kaniko;
mod recorded;
mod registry;
mod repositories;
mod sshd;
mod table;
mod webhook_handler;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::house::{Done, House, Running, Up, not_run, program, run};
use crate::kubectl::kubectl;

/// A build with a cold cache on a busy machine.
pub(crate) const BUILD: Duration = Duration::from_secs(300);

/// A manifest of the articles, unchanged.
pub(crate) fn seed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/seeds").join(name);
    assert!(path.is_file(), "no seed {}", path.display());
    path.to_str().unwrap().to_owned()
}

/// One reader of an article: a home, the tools, and in time an `up`.
pub(crate) struct Reader {
    pub(crate) house: House,
    kubectl: PathBuf,
    up: Option<Up>,
}

impl Reader {
    /// A reader whose machine has these programs (each with the package that brings it).
    pub(crate) fn new(case: &str, needs: &[(&str, &str)]) -> Option<Self> {
        let missing: Vec<String> = needs
            .iter()
            .filter(|(name, _)| program(name).is_none())
            .map(|(name, package)| format!("{name} (package {package})"))
            .collect();
        if !missing.is_empty() {
            not_run(case, &format!("there is no {}", missing.join(" and no ")));
            return None;
        }
        let Some(kubectl) = kubectl() else {
            not_run(case, "there is no kubectl (package kubernetes-client)");
            return None;
        };
        Some(Self { house: House::empty(), kubectl, up: None })
    }

    pub(crate) fn begin(&mut self, flags: &[&str]) {
        self.up = Some(self.house.up(flags));
    }

    pub(crate) fn up(&self) -> &Up {
        self.up.as_ref().unwrap()
    }

    pub(crate) fn end(&mut self) {
        self.up.take().unwrap().end().exits(0);
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.house.home().join("run/kubeconfig")).args(args);
        command.env("HOME", self.house.path("")).current_dir(self.house.path(""));
        command
    }

    /// One kubectl command, as it is typed.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str]) -> Done {
        run(&mut self.kubectl_command(args))
    }

    /// Applies what stands here.
    #[track_caller]
    pub(crate) fn apply(&self, namespace: &str, name: &str, text: &str) {
        let file = self.house.file(name, text);
        self.kubectl(&["apply", "-n", namespace, "-f", &file]).ok();
    }

    /// One verb of windlass that may take as long as a build.
    #[track_caller]
    pub(crate) fn windlass(&self, args: &[&str]) -> Done {
        Running::begin(&mut self.house.command(args)).finish(BUILD)
    }

    /// `windlass submit … --wait`, and the workflow when it has ended.
    #[track_caller]
    pub(crate) fn submit(&self, namespace: &str, args: &[&str]) -> Value {
        let name = self.windlass(&[&["-n", namespace, "submit", "-o", "name"], args].concat()).ok().stdout;
        self.ended(namespace, name.trim())
    }

    /// The workflow when it has ended.
    #[track_caller]
    pub(crate) fn ended(&self, namespace: &str, name: &str) -> Value {
        self.windlass(&["-n", namespace, "wait", name]);
        self.house.windlass(&["-n", namespace, "get", name, "-o", "json"]).ok().json()
    }

    /// The workflow, which went well.
    #[track_caller]
    pub(crate) fn succeeded(&self, workflow: Value) -> Value {
        let name = workflow["metadata"]["name"].as_str().unwrap();
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap();
        if workflow["status"]["phase"] != "Succeeded" {
            let logs = self.windlass(&["-n", namespace, "logs", name]);
            panic!("{}\n{}\n{}", table::of(&workflow), logs.stdout, logs.stderr);
        }
        workflow
    }

    /// The logs of a workflow's steps.
    #[track_caller]
    pub(crate) fn logs(&self, workflow: &Value) -> String {
        let name = workflow["metadata"]["name"].as_str().unwrap();
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap();
        self.windlass(&["-n", namespace, "logs", name]).ok().stdout
    }

    /// A port on this machine to a Service of the cluster, as long as the value lives.
    pub(crate) fn forward(&self, namespace: &str, service: &str, port: u16) -> Forward {
        let to = format!(":{port}");
        let service = format!("svc/{service}");
        let running = Running::begin(&mut self.kubectl_command(&["-n", namespace, "port-forward", &service, &to]));
        let address = crate::house::until("port-forward listens", Duration::from_secs(30), || {
            let said = running.said();
            let line = said.lines().find(|l| l.starts_with("Forwarding from 127.0.0.1:"))?;
            Some(format!("127.0.0.1:{}", line.split(':').nth(1)?.split(' ').next()?))
        });
        Forward { running: Some(running), address }
    }
}

impl Drop for Reader {
    /// What a failed case leaves for whoever looks into it.
    fn drop(&mut self) {
        if std::thread::panicking() && self.up.is_some() {
            for args in [&["get", "pods,svc,deployments", "-A", "-o", "wide"][..], &["get", "events", "-A"]] {
                let done = Running::begin(&mut self.kubectl_command(args)).finish(Duration::from_secs(20));
                eprintln!("--- kubectl {}\n{}{}", args.join(" "), done.stdout, done.stderr);
            }
            let mut logs = Command::new("tail");
            logs.args(["-n", "20"]).arg("-v").current_dir(self.house.home().join("logs"));
            let files = run(Command::new("find").arg(self.house.home().join("logs")).args(["-type", "f"])).stdout;
            eprintln!("{}", run(logs.args(files.lines())).stdout);
            if let Some(up) = &self.up {
                eprintln!("--- up said\n{}", up.said());
            }
        }
    }
}

/// A `kubectl port-forward` under way.
pub(crate) struct Forward {
    running: Option<Running>,
    pub(crate) address: String,
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal(rustix::process::Signal::TERM);
            let _ = running.child.wait();
        }
    }
}

/// One GET; the status and the body.
pub(crate) fn get(address: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}
