//! Rule: a call gives what the called template takes.

use windlass_model::{Arguments, Template};

use super::object::{Call, Found, Known, Object, Placed, calls};
use super::report::Report;
use super::values::{self, has_origin};

pub(super) fn check(object: &Object<'_>, placed: &Placed<'_>, known: &Known<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        values::check(call.arguments, &format!("{}/arguments", call.pointer), false, report);
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
            let from = a.value_from.as_ref();
            // What a submission or an event gives does not come with a call, and what is none has a fault of its own.
            let later =
                from.is_some_and(|f| f.config_map_key_ref.is_none() && (f.supplied.is_some() || f.event.is_some()));
            a.name == input.name && (a.value.is_some() || if strict { !later } else { from.is_some() })
        });
        if !own && !given {
            out.push(("parameter", input.name.as_str()));
        }
    }
    for input in template.inputs.artifacts.iter().filter(|a| !a.name.is_empty()) {
        let own = input.optional || has_origin(input);
        if !own && arguments.artifact(&input.name).is_none() {
            out.push(("artifact", input.name.as_str()));
        }
    }
    out
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
