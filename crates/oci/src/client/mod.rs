//! Moves images between the store and registries. Must never ask the network for a name under
//! [`LOCAL_REGISTRY`](crate::LOCAL_REGISTRY), and never write a credential anywhere.

mod credentials;
mod patience;
mod pull;
mod push;
mod remap;
mod target;
mod token;
mod transport;

use std::sync::Arc;
use std::time::Duration;

pub use credentials::{Credential, DockerConfig, Secret};
pub use pull::{Fetched, PullOptions};
pub use push::PushOptions;
pub use remap::{Mapped, Remap};

use crate::{Result, Store};

/// How the client reaches registries.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where credentials come from.
    pub credentials: DockerConfig,
    /// Registries (`host:port`) spoken to without TLS. `localhost`, `127.0.0.0/8` and `[::1]` always may.
    pub insecure: Vec<String>,
    /// All registries may be spoken to without TLS.
    pub insecure_all: bool,
    /// Registries whose certificate is not checked.
    pub skip_tls_verify: Vec<String>,
    /// No certificate is checked.
    pub skip_tls_verify_all: bool,
    /// Certificate authorities beside the system's, as PEM.
    pub extra_roots: Vec<Vec<u8>>,
    /// Which registry stands in for which.
    pub remap: Remap,
    /// How often a request is repeated when the network or the registry fails.
    pub retries: u32,
    /// How long a registry may say nothing while it owes an answer, and take nothing while we send.
    pub silence: Duration,
}

impl ClientOptions {
    /// The defaults: no credentials, TLS except to this machine, three retries, 30 s of patience.
    pub fn new() -> Self {
        Self {
            credentials: DockerConfig::default(),
            insecure: Vec::new(),
            insecure_all: false,
            skip_tls_verify: Vec::new(),
            skip_tls_verify_all: false,
            extra_roots: Vec::new(),
            remap: Remap::default(),
            retries: 3,
            silence: Duration::from_secs(30),
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a transfer tells while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// A blob starts, with its size and whether it is already there.
    Started {
        /// The blob.
        digest: crate::Digest,
        /// Its size.
        size: u64,
        /// Nothing needs to be moved.
        present: bool,
    },
    /// So many more bytes of a blob were moved.
    Moved {
        /// The blob.
        digest: crate::Digest,
        /// The bytes since the last call.
        bytes: u64,
    },
    /// A blob is complete and checked.
    Done {
        /// The blob.
        digest: crate::Digest,
    },
}

/// Receives [`Progress`].
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// A client for all registries. Cheap to clone; tokens and connections are shared.
#[derive(Clone)]
pub struct Client {
    store: Store,
    transport: Arc<transport::Transport>,
}

impl Client {
    /// A client that moves images from and to this store.
    pub fn new(store: Store, options: ClientOptions) -> Result<Self> {
        Ok(Self { store, transport: Arc::new(transport::Transport::new(options)?) })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Runs blocking work of the store on its own thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(crate::Error::io("working on the image store", std::io::Error::other(cancelled))),
        },
    }
}
