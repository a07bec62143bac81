//! Rule (warning): text from outside is not spliced into shell source, where it would be run.

use serde_json::Value;
use windlass_lang::tags;

use super::object::Placed;
use super::report::Report;

const SHELLS: [&str; 8] = ["sh", "bash", "ash", "dash", "zsh", "ksh", "python", "python3"];

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    if let Some(script) = &placed.template.script {
        source(placed, script.get("source"), &format!("{}/script/source", placed.pointer), report);
    }
    let Some(container) = &placed.template.container else { return };
    let words = |key: &str| {
        let all = container.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        all.map(|(i, v)| (format!("{}/container/{key}/{i}", placed.pointer), v)).collect::<Vec<_>>()
    };
    let line: Vec<_> = words("command").into_iter().chain(words("args")).collect();
    let shell = line.first().and_then(|(_, v)| v.as_str()).and_then(|c| c.rsplit('/').next()).unwrap_or("");
    if !SHELLS.contains(&shell) {
        return;
    }
    // `sh -c SOURCE`: the word behind the flag is source, those behind it are arguments.
    let flag = line
        .iter()
        .position(|(_, v)| v.as_str().is_some_and(|s| s.starts_with('-') && !s.starts_with("--") && s.ends_with('c')));
    if let Some((at, value)) = flag.and_then(|f| line.get(f + 1)) {
        source(placed, Some(value), at, report);
    }
}

fn source(placed: &Placed<'_>, text: Option<&Value>, at: &str, report: &mut Report<'_>) {
    let Some(text) = text.and_then(Value::as_str) else { return };
    for tag in tags::find(text) {
        let Some(name) = tag.name() else { continue };
        let Some(what) = outside(name) else { continue };
        let message = format!("`{name}` is {what}; spliced into a script, whoever writes it can run commands here");
        report.warning_in("argo::event-injection", at, tag.range.clone(), message);
        let variable = name.rsplit(['.', '/']).next().unwrap_or("VALUE").to_uppercase().replace('-', "_");
        let field = if placed.template.script.is_some() { "script" } else { "container" };
        report.help(format!("pass it as data: `env: [{{name: {variable}, value: \"{{{{{name}}}}}\"}}]` in `{field}`, and write \"${variable}\""));
    }
}

/// What a name is, when people outside can choose its text.
fn outside(name: &str) -> Option<&'static str> {
    if let Some(key) = name.strip_prefix("workflow.annotations.") {
        return key.starts_with("k8s-webhook-handler.io/").then_some("text of a webhook's event");
    }
    if let Some(key) = name.strip_prefix("workflow.labels.") {
        return key.starts_with("k8s-webhook-handler.io/").then_some("text of a webhook's event");
    }
    let event_word = |p: &str| {
        let p = p.to_ascii_lowercase().replace(['-', '_'], "");
        [
            "ref",
            "branch",
            "commitmessage",
            "message",
            "prtitle",
            "title",
            "author",
            "sender",
            "payload",
            "headref",
            "tag",
        ]
        .contains(&p.as_str())
    };
    name.strip_prefix("workflow.parameters.").filter(|p| event_word(p)).map(|_| "a parameter that an event may fill")
}
