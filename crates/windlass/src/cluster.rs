//! The whole embedded cluster in this process: API, node agent, workload loops, workflow and delivery loops, registry and
//! webhooks. Only wiring: every part gets what it needs and nothing else, and no part knows that it is embedded.

mod annex;
mod kaniko;
mod kubelet;
mod nodes;
mod outward;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_apiserver::auth::StaticToken;
use windlass_apiserver::kubeconfig::Kubeconfig;
use windlass_apiserver::{ApiServer, Identity, Options, listener, tls};
use windlass_archive::SqliteArchive;
use windlass_artifacts::AllowPaths;
use windlass_artifacts::git::{GitAccess, Mirrors};
use windlass_artifacts::store::LocalStore;
use windlass_build::ConfinedUnpacker;
use windlass_control::clock::Clock;
use windlass_control::form::{Executor, PodExecutor};
use windlass_control::traces::{Endpoint, Traces};
use windlass_control::{Scope, archive, cron, delivery, garbage, retention, tables, workflow};
use windlass_engine::pod_form::PodForm;
use windlass_executor::inputs::Stores;
use windlass_node::Agent;
use windlass_oci::client::{self, ClientOptions, Secret};
use windlass_oci::{Store, registry};
use windlass_sandbox::Host;
use windlass_server::{EventOptions, Events, Secrets, Webhook, WebhookOptions};

pub(crate) use kaniko::Kaniko;
pub(crate) use outward::BuildNetwork;

use crate::cli::{Allow, ClusterArgs, ExecutorForm};
use crate::deploy;
use crate::home::{Home, Lock, Ports};
use crate::image_commands::Registries;
use crate::names::Names;

/// Where the cluster listens, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    pub(crate) api: SocketAddr,
    /// Registry and webhooks; none when the cluster lives for one run only.
    pub(crate) open: Option<Open>,
}

/// The doors of a cluster that others use.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) registry: SocketAddr,
    pub(crate) webhooks: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) secret_file: Option<std::path::PathBuf>,
    pub(crate) namespace: String,
}

const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Listen {
    /// For one run: the API for the pods' own use, on a free port, and nothing else.
    pub(crate) fn private() -> Self {
        Self { api: FREE, open: None }
    }

    /// Everything, on ports that are free.
    pub(crate) fn free_ports() -> Self {
        let open =
            Open { registry: FREE, webhooks: FREE, metrics: None, secret_file: None, namespace: "default".to_owned() };
        Self { api: FREE, open: Some(open) }
    }
}

/// A cluster that runs.
pub(crate) struct Cluster {
    client: Client,
    store: Store,
    ports: Ports,
    home: Home,
    stop: CancellationToken,
    /// Loops that end before the agent does, so that nothing new is started while containers end.
    tasks: TaskTracker,
    agent: tokio::task::JoinHandle<()>,
    _lock: Lock,
}

impl Cluster {
    /// Starts everything, in the order in which one part needs another.
    pub(crate) async fn start(host: Host, home: Home, lock: Lock, flags: &ClusterArgs, listen: Listen) -> Result<Self> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let allow = AllowPaths::new(flags.allow_path.clone());
        let names = Names::read(&flags.names, &home)?;
        let git = GitAccess {
            allow: allow.clone(),
            remap: names.git()?,
            known_hosts: names.known_hosts(&home),
            ..Default::default()
        };

        let options = Options { keys: Some(home.run()), ..Options::file(home.state()) };
        let api = ApiServer::open(options).await.context("cannot open the state")?;
        api.ensure_crds(&windlass_model::crds::manifests()).await.context("cannot install the kinds")?;

        let kept = Arc::new(SqliteArchive::new(home.archive()));
        api.set_annex(Arc::new(annex::Routes::new(kept.clone())));
        let api_listener = bind(listen.api, "the API", "--api-listen").await?;
        let api_address = api_listener.local_addr()?;
        let authority = tls::Authority::load_or_create(&home.run(), &[], jiff::Timestamp::now())?;
        let ca = authority.pem().to_owned();
        let server_config = tls::server_config(authority)?;
        tasks.spawn(listener::serve(api.clone(), api_listener, server_config, stop.clone()));

        let store = Store::open(home.images()).context("cannot open the image store")?;
        let store = store.with_unpacker(Arc::new(ConfinedUnpacker::new(host.clone())));
        let images =
            ClientOptions { insecure: names.insecure().to_vec(), remap: names.registries()?, ..ClientOptions::new() };
        let one_run = listen.open.is_none();
        let mut ports = Ports { pid: std::process::id(), one_run, api: api_address, registry: FREE, webhooks: FREE };
        let controller = api.client(Identity::system("windlass:controller"));

        let metrics = windlass_control::metrics::Metrics::default();
        if let Some(open) = &listen.open {
            if let Some(address) = open.metrics {
                let listener = bind(address, "metrics", "--metrics-listen").await?;
                tasks.spawn(serve(listener, metrics_routes(&metrics), stop.clone(), "metrics"));
            }
            let registry_listener = bind(open.registry, "the registry", "--registry-listen").await?;
            ports.registry = registry_listener.local_addr()?;
            let token = Secret::new(home.secret(&home.run().join("registry-token"))?);
            let router = registry::router(store.clone(), Arc::new(registry::TokenAuthorize::new(token)));
            tasks.spawn(serve(registry_listener, router, stop.clone(), "registry"));

            let webhook_listener = bind(open.webhooks, "webhooks", "--webhook-listen").await?;
            ports.webhooks = webhook_listener.local_addr()?;
            let secrets = match &open.secret_file {
                Some(path) => Secrets::from_file(path)?,
                None => Secrets::one(home.secret(&home.webhook_secret())?),
            };
            let options = WebhookOptions { secrets, namespace: open.namespace.clone(), ..Default::default() };
            let webhook = Webhook::new(controller.clone(), options);
            let events = Events::new(api.outside_client(), controller.clone(), EventOptions::default());
            let router = windlass_server::router(webhook).merge(events.routes());
            tasks.spawn(serve(webhook_listener, router, stop.clone(), "webhooks"));

            let mirrors = Arc::new(Mirrors::new(home.root().join("git"), git.clone()));
            let settings = delivery::Settings {
                namespace: open.namespace.clone(),
                policy: windlass_schedule::trigger::Policy { namespace: open.namespace.clone(), ..Default::default() },
                ..Default::default()
            };
            let deliveries = delivery::DeliveryLoop::new(controller.clone(), mirrors, settings);
            let until = stop.clone();
            tasks.spawn(async move {
                if let Err(e) = deliveries.run(until).await {
                    tracing::error!(error = %e, "the delivery loop ended");
                }
            });
        }

        let url = format!("https://{api_address}");
        let token = StaticToken::load_or_create(&home.run().join("token"))?;
        let kubeconfig = Kubeconfig { server: &url, ca_pem: &ca, token: token.reveal(), namespace: "default" };
        kubeconfig.write(&home.kubeconfig()).context("cannot write the kubeconfig")?;

        let stores = Stores {
            local: LocalStore::open(&home.artifacts()).context("cannot open the artifact store")?,
            git,
            outside: names.outside()?,
        };
        let name = nodes::name(flags.node_name.as_deref())?;
        let node = name.clone();
        nodes::forget_others(&api.client(Identity::admin()), &node).await.context("cannot take away an old node")?;
        let builder = kaniko::Kaniko::new(
            host.clone(),
            store.clone(),
            images.clone(),
            names.registry_rules(),
            home.root().join("build"),
        );
        let loops = workflow::Settings {
            executor: match flags.executor {
                ExecutorForm::Node => Executor::Node,
                ExecutorForm::Pod => Executor::Pod(PodExecutor {
                    form: PodForm {
                        image: windlass_engine::Config::default().executor_image,
                        token_secret: deploy::TOKEN_SECRET.to_owned(),
                        env: names.for_pods(),
                        ..PodForm::default()
                    },
                    images: Arc::new(Registries::new(client::Client::new(store.clone(), images.clone())?)),
                }),
            },
            metrics,
            traces: traces(&tasks, &stop)?,
            archive: Some(kept.clone()),
            memory: Some(kept.clone()),
            limits: Some(kept),
            always_offload: always_offload(),
            ..workflow::Settings::default()
        };
        let agent = Agent::new(windlass_node::Config {
            labels: nodes::labels(&flags.node_label)?,
            home: home.root().to_owned(),
            host,
            store: store.clone(),
            registries: images,
            client: api.client(Identity::system(&format!("system:node:{name}"))),
            api: api_address,
            ca_pem: ca.clone().into_bytes(),
            registry: listen.open.is_some().then_some(ports.registry),
            outward: true,
            stand_ins: names.stand_ins(),
            allow_paths: allow,
            policy: windlass_node::Policy {
                privileged: flags.allow.contains(&Allow::Privileged),
                host_network: flags.allow.contains(&Allow::HostNetwork),
            },
            stores,
            builder: Some(Arc::new(builder)),
            executable: None,
            name,
        })
        .await
        .context("cannot start the node agent")?;
        api.set_kubelet(Arc::new(kubelet::NodeAgent(agent.clone())));
        let until = stop.clone();
        let agent = tokio::spawn(async move {
            if let Err(e) = agent.run(until.cancelled_owned()).await {
                tracing::error!(error = %e, "the node agent ended");
            }
        });

        tasks.spawn(windlass_workloads::run(controller.clone(), ca, stop.clone()));
        tasks.spawn(retention::run(controller.clone(), Scope::default(), Clock::default(), stop.clone()));
        tasks.spawn(cron::run(controller.clone(), Scope::default(), Clock::default(), stop.clone()));
        tasks.spawn(archive::run(controller.clone(), loops.clone(), stop.clone()));
        tasks.spawn(garbage::run(controller.clone(), loops.clone(), stop.clone()));
        tasks.spawn(tables::run(controller.clone(), Scope::default(), Clock::default(), stop.clone()));
        tasks.spawn(workflow::run(controller, loops, stop.clone()));
        tasks.close();
        let client = api.client(Identity::admin());
        nodes::storage_class(&client).await.context("cannot make the storage class")?;
        // Nothing waits for them, and a start is not to.
        tokio::spawn(make_roles(client.clone()));
        if !one_run {
            nodes::ready(&client, &node).await?;
        }
        // Last: who reads it may use everything.
        home.write_ports(&ports)?;
        Ok(Self { client, store, ports, home, stop, tasks, agent, _lock: lock })
    }

    /// A client with all rights.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The image store.
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Ends the loops, then the containers.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        let _ = tokio::time::timeout(Duration::from_secs(10), self.agent).await;
        self.home.forget_ports();
    }
}

/// Makes Argo's roles where they are not there; never changes them.
async fn make_roles(client: Client) {
    let roles: Api<ClusterRole> = Api::all(client);
    let make = |role: Value| {
        let roles = roles.clone();
        async move {
            let role: ClusterRole = match serde_json::from_value(role) {
                Ok(role) => role,
                Err(error) => return tracing::error!(%error, "a role of ours is none"),
            };
            match roles.create(&PostParams::default(), &role).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!(%error, "a role was not made"),
                Ok(_) => {}
            }
        }
    };
    futures::future::join_all(windlass_model::roles::manifests().into_iter().map(make)).await;
}

/// Argo's variable: node tables lie on pages whatever their size.
pub(crate) fn always_offload() -> bool {
    std::env::var("ALWAYS_OFFLOAD_NODE_STATUS").is_ok_and(|text| text == "true")
}

/// Where spans go, if OpenTelemetry's variables name somebody who takes them.
pub(crate) fn traces(tasks: &TaskTracker, stop: &CancellationToken) -> Result<Option<Traces>> {
    let endpoint = Endpoint::read(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?;
    Ok(endpoint.map(|endpoint| {
        let (traces, waiting) = Traces::new();
        tasks.spawn(windlass_control::traces::send(waiting, endpoint, stop.clone()));
        traces
    }))
}

/// `/metrics`, of what the loops count.
pub(crate) fn metrics_routes(metrics: &windlass_control::metrics::Metrics) -> axum::Router {
    let metrics = metrics.clone();
    windlass_server::metrics::routes(Arc::new(move || metrics.text(jiff::Timestamp::now())))
}

pub(crate) async fn bind(address: SocketAddr, what: &str, flag: &str) -> Result<TcpListener> {
    listener::bind(address, false)
        .await
        .with_context(|| format!("{what} cannot listen on {address}: free the port, or choose another with {flag}"))
}

pub(crate) async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken, what: &'static str) {
    if let Err(e) = windlass_server::serve(listener, router, stop).await {
        tracing::error!(error = %e, what, "a listener ended");
    }
}
