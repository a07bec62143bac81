//! Rule (warning): locks that can never be had: without a name, without a size, or one twice. Argo finds it when the
//! workflow runs, and then it fails. Names that come from tags are left to the run.

use serde_json::Value;

use super::object::Object;
use super::report::Report;

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    let owners = object.templates().into_iter().map(|t| t.pointer).chain([object.base.to_owned()]);
    for owner in owners {
        let at = format!("{owner}/synchronization");
        let Some(wish) = object.document.value.pointer(&at) else { continue };
        let mut seen: Vec<&Value> = Vec::new();
        for (list, one) in [("mutexes", "mutex"), ("semaphores", "semaphore")] {
            let plural = wish[list].as_array().into_iter().flatten().enumerate();
            let all = plural.map(|(i, lock)| (format!("{at}/{list}/{i}"), lock));
            let all = all.chain(wish.get(one).map(|lock| (format!("{at}/{one}"), lock)));
            for (at, lock) in all.filter(|(_, lock)| lock.is_object()) {
                if seen.contains(&lock) {
                    report.warning("argo::bad-lock", &at, "this lock is asked for twice, and the step would fail");
                }
                seen.push(lock);
                let text = |value: &Value| value.as_str().is_some_and(|t| !t.is_empty());
                if one == "mutex" && !text(&lock["name"]) {
                    report.warning("argo::bad-lock", &at, "a mutex needs a `name`");
                }
                let key = &lock["configMapKeyRef"];
                if one == "semaphore" && lock["database"].is_null() && !(text(&key["name"]) && text(&key["key"])) {
                    report.warning("argo::bad-lock", &at, "a semaphore needs the ConfigMap and the key with its size");
                    report.help("write `configMapKeyRef: {name: …, key: …}`");
                } else if one == "semaphore" && !lock["database"].is_null() && !key.is_null() {
                    report.warning("argo::bad-lock", &at, "a semaphore has its size in a ConfigMap or in a database");
                } else if one == "semaphore" && lock["database"].is_object() && !text(&lock["database"]["key"]) {
                    report.warning(
                        "argo::bad-lock",
                        &format!("{at}/database"),
                        "a semaphore in a database needs the limit's key",
                    );
                    report.help("write `database: {key: …}`, and set its limit with `windlass sync create`");
                }
            }
        }
    }
}
