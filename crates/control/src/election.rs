//! The Lease of who runs the loops, on a cluster where several controllers could: asked and written here, decided by
//! [`windlass_schedule::lease`]. It must never say that this process is the holder without a write that was done, and never
//! go on for longer than its deadline, whether the API answers or not.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};
use windlass_schedule::lease::{Elector, Record, Step, Terms};

use crate::clock::Clock;
use crate::{Error, Scope};

/// The name of the Lease: Argo's, with the instance's; a controller that manages one namespace from another one has its own.
#[must_use]
pub fn lease_name(home: &str, scope: &Scope) -> String {
    let mut name = "workflow-controller".to_owned();
    let others = scope.namespace.as_deref().filter(|namespace| *namespace != home);
    for part in others.into_iter().chain(scope.instance.name()) {
        name.push('-');
        name.push_str(part);
    }
    name
}

/// A process that stands for election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    elector: Elector,
    terms: Terms,
    clock: Clock,
    began: Instant,
}

/// What one look came to.
enum Outcome {
    Holder,
    Standby,
    Lost,
}

impl Candidate {
    /// Stands for the Lease of that namespace and name, itself under a name that no other process has.
    pub fn new(client: Client, (namespace, name): (&str, &str), identity: &str, terms: Terms, clock: Clock) -> Self {
        let (api, elector) = (Api::namespaced(client, namespace), Elector::new(identity, terms));
        Self { api, name: name.to_owned(), elector, terms, clock, began: Instant::now() }
    }

    /// Waits until this process is the holder.
    pub async fn win(&mut self) {
        let (mut told, mut failed) = (None::<String>, false);
        loop {
            // A request that hangs does not keep the next one from being made.
            match timeout(self.terms.renew_deadline, self.look()).await {
                Ok(Ok(Outcome::Holder)) => return,
                Ok(Ok(_)) => failed = false,
                Ok(Err(error)) if !std::mem::replace(&mut failed, true) => {
                    warn!(lease = self.name, %error, "the lease cannot be read or taken; it is tried again");
                }
                Ok(Err(error)) => debug!(lease = self.name, %error, "not read or taken"),
                Err(_) => debug!(lease = self.name, "the API does not answer"),
            }
            if self.elector.holder() != told.as_deref() {
                told = self.elector.holder().map(str::to_owned);
                info!(leader = told, "standing by");
            }
            tokio::time::sleep(self.terms.retry_period).await;
        }
    }

    /// Renews the Lease; ends when this process is not its holder any more, with the reason.
    pub async fn keep(&mut self) -> &'static str {
        loop {
            let Some(deadline) = self.elector.deadline() else { return "it was never won" };
            let late = "it was not renewed in time";
            if timeout_at(self.began + deadline, tokio::time::sleep(self.terms.retry_period)).await.is_err() {
                return late;
            }
            match timeout_at(self.began + deadline, self.look()).await {
                Err(_) => return late,
                Ok(Ok(Outcome::Lost)) => return "another has it",
                Ok(Ok(_)) => {}
                Ok(Err(error)) => warn!(lease = self.name, %error, "the lease was not renewed; it is tried again"),
            }
        }
    }

    /// Gives the Lease back, after everything that it stands for has ended.
    pub async fn resign(self) {
        if let Some(record) = self.elector.resign(self.clock.now())
            && let Err(error) = self.write(&record).await
        {
            debug!(lease = self.name, %error, "not given back: the next one waits until it has run out");
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn look(&mut self) -> Result<Outcome, Error> {
        let found = self.api.get_opt(&self.name).await?.map(|lease| record(&lease));
        let now = self.now();
        let record = match self.elector.look(found, now, self.clock.now()) {
            Step::Wait => return Ok(Outcome::Standby),
            Step::Lost => return Ok(Outcome::Lost),
            Step::Write(record) => record,
        };
        match self.write(&record).await {
            Ok(written) => {
                self.elector.wrote(written, now);
                Ok(Outcome::Holder)
            }
            // Somebody was faster; who it is, the next look tells.
            Err(kube::Error::Api(s)) if s.code == 409 => Ok(Outcome::Standby),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, record: &Record) -> kube::Result<Record> {
        let micros = |time: Option<jiff::Timestamp>| time.map(|t| format!("{t:.6}"));
        let body = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "resourceVersion": record.version},
            "spec": {
                "holderIdentity": record.holder, "leaseDurationSeconds": record.seconds,
                "acquireTime": micros(record.acquired), "renewTime": micros(record.renewed),
                "leaseTransitions": record.transitions,
            },
        });
        let written = match &record.version {
            Some(_) => self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&body)).await?,
            None => {
                let lease: Lease = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
                self.api.create(&PostParams::default(), &lease).await?
            }
        };
        Ok(self::record(&written))
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: spec.acquire_time.map(|t| t.0),
        renewed: spec.renew_time.map(|t| t.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.metadata.resource_version.clone(),
    }
}
