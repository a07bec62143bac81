//! What the stages of one build share, and what they hand to each other: layers, some still being packed, and the
//! configuration that goes with them. Decides nothing about instructions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use windlass_lang::Sources;
use windlass_oci::client::Client;
use windlass_oci::layer::{PackOptions, Time};
use windlass_oci::{Family, Layer, Platform, Reference, Store};
use windlass_sandbox::{Host, Network, Scratch};

use crate::Ignore;
use crate::builder::{Opened, Request};
use crate::cache::Cache;
use crate::config::Config;
use crate::dockerfile::Dockerfile;
use crate::error::{Doing, Fault};
use crate::output::blocking;
use crate::view::View;

/// What all stages of a build share.
pub(crate) struct Shop {
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) cache: Cache,
    pub(crate) client: Client,
    pub(crate) ignore: Ignore,
    pub(crate) platform_args: BTreeMap<String, String>,
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) globals: BTreeMap<String, String>,
    pub(crate) target: usize,
    pub(crate) sources: Sources,
    pub(crate) ground: Scratch,
    /// Opened with the first `RUN` that wants one.
    pub(crate) network: tokio::sync::OnceCell<Network>,
    pub(crate) containers: Semaphore,
    pub(crate) file: Dockerfile,
    pub(crate) request: Request,
    pub(crate) steps: AtomicUsize,
    pub(crate) cached: AtomicUsize,
}

impl Shop {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.steps.load(Ordering::Relaxed), self.cached.load(Ordering::Relaxed))
    }

    pub(crate) fn ground(&self, name: &str) -> PathBuf {
        self.ground.upper().join(name)
    }

    pub(crate) fn userxattr(&self) -> bool {
        self.host.probe().userxattr
    }

    /// The network of commands, and the `resolv.conf` that goes with it.
    pub(crate) async fn network(&self) -> Result<Network, Fault> {
        let open = async || {
            let opened = match &self.request.network {
                Some(open) => open().await,
                None => Opened::none(),
            };
            let path = self.ground("resolv.conf");
            std::fs::write(&path, &opened.resolv_conf).doing(|| format!("write {}", path.display()))?;
            Ok::<_, Fault>(opened.network)
        };
        self.network.get_or_try_init(open).await.cloned()
    }

    pub(crate) fn pack_options(&self) -> PackOptions {
        PackOptions {
            overlay: Some(self.store.marks()),
            mtime_max: self.request.epoch.map(|seconds| Time { seconds, nanos: 0 }),
            compression: self.request.compression,
            ..PackOptions::default()
        }
    }

    /// Gives the directories of a stage that nobody mounts any more to the store, as the unpacked form of their layers:
    /// who runs or builds on the image does not unpack them again.
    pub(crate) async fn adopt(&self, finished: &Finished) {
        for item in &finished.items {
            let Item::Fresh { scratch, packed } = item else { continue };
            let Ok(layer) = packed.clone().await else { continue };
            let (store, options, scratch) = (self.store.clone(), self.pack_options(), scratch.clone());
            let moved = blocking(move || Ok(store.adopt_layer(scratch.upper(), &layer, &options)?)).await;
            if let Err(why) = moved {
                tracing::debug!(%why, "a layer will be unpacked when it is needed");
            }
        }
    }

    /// Layers as directories, bottom first; those of the store are unpacked where they are not yet.
    pub(crate) async fn lowers(&self, items: &[Item]) -> Result<Vec<PathBuf>, Fault> {
        let stored: Vec<Layer> = items.iter().map_while(|item| item.stored().cloned()).collect();
        let store = self.store.clone();
        let count = stored.len();
        let mut lowers = match count {
            0 => Vec::new(),
            _ => blocking(move || Ok(store.unpack_layers(&stored)?)).await?,
        };
        for item in &items[count..] {
            lowers.push(match item {
                Item::Fresh { scratch, .. } => scratch.upper().to_owned(),
                Item::Stored(layer) => {
                    let (store, layer) = (self.store.clone(), layer.clone());
                    blocking(move || Ok(store.unpack_layer(&layer)?)).await?
                }
            });
        }
        Ok(lowers)
    }

    pub(crate) async fn view(&self, items: &[Item]) -> Result<View, Fault> {
        View::read_only(&self.lowers(items).await?, self.userxattr(), &self.ground("empty"))
    }
}

/// What a stage is based on.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(Reference, Platform),
}

pub(crate) type Packed = Shared<BoxFuture<'static, Result<Layer, Fault>>>;

/// One layer of a stage.
#[derive(Clone)]
pub(crate) enum Item {
    /// In the store.
    Stored(Layer),
    /// Made by this build: a directory, being packed.
    Fresh { scratch: Scratch, packed: Packed },
}

impl Item {
    pub(crate) fn stored(&self) -> Option<&Layer> {
        match self {
            Self::Stored(layer) => Some(layer),
            Self::Fresh { .. } => None,
        }
    }

    /// The layer, once it is packed.
    pub(crate) async fn layer(&self) -> Result<Layer, Fault> {
        match self {
            Self::Stored(layer) => Ok(layer.clone()),
            Self::Fresh { packed, .. } => packed.clone().await,
        }
    }
}

/// A stage that is done.
pub(crate) struct Finished {
    pub(crate) items: Vec<Item>,
    pub(crate) config: Config,
    pub(crate) family: Family,
    /// Images that it is made of, for mounting their blobs in a registry.
    pub(crate) bases: Vec<Reference>,
    /// Values of `ARG`s, for a stage that begins here.
    pub(crate) args: BTreeMap<String, String>,
    /// Whether a step was executed, not taken from the cache.
    pub(crate) executed: bool,
}

impl Finished {
    pub(crate) fn of_nothing() -> Self {
        Self {
            items: Vec::new(),
            config: Config::empty(),
            family: Family::Oci,
            bases: Vec::new(),
            args: BTreeMap::new(),
            executed: false,
        }
    }
}
