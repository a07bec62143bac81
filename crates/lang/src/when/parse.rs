//! From words to a tree. Every level is left-associative; chains are flat, so only brackets nest.

use std::ops::Range;

use regex::Regex;

use super::lex::{self, Kind, Payload, Token};
use crate::source::Fault;

/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Number(f64),
    Bool(bool),
    Text(String),
    Pattern(Box<Regex>),
    /// A bare word.
    Word(String, Range<usize>),
    /// A bare word with dots.
    Dotted(String, Range<usize>),
    /// Brackets with nothing in them, or an operand that is not there.
    Nothing,
    Prefix(char, Box<Node>, Range<usize>),
    /// `first op a op b …` of one level.
    Chain(Box<Node>, Vec<(Op, Range<usize>, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Comma,
    Then,
    Else,
    Coalesce,
    Or,
    And,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Matches,
    NotMatches,
    In,
    BitXor,
    BitAnd,
    BitOr,
    ShiftRight,
    ShiftLeft,
    Plus,
    Minus,
    Times,
    Divide,
    Modulo,
    Power,
}

impl Op {
    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Comma => ",",
            Self::Then => "?",
            Self::Else => ":",
            Self::Coalesce => "??",
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
            Self::In => "in",
            Self::BitXor => "^",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::ShiftRight => ">>",
            Self::ShiftLeft => "<<",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }

    fn of(token: &Token) -> Option<(usize, Self)> {
        if token.kind == Kind::Comma {
            return Some((0, Self::Comma));
        }
        let Payload::Text(symbol) = &token.payload else { return None };
        let op = match (token.kind, symbol.as_str()) {
            (Kind::Ternary, "?") => (1, Self::Then),
            (Kind::Ternary, ":") => (1, Self::Else),
            (Kind::Ternary, "??") => (1, Self::Coalesce),
            (Kind::Logical, "||") => (2, Self::Or),
            (Kind::Logical, "&&") => (3, Self::And),
            (Kind::Comparator, "==") => (4, Self::Equal),
            (Kind::Comparator, "!=") => (4, Self::NotEqual),
            (Kind::Comparator, ">") => (4, Self::Greater),
            (Kind::Comparator, ">=") => (4, Self::GreaterEqual),
            (Kind::Comparator, "<") => (4, Self::Less),
            (Kind::Comparator, "<=") => (4, Self::LessEqual),
            (Kind::Comparator, "=~") => (4, Self::Matches),
            (Kind::Comparator, "!~") => (4, Self::NotMatches),
            (Kind::Comparator, "in") => (4, Self::In),
            (Kind::Modifier, "^") => (5, Self::BitXor),
            (Kind::Modifier, "&") => (5, Self::BitAnd),
            (Kind::Modifier, "|") => (5, Self::BitOr),
            (Kind::Modifier, ">>") => (6, Self::ShiftRight),
            (Kind::Modifier, "<<") => (6, Self::ShiftLeft),
            (Kind::Modifier, "+") => (7, Self::Plus),
            (Kind::Modifier, "-") => (7, Self::Minus),
            (Kind::Modifier, "*") => (8, Self::Times),
            (Kind::Modifier, "/") => (8, Self::Divide),
            (Kind::Modifier, "%") => (8, Self::Modulo),
            (Kind::Modifier, "**") => (9, Self::Power),
            _ => return None,
        };
        Some(op)
    }
}

const LEVELS: usize = 10;

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let tokens = lex::tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    // What follows a complete condition, as in `(a == b) (c == d)`, is passed over, as govaluate does.
    parser.level(0)
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn level(&mut self, level: usize) -> Result<Node, Fault> {
        if level == LEVELS {
            return self.value();
        }
        let first = self.level(level + 1)?;
        let mut rest = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            let Some((_, op)) = Op::of(token).filter(|(l, _)| *l == level) else { break };
            self.at += 1;
            rest.push((op, token.range.clone(), self.level(level + 1)?));
        }
        Ok(if rest.is_empty() { first } else { Node::Chain(Box::new(first), rest) })
    }

    fn value(&mut self) -> Result<Node, Fault> {
        let Some(token) = self.tokens.get(self.at) else { return Ok(Node::Nothing) };
        self.at += 1;
        let range = token.range.clone();
        Ok(match (token.kind, &token.payload) {
            (Kind::Number | Kind::Time, Payload::Number(n)) => Node::Number(*n),
            (Kind::Bool, Payload::Bool(b)) => Node::Bool(*b),
            (Kind::Text, Payload::Text(t)) => Node::Text(t.clone()),
            (Kind::Pattern, Payload::Text(t)) => match Regex::new(t) {
                Ok(regex) => Node::Pattern(Box::new(regex)),
                Err(_) => return Err(Fault::new(format!("`{t}` is not a regular expression"), range)),
            },
            (Kind::Word, Payload::Text(t)) => Node::Word(t.clone(), range),
            (Kind::Dotted, Payload::Text(t)) => Node::Dotted(t.clone(), range),
            (Kind::Prefix, Payload::Text(t)) => {
                let sign = t.chars().next().unwrap_or('-');
                Node::Prefix(sign, Box::new(self.value()?), range)
            }
            (Kind::Open, _) => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Fault::new("this condition is nested too deeply", range));
                }
                let inner = self.level(0)?;
                self.at += 1;
                self.depth -= 1;
                // Brackets end a chain: `(1, 2), 3` is one list only because a comma adds to a list.
                inner
            }
            _ => {
                self.at -= 1;
                Node::Nothing
            }
        })
    }
}
