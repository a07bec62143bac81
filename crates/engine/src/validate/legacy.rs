//! Rule (warning): fields of Argo 3 that Argo 4 dropped. Windlass reads both; Argo 4 passes the old ones over or refuses them.

use super::object::Object;
use super::report::Report;

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let mut found: Vec<(String, &str)> = Vec::new();
    if object.kind == "CronWorkflow" {
        found.push(("/spec/schedule".to_owned(), "schedules"));
    }
    let base = object.base;
    found.push((format!("{base}/podPriority"), "podPriorityClassName"));
    let owners = object.templates().into_iter().map(|t| t.pointer).chain([base.to_owned()]);
    for owner in owners {
        found.push((format!("{owner}/synchronization/mutex"), "mutexes"));
        found.push((format!("{owner}/synchronization/semaphore"), "semaphores"));
    }
    for (at, newer) in found {
        if object.document.value.pointer(&at).is_none_or(serde_json::Value::is_null) {
            continue;
        }
        let old = at.rsplit('/').next().unwrap_or("").to_owned();
        report.warning_key(
            "argo::legacy-field",
            &at,
            format!("`{old}` is Argo 3's spelling, and Argo 4 does not know it"),
        );
        report.help(match newer {
            "podPriorityClassName" => format!("write `{newer}`"),
            newer => format!("write `{newer}`: `windlass convert` does it"),
        });
    }
}
