//! A node table as people compare them: every node with its type, phase, message, children and what it gave, without ids
//! and times.

use serde_json::Value;

/// The table of a workflow; its name stands as `NAME`.
pub(crate) fn of(workflow: &Value) -> String {
    let status = &workflow["status"];
    let name = workflow["metadata"]["name"].as_str().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for node in status["nodes"].as_object().into_iter().flatten().map(|(_, n)| n) {
        let mut line = format!("{}: {} {}", text(&node["name"]), text(&node["type"]), text(&node["phase"]));
        let message = text(&node["message"]);
        if !message.is_empty() {
            line += &format!(" ({message})");
        }
        let named = |id: &Value| text(&status["nodes"][id.as_str().unwrap_or_default()]["name"]);
        for (key, word) in [("children", "then"), ("outboundNodes", "ends with")] {
            let mut list: Vec<String> = node[key].as_array().into_iter().flatten().map(named).collect();
            list.sort();
            if !list.is_empty() {
                line += &format!("\n  {word} {}", list.join(", "));
            }
        }
        let template = node["templateName"].as_str().map(str::to_owned);
        let reference =
            node["templateRef"].as_object().map(|r| format!("{}/{}", text(&r["name"]), text(&r["template"])));
        if let Some(template) = reference.or(template) {
            line += &format!("\n  template {template}");
        }
        for kind in ["inputs", "outputs"] {
            let named = |what: &str| -> Vec<String> {
                let list = node[kind][what].as_array().into_iter().flatten();
                list.map(|p| match p["value"].as_str() {
                    Some(value) => format!("{}={value}", text(&p["name"])),
                    None => text(&p["name"]),
                })
                .collect()
            };
            let mut all = named("parameters");
            all.extend(named("artifacts").into_iter().map(|a| format!("[{a}]")));
            if let Some(code) = node[kind]["exitCode"].as_str() {
                all.push(format!("exit {code}"));
            }
            if !all.is_empty() {
                line += &format!("\n  {kind} {}", all.join(" "));
            }
        }
        lines.push(line.replace(name, "NAME"));
    }
    lines.sort();
    let message = text(&status["message"]);
    let head = format!("{} {} {message}", text(&status["phase"]), text(&status["progress"]));
    format!("{}\n{}\n", head.trim_end(), lines.join("\n"))
}

/// A node by the name that people see.
pub(crate) fn node<'a>(workflow: &'a Value, name: &str) -> &'a Value {
    let nodes = workflow["status"]["nodes"].as_object().unwrap();
    nodes.values().find(|n| n["displayName"] == name).unwrap_or_else(|| panic!("no node {name} in\n{}", of(workflow)))
}
