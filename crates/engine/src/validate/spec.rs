//! Rule: the workflow begins somewhere, ends somewhere, and its arguments have values.

use windlass_lang::Severity;
use windlass_lang::yaml::child;
use windlass_model::{Parameter, Template, WorkflowSpec};

use super::arguments;
use super::object::{Found, Known, Object};
use super::report::Report;
use super::values;

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
    exits(object, spec, known, report);
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
    values::check(&spec.arguments, &format!("{base}/arguments"), true, report);
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
        super::kinds::pod_resources(resources, &format!("{base}/podResources"), report);
    }
    pod_gc(object, report);
    for (i, plugin) in spec.executor_plugins.iter().enumerate() {
        if plugin.pointer("/metadata/name").and_then(|n| n.as_str()).unwrap_or("").is_empty() {
            let at = format!("{base}/executorPlugins/{i}");
            report.error("argo::missing-name", &at, "an executor plugin needs a name in its `metadata`");
        }
    }
}

/// When pods are deleted, and which.
fn pod_gc(object: &Object<'_>, report: &mut Report<'_>) {
    const STRATEGIES: [&str; 4] = ["OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"];
    let at = format!("{}/podGC", object.base);
    let Some(gc) = object.document.value.pointer(&at) else { return };
    let strategy = gc.get("strategy").and_then(|s| s.as_str()).unwrap_or("");
    if !strategy.is_empty() && !STRATEGIES.contains(&strategy) {
        let message = format!("`{strategy}` is no way to delete pods");
        report.error("argo::bad-pod-gc", &format!("{at}/strategy"), message);
        if !report.suggest(strategy, STRATEGIES) {
            report.help(format!("there are {}", STRATEGIES.join(", ")));
        }
    }
    let wanted = gc.pointer("/labelSelector/matchExpressions").and_then(|e| e.as_array());
    for (i, one) in wanted.into_iter().flatten().enumerate() {
        let operator = one.get("operator").and_then(|o| o.as_str()).unwrap_or("");
        let values = one.get("values").and_then(|v| v.as_array()).map_or(0, Vec::len);
        let good = match operator {
            "In" | "NotIn" => values > 0,
            "Exists" | "DoesNotExist" => values == 0,
            _ => false,
        };
        if !good {
            let at = format!("{at}/labelSelector/matchExpressions/{i}");
            let message = "a label is `In` or `NotIn` some values, or it `Exists` or `DoesNotExist`";
            report.error("argo::bad-selector", &at, message);
        }
    }
}

/// Templates named by `onExit` and hooks. Argo asks for a hook's template when the hook runs.
fn exits(object: &Object<'_>, spec: &WorkflowSpec, known: &Known<'_>, report: &mut Report<'_>) {
    let base = object.base;
    if let Some(name) = spec.on_exit.as_ref().filter(|n| !n.is_empty()) {
        let at = format!("{base}/onExit");
        if unknown_template(object, known, name, &at, Severity::Error, report)
            && matches!(object.kind, "Workflow" | "CronWorkflow")
            && let Found::Template(template) = known.by_name(object, name)
        {
            missing(&template, object, spec, known, "the exit handler", &at, report);
        }
    }
    for (key, hook) in &spec.hooks {
        if let Some(name) = hook.template.as_ref().filter(|n| !n.is_empty()) {
            let at = format!("{}/template", child(&format!("{base}/hooks"), key));
            unknown_template(object, known, name, &at, Severity::Warning, report);
        }
    }
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
    if !unknown_template(object, known, name, &at, Severity::Error, report) {
        return;
    }
    // A stored template may get its arguments from the workflow that uses it.
    if matches!(object.kind, "WorkflowTemplate" | "ClusterWorkflowTemplate") {
        return;
    }
    let Found::Template(template) = known.by_name(object, name) else { return };
    missing(&template, object, spec, known, "the entrypoint", &at, report);
}

/// What a template takes and the workflow's arguments do not give.
fn missing(
    template: &Template,
    object: &Object<'_>,
    spec: &WorkflowSpec,
    known: &Known<'_>,
    who: &str,
    at: &str,
    report: &mut Report<'_>,
) {
    let mut given = spec.arguments.clone();
    if let Some(reference) = &spec.workflow_template_ref
        && let Some(stored) = known.spec(reference.cluster_scope, object.namespace(), &reference.name)
    {
        given.parameters.extend(stored.arguments.parameters.iter().cloned());
        given.artifacts.extend(stored.arguments.artifacts.iter().cloned());
    }
    for (kind, name) in arguments::missing(template, &given, false) {
        let message = format!("{who} takes the {kind} `{name}`, and the workflow's arguments do not give it");
        report.error("argo::missing-argument", at, message);
        report.help(format!("add it under `arguments.{kind}s`, or give the input a default"));
    }
}

/// Reports a template's name that leads nowhere. True when it leads somewhere.
pub(super) fn unknown_template(
    object: &Object<'_>,
    known: &Known<'_>,
    name: &str,
    at: &str,
    severity: Severity,
    report: &mut Report<'_>,
) -> bool {
    if name.contains("{{") {
        let message = "which template is called must be known before the run: no tag can stand here";
        report.add(severity, "argo::unknown-template", at, message);
        report.help("call each template where its `when` holds");
        return false;
    }
    let Found::NoTemplate(names) = known.by_name(object, name) else { return true };
    report.add(severity, "argo::unknown-template", at, format!("there is no template `{name}`"));
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

/// An `enum` that is not empty and holds the value. Argo looks at those of arguments, not at those of inputs.
pub(super) fn enumeration(parameter: &Parameter, at: &str, severity: Severity, report: &mut Report<'_>) {
    let Some(values) = &parameter.enum_ else { return };
    if values.is_empty() {
        let message = "an `enum` needs at least one value";
        report.add(severity, "argo::empty-enum", &format!("{at}/enum"), message);
        return;
    }
    for (field, value) in [("value", &parameter.value), ("default", &parameter.default)] {
        if let Some(value) = value.as_ref().filter(|v| !v.as_str().contains("{{") && !values.contains(v)) {
            let at = format!("{at}/{field}");
            let severity = if field == "default" { Severity::Warning } else { severity };
            report.add(severity, "argo::not-in-enum", &at, format!("`{value}` is not one of the values in `enum`"));
            report.suggest(value.as_str(), values.iter().map(|v| v.as_str()));
        }
    }
}
