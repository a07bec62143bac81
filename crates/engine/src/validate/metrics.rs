//! Rule (warning): metrics that could never be told. When the workflow runs they are the condition `MetricsError`, and no
//! failure. Names and values that come from tags are left to the run.

use serde_json::Value;

use super::object::Object;
use super::report::Report;

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let owners = object.templates().into_iter().map(|t| t.pointer).chain([object.base.to_owned()]);
    for owner in owners {
        let at = format!("{owner}/metrics/prometheus");
        let list = object.document.value.pointer(&at).and_then(Value::as_array);
        for (i, metric) in list.into_iter().flatten().enumerate() {
            let at = format!("{at}/{i}");
            let name = metric["name"].as_str().unwrap_or_default();
            if !is_name(name) && !name.contains("{{") {
                let message = format!("`{name}` is no metric's name: letters, digits and `_`, no digit first");
                report.warning("argo::bad-metric", &at, message);
            }
            if metric["help"].as_str().is_none_or(str::is_empty) {
                report.warning("argo::bad-metric", &at, format!("metric `{name}` needs a `help`"));
            }
            let kinds = ["counter", "gauge", "histogram"].iter().filter(|kind| metric[**kind].is_object()).count();
            if kinds != 1 {
                let message = format!("metric `{name}` needs one of `counter`, `gauge` and `histogram`");
                report.warning("argo::bad-metric", &at, message);
            }
            for label in metric["labels"].as_array().into_iter().flatten() {
                let key = label["key"].as_str().unwrap_or_default();
                if !is_name(key) {
                    report.warning("argo::bad-metric", &at, format!("`{key}` is no label's name"));
                }
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
