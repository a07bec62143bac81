//! `camelcase`, `kebabcase` and `snakecase`, as Argo's library has them: which letters make a word, and what stands between
//! words. Texts in, texts out.

/// What a run of letters is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Digits.
    Number,
    /// Capitals, or one capital and the small letters behind it.
    Capital,
    /// Small letters.
    Small,
    /// `-`, `_` and blanks.
    Gap,
    /// `.`, `/` and the like.
    Mark,
    /// `=`, `<` and whatever else there is.
    Other,
}

fn is_gap(c: char) -> bool {
    matches!(c, '-' | '_') || c.is_whitespace()
}

/// What Go counts as punctuation, for ASCII.
fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
}

/// Letters of scripts that have words of several letters.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && c < '\u{2e80}'
}

fn kind(c: char) -> Kind {
    match c {
        _ if is_gap(c) => Kind::Gap,
        _ if is_mark(c) => Kind::Mark,
        _ if c.is_uppercase() => Kind::Capital,
        _ if is_letter(c) => Kind::Small,
        _ if c.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

/// The runs of a text. The last of several capitals belongs to the small letters behind it.
fn runs(text: &str) -> Vec<(Kind, String)> {
    let mut out: Vec<(Kind, String)> = Vec::new();
    for c in text.chars() {
        let is = kind(c);
        match out.last_mut() {
            Some((Kind::Capital, word)) if is == Kind::Small => {
                let capital = word.pop();
                let begun: String = capital.into_iter().chain([c]).collect();
                if word.is_empty() {
                    *word = begun;
                } else if capital.is_some_and(char::is_uppercase) {
                    out.push((Kind::Capital, begun));
                } else {
                    word.push_str(&begun);
                }
            }
            Some((Kind::Capital, word)) if is == Kind::Capital && word.chars().all(char::is_uppercase) => word.push(c),
            Some((last, word)) if *last == is && is != Kind::Capital => word.push(c),
            _ => out.push((is, c.to_string())),
        }
    }
    out
}

/// Words in small letters with `gap` between them.
pub(super) fn parted(text: &str, gap: char) -> String {
    let all = runs(text);
    let kind = |i: usize| all.get(i).map(|(kind, _)| *kind);
    let mut out = String::new();
    let write = |out: &mut String, i: usize| match all.get(i) {
        Some((Kind::Gap, word)) => out.extend(word.chars().map(|_| gap)),
        Some((Kind::Capital, word)) => out.extend(word.chars().flat_map(char::to_lowercase)),
        Some((_, word)) => out.push_str(word),
        None => {}
    };
    // Before a gap or a mark, and at the end, nothing is put between.
    let part = |out: &mut String, i: usize| {
        if kind(i).is_some_and(|k| !matches!(k, Kind::Gap | Kind::Mark)) {
            out.push(gap);
        }
    };
    // Small letters and digits behind a number go with it.
    let run_on = |out: &mut String, mut i: usize| {
        while matches!(kind(i), Some(Kind::Small | Kind::Number)) {
            write(out, i);
            i += 1;
        }
        part(out, i);
        i
    };
    let mut i = 0;
    while i + 1 < all.len() {
        let was = all[i].0;
        write(&mut out, i);
        i += 1;
        match was {
            Kind::Gap | Kind::Mark => {}
            Kind::Number => i = run_on(&mut out, i),
            _ if kind(i) != Some(Kind::Number) => part(&mut out, i),
            // A number at the very end, or before anything but small letters, belongs to the word before it.
            _ if i + 1 == all.len() => {}
            _ if kind(i + 1) == Some(Kind::Small) => {
                out.push(gap);
                write(&mut out, i);
                i = run_on(&mut out, i + 1);
            }
            _ => {
                write(&mut out, i);
                i += 1;
                part(&mut out, i);
            }
        }
    }
    write(&mut out, i);
    out
}

/// Words with a capital each and nothing between them; gaps at the beginning stay.
pub(super) fn joined(text: &str) -> String {
    let begin = text.find(|c| !is_gap(c)).unwrap_or(text.len());
    let mut out = text[..begin].to_owned();
    let mut chars = text[begin..].chars();
    let Some(first) = chars.next() else { return out };
    // Capitals behind a first capital are made small.
    let mut shouting = first.is_uppercase();
    let mut held: Vec<char> = first.to_uppercase().collect();
    for c in chars {
        let gap_before = held.first().is_some_and(|h| is_gap(*h));
        if gap_before && is_gap(c) {
            out.extend(held.drain(..));
            held.push(c);
        } else if gap_before {
            shouting = c.is_uppercase();
            held = c.to_uppercase().collect();
        } else {
            out.extend(held.drain(..));
            let small = shouting && c.is_uppercase();
            shouting = small;
            if small { held.extend(c.to_lowercase()) } else { held.push(c) }
        }
    }
    out.extend(held);
    out
}
