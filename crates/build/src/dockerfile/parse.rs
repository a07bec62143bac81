//! Lines become instructions. Every fault is reported, and reading goes on behind it. Never accepts what would not be done.

use std::ops::Range;

use windlass_lang::{Diagnostic, SourceId, suggest::nearest};

use super::lines::{self, Line};
use super::{Arg, Command, Dockerfile, Healthcheck, Instruction, Kind, Run, Stage, Transfer};

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile: what could be understood, and all faults.
pub fn parse(text: &str, source: SourceId) -> (Dockerfile, Vec<Diagnostic>) {
    let lines::Read { lines, escape, faults } = lines::read(text, source);
    let mut parser = Parser { escape, faults, file: Dockerfile { escape, ..Dockerfile::default() } };
    let empty = lines.is_empty();
    for line in &lines {
        parser.line(line);
    }
    if empty {
        parser.faults.push(Diagnostic::error("dockerfile::empty", "the Dockerfile has no instruction"));
    } else if parser.file.stages.is_empty() && parser.faults.is_empty() {
        let fault = Diagnostic::error("dockerfile::no-from", "the Dockerfile has no FROM");
        parser.faults.push(fault.at(lines[0].whole(), "").help("begin with `FROM image`, or `FROM scratch`"));
    }
    (parser.file, parser.faults)
}

/// Reads one instruction of a base's `ONBUILD`.
pub fn parse_trigger(text: &str, source: SourceId) -> (Option<Instruction>, Vec<Diagnostic>) {
    let lines::Read { lines, escape, faults } = lines::read(text, source);
    let mut parser = Parser { escape, faults, file: Dockerfile { escape, ..Dockerfile::default() } };
    let instruction = lines.first().and_then(|line| {
        let (word, rest) = split(line);
        parser.instruction(line, &word, rest)
    });
    (instruction, parser.faults)
}

struct Parser {
    escape: char,
    faults: Vec<Diagnostic>,
    file: Dockerfile,
}

/// The instruction's word in capitals, and where the rest is.
fn split(line: &Line) -> (String, Range<usize>) {
    let end = line.text.find(char::is_whitespace).unwrap_or(line.text.len());
    let rest = &line.text[end..];
    let start = end + (rest.len() - rest.trim_start().len());
    (line.text[..end].to_ascii_uppercase(), start..line.text.len())
}

/// A flag: name, value where there is one, place in the line.
struct Flag {
    name: String,
    value: Option<String>,
    range: Range<usize>,
}

impl Parser {
    fn fault(&mut self, code: &'static str, line: &Line, range: Range<usize>, message: impl Into<String>, help: &str) {
        let fault = Diagnostic::error(code, message).at(line.span(range), "");
        self.faults.push(if help.is_empty() { fault } else { fault.help(help) });
    }

    fn line(&mut self, line: &Line) {
        let (word, rest) = split(line);
        if word == "FROM" {
            return self.from(line, rest);
        }
        let Some(instruction) = self.instruction(line, &word, rest) else { return };
        match (self.file.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.instructions.push(instruction),
            (None, Instruction { kind: Kind::Arg(args), .. }) => self.file.globals.extend(args),
            (None, _) => {
                let message = format!("{word} comes before the first FROM");
                self.fault("dockerfile::no-from", line, 0..word.len(), message, "only ARG may come before FROM");
            }
        }
    }

    fn from(&mut self, line: &Line, rest: Range<usize>) {
        let (flags, rest) = self.flags(line, rest);
        let mut platform = None;
        for flag in flags {
            match flag.name.as_str() {
                "platform" => platform = flag.value,
                _ => self.unknown_flag(line, &flag, "FROM", &["platform"]),
            }
        }
        let words = words(&line.text, rest.clone(), self.escape);
        let text = |at: usize| words.get(at).map(|range| line.text[range.clone()].to_owned());
        let base = text(0).unwrap_or_default();
        if words.is_empty() {
            let help = "write `FROM image` or `FROM image AS name`";
            self.fault("dockerfile::from", line, 0..4, "FROM needs an image", help);
        }
        let mut name = None;
        match words.len() {
            0 | 1 => {}
            3 if text(1).is_some_and(|word| word.eq_ignore_ascii_case("as")) => {
                let given = text(2).unwrap_or_default().to_lowercase();
                let first = given.chars().next().is_some_and(|c| c.is_ascii_lowercase());
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
                if !first || !given.chars().all(fits) || given == "scratch" || given == "context" {
                    let message = format!("`{given}` cannot be the name of a stage");
                    let help = "a name starts with a letter and goes on with letters, digits, `-`, `_` and `.`";
                    self.fault("dockerfile::stage-name", line, words[2].clone(), message, help);
                } else if let Some(other) = self.file.stages.iter().find(|s| s.name.as_deref() == Some(&given)) {
                    let fault = Diagnostic::error("dockerfile::stage-name", format!("two stages are named `{given}`"));
                    let fault = fault.at(line.span(words[2].clone()), "").also(other.span, "the first one");
                    self.faults.push(fault);
                }
                name = Some(given);
            }
            _ => {
                let range = words[1].start..rest.end;
                let help = "write `FROM image` or `FROM image AS name`";
                self.fault("dockerfile::from", line, range, "this is not understood after FROM's image", help);
            }
        }
        let (text, span) = (line.text.clone(), line.whole());
        self.file.stages.push(Stage { name, base, platform, text, span, instructions: Vec::new() });
    }

    fn instruction(&mut self, line: &Line, word: &str, rest: Range<usize>) -> Option<Instruction> {
        if !INSTRUCTIONS.contains(&word) {
            let near = nearest(word, INSTRUCTIONS);
            let span = line.span(0..word.len());
            let fault = Diagnostic::error("dockerfile::unknown-instruction", format!("there is no instruction {word}"));
            let fault = fault.at(span, "");
            self.faults.push(match near {
                Some(near) => fault.help(format!("did you mean {near}?")).fix(span, near),
                None => fault.help(format!("instructions are {}", INSTRUCTIONS.join(", "))),
            });
            return None;
        }
        let (flags, rest) = if matches!(word, "COPY" | "ADD" | "RUN" | "HEALTHCHECK") {
            self.flags(line, rest)
        } else {
            (Vec::new(), rest)
        };
        let kind = self.kind(line, word, flags, rest)?;
        let mut text = line.text.clone();
        for heredoc in &line.heredocs {
            text.push_str(&format!("\n{}{}", heredoc.body, heredoc.name));
        }
        Some(Instruction { kind, text, span: line.whole() })
    }

    fn kind(&mut self, line: &Line, word: &str, flags: Vec<Flag>, rest: Range<usize>) -> Option<Kind> {
        let text = &line.text[rest.clone()];
        if text.is_empty() && !(word == "CMD" || word == "ENTRYPOINT") {
            self.fault("dockerfile::argument", line, 0..word.len(), format!("{word} needs an argument"), "");
            return None;
        }
        Some(match word {
            "ARG" => Kind::Arg(self.args(line, rest)?),
            "ENV" => Kind::Env(self.pairs(line, word, rest)?),
            "LABEL" => Kind::Label(self.pairs(line, word, rest)?),
            "COPY" | "ADD" => {
                let transfer = self.transfer(line, word, flags, rest)?;
                if word == "COPY" { Kind::Copy(transfer) } else { Kind::Add(transfer) }
            }
            "RUN" => Kind::Run(self.run(line, flags, rest)),
            "WORKDIR" => Kind::Workdir(text.to_owned()),
            "USER" => Kind::User(text.to_owned()),
            "EXPOSE" => Kind::Expose(text.split_whitespace().map(str::to_owned).collect()),
            "VOLUME" => {
                Kind::Volume(json(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect()))
            }
            "STOPSIGNAL" => Kind::StopSignal(text.to_owned()),
            "SHELL" => match json(text).filter(|list| !list.is_empty()) {
                Some(list) => Kind::Shell(list),
                None => {
                    let help = r#"write it as in `SHELL ["/bin/bash", "-c"]`"#;
                    self.fault("dockerfile::json", line, rest, "SHELL needs a JSON list of strings", help);
                    return None;
                }
            },
            "CMD" => Kind::Cmd(command(text)),
            "ENTRYPOINT" => Kind::Entrypoint(command(text)),
            "HEALTHCHECK" => Kind::Healthcheck(self.healthcheck(line, flags, rest)?),
            "MAINTAINER" => Kind::Maintainer(text.to_owned()),
            "ONBUILD" => {
                let inner = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if matches!(inner.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                    let message = format!("ONBUILD cannot hold {inner}");
                    self.fault("dockerfile::onbuild", line, rest, message, "");
                    return None;
                }
                // Its faults are of interest here, and not where the image is used.
                let start = rest.start;
                let (_, faults) = parse_trigger(text, SourceId::default());
                for mut fault in faults {
                    for label in &mut fault.labels {
                        label.span = line.span(start + label.span.start..start + label.span.end);
                    }
                    fault.fix = None;
                    self.faults.push(fault);
                }
                Kind::OnBuild(text.to_owned())
            }
            _ => return None,
        })
    }

    fn flags(&mut self, line: &Line, mut rest: Range<usize>) -> (Vec<Flag>, Range<usize>) {
        let mut flags = Vec::new();
        while line.text[rest.clone()].starts_with("--") {
            let Some(range) = words(&line.text, rest.clone(), self.escape).into_iter().next() else { break };
            let text = &line.text[range.start + 2..range.end];
            let after = &line.text[range.end..rest.end];
            rest = range.end + (after.len() - after.trim_start().len())..rest.end;
            if text.is_empty() {
                break;
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            flags.push(Flag { name: name.to_owned(), value, range });
        }
        (flags, rest)
    }

    fn unknown_flag(&mut self, line: &Line, flag: &Flag, word: &str, known: &[&str]) {
        let message = format!("{word} has no flag --{}", flag.name);
        let help = match nearest(&flag.name, known.iter().copied()) {
            Some(near) => format!("did you mean --{near}?"),
            None => format!("its flags are {}", known.iter().map(|f| format!("--{f}")).collect::<Vec<_>>().join(", ")),
        };
        self.fault("dockerfile::unknown-flag", line, flag.range.clone(), message, &help);
    }

    fn unsupported(&mut self, line: &Line, range: Range<usize>, what: &str, help: &str) {
        self.fault("dockerfile::unsupported", line, range, format!("{what} is not supported yet"), help);
    }

    fn args(&mut self, line: &Line, rest: Range<usize>) -> Option<Vec<Arg>> {
        let mut args = Vec::new();
        for range in words(&line.text, rest, self.escape) {
            let text = &line.text[range.clone()];
            let (name, default) = match text.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (text, None),
            };
            if name.is_empty() {
                self.fault("dockerfile::argument", line, range, "ARG needs a name before `=`", "");
                return None;
            }
            args.push(Arg { name: name.to_owned(), default });
        }
        Some(args)
    }

    fn pairs(&mut self, line: &Line, word: &str, rest: Range<usize>) -> Option<Vec<(String, String)>> {
        let ranges = words(&line.text, rest.clone(), self.escape);
        let first = ranges.first().map(|range| &line.text[range.clone()])?;
        if !first.contains('=') {
            // The old form: one name, and everything after it.
            let (name, value) = line.text[rest.clone()].split_once(char::is_whitespace).unwrap_or_default();
            if name.is_empty() || value.trim().is_empty() {
                let help = format!("write `{word} NAME=value`");
                self.fault("dockerfile::pair", line, rest, format!("{word} needs a name and a value"), &help);
                return None;
            }
            return Some(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        let mut pairs = Vec::new();
        for range in ranges {
            match line.text[range.clone()].split_once('=') {
                Some((name, value)) if !name.is_empty() => pairs.push((name.to_owned(), value.to_owned())),
                _ => {
                    let message = format!("`{}` is not NAME=value", &line.text[range.clone()]);
                    self.fault("dockerfile::pair", line, range, message, "quote values that have blanks");
                    return None;
                }
            }
        }
        Some(pairs)
    }

    fn transfer(&mut self, line: &Line, word: &str, flags: Vec<Flag>, rest: Range<usize>) -> Option<Transfer> {
        let mut transfer = Transfer { heredocs: line.heredocs.clone(), ..Transfer::default() };
        let known: &[&str] = if word == "COPY" {
            &["from", "chown", "chmod", "exclude", "link"]
        } else {
            &["chown", "chmod", "exclude", "link"]
        };
        for flag in flags {
            let value = flag.value.clone().unwrap_or_default();
            match flag.name.as_str() {
                "from" if word == "COPY" => transfer.from = Some(value),
                "chown" => transfer.chown = Some(value),
                "chmod" => transfer.chmod = Some(value),
                "exclude" => transfer.exclude.push(value),
                "link" => {}
                "parents" | "checksum" | "keep-git-dir" | "unpack" => {
                    let what = format!("{word} --{}", flag.name);
                    self.unsupported(line, flag.range.clone(), &what, "");
                    continue;
                }
                _ => {
                    self.unknown_flag(line, &flag, word, known);
                    continue;
                }
            }
            if flag.value.as_deref().unwrap_or_default().is_empty() && flag.name != "link" {
                self.fault("dockerfile::flag-value", line, flag.range, format!("--{} needs a value", flag.name), "");
            }
        }
        let text = &line.text[rest.clone()];
        let mut list: Vec<String> = json(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
        let heredoc = |word: &String| !line.heredocs.is_empty() && word.starts_with("<<");
        let Some(dest) = list.pop().filter(|_| !list.is_empty()) else {
            let message = format!("{word} needs at least one source and a destination");
            self.fault("dockerfile::argument", line, rest, message, "write `COPY source … destination`");
            return None;
        };
        transfer.dest = dest;
        transfer.sources = list.into_iter().filter(|word| !heredoc(word)).collect();
        if transfer.sources.len() + transfer.heredocs.len() > 1 && !transfer.dest.ends_with('/') && transfer.dest != "."
        {
            let dest = transfer.dest.clone();
            if !dest.contains('$') && dest != ".." && !dest.ends_with("/.") {
                let start = line.text.len() - dest.len().min(line.text.len());
                let message = format!("with more than one source, the destination of {word} is a directory");
                self.fault("dockerfile::destination", line, start..line.text.len(), message, "end it with `/`");
            }
        }
        if word == "ADD" {
            for source in transfer.sources.clone() {
                let git = source.starts_with("git@") || source.starts_with("git://") || source.ends_with(".git");
                if git || source.starts_with("http://") || source.starts_with("https://") {
                    let at = line.text.find(&source).unwrap_or(rest.start);
                    let what = if git { "ADD of a git repository" } else { "ADD of a URL" };
                    let help = "fetch it before the build, into the context, or with a command in RUN";
                    self.unsupported(line, at..at + source.len(), what, help);
                }
            }
        }
        Some(transfer)
    }

    fn run(&mut self, line: &Line, flags: Vec<Flag>, rest: Range<usize>) -> Run {
        let mut no_network = false;
        for flag in flags {
            match (flag.name.as_str(), flag.value.as_deref()) {
                ("network", Some("none")) => no_network = true,
                ("network", Some("default")) | ("security", Some("sandbox")) => {}
                ("mount", value) => {
                    let kind = value.and_then(|v| v.split(',').find_map(|part| part.strip_prefix("type=")));
                    let what = format!("RUN --mount=type={}", kind.unwrap_or("bind"));
                    let help = "nothing would be mounted, so the command would not do what it says";
                    self.unsupported(line, flag.range, &what, help);
                }
                ("network" | "security" | "device", value) => {
                    let what = format!("RUN --{}={}", flag.name, value.unwrap_or_default());
                    self.unsupported(line, flag.range, &what, "");
                }
                _ => self.unknown_flag(line, &flag, "RUN", &["mount", "network", "security"]),
            }
        }
        Run { command: command(&line.text[rest]), heredocs: line.heredocs.clone(), no_network }
    }

    fn healthcheck(&mut self, line: &Line, flags: Vec<Flag>, rest: Range<usize>) -> Option<Healthcheck> {
        let mut check = Healthcheck::default();
        for flag in flags {
            let value = flag.value.clone().unwrap_or_default();
            let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
            let read = match flag.name.as_str() {
                "retries" => value.parse().ok(),
                name if known.contains(&name) => duration_ns(&value),
                _ => {
                    self.unknown_flag(line, &flag, "HEALTHCHECK", &known);
                    continue;
                }
            };
            if read.is_none() {
                let message = format!("`{value}` is not a value for --{}", flag.name);
                self.fault(
                    "dockerfile::flag-value",
                    line,
                    flag.range.clone(),
                    message,
                    "write it as in `30s` or `1m30s`",
                );
            }
            match flag.name.as_str() {
                "interval" => check.interval_ns = read,
                "timeout" => check.timeout_ns = read,
                "start-period" => check.start_period_ns = read,
                "start-interval" => check.start_interval_ns = read,
                _ => check.retries = read,
            }
        }
        let text = &line.text[rest.clone()];
        let (word, after) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match word.to_ascii_uppercase().as_str() {
            "NONE" if after.trim().is_empty() => {}
            "CMD" if !after.trim().is_empty() => check.command = Some(command(after.trim())),
            _ => {
                let help = "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`";
                self.fault("dockerfile::argument", line, rest, "HEALTHCHECK needs CMD or NONE", help);
                return None;
            }
        }
        Some(check)
    }
}

/// A JSON list of strings, if it is one.
fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn command(text: &str) -> Command {
    json(text).map_or_else(|| Command::Shell(text.to_owned()), Command::Exec)
}

/// Words by blanks, where quotes and escapes hold them together; as written.
fn words(text: &str, within: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut quote, mut escaped) = (None, None, false);
    for (at, c) in text[within.clone()].char_indices() {
        let at = within.start + at;
        if !escaped && quote.is_none() && c.is_whitespace() {
            found.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        if escaped {
            escaped = false;
        } else if c == escape && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    found.extend(start.map(|start| start..within.end));
    found
}

/// Go's durations: `1h2m3.5s`, `300ms`.
fn duration_ns(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, ns) = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))?;
        total += number * ns;
        rest = &rest[unit.len()..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations are far below the limit")]
    (!text.is_empty()).then_some(total as u64)
}
