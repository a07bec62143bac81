//! Rule: a loop has one list, and that list can be one.

use windlass_model::template::Sequence;

use super::object::{Placed, calls};
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        let Some(raw) = raw(placed, &call.pointer) else { continue };
        let given: Vec<&str> = ["withItems", "withParam", "withSequence"]
            .into_iter()
            .filter(|f| {
                raw.get(f).is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|l| !l.is_empty()) && v != "")
            })
            .collect();
        if let [_, second, ..] = given.as_slice() {
            let message = format!("only one of {} can be given", given.join(", "));
            report.error_key("argo::several-loops", &format!("{}/{second}", call.pointer), message);
        }
        let sequence = raw.get("withSequence").filter(|v| !v.is_null());
        let Some(Ok(sequence)) = sequence.map(|v| serde_json::from_value::<Sequence>(v.clone())) else { continue };
        let at = format!("{}/withSequence", call.pointer);
        match (&sequence.count, &sequence.end) {
            (Some(_), Some(_)) => {
                report.error("argo::bad-sequence", &at, "`count` and `end` exclude each other");
            }
            (None, None) => {
                report.warning("argo::bad-sequence", &at, "a sequence needs a `count` or an `end`");
            }
            _ => {}
        }
    }
}

fn raw<'o>(placed: &Placed<'o>, pointer: &str) -> Option<&'o serde_json::Value> {
    placed.raw.pointer(pointer.strip_prefix(placed.pointer.as_str())?)
}
