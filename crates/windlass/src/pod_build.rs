//! `windlass executor kaniko`: a kaniko step of the `pod` form. The builder of one machine, in the step's own container: its
//! paths are the container's, its network is the pod's, its store is an `emptyDir`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use windlass_build::ConfinedUnpacker;
use windlass_model::places;
use windlass_node::{BuildFailure, BuildRequest, LogSink, PathMap, StepBuilder};
use windlass_oci::Store;
use windlass_oci::client::{ClientOptions, Remap};
use windlass_sandbox::{EnterOptions, Host};

use crate::cluster::Kaniko;

/// Runs the role, where this program was started in it; the exit code. Before any thread.
pub(crate) fn early() -> Option<i32> {
    let mut words = std::env::args().skip(1);
    if words.next()? != places::VERB || words.next()? != places::BUILD {
        return None;
    }
    Some(match run(words.collect()) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("{}", failure.message);
            // What the step's message then shows.
            let _ = std::fs::write("/dev/termination-log", failure.message.lines().next().unwrap_or_default());
            failure.code
        }
    })
}

fn run(args: Vec<String>) -> Result<(), BuildFailure> {
    let failed = |error: anyhow::Error| BuildFailure { code: 1, message: format!("{error:#}") };
    let directory = Path::new(places::BUILD_DIR);
    // On disk: the container's memory is the user's to limit.
    let options = EnterOptions { scratch: directory.join("scratch"), tmpfs_bytes: Some(0), spawners: Some(1) };
    let host = Host::enter(options).context(
        "images cannot be built in this container; --kaniko image of the controller leaves kaniko steps to their own image",
    );
    let host = host.map_err(failed)?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(failed(anyhow::anyhow!("the TLS provider was chosen twice")));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime").map_err(failed)?;
    let built = runtime.block_on(build(host, directory, args));
    runtime.shutdown_background();
    built
}

async fn build(host: Host, directory: &Path, args: Vec<String>) -> Result<(), BuildFailure> {
    let failed = |error: anyhow::Error| BuildFailure { code: 1, message: format!("{error:#}") };
    let lines =
        |name: &str| -> Vec<String> { std::env::var(name).unwrap_or_default().lines().map(str::to_owned).collect() };
    let rules = lines(places::REMAP_REGISTRY);
    let remap = Remap::parse(&rules).with_context(|| format!("${}", places::REMAP_REGISTRY)).map_err(failed)?;
    let registries = ClientOptions { insecure: lines(places::INSECURE_REGISTRY), remap, ..ClientOptions::new() };
    let store = Store::open(directory.join("images")).context("the image store").map_err(failed)?;
    let store = store.with_unpacker(Arc::new(ConfinedUnpacker::new(host.clone())));
    let kaniko = Kaniko::new(host, store, registries, rules, directory.join("cache")).in_pod();

    let config = std::env::var_os("DOCKER_CONFIG").map_or_else(|| PathBuf::from("/kaniko/.docker"), PathBuf::from);
    let (told, cancel) = tokio::sync::watch::channel(false);
    let request = BuildRequest {
        args,
        env: std::env::vars().collect(),
        cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        paths: PathMap::new(Vec::new(), "/".into()),
        docker_config: std::fs::read(config.join("config.json")).ok(),
        log: LogSink::new(|error, text| if error { eprint!("{text}") } else { print!("{text}") }),
        cancel,
        pod: Default::default(),
    };
    let mut term =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).context("signals").map_err(failed)?;
    tokio::spawn(async move {
        term.recv().await;
        let _ = told.send(true);
        // Held: a receiver without its sender would see a change.
        std::future::pending::<()>().await;
    });
    kaniko.build(request).await
}
