//! `windlass delete`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use windlass_model::labels;

use crate::cli::DeleteArgs;
use crate::connect::connect;
use crate::objects;
use crate::print::time;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: DeleteArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let api = objects::workflows(&connection, false);
    let mut names = Vec::new();
    for name in &args.names {
        names.push(objects::resolve(&connection, name).await?);
    }
    let filtered = args.selector.is_some()
        || args.field_selector.is_some()
        || args.older.is_some()
        || args.prefix.is_some()
        || args.status.is_some();
    if args.all || args.completed || filtered {
        let mut selectors: Vec<String> = args.selector.clone().into_iter().collect();
        if args.completed {
            selectors.push(format!("{}=true", labels::COMPLETED));
        }
        if let Some(phases) = &args.status {
            selectors.push(format!("{} in ({phases})", labels::PHASE));
        }
        let older = match &args.older {
            Some(text) => {
                Some(time::parse(text).with_context(|| format!("--older {text}: write a number and s, m, h, d or w"))?)
            }
            None => None,
        };
        let params = ListParams { field_selector: args.field_selector.clone(), ..ListParams::default() };
        let found = api.list(&params.labels(&selectors.join(","))).await?;
        let now = jiff::Timestamp::now();
        for object in found.items {
            let wf = objects::typed(object)?;
            let finished = wf.status.as_ref().and_then(|s| s.finished_at);
            let name = wf.metadata.name.unwrap_or_default();
            let old = older.is_none_or(|o| finished.is_some_and(|t| time::seconds(t.0, now) >= o));
            if old && args.prefix.as_ref().is_none_or(|p| name.starts_with(p.as_str())) {
                names.push(name);
            }
        }
    }
    if names.is_empty() && args.names.is_empty() && !(args.all || args.completed || filtered) {
        bail!("name the workflows to delete, or say --completed, --all or -l SELECTOR");
    }
    for name in names {
        if args.dry_run {
            println!("Workflow '{name}' deleted (dry-run)");
            continue;
        }
        if args.force {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            match api.patch(&name, &PatchParams::default(), &patch).await {
                Err(kube::Error::Api(s)) if s.code == 404 && args.ignore_not_found => {}
                other => drop(other?),
            }
        }
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => println!("Workflow '{name}' deleted"),
            Err(kube::Error::Api(s)) if s.code == 404 && args.ignore_not_found => {
                println!("Workflow '{name}' not found");
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
