//! One delivery, from its event to its status. Each attempt is whole and may be repeated.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_artifacts::Cancel;
use windlass_artifacts::git::ReadRequest;
use windlass_lang::Sources;
use windlass_model::delivery::{Delivery, DeliveryPhase, DeliveryStatus, DeliveryWorkflow};
use windlass_schedule::trigger::{self, Planned};

use super::Shared;
use super::outcome::Outcome;

const BACKOFF_MAX: Duration = Duration::from_secs(60);

impl Shared {
    /// Works one delivery off, with as many attempts as it takes. Always ends with a final status, unless stopped.
    pub(super) async fn work(&self, name: &str, delivery: &Delivery, turn: &tokio::sync::Mutex<()>) {
        let started = tokio::time::Instant::now();
        let mut wait = self.settings.backoff;
        let mut attempt = 1u32;
        loop {
            let outcome = {
                // A delivery that waits for its host lets the next one of the repository pass.
                let _turn = turn.lock().await;
                let _permit = self.permits.acquire().await;
                self.attempt(name, delivery).await
            };
            let status = match outcome {
                Outcome::Done(status) => *status,
                Outcome::Retry { reason, message } if started.elapsed() + wait > self.settings.give_up_after => {
                    let message = format!("{message}; given up after {attempt} attempts. Redeliver it to try again");
                    DeliveryStatus {
                        phase: DeliveryPhase::Failed,
                        reason: Some(reason.to_owned()),
                        message: Some(message),
                        ..DeliveryStatus::default()
                    }
                }
                Outcome::Retry { reason, message } => {
                    tracing::warn!(%name, reason, %message, attempt, "delivery is tried again");
                    let message =
                        format!("{message}; attempt {attempt}, trying again in {} s", wait.as_secs_f32().ceil());
                    let status = json!({"phase": DeliveryPhase::Fetching, "reason": reason, "message": message});
                    // Only news for people: when it is lost, nothing is.
                    let _ = self.patch_status(name, &status).await;
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                    attempt += 1;
                    continue;
                }
            };
            tracing::info!(%name, phase = ?status.phase, reason = status.reason.as_deref().unwrap_or_default(), "delivery");
            if self.conclude(name, &status).await {
                return;
            }
            // The status was not taken: doing all again ends at the same objects.
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Writes the final status; answers whether the delivery is out of our hands.
    async fn conclude(&self, name: &str, status: &DeliveryStatus) -> bool {
        let Ok(mut value) = serde_json::to_value(status) else { return true };
        // A merge patch keeps what it does not name: what an earlier attempt said must go.
        for field in ["reason", "message", "diagnostics", "workflow"] {
            if value.get(field).is_none() {
                value[field] = Value::Null;
            }
        }
        match self.patch_status(name, &value).await {
            Ok(()) => true,
            Err(kube::Error::Api(answer)) if answer.code == 404 => true,
            Err(kube::Error::Api(answer))
                if (400..500).contains(&answer.code) && answer.code != 409 && answer.code != 429 =>
            {
                tracing::error!(%name, message = %answer.message, "the API refused a delivery's status");
                true
            }
            Err(error) => {
                tracing::warn!(%name, %error, "a delivery's status was not written");
                false
            }
        }
    }

    async fn patch_status(&self, name: &str, status: &Value) -> Result<(), kube::Error> {
        let patch = json!({"status": status});
        self.deliveries.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    async fn attempt(&self, name: &str, delivery: &Delivery) -> Outcome {
        let rules = match self.rules().await {
            Ok(rules) => rules,
            Err(outcome) => return outcome,
        };
        let mut event = delivery.spec.event.clone();
        if let Err(message) = rules.complete(&mut event) {
            return Outcome::failed("NoCloneUrl", message);
        }
        let path = rules.manifest(&event, &self.settings.path).to_owned();
        let source = match trigger::manifest_source(&event) {
            Ok(source) => source,
            Err(message) => return Outcome::failed("NoCloneUrl", message),
        };
        let ssh_key = match self.secret(rules.ssh_private_key(&event)).await {
            Ok(key) => key,
            Err(outcome) => return outcome,
        };
        let over_ssh = ssh_key.is_some() && !event.repo.ssh_url.is_empty();
        let request = ReadRequest {
            url: if over_ssh { event.repo.ssh_url.clone() } else { source.url },
            revision: source.revision,
            reference: source.reference,
            path: path.clone(),
            credentials: self.settings.credentials.clone(),
            ssh_key,
            bytes_max: self.settings.manifest_bytes_max,
        };
        let cancel = Cancel::new();
        // When this future is dropped (the loop stops), the fetch on its thread ends too.
        let _guard = CancelOnDrop(cancel.clone());
        let mirrors = Arc::clone(&self.mirrors);
        let found = match tokio::task::spawn_blocking(move || mirrors.read_file(&request, &cancel)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Outcome::from_git(&error),
            Err(_) => {
                return Outcome::failed("FetchFailed", "fetching the manifest ended with a fault of ours; see the log");
            }
        };
        let Ok(text) = String::from_utf8(found.bytes) else {
            return Outcome::failed("InvalidManifest", format!("{path} is not UTF-8 text"));
        };
        let mut sources = Sources::default();
        let id = sources.add(path.clone(), text);
        let loaded = windlass_lang::yaml::load(&sources, id);
        let mut diagnostics = loaded.diagnostics;
        diagnostics.extend(
            super::lint::lint(&self.client, &self.settings.policy.namespace, &sources, &loaded.documents).await,
        );
        let submission = trigger::decide(&event, name, loaded.documents, &self.settings.policy);
        diagnostics.extend(submission.diagnostics);
        if windlass_lang::diagnostic::has_errors(&diagnostics) {
            return Outcome::invalid(&diagnostics, &sources);
        }
        self.create(name, &path, &found.commit, submission.objects).await
    }

    async fn create(&self, name: &str, path: &str, commit: &str, objects: Vec<Planned>) -> Outcome {
        let mut made = Vec::new();
        let mut workflow = None;
        for planned in objects {
            if let Err(outcome) = self.create_one(name, &planned).await {
                return outcome;
            }
            if planned.kind == "Workflow" && workflow.is_none() {
                workflow = Some(DeliveryWorkflow { namespace: planned.namespace.clone(), name: planned.name.clone() });
            }
            made.push(format!("{} {}/{}", planned.kind, planned.namespace, planned.name));
        }
        let short = commit.get(..12).unwrap_or(commit);
        Outcome::submitted(workflow, format!("{path} at {short} made {}", made.join(", ")))
    }

    async fn create_one(&self, delivery: &str, planned: &Planned) -> Result<(), Outcome> {
        let what = || format!("{} {}/{}", planned.kind, planned.namespace, planned.name);
        let (group, version) = planned.api_version.split_once('/').unwrap_or(("", planned.api_version.as_str()));
        let kind = GroupVersionKind::gvk(group, version, &planned.kind);
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &planned.namespace, &resource);
        let object: DynamicObject = serde_json::from_value(planned.object.clone())
            .map_err(|error| Outcome::failed("InvalidManifest", format!("{}: {error}", what())))?;
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.reason == "AlreadyExists" => {
                let ours = api.get_metadata_opt(&planned.name).await;
                let ours = match ours {
                    Ok(Some(found)) => found
                        .metadata
                        .annotations
                        .is_some_and(|a| a.get(trigger::DELIVERY).is_some_and(|d| d == delivery)),
                    Ok(None) => {
                        return Err(Outcome::Retry {
                            reason: "ApiUnavailable",
                            message: format!("{} is being replaced", what()),
                        });
                    }
                    Err(error) => return Err(api_failure(&what(), error)),
                };
                match ours {
                    // Made before a crash or by an earlier attempt.
                    true => Ok(()),
                    false => Err(Outcome::failed(
                        "NameTaken",
                        format!(
                            "{} exists already; use metadata.generateName, so that every push makes its own",
                            what()
                        ),
                    )),
                }
            }
            Err(error) => Err(api_failure(&what(), error)),
        }
    }
}

fn api_failure(what: &str, error: kube::Error) -> Outcome {
    match error {
        kube::Error::Api(answer) if (400..500).contains(&answer.code) && !matches!(answer.code, 409 | 429) => {
            Outcome::failed("Refused", format!("{what} was refused by the API: {}", answer.message))
        }
        error => Outcome::Retry { reason: "ApiUnavailable", message: format!("{what}: {error}") },
    }
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
