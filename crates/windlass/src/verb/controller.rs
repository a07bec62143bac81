//! `windlass controller`: the loops against a Kubernetes cluster, the same as in `up`, with the executor inside of steps'
//! pods. On its own disk it keeps nothing but what images run by themselves; what outlives workflows is in a database, where one is named.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{DynamicObject, PostParams};
use kube::config::AuthInfo;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_apiserver::listener;
use windlass_control::clock::Clock;
use windlass_control::election::{self, Candidate};
use windlass_control::form::{Executor, PodExecutor};
use windlass_control::metrics::Metrics;
use windlass_control::{archive, cron, garbage, retention, tables, workflow};
use windlass_engine::metrics::{Metric, Operation, Reading};
use windlass_engine::pod_form::PodForm;
use windlass_oci::Store;
use windlass_oci::client::{self, ClientOptions};
use windlass_server::{EventOptions, Events, archived, remembered};

use crate::cli::{ControllerArgs, KanikoBy};
use crate::cluster;
use crate::connect;
use crate::database;
use crate::deploy;
use crate::home::Home;
use crate::image_commands::Registries;
use crate::names::Names;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: ControllerArgs) -> Result<ExitCode> {
    let settings = args.settings;
    let home = Home::find(session.global.home.as_deref())?;
    home.create()?;
    let names = Names::read(&settings.names, &home)?;
    let config = config(session).await?;
    let client = Client::try_from(config.clone())?;
    ensure_kinds(&client).await?;
    let configured = workflow::configured(&client, &settings.controller_namespace).await;
    let configured = configured.context("cannot read the controller's configuration")?;
    let scope = settings.scope(configured.instance);
    let database = configured.archiving.database.transpose();
    let database = database.map_err(|why| anyhow!("{}: persistence.{why}", workflow::CONFIGURATION))?;
    if database.is_none() && configured.archiving.on == Some(true) {
        tracing::warn!(
            "persistence says `archive: true` and names no postgresql that can be used: nothing is archived"
        );
    }
    let kept =
        database.as_ref().map(|of| Arc::new(database::open(&client, &settings.controller_namespace, of, &scope)));

    let images = ClientOptions {
        credentials: super::image::credentials(None)?,
        insecure: names.insecure().to_vec(),
        remap: names.registries()?,
        ..ClientOptions::new()
    };
    let images = Registries::new(client::Client::new(Store::open(home.images())?, images)?);
    let form = PodForm {
        image: settings.image.clone(),
        pull_policy: settings.image_pull_policy.map(|policy| policy.word().to_owned()),
        token_secret: deploy::TOKEN_SECRET.to_owned(),
        env: names.for_pods(),
        kaniko_image: settings.kaniko == KanikoBy::Image,
    };
    let mut loops = workflow::Settings {
        engine: windlass_engine::Config {
            executor_image: settings.image.clone(),
            // There is no store on a cluster that nobody has set up.
            artifact_repository: windlass_model::ArtifactLocation::default(),
            ..windlass_engine::Config::default()
        },
        executor: Executor::Pod(PodExecutor { form, images: Arc::new(images) }),
        scope: scope.clone(),
        controller_namespace: settings.controller_namespace.clone(),
        always_offload: cluster::always_offload(),
        database: database.clone(),
        ..workflow::Settings::default()
    };
    if let Some(kept) = &kept {
        loops.archive = Some(kept.clone());
        loops.memory = Some(kept.clone());
    }

    let interrupted = super::run::interruption()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    loops.traces = cluster::traces(&tasks, &stop)?;
    if let Some(address) = args.metrics_listen {
        let listener = cluster::bind(address, "metrics", "--metrics-listen").await?;
        tasks.spawn(cluster::serve(listener, cluster::metrics_routes(&loops.metrics), stop.clone(), "metrics"));
    }
    if let Some(address) = settings.events_listen {
        // Who sends an event brings a token, and nothing is done with ours.
        let mut outside = config;
        outside.auth_info = AuthInfo::default();
        let anonymous = Client::try_from(outside)?;
        let events = Events::new(anonymous.clone(), client.clone(), EventOptions::default());
        let mut router = events.routes().merge(windlass_server::health::routes());
        if let Some(kept) = &kept {
            let routes = archived::routes(kept.clone()).merge(remembered::routes(kept.clone()));
            router = router.merge(archived::by_token(routes, anonymous));
        }
        // Whoever names another address than loopback in a pod means it; a Service cannot reach loopback.
        let listener = listener::bind(address, true).await;
        let listener = listener.with_context(|| format!("events cannot listen on {address}: see --events-listen"))?;
        tasks.spawn(cluster::serve(listener, router, stop.clone(), "events"));
    }
    if let Some((kept, database)) = kept.zip(database) {
        let until = stop.clone();
        let told = database::tell(kept.as_ref().clone(), database);
        tasks.spawn(async move { until.run_until_cancelled(told).await });
    }
    let mut candidate = None;
    let mut interrupted = std::pin::pin!(interrupted);
    if !args.election.leader_election_disable {
        let home = settings.controller_namespace.as_str();
        let lease = election::lease_name(home, &scope);
        let identity = args.election.leader_election_identity.clone().unwrap_or_else(identity);
        let terms = args.election.terms();
        if let Some(fault) = terms.fault() {
            bail!("{fault}: see --leader-election-lease-duration and its like");
        }
        tell_leader(&loops.metrics, false);
        println!("windlass controller: {identity} stands for the lease {lease} of namespace {home}");
        let mut stands = Candidate::new(client.clone(), (home, &lease), &identity, terms, Clock::default());
        tokio::select! {
            () = &mut interrupted => {
                stop.cancel();
                return Ok(ExitCode::SUCCESS);
            }
            () = stands.win() => candidate = Some(stands),
        }
    }
    tell_leader(&loops.metrics, true);
    match loops.database {
        Some(_) => {
            tasks.spawn(retention::run_with_database(client.clone(), scope.clone(), Clock::default(), stop.clone()))
        }
        None => tasks.spawn(retention::run(client.clone(), scope.clone(), Clock::default(), stop.clone())),
    };
    tasks.spawn(cron::run(client.clone(), scope.clone(), Clock::default(), stop.clone()));
    tasks.spawn(archive::run(client.clone(), loops.clone(), stop.clone()));
    tasks.spawn(garbage::run(client.clone(), loops.clone(), stop.clone()));
    tasks.spawn(tables::run(client.clone(), scope.clone(), Clock::default(), stop.clone()));
    tasks.spawn(workflow::run(client, loops, stop.clone()));
    tasks.close();
    let of_instance = scope.instance.name().map(|id| format!(" with the instance ID {id}")).unwrap_or_default();
    match &scope.namespace {
        Some(namespace) => println!("windlass controller: workflows of namespace {namespace}{of_instance}"),
        None => println!("windlass controller: workflows of all namespaces{of_instance}"),
    }
    let lost = async {
        match &mut candidate {
            Some(candidate) => candidate.keep().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interrupted => {}
        // Another one may begin soon: nothing is brought to its end here.
        why = lost => bail!("the lease is lost ({why}): this controller ends; started again it stands by"),
    }
    stop.cancel();
    // Runs in flight are left as they are: their status says how far they came.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), tasks.wait()).await;
    if let (Some(candidate), Ok(())) = (candidate, ended) {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), candidate.resign()).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// A name that no other process has.
fn identity() -> String {
    let host = rustix::system::uname();
    format!("{}_{:016x}", host.nodename().to_string_lossy(), rand::random::<u64>())
}

/// Argo's metric of who works.
fn tell_leader(metrics: &Metrics, leads: bool) {
    let reading = Reading::Gauge { value: f64::from(u8::from(leads)), operation: Operation::Set };
    let help = "Emits 1 if leader, 0 otherwise. Always 1 if leader election is disabled.";
    let metric = Metric { name: "is_leader".to_owned(), help: help.to_owned(), labels: Default::default(), reading };
    if let Err(fault) = metrics.count("", metric) {
        tracing::warn!(fault, "is_leader");
    }
}

/// The cluster that the flags name, else the one that this program runs in.
async fn config(session: &Session) -> Result<Config> {
    if session.global.kubeconfig.is_some() || session.global.context.is_some() {
        return connect::config(&session.global).await;
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        bail!("which cluster? name one with --kubeconfig FILE or --context NAME (in a pod of the cluster it is known)");
    }
    Config::incluster().context("this pod has no ServiceAccount token")
}

/// Makes the kinds that are not there; never changes one.
async fn ensure_kinds(client: &Client) -> Result<()> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let kinds = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kinds);
    for manifest in windlass_model::crds::manifests() {
        let object: DynamicObject = serde_json::from_value(manifest)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let there = api.get_opt(&name).await.with_context(|| format!("cannot ask the cluster for the kind {name}"))?;
        if there.is_some() {
            continue;
        }
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => tracing::info!(kind = name, "made"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "the kind {name} is not there and cannot be made; \
                         `windlass install --image IMAGE | kubectl apply --server-side -f -` makes it"
                    )
                });
            }
        }
    }
    Ok(())
}
