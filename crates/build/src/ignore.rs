//! `.dockerignore`: ordered patterns, the last that fits decides, `!` takes back, `**` is any number of directories. Only
//! text; never looks at a directory.

use regex::Regex;

/// The patterns of a `.dockerignore` (or of `--exclude`).
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    regex: Regex,
    takes_back: bool,
    /// The pattern's text, for looking whether something beneath a directory may fit.
    text: String,
}

impl Ignore {
    /// Reads the file's text; the fault names the line that is not a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::of(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Of single patterns.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut patterns = Vec::new();
        for line in lines {
            let line = line.trim();
            let (takes_back, body) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            let text = clean(body);
            if text.is_empty() {
                if takes_back {
                    return Err("a pattern of `!` alone takes back nothing".to_owned());
                }
                continue;
            }
            let regex = regex_of(&text).and_then(|r| Regex::new(&r).ok());
            let Some(regex) = regex else { return Err(format!("`{line}` is not a pattern")) };
            patterns.push(Pattern { regex, takes_back, text });
        }
        Ok(Self { patterns })
    }

    /// With further patterns behind these.
    pub(crate) fn with(mut self, lines: &[String]) -> Result<Self, String> {
        self.patterns.extend(Self::of(lines.iter().map(String::as_str))?.patterns);
        Ok(self)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether this path (relative, with `/`) is left out: it or a directory above fits.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.takes_back != ignored {
                continue;
            }
            let above = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &path[..at]);
            if pattern.regex.is_match(path) || above.into_iter().any(|dir| pattern.regex.is_match(dir)) {
                ignored = !pattern.takes_back;
            }
        }
        ignored
    }

    /// Whether something beneath this directory, itself left out, may have been taken back.
    pub fn may_take_back_within(&self, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        self.patterns.iter().filter(|p| p.takes_back).any(|p| {
            let literal = p.text.find(['*', '?', '[', '\\']).map_or(p.text.as_str(), |at| &p.text[..at]);
            literal.starts_with(&prefix) || (literal.len() < p.text.len() && prefix.starts_with(literal))
        })
    }
}

/// Without `.`, `..`, doubled and leading slashes.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn regex_of(pattern: &str) -> Option<String> {
    let mut out = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                if rest.peek() == Some(&'/') {
                    rest.next();
                    out.push_str("(.*/)?");
                } else {
                    out.push_str(".*");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => {
                out.push('[');
                if rest.peek() == Some(&'^') {
                    rest.next();
                    out.push('^');
                }
                loop {
                    match rest.next()? {
                        ']' => break,
                        '\\' => {
                            out.push('\\');
                            out.push(rest.next()?);
                        }
                        '[' => out.push_str("\\["),
                        '&' => out.push_str("\\&"),
                        '~' => out.push_str("\\~"),
                        c => out.push(c),
                    }
                }
                out.push(']');
            }
            '\\' => out.push_str(&regex::escape(&rest.next()?.to_string())),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let text = "# a comment\n*.md\n!README.md\n/build/\n**/node_modules\ndocs/**/*.txt\n!docs/keep\n  spaced  \nt?mp[0-9]\nb/../c\n";
        let ignore = Ignore::parse(text).unwrap();
        for (path, expected) in [
            ("a.md", true),
            ("README.md", false),
            ("sub/a.md", false),
            ("build", true),
            ("build/x/y", true),
            ("x/build", false),
            ("node_modules/a", true),
            ("a/b/node_modules/c", true),
            ("docs/x.txt", true),
            ("docs/a/b/x.txt", true),
            ("docs/keep/x.txt", false),
            ("spaced", true),
            ("temp1", true),
            ("tempa", false),
            ("c", true),
            ("# a comment", false),
        ] {
            assert_eq!(ignore.is_ignored(path), expected, "{path}");
        }
        assert!(ignore.may_take_back_within("docs"));
        assert!(!ignore.may_take_back_within("build"));
        let all = Ignore::parse("*\n!src\n!**/*.rs").unwrap();
        assert!(all.is_ignored("x") && !all.is_ignored("src/a") && !all.is_ignored("y/z.rs"));
        assert!(all.may_take_back_within("y"));
        assert_eq!(Ignore::parse("a[").unwrap_err(), "`a[` is not a pattern");
        assert!(Ignore::parse("!").is_err());
    }
}
