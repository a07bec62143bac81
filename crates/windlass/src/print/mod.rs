//! What people read: the layout of `argo`, times in words, colour on a terminal only. Text in, text out; no verb here.

pub(crate) mod list;
pub(crate) mod time;
pub(crate) mod tree;
pub(crate) mod workflow;

use anstyle::{AnsiColor, Style};
use windlass_model::NodePhase;

/// How things are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// With colour.
    pub(crate) color: bool,
    /// With box characters and icons.
    pub(crate) utf8: bool,
}

impl Look {
    /// The icon of a phase, or its name without UTF-8.
    pub(crate) fn icon(self, phase: NodePhase) -> String {
        let (icon, color) = match phase {
            NodePhase::Pending => ("◷", AnsiColor::Yellow),
            NodePhase::Running => ("●", AnsiColor::Cyan),
            NodePhase::Succeeded => ("✔", AnsiColor::Green),
            NodePhase::Skipped | NodePhase::Omitted => ("○", AnsiColor::White),
            NodePhase::Failed => ("✖", AnsiColor::Red),
            NodePhase::Error => ("⚠", AnsiColor::Red),
            NodePhase::Unknown => ("?", AnsiColor::White),
        };
        let text = if self.utf8 { icon.to_owned() } else { phase.to_string() };
        self.paint(&text, color)
    }

    /// Text in a colour, where there is colour.
    pub(crate) fn paint(self, text: &str, color: AnsiColor) -> String {
        if !self.color {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(color.into()));
        format!("{style}{text}{style:#}")
    }
}

/// Columns padded to the widest cell, two blanks between them, as Go's tabwriter draws them for `argo`.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let width = |s: &str| unicode_width::UnicodeWidthStr::width(anstream::adapter::strip_str(s).to_string().as_str());
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..count).map(|i| rows.iter().filter_map(|r| r.get(i)).map(|c| width(c)).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                line.push_str(&" ".repeat(widths[i] - width(cell) + 2));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// YAML for people who edit.
pub(crate) fn yaml(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}
