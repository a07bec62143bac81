//! `windlass cron backfill`: what a cron workflow would have run between two times, now. Each is an ordinary workflow of the
//! cron workflow, told its time as a parameter; one after the other, or all at a time.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};
use windlass_model::cron::CronWorkflow;

use crate::cli::{BackfillArgs, SubmitOptions};
use crate::connect::connect;
use crate::start::Session;
use crate::verb::{stored, wait};
use crate::{manifest, objects};

pub(super) async fn run(session: &Session, args: BackfillArgs) -> Result<ExitCode> {
    let time = |flag: &str, text: &str| -> Result<Timestamp> {
        text.parse().with_context(|| format!("{flag} {text}: write a time such as 2026-11-01T00:00:00Z"))
    };
    let start = time("--start", &args.start)?;
    let end = args.end.as_deref().map_or_else(|| Ok(Timestamp::now()), |t| time("--end", t))?;
    let connection = connect(&session.global).await?;
    let object = stored::read_cron(&connection, &args.cron).await?;
    let cron: CronWorkflow = serde_json::from_value(object.clone()).context("this is not a CronWorkflow")?;
    let ticks = ticks(&cron, start, end, args.maxworkflowcount)?;
    if ticks.is_empty() {
        println!("{} has no tick between {start} and {end}", args.cron);
        return Ok(ExitCode::SUCCESS);
    }
    let prefix = args.name.clone().unwrap_or_else(|| format!("{}-backfill", args.cron));
    let mut made = Vec::new();
    let mut all_well = true;
    for tick in ticks {
        let workflow = workflow(&object, tick, &prefix, &args.argname)?;
        if args.dry_run {
            println!("{} for {tick} (dry-run)", workflow["metadata"]["name"].as_str().unwrap_or_default());
            continue;
        }
        let created = objects::workflows(&connection, false)
            .create(&PostParams::default(), &serde_json::from_value(workflow)?)
            .await?;
        let name = created.name_any();
        println!("{name} for {tick}");
        if args.parallel {
            made.push(name);
        } else {
            all_well &= objects::succeeded(&wait::until_ended(&connection, &name, |_| {}).await?);
        }
    }
    for name in made {
        all_well &= objects::succeeded(&wait::until_ended(&connection, &name, |_| {}).await?);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Every tick from `start` to before `end`.
fn ticks(cron: &CronWorkflow, start: Timestamp, end: Timestamp, count_max: usize) -> Result<Vec<Timestamp>> {
    let mut out = Vec::new();
    // A tick at the start itself counts.
    let mut at = start.checked_sub(jiff::SignedDuration::from_secs(1))?;
    while let Some(next) = windlass_schedule::cron::next(&cron.spec, at).map_err(|e| anyhow::anyhow!(e))? {
        if next >= end {
            break;
        }
        if out.len() == count_max {
            bail!("more than {count_max} ticks between {start} and {end}: say --maxworkflowcount, or other times");
        }
        out.push(next);
        at = next;
    }
    Ok(out)
}

fn workflow(cron: &Value, tick: Timestamp, prefix: &str, argname: &str) -> Result<Value> {
    let mut workflow = windlass_schedule::cron::workflow(cron, tick);
    // By its tick, so that the same backfill twice runs nothing twice; and of nobody's history.
    workflow["metadata"]["name"] = json!(format!("{prefix}-{}", tick.as_second()));
    if let Some(meta) = workflow["metadata"].as_object_mut() {
        meta.remove("ownerReferences");
    }
    let options = SubmitOptions { parameters: vec![format!("{argname}={tick}")], ..SubmitOptions::default() };
    manifest::change(&mut workflow, &options)?;
    Ok(workflow)
}
