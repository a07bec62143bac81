//! `windlass up`: the embedded cluster, until it is told to end.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::UpArgs;
use crate::cluster::{Cluster, Listen, Open};
use crate::home::Home;
use crate::start::Session;

pub(super) async fn run(session: Session, args: UpArgs) -> Result<ExitCode> {
    let home = Home::find(session.global.home.as_deref())?;
    if args.print_kubeconfig {
        println!("{}", home.kubeconfig().display());
        return Ok(ExitCode::SUCCESS);
    }
    let host = session.host.clone().context("up hosts containers")?;
    let listen = Listen {
        api: args.api_listen,
        open: Some(Open {
            registry: args.registry_listen,
            webhooks: args.webhook_listen,
            metrics: args.metrics_listen,
            secret_file: args.webhook_secret_file,
            namespace: args.webhook_namespace,
        }),
    };
    // Told to end while it starts, it ends in good order as soon as it has started.
    let interrupted = super::run::interruption()?;
    let lock = home.lock()?;
    let cluster = Cluster::start(host, home.clone(), lock, &args.cluster, listen).await?;
    let ports = cluster.ports();
    println!("windlass is up");
    println!("  API         https://{}", ports.api);
    println!("  registry    http://{}   (in pods and manifests: registry.windlass.internal)", ports.registry);
    println!("  webhooks    http://{}/webhooks/github", ports.webhooks);
    println!("  events      http://{}/api/v1/events/NAMESPACE/", ports.webhooks);
    println!("  kubeconfig  {}", home.kubeconfig().display());
    println!("\n  kubectl --kubeconfig {} get pods -A", home.kubeconfig().display());
    println!("  windlass hook install REPO       start .ci/workflow.yaml on each push\n");
    println!("Ctrl-C ends it; its containers end with it, and what is unfinished goes on at the next `up`.");
    interrupted.await;
    eprintln!("\nending: containers are stopped");
    cluster.stop().await;
    Ok(ExitCode::SUCCESS)
}
