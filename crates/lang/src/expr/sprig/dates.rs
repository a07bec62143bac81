//! sprig's functions of dates. What time it is now is given; where it is not, what would ask for it is refused.

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::super::time;
use super::Value;

type Answer = Result<Value, String>;

/// A function by name; nothing when it is none of dates.
pub(super) fn call(name: &str, v: &[Value], now: Option<Zoned>) -> Option<Answer> {
    let utc = TimeZone::UTC;
    Some(match (name, v) {
        ("date", [Value::Text(layout), at]) => written(layout, at, utc, now),
        ("dateInZone" | "date_in_zone", [Value::Text(layout), at, Value::Text(zone)]) => {
            written(layout, at, time::zone(zone).unwrap_or(utc), now)
        }
        ("htmlDate", [at]) => written("2006-01-02", at, utc, now),
        ("htmlDateInZone", [at, Value::Text(zone)]) => written("2006-01-02", at, time::zone(zone).unwrap_or(utc), now),
        ("unixEpoch", [Value::Time(at)]) => Ok(Value::Text(at.timestamp().as_second().to_string())),
        ("mustToDate", [Value::Text(layout), Value::Text(text)]) => {
            time::parse(layout, text, &utc).map(|at| Value::Time(Box::new(at)))
        }
        ("toDate", [Value::Text(layout), Value::Text(text)]) => {
            let zero = || time::parse("2006-01-02", "0001-01-01", &utc);
            time::parse(layout, text, &utc).or_else(|_| zero()).map(|at| Value::Time(Box::new(at)))
        }
        ("dateModify" | "mustDateModify", [Value::Text(by), Value::Time(at)]) => match time::duration(by) {
            Ok(nanos) => time::moved(at, nanos),
            Err(_) if name == "dateModify" => Ok(v[1].clone()),
            Err(why) => Err(why),
        },
        ("duration", [at]) => {
            let seconds = match at {
                Value::Text(text) => text.parse().unwrap_or(0),
                _ => 0i64,
            };
            Ok(Value::Text(time::duration_text(seconds.saturating_mul(1_000_000_000))))
        }
        ("durationRound", [Value::Text(text)]) => Ok(rounded(time::duration(text).unwrap_or(0))),
        ("durationRound", [Value::Duration(nanos)]) => Ok(rounded(*nanos)),
        ("durationRound", [_]) => Ok(Value::from("0s")),
        ("unixEpoch", _) => Err("`sprig.unixEpoch` takes a time".to_owned()),
        ("date" | "dateInZone" | "date_in_zone" | "htmlDate" | "htmlDateInZone", _)
        | ("toDate" | "mustToDate" | "dateModify" | "mustDateModify", _) => {
            Err(format!("`sprig.{name}` cannot take these arguments"))
        }
        ("now", []) if now.is_some() => Ok(now.map_or(Value::Null, |now| Value::Time(Box::new(now)))),
        ("ago", [at]) if now.is_some() => {
            let now = now?;
            let nanos = match time::between(&now, &moment(at, Some(now.clone())).ok()?) {
                Value::Duration(nanos) => nanos,
                _ => 0,
            };
            Ok(Value::Text(time::duration_text(nanos / 1_000_000_000 * 1_000_000_000)))
        }
        ("now" | "ago", _) => {
            Err(format!("`sprig.{name}` is not supported: an expression must come out the same whenever it is asked"))
        }
        _ => return None,
    })
}

fn written(layout: &str, at: &Value, zone: TimeZone, now: Option<Zoned>) -> Answer {
    Ok(Value::Text(time::format(&moment(at, now)?.with_time_zone(zone), layout)))
}

/// A time, or seconds since 1970; sprig takes whatever else it is for now.
fn moment(at: &Value, now: Option<Zoned>) -> Result<Zoned, String> {
    match at {
        Value::Time(at) => Ok((**at).clone()),
        Value::Int(seconds) => time::unix(*seconds),
        other => now.ok_or_else(|| format!("a date must be a time or seconds since 1970, not {}", other.kind())),
    }
}

/// The largest unit only.
fn rounded(nanos: i64) -> Value {
    let n = nanos.unsigned_abs();
    const SECOND: u64 = 1_000_000_000;
    let units = [(365 * 24 * 3600, "y"), (30 * 24 * 3600, "mo"), (24 * 3600, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let found = units.iter().find(|(seconds, _)| n > seconds * SECOND);
    Value::Text(found.map_or("0s".to_owned(), |(seconds, unit)| format!("{}{unit}", n / (seconds * SECOND))))
}
