//! Which nodes a key of a case file names: by path, by name, by template, and how near that is. Reads rows; knows no run.

use windlass_model::{NodeStatus, NodeType};

/// A node as keys see it.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `@[0].build(0:a)`: the full name with the workflow's as `@`, without the number of an attempt.
    path: String,
    display: String,
    template: Option<String>,
    /// With the number of the attempt, where it is one.
    attempt: Option<(String, String)>,
}

/// The name without what a loop or a retry put in brackets behind it.
fn base(name: &str) -> &str {
    match name.strip_suffix(')').and_then(|n| n.find('(').map(|at| &n[..at])) {
        Some(base) if !base.is_empty() => base,
        _ => name,
    }
}

/// The path without the last brackets.
fn without_item(path: &str) -> &str {
    if !path.ends_with(')') {
        return path;
    }
    // An item's text may hold brackets of its own; its number comes first.
    let numbered = |at: &usize| {
        let rest = &path[at + 1..];
        rest.find(':').is_some_and(|colon| colon > 0 && rest[..colon].bytes().all(|b| b.is_ascii_digit()))
    };
    let opening = path.match_indices('(').map(|(at, _)| at).rfind(numbered);
    opening.map_or(path, |at| &path[..at])
}

impl Names {
    pub(crate) fn of(row: &NodeStatus, workflow: &str) -> Self {
        let full = match row.name.strip_prefix(workflow) {
            Some(rest) => format!("@{rest}"),
            None => row.name.clone(),
        };
        let retried = row.node_flag.as_ref().is_some_and(|f| f.retried);
        let (path, display, attempt) = match retried {
            true => {
                let cut = |s: &str| s.rfind('(').map_or(s, |at| &s[..at]).to_owned();
                (cut(&full), cut(&row.display_name), Some((full, row.display_name.clone())))
            }
            false => (full, row.display_name.clone(), None),
        };
        let template = row.template_ref.as_ref().map(|r| r.template.clone()).or_else(|| row.template_name.clone());
        Self { path, display, template: template.filter(|_| row.type_ != NodeType::StepGroup), attempt }
    }

    /// How near a key is to this node; nothing when it is another's.
    pub(crate) fn rank(&self, key: &str) -> Option<u8> {
        if let Some((path, display)) = &self.attempt
            && (key == path || key == display)
        {
            return Some(6);
        }
        if key == self.path {
            Some(5)
        } else if key == without_item(&self.path) {
            Some(4)
        } else if key == self.display {
            Some(3)
        } else if key == base(&self.display) {
            Some(2)
        } else if self.template.as_deref() == Some(key) {
            Some(1)
        } else {
            None
        }
    }

    /// The name under which attempts of one node are counted together.
    pub(crate) fn together(&self) -> &str {
        &self.path
    }
}

/// The nodes that an expectation's key names: those it is nearest to. Attempts of a retry are meant by their own names
/// only.
pub(crate) fn named<'a>(rows: impl Iterator<Item = &'a NodeStatus>, workflow: &str, key: &str) -> Vec<&'a NodeStatus> {
    let mut found: Vec<(u8, &NodeStatus)> = rows
        .filter_map(|row| {
            let names = Names::of(row, workflow);
            let rank = names.rank(key)?;
            (names.attempt.is_none() || rank == 6).then_some((rank, row))
        })
        .collect();
    let best = found.iter().map(|(rank, _)| *rank).max().unwrap_or(0);
    found.retain(|(rank, _)| *rank == best);
    found.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::status::NodeFlag;

    fn row(name: &str, display: &str, template: &str, retried: bool) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            display_name: display.into(),
            template_name: Some(template.into()),
            node_flag: retried.then_some(NodeFlag { retried, hooked: false }),
            ..NodeStatus::default()
        }
    }

    #[test]
    fn nearer_names_count_more() {
        let item = Names::of(&row("wf[1].build(0:a.b(c))", "build(0:a.b(c))", "compile", false), "wf");
        let ranks = ["@[1].build(0:a.b(c))", "@[1].build", "build(0:a.b(c))", "build", "compile", "other"];
        let ranks: Vec<Option<u8>> = ranks.iter().map(|k| item.rank(k)).collect();
        assert_eq!(ranks, [Some(5), Some(4), Some(3), Some(2), Some(1), None]);
        let attempt = Names::of(&row("wf.test(0:x)(2)", "test(0:x)(2)", "t", true), "wf");
        assert_eq!(attempt.rank("test(0:x)(2)"), Some(6));
        assert_eq!(attempt.rank("@.test"), Some(4));
        assert_eq!(attempt.together(), "@.test(0:x)");
        assert_eq!(Names::of(&row("wf", "wf", "main", false), "wf").rank("@"), Some(5));
    }
}
