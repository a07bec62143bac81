//! The node tree as `argo get` draws it: step groups are not lines but forks, a Retry with one attempt is drawn
//! as that attempt, omitted nodes are hidden, siblings stand in the order in which they began.

use std::collections::HashSet;

use jiff::Timestamp;
use windlass_engine::manual::Selector;
use windlass_model::{NodePhase, NodeStatus, NodeType, Workflow};

use super::time;
use super::{Columns, Look, columns};

/// Draws the table STEP TEMPLATE PODNAME DURATION MESSAGE. `pod_name` tells the pod of a node.
pub(crate) fn draw(wf: &Workflow, pod_name: &dyn Fn(&NodeStatus) -> String, look: Look, now: Timestamp) -> String {
    draw_selected(wf, &Selector::default(), pod_name, look, now)
}

/// The same of some nodes; what is beneath one that is left out takes its place.
pub(crate) fn draw_selected(
    wf: &Workflow,
    selector: &Selector,
    pod_name: &dyn Fn(&NodeStatus) -> String,
    look: Look,
    now: Timestamp,
) -> String {
    columns(&rows(wf, selector, pod_name, look, now))
}

/// The same for a run that has no pods: without their column.
pub(crate) fn draw_without_pods(wf: &Workflow, look: Look, now: Timestamp) -> String {
    let mut rows = rows(wf, &Selector::default(), &|_| String::new(), look, now);
    for row in rows.iter_mut().filter(|r| r.len() > 2) {
        row.remove(2);
    }
    columns(&rows)
}

fn rows(
    wf: &Workflow,
    selector: &Selector,
    pod_name: &dyn Fn(&NodeStatus) -> String,
    look: Look,
    now: Timestamp,
) -> Vec<Vec<String>> {
    let Some(status) = &wf.status else { return Vec::new() };
    let name = wf.metadata.name.clone().unwrap_or_default();
    let mut drawing = Drawing { wf, selector, pod_name, look, now, rows: Vec::new(), drawn: HashSet::new() };
    let head: &[&str] = match look.columns {
        Columns::Plain => &["STEP", "TEMPLATE", "PODNAME", "DURATION", "MESSAGE"],
        Columns::Short => &["STEP", "TEMPLATE", "PODNAME", "DURATION", "MESSAGE", "NODENAME"],
        Columns::Wide => {
            &["STEP", "TEMPLATE", "PODNAME", "DURATION", "ARTIFACTS", "MESSAGE", "RESOURCESDURATION", "NODENAME"]
        }
    };
    drawing.rows.push(head.iter().map(|h| (*h).to_owned()).collect());
    if let Some(root) = status.nodes.get(&name) {
        drawing.node(root, "", "");
    }
    let handler = format!("{name}.onExit");
    if let Some(exit) = status.nodes.values().find(|n| n.name == handler) {
        drawing.rows.push(vec![" ".to_owned()]);
        drawing.node(exit, "", "");
    }
    if drawing.rows.len() == 1 {
        return Vec::new();
    }
    drawing.rows
}

struct Drawing<'a> {
    wf: &'a Workflow,
    selector: &'a Selector,
    pod_name: &'a dyn Fn(&NodeStatus) -> String,
    look: Look,
    now: Timestamp,
    rows: Vec<Vec<String>>,
    drawn: HashSet<&'a str>,
}

impl<'a> Drawing<'a> {
    fn get(&self, id: &str) -> Option<&'a NodeStatus> {
        self.wf.status.as_ref()?.nodes.get(id)
    }

    fn children(&self, node: &'a NodeStatus) -> Vec<&'a NodeStatus> {
        let mut all: Vec<&NodeStatus> = node.children.iter().filter_map(|id| self.get(id)).collect();
        sort(&mut all);
        all
    }

    /// The nodes that are drawn one level beneath this one; a step group is one entry, of several nodes.
    fn beneath(&self, node: &'a NodeStatus) -> Vec<Vec<&'a NodeStatus>> {
        match node.type_ {
            NodeType::Steps => {
                let mut groups: Vec<&NodeStatus> = self.within(node, |n| n.type_ == NodeType::StepGroup);
                groups.sort_by_key(|g| group_index(g));
                let hidden = |n: &&NodeStatus| n.phase == NodePhase::Omitted;
                groups.into_iter().map(|g| self.children(g).into_iter().filter(|n| !hidden(n)).collect()).collect()
            }
            NodeType::Dag => {
                // Tasks of loops and attempts of retries hang from their TaskGroup or Retry node.
                let owned: HashSet<&str> = self
                    .within(node, |n| matches!(n.type_, NodeType::TaskGroup | NodeType::Retry))
                    .into_iter()
                    .flat_map(|n| n.children.iter().map(String::as_str))
                    .filter(|id| self.get(id).is_some_and(is_member))
                    .collect();
                let mut all = self.within(node, |n| {
                    n.phase != NodePhase::Omitted && n.type_ != NodeType::StepGroup && !owned.contains(n.id.as_str())
                });
                sort(&mut all);
                all.into_iter().flat_map(|n| self.unfold(n)).map(|n| vec![n]).collect()
            }
            NodeType::Retry => {
                let attempts = self.children(node);
                let attempts = attempts.into_iter().filter(|n| is_attempt(n)).collect::<Vec<_>>();
                if attempts.len() < 2 {
                    return attempts.first().map(|one| self.beneath(one)).unwrap_or_default();
                }
                attempts.into_iter().map(|n| vec![n]).collect()
            }
            NodeType::TaskGroup | NodeType::StepGroup => self.children(node).into_iter().map(|n| vec![n]).collect(),
            NodeType::Pod => {
                // The containers of a container set.
                let inner: Vec<_> =
                    self.children(node).into_iter().filter(|n| n.type_ == NodeType::Container).collect();
                inner.into_iter().map(|n| vec![n]).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A TaskGroup is not drawn: its members stand in its place.
    fn unfold(&self, node: &'a NodeStatus) -> Vec<&'a NodeStatus> {
        if node.type_ != NodeType::TaskGroup {
            return vec![node];
        }
        let members: Vec<_> = self.children(node).into_iter().filter(|n| is_member(n)).collect();
        if members.is_empty() { vec![node] } else { members }
    }

    fn within(&self, node: &'a NodeStatus, keep: impl Fn(&NodeStatus) -> bool) -> Vec<&'a NodeStatus> {
        let nodes = self.wf.status.iter().flat_map(|s| s.nodes.values());
        nodes.filter(|n| n.boundary_id.as_deref() == Some(node.id.as_str()) && keep(n)).collect()
    }

    fn node(&mut self, node: &'a NodeStatus, lead: &str, follow: &str) {
        if !self.drawn.insert(node.id.as_str()) {
            return;
        }
        let shown = if node.type_ == NodeType::Retry { self.single(node).unwrap_or(node) } else { node };
        if !self.selector.matches(shown) {
            for member in self.beneath(node).into_iter().flatten() {
                self.node(member, lead, follow);
            }
            return;
        }
        self.row(node, lead);
        let groups: Vec<_> = self.beneath(node).into_iter().filter(|g| !g.is_empty()).collect();
        let last_group = groups.len().saturating_sub(1);
        let forked = node.type_ == NodeType::Steps
            || (node.type_ == NodeType::Retry && self.single(node).is_some_and(|n| n.type_ == NodeType::Steps));
        for (g, group) in groups.iter().enumerate() {
            let (mut lead, mut follow) = if g == last_group {
                (format!("{follow}{}", self.line("└─")), format!("{follow}  "))
            } else {
                (format!("{follow}{}", self.line("├─")), format!("{follow}{}", self.line("│ ")))
            };
            if forked {
                let last = group.len() - 1;
                let outer = follow.clone();
                for (i, member) in group.iter().enumerate() {
                    let (fork, trail) = match i {
                        0 if last == 0 => ("──", "  "),
                        0 => ("┬─", "│ "),
                        i if i == last => ("└─", "  "),
                        _ => ("├─", "│ "),
                    };
                    let start = if i == 0 { lead.clone() } else { outer.clone() };
                    let start = format!("{start}{}", self.line(fork));
                    let trail = format!("{outer}{}", self.line(trail));
                    self.node(member, &start, &trail);
                }
            } else {
                for member in group {
                    self.node(member, &std::mem::take(&mut lead), &std::mem::take(&mut follow));
                }
            }
        }
    }

    /// Box characters, or their plain forms.
    fn line(&self, text: &str) -> String {
        if self.look.utf8 {
            return text.to_owned();
        }
        text.chars()
            .map(|c| match c {
                '─' => '-',
                '│' => '|',
                '├' | '┬' => '+',
                '└' => '`',
                other => other,
            })
            .collect()
    }

    fn single(&self, retry: &'a NodeStatus) -> Option<&'a NodeStatus> {
        let attempts: Vec<_> = self.children(retry).into_iter().filter(|n| is_attempt(n)).collect();
        (attempts.len() == 1).then(|| attempts[0])
    }

    fn row(&mut self, node: &'a NodeStatus, lead: &str) {
        let shown = if node.type_ == NodeType::Retry { self.single(node).unwrap_or(node) } else { node };
        let is_pod = shown.type_ == NodeType::Pod;
        let template = match (&node.template_ref, &node.template_name) {
            (Some(r), _) => format!("{}/{}", r.name, r.template),
            (None, Some(name)) => name.clone(),
            _ => String::new(),
        };
        let pod = if is_pod { (self.pod_name)(shown) } else { String::new() };
        let duration = match (is_pod, shown.started_at.as_ref(), shown.finished_at.as_ref()) {
            (true, Some(from), to) => time::short(time::seconds(from.0, to.map_or(self.now, |t| t.0))),
            _ => String::new(),
        };
        let message = shown.message.clone().unwrap_or_default();
        let step = format!(" {lead}{} {}", self.look.icon_of(shown), shown.display_name);
        let host = || if is_pod { shown.host_node_name.clone().unwrap_or_default() } else { String::new() };
        self.rows.push(match self.look.columns {
            Columns::Plain => vec![step, template, pod, duration, message],
            Columns::Short => vec![step, template, pod, duration, message, host()],
            Columns::Wide => {
                let artifacts = shown.outputs.iter().flat_map(|o| &o.artifacts).map(|a| a.name.as_str());
                let artifacts = artifacts.collect::<Vec<_>>().join(",");
                let resources = super::workflow::resources(&shown.resources_duration);
                vec![step, template, pod, duration, artifacts, message, resources, host()]
            }
        });
    }
}

fn sort(nodes: &mut [&NodeStatus]) {
    nodes.sort_by(|a, b| {
        let key = |n: &NodeStatus| (n.started_at.as_ref().map(|t| t.0), loop_index(&n.name));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
}

/// `…(3:item)` → 3; attempts `…(3)` count the same way.
fn loop_index(name: &str) -> Option<u64> {
    let inner = name.strip_suffix(')')?.rsplit_once('(')?.1;
    inner.split(':').next()?.parse().ok()
}

fn group_index(group: &NodeStatus) -> Option<u64> {
    group.name.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
}

fn is_attempt(node: &NodeStatus) -> bool {
    node.node_flag.as_ref().is_some_and(|f| f.retried)
}

fn is_member(node: &NodeStatus) -> bool {
    is_attempt(node) || node.name.ends_with(')')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn some_nodes() {
        let row = |name: &str, kind: &str, phase: &str, children: Vec<&str>| {
            let boundary = if name == "w" { "" } else { "w" };
            let display = name.rsplit('.').next().unwrap();
            json!({"id": name, "name": name, "displayName": display, "type": kind, "phase": phase, "boundaryID": boundary,
                "templateName": "t", "children": children})
        };
        let nodes = json!({
            "w": row("w", "Steps", "Failed", vec!["w[0]"]),
            "w[0]": row("w[0]", "StepGroup", "Failed", vec!["w[0].a", "w[0].b", "w[0].c"]),
            "w[0].a": row("w[0].a", "Pod", "Succeeded", vec![]),
            "w[0].b": row("w[0].b", "Pod", "Failed", vec![]),
            "w[0].c": row("w[0].c", "Pod", "Failed", vec![]),
        });
        let wf = json!({"metadata": {"name": "w"}, "spec": {}, "status": {"nodes": nodes}});
        let wf: Workflow = serde_json::from_value(wf).unwrap();
        let look = Look { utf8: true, color: false, columns: Columns::Plain };
        let steps = |selector: &str| {
            let selector = Selector::parse(selector).unwrap();
            let rows = rows(&wf, &selector, &|_| String::new(), look, Timestamp::UNIX_EPOCH);
            rows.into_iter().skip(1).map(|row| row[0].clone()).collect::<Vec<_>>()
        };
        assert_eq!(steps(""), [" ✖ w", " └─┬─✔ a", "   ├─✖ b", "   └─✖ c"]);
        // As in Argo the lines of those that stay are as they were.
        assert_eq!(steps("phase=Failed"), [" ✖ w", "   ├─✖ b", "   └─✖ c"]);
        assert_eq!(steps("displayName=b"), [" ✖ b"]);
        assert!(steps("displayName=nobody").is_empty());
    }
}
