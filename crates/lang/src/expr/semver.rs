//! Semantic versions and their constraints in the loose spelling that sprig takes: `v1.2` is a version, and so are
//! `^1.2`, `~1`, `1.x`, `1 - 2`, `>=1.2, <2 || 3` constraints. Pure text and numbers.

use std::cmp::Ordering;

use super::value::Value;

/// A version.
#[derive(Clone, Debug)]
pub struct Version {
    parts: [u64; 3],
    pre: String,
    meta: String,
    original: String,
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// What is written of a version: its numbers, with wildcards as ends.
struct Partial {
    numbers: Vec<u64>,
    pre: String,
}

fn good_tail(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

impl Version {
    /// Reads a version.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no semantic version");
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (rest, meta) = bare.split_once('+').map_or((bare, None), |(a, b)| (a, Some(b)));
        let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
        let mut parts = [0; 3];
        let all: Vec<&str> = numbers.split('.').collect();
        if all.len() > 3 || ![pre, meta].into_iter().flatten().all(good_tail) {
            return Err(wrong());
        }
        for (into, part) in parts.iter_mut().zip(all) {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong());
            }
            *into = part.parse().map_err(|_| wrong())?;
        }
        let own = |t: Option<&str>| t.unwrap_or_default().to_owned();
        Ok(Self { parts, pre: own(pre), meta: own(meta), original: text.to_owned() })
    }

    /// The full spelling.
    pub(super) fn text(&self) -> String {
        let [a, b, c] = self.parts;
        let tail = |sign: &str, text: &str| if text.is_empty() { String::new() } else { format!("{sign}{text}") };
        format!("{a}.{b}.{c}{}{}", tail("-", &self.pre), tail("+", &self.meta))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.parts.cmp(&other.parts).then_with(|| order_pre(&self.pre, &other.pre))
    }

    fn plain(parts: [u64; 3]) -> Self {
        let mut made = Self { parts, pre: String::new(), meta: String::new(), original: String::new() };
        made.original = made.text();
        made
    }

    /// A method of a version.
    pub(super) fn method(&self, name: &str, v: &[Value]) -> Result<Value, String> {
        let [a, b, c] = self.parts;
        let version = |parts| Value::Version(Box::new(Self::plain(parts)));
        let int = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let other = match v {
            [Value::Version(other)] => Some(self.cmp(other)),
            _ => None,
        };
        Ok(match (name, v.is_empty(), other) {
            ("Major", true, _) => int(a),
            ("Minor", true, _) => int(b),
            ("Patch", true, _) => int(c),
            ("Prerelease", true, _) => Value::from(self.pre.as_str()),
            ("Metadata", true, _) => Value::from(self.meta.as_str()),
            ("String", true, _) => Value::Text(self.text()),
            ("Original", true, _) => Value::from(self.original.as_str()),
            ("IncMajor", true, _) => version([a.saturating_add(1), 0, 0]),
            ("IncMinor", true, _) => version([a, b.saturating_add(1), 0]),
            // Of a version before a release the release is next.
            ("IncPatch", true, _) if !self.pre.is_empty() => version([a, b, c]),
            ("IncPatch", true, _) => version([a, b, c.saturating_add(1)]),
            ("Compare", _, Some(order)) => Value::Int(order as i64),
            ("Equal", _, Some(order)) => Value::Bool(order.is_eq()),
            ("LessThan", _, Some(order)) => Value::Bool(order.is_lt()),
            ("LessThanEqual", _, Some(order)) => Value::Bool(order.is_le()),
            ("GreaterThan", _, Some(order)) => Value::Bool(order.is_gt()),
            ("GreaterThanEqual", _, Some(order)) => Value::Bool(order.is_ge()),
            _ => return Err(format!("a version has no method `{name}` that takes these arguments")),
        })
    }
}

fn order_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        return match (left.next(), right.next()) {
            (None, None) => Ordering::Equal,
            (None, _) => Ordering::Less,
            (_, None) => Ordering::Greater,
            (Some(x), Some(y)) => match (x.parse::<u64>(), y.parse::<u64>()) {
                (Ok(n), Ok(m)) if n == m => continue,
                (Ok(n), Ok(m)) => n.cmp(&m),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                _ if x == y => continue,
                _ => x.cmp(y),
            },
        };
    }
}

fn partial(text: &str) -> Option<Partial> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let bare = bare.split('+').next().unwrap_or(bare);
    let (numbers, pre) = bare.split_once('-').unwrap_or((bare, ""));
    if bare.contains('-') && !good_tail(pre) {
        return None;
    }
    let mut out = Vec::new();
    let mut open = false;
    for part in numbers.split('.') {
        match part {
            "x" | "X" | "*" => open = true,
            _ if open => return None,
            part => out.push(part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?),
        }
    }
    (out.len() <= 3).then_some(Partial { numbers: out, pre: pre.to_owned() })
}

/// Whether a version fits a constraint.
pub(super) fn fits(constraint: &str, version: &str) -> Result<bool, String> {
    let wrong = || format!("`{constraint}` is no constraint on versions");
    let mut any = false;
    let mut alternatives = Vec::new();
    for part in constraint.split("||") {
        let terms = terms(part).filter(|t| !t.is_empty()).ok_or_else(wrong)?;
        alternatives.push(terms);
    }
    let version = Version::parse(version)?;
    for terms in alternatives {
        any |= terms.iter().all(|(sign, wanted)| holds(sign, wanted, &version));
    }
    Ok(any)
}

fn terms(text: &str) -> Option<Vec<(String, Partial)>> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(vec![(">=".to_owned(), partial(from.trim())?), ("<=".to_owned(), partial(to.trim())?)]);
    }
    let mut out = Vec::new();
    let mut rest = text.trim_matches(|c: char| c.is_whitespace() || c == ',');
    while !rest.is_empty() {
        let len = rest.find(|c| !"=!<>~^".contains(c)).unwrap_or(rest.len());
        let sign = &rest[..len];
        if !["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"].contains(&sign) {
            return None;
        }
        rest = rest[len..].trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(rest.len());
        out.push((sign.to_owned(), partial(&rest[..end])?));
        rest = rest[end..].trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    }
    Some(out)
}

fn holds(sign: &str, wanted: &Partial, version: &Version) -> bool {
    // Versions before a release are only meant by constraints that name one.
    if !version.pre.is_empty() && wanted.pre.is_empty() {
        return false;
    }
    let at = |i: usize| wanted.numbers.get(i).copied().unwrap_or(0);
    let given = wanted.numbers.len();
    let low = Version { pre: wanted.pre.clone(), ..Version::plain([at(0), at(1), at(2)]) };
    let from = version.cmp(&low);
    // The first version above all that the written numbers name.
    let above = |place: usize| {
        let mut parts = [at(0), at(1), at(2)];
        parts[place] = parts[place].saturating_add(1);
        parts[place + 1..].fill(0);
        parts
    };
    let below_all_named = given == 0 || (given < 3 && version.parts < above(given - 1));
    match sign {
        "!=" if given < 3 => !(from.is_ge() && below_all_named),
        "!=" => !from.is_eq(),
        ">" if given == 0 => false,
        ">" if given < 3 => version.parts >= above(given - 1),
        ">" => from.is_gt(),
        "<" => from.is_lt(),
        ">=" | "=>" => from.is_ge(),
        "<=" | "=<" => (given < 3 && below_all_named) || (given == 3 && from.is_le()),
        "~" | "~>" => match given {
            0 => true,
            1 => from.is_ge() && version.parts < above(0),
            _ => from.is_ge() && version.parts < above(1),
        },
        "^" => {
            if from.is_lt() {
                return false;
            }
            match (given, at(0), at(1)) {
                (0, ..) => true,
                (1, ..) => version.parts < above(0),
                (_, major, _) if major > 0 => version.parts < above(0),
                (2, ..) => version.parts < above(1),
                (_, _, minor) if minor > 0 => version.parts < above(1),
                _ => version.parts < above(2),
            }
        }
        _ if given < 3 => from.is_ge() && below_all_named,
        _ => from.is_eq(),
    }
}
