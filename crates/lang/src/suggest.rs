//! "Did you mean": the nearest of the known names. Knows only strings.

/// The nearest candidate, if one is near enough to be a slip of the hand.
///
/// Near enough: a third of the longer name's length, where an edit inserts, removes, replaces or
/// swaps neighbours; letter case counts half as much as a letter.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are doubled, so that a difference in case can cost a half.
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        if candidate == name {
            return Some(candidate);
        }
        let limit = match name.chars().count().max(candidate.chars().count()) {
            // One or two letters: any edit makes another name, so only case is a slip.
            0..=2 => 1,
            n => 2 * (n / 3),
        };
        let d = distance(name, candidate);
        if d <= limit && best.is_none_or(|(b, _)| d < b) {
            best = Some((d, candidate));
        }
    }
    best.map(|(_, c)| c)
}

/// Optimal string alignment distance, doubled; names longer than 256 characters are not worth comparing.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len() > 256 || b.len() > 256 {
        return usize::MAX;
    }
    let (mut before, mut last) = (vec![0; b.len() + 1], (0..=b.len()).map(|j| 2 * j).collect::<Vec<_>>());
    for i in 1..=a.len() {
        let mut row = vec![2 * i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = match (a[i - 1], b[j - 1]) {
                (x, y) if x == y => 0,
                (x, y) if x.eq_ignore_ascii_case(&y) => 1,
                _ => 2,
            };
            row[j] = (last[j] + 2).min(row[j - 1] + 2).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 2);
            }
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["entrypoint", "templates", "arguments", "serviceAccountName"];
        assert_eq!(nearest("entrypiont", names), Some("entrypoint"));
        assert_eq!(nearest("entryPoint", names), Some("entrypoint"));
        assert_eq!(nearest("template", names), Some("templates"));
        assert_eq!(nearest("volumes", names), None);
        assert_eq!(nearest("serviceaccountname", names), Some("serviceAccountName"));
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("a", ["A"]), Some("A"));
        assert_eq!(nearest("", ["entrypoint"]), None);
    }
}
