//! The body of a steps template: one step after the other, each knowing what those before it made.

use std::collections::HashSet;
use std::rc::Rc;

use windlass_model::Template;
use windlass_model::template::WorkflowStep;
use windlass_model::workflow::WorkflowSpec;

use super::base::Call;
use super::fill::Given;
use super::scope::{Member, Scope, View};
use super::walk::{Frame, NOTHING_OVER, Next, Walk, no_deadline};
use super::{arguments, names, wire};

/// How far a steps template is.
#[derive(Debug, Default)]
pub(super) struct Steps {
    group: usize,
    step: usize,
    names: HashSet<String>,
    /// What the step runs, once that was looked at.
    below: Option<Option<Rc<Template>>>,
}

impl Steps {
    pub(super) fn begin(template: &Template) -> Result<Self, String> {
        no_deadline(template).map(|()| Self::default())
    }

    pub(super) fn at(&self, template: &Template) -> String {
        let name = self.current(template).map_or("", |step| step.name.as_str());
        format!("templates.{}.steps[{}].{name}", template.name, self.group)
    }

    fn current<'t>(&self, template: &'t Template) -> Option<&'t WorkflowStep> {
        template.steps.as_ref()?.get(self.group)?.0.get(self.step)
    }

    pub(super) fn advance(&mut self, frame: &mut Frame, walk: &mut Walk<'_>) -> Result<Next, String> {
        let template = frame.filled.clone();
        while self.group < template.steps.as_ref().map_or(0, Vec::len) {
            let Some(step) = self.current(&template) else {
                (self.group, self.step) = (self.group + 1, 0);
                continue;
            };
            let call = call(step);
            let run = match self.below.take() {
                Some(run) => run,
                None => {
                    self.open(step, &template, frame)?;
                    let entered = walk
                        .enter(call, frame.base, Given::Anything)
                        .map_err(|wrong| format!("{} {wrong}", self.at(&template)))?;
                    if let Some(below) = entered.below {
                        self.below = Some(entered.template);
                        return Ok(Next::Below(Box::new(below)));
                    }
                    entered.template
                }
            };
            self.close(step, &template, run.as_ref(), frame, walk)?;
            walk.enter(call, frame.base, Given::These(&step.arguments))
                .map_err(|wrong| format!("{} {wrong}", self.at(&template)))?;
            self.step += 1;
        }
        Ok(Next::Done)
    }

    /// What is asked of a step before the template it runs.
    fn open(&mut self, step: &WorkflowStep, template: &Template, frame: &mut Frame) -> Result<(), String> {
        let group = format!("templates.{}.steps[{}]", template.name, self.group);
        let name = &step.name;
        if name.is_empty() {
            return Err(format!("{group}.name is required"));
        }
        if self.names.contains(name) {
            return Err(format!("{group}.name '{name}' is not unique"));
        }
        if let Some(wrong) = names::step(name) {
            return Err(format!("{group}.name '{name}' is invalid: {wrong}"));
        }
        self.names.insert(name.clone());
        frame.scope.add(format!("steps.{name}.status"));
        let parameter = step.with_param.as_ref().map(|p| p.as_str());
        frame
            .scope
            .add_items(step.with_items.as_deref().unwrap_or_default(), parameter, step.with_sequence.as_ref())
            .map_err(|wrong| format!("{group}.{name} {wrong}"))?;
        arguments::check(&format!("{group}.{name}.arguments."), &step.arguments)
    }

    /// What is asked of it behind that.
    fn close(
        &self,
        step: &WorkflowStep,
        template: &Template,
        run: Option<&Rc<Template>>,
        frame: &mut Frame,
        walk: &mut Walk<'_>,
    ) -> Result<(), String> {
        let looped = step.with_items.as_ref().is_some_and(|items| !items.is_empty())
            || step.with_param.as_ref().is_some_and(|p| !p.as_str().is_empty());
        let member = Member { word: "steps", name: &step.name, looped: false };
        let exits = step.hooks.contains_key("exit") || step.on_exit.as_deref().is_some_and(|t| !t.is_empty());
        if exits {
            frame.scope.add_outputs(member, run, &mut walk.globals, &mut walk.placeholders);
        }
        hooks(step.hooks.iter().map(|(name, hook)| (name.as_str(), hook.expression.as_deref())), &self.at(template))?;
        let own = own(step.inline.as_deref());
        let view = View { scope: &frame.scope, own: Some(&own), globals: &walk.globals, is_over: NOTHING_OVER };
        view.resolve(&wire::text(step, "WorkflowStep"))
            .map_err(|wrong| format!("templates.{}.steps {wrong}", template.name))?;
        frame.scope.add_outputs(Member { looped, ..member }, run, &mut walk.globals, &mut walk.placeholders);
        Ok(())
    }
}

fn call(step: &WorkflowStep) -> Call<'_> {
    Call {
        member: &step.name,
        template: step.template.as_deref().unwrap_or_default(),
        reference: step.template_ref.as_ref(),
        inline: step.inline.as_deref(),
    }
}

/// What a template written in place takes is known where it is written.
pub(super) fn own(inline: Option<&Template>) -> Scope {
    let mut own = Scope::default();
    for parameter in inline.iter().flat_map(|t| &t.inputs.parameters) {
        own.add(format!("inputs.parameters.{}", parameter.name));
    }
    own
}

/// Hooks other than the exit handler say when.
fn hooks<'h>(hooks: impl Iterator<Item = (&'h str, Option<&'h str>)>, at: &str) -> Result<(), String> {
    for (name, expression) in hooks {
        if name != "exit" && expression.is_none_or(str::is_empty) {
            return Err(format!("{at}.{name} Expression required"));
        }
    }
    Ok(())
}

/// The same of the workflow's own hooks.
pub(super) fn hooks_of_run(spec: &WorkflowSpec) -> Result<(), String> {
    hooks(spec.hooks.iter().map(|(name, hook)| (name.as_str(), hook.expression.as_deref())), "hooks")
}
