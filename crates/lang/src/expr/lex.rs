//! Words of an expression.

use std::ops::Range;

use crate::source::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// Operators, brackets, and words that are operators.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 40] = [
    "...", "?.", "??", "::", "..", "||", "&&", "==", "!=", ">=", "<=", "**", "(", ")", "[", "]", "{", "}", ",", ":",
    "?", "|", "<", ">", "+", "-", "*", "/", "%", "^", "!", "#", ".", ";", "=", "&", "~", "@", "$", "\u{0}",
];
const WORDS: [&str; 11] =
    ["in", "or", "and", "matches", "contains", "startsWith", "endsWith", "not", "let", "if", "else"];

pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, Fault> {
    let mut out: Vec<(Token, Range<usize>)> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            at += rest.find("*/").map(|i| i + 2).ok_or_else(|| Fault::new("this comment is not closed", at..at + 2))?;
            continue;
        }
        let token = if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
            let len = number_len(rest);
            at += len;
            number(&rest[..len]).ok_or_else(|| Fault::new(format!("`{}` is not a number", &rest[..len]), start..at))?
        } else if matches!(c, '"' | '\'' | '`') {
            let (token, len) = text_token(rest, c).map_err(|m| Fault::new(m, start..start + 1))?;
            at += len;
            token
        } else if c.is_alphabetic() || c == '_' || c == '$' {
            let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            at += len;
            let word = &rest[..len];
            // Behind a dot every word is a field.
            let field = matches!(out.last(), Some((Token::Sign("." | "?."), _)));
            match WORDS.iter().find(|w| **w == word && !field) {
                Some(word) => Token::Sign(word),
                None => Token::Name(word.to_owned()),
            }
        } else {
            let sign = SIGNS.iter().find(|s| {
                rest.starts_with(**s) && !s.starts_with(['\u{0}', '@', '~', '&'])
                    || (**s == "&&" && rest.starts_with("&&"))
            });
            match sign {
                Some(sign) => {
                    at += sign.len();
                    Token::Sign(sign)
                }
                None => return Err(Fault::new(format!("`{c}` has no meaning here"), at..at + c.len_utf8())),
            }
        };
        out.push((token, start..at));
    }
    out.push((Token::End, text.len()..text.len()));
    Ok(out)
}

fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let lower = rest.get(..2).map(str::to_ascii_lowercase);
    if matches!(lower.as_deref(), Some("0x" | "0b" | "0o")) {
        return 2 + rest[2..].find(|c: char| !c.is_ascii_hexdigit() && c != '_').unwrap_or(rest.len() - 2);
    }
    let digits = |mut i: usize| {
        while i < bytes.len() && (bytes[i].is_ascii_digit() || bytes[i] == b'_') {
            i += 1;
        }
        i
    };
    let mut end = digits(0);
    // `1..3` is a range.
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let mut exponent = end + 1;
        if matches!(bytes.get(exponent), Some(b'+' | b'-')) {
            exponent += 1;
        }
        end = digits(exponent);
    }
    // Letters right behind make it no number.
    end + rest[end..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - end)
}

fn number(text: &str) -> Option<Token> {
    let plain = text.replace('_', "").to_ascii_lowercase();
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(Token::Int);
    match plain.get(..2) {
        Some("0x") => radix(&plain[2..], 16),
        Some("0b") => radix(&plain[2..], 2),
        Some("0o") => radix(&plain[2..], 8),
        _ if plain.contains(['.', 'e']) => plain.parse().ok().filter(|f: &f64| f.is_finite()).map(Token::Float),
        _ => plain.parse().ok().map(Token::Int),
    }
}

/// A quoted text and the bytes it takes.
fn text_token(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if quote == '`' && chars.peek().is_some_and(|(_, c)| *c == '`') {
                chars.next();
                out.push('`');
                continue;
            }
            return Ok((Token::Text(out), at + 1));
        }
        if c != '\\' || quote == '`' {
            if c == '\n' && quote != '`' {
                return Err("this quote is not closed on its line".to_owned());
            }
            out.push(c);
            continue;
        }
        let Some((_, escape)) = chars.next() else { break };
        let mut hex = |count: usize| {
            let digits: String = chars.by_ref().take(count).map(|(_, c)| c).collect();
            let good = digits.len() == count && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let code = u32::from_str_radix(&digits, 16).ok().filter(|_| good);
            code.and_then(char::from_u32).ok_or_else(|| format!("`\\{escape}{digits}` is no escape"))
        };
        out.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => escape,
            'x' | 'X' => hex(2)?,
            'u' => hex(4)?,
            'U' => hex(8)?,
            '0'..='3' => {
                let more: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                let code = u32::from_str_radix(&format!("{escape}{more}"), 8).ok().filter(|_| more.len() == 2);
                code.and_then(char::from_u32).ok_or_else(|| format!("`\\{escape}{more}` is no escape"))?
            }
            _ => return Err(format!("`\\{escape}` is no escape")),
        });
    }
    Err("this quote is not closed".to_owned())
}
