//! What is tried again when the API did not do it: longer and longer pauses, and deletes that go on until the object is gone
//! or never will be. It must never decide what is deleted.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

/// The pauses after what did not work.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The pause where only a person can help, by giving rights.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(300);

/// Longer and longer pauses.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    pub(crate) async fn next(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }

    /// Whether there is to be another attempt; it is time for it then.
    pub(crate) async fn after(&mut self, outcome: Deleted) -> bool {
        match outcome {
            Deleted::Yes | Deleted::Never => return false,
            Deleted::Later => self.next().await,
            Deleted::Forbidden => tokio::time::sleep(FORBIDDEN_PAUSE).await,
        }
        true
    }
}

/// Whether asking again cannot help.
pub(crate) fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(s) if (400..500).contains(&s.code) && s.code != 409 && s.code != 429)
}

/// What came of one attempt to delete; the greatest of several is what is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deleted {
    /// The object goes, or is gone, or there is another one under its name.
    Yes,
    /// It cannot be asked for like this.
    Never,
    /// We may not.
    Forbidden,
    /// The API did not do it now.
    Later,
}

/// Deletes the object of this uid once. `why` is the word for the log: what it is not deleted by.
pub(crate) async fn delete_once<K>(api: &Api<K>, name: &str, uid: Option<&str>, why: &str) -> Deleted
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let only = Preconditions { uid: uid.map(str::to_owned), resource_version: None };
    delete_as_seen(api, name, only, why).await
}

/// The same where it matters in which version it was looked at: one that changed since has to be looked at again.
pub(crate) async fn delete_as_seen<K>(api: &Api<K>, name: &str, only: Preconditions, why: &str) -> Deleted
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let uid = only.uid.clone();
    let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
    let error = match api.delete(name, &params).await {
        Ok(_) => return Deleted::Yes,
        Err(kube::Error::Api(s)) if s.code == 404 => return Deleted::Yes,
        Err(error) => error,
    };
    match &error {
        // The precondition failed, or somebody wrote it at the same moment.
        kube::Error::Api(s) if s.code == 409 => match api.get_metadata_opt(name).await {
            Ok(Some(now)) if uid.is_none() || now.metadata.uid == uid => Deleted::Later,
            Ok(_) => Deleted::Yes,
            Err(_) => Deleted::Later,
        },
        kube::Error::Api(s) if s.code == 403 => {
            warn!(object = name, %error, "not deleted by {why}: the controller may not");
            Deleted::Forbidden
        }
        _ if is_final(&error) => {
            warn!(object = name, %error, "not deleted by {why}");
            Deleted::Never
        }
        _ => {
            debug!(object = name, %error, "deleted by {why} later");
            Deleted::Later
        }
    }
}

/// The same until it is done or cannot be.
pub(crate) async fn delete<K>(api: &Api<K>, name: &str, uid: Option<&str>, why: &str)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut pauses = Pauses::new();
    while pauses.after(delete_once(api, name, uid, why).await).await {}
}
