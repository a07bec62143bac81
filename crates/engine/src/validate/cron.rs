//! Rule: a CronWorkflow has schedules that can be read.

use serde_json::Value;

use super::object::Object;
use super::report::Report;

pub(super) fn check(object: &Object<'_>, report: &mut Report<'_>) {
    if object.kind != "CronWorkflow" {
        return;
    }
    let Some(spec) = object.document.value.get("spec") else {
        report.error("argo::missing-field", "", "a CronWorkflow needs a `spec`");
        return;
    };
    let one = spec.get("schedule").and_then(Value::as_str).map(|s| ("/spec/schedule".to_owned(), s));
    let many = spec.get("schedules").and_then(Value::as_array).into_iter().flatten().enumerate();
    let many = many.filter_map(|(i, s)| Some((format!("/spec/schedules/{i}"), s.as_str()?)));
    let all: Vec<_> = one.into_iter().chain(many).collect();
    if all.is_empty() {
        report.error_key("argo::missing-schedule", "/spec", "a CronWorkflow needs `schedules`");
    }
    for (at, schedule) in all {
        if let Some(why) = fault(schedule) {
            report.error("argo::bad-schedule", &at, format!("`{schedule}` is no schedule: {why}"));
        }
    }
    const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];
    if let Some(policy) = spec.get("concurrencyPolicy").and_then(Value::as_str)
        && !POLICIES.contains(&policy)
        && !policy.is_empty()
    {
        let message = format!("`{policy}` is no concurrency policy");
        report.error("argo::bad-policy", "/spec/concurrencyPolicy", message);
        if !report.suggest(policy, POLICIES) {
            report.help(format!("policies are {}", POLICIES.join(", ")));
        }
    }
}

/// What is wrong with a schedule of five fields, or a word such as `@hourly`.
fn fault(schedule: &str) -> Option<String> {
    let schedule = match schedule.split_once(char::is_whitespace) {
        Some((zone, rest)) if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => rest.trim(),
        _ => schedule.trim(),
    };
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        let every = word.strip_prefix("every ").is_some_and(|d| d.starts_with(|c: char| c.is_ascii_digit()));
        return (!known.contains(&word) && !every).then(|| "there is no such word".to_owned());
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("it has {} fields and needs 5", fields.len()));
    }
    const RANGES: [(&str, u32, u32); 5] =
        [("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6)];
    fields.iter().zip(RANGES).find_map(|(field, (name, low, high))| {
        let good = field.split(',').all(|part| part_fits(part, name, low, high));
        (!good).then(|| format!("`{field}` is no {name}"))
    })
}

fn part_fits(part: &str, name: &str, low: u32, high: u32) -> bool {
    let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
    if step.is_some_and(|s| !s.parse::<u32>().is_ok_and(|n| n > 0)) {
        return false;
    }
    if range == "*" || range == "?" {
        return true;
    }
    let (from, to) = range.split_once('-').map_or((range, None), |(a, b)| (a, Some(b)));
    let number = |text: &str| {
        match name {
            "month" => word(text, "janfebmaraprmayjunjulaugsepoctnovdec").map(|n| n + 1),
            "day of week" => word(text, "sunmontuewedthufrisat"),
            _ => None,
        }
        .or_else(|| text.parse().ok())
        .filter(|n| (low..=high).contains(n))
    };
    match (number(from), to.map(number)) {
        (Some(_), None) => true,
        (Some(a), Some(Some(b))) => a <= b,
        _ => false,
    }
}

fn word(text: &str, words: &str) -> Option<u32> {
    if text.len() != 3 {
        return None;
    }
    words.find(&text.to_ascii_lowercase()).filter(|i| i % 3 == 0).map(|i| (i / 3) as u32)
}
