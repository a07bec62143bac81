//! Rule: a call gives what the called template takes.

use windlass_lang::tags;
use windlass_model::{Arguments, Template};

use super::object::{Call, Found, Known, Object, Placed, calls};
use super::report::Report;

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        given(&call, report);
        let Found::Template(template) = known.by_call(object, &call) else { continue };
        for (kind, name) in missing(&template, call.arguments, true) {
            let message =
                format!("`{}` takes the {kind} `{name}`, and `{}` does not give it", template.name, call.name);
            let at =
                format!("{}/{}", call.pointer, if call.template_ref.is_some() { "templateRef" } else { "template" });
            report.error("argo::missing-argument", &at, message);
            report.help(format!("add it under `arguments.{kind}s`, or give the input a default"));
        }
        surplus(&call, &template, report);
    }
}

/// Inputs of `template` that have no value of their own and are not among the arguments: kind and name.
pub(super) fn missing<'t>(template: &'t Template, arguments: &Arguments, strict: bool) -> Vec<(&'static str, &'t str)> {
    let mut out = Vec::new();
    for input in template.inputs.parameters.iter().filter(|p| !p.name.is_empty()) {
        let own = input.value.is_some() || input.default.is_some() || input.value_from.is_some();
        let given = arguments.parameters.iter().any(|a| {
            a.name == input.name && (strict || a.value.is_some() || a.value_from.is_some() || a.default.is_some())
        });
        if !own && !given {
            out.push(("parameter", input.name.as_str()));
        }
    }
    for input in template.inputs.artifacts.iter().filter(|a| !a.name.is_empty()) {
        let own = input.optional || has_location(input);
        if !own && arguments.artifact(&input.name).is_none() {
            out.push(("artifact", input.name.as_str()));
        }
    }
    out
}

/// Arguments that hold nothing.
fn given(call: &Call<'_>, report: &mut Report<'_>) {
    for (i, parameter) in call.arguments.parameters.iter().enumerate() {
        if parameter.value.is_none() && parameter.value_from.is_none() && parameter.default.is_none() {
            let at = format!("{}/arguments/parameters/{i}", call.pointer);
            report.error(
                "argo::argument-without-value",
                &at,
                format!("the argument `{}` has no value", parameter.name),
            );
            report.help("give it a `value` or a `valueFrom`");
        }
    }
    for (i, artifact) in call.arguments.artifacts.iter().enumerate() {
        let at = format!("{}/arguments/artifacts/{i}", call.pointer);
        let from = artifact.from.as_deref().filter(|f| !f.is_empty());
        if from.is_none() && artifact.from_expression.is_none() && !has_location(artifact) && !artifact.optional {
            report.error(
                "argo::argument-without-value",
                &at,
                format!("the artifact `{}` has no origin", artifact.name),
            );
            report.help("give it a `from`, or a location such as `s3` or `raw`");
        }
        if from.is_some() && artifact.from_expression.is_some() {
            report.error("argo::argument-without-value", &at, "`from` and `fromExpression` exclude each other");
        }
        if let Some(from) = from
            && tags::find(from).is_empty()
        {
            let at = format!("{at}/from");
            report.error("argo::bad-reference", &at, format!("`{from}` must be a tag: `{{{{{from}}}}}`"));
        }
    }
}

/// Arguments that the template does not take: passed over by Argo, and mostly a slip.
fn surplus(call: &Call<'_>, template: &Template, report: &mut Report<'_>) {
    for (i, parameter) in call.arguments.parameters.iter().enumerate() {
        if template.inputs.parameter(&parameter.name).is_none() && !parameter.name.is_empty() {
            let at = format!("{}/arguments/parameters/{i}/name", call.pointer);
            let message = format!("`{}` does not take a parameter `{}`", template.name, parameter.name);
            report.warning("argo::unused-argument", &at, message);
            report.suggest(&parameter.name, template.inputs.parameters.iter().map(|p| p.name.as_str()));
        }
    }
}

fn has_location(artifact: &windlass_model::Artifact) -> bool {
    artifact.local.is_some()
        || artifact.s3.is_some()
        || artifact.git.as_ref().is_some_and(|g| !g.repo.is_empty())
        || artifact.http.as_ref().is_some_and(|h| !h.url.is_empty())
        || artifact.raw.is_some()
        || artifact.gcs.is_some()
        || artifact.azure.is_some()
        || artifact.oss.is_some()
        || artifact.hdfs.is_some()
        || artifact.artifactory.is_some()
        || artifact.plugin.is_some()
}
