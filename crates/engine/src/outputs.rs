//! What steps and dags make out of their members' outputs, and what becomes global. Looks nothing up by itself.

use windlass_lang::tags::{self, Lookup, Options, Resolve};
use windlass_model::parameter::Outputs;
use windlass_model::{AnyString, Artifact, Parameter};

use crate::nodes::Ix;
use crate::run::Run;
use crate::scope::Scope;

impl Run {
    /// The outputs of a steps or dag node, from its members.
    pub(crate) fn boundary_outputs(&self, ix: Ix) -> Result<Option<Outputs>, String> {
        let node = &self.nodes.list[ix];
        let Some(template) = &node.template else { return Ok(None) };
        if template.outputs.parameters.is_empty() && template.outputs.artifacts.is_empty() {
            return Ok(None);
        }
        let inputs = node.status.inputs.clone();
        let is_dag = template.dag.is_some();
        // Globals were put in before; what is global by now, only steps know.
        let locals = if is_dag { Vec::new() } else { self.global_outputs() };
        let scope = Scope {
            run: self,
            boundary: Some(ix),
            inputs: inputs.as_ref(),
            locals: &locals,
            globals: false,
            item: None,
        };
        let mut outputs = Outputs::default();
        for parameter in &template.outputs.parameters {
            outputs.parameters.push(self.boundary_parameter(parameter, &scope)?);
        }
        for artifact in &template.outputs.artifacts {
            if artifact.from.is_none() && artifact.from_expression.is_none() {
                continue;
            }
            let resolved = match crate::calls::artifact_argument(artifact, &scope, is_dag) {
                Ok(resolved) => resolved,
                Err(_) if artifact.optional => None,
                Err(message) => return Err(message),
            };
            if let Some(mut resolved) = resolved
                && resolved.has_driver()
            {
                resolved.name = artifact.name.clone();
                outputs.artifacts.push(resolved);
            }
        }
        Ok(Some(outputs).filter(|o| !o.is_empty()))
    }

    fn boundary_parameter(&self, parameter: &Parameter, scope: &Scope<'_>) -> Result<Parameter, String> {
        let mut out = parameter.clone();
        let Some(source) = out.value_from.take() else {
            return Err("output parameters must have a valueFrom specified".to_owned());
        };
        // An expression comes first.
        let expression = source.expression.as_deref().filter(|t| !t.is_empty());
        let value = if let Some(expression) = expression {
            crate::expression::value(scope, expression).map(Some)
        } else if let Some(text) = source.parameter.as_deref().filter(|t| !t.is_empty()) {
            match tags::pure_reference(text.trim()) {
                Some(name) => match scope.name(&name) {
                    Lookup::Text(value) => Ok(Some(value.into_owned())),
                    Lookup::Absent => Err(format!(
                        "output parameter {:?}: {text:?} is an absent optional (skipped/omitted node output with no \
                         default)",
                        parameter.name
                    )),
                    Lookup::Unknown => Err(format!("Unable to resolve: \"{name}\"")),
                },
                None => tags::substitute(text, scope, &Options::default())
                    .map(Some)
                    .map_err(|faults| crate::inputs::first_message(&faults)),
            }
        } else {
            Ok(None)
        };
        out.value = match (value, source.default) {
            (Ok(Some(value)), _) => Some(AnyString(value)),
            (_, Some(default)) => Some(default),
            (Ok(None), None) => None,
            (Err(message), None) => return Err(message),
        };
        Ok(out)
    }

    /// Makes outputs with a `globalName` known to the whole run.
    pub(crate) fn publish_globals(&mut self, outputs: &Outputs) {
        for parameter in &outputs.parameters {
            let (Some(name), Some(value)) = (&parameter.global_name, &parameter.value) else { continue };
            let name = self.global_text(name);
            self.globals.set(&format!("workflow.outputs.parameters.{name}"), value.0.clone());
            let global = Parameter { name: name.clone(), value: Some(value.clone()), ..Parameter::default() };
            let list = &mut self.status.outputs.get_or_insert_default().parameters;
            match list.iter_mut().find(|p| p.name == name) {
                Some(have) => *have = global,
                None => list.push(global),
            }
            self.dirty = true;
        }
        for artifact in &outputs.artifacts {
            let Some(name) = &artifact.global_name else { continue };
            let name = self.global_text(name);
            let global = Artifact { name: name.clone(), global_name: None, path: None, ..artifact.clone() };
            self.globals.artifacts.insert(name.clone(), global.clone());
            let list = &mut self.status.outputs.get_or_insert_default().artifacts;
            match list.iter_mut().find(|a| a.name == name) {
                Some(have) => *have = global,
                None => list.push(global),
            }
            self.dirty = true;
        }
    }

    /// The run's outputs so far, by the names they have in a scope.
    fn global_outputs(&self) -> Vec<(String, String)> {
        let parameters = self.status.outputs.iter().flat_map(|outputs| &outputs.parameters);
        let named = |p: &Parameter| Some((format!("workflow.outputs.parameters.{}", p.name), p.value.clone()?.0));
        parameters.filter_map(named).collect()
    }

    fn global_text(&self, name: &str) -> String {
        tags::substitute(name, &Scope::globals(self), &Options::default()).unwrap_or_else(|_| name.to_owned())
    }
}
