//! The Dockerfile as read: stages and their instructions, with places. Reading gives what could be understood *and* every
//! fault. Nothing here expands a variable or opens a file.

mod lines;
mod parse;

use windlass_lang::Span;

pub use parse::{parse, parse_trigger};

/// A Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// `ARG`s before the first `FROM`.
    pub globals: Vec<Arg>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// The escape character: `\` or a backtick.
    pub escape: char,
}

/// A stage: a base and what is done on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// The base as written.
    pub base: String,
    /// `--platform` as written.
    pub platform: Option<String>,
    /// The line without comments and continuations.
    pub text: String,
    /// Where it is.
    pub span: Span,
    /// What is done.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// The line without comments and continuations, for logs and the history.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the instructions'")]
pub enum Kind {
    Arg(Vec<Arg>),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Copy(Transfer),
    Add(Transfer),
    Run(Run),
    Workdir(String),
    User(String),
    Expose(Vec<String>),
    Volume(Vec<String>),
    StopSignal(String),
    Shell(Vec<String>),
    Cmd(Command),
    Entrypoint(Command),
    Healthcheck(Healthcheck),
    Maintainer(String),
    OnBuild(String),
}

/// One name of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// The default as written.
    pub default: Option<String>,
}

/// `COPY` or `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The sources as written, without heredocs.
    pub sources: Vec<String>,
    /// Files written in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// The destination as written.
    pub dest: String,
    /// `--from`
    pub from: Option<String>,
    /// `--chown`
    pub chown: Option<String>,
    /// `--chmod`
    pub chmod: Option<String>,
    /// `--exclude`
    pub exclude: Vec<String>,
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; with heredocs still in it.
    pub command: Command,
    /// Texts after the line.
    pub heredocs: Vec<Heredoc>,
    /// `--network=none`
    pub no_network: bool,
}

/// A text in the Dockerfile itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// Its end mark, which is also its file name.
    pub name: String,
    /// Variables in it are expanded: the mark is not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub strip: bool,
    /// The lines, each with its end.
    pub body: String,
}

/// A command in one of the two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// One text for the shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// The command; none for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// `--interval` in nanoseconds.
    pub interval_ns: Option<u64>,
    /// `--timeout` in nanoseconds.
    pub timeout_ns: Option<u64>,
    /// `--start-period` in nanoseconds.
    pub start_period_ns: Option<u64>,
    /// `--start-interval` in nanoseconds.
    pub start_interval_ns: Option<u64>,
    /// `--retries`
    pub retries: Option<u64>,
}

impl Dockerfile {
    /// The stage that this text names, by name or number, among those before `before`.
    pub fn stage(&self, named: &str, before: usize) -> Option<usize> {
        let before = before.min(self.stages.len());
        let lower = named.to_lowercase();
        let by_name = self.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(&lower));
        by_name.or_else(|| named.parse::<usize>().ok().filter(|at| *at < before))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use windlass_lang::Sources;

    /// Each file of `tests/dockerfiles`: what was understood, and all faults as the user sees them.
    #[test]
    fn files() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dockerfiles");
        let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "Dockerfile"));
        paths.sort();
        assert!(paths.len() >= 4);
        for path in paths {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut sources = Sources::default();
            let id = sources.add("Dockerfile", &text);
            let (file, faults) = super::parse(&text, id);
            let mut shown = format!("globals: {:?}\n", file.globals);
            for stage in &file.stages {
                shown += &format!("stage {:?} on {:?} {:?}\n", stage.name, stage.base, stage.platform);
                for instruction in &stage.instructions {
                    shown += &format!("  {:?}\n", instruction.kind);
                }
            }
            shown += &windlass_lang::render(&faults, &sources, false);
            insta::with_settings!({ snapshot_path => "../../tests/dockerfiles", prepend_module_to_snapshot => false }, {
                insta::assert_snapshot!(name, shown);
            });
        }
    }

    /// Any cut of any text is read without a panic.
    #[test]
    fn cuts() {
        let text = include_str!("../../tests/dockerfiles/good.Dockerfile").to_owned()
            + include_str!("../../tests/dockerfiles/bad.Dockerfile");
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let _ = super::parse(&text[..at], Default::default());
            let _ = super::parse(&text[at..], Default::default());
        }
    }
}
