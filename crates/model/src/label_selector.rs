//! The grammar of label selectors: `a=b,c!=d,e in (f,g),!h,i,n>3`. It says what a text asks for. Which keys and values
//! can exist, and in what words a fault is told, is the reader's; this module must never know any object.

/// One condition of a selector; an object is meant when all of them hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key, as it was written.
    pub key: String,
    /// What it is to be.
    pub wanted: Wanted,
}

/// What a label is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One of these.
    In(Vec<String>),
    /// None of these; it may also not be there.
    NotIn(Vec<String>),
    /// There, whatever its value.
    Exists,
    /// Not there.
    Absent,
    /// A number greater than this.
    Greater(i64),
    /// A number less than this.
    Less(i64),
}

impl Wanted {
    /// Whether a label with this value, or without one that is not there, is as wanted.
    pub fn fits(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(list) => value.is_some_and(|v| list.iter().any(|w| w == v)),
            Self::NotIn(list) => value.is_none_or(|v| !list.iter().any(|w| w == v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Greater(n) => number().is_some_and(|v| v > *n),
            Self::Less(n) => number().is_some_and(|v| v < *n),
        }
    }
}

/// Why a part of a selector is no requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing stands between two commas.
    Empty,
    /// This is compared by size and is no integer.
    Number(String),
    /// This stands where an operator belongs.
    Operator(String),
    /// This has an operator and no values in parentheses.
    List(String),
}

/// The parts of a text as they were written, and what each requires; the empty text has none.
pub fn requirements(text: &str) -> impl Iterator<Item = (&str, Result<Requirement, Fault>)> {
    let parts = if text.trim().is_empty() { Vec::new() } else { parts(text) };
    parts.into_iter().map(|part| (part, requirement(part.trim())))
}

/// What stands between the commas that are not inside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, Fault> {
    let of = |key: &str, wanted: Wanted| Ok(Requirement { key: key.trim().to_owned(), wanted });
    let one = |value: &str| vec![value.trim().to_owned()];
    let number = |text: &str| text.trim().parse().map_err(|_| Fault::Number(text.trim().to_owned()));
    if part.is_empty() {
        return Err(Fault::Empty);
    }
    if let Some(key) = part.strip_prefix('!') {
        return of(key, Wanted::Absent);
    }
    // A sign inside the parentheses belongs to a value.
    if !part.ends_with(')') {
        if let Some((key, value)) = part.split_once("!=") {
            return of(key, Wanted::NotIn(one(value)));
        }
        if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            return of(key, Wanted::In(one(value)));
        }
        if let Some((key, text)) = part.split_once('>') {
            return of(key, Wanted::Greater(number(text)?));
        }
        if let Some((key, text)) = part.split_once('<') {
            return of(key, Wanted::Less(number(text)?));
        }
    }
    let Some((key, rest)) = part.split_once(char::is_whitespace) else {
        return of(part, Wanted::Exists);
    };
    let rest = rest.trim();
    let (wanted, list): (fn(Vec<String>) -> Wanted, _) = if let Some(list) = rest.strip_prefix("notin") {
        (Wanted::NotIn, list)
    } else if let Some(list) = rest.strip_prefix("in") {
        (Wanted::In, list)
    } else {
        return Err(Fault::Operator(rest.to_owned()));
    };
    let list = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    let list = list.ok_or_else(|| Fault::List(rest.to_owned()))?;
    of(key, wanted(list.split(',').map(|value| value.trim().to_owned()).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Wanted)>, Fault> {
        requirements(text).map(|(_, read)| read.map(|r| (r.key, r.wanted))).collect()
    }

    #[test]
    fn a_text_says_which_labels_are_wanted() {
        let list = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        for (text, key, wanted) in [
            ("a", "a", Wanted::Exists),
            (" ! a ", "a", Wanted::Absent),
            ("a=b", "a", Wanted::In(list(&["b"]))),
            ("a == b", "a", Wanted::In(list(&["b"]))),
            ("a=", "a", Wanted::In(list(&[""]))),
            ("a!=b", "a", Wanted::NotIn(list(&["b"]))),
            ("x.io/a in (b, c)", "x.io/a", Wanted::In(list(&["b", "c"]))),
            ("a  notin(b)", "a", Wanted::NotIn(list(&["b"]))),
            ("a in ()", "a", Wanted::In(list(&[""]))),
            ("a in (b=c)", "a", Wanted::In(list(&["b=c"]))),
            ("n > 3", "n", Wanted::Greater(3)),
            ("n<-5", "n", Wanted::Less(-5)),
        ] {
            assert_eq!(read(text).unwrap(), [(key.to_owned(), wanted)], "{text}");
        }
        assert_eq!(read(" ").unwrap(), []);
        assert_eq!(read("a=b, c!=d,e in (f, g),h notin (i)").unwrap().len(), 4);
    }

    #[test]
    fn a_part_that_says_nothing_is_a_fault() {
        for (text, part, fault) in [
            (",", "", Fault::Empty),
            ("a=b, ", " ", Fault::Empty),
            ("n>x", "n>x", Fault::Number("x".into())),
            ("a b", "a b", Fault::Operator("b".into())),
            ("a=b,c of (d)", "c of (d)", Fault::Operator("of (d)".into())),
            ("a in b", "a in b", Fault::List("in b".into())),
        ] {
            let found = requirements(text).find_map(|(part, read)| Some((part, read.err()?)));
            assert_eq!(found, Some((part, fault)), "{text}");
        }
        // What is no key is left to who knows keys.
        assert_eq!(read("a=(b)").unwrap(), [("a=(b)".to_owned(), Wanted::Exists)]);
    }

    #[test]
    fn a_label_fits_or_does_not() {
        for (text, there, absent) in [
            ("n", true, false),
            ("!n", false, true),
            ("n=5", true, false),
            ("n!=5", false, true),
            ("n in (4,5)", true, false),
            ("n notin (4)", true, true),
            ("n>4", true, false),
            ("n<4", false, false),
        ] {
            let wanted = &read(text).unwrap()[0].1;
            assert_eq!((wanted.fits(Some("5")), wanted.fits(None)), (there, absent), "{text}");
        }
        assert!(!read("n>4").unwrap()[0].1.fits(Some("five")));
    }
}
