//! What follows when a workflow was made or made to run again: it is shown, waited for, watched, or its logs are printed.

use std::process::ExitCode;

use anyhow::Result;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use windlass_control::tables;

use crate::cli::{Follow, Format};
use crate::connect::Connection;
use crate::start::Session;
use crate::verb::{logs, wait, watch};
use crate::{objects, print};

/// Prints a workflow in the form that was asked for, and answers its name.
pub(super) async fn show(session: &Session, c: &Connection, follow: &Follow, object: DynamicObject) -> Result<String> {
    let name = object.name_any();
    match follow.output {
        Some(Format::Name) => println!("{name}"),
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&whole(c, object).await?)?),
        Some(Format::Yaml) => print!("{}", print::yaml(&whole(c, object).await?)?),
        _ if follow.watch || follow.log => {}
        _ => {
            let wf = objects::complete(c, objects::typed(object)?).await?;
            print!("{}", print::workflow::draw(&wf, session.look, jiff::Timestamp::now()));
        }
    }
    Ok(name)
}

async fn whole(c: &Connection, object: DynamicObject) -> Result<Value> {
    Ok(tables::whole(&c.client, serde_json::to_value(object)?).await?)
}

/// Follows workflows one after the other; the exit code says whether all that were waited for ended well.
pub(super) async fn until_ended(
    session: &Session,
    follow: &Follow,
    names: &[(Connection, String)],
) -> Result<ExitCode> {
    let mut all_well = true;
    for (connection, name) in names {
        let mut notes = wait::Notes::default();
        let ended = if follow.watch {
            watch::follow(connection, name, session.look).await?
        } else if follow.log {
            let tail = logs::stream(connection.clone(), name.clone(), logs::Wanted::live(), session.look);
            let ended = wait::until_ended(connection, name, |wf| notes.tell(wf)).await?;
            tail.finish().await;
            ended
        } else if follow.wait {
            let ended = wait::until_ended(connection, name, |wf| notes.tell(wf)).await?;
            logs::print_failures(connection, &ended, session.look).await;
            ended
        } else {
            continue;
        };
        all_well &= objects::succeeded(&ended);
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
