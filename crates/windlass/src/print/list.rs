//! Workflows as `argo list` prints them: NAME STATUS AGE DURATION PRIORITY MESSAGE.

use jiff::Timestamp;
use windlass_model::{NodeType, Workflow};

use super::columns;
use super::time::{seconds, short};

/// How the list is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ListLook {
    pub(crate) namespaces: bool,
    pub(crate) headers: bool,
    pub(crate) wide: bool,
    pub(crate) uids: bool,
}

/// The whole text.
pub(crate) fn draw(all: &[Workflow], look: ListLook, now: Timestamp) -> String {
    let mut rows = Vec::new();
    if look.headers {
        let mut head: Vec<&str> = if look.namespaces { vec!["NAMESPACE"] } else { vec![] };
        head.extend(["NAME", "STATUS", "AGE", "DURATION", "PRIORITY", "MESSAGE"]);
        if look.wide {
            head.extend(["P/R/C", "PARAMETERS"]);
        }
        if look.uids {
            head.push("UID");
        }
        rows.push(head.into_iter().map(str::to_owned).collect());
    }
    for wf in all {
        let status = wf.status.clone().unwrap_or_default();
        let mut row = Vec::new();
        if look.namespaces {
            row.push(wf.metadata.namespace.clone().unwrap_or_default());
        }
        row.push(wf.metadata.name.clone().unwrap_or_default());
        row.push(super::status(wf));
        row.push(wf.metadata.creation_timestamp.as_ref().map_or_else(String::new, |t| short(seconds(t.0, now))));
        let finished = status.finished_at.as_ref().map_or(now, |t| t.0);
        row.push(status.started_at.as_ref().map_or("0s".to_owned(), |t| short(seconds(t.0, finished))));
        row.push(wf.spec.priority.unwrap_or(0).to_string());
        row.push(status.message.clone().unwrap_or_default());
        if look.wide {
            let count = |f: fn(&str) -> bool| {
                let pods = status.nodes.values().filter(|n| n.type_ == NodeType::Pod);
                pods.filter(|n| f(&n.phase.to_string())).count()
            };
            row.push(format!(
                "{}/{}/{}",
                count(|p| p == "Pending"),
                count(|p| p == "Running"),
                count(|p| p != "Pending" && p != "Running")
            ));
            let parameters = wf.spec.arguments.parameters.iter();
            let shown = parameters.filter_map(|p| Some(format!("{}={}", p.name, p.value.as_ref()?)));
            row.push(shown.collect::<Vec<_>>().join(","));
        }
        if look.uids {
            row.push(wf.metadata.uid.clone().unwrap_or_default());
        }
        rows.push(row);
    }
    columns(&rows)
}
