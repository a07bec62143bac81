//! Rule: an output says where it comes from, in the way its kind of template can give it.

use windlass_lang::Severity;
use windlass_model::ValueFrom;

use super::object::Placed;
use super::report::Report;
use super::spec::enumeration;
use super::values::location;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let (template, at) = (placed.template, placed.pointer.as_str());
    for (i, input) in template.inputs.parameters.iter().enumerate() {
        enumeration(input, &format!("{at}/inputs/parameters/{i}"), Severity::Warning, report);
    }
    for (i, output) in template.outputs.parameters.iter().enumerate() {
        let place = format!("{at}/outputs/parameters/{i}");
        match &output.value_from {
            None if output.value.is_none() => {
                let message = format!("the output `{}` has no `valueFrom`", output.name);
                report.error("argo::output-without-origin", &place, message);
            }
            Some(_) if output.value.is_some() => {
                let message = format!("the output `{}` has a `value` and a `valueFrom`", output.name);
                report.error("argo::several-origins", &place, message);
            }
            Some(from) => origin(placed, from, &format!("{place}/valueFrom"), report),
            None => {}
        }
    }
    let group = template.steps.is_some() || template.dag.is_some();
    let leaf = !group && template.suspend.is_none();
    for (list, all) in [("inputs", &template.inputs.artifacts), ("outputs", &template.outputs.artifacts)] {
        for (i, artifact) in all.iter().enumerate() {
            let place = format!("{at}/{list}/artifacts/{i}");
            let path = artifact.path.as_deref().unwrap_or("");
            if leaf && path.is_empty() {
                report.error("argo::missing-path", &place, format!("the artifact `{}` needs a `path`", artifact.name));
            }
            if !leaf && !path.is_empty() {
                let message = "only what runs in a pod has a `path` for an artifact";
                report.error("argo::misplaced-field", &format!("{place}/path"), message);
            }
            if list == "inputs" && artifact.from.as_deref().is_some_and(|f| !f.is_empty()) {
                let message = "an input has no `from`: whoever calls the template says where it comes from";
                report.error("argo::misplaced-field", &format!("{place}/from"), message);
            }
            if list == "inputs"
                && let Some(raw) = placed.raw.pointer(&format!("/inputs/artifacts/{i}"))
            {
                location(raw, &place, report);
            }
            if list == "outputs" && group && artifact.from.is_none() && artifact.from_expression.is_none() {
                let message = format!("the artifact `{}` needs a `from` or a `fromExpression`", artifact.name);
                report.warning("argo::output-without-origin", &place, message);
            }
        }
    }
    if let Some(raw) = placed.raw.get("archiveLocation") {
        location(raw, &format!("{at}/archiveLocation"), report);
    }
    metrics(placed, report);
}

/// One origin, and one that this kind of template has.
fn origin(placed: &Placed<'_>, from: &ValueFrom, at: &str, report: &mut Report<'_>) {
    let template = placed.template;
    let said = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    let given = [
        ("path", said(&from.path)),
        ("jqFilter", said(&from.jq_filter)),
        ("jsonPath", said(&from.json_path)),
        ("parameter", said(&from.parameter)),
        ("expression", said(&from.expression)),
        ("supplied", from.supplied.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    if let [_, second, ..] = given.as_slice() {
        let message = format!("an output has one origin, and this one has {}", given.join(", "));
        report.error("argo::several-origins", &format!("{at}/{second}"), message);
        return;
    }
    let is = |name: &str| given.contains(&name);
    let (wanted, good, sure) =
        if template.container.is_some() || template.script.is_some() || template.container_set.is_some() {
            ("`path`", is("path"), true)
        } else if template.steps.is_some() || template.dag.is_some() {
            ("`parameter` or `expression`", is("parameter") || is("expression"), true)
        } else if template.resource.is_some() {
            ("`jsonPath` or `jqFilter`", is("jsonPath") || is("jqFilter"), true)
        } else if template.suspend.is_some() {
            ("`supplied`", is("supplied"), false)
        } else {
            ("an origin", !given.is_empty(), true)
        };
    if !good {
        let severity = if sure || given.is_empty() { Severity::Error } else { Severity::Warning };
        let message = format!("an output of this kind of template needs {wanted}");
        report.add(severity, "argo::output-without-origin", at, message);
    }
}

fn metrics(placed: &Placed<'_>, report: &mut Report<'_>) {
    let all = placed.template.metrics.iter().flat_map(|m| &m.prometheus).enumerate();
    for (i, metric) in all {
        let at = format!("{}/metrics/prometheus/{i}", placed.pointer);
        let text = |key: &str| metric.get(key).and_then(|v| v.as_str()).unwrap_or("");
        let name = text("name");
        let form = |n: &str| {
            n.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !form(name) {
            let message = format!("`{name}` is no name for a metric: letters, digits and `_` only");
            report.error("argo::bad-metric", &format!("{at}/name"), message);
        }
        if text("help").is_empty() {
            report.error("argo::bad-metric", &at, format!("the metric `{name}` needs a `help`"));
        }
        for (l, label) in metric.get("labels").and_then(|v| v.as_array()).into_iter().flatten().enumerate() {
            let key = label.get("key").and_then(|v| v.as_str()).unwrap_or("");
            if !form(key) {
                report.error("argo::bad-metric", &format!("{at}/labels/{l}"), format!("`{key}` is no label's name"));
            }
        }
        let given = |kind: &&&str| metric.get(**kind).is_some_and(|v| !v.is_null());
        let kinds: Vec<&&str> = ["gauge", "histogram", "counter"].iter().filter(given).collect();
        if kinds.len() != 1 {
            report.warning("argo::bad-metric", &at, "a metric is one of `gauge`, `histogram` and `counter`");
        }
        for kind in kinds {
            let value = metric.get(*kind).and_then(|k| k.get("value")).and_then(|v| v.as_str()).unwrap_or("");
            if value.is_empty() {
                report.error("argo::bad-metric", &format!("{at}/{kind}"), format!("this {kind} needs a `value`"));
            }
        }
        let gauge = metric.get("gauge");
        let realtime = gauge.and_then(|g| g.get("realtime")).and_then(|r| r.as_bool()).unwrap_or(false);
        let value = gauge.and_then(|g| g.get("value")).and_then(|v| v.as_str()).unwrap_or("");
        if realtime && value.contains("resourcesDuration.") {
            let message = "`resourcesDuration` is known at the end only, so no realtime gauge can show it";
            report.error("argo::bad-metric", &format!("{at}/gauge/value"), message);
        }
    }
}
