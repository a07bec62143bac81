//! `windlass list`, with the columns and flags of `argo list`.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kube::api::ListParams;
use windlass_model::{Workflow, labels};

use crate::archived::{self, Query};
use crate::cli::{Format, ListArgs};
use crate::connect::{Connection, connect};
use crate::objects;
use crate::print;
use crate::print::list::{ListLook, draw};
use crate::print::time;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: ListArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let mut selectors: Vec<String> = args.selector.clone().into_iter().collect();
    if args.running {
        selectors.push(format!("{}!=true", labels::COMPLETED));
    }
    if args.completed {
        selectors.push(format!("{}=true", labels::COMPLETED));
    }
    if let Some(phases) = &args.status {
        selectors.push(format!("{} in ({phases})", labels::PHASE));
    }
    if args.resubmitted {
        selectors.push(labels::RESUBMITTED_FROM.to_owned());
    }
    if let Some(id) = &args.instanceid {
        selectors.push(format!("{}={id}", labels::INSTANCE));
    }
    let params =
        ListParams { field_selector: args.field_selector.clone(), limit: args.chunk_size, ..ListParams::default() };
    let mut params = params.labels(&selectors.join(","));
    let now = Timestamp::now();
    let span = |text: &Option<String>, flag: &str| -> Result<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        time::parse(text).map(Some).with_context(|| format!("{flag} {text}: write a number and s, m, h, d or w"))
    };
    let (older, since) = (span(&args.older, "--older")?, span(&args.since, "--since")?);
    let api = objects::workflows(&connection, args.all_namespaces);
    let mut items = Vec::new();
    loop {
        let page = api.list(&params).await?;
        items.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|c| !c.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(objects::complete(&connection, objects::typed(item)?).await?);
    }
    all.extend(archived(&connection, &args, &params, &all).await?);
    all.retain(|wf| {
        let status = wf.status.as_ref();
        let age = |t: Option<&windlass_model::Time>| t.map(|t| time::seconds(t.0, now));
        let begins = args.prefix.as_ref().is_none_or(|p| wf.metadata.name.as_ref().is_some_and(|n| n.starts_with(p)));
        let old = older.is_none_or(|o| age(status.and_then(|s| s.finished_at.as_ref())).is_some_and(|a| a >= o));
        let recent = since.is_none_or(|s| age(wf.metadata.creation_timestamp.as_ref()).is_some_and(|a| a <= s));
        begins && old && recent
    });
    all.sort_by_key(|wf: &Workflow| {
        let status = wf.status.as_ref();
        let finished = status.and_then(|s| s.finished_at.as_ref()).map(|t| t.0);
        let started = status.and_then(|s| s.started_at.as_ref()).map(|t| t.0);
        (finished.is_some(), std::cmp::Reverse(finished), std::cmp::Reverse(started))
    });
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&all)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&all)?)?),
        Some(Format::Name) => all.iter().for_each(|wf| println!("{}", wf.metadata.name.as_deref().unwrap_or_default())),
        _ if all.is_empty() => println!("No workflows found"),
        format => {
            let wide = format == Some(Format::Wide);
            print!(
                "{}",
                draw(
                    &all,
                    ListLook { namespaces: args.all_namespaces, headers: !args.no_headers, wide, uids: false },
                    now
                )
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that are only in the archive, where there is one.
async fn archived(c: &Connection, args: &ListArgs, params: &ListParams, live: &[Workflow]) -> Result<Vec<Workflow>> {
    if args.running || args.field_selector.is_some() {
        return Ok(Vec::new());
    }
    let query = Query {
        namespace: (!args.all_namespaces).then(|| c.namespace.clone()),
        selector: params.label_selector.clone().filter(|s| !s.is_empty()),
        prefix: args.prefix.clone(),
        chunk_size: args.chunk_size,
        ..Query::default()
    };
    let kept = match archived::list(c, &query).await {
        Err(error) if archived::has_none(&error) => return Ok(Vec::new()),
        answer => answer?,
    };
    let there: HashSet<&str> = live.iter().filter_map(|wf| wf.metadata.uid.as_deref()).collect();
    Ok(kept.into_iter().filter(|wf| !wf.metadata.uid.as_deref().is_some_and(|uid| there.contains(uid))).collect())
}
