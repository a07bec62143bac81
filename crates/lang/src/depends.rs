//! `depends`: a boolean expression over tasks and how they ended. Knows no tasks, only their names.

use std::ops::Range;

use crate::source::Fault;

/// How a task must have ended for a reference to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `A.Succeeded`
    Succeeded,
    /// `A.Failed`
    Failed,
    /// `A.Errored`
    Errored,
    /// `A.Skipped`
    Skipped,
    /// `A.Omitted`
    Omitted,
    /// `A.Daemoned`
    Daemoned,
    /// `A.AnySucceeded`: of a loop, at least one.
    AnySucceeded,
    /// `A.AllFailed`: of a loop, every one.
    AllFailed,
}

impl Outcome {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Succeeded, "Succeeded"),
        (Self::Failed, "Failed"),
        (Self::Errored, "Errored"),
        (Self::Skipped, "Skipped"),
        (Self::Omitted, "Omitted"),
        (Self::Daemoned, "Daemoned"),
        (Self::AnySucceeded, "AnySucceeded"),
        (Self::AllFailed, "AllFailed"),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(outcome, _)| *outcome)
    }
}

/// One task that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The task.
    pub task: String,
    /// The outcome asked for; a bare name asks whether dependents may go on.
    pub outcome: Option<Outcome>,
    /// The task's name in the text.
    pub range: Range<usize>,
}

/// A parsed `depends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depends {
    nodes: Vec<Node>,
    root: usize,
    references: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    True,
    False,
    Task(usize),
    Not(usize),
    And(usize, usize),
    Or(usize, usize),
}

impl Depends {
    /// Parses `A.Succeeded && (B.Failed || !C)`. `and`, `or`, `not`, `true` and `false` are words of the language.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut parser = Parser { text, at: 0, depth: 0, nodes: Vec::new(), references: Vec::new() };
        let root = parser.or()?;
        parser.blank();
        if parser.at < text.len() {
            let range = parser.here();
            return Err(Fault::new("expected `&&`, `||` or the end", range));
        }
        Ok(Self { nodes: parser.nodes, root, references: parser.references })
    }

    /// What `dependencies: [A, B]` means: every task, by its bare name. No tasks: always true.
    pub fn all<'a>(tasks: impl IntoIterator<Item = &'a str>) -> Self {
        let mut this = Self { nodes: Vec::new(), root: 0, references: Vec::new() };
        for task in tasks {
            this.references.push(Reference { task: task.to_owned(), outcome: None, range: 0..0 });
            this.nodes.push(Node::Task(this.references.len() - 1));
            let leaf = this.nodes.len() - 1;
            if leaf > 0 {
                this.nodes.push(Node::And(this.root, leaf));
            }
            this.root = this.nodes.len() - 1;
        }
        if this.nodes.is_empty() {
            this.nodes.push(Node::True);
        }
        this
    }

    /// Every reference, in the order of the text; a task may occur several times.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The tasks that are named, each once, in the order of the text.
    pub fn tasks(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for reference in &self.references {
            if !out.contains(&reference.task.as_str()) {
                out.push(&reference.task);
            }
        }
        out
    }

    /// Asks `holds` about the references and gives the truth of the whole. Every reference is asked only if needed.
    pub fn evaluate(&self, mut holds: impl FnMut(&Reference) -> bool) -> bool {
        self.value(self.root, &mut holds)
    }

    fn value(&self, node: usize, holds: &mut impl FnMut(&Reference) -> bool) -> bool {
        match self.nodes[node] {
            Node::True => true,
            Node::False => false,
            Node::Task(i) => holds(&self.references[i]),
            Node::Not(a) => !self.value(a, holds),
            Node::And(a, b) => self.value(a, holds) && self.value(b, holds),
            Node::Or(a, b) => self.value(a, holds) || self.value(b, holds),
        }
    }
}

/// Deepest nesting of brackets and `!`; also bounds the recursion of [`Depends::evaluate`] together with the text's
/// number of operators.
const DEPTH_MAX: usize = 100;
/// Most operators and names in one text.
const NODES_MAX: usize = 2_000;

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    nodes: Vec<Node>,
    references: Vec<Reference>,
}

impl Parser<'_> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The character that stands here.
    fn here(&self) -> Range<usize> {
        let len = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        self.at..self.at + len
    }

    fn push(&mut self, node: Node) -> Result<usize, Fault> {
        if self.nodes.len() >= NODES_MAX {
            return Err(Fault::new("this condition is too long", self.here()));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn eat(&mut self, symbol: &str, word: &str) -> bool {
        self.blank();
        let rest = &self.text[self.at..];
        if rest.starts_with(symbol) {
            self.at += symbol.len();
            return true;
        }
        let ends = |r: &str| r.chars().next().is_none_or(|c| !is_name(c) && c != '.');
        if !word.is_empty() && rest.strip_prefix(word).is_some_and(ends) {
            self.at += word.len();
            return true;
        }
        false
    }

    fn or(&mut self) -> Result<usize, Fault> {
        let mut left = self.and()?;
        while self.eat("||", "or") {
            let right = self.and()?;
            left = self.push(Node::Or(left, right))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<usize, Fault> {
        let mut left = self.unary()?;
        while self.eat("&&", "and") {
            let right = self.unary()?;
            left = self.push(Node::And(left, right))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<usize, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new("this condition is nested too deeply", self.here()));
        }
        let node = if self.eat("!", "not") {
            let inner = self.unary()?;
            self.push(Node::Not(inner))?
        } else if self.eat("(", "") {
            let open = self.at - 1;
            let inner = self.or()?;
            if !self.eat(")", "") {
                return Err(Fault::new("this bracket is not closed", open..open + 1));
            }
            inner
        } else {
            self.reference()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn reference(&mut self) -> Result<usize, Fault> {
        self.blank();
        let start = self.at;
        let name = self.word();
        if name.is_empty() {
            return Err(match self.text[start..].chars().next() {
                None => Fault::new("expected a task name, found the end", start..start),
                Some(c) => Fault::new(format!("expected a task name, found `{c}`"), self.here()),
            });
        }
        let range = start..self.at;
        let task = self.text[range.clone()].to_owned();
        if self.text[self.at..].starts_with('.') {
            self.at += 1;
            let from = self.at;
            self.word();
            let word = &self.text[from..self.at];
            let Some(outcome) = Outcome::parse(word) else {
                let known: Vec<_> = Outcome::ALL.iter().map(|(_, n)| *n).collect();
                let hint = match crate::suggest::nearest(word, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are {}", known.join(", ")),
                };
                return Err(Fault::new(format!("`{word}` is not a result of a task; {hint}"), from..self.at));
            };
            self.references.push(Reference { task, outcome: Some(outcome), range });
        } else {
            match task.as_str() {
                "true" => return self.push(Node::True),
                "false" => return self.push(Node::False),
                _ => self.references.push(Reference { task, outcome: None, range }),
            }
        }
        self.push(Node::Task(self.references.len() - 1))
    }

    fn word(&mut self) -> &str {
        let start = self.at;
        let rest = &self.text[start..];
        self.at += rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        &self.text[start..self.at]
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_decided() {
        let holds = |r: &Reference| matches!((r.task.as_str(), r.outcome), ("a", _) | ("b-2", Some(Outcome::Failed)));
        for (text, result, tasks) in [
            ("a", true, vec!["a"]),
            ("a && b-2.Failed", true, vec!["a", "b-2"]),
            ("a && b-2", false, vec!["a", "b-2"]),
            ("(a && b-2) || a.Succeeded", true, vec!["a", "b-2"]),
            ("!a || !(b-2.Failed)", false, vec!["a", "b-2"]),
            ("not a or a and a", true, vec!["a"]),
            ("order && android", false, vec!["order", "android"]),
            ("a&&!c", true, vec!["a", "c"]),
            ("c || a && a", true, vec!["c", "a"]),
        ] {
            let depends = Depends::parse(text).unwrap();
            assert_eq!((depends.evaluate(holds), depends.tasks()), (result, tasks), "{text}");
        }
        assert!(Depends::all([]).evaluate(|_| false));
        assert!(!Depends::all(["a", "c"]).evaluate(holds));
        assert_eq!(Depends::all(["a", "c", "d"]).tasks(), ["a", "c", "d"]);
    }

    #[test]
    fn faults_have_places() {
        for (text, range) in [
            ("", 0..0),
            ("a &&", 4..4),
            ("a b", 2..3),
            ("(a", 0..1),
            ("a.Suceeded", 2..10),
            ("a & b", 2..3),
            ("é", 0..2),
        ] {
            assert_eq!(Depends::parse(text).unwrap_err().range, range, "{text}");
        }
        assert!(Depends::parse(&"(".repeat(100_000)).is_err());
        assert!(Depends::parse(&format!("a{}", " && a".repeat(100_000))).is_err());
    }
}
