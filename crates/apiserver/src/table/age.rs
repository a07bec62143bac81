//! How long ago, in the two to six characters that Kubernetes prints. Pure.

use jiff::Timestamp;

/// A duration for people: `5s`, `3m10s`, `47h`, `2y45d`.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{small}") }
    };
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => pair(days, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// How long ago a timestamp was; `<unknown>` if there is none.
#[must_use]
pub fn since(timestamp: Option<&str>, now: Timestamp) -> String {
    let Some(text) = timestamp.filter(|t| !t.is_empty()) else { return "<unknown>".to_owned() };
    match text.parse::<Timestamp>() {
        Ok(at) => human_duration(now.duration_since(at).as_secs()),
        Err(_) => "<invalid>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_kubectl_rounds_them() {
        let (m, h, d, y) = (60, 3600, 86_400, 86_400 * 365);
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3 * m + 10, "3m10s"),
            (10 * m + 10, "10m"),
            (179 * m, "179m"),
            (3 * h, "3h"),
            (7 * h + 59 * m, "7h59m"),
            (8 * h + 59 * m, "8h"),
            (47 * h, "47h"),
            (48 * h, "2d"),
            (7 * d + 5 * h, "7d5h"),
            (8 * d + 5 * h, "8d"),
            (729 * d, "729d"),
            (2 * y + 45 * d, "2y45d"),
            (9 * y, "9y"),
        ] {
            assert_eq!(human_duration(seconds), want, "{seconds}");
        }
    }
}
