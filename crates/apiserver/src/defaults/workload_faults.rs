//! The faults of Deployments and ReplicaSets, with kube-apiserver's words. Pure.

use super::{given, pod_faults, text};
use crate::answer::FieldError;
use crate::names;
use serde_json::{Value, json};

pub(super) fn deployment(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    counts(spec, &["replicas"], out);
    selector_and_template(spec, "deployment", out);
    match text(spec, "/strategy/type") {
        "RollingUpdate" => rolling_update(spec, out),
        "Recreate" => {
            if given(&spec["strategy"], "rollingUpdate").is_some() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                out.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
            }
        }
        other => {
            out.push(FieldError::not_supported("spec.strategy.type", &json!(other), &["Recreate", "RollingUpdate"]));
        }
    }
    counts(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], out);
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    if let (Some(deadline), minimum) = (number("progressDeadlineSeconds"), number("minReadySeconds").unwrap_or(0))
        && deadline <= minimum
    {
        let why = "must be greater than minReadySeconds";
        out.push(FieldError::invalid("spec.progressDeadlineSeconds", &json!(deadline), why));
    }
}

pub(super) fn replica_set(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    counts(spec, &["replicas", "minReadySeconds"], out);
    selector_and_template(spec, "replica set", out);
}

fn counts(spec: &Value, fields: &[&str], out: &mut Vec<FieldError>) {
    for field in fields {
        if let Some(n) = spec.get(field).and_then(Value::as_i64).filter(|n| *n < 0) {
            out.push(FieldError::invalid(format!("spec.{field}"), &json!(n), "must be greater than or equal to 0"));
        }
    }
}

/// A Go map of strings, as error texts print it.
fn go_map(map: Option<&Value>) -> String {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = entries.map(|(k, v)| format!("{k:?}:{v}")).collect();
    format!("map[string]string{{{}}}", pairs.join(", "))
}

fn selector_and_template(spec: &Value, kind: &str, out: &mut Vec<FieldError>) {
    let invalid =
        |field: &str, message: String| FieldError { reason: "FieldValueInvalid", field: field.to_owned(), message };
    let selector = given(spec, "selector");
    let labels = selector.and_then(|s| s.get("matchLabels")).and_then(Value::as_object);
    let expressions = super::list(spec, "/selector/matchExpressions");
    match selector {
        None => out.push(FieldError::required("spec.selector", "")),
        Some(_) if labels.is_none_or(serde_json::Map::is_empty) && expressions.is_empty() => {
            let shown = "v1.LabelSelector{MatchLabels:map[string]string{}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}";
            out.push(invalid("spec.selector", format!("Invalid value: {shown}: empty selector is invalid for {kind}")));
        }
        Some(_) => {
            for (key, value) in labels.into_iter().flatten() {
                if let Some(why) = names::qualified_name(key) {
                    out.push(FieldError::invalid("spec.selector.matchLabels", &json!(key), &why));
                }
                if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
                    out.push(FieldError::invalid("spec.selector.matchLabels", value, &why));
                }
            }
            let template = spec.pointer("/template/metadata/labels");
            let label = |key: &str| template.and_then(|t| t.get(key)).and_then(Value::as_str);
            let matches = labels.into_iter().flatten().all(|(k, v)| label(k) == v.as_str())
                && expressions.iter().all(|e| expression_holds(e, label(text(e, "/key"))));
            if !matches {
                let shown = go_map(template);
                let why = format!("Invalid value: {shown}: `selector` does not match template `labels`");
                out.push(invalid("spec.template.metadata.labels", why));
            }
        }
    }
    let empty = json!({});
    let template = spec.get("template").unwrap_or(&empty);
    let metadata = template.get("metadata").unwrap_or(&empty);
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            out.push(FieldError::invalid("spec.template.labels", &json!(key), &why));
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid("spec.template.labels", value, &why));
        }
    }
    let pod = template.get("spec").unwrap_or(&empty);
    pod_faults::faults(pod, "spec.template.spec", out);
    if matches!(text(pod, "/restartPolicy"), "Never" | "OnFailure") {
        let policy = json!(text(pod, "/restartPolicy"));
        out.push(FieldError::not_supported("spec.template.spec.restartPolicy", &policy, &["Always"]));
    }
    if given(pod, "activeDeadlineSeconds").is_some() {
        let field = "spec.template.spec.activeDeadlineSeconds";
        out.push(FieldError::forbidden(
            field,
            &format!("activeDeadlineSeconds in {} is not Supported", kind_name(kind)),
        ));
    }
}

fn kind_name(kind: &str) -> &'static str {
    if kind == "deployment" { "Deployment" } else { "ReplicaSet" }
}

fn expression_holds(expression: &Value, value: Option<&str>) -> bool {
    let among = super::list(expression, "/values").iter().any(|v| value.is_some() && v.as_str() == value);
    match text(expression, "/operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn rolling_update(spec: &Value, out: &mut Vec<FieldError>) {
    let rolling = &spec["strategy"]["rollingUpdate"];
    let mut zero = 0;
    for field in ["maxUnavailable", "maxSurge"] {
        let at = format!("spec.strategy.rollingUpdate.{field}");
        match &rolling[field] {
            Value::Number(n) => match n.as_i64().unwrap_or_default() {
                n if n < 0 => out.push(FieldError::invalid(at, &json!(n), "must be greater than or equal to 0")),
                0 => zero += 1,
                _ => {}
            },
            Value::String(s) => match s.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()) {
                None => out.push(FieldError::invalid(
                    at,
                    &json!(s),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                )),
                Some(0) => zero += 1,
                Some(n) if n > 100 && field == "maxUnavailable" => {
                    out.push(FieldError::invalid(at, &json!(s), "must not be greater than 100%"));
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    if zero == 2 {
        let why = "may not be 0 when `maxSurge` is 0";
        let shown = &rolling["maxUnavailable"];
        let message = format!("Invalid value: {shown}: {why}");
        out.push(FieldError {
            reason: "FieldValueInvalid",
            field: "spec.strategy.rollingUpdate.maxUnavailable".to_owned(),
            message,
        });
    }
}
