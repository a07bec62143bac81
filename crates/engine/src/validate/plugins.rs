//! Rule: the workflow's own `executorPlugins` are whole, as Argo asks of them; a name that a container of ours has is a warning.

use super::object::Object;
use super::report::Report;

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let Some(spec) = &object.spec else { return };
    for (i, plugin) in spec.executor_plugins.iter().enumerate() {
        let at = format!("{}/executorPlugins/{i}", object.base);
        match crate::plugins::fault(plugin) {
            Some((fault, true)) => {
                report.error("argo::bad-plugin", &at, fault);
            }
            Some((fault, false)) => {
                report.warning("argo::bad-plugin", &at, fault);
            }
            None => {}
        }
    }
}
