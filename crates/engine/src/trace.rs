//! What others may ask of a run without moving it: its name, a node's template. Reads only.

use std::sync::Arc;

use windlass_model::{NodeStatus, Template};

use crate::nodes::Target;
use crate::run::Run;

impl Run {
    /// The workflow's name.
    pub fn name(&self) -> &str {
        self.workflow_name()
    }

    /// The template of a node: with inputs in place where it is a steps or dag node that this run has begun, else as it
    /// is written.
    pub fn template_of(&self, id: &str) -> Option<Arc<Template>> {
        let node = &self.nodes.list[self.nodes.find(id)?];
        if let Some(template) = &node.template {
            return Some(template.clone());
        }
        self.written_template(&node.status)
    }

    /// The template that a row names; nothing for one that is written in place.
    pub(crate) fn written_template(&self, row: &NodeStatus) -> Option<Arc<Template>> {
        let target = match (&row.template_ref, &row.template_name) {
            (Some(reference), _) => Target::Ref(reference.clone()),
            (None, Some(name)) => Target::Name(name.clone()),
            (None, None) => return None,
        };
        let scope = Arc::from(row.template_scope.as_deref().unwrap_or_default());
        self.templates.find(&target, &scope).ok().map(|found| found.template)
    }
}
