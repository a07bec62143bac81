//! Rule: an argument has a value, or an origin that an argument can have; an artifact comes from somewhere.

use serde_json::Value;
use windlass_lang::{Severity, tags};
use windlass_model::{Arguments, Artifact, ValueFrom};

use super::report::Report;
use super::spec::enumeration;

/// Looks at arguments. Those of a workflow may be left to whoever submits it (`open`).
pub(super) fn check(arguments: &Arguments, at: &str, open: bool, report: &mut Report<'_>) {
    for (i, parameter) in arguments.parameters.iter().enumerate() {
        let at = format!("{at}/parameters/{i}");
        if !open && parameter.value.is_none() && parameter.value_from.is_none() {
            let message = format!("the argument `{}` has no value", parameter.name);
            report.error("argo::argument-without-value", &at, message);
            report.help("give it a `value` or a `valueFrom`");
        }
        if let Some(from) = &parameter.value_from
            && !is_for_arguments(from)
        {
            let message = format!("the argument `{}` cannot come from there", parameter.name);
            report.error("argo::argument-without-value", &format!("{at}/valueFrom"), message);
            report.help("an argument has a `value`, or a `valueFrom` with `configMapKeyRef`, `event` or `supplied`");
        }
        enumeration(parameter, &at, Severity::Error, report);
    }
    for (i, artifact) in arguments.artifacts.iter().enumerate() {
        let at = format!("{at}/artifacts/{i}");
        let from = artifact.from.as_deref().filter(|f| !f.is_empty());
        if from.is_none() && !has_origin(artifact) {
            let message = format!("the artifact `{}` has no origin", artifact.name);
            report.error("argo::argument-without-value", &at, message);
            report.help("give it a `from`, or a location such as `s3` or `raw`");
        }
        if from.is_some() && artifact.from_expression.as_deref().is_some_and(|e| !e.is_empty()) {
            report.error("argo::argument-without-value", &at, "`from` and `fromExpression` exclude each other");
        }
        if let Some(from) = from
            && tags::find(from).is_empty()
        {
            let at = format!("{at}/from");
            report.warning("argo::bad-reference", &at, format!("`{from}` must be a tag: `{{{{{from}}}}}`"));
        }
    }
}

/// Somebody gives it from outside, and nothing says that a step makes it.
fn is_for_arguments(from: &ValueFrom) -> bool {
    let said = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    let outside = from.config_map_key_ref.is_some() || from.supplied.is_some() || said(&from.event);
    outside && ![&from.path, &from.json_path, &from.parameter, &from.expression].into_iter().any(said)
}

/// Whether an artifact says where it is, or at least under which key.
pub(super) fn has_origin(artifact: &Artifact) -> bool {
    let location = artifact.location();
    location.has_location() || location.key().is_some_and(|k| !k.is_empty()) || artifact.local.is_some()
}

/// What a location must say: those of git and HDFS are looked at before a run.
pub(super) fn location(raw: &Value, at: &str, report: &mut Report<'_>) {
    let has = |owner: &Value, field: &str| match owner.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    if raw.get("git").is_some_and(|g| g.is_object() && !has(g, "repo")) {
        report.error("argo::bad-location", &format!("{at}/git"), "git needs a `repo`");
    }
    let Some(hdfs) = raw.get("hdfs").filter(|h| h.is_object()) else { return };
    let at = format!("{at}/hdfs");
    let missing = ["addresses", "path"].into_iter().find(|f| !has(hdfs, f));
    let path = hdfs.get("path").and_then(Value::as_str).unwrap_or("");
    if let Some(field) = missing {
        report.error("argo::bad-location", &at, format!("HDFS needs `{field}`"));
    } else if !path.starts_with('/') {
        report.error("argo::bad-location", &format!("{at}/path"), "a path in HDFS begins with `/`");
    }
    let (cache, keytab) = (has(hdfs, "krbCCacheSecret"), has(hdfs, "krbKeytabSecret"));
    if !has(hdfs, "hdfsUser") && !cache && !keytab {
        report.error("argo::bad-location", &at, "HDFS needs `hdfsUser`, `krbCCacheSecret` or `krbKeytabSecret`");
    }
    let kerberos = ["krbServicePrincipalName", "krbConfigConfigMap", "krbUsername", "krbRealm"];
    let needed = if keytab { &kerberos[..] } else { &kerberos[..2] };
    if let Some(field) = needed.iter().find(|f| (cache || keytab) && !has(hdfs, f)) {
        report.error("argo::bad-location", &at, format!("Kerberos needs `{field}`"));
    }
}
