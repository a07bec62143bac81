//! Argo's expressions: Go's expr-lang dialect with Argo's functions (`asInt`, `asFloat`, `toJson`, `jsonpath`) and
//! sprig's generic ones (`sprig.trim`).
//!
//! Pure: `now()` and sprig's clock know the time that [`Env::at`] was given; random and crypto functions are refused by
//! name. Never panics; recursion and the
//! size of results are bounded.
//!
//! Limits: whole numbers are 64-bit and of one kind; a text that is cut within a character shows `\u{FFFD}` there; types
//! are judged before running only where they are certain.

mod builtin;
mod check;
mod codec;
mod eval;
mod jsonpath;
mod lex;
pub(crate) mod number;
mod parse;
mod semver;
mod sprig;
mod time;
mod value;

use std::collections::BTreeMap;

pub use semver::Version;
pub use value::Value;

use crate::source::Fault;
use crate::tags::Evaluated;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    root: parse::Node,
    names: Vec<Name>,
}

/// A name an expression takes from its surroundings: `steps.flip.outputs.result` is four parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its parts, as far as they are written as constants (`steps['a-b'].id` too).
    pub path: Vec<String>,
    /// Where it stands, with what belongs to it.
    pub range: std::ops::Range<usize>,
    /// Asked for with `?.` or on the left of `??`: it need not be there.
    pub optional: bool,
}

/// What an expression's names stand for: dotted keys become nested maps.
#[derive(Clone, Debug, Default)]
pub struct Env {
    root: BTreeMap<String, Value>,
    now: Option<jiff::Timestamp>,
}

impl Env {
    /// Says what time it is, for those functions that ask. Without it they are refused.
    #[must_use]
    pub fn at(mut self, now: jiff::Timestamp) -> Self {
        self.now = Some(now);
        self
    }

    pub(crate) fn now(&self) -> Option<jiff::Zoned> {
        self.now.map(|now| now.to_zoned(jiff::tz::TimeZone::UTC))
    }

    /// Sets `steps.flip.outputs.result` and the like. What stood there before is replaced; where a part is no map it
    /// becomes one.
    pub fn set(&mut self, name: &str, value: Value) {
        fn put(map: &mut BTreeMap<String, Value>, name: &str, value: Value) {
            match name.split_once('.') {
                None => {
                    map.insert(name.to_owned(), value);
                }
                Some((head, rest)) => {
                    let inner = map.entry(head.to_owned()).or_insert_with(|| Value::Map(BTreeMap::new()));
                    if !matches!(inner, Value::Map(_)) {
                        *inner = Value::Map(BTreeMap::new());
                    }
                    if let Value::Map(inner) = inner {
                        put(inner, rest, value);
                    }
                }
            }
        }
        put(&mut self.root, name, value);
    }

    /// Sets a path whose parts may hold dots themselves.
    pub fn set_path(&mut self, path: &[&str], value: Value) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.root;
        for part in parents {
            let inner = map.entry((*part).to_owned()).or_insert_with(|| Value::Map(BTreeMap::new()));
            if !matches!(inner, Value::Map(_)) {
                *inner = Value::Map(BTreeMap::new());
            }
            match inner {
                Value::Map(next) => map = next,
                _ => return,
            }
        }
        map.insert((*last).to_owned(), value);
    }

    /// What a path of names stands for.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(first.as_ref())?, |value, part| match value {
            Value::Map(map) => map.get(part.as_ref()),
            _ => None,
        })
    }

    pub(crate) fn root(&self, name: &str) -> Option<&Value> {
        self.root.get(name)
    }
}

impl Expression {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let root = parse::parse(text)?;
        let mut names = Vec::new();
        root.names(&mut Vec::new(), false, &mut names);
        Ok(Self { root, names })
    }

    /// The names it takes from its surroundings, in the order of the text.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The first name that `env` does not have at all.
    pub fn missing(&self, env: &Env) -> Option<&Name> {
        self.names.iter().find(|n| (!n.optional || n.path.len() == 1) && env.get(&n.path).is_none())
    }

    /// The first name of which not even the first part is known.
    pub fn stranger(&self, env: &Env) -> Option<&Name> {
        self.names.iter().find(|name| env.root(&name.path[0]).is_none())
    }

    /// Whether it asks for something that comes later than what is known now: a loop's item, how a try went, how it all
    /// ended. Whatever it would give without must not take the place of what it will give.
    fn is_early(&self, env: &Env) -> bool {
        const LATER: [&str; 6] = [
            "lastRetry.exitCode",
            "lastRetry.status",
            "lastRetry.duration",
            "lastRetry.message",
            "workflow.status",
            "workflow.failures",
        ];
        self.names.iter().any(|name| {
            let first = name.path.first().map(String::as_str);
            if matches!(first, Some("item" | "retries")) {
                return env.get(&name.path[..1]).is_none();
            }
            !name.optional && LATER.contains(&name.path.join(".").as_str()) && env.get(&name.path).is_none()
        })
    }

    /// The value.
    pub fn evaluate(&self, env: &Env) -> Result<Value, Fault> {
        check::check(&self.root, env)?;
        eval::evaluate(&self.root, env)
    }
}

/// Evaluates an expression to a boolean, as `depends`-like conditions, hooks and `retryStrategy.expression` need it.
pub fn holds(text: &str, env: &Env) -> Result<bool, Fault> {
    match Expression::parse(text)?.evaluate(env)? {
        Value::Bool(truth) => Ok(truth),
        other => Err(Fault::new(
            format!("this must come out as true or false; it comes out as {}", other.go_text()),
            0..text.len(),
        )),
    }
}

/// A fault with its place in the text, as expr-lang writes it for people.
pub fn placed(text: &str, fault: &Fault) -> String {
    let before = text.get(..fault.range.start).unwrap_or_default();
    let from = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (row, column) = (before.matches('\n').count() + 1, before[from..].chars().count());
    let line = text[from..].lines().next().unwrap_or_default();
    format!("{} ({row}:{})\n | {line}\n | {}^", fault.message, column + 1, ".".repeat(column))
}

/// Evaluates the text of a `{{=…}}` tag. A fault, or no value, is unknown while a name is missing, and a fault otherwise.
pub fn evaluate_tag(text: &str, env: &Env) -> Evaluated {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(fault) => return Evaluated::Failed(fault),
    };
    // Where not even the first part of a name is known it may come later, whatever `??` would give without.
    if expression.is_early(env) || expression.stranger(env).is_some() {
        return Evaluated::Unknown;
    }
    let missing = expression.missing(env).is_some();
    match expression.evaluate(env) {
        Err(_) | Ok(Value::Null) if missing => Evaluated::Unknown,
        Err(fault) => Evaluated::Failed(fault),
        Ok(Value::Null) => Evaluated::Failed(Fault::new("this expression has no value", 0..text.len())),
        Ok(value) => match value.tag_text() {
            Some(text) => Evaluated::Text(text),
            None => Evaluated::Failed(Fault::new("JSON cannot hold this number", 0..text.len())),
        },
    }
}
