//! One case of `windlass test` as people read it: a line when it passed; else its faults, and the nodes as they came.

use anstyle::AnsiColor;
use windlass_lang::Sources;
use windlass_rehearsal::Outcome;

use super::{Look, tree};

/// The whole text. `always` draws the nodes of a case that passed, too.
pub(crate) fn draw(name: &str, outcome: &Outcome, sources: &Sources, look: Look, always: bool) -> String {
    let (icon, color) = match (outcome.passed(), look.utf8) {
        (true, true) => ("✔", AnsiColor::Green),
        (true, false) => ("ok", AnsiColor::Green),
        (false, true) => ("✖", AnsiColor::Red),
        (false, false) => ("FAILED", AnsiColor::Red),
    };
    let pods = match outcome.pods {
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    };
    let mut out = format!("{} {name}  ({:#}, {pods})\n", look.paint(icon, color), outcome.took);
    if !outcome.faults.is_empty() {
        out.push('\n');
        for line in windlass_lang::render(&outcome.faults, sources, look.color).lines() {
            out.push_str(&indented(line));
        }
    }
    if let Some(wf) = outcome.workflow.as_ref().filter(|_| always || !outcome.passed()) {
        let phase = wf.status.as_ref().map(|s| s.phase).unwrap_or_default();
        let message = wf.status.as_ref().and_then(|s| s.message.as_deref());
        out.push_str(&format!("\n  what came: {phase}{}\n", message.map(|m| format!(" ({m})")).unwrap_or_default()));
        for line in tree::draw_without_pods(wf, look, outcome.ended).lines() {
            out.push_str(&indented(line));
        }
        out.push('\n');
    }
    out
}

fn indented(line: &str) -> String {
    if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }
}
