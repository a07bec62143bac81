//! Cron workflows as `argo cron get` and `argo cron list` print them.

use jiff::Timestamp;
use windlass_model::cron::CronWorkflow;
use windlass_schedule::cron::{next, schedules};

use super::columns;
use super::time::{seconds, short, stamp, words};

fn line(out: &mut String, label: &str, value: &str) {
    out.push_str(format!("{label:<30} {value}").trim_end());
    out.push('\n');
}

/// One cron workflow.
pub(crate) fn draw(cron: &CronWorkflow, now: Timestamp) -> String {
    let mut out = String::new();
    let (meta, spec) = (&cron.metadata, &cron.spec);
    let status = cron.status.clone().unwrap_or_default();
    line(&mut out, "Name:", meta.name.as_deref().unwrap_or_default());
    line(&mut out, "Namespace:", meta.namespace.as_deref().unwrap_or_default());
    if let Some(at) = &meta.creation_timestamp {
        line(&mut out, "Created:", &stamp(at.0, now));
    }
    line(&mut out, "Schedules:", &schedules(spec).join(","));
    line(&mut out, "Suspended:", &spec.suspend.to_string());
    if let Some(zone) = spec.timezone.as_deref().filter(|z| !z.is_empty()) {
        line(&mut out, "Timezone:", zone);
    }
    if let Some(deadline) = spec.starting_deadline_seconds {
        line(&mut out, "StartingDeadlineSeconds:", &deadline.to_string());
    }
    if let Some(policy) = spec.concurrency_policy.as_deref().filter(|p| !p.is_empty()) {
        line(&mut out, "ConcurrencyPolicy:", policy);
    }
    if let Some(at) = &status.last_scheduled_time {
        line(&mut out, "LastScheduledTime:", &stamp(at.0, now));
    }
    if let Ok(Some(at)) = next(spec, now) {
        let zoned = at.to_zoned(jiff::tz::TimeZone::system());
        let away: Vec<String> = words(seconds(now, at)).split(' ').take(2).map(str::to_owned).collect();
        let text = format!("{} ({} from now)", zoned.strftime("%a %b %d %H:%M:%S %z"), away.join(" "));
        line(&mut out, "NextScheduledTime:", &text);
    }
    let active: Vec<&str> = status.active.iter().filter_map(|a| a["name"].as_str()).collect();
    if !active.is_empty() {
        line(&mut out, "Active Workflows:", &active.join(", "));
    }
    if !status.conditions.is_empty() {
        line(&mut out, "Conditions:", "");
        for condition in &status.conditions {
            let mark = if condition.type_ == "SubmissionError" { "✖ " } else { " " };
            let text = condition.message.as_deref().unwrap_or(&condition.status);
            line(&mut out, &format!("{mark}{}", condition.type_), text);
        }
    }
    let parameters = spec.workflow_spec.arguments.parameters.iter();
    let parameters: Vec<_> = parameters.filter_map(|p| Some((&p.name, p.value.as_ref()?))).collect();
    if !parameters.is_empty() {
        line(&mut out, "Workflow Parameters:", "");
        for (name, value) in parameters {
            line(&mut out, &format!("  {name}:"), value.as_str());
        }
    }
    out
}

/// A table of cron workflows.
pub(crate) fn table(all: &[CronWorkflow], namespaces: bool, now: Timestamp) -> String {
    let mut head: Vec<&str> = if namespaces { vec!["NAMESPACE"] } else { vec![] };
    head.extend(["NAME", "AGE", "LAST RUN", "NEXT RUN", "SCHEDULES", "TIMEZONE", "SUSPENDED"]);
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    for cron in all {
        let spec = &cron.spec;
        let mut row: Vec<String> = Vec::new();
        if namespaces {
            row.push(cron.metadata.namespace.clone().unwrap_or_default());
        }
        let ago = |at: Option<Timestamp>| at.map_or_else(|| "N/A".to_owned(), |at| short(seconds(at, now)));
        let last = cron.status.as_ref().and_then(|s| s.last_scheduled_time.as_ref());
        let next = next(spec, now).ok().flatten();
        row.push(cron.metadata.name.clone().unwrap_or_default());
        row.push(ago(cron.metadata.creation_timestamp.as_ref().map(|t| t.0)));
        row.push(ago(last.map(|t| t.0)));
        row.push(next.map_or_else(|| "N/A".to_owned(), |at| short(seconds(now, at))));
        row.push(schedules(spec).join(","));
        row.push(spec.timezone.clone().unwrap_or_default());
        row.push(spec.suspend.to_string());
        rows.push(row);
    }
    columns(&rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cron() -> CronWorkflow {
        serde_json::from_value(json!({
            "metadata": {"name": "nightly", "namespace": "ci", "creationTimestamp": "2026-11-20T12:00:00Z"},
            "spec": {
                "schedules": ["0 3 * * *"], "timezone": "Europe/Amsterdam", "concurrencyPolicy": "Forbid",
                "workflowSpec": {"arguments": {"parameters": [{"name": "a", "value": "b"}, {"name": "none"}]}},
            },
            "status": {
                "lastScheduledTime": "2026-11-21T02:00:00Z", "active": [{"name": "nightly-1"}],
                "conditions": [{"type": "SubmissionError", "status": "True", "message": "no"}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn as_argo_prints_them() {
        let now = "2026-11-21T05:00:00Z".parse().unwrap();
        let text = draw(&cron(), now);
        for wanted in [
            "Name:                          nightly\n",
            "Schedules:                     0 3 * * *\n",
            "Suspended:                     false\n",
            "ConcurrencyPolicy:             Forbid\n",
            "(21 hours from now)\n",
            "Active Workflows:              nightly-1\n",
            "✖ SubmissionError              no\n",
            "  a:                           b\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(!text.contains("none"), "{text}");
        let rows = table(&[cron()], true, now);
        let cells: Vec<Vec<&str>> =
            rows.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(
            cells[0],
            ["NAMESPACE", "NAME", "AGE", "LAST RUN", "NEXT RUN", "SCHEDULES", "TIMEZONE", "SUSPENDED"]
        );
        assert_eq!(cells[1], ["ci", "nightly", "17h", "3h", "21h", "0 3 * * *", "Europe/Amsterdam", "false"]);
    }
}
