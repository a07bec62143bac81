//! Node tables on pages ([`windlass_model::paged`]): reading a workflow with its table in its place, writing pages, and a loop
//! that takes away the pages that no workflow has named for a while. A page whose workflow is gone stays for that while as
//! well, so that what was deleted can still be archived and its artifacts removed. It must never touch a status: whoever
//! writes pages names them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, VersionMatch};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use windlass_model::paged::{self, Page};
use windlass_model::{Workflow, labels, packed, table};

use crate::Scope;
use crate::again;
use crate::clock::Clock;
use crate::part::part_of_workflow;
use crate::workflow::{config_maps, seen};

/// How often pages that nobody names are looked for.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// So long nobody has named a page that goes: as long as Argo keeps old versions.
const UNNAMED_MAX: SignedDuration = SignedDuration::from_mins(5);
/// So many pages are asked for, or written, at the same time.
const AT_ONCE: usize = 8;
/// So often a table is asked for whose version was replaced meanwhile.
const ATTEMPTS: usize = 10;

/// Why a table cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The API answered with an error, or did not answer.
    #[error("its node table cannot be read: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Argo has put it into a database of its own.
    #[error(
        "its node table (version {0}) is in the database of another controller, which Windlass does not read: let that \
         controller end the workflow, or resubmit it"
    )]
    Elsewhere(String),
    /// A page that the status names is not there.
    #[error("a part of its node table is gone: ConfigMap {0}; resubmit the workflow")]
    Gone(String),
    /// A page is not what it has to be.
    #[error("a part of its node table cannot be read: {0}; resubmit the workflow")]
    Unreadable(String),
}

impl Fault {
    /// Whether asking again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Api(e) if !again::is_final(e))
    }
}

impl From<kube::Error> for Fault {
    fn from(e: kube::Error) -> Self {
        Self::Api(Box::new(e))
    }
}

/// A workflow with its node table in its place, whatever form it has in the API. Where the table was written anew
/// meanwhile, the workflow is read anew as well.
pub async fn whole(client: &Client, mut workflow: Value) -> Result<Value, Fault> {
    let mut left = ATTEMPTS;
    loop {
        packed::expand(&mut workflow);
        let Some(version) = table::version(&workflow["status"]).map(str::to_owned) else { return Ok(workflow) };
        let text = |of: &str| workflow["metadata"][of].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let gone = match rows(client, &namespace, &version).await {
            Ok(rows) => {
                table::put_in(&mut workflow, rows);
                return Ok(workflow);
            }
            Err(Fault::Gone(page)) => page,
            Err(e) => return Err(e),
        };
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &seen::workflows());
        let now = api.get_opt(&name).await?.filter(|now| now.uid().unwrap_or_default() == text("uid"));
        let now = now.map(serde_json::to_value).transpose().map_err(kube::Error::SerdeError)?;
        left -= 1;
        match now {
            Some(now) if left > 0 && now["status"]["offloadNodeStatusVersion"] != version => workflow = now,
            _ => return Err(Fault::Gone(gone)),
        }
    }
}

/// The same of one in the typed form, which has a packed table in its place already.
pub async fn complete(client: &Client, workflow: &mut Workflow) -> Result<(), Fault> {
    let is_elsewhere = workflow.status.as_ref().is_some_and(|status| {
        status.nodes.is_empty() && status.offload_node_status_version.as_ref().is_some_and(|v| !v.is_empty())
    });
    if is_elsewhere {
        let value = serde_json::to_value(&*workflow).map_err(kube::Error::SerdeError)?;
        *workflow = serde_json::from_value(whole(client, value).await?).map_err(kube::Error::SerdeError)?;
    }
    Ok(())
}

/// The rows of this version.
async fn rows(client: &Client, namespace: &str, version: &str) -> Result<Map<String, Value>, Fault> {
    let Some(names) = paged::names(version) else { return Err(Fault::Elsewhere(version.to_owned())) };
    let api = pages(client, namespace);
    let page = async |name: String| {
        let Some(page) = api.get_opt(&name).await? else { return Err(Fault::Gone(name)) };
        let page = serde_json::to_value(page).map_err(kube::Error::SerdeError)?;
        paged::rows(&page).map_err(Fault::Unreadable)
    };
    let all: Vec<_> = futures::stream::iter(names).map(page).buffered(AT_ONCE).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

/// Writes pages of the workflow that has this metadata. Only a status that is written after them names them.
pub async fn write(client: &Client, namespace: &str, workflow: &Value, all: Vec<Page>) -> kube::Result<()> {
    let api = pages(client, namespace);
    let page = async |page: Page| {
        let object: DynamicObject = serde_json::from_value(page.object(workflow)).map_err(kube::Error::SerdeError)?;
        api.create(&PostParams::default(), &object).await.map(drop)
    };
    futures::stream::iter(all).map(page).buffer_unordered(AT_ONCE).try_collect().await
}

/// Takes pages away that were named before; those that stay are found by [`run`].
pub(crate) async fn remove(client: Client, namespace: String, names: Vec<String>) {
    let api = pages(&client, &namespace);
    let page = async |name: String| {
        if let Err(error) = api.delete(&name, &DeleteParams::background()).await {
            debug!(namespace, page = name, %error, "an old part of a node table stays for now");
        }
    };
    futures::stream::iter(names).map(page).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// What the names of new pages are made of: nobody has had it, and nobody will.
#[must_use]
pub fn stamp() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{now:x}-{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn pages(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &config_maps())
}

/// A Workflow as far as it names pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Names {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Version,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Version {
    offload_node_status_version: Option<String>,
}

part_of_workflow!(Names);

/// Runs until `stop` is cancelled.
pub async fn run(client: Client, scope: Scope, clock: Clock, stop: CancellationToken) {
    let mut unnamed = Unnamed::default();
    let rounds = async {
        loop {
            clock.sleep_until(clock.now() + LOOK_EVERY).await;
            if let Err(error) = unnamed.look(&client, &scope, clock.now()).await {
                debug!(%error, "old parts of node tables are looked for later");
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = rounds => {}
    }
}

/// Namespace, name and uid of a page.
type Key = (String, String, String);

/// Pages that no workflow named when they were looked at, and since when.
#[derive(Debug, Default)]
pub struct Unnamed(HashMap<Key, Timestamp>);

impl Unnamed {
    /// Looks once, and takes away what has been without a name for five minutes.
    pub async fn look(&mut self, client: &Client, scope: &Scope, now: Timestamp) -> kube::Result<()> {
        let labelled = ListParams { label_selector: scope.selector(labels::NODE_TABLE), ..ListParams::default() };
        // The pages first, from memory, for most clusters have none; who names them after that, and exactly.
        let early = ListParams {
            version_match: Some(VersionMatch::NotOlderThan),
            resource_version: Some("0".into()),
            ..labelled.clone()
        };
        let maps = scope.api_of::<DynamicObject>(client, &config_maps()).list_metadata(&early).await?.items;
        if maps.is_empty() {
            self.0.clear();
            return Ok(());
        }
        let mut named = HashSet::new();
        for workflow in scope.api::<Names>(client).list(&labelled).await?.items {
            let names = workflow.status.offload_node_status_version.as_deref().and_then(paged::names);
            let namespace = workflow.namespace().unwrap_or_default();
            named.extend(names.into_iter().flatten().map(|name| (namespace.clone(), name)));
        }
        let found: HashSet<Key> = maps
            .into_iter()
            .map(|map| (map.namespace().unwrap_or_default(), map.name_any(), map.uid().unwrap_or_default()))
            .filter(|(namespace, name, _)| !named.contains(&(namespace.clone(), name.clone())))
            .collect();
        self.0.retain(|key, _| found.contains(key));
        for key in found {
            let since = *self.0.entry(key.clone()).or_insert(now);
            let (namespace, name, uid) = &key;
            if now.duration_since(since) >= UNNAMED_MAX {
                again::delete_once(&pages(client, namespace), name, Some(uid), "not being named").await;
            }
        }
        Ok(())
    }
}
