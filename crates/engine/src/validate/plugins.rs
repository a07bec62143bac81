//! Rule: a `plugin` template names one plugin, and the workflow's own `executorPlugins` are whole. The first is an error, as
//! in Argo; the others are found out there when the first node of a plugin begins.

use super::object::{Object, Placed};
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(plugin) = &placed.template.plugin else { return };
    let count = plugin.as_object().map_or(0, serde_json::Map::len);
    if count != 1 {
        let at = format!("{}/plugin", placed.pointer);
        let message = format!("a plugin template has exactly one key, the plugin's, and this has {count}");
        report.error("argo::bad-plugin", &at, message);
    }
}

pub(super) fn own(object: &Object<'_>, report: &mut Report<'_>) {
    let Some(spec) = &object.spec else { return };
    for (i, plugin) in spec.executor_plugins.iter().enumerate() {
        if let Some(fault) = crate::plugins::fault(plugin) {
            report.warning("argo::bad-plugin", &format!("{}/executorPlugins/{i}", object.base), fault);
        }
    }
}
