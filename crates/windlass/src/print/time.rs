//! Times and durations in the words that `argo` uses: `3s`, `5m`, `2h`, `1d`; `10 seconds`.

use jiff::Timestamp;

/// Seconds between two times, never negative.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}

/// `45s`, `3m`, `2h`, `4d`: the largest unit only.
pub(crate) fn short(seconds: i64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// `10 seconds`, `2 minutes 5 seconds`, `1 day 3 hours`: the two largest units.
pub(crate) fn words(seconds: i64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (size, name) in units {
        let n = rest / size;
        rest %= size;
        if n > 0 {
            parts.push(format!("{n} {name}{}", if n == 1 { "" } else { "s" }));
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 seconds".to_owned() } else { parts.join(" ") }
}

/// `Sat Nov 21 00:31:45 +0000 (10 seconds ago)`
pub(crate) fn stamp(at: Timestamp, now: Timestamp) -> String {
    let zoned = at.to_zoned(jiff::tz::TimeZone::system());
    format!("{} ({})", zoned.strftime("%a %b %d %H:%M:%S %z"), ago(seconds(at, now)))
}

fn ago(seconds: i64) -> String {
    match seconds {
        0 => "now".to_owned(),
        s => format!("{} ago", words(s).split(' ').take(2).collect::<Vec<_>>().join(" ")),
    }
}

/// A user's `90s`, `5m`, `3h`, `7d` in seconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let size = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_durations() {
        assert_eq!(words(0), "0 seconds");
        assert_eq!(words(61), "1 minute 1 second");
        assert_eq!(words(90_061), "1 day 1 hour");
        assert_eq!(short(59), "59s");
        assert_eq!(short(7200), "2h");
        assert_eq!(parse("7d"), Some(604_800));
        assert_eq!(parse("7"), None);
        assert_eq!(parse("x7d"), None);
    }
}
