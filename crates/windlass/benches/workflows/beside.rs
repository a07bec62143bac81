//! A real API server, and the programs that run workflows on it, one after the other: ours, and Argo's in two tunings.
//! The stub kubelet and the way to measure are the same for all.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::measure::{self, Figures};
use super::{stub, work};

/// Who runs the workflows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Program {
    /// `windlass controller`.
    Windlass,
    /// Argo's controller, at its path, as it comes: 20 requests a second, a look every 10 s.
    Stock(PathBuf),
    /// The same with 1,000 requests a second, 2,000 at once, and a look every second.
    Tuned(PathBuf),
}

impl Program {
    /// For the table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Windlass => "windlass",
            Self::Stock(_) => "argo, stock",
            Self::Tuned(_) => "argo, tuned",
        }
    }

    fn command(&self, kubeconfig: &PathBuf) -> Command {
        match self {
            Self::Windlass => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
                command.arg("controller").arg("--kubeconfig").arg(kubeconfig).args([
                    "--image",
                    "windlass:none",
                    "--leader-election-disable",
                ]);
                command
            }
            Self::Stock(path) => argo(path, kubeconfig, ["20", "30"], "10s"),
            Self::Tuned(path) => argo(path, kubeconfig, ["1000", "2000"], "1s"),
        }
    }
}

fn argo(path: &PathBuf, kubeconfig: &PathBuf, [qps, burst]: [&str; 2], requeue: &str) -> Command {
    let mut command = Command::new(path);
    command.env("LEADER_ELECTION_DISABLE", "true").env("LEADER_ELECTION_IDENTITY", "bench");
    command.env("DEFAULT_REQUEUE_TIME", requeue).arg("--kubeconfig").arg(kubeconfig);
    command.args(["--configmap", "workflow-controller-configmap", "--executor-image", "argoexec:none"]);
    command.args(["--qps", qps, "--burst", burst, "--loglevel", "error"]);
    command
}

/// A program that ends with the bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the bench needs of a cluster.
pub(crate) struct Cluster {
    kubeconfig: PathBuf,
    client: Client,
}

impl Cluster {
    /// The cluster of a kubeconfig; Argo's empty ConfigMap is made where it looks for it.
    pub(crate) async fn open(kubeconfig: PathBuf) -> Self {
        let file = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
            Api::namespaced(client.clone(), &config.default_namespace);
        let map = json!({"metadata": {"name": "workflow-controller-configmap"}});
        // There already: the one of a run before.
        let _ = maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await;
        Self { kubeconfig, client }
    }

    /// Makes a namespace, and waits for what every pod needs of it: its account comes a moment later.
    async fn make_namespace(&self, name: &str) {
        measure::make_namespace(&self.client, name).await;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client.clone(), name);
        while accounts.get_opt("default").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Seconds for as many bare pods as each workload has, each in a namespace of its own.
    pub(crate) async fn bare(&self, works: &[work::Work]) -> Vec<f64> {
        let kubelet = tokio::spawn(stub::run(self.client.clone(), 0));
        let (mut out, mut namespaces) = (Vec::new(), Vec::new());
        // The first is for the stub to have seen what lies about.
        for pods in std::iter::once(1).chain(works.iter().map(|work| work.pods)) {
            let namespace = format!("b-bare-{}", jiff::Timestamp::now().as_millisecond());
            self.make_namespace(&namespace).await;
            let begin = std::time::Instant::now();
            stub::bare(&self.client, &namespace, pods).await;
            out.push(begin.elapsed().as_secs_f64());
            namespaces.push(namespace);
        }
        kubelet.abort();
        // They are of no workflow that is there: a controller would begin with them.
        let pods = Api::<k8s_openapi::api::core::v1::Pod>::all(self.client.clone());
        for namespace in namespaces {
            let of_it = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(self.client.clone(), &namespace);
            of_it.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        }
        let bare = ListParams::default().labels(&format!("{}=none", windlass_model::labels::WORKFLOW)).limit(1);
        while !pods.list_metadata(&bare).await.unwrap().items.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        out.split_off(1)
    }

    /// Runs the workloads with one program, each in a namespace of its own; the workflows are left lying about.
    pub(crate) async fn run(
        &self,
        program: &Program,
        works: &[work::Work],
        limit: Duration,
        log: Stdio,
    ) -> Vec<Figures> {
        let child = program.command(&self.kubeconfig).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let running = Running(child.unwrap_or_else(|e| panic!("{}: {e}", program.name())));
        let pid = running.0.id();
        let kubelet = tokio::spawn(stub::run(self.client.clone(), 0));
        let stamp = jiff::Timestamp::now().as_second();
        let tag: String = program.name().chars().filter(char::is_ascii_alphabetic).collect();
        let warm = work::work("one:1").unwrap();
        let namespace = format!("b-{tag}-warm-{stamp}");
        self.make_namespace(&namespace).await;
        let warmed = measure::run(&self.client, &warm, &namespace, limit).await;
        assert_eq!(warmed.succeeded, 1, "{} does not run a workflow of one pod", program.name());
        let mut out = Vec::new();
        for (i, work) in works.iter().enumerate() {
            let namespace = format!("b-{tag}-{i}-{stamp}");
            self.make_namespace(&namespace).await;
            measure::forget_peak(pid);
            let (cpu, asked) = (measure::cpu(pid), measure::requests(&self.client).await);
            let mut figures = measure::run(&self.client, work, &namespace, limit).await;
            // What follows the end (labels of pods, reports that go) belongs to the work as well.
            tokio::time::sleep(Duration::from_secs(2)).await;
            figures.cpu = measure::cpu(pid) - cpu;
            figures.memory = measure::told(pid, "status", "VmHWM:") / 1024.0;
            figures.requests = measure::between(&asked, measure::requests(&self.client).await);
            eprintln!("{}, {}: {figures:?}", program.name(), work.name);
            out.push(figures);
        }
        kubelet.abort();
        out
    }
}
