//! Rule: a step, task or hook names exactly one template, and that template is there.

use windlass_lang::Severity;

use super::object::{Call, Found, Known, Object, Placed, calls};
use super::report::Report;
use super::spec::{listed, unknown_template};

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        one(&call, report);
        if let Some(name) = call.template.filter(|_| call.template_ref.is_none() && call.inline.is_none()) {
            unknown_template(object, known, name, &format!("{}/template", call.pointer), Severity::Error, report);
        }
        if let Some(reference) = call.template_ref {
            by_ref(object, known, reference, &format!("{}/templateRef", call.pointer), report);
        }
        if let Some(name) = call.on_exit.filter(|n| !n.is_empty()) {
            unknown_template(object, known, name, &format!("{}/onExit", call.pointer), Severity::Warning, report);
        }
        for (at, hook) in &call.hooks {
            if let Some(name) = hook.template.as_deref().filter(|n| !n.is_empty()) {
                unknown_template(object, known, name, &format!("{at}/template"), Severity::Warning, report);
            }
            if let Some(reference) = &hook.template_ref {
                by_ref(object, known, reference, &format!("{at}/templateRef"), report);
            }
            if !at.ends_with("/exit") && hook.expression.as_deref().unwrap_or("").is_empty() {
                // Argo looks at those of steps only.
                let severity = if call.task.is_some() { Severity::Warning } else { Severity::Error };
                report.add(severity, "argo::missing-expression", at, "this hook needs an `expression`");
            }
        }
    }
}

fn one(call: &Call<'_>, report: &mut Report<'_>) {
    let given = [call.template.is_some(), call.template_ref.is_some(), call.inline.is_some()];
    match given.iter().filter(|g| **g).count() {
        1 => {}
        0 => {
            let message = format!("`{}` needs a `template`, a `templateRef` or an `inline` template", call.name);
            report.error("argo::missing-template", &call.pointer, message);
        }
        _ => {
            let message = format!("`{}` may have only one of `template`, `templateRef` and `inline`", call.name);
            // An inline template goes before the others.
            let severity = if call.inline.is_some() { Severity::Warning } else { Severity::Error };
            report.add(severity, "argo::several-templates", &call.pointer, message);
        }
    }
}

fn by_ref(
    object: &Object<'_>,
    known: &Known<'_>,
    reference: &windlass_model::template::TemplateRef,
    at: &str,
    report: &mut Report<'_>,
) {
    for (field, value) in [("name", &reference.name), ("template", &reference.template)] {
        if value.is_empty() {
            report.error("argo::missing-name", at, format!("a `templateRef` needs a `{field}`"));
            return;
        }
    }
    let kind = if reference.cluster_scope { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
    match known.by_ref(object, reference) {
        Found::NoResource => {
            let message = format!("there is no {kind} `{}`", reference.name);
            report.error("argo::unknown-template", &format!("{at}/name"), message);
            if !report.suggest(&reference.name, known.names(reference.cluster_scope))
                && known.names(!reference.cluster_scope).any(|n| n == reference.name)
            {
                report.help(if reference.cluster_scope {
                    "a WorkflowTemplate has this name; leave `clusterScope` out"
                } else {
                    "a ClusterWorkflowTemplate has this name; add `clusterScope: true`"
                });
            }
        }
        Found::NoTemplate(names) => {
            let message = format!("the {kind} `{}` has no template `{}`", reference.name, reference.template);
            report.error("argo::unknown-template", &format!("{at}/template"), message);
            if !report.suggest(&reference.template, names.iter().map(String::as_str)) {
                report.help(format!("its templates are {}", listed(&names)));
            }
        }
        Found::Template(_) | Found::Later => {}
    }
}
