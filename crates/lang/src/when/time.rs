//! Quoted text that govaluate takes for a time. Gives seconds since 1970; local time is UTC.

use std::sync::LazyLock;

use regex::{Captures, Regex};

static ISO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(\d{4})-(\d\d)-(\d\d)(?:(?P<sep>[ T])(\d{1,2})(?::(\d\d)(?::(\d\d)(?:[.,]\d+)?)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?$",
    )
});
/// ANSI C, Unix `date` and Ruby.
static LONG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?i:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>(?i:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)) {1,2}(\d{1,2}) (\d{1,2}):(\d\d):(\d\d)(?:\.\d+)?(?P<zone> [A-Z]{3,4}| [+-]\d{4})? (\d{4})$",
    )
});
static KITCHEN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d{1,2}):(\d\d)(AM|PM)$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("invariant: a constant pattern")
}

/// The time a text says, in seconds since 1970.
pub(super) fn parse(text: &str) -> Option<f64> {
    if let Some(found) = ISO.captures(text) {
        return iso(&found);
    }
    if let Some(found) = LONG.captures(text) {
        let month = "janfebmaraprmayjunjulaugsepoctnovdec".find(&found["month"].to_ascii_lowercase())? / 3 + 1;
        let (day, hour, minute, second) = (int(&found, 2)?, int(&found, 3)?, int(&found, 4)?, int(&found, 5)?);
        let zone = found.name("zone").map_or("", |m| m.as_str().trim_start());
        let shift = if zone.starts_with(['+', '-']) { offset(zone)? } else { 0 };
        return seconds([int(&found, 7)?, month as i64, day, hour, minute, second]).map(|s| s - shift as f64);
    }
    let found = KITCHEN.captures(text)?;
    let hour = int(&found, 1).filter(|h| (1..=12).contains(h))? % 12 + if &found[3] == "PM" { 12 } else { 0 };
    seconds([0, 1, 1, hour, int(&found, 2)?, 0])
}

fn iso(found: &Captures<'_>) -> Option<f64> {
    let part = |i| found.get(i).map_or(Some(0), |m| m.as_str().parse().ok());
    let zone = found.name("zone").map(|m| m.as_str());
    let (has_time, has_minute, has_second) = (found.get(5).is_some(), found.get(6).is_some(), found.get(7).is_some());
    let fits = match (found.name("sep").map(|m| m.as_str()), zone) {
        (None, _) => !has_time,
        // `2006-01-02 15:04`, with seconds, with seconds and `-07:00`.
        (Some(" "), None) => has_minute,
        (Some(" "), Some(zone)) => has_second && zone.contains(':'),
        // RFC 3339 and ISO 8601: always with a zone; the colon in it only with seconds.
        (Some(_), None) => false,
        (Some(_), Some(zone)) => !zone.contains(':') || has_second,
    };
    if !fits {
        return None;
    }
    let shift = match zone {
        Some(zone) if zone != "Z" => offset(zone)?,
        _ => 0,
    };
    let at = [part(1)?, part(2)?, part(3)?, part(5)?, part(6)?, part(7)?];
    seconds(at).map(|s| s - shift as f64)
}

fn int(found: &Captures<'_>, group: usize) -> Option<i64> {
    found.get(group)?.as_str().parse().ok()
}

/// `+02:00` or `+0200` in seconds.
fn offset(zone: &str) -> Option<i64> {
    let digits: String = zone[1..].chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes): (i64, i64) = (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    (hours <= 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Seconds since 1970 of year, month, day, hour, minute, second; nothing for a day that does not exist.
fn seconds([year, month, day, hour, minute, second]: [i64; 6]) -> Option<f64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_max = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_max).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil, with March as the first month.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_and_texts_that_only_look_like_them() {
        for (text, at) in [
            ("1970-01-02", Some(86_400.0)),
            ("2024-02-29", Some(1_709_164_800.0)),
            ("2023-02-29", None),
            ("2024-02-29 10:00", Some(1_709_200_800.0)),
            ("2024-02-29T10:00", None),
            ("2024-02-29T10:00:00Z", Some(1_709_200_800.0)),
            ("2024-02-29T10:00:00+01:00", Some(1_709_197_200.0)),
            ("2024-02-29T10+0100", Some(1_709_197_200.0)),
            ("Mon Jan  2 15:04:05 2006", Some(1_136_214_245.0)),
            ("Mon Jan 02 15:04:05 -0700 2006", Some(1_136_239_445.0)),
            ("3:04PM", Some(-62_167_164_960.0)),
            ("v1.2.3", None),
            ("2024-1-2", None),
        ] {
            assert_eq!(parse(text), at, "{text}");
        }
    }
}
