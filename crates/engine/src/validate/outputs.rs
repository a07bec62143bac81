//! Rule: an output says where it comes from, in the way its kind of template can give it.

use windlass_model::ValueFrom;

use super::object::Placed;
use super::report::Report;
use super::spec::enumeration;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let (template, at) = (placed.template, placed.pointer.as_str());
    for (i, input) in template.inputs.parameters.iter().enumerate() {
        enumeration(input, &format!("{at}/inputs/parameters/{i}"), report);
    }
    for (i, output) in template.outputs.parameters.iter().enumerate() {
        let place = format!("{at}/outputs/parameters/{i}");
        match &output.value_from {
            None if output.value.is_none() => {
                report.error(
                    "argo::output-without-origin",
                    &place,
                    format!("the output `{}` has no `valueFrom`", output.name),
                );
            }
            Some(from) => origin(placed, from, &format!("{place}/valueFrom"), report),
            None => {}
        }
    }
    let group = template.steps.is_some() || template.dag.is_some();
    for (i, output) in template.outputs.artifacts.iter().enumerate() {
        let place = format!("{at}/outputs/artifacts/{i}");
        let runs = template.container.is_some() || template.script.is_some() || template.container_set.is_some();
        if runs && output.path.as_deref().unwrap_or("").is_empty() {
            report.error("argo::missing-path", &place, format!("the artifact `{}` needs a `path`", output.name));
        }
        if group && output.from.is_none() && output.from_expression.is_none() {
            let message = format!("the artifact `{}` needs a `from` or a `fromExpression`", output.name);
            report.error("argo::output-without-origin", &place, message);
        }
    }
    metrics(placed, report);
}

fn origin(placed: &Placed<'_>, from: &ValueFrom, at: &str, report: &mut Report<'_>) {
    let template = placed.template;
    let (wanted, good) =
        if template.container.is_some() || template.script.is_some() || template.container_set.is_some() {
            ("`path`", from.path.is_some())
        } else if template.steps.is_some() || template.dag.is_some() {
            ("`parameter` or `expression`", from.parameter.is_some() || from.expression.is_some())
        } else if template.resource.is_some() {
            ("`jsonPath` or `jqFilter`", from.json_path.is_some() || from.jq_filter.is_some())
        } else if template.suspend.is_some() {
            ("`supplied`", from.supplied.is_some())
        } else {
            return;
        };
    // A value that a ConfigMap or a default gives needs no other origin.
    if !good && from.config_map_key_ref.is_none() && !(from.default.is_some() && from.supplied.is_none() && bare(from))
    {
        report.error("argo::output-without-origin", at, format!("an output of this kind of template needs {wanted}"));
    }
}

/// Nothing but a default.
fn bare(from: &ValueFrom) -> bool {
    from.path.is_none()
        && from.json_path.is_none()
        && from.jq_filter.is_none()
        && from.parameter.is_none()
        && from.expression.is_none()
        && from.event.is_none()
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
        let kinds = ["gauge", "histogram", "counter"].iter().filter(|k| metric.get(**k).is_some()).count();
        if kinds != 1 {
            report.error("argo::bad-metric", &at, "a metric is one of `gauge`, `histogram` and `counter`");
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
