//! `when`: the govaluate dialect, evaluated after substitution. Bare words are text.
//!
//! Knows only its text: tags have been replaced before. Never panics; every fault has its place.

mod eval;
mod lex;
mod parse;
mod time;

use std::fmt;

pub use eval::Value;

use crate::source::Fault;

/// A parsed condition.
#[derive(Clone, Debug)]
pub struct Condition {
    root: parse::Node,
}

impl Condition {
    /// Parses a condition. Bare words are text, as Argo has it for `when` of steps and tasks.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        Ok(Self { root: parse::parse(text)? })
    }

    /// The value, which need not be a boolean. Bare words stand for themselves.
    pub fn value(&self) -> Result<Value, Fault> {
        eval::evaluate(&self.root, &|name| Some(Value::Text(name.to_owned())))
    }

    /// The value, with bare words looked up: the form that cron `when` and metric `when` have.
    pub fn value_with(&self, words: &dyn Fn(&str) -> Option<Value>) -> Result<Value, Fault> {
        eval::evaluate(&self.root, words)
    }
}

/// Evaluates a `when` to its truth. Anything but a boolean is a fault.
pub fn evaluate(text: &str) -> Result<bool, Fault> {
    match Condition::parse(text)?.value()? {
        Value::Bool(truth) => Ok(truth),
        other => Err(Fault::new(
            format!("a `when` must come out as true or false; this comes out as {other}"),
            0..text.len(),
        )),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Number(n) => write!(f, "{}", eval::number_text(*n)),
            Self::Text(t) => write!(f, "{t}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Null => f.write_str("<nil>"),
        }
    }
}
