//! The loops that kube-controller-manager has on a cluster: Deployment, ReplicaSet, Job, CronJob, EndpointSlice,
//! PersistentVolumeClaim and PersistentVolume, the `default` ServiceAccount and the root certificate of each namespace. They hold a [`kube::Client`] and nothing else, read
//! the API afresh for every decision (so a late watch event can never make them act twice), and are started where the API
//! is embedded.
//! They must never know which server answers them.

use std::future::Future;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub mod claim;
pub mod cronjob;
pub mod deployment;
pub mod endpointslice;
pub mod event;
pub mod job;
mod pod;
pub mod replicaset;
pub mod root_ca;
pub mod serviceaccount;

/// What went wrong in one pass over one object; the pass is repeated with a back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered with an error, or did not answer.
    #[error("API: {0}")]
    Api(#[from] Box<kube::Error>),
    /// The object lacks something that the API server always sets.
    #[error("{kind} {name} has no {field}")]
    Malformed {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The missing field.
        field: &'static str,
    },
}

impl From<kube::Error> for Error {
    fn from(e: kube::Error) -> Self {
        Error::Api(Box::new(e))
    }
}

impl Error {
    /// A conflict or a vanished object: somebody else moved first, look again soon.
    pub fn is_race(&self) -> bool {
        matches!(self, Error::Api(e) if matches!(&**e, kube::Error::Api(s) if s.code == 409 || s.code == 404))
    }

    /// How long to wait before the object is looked at again.
    pub fn retry_after(&self) -> Duration {
        if self.is_race() { Duration::from_millis(20) } else { Duration::from_secs(1) }
    }
}

/// Runs all loops until `stop` is cancelled. `ca_pem` is what the API's certificate is checked with.
pub async fn run(client: Client, ca_pem: String, stop: CancellationToken) {
    let until = |f: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        async move {
            tokio::select! { () = stop.cancelled() => (), () = f => () }
        }
    };
    tokio::join!(
        until(Box::pin(deployment::run(client.clone()))),
        until(Box::pin(replicaset::run(client.clone()))),
        until(Box::pin(job::run(client.clone()))),
        until(Box::pin(cronjob::run(client.clone()))),
        until(Box::pin(endpointslice::run(client.clone()))),
        until(Box::pin(claim::run(client.clone()))),
        until(Box::pin(root_ca::run(client.clone(), ca_pem))),
        until(Box::pin(serviceaccount::run(client))),
    );
}
