//! Rule: an `http` template says whom it asks, a `data` template where its data is; their conditions can be read. What an
//! expression comes to is known when it runs. Warnings, for Argo finds all of it out when it runs.

use serde_json::Value;
use windlass_lang::expr::Expression;

use super::object::Placed;
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    http(placed, report);
    data(placed, report);
}

fn http(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(http) = &placed.template.http else { return };
    let at = format!("{}/http", placed.pointer);
    if http.url.is_empty() {
        report.warning("argo::missing-url", &at, "this request needs a `url`");
    } else if !http.url.contains("{{") && !["http://", "https://"].iter().any(|s| http.url.starts_with(s)) {
        let message = format!("`{}` is no address: only http:// and https:// can be asked", http.url);
        report.warning("argo::bad-url", &format!("{at}/url"), message);
    }
    for (i, header) in http.headers.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if header.name.is_empty() || !(header.name.contains("{{") || header.name.chars().all(good)) {
            let message = format!("`{}` is no name for a header", header.name);
            report.warning("argo::bad-header", &format!("{at}/headers/{i}"), message);
        }
    }
    if http.body.as_deref().is_some_and(|b| !b.is_empty()) && http.body_from.is_some() {
        report.warning("argo::several-bodies", &format!("{at}/bodyFrom"), "`body` has no effect beside `bodyFrom`");
    }
    expression(http.success_condition.as_deref().unwrap_or(""), &format!("{at}/successCondition"), report);
}

fn data(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(data) = &placed.template.data else { return };
    let at = format!("{}/data", placed.pointer);
    if !data.source.as_ref().and_then(|s| s.get("artifactPaths")).is_some_and(Value::is_object) {
        let message = "a data template needs a source: `source.artifactPaths` is the one there is";
        report.warning("argo::missing-source", &at, message);
    }
    for (i, step) in data.transformation.iter().flatten().enumerate() {
        let text = step.get("expression").and_then(Value::as_str).unwrap_or("");
        expression(text, &format!("{at}/transformation/{i}/expression"), report);
    }
}

fn expression(text: &str, at: &str, report: &mut Report<'_>) {
    if text.is_empty() || text.contains("{{") {
        return;
    }
    if let Err(fault) = Expression::parse(text) {
        report.warning_in("argo::bad-expression", at, fault.range.clone(), fault.message);
    }
}
