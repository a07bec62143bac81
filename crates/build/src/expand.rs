//! Variables in a word of a Dockerfile: `$v ${v} ${v:-x} ${v:+x} ${v:?x}`, with quotes and escapes taken away. Knows only
//! what the caller's lookup tells.

use std::iter::Peekable;
use std::str::Chars;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpandFault(pub String);

/// Expands the variables of a word; one that is not set is empty.
pub fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandFault> {
    let mut expander = Expander { rest: word.chars().peekable(), escape, lookup, depth: 0 };
    expander.until(None)
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: u32,
}

impl Expander<'_> {
    /// Up to this character (which is taken), or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<String, ExpandFault> {
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' => self.single(&mut out)?,
                '"' => self.double(&mut out)?,
                '$' => self.variable(&mut out)?,
                c if c == self.escape => out.push(self.rest.next().unwrap_or(c)),
                c => out.push(c),
            }
        }
        match stop {
            Some(stop) => Err(ExpandFault(format!("`${{` has no `{stop}`"))),
            None => Ok(out),
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), ExpandFault> {
        for c in self.rest.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        Err(ExpandFault("a single quote is not closed".to_owned()))
    }

    fn double(&mut self, out: &mut String) -> Result<(), ExpandFault> {
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(()),
                '$' => self.variable(out)?,
                c if c == self.escape => match self.rest.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => out.push(c),
                },
                c => out.push(c),
            }
        }
        Err(ExpandFault("a double quote is not closed".to_owned()))
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            // `$1x` is the parameter 1 and an x.
            if name.len() == 1 && name.starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            name.push(c);
            self.rest.next();
        }
        name
    }

    fn variable(&mut self, out: &mut String) -> Result<(), ExpandFault> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&(self.lookup)(&name).unwrap_or_default());
            }
            return Ok(());
        }
        self.rest.next();
        let name = self.name();
        let bad = |what: String| Err(ExpandFault(what));
        if name.is_empty() {
            return bad("`${` needs a name".to_owned());
        }
        let value = (self.lookup)(&name);
        let mut operator = match self.rest.next() {
            Some('}') => {
                out.push_str(&value.unwrap_or_default());
                return Ok(());
            }
            Some(c) => c,
            None => return bad(format!("`${{{name}` has no `}}`")),
        };
        let colon = operator == ':';
        if colon {
            operator = self.rest.next().unwrap_or(':');
        }
        if !matches!(operator, '-' | '+' | '?') {
            return bad(format!(
                "`{operator}` after `${{{name}` is not supported: `-`, `+` and `?` are, also behind a colon"
            ));
        }
        self.depth += 1;
        if self.depth > 100 {
            return bad("variables are nested too deeply".to_owned());
        }
        let word = self.until(Some('}'))?;
        self.depth -= 1;
        let set = value.filter(|value| !colon || !value.is_empty());
        match (operator, set) {
            ('-', Some(value)) | ('?', Some(value)) => out.push_str(&value),
            ('-', None) | ('+', Some(_)) => out.push_str(&word),
            ('?', None) => {
                let why = if word.is_empty() { "it is not set".to_owned() } else { word };
                return bad(format!("{name}: {why}"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let lookup = |name: &str| match name {
            "a" => Some("A b".to_owned()),
            "empty" => Some(String::new()),
            "longer_1" => Some("L".to_owned()),
            _ => None,
        };
        for (word, expected) in [
            ("x", "x"),
            ("$a", "A b"),
            ("${a}c$longer_1.x", "A bcL.x"),
            ("$none|${none}", "|"),
            ("'$a'\"$a\"", "$aA b"),
            (r"\$a \'", "$a '"),
            (r#""\$a \x \"""#, r#"$a \x ""#),
            ("${none:-d}${none-d}${empty:-e}${empty-e}", "dde"),
            ("${a:+y}${a+y}${empty:+n}${empty+y}${none+n}", "yyy"),
            ("${none:-${a}-'$a'}", "A b-$a"),
            ("${a:?no}", "A b"),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("\\", "\\"),
            ("ü$a", "üA b"),
        ] {
            assert_eq!(expand(word, '\\', &lookup).unwrap(), expected, "{word}");
        }
        for (word, why) in [
            ("${a", "`${a` has no `}`"),
            ("${", "`${` needs a name"),
            ("'a", "a single quote is not closed"),
            ("\"a", "a double quote is not closed"),
            ("${none:?give it}", "none: give it"),
            ("${empty:?}", "empty: it is not set"),
            ("${a:-", "`${` has no `}`"),
        ] {
            assert_eq!(expand(word, '\\', &lookup).unwrap_err().0, why, "{word}");
        }
        assert!(expand("${a%x}", '\\', &lookup).is_err());
        assert_eq!(expand("`$a\\", '`', &lookup).unwrap(), "$a\\");
    }
}
