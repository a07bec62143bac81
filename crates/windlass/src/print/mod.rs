//! What people read: the layout of `argo`, times in words, colour on a terminal only. Text in, text out; no verb here.

pub(crate) mod cron;
pub(crate) mod explanation;
pub(crate) mod list;
pub(crate) mod past;
pub(crate) mod rehearsal;
pub(crate) mod retry;
pub(crate) mod time;
pub(crate) mod tree;
pub(crate) mod workflow;

use anstyle::{AnsiColor, Style};
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow, WorkflowPhase};

/// How things are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// With colour.
    pub(crate) color: bool,
    /// With box characters and icons.
    pub(crate) utf8: bool,
    /// How much is told of each node.
    pub(crate) columns: Columns,
}

/// The columns of the node tree.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Columns {
    /// STEP TEMPLATE PODNAME DURATION MESSAGE
    #[default]
    Plain,
    /// And NODENAME.
    Short,
    /// And ARTIFACTS, RESOURCESDURATION, NODENAME.
    Wide,
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

    /// The icon of a node: a suspend node that waits for somebody has one of its own.
    pub(crate) fn icon_of(self, node: &NodeStatus) -> String {
        match is_waiting(node) {
            true if self.utf8 => self.paint("ǁ", AnsiColor::Cyan),
            _ => self.icon(node.phase),
        }
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

fn is_waiting(node: &NodeStatus) -> bool {
    node.type_ == NodeType::Suspend && node.phase == NodePhase::Running
}

/// A workflow's phase in words: one that somebody has to resume says so.
pub(crate) fn status(wf: &Workflow) -> String {
    let status = wf.status.as_ref();
    match status.map(|s| s.phase).unwrap_or_default() {
        WorkflowPhase::Unknown => "Pending".to_owned(),
        WorkflowPhase::Running
            if wf.spec.suspend == Some(true) || status.is_some_and(|s| s.nodes.values().any(is_waiting)) =>
        {
            "Running (Suspended)".to_owned()
        }
        phase => phase.to_string(),
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
