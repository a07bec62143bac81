//! From call to call through the templates, each body once. Never recursive: templates may call each other in a row of any
//! length, so what is half looked at lies on a stack of its own.

use std::collections::HashSet;
use std::rc::Rc;

use windlass_model::Template;
use windlass_model::template::TemplateKind;

use super::base::{Bases, Call, Missing};
use super::dag::Dag;
use super::fill::{self, Given, Placeholders};
use super::scope::{Globals, Scope, View};
use super::steps::Steps;
use super::{leaf, outputs, template, text};

/// What all of one look at a workflow shares.
pub(super) struct Walk<'a> {
    pub bases: Bases<'a>,
    pub globals: Globals,
    pub placeholders: Placeholders,
    /// The templates whose bodies were looked at, or are.
    seen: HashSet<String>,
}

/// A body that is half looked at.
pub(super) struct Frame {
    /// The template with its values.
    pub filled: Rc<Template>,
    written: Rc<Template>,
    pub base: usize,
    pub scope: Scope,
    body: Body,
}

enum Body {
    Steps(Steps),
    Dag(Dag),
}

/// What a call led to.
pub(super) struct Entered {
    /// The template it runs; nothing when nobody can know yet.
    pub template: Option<Rc<Template>>,
    /// Its body, which is to be looked at before anything else.
    pub below: Option<Frame>,
}

/// What comes next in a body.
pub(super) enum Next {
    /// The body of a call in it.
    Below(Box<Frame>),
    /// Nothing.
    Done,
}

/// A place where no task is over.
pub(super) const NOTHING_OVER: &dyn Fn(&str) -> bool = &|_| false;

impl<'a> Walk<'a> {
    pub(super) fn new(bases: Bases<'a>) -> Self {
        let mut walk =
            Self { bases, globals: Globals::new(), placeholders: Placeholders::default(), seen: HashSet::new() };
        for name in ["name", "namespace", "mainEntrypoint", "serviceAccountName", "uid"] {
            walk.know(&format!("workflow.{name}"));
        }
        walk
    }

    /// Makes a name known everywhere, whatever its value will be.
    pub(super) fn know(&mut self, name: &str) {
        let placeholder = self.placeholders.next();
        self.globals.insert(name.to_owned(), placeholder);
    }

    /// Looks at a call and everything below it.
    pub(super) fn check(&mut self, call: Call<'_>, base: usize, given: Given<'_>) -> Result<(), String> {
        let mut stack: Vec<Frame> = self.enter(call, base, given)?.below.into_iter().collect();
        while let Some(mut top) = stack.pop() {
            match self.advance(&mut top) {
                Ok(Next::Below(below)) => stack.extend([top, *below]),
                Ok(Next::Done) => {}
                Err(wrong) => {
                    let mut told: String = stack.iter().map(|above| above.at() + " ").collect();
                    told.push_str(&wrong);
                    return Err(told);
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, frame: &mut Frame) -> Result<Next, String> {
        // Taken out for as long as it works on the rest of the frame.
        let mut body = std::mem::replace(&mut frame.body, Body::Steps(Steps::default()));
        let next = match &mut body {
            Body::Steps(steps) => steps.advance(frame, self),
            Body::Dag(dag) => dag.advance(frame, self),
        };
        frame.body = body;
        if matches!(next, Ok(Next::Done)) {
            self.finish(&frame.filled, &frame.written, &frame.scope)?;
        }
        next
    }

    /// Looks at the template of a call, with what it is given; its body is for the caller to go through.
    pub(super) fn enter(&mut self, call: Call<'_>, base: usize, given: Given<'_>) -> Result<Entered, String> {
        let (base, written) = match self.bases.resolve(call, base) {
            Ok(found) => found,
            Err(Missing::NotYet) => return Ok(Entered { template: None, below: None }),
            Err(Missing::Wrong(wrong)) => return Err(wrong),
        };
        let policy = written.retry_strategy.as_ref().and_then(|r| r.retry_policy.as_deref()).unwrap_or_default();
        if !matches!(policy, "" | "Always" | "OnError" | "OnFailure" | "OnTransientError") {
            return Err(format!("{policy} is not a valid RetryPolicy"));
        }
        let key = format!("{}{}", self.bases.get(base).key(), written.name);
        let known = self.seen.contains(&key);
        let below =
            if known { self.again(&written, given).map(|()| None) } else { self.begin(&written, base, given, key) };
        Ok(Entered { below: below?, template: Some(written) })
    }

    /// A template whose body is known: only what depends on the call is asked again.
    fn again(&mut self, written: &Template, given: Given<'_>) -> Result<(), String> {
        let at = |wrong| format!("templates.{} {wrong}", written.name);
        fill::supplied(written, given).map_err(at)?;
        let tagged = |text: &Option<String>| text.as_deref().is_some_and(|t| t.contains("{{"));
        let odd = match given {
            Given::Anything => false,
            Given::These(given) => {
                given.parameters.iter().filter_map(|p| p.value.as_ref()).any(|v| !text::quotes_well(v.as_str()))
            }
        };
        if !odd && !tagged(&written.timeout) && !tagged(&written.pending_timeout) {
            return template::check_kind(written, written);
        }
        let filled = fill::fill(written, given, &self.globals, &mut self.placeholders).map_err(at)?;
        template::check_kind(written, &filled.template)
    }

    fn begin(
        &mut self,
        written: &Rc<Template>,
        base: usize,
        given: Given<'_>,
        key: String,
    ) -> Result<Option<Frame>, String> {
        let scope = template::check(written)?;
        let filled = fill::fill(written, given, &self.globals, &mut self.placeholders)
            .map_err(|wrong| format!("templates.{} {wrong}", written.name))?;
        template::check_kind(written, &filled.template)?;
        self.seen.insert(key);
        let body = match filled.template.kind() {
            Some(TemplateKind::Steps) => Body::Steps(Steps::begin(&filled.template)?),
            Some(TemplateKind::Dag) => Body::Dag(Dag::begin(&filled.template)?),
            _ => {
                let view = View { scope: &scope, own: None, globals: &self.globals, is_over: NOTHING_OVER };
                leaf::check(&filled.template, &filled.text, &view, self.bases.get(base))?;
                self.finish(&filled.template, written, &scope)?;
                return Ok(None);
            }
        };
        Ok(Some(Frame { filled: Rc::new(filled.template), written: written.clone(), base, scope, body }))
    }

    fn finish(&self, filled: &Template, written: &Template, scope: &Scope) -> Result<(), String> {
        let view = View { scope, own: None, globals: &self.globals, is_over: NOTHING_OVER };
        outputs::check(filled, written, &view)
    }
}

impl Frame {
    /// The call that is being looked at, in words.
    fn at(&self) -> String {
        match &self.body {
            Body::Steps(steps) => steps.at(&self.filled),
            Body::Dag(dag) => dag.at(&self.filled),
        }
    }
}

/// Leaf templates alone may have a deadline.
pub(super) fn no_deadline(template: &Template) -> Result<(), String> {
    match template.active_deadline_seconds {
        Some(_) => Err(format!("templates.{}.activeDeadlineSeconds is only valid for leaf templates", template.name)),
        None => Ok(()),
    }
}
