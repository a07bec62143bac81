//! Rule: a WorkflowEventBinding's expressions can be read and ask for what an event has, its template is there, and gets
//! what it takes. Warnings, for Argo finds all of it out when an event comes. What an expression comes to is known then.

use windlass_lang::expr::Expression;
use windlass_lang::yaml::child;
use windlass_model::event_binding::{NAMES, WorkflowEventBinding};

use super::object::{Known, Object};
use super::report::Report;

pub(super) fn check(object: &Object<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    if object.kind != "WorkflowEventBinding" {
        return;
    }
    let Ok(binding) = serde_json::from_value::<WorkflowEventBinding>(object.document.value.clone()) else { return };
    if binding.spec.event.selector.is_empty() {
        let message = "a binding needs a selector, `true` for every event of its namespace";
        report.warning_key("argo::missing-selector", "/spec/event", message);
    } else {
        expression(&binding.spec.event.selector, "/spec/event/selector", report);
    }
    let Some(submit) = &binding.spec.submit else { return };
    let at = "/spec/submit";
    if let Some(own) = &submit.metadata {
        for (field, text) in [("name", &own.name), ("generateName", &own.generate_name)] {
            if let Some(text) = text.as_deref().filter(|t| !t.is_empty()) {
                expression(text, &format!("{at}/metadata/{field}"), report);
            }
        }
        for (field, said) in [("labels", &own.labels), ("annotations", &own.annotations)] {
            for (key, text) in said {
                expression(text, &child(&format!("{at}/metadata/{field}"), key), report);
            }
        }
    }
    for (i, parameter) in submit.arguments.parameters.iter().enumerate() {
        let at = format!("{at}/arguments/parameters/{i}");
        match parameter.value_from.as_ref().and_then(|from| from.event.as_deref()).filter(|e| !e.is_empty()) {
            Some(text) => expression(text, &format!("{at}/valueFrom/event"), report),
            None => {
                let message =
                    format!("the argument `{}` needs a `valueFrom.event`: it is the only source", parameter.name);
                report.warning("argo::argument-without-value", &at, message);
            }
        }
    }
    if !submit.arguments.artifacts.is_empty() {
        report.warning("argo::unused-argument", &format!("{at}/arguments/artifacts"), "an event hands on no artifacts");
    }
    template(object, &binding, known, report);
}

fn template(object: &Object<'_>, binding: &WorkflowEventBinding, known: &Known<'_>, report: &mut Report<'_>) {
    let Some(submit) = &binding.spec.submit else { return };
    let reference = &submit.workflow_template_ref;
    let at = "/spec/submit/workflowTemplateRef";
    if reference.name.is_empty() {
        let at = if object.document.value.pointer(at).is_some() { at } else { "/spec/submit" };
        report.warning_key("argo::missing-name", at, "a reference needs the template's `name`");
        return;
    }
    let Some(stored) = known.spec(reference.cluster_scope, object.namespace(), &reference.name) else {
        if known.complete() {
            let kind = if reference.cluster_scope { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
            let message = format!("there is no {kind} `{}`", reference.name);
            report.warning("argo::unknown-template", &format!("{at}/name"), message);
            report.suggest(&reference.name, known.names(reference.cluster_scope));
        }
        return;
    };
    for taken in stored.arguments.parameters.iter().filter(|p| p.value.is_none() && p.value_from.is_none()) {
        if !submit.arguments.parameters.iter().any(|given| given.name == taken.name) {
            let message = format!("`{}` takes the parameter `{}`, and nothing gives it", reference.name, taken.name);
            report.warning("argo::missing-argument", &format!("{at}/name"), message);
            report.help("add it under `arguments.parameters` with a `valueFrom.event`");
        }
    }
}

fn expression(text: &str, at: &str, report: &mut Report<'_>) {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(fault) => {
            report.warning_in("argo::bad-expression", at, fault.range.clone(), fault.message);
            return;
        }
    };
    for name in expression.names() {
        let Some(first) = name.path.first().filter(|first| !NAMES.contains(&first.as_str())) else { continue };
        let message = format!("there is no `{first}` here: an event has {}", NAMES.join(", "));
        report.warning_in("argo::unknown-name", at, name.range.clone(), message);
        report.suggest(first, NAMES);
    }
}
