//! `windlass archive …`: finished runs that are kept after their Workflow was deleted. What a retry or a resubmit comes to
//! is decided by the engine, as for those that are still there.

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use serde_json::Value;
use windlass_engine::manual;
use windlass_model::table;

use super::by_hand::{create, delete_pods, pairs, resubmitted, retry_how};
use crate::archived::{self, Query};
use crate::cli::{
    ArchiveGetArgs, ArchiveListArgs, ArchiveResubmitArgs, ArchiveRetryArgs, ArchiveVerb, ArchivedNames, Format,
    WhichArchived,
};
use crate::connect::{Connection, connect_both, connect_kept};
use crate::print::list::{ListLook, draw};
use crate::start::Session;
use crate::verb::follow;
use crate::{objects, print};

pub(super) async fn run(session: &Session, verb: ArchiveVerb) -> Result<ExitCode> {
    let connection = match verb {
        ArchiveVerb::Retry(_) | ArchiveVerb::Resubmit(_) => connect_both(&session.global).await?,
        _ => connect_kept(&session.global).await?,
    };
    let within = |all: bool| (!all).then(|| connection.namespace.clone());
    match verb {
        ArchiveVerb::List(args) => list(&connection, args).await,
        ArchiveVerb::Get(args) => get(session, &connection, args).await,
        ArchiveVerb::Delete(args) => delete(&connection, args).await,
        ArchiveVerb::ListLabelKeys(args) => {
            lines(&archived::label_keys(&connection, within(args.all_namespaces).as_deref()).await?)
        }
        ArchiveVerb::ListLabelValues(args) => {
            let namespace = within(args.place.all_namespaces);
            lines(&archived::label_values(&connection, namespace.as_deref(), &args.selector).await?)
        }
        ArchiveVerb::Retry(args) => retry(session, &connection, *args).await,
        ArchiveVerb::Resubmit(args) => resubmit(session, &connection, *args).await,
    }
}

fn lines(all: &[String]) -> Result<ExitCode> {
    all.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}

async fn list(c: &Connection, args: ArchiveListArgs) -> Result<ExitCode> {
    let namespace = (!args.place.all_namespaces).then(|| c.namespace.clone());
    let query = Query { namespace, selector: args.selector, chunk_size: args.chunk_size, ..Query::default() };
    let all = archived::list(c, &query).await?;
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&all)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&all)?)?),
        Some(Format::Name) => all.iter().for_each(|wf| println!("{}", wf.metadata.name.as_deref().unwrap_or_default())),
        _ if all.is_empty() => println!("No archived workflows found"),
        _ => {
            let look = ListLook { namespaces: true, headers: true, uids: true, ..ListLook::default() };
            print!("{}", draw(&all, look, Timestamp::now()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(session: &Session, c: &Connection, args: ArchiveGetArgs) -> Result<ExitCode> {
    for (i, name) in args.which.names.iter().enumerate() {
        let uid = archived::uid(c, name, args.which.named.force_uid, args.which.named.force_name).await?;
        let wf = archived::get(c, &uid).await?;
        match args.output {
            Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&wf)?),
            Some(Format::Yaml) => print!("{}", print::yaml(&wf)?),
            Some(Format::Name) => println!("{}", wf["metadata"]["name"].as_str().unwrap_or_default()),
            _ => {
                if i > 0 {
                    println!();
                }
                print!("{}", print::workflow::draw(&archived::typed(&wf)?, session.look, Timestamp::now()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(c: &Connection, args: ArchivedNames) -> Result<ExitCode> {
    for name in &args.names {
        let uid = archived::uid(c, name, args.named.force_uid, args.named.force_name).await?;
        archived::delete(c, &uid).await?;
        println!("Archived workflow '{name}' deleted");
    }
    Ok(ExitCode::SUCCESS)
}

/// The uids that a verb is for, each once.
async fn chosen(c: &Connection, which: &WhichArchived) -> Result<Vec<String>> {
    let mut uids = Vec::new();
    if which.all.selector.is_some() || which.all.field_selector.is_some() {
        let query = Query {
            namespace: Some(c.namespace.clone()),
            selector: which.all.selector.clone(),
            field_selector: which.all.field_selector.clone(),
            ..Query::default()
        };
        uids.extend(archived::list(c, &query).await?.into_iter().filter_map(|wf| wf.metadata.uid));
    } else if which.names.is_empty() {
        bail!("name archived workflows, or select them with -l or --field-selector");
    }
    for name in &which.names {
        let uid = archived::uid(c, name, which.named.force_uid, which.named.force_name).await?;
        if !uids.contains(&uid) {
            uids.push(uid);
        }
    }
    Ok(uids)
}

/// Where the workflow lived, and lives again.
fn home(c: &Connection, wf: &Value) -> Connection {
    let namespace = wf["metadata"]["namespace"].as_str().map_or_else(|| c.namespace.clone(), str::to_owned);
    Connection { namespace, ..c.clone() }
}

async fn retry(session: &Session, c: &Connection, args: ArchiveRetryArgs) -> Result<ExitCode> {
    let how = retry_how(&args.how)?;
    let mut retried = Vec::new();
    for uid in chosen(c, &args.which).await? {
        let mut wf = archived::get(c, &uid).await?;
        let c = home(c, &wf);
        let name = wf["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if objects::workflows(&c, false).get_metadata_opt(&name).await?.is_some() {
            bail!("workflow {name} is still in the cluster: `windlass retry {name}` runs it again");
        }
        let decided = manual::retry(&wf, &how, Timestamp::now()).map_err(|e| anyhow!("cannot retry {name}: {e}"))?;
        delete_pods(&c, &wf, &decided.pods).await?;
        table::merge(&mut wf, decided.patch);
        if let Some(metadata) = wf["metadata"].as_object_mut() {
            for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "deletionTimestamp"]
            {
                metadata.remove(field);
            }
            // Whoever owned it may be gone; it would be taken for garbage.
            metadata.remove("ownerReferences");
        }
        let created = create(&c, wf).await?;
        let name = follow::show(session, &c, &args.follow, created).await?;
        retried.push((c, name));
    }
    follow::until_ended(session, &args.follow, &retried).await
}

async fn resubmit(session: &Session, c: &Connection, args: ArchiveResubmitArgs) -> Result<ExitCode> {
    let parameters = pairs(&args.how.parameters, "-p")?;
    let mut made = Vec::new();
    for uid in chosen(c, &args.which).await? {
        let wf = archived::get(c, &uid).await?;
        let c = home(c, &wf);
        let name = wf["metadata"]["name"].as_str().unwrap_or_default();
        let mut object = resubmitted(&wf, name, &args.how, &parameters)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("ownerReferences");
        }
        let created = create(&c, object).await?;
        let name = follow::show(session, &c, &args.follow, created).await?;
        made.push((c, name));
    }
    follow::until_ended(session, &args.follow, &made).await
}
