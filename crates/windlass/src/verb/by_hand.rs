//! `windlass suspend`, `resume`, `node set`, `retry`, `resubmit`: what people do to runs, decided by the engine. Here a
//! workflow is read, the decision is asked for, and its patch is written at the version that was read.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use windlass_control::tables;
use windlass_engine::manual::{self, NodeValues, Resubmit, Retry, Selector};
use windlass_model::table;

use crate::cli::{
    NodeSetArgs, NodeVerb, ResubmitArgs, ResubmitHow, ResumeArgs, RetryArgs, RetryHow, SuspendArgs, Which,
};
use crate::connect::{Connection, connect};
use crate::manifest::pair;
use crate::start::Session;
use crate::verb::follow;
use crate::{objects, print};

/// Somebody else may write in between: so often the decision is made again.
const ATTEMPTS: usize = 20;
/// How long pods that have ended may take to go.
const GONE: Duration = Duration::from_secs(60);

pub(super) async fn suspend(session: &Session, args: SuspendArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        change(&connection, &name, manual::suspend).await?;
        println!("workflow {name} suspended");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(session: &Session, args: ResumeArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let selector = Selector::parse(&args.node_field_selector).map_err(|e| anyhow!(e))?;
    for name in &args.names {
        let name = objects::resolve(&connection, name).await?;
        change(&connection, &name, |wf| manual::resume(wf, &selector, Timestamp::now()))
            .await
            .with_context(|| format!("Failed to resume {name}"))?;
        println!("workflow {name} resumed");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn node(session: &Session, verb: NodeVerb) -> Result<ExitCode> {
    let NodeVerb::Set(args) = verb;
    let NodeSetArgs { name, node_field_selector, outputs, message, phase } = args;
    let connection = connect(&session.global).await?;
    let selector = Selector::parse(&node_field_selector).map_err(|e| anyhow!(e))?;
    let outputs = pairs(&outputs, "--output-parameter")?;
    let values = NodeValues { phase, message, outputs };
    let name = objects::resolve(&connection, &name).await?;
    change(&connection, &name, |wf| manual::set_node(wf, &selector, &values, Timestamp::now())).await?;
    println!("workflow values set");
    Ok(ExitCode::SUCCESS)
}

/// Ends suspend nodes as failed: `stop --node-field-selector`.
pub(super) async fn fail_nodes(c: &Connection, name: &str, selector: &str, message: Option<&str>) -> Result<()> {
    let selector = Selector::parse(selector).map_err(|e| anyhow!(e))?;
    let message = message.map(str::to_owned);
    let values = NodeValues { phase: Some("Failed".to_owned()), message, outputs: Vec::new() };
    change(c, name, |wf| manual::set_node(wf, &selector, &values, Timestamp::now())).await.map(drop)
}

/// What the flags of a retry ask the engine for.
pub(super) fn retry_how(flags: &RetryHow) -> Result<Retry> {
    Ok(Retry {
        restart_successful: flags.restart_successful,
        selector: Selector::parse(&flags.node_field_selector).map_err(|e| anyhow!(e))?,
        parameters: pairs(&flags.parameters, "-p")?,
    })
}

pub(super) async fn retry(session: &Session, args: RetryArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let how = retry_how(&args.how)?;
    let mut retried = Vec::new();
    for name in chosen(&connection, &args.which).await? {
        let before = read(&connection, &name).await?;
        let first = manual::retry(&before, &how, Timestamp::now()).map_err(|e| anyhow!("cannot retry {name}: {e}"))?;
        if args.dry_run {
            print!("{}", print::retry::draw(&name, &before, &first));
            continue;
        }
        // Pods of the same names are made next: the old ones must be gone, or they would be taken for the new ones.
        delete_pods(&connection, &before, &first.pods).await?;
        let decide = |wf: &Value| manual::retry(wf, &how, Timestamp::now()).map(|r| r.patch);
        let after = change(&connection, &name, decide).await?;
        retried.push((connection.clone(), follow::show(session, &connection, &args.follow, after).await?));
    }
    follow::until_ended(session, &args.follow, &retried).await
}

/// The new workflow that a resubmit of this one comes to.
pub(super) fn resubmitted(
    before: &Value,
    name: &str,
    flags: &ResubmitHow,
    parameters: &[(String, String)],
) -> Result<Value> {
    let how = Resubmit { memoized: flags.memoized.then(suffix), parameters: parameters.to_vec() };
    let decided = manual::resubmit(before, &how, Timestamp::now());
    let mut object = decided.map_err(|e| anyhow!("cannot resubmit {name}: {e}"))?;
    if let Some(priority) = flags.priority {
        object["spec"]["priority"] = json!(priority);
    }
    Ok(object)
}

/// Creates a workflow, its node table in a form that fits.
pub(super) async fn create(c: &Connection, mut object: Value) -> Result<DynamicObject> {
    let written = table::shrink(&mut object, &tables::stamp()).map_err(|e| anyhow!(e))?;
    tables::write(&c.client, &c.namespace, &object["metadata"], written.pages).await.context(PAGES)?;
    let object: DynamicObject = serde_json::from_value(object)?;
    Ok(objects::workflows(c, false).create(&PostParams::default(), &object).await?)
}

pub(super) async fn resubmit(session: &Session, args: ResubmitArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let parameters = pairs(&args.how.parameters, "-p")?;
    let mut made = Vec::new();
    for name in chosen(&connection, &args.which).await? {
        let before = read(&connection, &name).await?;
        let object = resubmitted(&before, &name, &args.how, &parameters)?;
        let created = create(&connection, object).await?;
        made.push((connection.clone(), follow::show(session, &connection, &args.follow, created).await?));
    }
    follow::until_ended(session, &args.follow, &made).await
}

/// The names that a verb is for.
pub(super) async fn chosen(c: &Connection, which: &Which) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in &which.names {
        names.push(objects::resolve(c, name).await?);
    }
    if which.all.selector.is_some() || which.all.field_selector.is_some() {
        let params = ListParams { label_selector: which.all.selector.clone(), ..ListParams::default() };
        let params = ListParams { field_selector: which.all.field_selector.clone(), ..params };
        let found = objects::workflows(c, false).list_metadata(&params).await?.items;
        let found = found.into_iter().filter_map(|w| w.metadata.name);
        names.extend(found.filter(|n| !which.names.contains(n)).collect::<Vec<_>>());
    } else if names.is_empty() {
        bail!("name workflows, or select them with -l or --field-selector");
    }
    Ok(names)
}

pub(super) fn pairs(texts: &[String], flag: &str) -> Result<Vec<(String, String)>> {
    let one = |text: &String| pair(text, flag).map(|(name, value)| (name.to_owned(), value.to_owned()));
    texts.iter().map(one).collect()
}

const PAGES: &str = "its node table is kept in ConfigMaps beside it";

/// A workflow with its node table in its place.
async fn read(c: &Connection, name: &str) -> Result<Value> {
    Ok(tables::whole(&c.client, stored(c, name).await?).await?)
}

/// A workflow as the API has it.
async fn stored(c: &Connection, name: &str) -> Result<Value> {
    match objects::workflows(c, false).get_opt(name).await? {
        Some(object) => Ok(serde_json::to_value(object)?),
        None => bail!("workflows.argoproj.io \"{name}\" not found in namespace {}", c.namespace),
    }
}

/// Reads a workflow, asks for the change, and writes it if nobody else wrote meanwhile; else once more.
async fn change(
    c: &Connection,
    name: &str,
    mut decide: impl FnMut(&Value) -> Result<Value, String>,
) -> Result<DynamicObject> {
    let api = objects::workflows(c, false);
    for _ in 0..ATTEMPTS {
        let stored = stored(c, name).await?;
        let before = tables::whole(&c.client, stored.clone()).await?;
        let mut patch = decide(&before).map_err(|e| anyhow!(e))?;
        if patch == json!({}) {
            return Ok(serde_json::from_value(stored)?);
        }
        let written = table::fit(&stored, &before, &mut patch, &tables::stamp()).map_err(|e| anyhow!(e))?;
        tables::write(&c.client, &c.namespace, &stored["metadata"], written.pages).await.context(PAGES)?;
        patch["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(after) => return Ok(after),
            Err(kube::Error::Api(s)) if s.code == 409 => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(e) => return Err(e.into()),
        }
    }
    bail!("workflow {name} changes too fast; try again")
}

/// Deletes pods of a run that has ended, and its reports, and waits until the pods are gone.
pub(super) async fn delete_pods(c: &Connection, workflow: &Value, names: &[String]) -> Result<()> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let pods = Api::<DynamicObject>::namespaced_with(c.client.clone(), &c.namespace, &resource);
    let uid = workflow["metadata"]["uid"].as_str().unwrap_or_default();
    let mut going = Vec::new();
    for name in names {
        let Some(pod) = pods.get_metadata_opt(name).await? else { continue };
        if !pod.metadata.owner_references.iter().flatten().any(|o| o.uid == uid) {
            bail!("pod {name} belongs to something else; delete it first");
        }
        let only = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
        match pods.delete(name, &params).await {
            Ok(_) => going.push((name, pod.metadata.uid)),
            Err(kube::Error::Api(s)) if matches!(s.code, 404 | 409) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let until = tokio::time::Instant::now() + GONE;
    for (name, uid) in going {
        while pods.get_metadata_opt(name).await?.is_some_and(|pod| pod.metadata.uid == uid) {
            if tokio::time::Instant::now() > until {
                bail!("pod {name} is not gone after {} s; see `kubectl describe pod {name}`", GONE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Five characters nobody else has, from the clock and this process.
pub(super) fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut left = Timestamp::now().as_nanosecond().unsigned_abs() ^ (u128::from(std::process::id()) << 40);
    // The last digits of a clock repeat: everything above them is folded in.
    left = (left ^ (left >> 17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..5)
        .map(|_| {
            left /= 29;
            char::from(ALPHABET[usize::try_from(left % ALPHABET.len() as u128).unwrap_or(0)])
        })
        .collect()
}
