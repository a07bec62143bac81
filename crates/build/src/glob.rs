//! The patterns of `COPY` sources, as Go's `filepath.Match`: `*` and `?` stay within a name, `[a-z]`, `\` escapes. Only
//! text; never looks at a directory.

/// Whether the text has a character that makes it a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether this one name fits the pattern of one path component; `None` for a pattern that is not well-formed.
pub(crate) fn matches(pattern: &str, name: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    step(&pattern, &name)
}

fn step(pattern: &[char], name: &[char]) -> Option<bool> {
    let Some((first, rest)) = pattern.split_first() else { return Some(name.is_empty()) };
    match first {
        '*' => {
            for at in 0..=name.len() {
                if step(rest, &name[at..])? {
                    return Some(true);
                }
            }
            Some(false)
        }
        '?' => name.split_first().map_or(Some(false), |(_, after)| step(rest, after)),
        '[' => {
            let (fits, rest) = class(rest, name.first().copied())?;
            if fits { step(rest, &name[1..]) } else { Some(false) }
        }
        '\\' => {
            let (literal, rest) = rest.split_first()?;
            if name.first() == Some(literal) { step(rest, &name[1..]) } else { Some(false) }
        }
        literal => {
            if name.first() == Some(literal) {
                step(rest, &name[1..])
            } else {
                Some(false)
            }
        }
    }
}

/// What follows `[`: whether the character is in it, and what comes after `]`.
fn class(mut pattern: &[char], c: Option<char>) -> Option<(bool, &[char])> {
    let negated = pattern.first() == Some(&'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut found = false;
    let mut any = false;
    loop {
        let (low, rest) = character(pattern, any)?;
        let Some(low) = low else { return any.then_some((c.is_some() && found != negated, rest)) };
        any = true;
        let (high, rest) = match rest.split_first() {
            Some(('-', after)) => {
                let (high, rest) = character(after, false)?;
                (high?, rest)
            }
            _ => (low, rest),
        };
        pattern = rest;
        found |= c.is_some_and(|c| (low..=high).contains(&c));
    }
}

/// One character of a class; `None` for its end.
fn character(pattern: &[char], may_end: bool) -> Option<(Option<char>, &[char])> {
    match pattern.split_first()? {
        (']', rest) if may_end => Some((None, rest)),
        ('\\', rest) => rest.split_first().map(|(c, rest)| (Some(*c), rest)),
        ('-' | ']', _) => None,
        (c, rest) => Some((Some(*c), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "ab", Some(true)),
            ("a*b*c*d*e*", "axbxcxdxexxx", Some(true)),
            ("a?b", "a☺b", Some(true)),
            ("a[a-c]", "ab", Some(true)),
            ("a[^a-c]", "ab", Some(false)),
            ("a\\*b", "a*b", Some(true)),
            ("[]a]", "]", None),
            ("[a-]", "a", None),
            ("[", "a", None),
            ("a", "", Some(false)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
