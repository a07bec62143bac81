//! Rule (warning): the arguments of a hook name nothing of their own step or task that is not known there. Argo takes them
//! and leaves such a tag as it is written.

use windlass_lang::tags;

use super::object::{Placed, calls};
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        let own = format!("{}.{}.", if call.task.is_some() { "tasks" } else { "steps" }, call.name);
        for (at, hook) in &call.hooks {
            for (i, parameter) in hook.arguments.parameters.iter().enumerate() {
                let Some(value) = &parameter.value else { continue };
                for tag in tags::find(&value.0) {
                    let Some(field) = tag.name().and_then(|name| name.strip_prefix(&own)) else { continue };
                    if field == "status" || field.starts_with("outputs.parameters.") {
                        continue;
                    }
                    let place = format!("{at}/arguments/parameters/{i}/value");
                    let message =
                        format!("a hook of `{}` does not know its `{field}`: the tag stays as it is", call.name);
                    report.warning_in("argo::own-outputs", &place, tag.range.clone(), message);
                    report.help("its `status` and `outputs.parameters.NAME` are known; let the template write what is needed to an output parameter");
                }
            }
        }
    }
}
