//! Words of a condition. Quotes, escapes, greedy symbols and which word may follow which are govaluate's.

use std::ops::Range;

use super::time;
use crate::source::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    Prefix,
    Number,
    Bool,
    Text,
    /// A quoted text behind `=~` or `!~`.
    Pattern,
    Time,
    /// A bare word, or one in brackets.
    Word,
    /// A bare word with dots: govaluate takes it for a field of a parameter.
    Dotted,
    Comparator,
    Logical,
    Modifier,
    Ternary,
    Open,
    Close,
    Comma,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    Text(String),
    Number(f64),
    Bool(bool),
    None,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) payload: Payload,
    pub(super) range: Range<usize>,
}

impl Token {
    /// Its kind and value, as govaluate tells them.
    fn words(&self) -> String {
        let kind = match self.kind {
            Kind::Start => "UNKNOWN",
            Kind::Prefix => "PREFIX",
            Kind::Number => "NUMERIC",
            Kind::Bool => "BOOLEAN",
            Kind::Text => "STRING",
            Kind::Pattern => "PATTERN",
            Kind::Time => "TIME",
            Kind::Word => "VARIABLE",
            Kind::Dotted => "ACCESSOR",
            Kind::Comparator => "COMPARATOR",
            Kind::Logical => "LOGICALOP",
            Kind::Modifier => "MODIFIER",
            Kind::Ternary => "TERNARY",
            Kind::Open => "CLAUSE",
            Kind::Close => "CLAUSE_CLOSE",
            Kind::Comma => "SEPARATOR",
        };
        let value = match &self.payload {
            Payload::Text(text) => text.clone(),
            Payload::Number(n) => crate::expr::number::go_text(*n),
            Payload::Bool(b) => b.to_string(),
            Payload::None => match self.kind {
                Kind::Open => "40".to_owned(),
                Kind::Close => "41".to_owned(),
                Kind::Comma => ",".to_owned(),
                _ => "<nil>".to_owned(),
            },
        };
        format!("{kind} [{value}]")
    }
}

struct Stream<'t> {
    text: &'t str,
    /// Characters with their offsets.
    chars: Vec<(usize, char)>,
    at: usize,
}

/// All words, checked for order.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut stream = Stream { text, chars: text.char_indices().collect(), at: 0 };
    let mut out: Vec<Token> = Vec::new();
    while let Some(mut token) = stream.token(out.last().map_or(Kind::Start, |t| t.kind))? {
        let behind_match = out.last().is_some_and(|t| {
            t.kind == Kind::Comparator && matches!(&t.payload, Payload::Text(s) if s == "=~" || s == "!~")
        });
        if behind_match && token.kind == Kind::Text {
            token.kind = Kind::Pattern;
        }
        out.push(token);
    }
    balance(&out)?;
    order(text, &out)?;
    Ok(out)
}

fn balance(tokens: &[Token]) -> Result<(), Fault> {
    let mut open: Vec<&Token> = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Open => open.push(token),
            Kind::Close if open.pop().is_none() => {
                return Err(Fault::new("Unbalanced parenthesis", token.range.clone()));
            }
            _ => {}
        }
    }
    match open.first() {
        Some(token) => Err(Fault::new("Unbalanced parenthesis", token.range.clone())),
        None => Ok(()),
    }
}

fn order(text: &str, tokens: &[Token]) -> Result<(), Fault> {
    let mut last = Kind::Start;
    for (i, token) in tokens.iter().enumerate() {
        if !may_follow(last, token.kind) {
            let here = &text[token.range.clone()];
            let message = match i.checked_sub(1).map(|i| &tokens[i]) {
                Some(before) => format!("Cannot transition token types from {} to {}", before.words(), token.words()),
                None => format!("a condition cannot begin with `{here}`"),
            };
            return Err(Fault::new(message, token.range.clone()));
        }
        last = token.kind;
    }
    if matches!(
        last,
        Kind::Start
            | Kind::Open
            | Kind::Prefix
            | Kind::Comparator
            | Kind::Logical
            | Kind::Modifier
            | Kind::Ternary
            | Kind::Comma
    ) {
        let end = text.trim_end().len();
        let message = match tokens.last() {
            Some(_) => "Unexpected end of expression".to_owned(),
            None => "a condition must not be empty".to_owned(),
        };
        return Err(Fault::new(message, tokens.last().map_or(end..end, |t| t.range.clone())));
    }
    Ok(())
}

fn may_follow(last: Kind, next: Kind) -> bool {
    use Kind::*;
    let operand = matches!(next, Number | Bool | Word | Dotted | Open);
    match last {
        Start => operand || matches!(next, Prefix | Pattern | Text | Time),
        Open => operand || matches!(next, Prefix | Pattern | Text | Time | Close),
        Close => {
            matches!(
                next,
                Comparator
                    | Modifier
                    | Number
                    | Bool
                    | Word
                    | Text
                    | Pattern
                    | Time
                    | Open
                    | Close
                    | Logical
                    | Ternary
                    | Comma
            )
        }
        Number | Bool | Text | Word => matches!(next, Modifier | Comparator | Logical | Close | Ternary | Comma),
        Time | Pattern => matches!(next, Modifier | Comparator | Logical | Close | Comma),
        Dotted => matches!(next, Open | Modifier | Comparator | Logical | Close | Ternary | Comma),
        Modifier => operand || matches!(next, Prefix | Text | Close),
        Comparator => operand || matches!(next, Prefix | Text | Time | Close | Pattern),
        Logical => operand || matches!(next, Prefix | Text | Time | Close),
        // Bare words are text by the time this is asked, and a sign before text is refused.
        Prefix => matches!(next, Number | Bool | Dotted | Open | Close),
        Ternary => operand || matches!(next, Prefix | Text | Time | Comma),
        Comma => operand || matches!(next, Prefix | Text | Time),
    }
}

impl Stream<'_> {
    fn offset(&self, at: usize) -> usize {
        self.chars.get(at).map_or(self.text.len(), |(o, _)| *o)
    }

    fn token(&mut self, last: Kind) -> Result<Option<Token>, Fault> {
        while self.chars.get(self.at).is_some_and(|(_, c)| c.is_whitespace()) {
            self.at += 1;
        }
        let Some(&(start, c)) = self.chars.get(self.at) else { return Ok(None) };
        let (kind, payload) = if is_numeric(c) {
            self.number(start)?
        } else if c == ',' {
            self.at += 1;
            (Kind::Comma, Payload::None)
        } else if c == '[' {
            self.at += 1;
            let word = self.read(true, false, |c| c != ']')?;
            self.close(start, "this `[` is not closed")?;
            (Kind::Word, Payload::Text(word))
        } else if c.is_alphabetic() {
            self.word(start)?
        } else if is_quote(c) {
            self.at += 1;
            let text = self.read(true, false, |c| !is_quote(c))?;
            self.close(start, "this quote is not closed")?;
            match time::parse(&text) {
                Some(seconds) => (Kind::Time, Payload::Number(seconds)),
                None => (Kind::Text, Payload::Text(text)),
            }
        } else if c == '(' || c == ')' {
            self.at += 1;
            (if c == '(' { Kind::Open } else { Kind::Close }, Payload::None)
        } else {
            self.symbol(start, last)?
        };
        let mut end = self.offset(self.at);
        end = start + self.text[start..end].trim_end().len();
        Ok(Some(Token { kind, payload, range: start..end }))
    }

    /// Steps over the closing character that [`Stream::read`] stopped at.
    fn close(&mut self, start: usize, message: &str) -> Result<(), Fault> {
        if self.at >= self.chars.len() {
            return Err(Fault::new(message, start..start + 1));
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self, start: usize) -> Result<(Kind, Payload), Fault> {
        let is = |at: usize, c: char| self.chars.get(at).is_some_and(|(_, x)| *x == c);
        let (text, value) = if is(self.at, '0') && is(self.at + 1, 'x') {
            self.at += 2;
            let text = self.read(false, true, |c| c.is_numeric() || matches!(c.to_ascii_lowercase(), 'a'..='f'))?;
            let value = u64::from_str_radix(&text, 16).ok().filter(|_| !text.starts_with('+')).map(|v| v as f64);
            (format!("0x{text}"), value)
        } else {
            let text = self.read(false, true, is_numeric)?;
            let value = text.parse::<f64>().ok().filter(|v| v.is_finite());
            (text, value)
        };
        match value {
            Some(value) => Ok((Kind::Number, Payload::Number(value))),
            None => Err(Fault::new(
                format!("`{text}` is not a number; text needs quotes"),
                start..start + self.text[start..self.offset(self.at)].trim_end().len(),
            )),
        }
    }

    fn word(&mut self, start: usize) -> Result<(Kind, Payload), Fault> {
        let word = self.read(false, true, |c| c.is_alphabetic() || c.is_numeric() || c == '_' || c == '.')?;
        Ok(match word.as_str() {
            "true" => (Kind::Bool, Payload::Bool(true)),
            "false" => (Kind::Bool, Payload::Bool(false)),
            "in" | "IN" => (Kind::Comparator, Payload::Text("in".to_owned())),
            _ if word.contains('.') => {
                let hidden = |part: &str| part.chars().next().is_none_or(|c| c.to_uppercase().next() != Some(c));
                if word.split('.').skip(1).any(hidden) {
                    let message = format!("`{word}` has a dot, so it is no plain word; put it in quotes");
                    return Err(Fault::new(message, start..self.offset(self.at)));
                }
                (Kind::Dotted, Payload::Text(word))
            }
            _ => (Kind::Word, Payload::Text(word)),
        })
    }

    fn symbol(&mut self, start: usize, last: Kind) -> Result<(Kind, Payload), Fault> {
        let symbol = self.read(false, true, |c| {
            !(c.is_numeric() || c.is_alphabetic() || matches!(c, '(' | ')' | '[' | ']') || is_quote(c))
        })?;
        let prefix_fits = matches!(
            last,
            Kind::Start | Kind::Open | Kind::Modifier | Kind::Comparator | Kind::Logical | Kind::Ternary | Kind::Comma
        );
        let kind = match symbol.as_str() {
            "-" | "!" | "~" if prefix_fits => Kind::Prefix,
            "+" | "-" | "*" | "/" | "%" | "**" | "&" | "|" | "^" | ">>" | "<<" => Kind::Modifier,
            "&&" | "||" => Kind::Logical,
            "==" | "!=" | ">" | ">=" | "<" | "<=" | "=~" | "!~" => Kind::Comparator,
            "?" | ":" | "??" => Kind::Ternary,
            _ => {
                let end = start + self.text[start..self.offset(self.at)].trim_end().len();
                let range = start..end;
                return Err(Fault::new(format!("Invalid token: '{symbol}'"), range));
            }
        };
        Ok((kind, Payload::Text(symbol)))
    }

    /// Reads while `fits`; a backslash takes the next character whatever it is. Blanks end the word, or belong to it.
    fn read(&mut self, blanks: bool, stop_at_blank: bool, fits: impl Fn(char) -> bool) -> Result<String, Fault> {
        let mut out = String::new();
        while let Some(&(offset, c)) = self.chars.get(self.at) {
            self.at += 1;
            if c == '\\' {
                let Some(&(_, escaped)) = self.chars.get(self.at) else {
                    return Err(Fault::new("nothing follows this backslash", offset..offset + 1));
                };
                self.at += 1;
                out.push(escaped);
                continue;
            }
            if c.is_whitespace() {
                if stop_at_blank && !out.is_empty() {
                    break;
                }
                if !blanks {
                    continue;
                }
            }
            if !fits(c) {
                self.at -= 1;
                break;
            }
            out.push(c);
        }
        Ok(out)
    }
}

fn is_numeric(c: char) -> bool {
    c.is_numeric() || c == '.'
}

fn is_quote(c: char) -> bool {
    c == '\'' || c == '"'
}
