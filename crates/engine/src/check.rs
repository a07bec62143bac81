//! What must hold of a spec before it runs, in Argo's words. `lint` knows far more; this is what a run cannot do
//! without.

use std::collections::BTreeSet;
use std::sync::Arc;

use windlass_model::template::StepGroup;
use windlass_model::workflow::WorkflowSpec;
use windlass_model::{Arguments, Template};

use crate::nodes::Target;
use crate::templates::{Missing, Templates, target};

/// The first thing that is wrong.
pub(crate) fn check(spec: &WorkflowSpec, templates: &Templates) -> Result<(), String> {
    let Some(entry) = spec.entrypoint.as_deref().filter(|e| !e.is_empty()) else {
        return Err("spec.entrypoint is required".to_owned());
    };
    let mut seen = BTreeSet::new();
    let scope = templates.local_scope();
    let given =
        Arguments { parameters: spec.arguments.parameters.clone(), artifacts: spec.arguments.artifacts.clone() };
    call("spec.entrypoint", &Target::Name(entry.to_owned()), Some(&given), &scope, templates, &mut seen)?;
    if let Some(exit) = spec.on_exit.as_deref().filter(|e| !e.is_empty()) {
        call("spec.onExit", &Target::Name(exit.to_owned()), None, &scope, templates, &mut seen)?;
    }
    Ok(())
}

fn call(
    path: &str,
    what: &Target,
    given: Option<&Arguments>,
    scope: &Arc<str>,
    templates: &Templates,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    let tagged = match what {
        Target::Name(name) => name.contains("{{"),
        Target::Ref(r) => r.name.contains("{{") || r.template.contains("{{"),
        Target::Inline(_) => false,
    };
    if tagged {
        return Ok(());
    }
    let found = match templates.find(what, scope) {
        Ok(found) => found,
        Err(Missing::Resource { .. }) => return Ok(()),
        Err(Missing::Never(_)) => {
            return Err(match what {
                Target::Ref(r) => format!("{path} template reference {}.{} not found", r.name, r.template),
                Target::Name(name) => format!("{path} template name '{name}' undefined"),
                Target::Inline(_) => format!("{path} has no template"),
            });
        }
    };
    let template = &found.template;
    if let Some(given) = given {
        for parameter in &template.inputs.parameters {
            let own = parameter.value.is_some() || parameter.default.is_some() || parameter.value_from.is_some();
            if !own && given.parameter(&parameter.name).is_none() {
                let (path, name) = (path, &parameter.name);
                return Err(match path {
                    "spec.entrypoint" => {
                        format!("templates.{} inputs.parameters.{name} was not supplied", template.name)
                    }
                    _ => format!("{path} templates.{} inputs.parameters.{name} was not supplied", template.name),
                });
            }
        }
    }
    let key = format!("{}/{}", found.scope, template.name);
    if !template.name.is_empty() && !seen.insert(key) {
        return Ok(());
    }
    inner(template, &found.scope, templates, seen)
}

fn inner(
    template: &Template,
    scope: &Arc<str>,
    templates: &Templates,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    let name = &template.name;
    for (i, StepGroup(group)) in template.steps.iter().flatten().enumerate() {
        for step in group {
            let what = target(&step.template, &step.template_ref, step.inline.as_deref());
            let path = format!("templates.{name}.steps[{i}].{}", step.name);
            call(&path, &what, Some(&step.arguments), scope, templates, seen)?;
        }
    }
    for task in template.dag.iter().flat_map(|d| &d.tasks) {
        let what = target(&task.template, &task.template_ref, task.inline.as_deref());
        let path = format!("templates.{name}.tasks.{}", task.name);
        call(&path, &what, Some(&task.arguments), scope, templates, seen)?;
    }
    Ok(())
}
