//! From words to a tree: precedence climbing with expr-lang's levels. Nesting is bounded.

use std::ops::Range;

use super::Name;
use super::lex::{Token, tokens};
use super::value::Value;
use crate::source::Fault;

/// Deepest nesting.
const DEPTH_MAX: usize = 60;
/// Longest expression in words; bounds the depth of chains.
const WORDS_MAX: usize = 4_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Constant(Value),
    Name(String),
    /// `#`, `#index`, `#acc`
    Pointer(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Plus(Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    /// `a < b <= c`: each neighbours' comparison must hold.
    Member {
        of: Box<Node>,
        key: Box<Node>,
        optional: bool,
    },
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    Let(String, Box<Node>, Box<Node>),
    /// `a; b`: the last one counts.
    Sequence(Vec<Node>),
    /// A built-in: `trim(x)`, `x | trim()`.
    Call(String, Vec<Node>),
    /// A function in a map: `sprig.trim(x)`.
    Method(Box<Node>, Vec<Node>),
    /// The `?.` chain around it ends here.
    Chain(Box<Node>),
}

/// Built-ins whose second argument is evaluated for each item.
pub(super) const PREDICATES: [&str; 16] = [
    "all",
    "none",
    "any",
    "one",
    "filter",
    "map",
    "count",
    "sum",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "groupBy",
    "sortBy",
    "reduce",
    "countBy",
];

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let tokens = tokens(text)?;
    if tokens.len() > WORDS_MAX {
        return Err(Fault::new("this expression is too long", 0..text.len()));
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, closures: 0 };
    let node = parser.sequence()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
    closures: usize,
}

fn precedence(sign: &str) -> Option<(u32, bool)> {
    Some(match sign {
        "|" => (0, false),
        "or" | "||" => (10, false),
        "and" | "&&" => (15, false),
        "==" | "!=" | "<" | ">" | ">=" | "<=" | "in" | "matches" | "contains" | "startsWith" | "endsWith" => {
            (20, false)
        }
        ".." => (25, false),
        "+" | "-" => (30, false),
        "*" | "/" | "%" => (60, false),
        "**" | "^" => (100, true),
        "??" => (500, false),
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(t, _)| t)
    }

    fn here(&self) -> Range<usize> {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0..0, |(_, r)| r.clone())
    }

    fn sign(&self) -> Option<&'static str> {
        match self.peek() {
            Token::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.sign() == Some(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::End => "the end".to_owned(),
            Token::Sign(s) => format!("`{s}`"),
            Token::Name(n) => format!("`{n}`"),
            Token::Int(n) => format!("`{n}`"),
            Token::Float(n) => format!("`{n}`"),
            Token::Text(_) => "a text".to_owned(),
        };
        Fault::new(format!("expected {wanted}, found {found}"), self.here())
    }

    fn sequence(&mut self) -> Result<Node, Fault> {
        let first = self.expression(0)?;
        let start = first.range.start;
        let mut nodes = vec![first];
        while self.eat(";") {
            if matches!(self.peek(), Token::End) {
                break;
            }
            nodes.push(self.expression(0)?);
        }
        Ok(match nodes.len() {
            1 => nodes.remove(0),
            _ => Node { range: start..self.end(), kind: Kind::Sequence(nodes) },
        })
    }

    /// Where the last word ended.
    fn end(&self) -> usize {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(0, |(_, r)| r.end)
    }

    fn node(&self, start: usize, kind: Kind) -> Node {
        Node { kind, range: start..self.end().max(start) }
    }

    fn expression(&mut self, least: u32) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new("this expression is nested too deeply", self.here()));
        }
        let node = self.expression_inner(least);
        self.depth -= 1;
        node
    }

    fn expression_inner(&mut self, least: u32) -> Result<Node, Fault> {
        let start = self.here().start;
        if least == 0 && self.eat("let") {
            let name = self.name()?;
            self.expect("=")?;
            let value = self.expression(0)?;
            self.expect(";")?;
            let body = self.sequence()?;
            return Ok(self.node(start, Kind::Let(name, Box::new(value), Box::new(body))));
        }
        if least == 0 && self.eat("if") {
            return self.condition(start);
        }
        let mut left = self.primary()?;
        let mut before = "";
        while let Some(mut sign) = self.sign() {
            let mut negated = false;
            if sign == "not" {
                let next = self.tokens.get(self.at + 1).map(|(t, _)| t);
                match next {
                    Some(Token::Sign(s @ ("contains" | "matches" | "startsWith" | "endsWith" | "in"))) => {
                        if 20 < least {
                            break;
                        }
                        negated = true;
                        sign = s;
                    }
                    _ => return Err(self.unexpected("an operator")),
                }
            }
            let Some((level, right)) = precedence(sign).filter(|(level, _)| *level >= least) else { break };
            let at = self.here();
            self.at += 1 + usize::from(negated);
            if sign == "|" {
                let name_start = self.here();
                let name = self.name()?;
                if !matches!(self.sign(), Some("(")) {
                    return Err(self.unexpected("`(`"));
                }
                left = self.call(name, name_start.start, vec![left])?;
                left = self.postfix(left)?;
                before = sign;
                continue;
            }
            if before == "??" && sign != "??" {
                let message = format!("`{sign}` and `??` need brackets to be mixed");
                return Err(Fault::new(message, at));
            }
            before = sign;
            if matches!(sign, "<" | ">" | "<=" | ">=") {
                left = self.comparison(left, sign, level, start)?;
                continue;
            }
            let operand = self.expression(if right { level } else { level + 1 })?;
            left = self.node(start, Kind::Binary(sign, Box::new(left), Box::new(operand)));
            if negated {
                left = self.node(start, Kind::Not(Box::new(left)));
            }
        }
        if least == 0 {
            while self.eat("?") {
                let (yes, no) = if self.eat(":") {
                    (left.clone(), self.expression(0)?)
                } else {
                    let yes = self.expression(0)?;
                    self.expect(":")?;
                    (yes, self.expression(0)?)
                };
                left = self.node(start, Kind::Choice(Box::new(left), Box::new(yes), Box::new(no)));
            }
        }
        Ok(left)
    }

    /// `a < b < c` is `a < b && b < c`.
    fn comparison(&mut self, left: Node, sign: &'static str, level: u32, start: usize) -> Result<Node, Fault> {
        let mut middle = self.expression(level + 1)?;
        let mut all = self.node(start, Kind::Binary(sign, Box::new(left), Box::new(middle.clone())));
        while let Some(sign @ ("<" | ">" | "<=" | ">=")) = self.sign() {
            self.at += 1;
            let next = self.expression(level + 1)?;
            let more = self.node(start, Kind::Binary(sign, Box::new(middle), Box::new(next.clone())));
            all = self.node(start, Kind::Binary("&&", Box::new(all), Box::new(more)));
            middle = next;
        }
        Ok(all)
    }

    fn condition(&mut self, start: usize) -> Result<Node, Fault> {
        let condition = self.expression(0)?;
        self.expect("{")?;
        let yes = self.sequence()?;
        self.expect("}")?;
        self.expect("else")?;
        let no_start = self.here().start;
        let no = if self.eat("if") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Fault::new("this expression is nested too deeply", self.here()));
            }
            let no = self.condition(no_start)?;
            self.depth -= 1;
            no
        } else {
            self.expect("{")?;
            let no = self.sequence()?;
            self.expect("}")?;
            no
        };
        Ok(self.node(start, Kind::Choice(Box::new(condition), Box::new(yes), Box::new(no))))
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let start = self.here().start;
        match self.peek().clone() {
            Token::Sign(sign @ ("not" | "!" | "-" | "+")) => {
                self.at += 1;
                let operand = Box::new(self.expression(if matches!(sign, "not" | "!") { 50 } else { 90 })?);
                let kind = match sign {
                    "-" => Kind::Negate(operand),
                    "+" => Kind::Plus(operand),
                    _ => Kind::Not(operand),
                };
                let node = self.node(start, kind);
                self.postfix(node)
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.sequence()?;
                self.expect(")")?;
                self.postfix(inner)
            }
            Token::Sign("#") if self.closures > 0 => {
                self.at += 1;
                let name = match self.peek() {
                    Token::Name(name) => name.clone(),
                    _ => String::new(),
                };
                self.at += usize::from(!name.is_empty());
                let node = self.node(start, Kind::Pointer(name));
                self.postfix(node)
            }
            Token::Sign(".") if self.closures > 0 => {
                let node = Node { kind: Kind::Pointer(String::new()), range: start..start };
                self.postfix(node)
            }
            Token::Sign("::") => {
                self.at += 1;
                let name = self.name()?;
                let node = self.call(name, start, Vec::new())?;
                self.postfix(node)
            }
            Token::Name(name) => {
                self.at += 1;
                let constant = match name.as_str() {
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    "nil" => Some(Value::Null),
                    _ => None,
                };
                if let Some(value) = constant {
                    return Ok(self.node(start, Kind::Constant(value)));
                }
                let node = match self.sign() {
                    Some("(") => self.call(name, start, Vec::new())?,
                    _ => self.node(start, Kind::Name(name)),
                };
                self.postfix(node)
            }
            Token::Int(n) => {
                self.at += 1;
                Ok(self.node(start, Kind::Constant(Value::Int(n))))
            }
            Token::Float(n) => {
                self.at += 1;
                Ok(self.node(start, Kind::Constant(Value::Float(n))))
            }
            Token::Text(text) => {
                self.at += 1;
                let node = self.node(start, Kind::Constant(Value::Text(text)));
                self.postfix(node)
            }
            Token::Sign("[") => {
                self.at += 1;
                let items = self.items("]")?;
                let node = self.node(start, Kind::List(items));
                self.postfix(node)
            }
            Token::Sign("{") => {
                self.at += 1;
                let node = self.map(start)?;
                self.postfix(node)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Items up to a closing sign; a comma may end them.
    fn items(&mut self, close: &str) -> Result<Vec<Node>, Fault> {
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.expect(",")?;
                if self.eat(close) {
                    break;
                }
            }
            out.push(self.expression(0)?);
        }
        Ok(out)
    }

    fn map(&mut self, start: usize) -> Result<Node, Fault> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        while !self.eat("}") {
            if !pairs.is_empty() {
                self.expect(",")?;
                if self.eat("}") {
                    break;
                }
            }
            let at = self.here().start;
            let key = match self.peek().clone() {
                Token::Name(text) | Token::Text(text) => {
                    self.at += 1;
                    self.node(at, Kind::Constant(Value::Text(text)))
                }
                Token::Int(n) => {
                    self.at += 1;
                    self.node(at, Kind::Constant(Value::Text(n.to_string())))
                }
                Token::Sign("(") => self.expression(0)?,
                Token::Sign(word) if word.starts_with(|c: char| c.is_alphabetic()) => {
                    self.at += 1;
                    self.node(at, Kind::Constant(Value::from(word)))
                }
                _ => return Err(self.unexpected("a key")),
            };
            self.expect(":")?;
            pairs.push((key, self.expression(0)?));
        }
        Ok(self.node(start, Kind::Map(pairs)))
    }

    fn call(&mut self, name: String, start: usize, mut arguments: Vec<Node>) -> Result<Node, Fault> {
        self.expect("(")?;
        let closure = PREDICATES.contains(&name.as_str());
        while !self.eat(")") {
            if !arguments.is_empty()
                && self.tokens.get(self.at.wrapping_sub(1)).map(|(t, _)| t) != Some(&Token::Sign("("))
            {
                self.expect(",")?;
                if self.eat(")") {
                    break;
                }
            }
            let second = arguments.len() == 1;
            if closure && second {
                let braced = self.eat("{");
                self.closures += 1;
                let body = if braced { self.sequence() } else { self.expression(0) };
                self.closures -= 1;
                arguments.push(body?);
                if braced {
                    self.expect("}")?;
                }
            } else {
                arguments.push(self.expression(0)?);
            }
        }
        Ok(self.node(start, Kind::Call(name, arguments)))
    }

    fn postfix(&mut self, mut node: Node) -> Result<Node, Fault> {
        let start = node.range.start;
        let mut chained = false;
        loop {
            match self.sign() {
                Some(sign @ ("." | "?.")) => {
                    self.at += 1;
                    let optional = sign == "?.";
                    chained |= optional;
                    let at = self.here();
                    let key = if optional && self.sign() == Some("[") {
                        self.at += 1;
                        let key = self.expression(0)?;
                        self.expect("]")?;
                        key
                    } else {
                        match self.peek().clone() {
                            Token::Name(name) => {
                                self.at += 1;
                                Node { kind: Kind::Constant(Value::Text(name)), range: at }
                            }
                            // `.Field` in a closure: the dot belongs to what follows.
                            _ => return Err(self.unexpected("a field's name")),
                        }
                    };
                    node = self.node(start, Kind::Member { of: Box::new(node), key: Box::new(key), optional });
                }
                Some("[") => {
                    self.at += 1;
                    node = self.index(node, start)?;
                }
                Some("(") if matches!(node.kind, Kind::Member { .. }) => {
                    self.at += 1;
                    let arguments = self.items(")")?;
                    node = self.node(start, Kind::Method(Box::new(node), arguments));
                }
                _ => break,
            }
        }
        Ok(if chained { self.node(start, Kind::Chain(Box::new(node))) } else { node })
    }

    fn index(&mut self, of: Node, start: usize) -> Result<Node, Fault> {
        let of = Box::new(of);
        let upper = |parser: &mut Self| {
            let upper = if parser.sign() == Some("]") { None } else { Some(Box::new(parser.expression(0)?)) };
            parser.expect("]")?;
            Ok::<_, Fault>(upper)
        };
        if self.eat(":") {
            let to = upper(self)?;
            return Ok(self.node(start, Kind::Slice(of, None, to)));
        }
        let key = Box::new(self.expression(0)?);
        if self.eat(":") {
            let to = upper(self)?;
            return Ok(self.node(start, Kind::Slice(of, Some(key), to)));
        }
        self.expect("]")?;
        Ok(self.node(start, Kind::Member { of, key, optional: false }))
    }
}

impl Node {
    /// Collects the names taken from outside.
    pub(super) fn names(&self, bound: &mut Vec<String>, optional: bool, out: &mut Vec<Name>) {
        if let Some((path, soft)) = self.path() {
            if !bound.contains(&path[0]) && path[0] != "sprig" && path[0] != "$env" {
                out.push(Name { path, range: self.range.clone(), optional: optional || soft });
            }
            return;
        }
        match &self.kind {
            Kind::Constant(_) | Kind::Name(_) | Kind::Pointer(_) => {}
            Kind::List(items) | Kind::Sequence(items) | Kind::Call(_, items) => {
                items.iter().for_each(|n| n.names(bound, optional, out));
            }
            Kind::Map(pairs) => pairs.iter().for_each(|(k, v)| {
                k.names(bound, optional, out);
                v.names(bound, optional, out);
            }),
            Kind::Not(a) | Kind::Negate(a) | Kind::Plus(a) | Kind::Chain(a) => a.names(bound, optional, out),
            Kind::Binary(sign, a, b) => {
                a.names(bound, optional || *sign == "??", out);
                b.names(bound, optional, out);
            }
            Kind::Member { of, key, .. } => {
                of.names(bound, optional, out);
                key.names(bound, optional, out);
            }
            Kind::Slice(of, from, to) => {
                of.names(bound, optional, out);
                from.iter().chain(to).for_each(|n| n.names(bound, optional, out));
            }
            Kind::Choice(a, b, c) => [a, b, c].iter().for_each(|n| n.names(bound, optional, out)),
            Kind::Let(name, value, body) => {
                value.names(bound, optional, out);
                bound.push(name.clone());
                body.names(bound, optional, out);
                bound.pop();
            }
            Kind::Method(of, arguments) => {
                of.names(bound, optional, out);
                arguments.iter().for_each(|n| n.names(bound, optional, out));
            }
        }
    }

    /// A name with constant text keys, and whether a `?.` is in it.
    fn path(&self) -> Option<(Vec<String>, bool)> {
        match &self.kind {
            Kind::Name(name) => Some((vec![name.clone()], false)),
            Kind::Chain(inner) => inner.path(),
            Kind::Member { of, key, optional } => {
                let Kind::Constant(Value::Text(key)) = &key.kind else { return None };
                let (mut path, soft) = of.path()?;
                path.push(key.clone());
                Some((path, soft || *optional))
            }
            _ => None,
        }
    }
}
