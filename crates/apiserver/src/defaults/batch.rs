//! Jobs and CronJobs: what they get without being told, their faults with kube-apiserver's words, and the selector that a
//! Job is given. Pure. What the loops do not do (policies by index, by exit code) is refused here by name.

use super::{child, given, pod_faults, pod_spec, set, text};
use crate::answer::FieldError;
use serde_json::{Map, Value, json};

/// Fills in a Job's defaults.
pub(super) fn fill_job(map: &mut Map<String, Value>) {
    let spec = child(map, "spec");
    if is_absent(spec, "completions") && is_absent(spec, "parallelism") {
        spec.insert("completions".to_owned(), json!(1));
    }
    set(spec, "parallelism", json!(1));
    set(spec, "backoffLimit", json!(6));
    set(spec, "completionMode", json!("NonIndexed"));
    set(spec, "suspend", json!(false));
    set(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    set(spec, "manualSelector", json!(false));
    pod_spec::fill_template(child(spec, "template"));
    let labels = spec["template"]["metadata"]["labels"].clone();
    let own = child(map, "metadata");
    let none = own.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty);
    if none && labels.as_object().is_some_and(|l| !l.is_empty()) {
        own.insert("labels".to_owned(), labels);
    }
    child(map, "status");
}

/// Fills in a CronJob's defaults.
pub(super) fn fill_cron_job(map: &mut Map<String, Value>) {
    let spec = child(map, "spec");
    set(spec, "concurrencyPolicy", json!("Allow"));
    set(spec, "suspend", json!(false));
    set(spec, "successfulJobsHistoryLimit", json!(3));
    set(spec, "failedJobsHistoryLimit", json!(1));
    let template = child(spec, "jobTemplate");
    child(template, "metadata").entry("creationTimestamp").or_insert(Value::Null);
    pod_spec::fill_template(child(child(template, "spec"), "template"));
    child(map, "status");
}

fn is_absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}

/// Gives a new Job the labels and the selector by which it knows its pods.
pub(crate) fn select(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (name, uid) = (job["metadata"]["name"].clone(), job["metadata"]["uid"].clone());
    if !job["spec"].is_object() {
        return;
    }
    for (path, pairs) in [
        (
            "labels",
            &[
                ("batch.kubernetes.io/controller-uid", &uid),
                ("batch.kubernetes.io/job-name", &name),
                ("controller-uid", &uid),
                ("job-name", &name),
            ][..],
        ),
        ("matchLabels", &[("batch.kubernetes.io/controller-uid", &uid)][..]),
    ] {
        let place = if path == "labels" {
            &mut job["spec"]["template"]["metadata"][path]
        } else {
            &mut job["spec"]["selector"][path]
        };
        if !place.is_object() {
            *place = json!({});
        }
        for (key, value) in pairs {
            if place.get(*key).is_none() {
                place[*key] = (*value).clone();
            }
        }
    }
    let own = &mut job["metadata"]["labels"];
    if own.as_object().is_none_or(Map::is_empty) {
        job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    }
}

/// A Job's faults.
pub(super) fn job(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    job_spec(spec, "spec", out);
    if given(spec, "selector").is_none() {
        out.push(FieldError::required("spec.selector", ""));
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let wanted = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
    if !wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        let why = "`selector` does not match template `labels`";
        out.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
    }
}

/// A CronJob's faults.
pub(super) fn cron_job(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    match text(spec, "/schedule") {
        "" => out.push(FieldError::required("spec.schedule", "")),
        schedule if schedule.contains("TZ") => {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            out.push(FieldError::invalid("spec.schedule", &json!(schedule), why));
        }
        schedule => {
            let fields: Vec<&str> = schedule.split_whitespace().collect();
            if !schedule.starts_with('@') && fields.len() != 5 {
                let why = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
                out.push(FieldError::invalid("spec.schedule", &json!(schedule), &why));
            }
        }
    }
    counts(spec, "spec", &["startingDeadlineSeconds"], out);
    let policy = text(spec, "/concurrencyPolicy");
    if !matches!(policy, "Allow" | "Forbid" | "Replace") {
        let supported = ["Allow", "Forbid", "Replace"];
        out.push(FieldError::not_supported("spec.concurrencyPolicy", &json!(policy), &supported));
    }
    let inner = spec.pointer("/jobTemplate/spec").unwrap_or(&empty);
    if given(inner, "manualSelector").is_some() {
        let field = "spec.jobTemplate.spec.manualSelector";
        out.push(FieldError::not_supported(field, &inner["manualSelector"], &["nil", "false"]));
    }
    job_spec(inner, "spec.jobTemplate.spec", out);
    counts(spec, "spec", &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], out);
    let name = text(object, "/metadata/name");
    if name.len() > 52 {
        out.push(FieldError::invalid("metadata.name", &json!(name), "must be no more than 52 characters"));
    }
}

fn counts(spec: &Value, at: &str, fields: &[&str], out: &mut Vec<FieldError>) {
    for field in fields {
        if let Some(n) = spec.get(field).and_then(Value::as_i64).filter(|n| *n < 0) {
            out.push(FieldError::invalid(format!("{at}.{field}"), &json!(n), "must be greater than or equal to 0"));
        }
    }
}

fn job_spec(spec: &Value, at: &str, out: &mut Vec<FieldError>) {
    let fields = ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"];
    counts(spec, at, &fields, out);
    for field in ["podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes", "managedBy"] {
        if given(spec, field).is_some() {
            let why = "this server runs Jobs without it; see docs/kubernetes-api.md";
            out.push(FieldError::forbidden(format!("{at}.{field}"), why));
        }
    }
    match spec.get("completionMode").and_then(Value::as_str) {
        None | Some("NonIndexed") => {}
        Some("Indexed") => {
            if given(spec, "completions").is_none() {
                out.push(FieldError::required(format!("{at}.completions"), "when completion mode is Indexed"));
            }
        }
        Some(other) => {
            let supported = ["NonIndexed", "Indexed"];
            out.push(FieldError::not_supported(format!("{at}.completionMode"), &json!(other), &supported));
        }
    }
    let empty = json!({});
    let pod = spec.pointer("/template/spec").unwrap_or(&empty);
    pod_faults::faults(pod, &format!("{at}.template.spec"), out);
    let field = format!("{at}.template.spec.restartPolicy");
    if matches!(text(pod, "/restartPolicy"), "" | "Always") {
        out.push(FieldError::required(field, "valid values: \"OnFailure\", \"Never\""));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn made(spec: Value) -> (Value, Vec<String>) {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec});
        fill_job(job.as_object_mut().unwrap());
        select(&mut job);
        let mut faults = Vec::new();
        super::job(&job, &mut faults);
        (job, faults.into_iter().map(|f| format!("{}: {}", f.field, f.message)).collect())
    }

    fn template(policy: &str) -> Value {
        let container = json!({"name": "c", "image": "busybox", "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "imagePullPolicy": "Always"});
        json!({"spec": {"restartPolicy": policy, "containers": [container]}})
    }

    #[test]
    fn defaults_and_selector() {
        let (job, faults) = made(json!({"template": template("Never")}));
        assert_eq!(faults, Vec::<String>::new());
        let spec = &job["spec"];
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(1), &json!(1), &json!(6))
        );
        assert_eq!(spec["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": "u"}));
        assert_eq!(spec["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(job["metadata"]["labels"], spec["template"]["metadata"]["labels"]);
        let (job, _) = made(json!({"parallelism": 3, "template": template("Never")}));
        assert!(job["spec"].get("completions").is_none());
    }

    #[test]
    fn faults_have_kubernetes_words() {
        let (_, faults) = made(json!({"parallelism": -1, "template": template("Always")}));
        assert_eq!(
            faults,
            [
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ]
        );
        let (_, faults) = made(
            json!({"completionMode": "Indexed", "successPolicy": {}, "parallelism": 1, "template": template("Never")}),
        );
        assert!(faults[0].starts_with("spec.successPolicy: Forbidden"), "{faults:?}");
        assert!(faults[1].starts_with("spec.completions: Required value"), "{faults:?}");
        let mut cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * *", "jobTemplate": {"spec": {"template": template("OnFailure")}}}});
        fill_cron_job(cron.as_object_mut().unwrap());
        let mut faults = Vec::new();
        cron_job(&cron, &mut faults);
        assert_eq!(faults[0].message, "Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]");
        assert_eq!(faults.len(), 1);
        assert_eq!(cron["spec"]["jobTemplate"]["spec"].get("completions"), None);
    }
}
