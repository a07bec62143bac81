//! Which cluster a verb talks to: the `up` of `--home`, or another one that the user named. `KUBECONFIG` in the
//! environment decides nothing: a release must not go to another cluster because of a variable that happens to be set.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::Global;
use crate::home::Home;

/// So long an `up` that starts is waited for.
const STARTING_MAX: Duration = Duration::from_secs(15);

/// A client and the namespace that verbs use.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// Connects to what the flags name.
pub(crate) async fn connect(global: &Global) -> Result<Connection> {
    let config = config(global).await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok(Connection { client: Client::try_from(config)?, namespace })
}

/// Where what the flags name is, and with which credential.
pub(crate) async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), ..Default::default() };
    if global.kubeconfig.is_some() || global.context.is_some() {
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
