//! Which cluster a verb talks to: the `up` of `--home`, or another one that the user named. `KUBECONFIG` in the
//! environment decides nothing: a release must not go to another cluster because of a variable that happens to be set.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::{ArgoServerArgs, Global};
use crate::home::Home;

/// So long an `up` that starts is waited for.
const STARTING_MAX: Duration = Duration::from_secs(15);

/// A client and the namespace that verbs use.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Who is asked for what outlives objects, where it is not the cluster itself.
    pub(crate) server: Option<Server>,
}

/// Another address than the API's, as `argo` is told it.
#[derive(Clone)]
pub(crate) struct Server(ArgoServerArgs, Arc<OnceLock<Client>>);

impl Server {
    fn of(global: &Global) -> Option<Self> {
        let named = global.server.argo_server.as_deref().is_some_and(|address| !address.is_empty());
        named.then(|| Self(global.server.clone(), Arc::default()))
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client> {
        if let Some(client) = self.1.get() {
            return Ok(client.clone());
        }
        let client = self.connect()?;
        Ok(self.1.get_or_init(|| client).clone())
    }

    fn connect(&self) -> Result<Client> {
        let Self(args, _) = self;
        let address = args.argo_server.as_deref().unwrap_or_default();
        let bare = address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
        let scheme = if args.secure { "https" } else { "http" };
        let below = args.argo_base_href.as_deref().unwrap_or_default().trim_matches('/');
        let url = format!("{scheme}://{bare}/{below}");
        let url = url.parse().with_context(|| format!("`{address}` is no address: write --argo-server HOST:PORT"))?;
        let token = std::env::var("ARGO_TOKEN").unwrap_or_default();
        let token = token.trim();
        // As `argo` has it: the word is a part of the variable.
        let token = match token.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => token,
        };
        if token.is_empty() {
            bail!(
                "{address} wants a token: export ARGO_TOKEN=\"Bearer $(kubectl create token ACCOUNT)\", of an account that may \
                 list and get workflows"
            );
        }
        let mut config = Config::new(url);
        config.accept_invalid_certs = args.insecure_skip_verify;
        // That a database is away is told, not waited for.
        config.default_retry = false;
        config.auth_info = serde_json::from_value(serde_json::json!({"token": token}))?;
        Ok(Client::try_from(config)?)
    }
}

/// Connects to what the flags name.
pub(crate) async fn connect(global: &Global) -> Result<Connection> {
    let config = config(global).await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    // An `up` answers for itself, whatever variable happens to be set.
    let server = is_named(global).then(|| Server::of(global)).flatten();
    Ok(Connection { client: Client::try_from(config)?, namespace, server })
}

fn is_named(global: &Global) -> bool {
    global.kubeconfig.is_some() || global.context.is_some()
}

/// The same for verbs that read what outlives objects and make a workflow of it: both have to be of one cluster.
pub(crate) async fn connect_both(global: &Global) -> Result<Connection> {
    if Server::of(global).is_some() && !is_named(global) {
        bail!(
            "the archive is at --argo-server (or ARGO_SERVER); where is the workflow to run? name a cluster with --kubeconfig"
        );
    }
    connect(global).await
}

/// The same for verbs that only ask for what outlives objects: where that is elsewhere, no cluster is needed.
pub(crate) async fn connect_kept(global: &Global) -> Result<Connection> {
    match Server::of(global) {
        Some(server) if !is_named(global) => {
            let namespace = global.namespace.clone().unwrap_or_else(|| "default".to_owned());
            Ok(Connection { client: server.client()?, namespace, server: Some(server) })
        }
        _ => connect(global).await,
    }
}

/// Where what the flags name is, and with which credential.
pub(crate) async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), ..Default::default() };
    if is_named(global) {
        let kubeconfig = match &global.kubeconfig {
            Some(path) => Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => Kubeconfig::read().context("cannot read the default kubeconfig; name one with --kubeconfig")?,
        };
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.context("this kubeconfig cannot be used");
    }
    let home = Home::find(global.home.as_deref())?;
    // One that starts says when it is there.
    let begun = Instant::now();
    while home.is_taken() && home.ports().is_none() && begun.elapsed() < STARTING_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !home.is_taken() || home.ports().is_none() {
        bail!(
            "no `windlass up` runs on {}\n  start one:            windlass up\n  or run one workflow:  windlass run FILE\n  or name a cluster:    --kubeconfig FILE",
            home.root().display()
        );
    }
    let kubeconfig = Kubeconfig::read_from(home.kubeconfig())?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}
