//! A steps node: groups of parallel steps, one after the other.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | no group yet | Running | group 0 begins |
//! | Running | group i succeeded | Running | group i+1 begins, after the last nodes of group i |
//! | Running | last group succeeded | Succeeded | outputs are taken; Error when they cannot be |
//! | Running | group failed or in error | Failed | with the group's message |
//! | Running | a daemon of an earlier group failed | Failed | and so has its group, after all |

use std::sync::Arc;

use windlass_lang::tags::{self, Options};
use windlass_model::parameter::Inputs;
use windlass_model::status::NodeFlag;
use windlass_model::template::{StepGroup, WorkflowStep};
use windlass_model::{Arguments, NodePhase, NodeType, Template};

use crate::loops::has_loop;
use crate::node::group::{GroupMachine, continues_on};
use crate::nodes::{Call, Ix, Machine, Target};
use crate::run::Run;
use crate::scope::Scope;

/// How far the groups are.
#[derive(Debug, Default)]
pub(crate) struct StepsMachine {
    /// The group that runs.
    current: usize,
    group: Option<Ix>,
}

impl Run {
    pub(crate) fn begin_steps(&mut self, ix: Ix, template: &Template, inputs: &Inputs) {
        match self.processed(ix, template, inputs) {
            Ok(template) => {
                self.nodes.list[ix].template = Some(Arc::new(template));
                self.nodes.list[ix].machine = Machine::Steps(Box::default());
                self.enqueue(ix);
            }
            Err(message) => self.mark(ix, NodePhase::Error, Some(&message)),
        }
    }

    /// The steps or dag template of a node, with inputs, globals and what it knows of the node in place.
    pub(crate) fn processed(&self, ix: Ix, template: &Template, inputs: &Inputs) -> Result<Template, String> {
        let value = serde_json::to_value(template).map_err(|e| e.to_string())?;
        if !tags::has_tags(&value) {
            return Ok(template.clone());
        }
        let locals = self.node_locals(ix);
        let scope =
            Scope { run: self, boundary: None, inputs: Some(inputs), locals: &locals, globals: true, item: None };
        let value = tags::substitute_value(&value, &scope, &Options::default())
            .map_err(|faults| faults.first().map(|(_, f)| f.message.clone()).unwrap_or_default())?;
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    pub(crate) fn look_at_steps(&mut self, ix: Ix, machine: &mut StepsMachine) {
        let Some(template) = self.nodes.list[ix].template.clone() else { return };
        let groups = template.steps.as_deref().unwrap_or_default();
        loop {
            if let Some(group) = machine.group {
                let status = &self.nodes.list[group].status;
                if !status.phase.is_fulfilled() {
                    return;
                }
                if status.phase.is_fail_or_error() {
                    let message = status.message.clone().unwrap_or_default();
                    self.set_outbound(ix);
                    self.mark(ix, NodePhase::Failed, Some(&message));
                    return;
                }
                let loops = groups.get(machine.current).into_iter().flat_map(|g| &g.0).filter(|s| has_loop(s));
                let fault = |step: &WorkflowStep| {
                    self.nameless_loop(ix, &step.name).or_else(|| self.loop_fault(ix, &step.name))
                };
                if let Some(message) = loops.into_iter().find_map(fault) {
                    self.nodes.list[ix].refused = true;
                    self.mark(ix, NodePhase::Error, Some(&message));
                    return;
                }
                machine.current += 1;
                machine.group = None;
            }
            let Some(StepGroup(steps)) = groups.get(machine.current) else {
                self.finish_boundary(ix);
                return;
            };
            machine.group = Some(self.open_step_group(ix, machine.current, steps.clone()));
        }
    }

    /// A daemon has failed while others went on. Its step group has succeeded long ago and has failed now, and so has the
    /// steps node; what runs there is left to itself. So in Argo, which looks at the earlier groups anew as long as something
    /// runs after them; a dag does not mind.
    pub(crate) fn lose_daemon(&mut self, ix: Ix) {
        let node = &self.nodes.list[ix];
        let (id, name, phase) = (node.status.id.clone(), node.status.name.clone(), node.status.phase);
        let Some(steps) = node.boundary else { return };
        let around = &self.nodes.list[steps].status;
        // By its name: after a load a daemon is there without the group that began it. An attempt is its retry's matter.
        let number =
            name.strip_prefix(&around.name).and_then(|n| n.strip_prefix('[')?.split_once("].")?.0.parse().ok());
        let Some(number): Option<usize> = number.filter(|_| !node.status.node_flag.as_ref().is_some_and(|f| f.retried))
        else {
            return;
        };
        let group_name = format!("{}[{number}]", around.name);
        let group = self.nodes.find(&crate::names::node_id(self.workflow_name(), &group_name));
        let Some(group) = group.filter(|g| self.nodes.list[*g].status.phase == NodePhase::Succeeded) else { return };
        if !phase.is_fail_or_error() || around.phase.is_fulfilled() {
            return;
        }
        let groups = self.nodes.list[steps].template.as_ref().and_then(|t| t.steps.as_ref());
        let mut members = groups.and_then(|groups| groups.get(number)).into_iter().flat_map(|group| &group.0);
        let called = name.strip_prefix(&format!("{group_name}.")).unwrap_or_default();
        let is_it = |step: &&WorkflowStep| called == step.name || called.starts_with(&format!("{}(", step.name));
        if members.find(is_it).is_some_and(|step| continues_on(step.continue_on.as_ref(), phase)) {
            return;
        }
        let message = format!("child '{id}' failed");
        let row = &mut self.nodes.list[group].status;
        (row.phase, row.message) = (NodePhase::Failed, Some(message.clone()));
        self.touch(group);
        self.set_outbound(steps);
        self.mark(steps, NodePhase::Failed, Some(&message));
    }

    fn open_step_group(&mut self, steps: Ix, number: usize, members: Vec<WorkflowStep>) -> Ix {
        let name = format!("{}[{number}]", self.nodes.list[steps].status.name);
        let node = &self.nodes.list[steps];
        let call = Call {
            name,
            target: Target::Name(String::new()),
            arguments: Arguments::default(),
            absent: Vec::new(),
            parent: Some(steps),
            boundary: Some(steps),
            scope: node.inner_scope.clone(),
            slot: number,
            on_exit: node.on_exit,
            flag: Some(NodeFlag::default()),
            depth: node.depth,
        };
        let id = crate::names::node_id(self.workflow_name(), &call.name);
        let existing = self.nodes.find(&id);
        let ix = match existing {
            Some(ix) => ix,
            None => {
                let row = self.row(&call, NodeType::StepGroup, NodePhase::Running);
                let ix = self.nodes.insert(row);
                self.touch(ix);
                for before in self.before_group(steps, number) {
                    self.connect(&before, ix);
                }
                ix
            }
        };
        self.attach(ix, &call);
        if self.nodes.list[ix].status.phase.is_fulfilled() {
            self.tell_parent(ix);
        } else {
            self.nodes.list[ix].inner_scope = self.nodes.list[steps].inner_scope.clone();
            self.nodes.list[ix].machine = Machine::Group(Box::new(GroupMachine::steps(steps, members)));
            self.enqueue(ix);
        }
        ix
    }

    /// The nodes after which a group hangs.
    fn before_group(&self, steps: Ix, number: usize) -> Vec<String> {
        let row = &self.nodes.list[steps].status;
        if number == 0 {
            return vec![row.id.clone()];
        }
        let before = format!("{}[{}]", row.name, number - 1);
        let Some(group) = self.nodes.find(&crate::names::node_id(self.workflow_name(), &before)) else {
            return Vec::new();
        };
        let out = self.outbound_of_group(group);
        if out.is_empty() { vec![self.nodes.list[group].status.id.clone()] } else { out }
    }

    fn outbound_of_group(&self, group: Ix) -> Vec<String> {
        let mut out = Vec::new();
        for child in self.nodes.list[group].status.children.iter().filter_map(|id| self.nodes.find(id)) {
            out.extend(self.nodes.outbound(child));
        }
        out
    }

    /// The last group that has begun.
    pub(crate) fn last_group(&self, steps: Ix) -> Option<Ix> {
        let node = &self.nodes.list[steps];
        let groups = node.template.as_ref()?.steps.as_ref()?.len();
        (0..groups).rev().find_map(|number| {
            let name = format!("{}[{number}]", node.status.name);
            self.nodes.find(&crate::names::node_id(self.workflow_name(), &name))
        })
    }

    /// Writes down which nodes come last inside a steps or dag node.
    pub(crate) fn set_outbound(&mut self, ix: Ix) {
        let node = &self.nodes.list[ix];
        let Some(template) = node.template.clone() else { return };
        let mut out = Vec::new();
        if let Some(groups) = &template.steps {
            if !groups.is_empty()
                && let Some(group) = self.last_group(ix)
            {
                out = self.outbound_of_group(group);
            }
        } else if let Some(dag) = &template.dag {
            for target in crate::node::dag::targets(dag) {
                let name = format!("{}.{target}", node.status.name);
                if let Some(task) = self.nodes.find(&crate::names::node_id(self.workflow_name(), &name)) {
                    out.extend(self.nodes.outbound(task));
                }
            }
        }
        self.nodes.list[ix].status.outbound_nodes = out;
        self.touch(ix);
    }

    /// Ends a steps or dag node well: outputs, outbound nodes, phase.
    pub(crate) fn finish_boundary(&mut self, ix: Ix) {
        // Steps know their last nodes before their outputs, a dag after.
        let is_dag = self.nodes.list[ix].template.as_ref().is_some_and(|t| t.dag.is_some());
        if !is_dag {
            self.set_outbound(ix);
        }
        match self.boundary_outputs(ix) {
            Ok(outputs) => {
                if is_dag {
                    self.set_outbound(ix);
                }
                if let Some(outputs) = &outputs {
                    self.publish_globals(outputs);
                }
                self.nodes.list[ix].status.outputs = outputs;
                self.mark(ix, NodePhase::Succeeded, None);
            }
            Err(message) => {
                // To its parent this is a call that went wrong, as one that could not begin is.
                self.nodes.list[ix].refused = true;
                self.mark(ix, NodePhase::Error, Some(&message));
            }
        }
    }
}
