//! What a retry would come to, as people read it. Text in, text out: nothing is written.

use serde_json::{Value, json};
use windlass_engine::manual::Retried;

/// Which nodes run again, which go on, what stays, which pods go.
pub(crate) fn draw(name: &str, before: &Value, retried: &Retried) -> String {
    let none = serde_json::Map::new();
    let rows = before["status"]["nodes"].as_object().unwrap_or(&none);
    let changes = retried.patch["status"]["nodes"].as_object().unwrap_or(&none);
    let shown = |id: &String| {
        let row = &rows[id];
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        (row["type"] != "StepGroup").then(|| format!("{} ({})", word("displayName"), word("phase")))
    };
    let mut again: Vec<String> = Vec::new();
    let mut on: Vec<String> = Vec::new();
    let mut stays = 0;
    for id in rows.keys() {
        match changes.get(id) {
            Some(Value::Null) => again.extend(shown(id)),
            Some(change) if change.get("phase").is_some_and(|p| *p == json!("Running")) => on.extend(shown(id)),
            _ => stays += usize::from(rows[id]["type"] != "StepGroup"),
        }
    }
    let mut out = format!("workflow {name} retried (dry-run)\n");
    let mut line = |label: &str, list: &mut Vec<String>| {
        list.sort();
        let text = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
        out.push_str(&format!("{label:<20} {text}\n"));
    };
    line("Runs again:", &mut again);
    line("Goes on:", &mut on);
    line("Stays:", &mut vec![format!("{stays} nodes")]);
    line("Pods deleted:", &mut retried.pods.clone());
    out
}
