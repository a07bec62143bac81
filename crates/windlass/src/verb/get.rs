//! `windlass get`: workflows in `argo get`'s layout, and deliveries with what was wrong with them.

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::Value;
use windlass_engine::manual::Selector;

use crate::cli::{Format, GetArgs};
use crate::connect::{Connection, connect};
use crate::print::{self, Columns, Look};
use crate::start::Session;
use crate::{objects, verb::logs};

pub(super) async fn run(session: &Session, args: GetArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    if matches!(args.names[0].as_str(), "delivery" | "deliveries") {
        return deliveries(&connection, &args).await;
    }
    let columns = match args.output {
        Some(Format::Wide) => Columns::Wide,
        Some(Format::Short) => Columns::Short,
        _ => Columns::Plain,
    };
    let text = match (&args.status, &args.node_field_selector) {
        (Some(_), Some(_)) => bail!("cannot use both --status and --node-field-selector"),
        (Some(phase), None) => format!("phase={phase}"),
        (None, text) => text.clone().unwrap_or_default(),
    };
    let selector = Selector::parse(&text).map_err(|e| anyhow!(e))?;
    let look = Look { utf8: !args.no_utf8, columns, ..session.look };
    for (i, name) in args.names.iter().enumerate() {
        let name = objects::resolve(&connection, name).await?;
        let wf = objects::read_or_archived(&connection, &name).await?;
        match args.output {
            Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&wf)?),
            Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&wf)?)?),
            Some(Format::Name) => println!("{name}"),
            _ => {
                if i > 0 {
                    println!();
                }
                print!("{}", print::workflow::draw_selected(&wf, &selector, look, Timestamp::now()));
                logs::print_failures(&connection, &wf, look).await;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn deliveries(connection: &Connection, args: &GetArgs) -> Result<ExitCode> {
    let api = objects::deliveries(connection);
    let names = &args.names[1..];
    let mut found = Vec::new();
    if names.is_empty() {
        found = api.list(&ListParams::default()).await?.items;
    }
    for name in names {
        match api.get_opt(name).await? {
            Some(d) => found.push(d),
            None => bail!("deliveries.windlass.dev \"{name}\" not found: `windlass get delivery` shows all there are"),
        }
    }
    let found = found.into_iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&found)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&Value::Array(found))?),
        Some(Format::Name) => found.iter().for_each(|d| println!("{}", d["metadata"]["name"].as_str().unwrap_or(""))),
        _ if found.is_empty() => println!("No deliveries found"),
        _ => print!("{}", table(&found, !names.is_empty())),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &[Value], whole: bool) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let head = ["NAME", "EVENT", "REPOSITORY", "REF", "PHASE", "WORKFLOW", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for d in all {
        let (event, status) = (&d["spec"]["event"], &d["status"]);
        rows.push(vec![
            text(&d["metadata"]["name"]),
            text(&event["event"]),
            text(&event["repo"]["fullName"]),
            text(&event["ref"]),
            if status["phase"].is_string() { text(&status["phase"]) } else { "Pending".into() },
            text(&status["workflow"]["name"]),
            text(&status["reason"]),
        ]);
    }
    let mut out = print::columns(&rows);
    if whole {
        for d in all {
            let status = &d["status"];
            if let Some(message) = status["message"].as_str() {
                out.push_str(&format!("\n{message}\n"));
            }
            for fault in status["diagnostics"].as_array().into_iter().flatten() {
                let rendered = fault["rendered"].as_str().or(fault["message"].as_str()).unwrap_or_default();
                out.push_str(&format!("\n{rendered}\n"));
            }
        }
    }
    out
}
