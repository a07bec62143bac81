//! `windlass replay`: a run as it was at any moment: a list of moments, one of them, or one after the other.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use windlass_engine::past;
use windlass_model::Workflow;

use crate::cli::{Format, ReplayArgs};
use crate::connect::connect;
use crate::start::Session;
use crate::{objects, print};

pub(super) async fn run(session: &Session, args: ReplayArgs) -> Result<ExitCode> {
    let wf = match &args.file {
        Some(file) => objects::from_file(file)?,
        None => {
            let connection = connect(&session.global).await?;
            let name = objects::resolve(&connection, args.name.as_deref().unwrap_or_default()).await?;
            objects::read(&connection, &name).await?
        }
    };
    let Some(begin) = wf.status.as_ref().and_then(|s| s.started_at).map(|t| t.0) else {
        bail!("{} has not begun: there is nothing to show again", wf.metadata.name.unwrap_or_default());
    };
    if let Some(text) = &args.at {
        show(session, &args, &wf, moment(text, begin)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let moments = past::moments(&wf);
    if args.step {
        let waits = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        for (i, moment) in moments.iter().enumerate() {
            if i > 0 {
                println!();
            }
            println!("{}", print::past::head(moment.at, begin, i, moments.len()));
            show(session, &args, &wf, moment.at)?;
            if waits && i + 1 < moments.len() && std::io::stdin().lock().read_line(&mut String::new())? == 0 {
                break;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&moments)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&json!(moments))?),
        _ => print!("{}", print::past::list(&wf, &moments, begin, session.look)),
    }
    Ok(ExitCode::SUCCESS)
}

/// `12s` after the start, or a time.
fn moment(text: &str, begin: Timestamp) -> Result<Timestamp> {
    if let Some(ms) = windlass_engine::duration_ms(text).filter(|ms| *ms >= 0) {
        let after = SignedDuration::from_millis(ms);
        return begin.checked_add(after).context("this is past the end of time");
    }
    text.parse()
        .with_context(|| format!("--at {text}: write a duration such as 12s or 1h5m, or a time such as {begin}"))
}

fn show(session: &Session, args: &ReplayArgs, wf: &Workflow, at: Timestamp) -> Result<()> {
    let then = past::at(wf, at);
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&then)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&serde_json::to_value(&then)?)?),
        _ => print!("{}", print::past::draw(&then, session.look, at)),
    }
    Ok(())
}
