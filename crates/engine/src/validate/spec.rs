//! Rule: the workflow begins somewhere, ends somewhere, and its arguments have values.

use windlass_lang::yaml::child;
use windlass_model::{Parameter, WorkflowSpec};

use super::arguments;
use super::object::{Found, Known, Object};
use super::report::Report;

pub(super) fn check(object: &Object<'_>, spec: &WorkflowSpec, known: &Known<'_>, report: &mut Report<'_>) {
    let base = object.base;
    if let Some(reference) = &spec.workflow_template_ref {
        reference_check(object, spec, known, report);
        if reference.name.is_empty() {
            let at = format!("{base}/workflowTemplateRef");
            report.error("argo::missing-name", &at, "a reference needs the template's `name`");
        }
    }
    entrypoint(object, spec, known, report);
    for (at, name) in exits(object, spec) {
        unknown_template(object, known, &name, &at, report);
    }
    for (key, hook) in &spec.hooks {
        let at = child(&format!("{base}/hooks"), key);
        if key != "exit" && hook.expression.as_deref().unwrap_or("").is_empty() {
            report.error("argo::missing-expression", &at, format!("the hook `{key}` needs an `expression`"));
        }
        if let Some(reference) = &hook.template_ref
            && let Found::NoResource | Found::NoTemplate(_) = known.by_ref(object, reference)
        {
            let at = format!("{at}/templateRef");
            report.error("argo::unknown-template", &at, "there is no such template");
        }
    }
    for (i, parameter) in spec.arguments.parameters.iter().enumerate() {
        enumeration(parameter, &format!("{base}/arguments/parameters/{i}"), report);
    }
    // The API takes one of them; Argo logs its refusal and runs without a budget.
    if let Some(budget) = &spec.pod_disruption_budget
        && !budget["minAvailable"].is_null()
        && !budget["maxUnavailable"].is_null()
    {
        let at = format!("{base}/podDisruptionBudget");
        report.warning(
            "argo::bad-budget",
            &format!("{at}/maxUnavailable"),
            "`minAvailable` and `maxUnavailable` exclude each other: no budget will be made",
        );
        report.also(&format!("{at}/minAvailable"), "the other one");
    }
    if let Some(resources) = spec.pod_resources.as_ref() {
        for field in ["limits", "requests"] {
            for name in resources.get(field).and_then(|r| r.as_object()).into_iter().flat_map(|m| m.keys()) {
                if name != "cpu" && name != "memory" && !name.starts_with("hugepages-") {
                    let at = child(&format!("{base}/podResources/{field}"), name);
                    let message = format!("`{name}` is no resource of a whole pod: cpu, memory and hugepages-* are");
                    report.error("argo::bad-pod-resource", &at, message);
                }
            }
        }
    }
}

/// Templates named by `onExit` and hooks, with their places.
fn exits(object: &Object<'_>, spec: &WorkflowSpec) -> Vec<(String, String)> {
    let base = object.base;
    let mut out = Vec::new();
    if let Some(name) = spec.on_exit.as_ref().filter(|n| !n.is_empty()) {
        out.push((format!("{base}/onExit"), name.clone()));
    }
    for (key, hook) in &spec.hooks {
        if let Some(name) = hook.template.as_ref().filter(|n| !n.is_empty()) {
            out.push((format!("{}/template", child(&format!("{base}/hooks"), key)), name.clone()));
        }
    }
    out
}

fn reference_check(object: &Object<'_>, spec: &WorkflowSpec, known: &Known<'_>, report: &mut Report<'_>) {
    let base = object.base;
    let Some(reference) = &spec.workflow_template_ref else { return };
    if !spec.templates.is_empty() {
        let at = format!("{base}/templates");
        report.error_key(
            "argo::templates-with-reference",
            &at,
            "`templates` cannot stand beside `workflowTemplateRef`",
        );
        report.also(&format!("{base}/workflowTemplateRef"), "the templates come from here");
    }
    let stored = known.spec(reference.cluster_scope, object.namespace(), &reference.name);
    if stored.is_none() && known.complete() && !reference.name.is_empty() && !reference.name.contains("{{") {
        let kind = if reference.cluster_scope { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
        let at = format!("{base}/workflowTemplateRef/name");
        report.error("argo::unknown-template", &at, format!("there is no {kind} `{}`", reference.name));
        report.suggest(&reference.name, known.names(reference.cluster_scope));
    }
}

fn entrypoint(object: &Object<'_>, spec: &WorkflowSpec, known: &Known<'_>, report: &mut Report<'_>) {
    let base = object.base;
    let given = spec.entrypoint.as_deref().filter(|e| !e.is_empty());
    let Some(name) = given else {
        if spec.workflow_template_ref.is_none() && matches!(object.kind, "Workflow" | "CronWorkflow") {
            report.error_key("argo::missing-entrypoint", base, "the workflow needs an `entrypoint`");
            if let [only] = spec.templates.as_slice() {
                let help = format!("add `entrypoint: {}`", only.name);
                report.help(help);
            }
        }
        return;
    };
    let at = format!("{base}/entrypoint");
    if !unknown_template(object, known, name, &at, report) {
        return;
    }
    // A stored template may get its arguments from the workflow that uses it.
    if matches!(object.kind, "WorkflowTemplate" | "ClusterWorkflowTemplate") {
        return;
    }
    let Found::Template(template) = known.by_name(object, name) else { return };
    let mut given = spec.arguments.clone();
    if let Some(reference) = &spec.workflow_template_ref
        && let Some(stored) = known.spec(reference.cluster_scope, object.namespace(), &reference.name)
    {
        given.parameters.extend(stored.arguments.parameters.iter().cloned());
        given.artifacts.extend(stored.arguments.artifacts.iter().cloned());
    }
    let missing = arguments::missing(&template, &given, false);
    for (kind, name) in missing {
        let message = format!("the entrypoint takes the {kind} `{name}`, and the workflow's arguments do not give it");
        report.error("argo::missing-argument", &at, message);
        report.help(format!("add it under `arguments.{kind}s`, or give the input a default"));
    }
}

/// Reports a template's name that leads nowhere. True when it leads somewhere.
pub(super) fn unknown_template(
    object: &Object<'_>,
    known: &Known<'_>,
    name: &str,
    at: &str,
    report: &mut Report<'_>,
) -> bool {
    let Found::NoTemplate(names) = known.by_name(object, name) else { return true };
    report.error("argo::unknown-template", at, format!("there is no template `{name}`"));
    if !report.suggest(name, names.iter().map(String::as_str)) && !names.is_empty() {
        report.help(format!("templates here are {}", listed(&names)));
    }
    false
}

/// `a`, `b` and 3 more
pub(super) fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(6).map(|n| format!("`{n}`")).collect();
    match names.len().saturating_sub(6) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// An `enum` that is not empty and holds the value.
pub(super) fn enumeration(parameter: &Parameter, at: &str, report: &mut Report<'_>) {
    let Some(values) = &parameter.enum_ else { return };
    if values.is_empty() {
        report.error("argo::empty-enum", &format!("{at}/enum"), "an `enum` needs at least one value");
        return;
    }
    for (field, value) in [("value", &parameter.value), ("default", &parameter.default)] {
        if let Some(value) = value.as_ref().filter(|v| !v.as_str().contains("{{") && !values.contains(v)) {
            let at = format!("{at}/{field}");
            report.error("argo::not-in-enum", &at, format!("`{value}` is not one of the values in `enum`"));
            report.suggest(value.as_str(), values.iter().map(|v| v.as_str()));
        }
    }
}
