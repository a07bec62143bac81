//! `windlass watch`: the tree, drawn again at each change; on a pipe, the last one only, with a line for each phase.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use windlass_model::Workflow;

use crate::cli::NameArgs;
use crate::connect::{Connection, connect};
use crate::objects;
use crate::print::{Look, workflow};
use crate::start::Session;
use crate::verb::{logs, wait};

pub(super) async fn run(session: &Session, args: NameArgs) -> Result<ExitCode> {
    let connection = connect(&session.global).await?;
    let name = objects::resolve(&connection, &args.name).await?;
    let wf = follow(&connection, &name, session.look).await?;
    Ok(if objects::succeeded(&wf) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Shows a workflow until it has ended, then what went wrong in it.
pub(super) async fn follow(connection: &Connection, name: &str, look: Look) -> Result<Workflow> {
    let mut screen = Screen::new();
    let mut notes = wait::Notes::default();
    let each = |wf: &Workflow| if screen.live { screen.show(wf, look) } else { notes.tell(wf) };
    let wf = wait::until_ended(connection, name, each).await?;
    screen.finish(&wf, look);
    logs::print_failures(connection, &wf, look).await;
    Ok(wf)
}

/// A part of the terminal that is drawn over and over.
pub(super) struct Screen {
    live: bool,
    lines: usize,
    last: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { live: std::io::stdout().is_terminal(), lines: 0, last: String::new() }
    }

    pub(super) fn show(&mut self, wf: &Workflow, look: Look) {
        self.draw(&workflow::draw(wf, look, Timestamp::now()));
    }

    pub(super) fn finish(&mut self, wf: &Workflow, look: Look) {
        let text = workflow::draw(wf, look, Timestamp::now());
        if self.live {
            self.draw(&text);
        } else {
            print!("{text}");
        }
    }

    fn draw(&mut self, text: &str) {
        if text == self.last {
            return;
        }
        let mut out = String::new();
        if self.lines > 0 {
            // Up to where the last drawing began, and clear from there.
            out.push_str(&format!("\x1b[{}A\x1b[J", self.lines));
        }
        // A drawing higher than the window cannot be drawn over: its end is what matters while it runs.
        let height = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(50, |w| usize::from(w.ws_row)).max(8);
        let all: Vec<&str> = text.lines().collect();
        let shown = &all[all.len().saturating_sub(height - 1)..];
        for line in shown {
            out.push_str(line);
            out.push('\n');
        }
        self.lines = shown.len();
        text.clone_into(&mut self.last);
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }
}
