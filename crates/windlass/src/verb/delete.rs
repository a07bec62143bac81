//! `windlass delete`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use kube::api::{DeleteParams, ListParams};
use windlass_model::labels;

use crate::cli::DeleteArgs;
use crate::connect::connect;
use crate::objects;
use crate::start::Session;

pub(super) async fn run(session: &Session, args: DeleteArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let api = objects::workflows(&connection, false);
    let mut names = Vec::new();
    for name in &args.names {
        names.push(objects::resolve(&connection, name).await?);
    }
    if args.all || args.completed || args.selector.is_some() {
        let mut selectors: Vec<String> = args.selector.into_iter().collect();
        if args.completed {
            selectors.push(format!("{}=true", labels::COMPLETED));
        }
        let found = api.list_metadata(&ListParams::default().labels(&selectors.join(","))).await?;
        names.extend(found.items.into_iter().filter_map(|w| w.metadata.name));
    }
    if names.is_empty() && args.names.is_empty() && !(args.all || args.completed) {
        bail!("name the workflows to delete, or say --completed, --all or -l SELECTOR");
    }
    for name in names {
        if args.dry_run {
            println!("Workflow '{name}' deleted (dry-run)");
            continue;
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
