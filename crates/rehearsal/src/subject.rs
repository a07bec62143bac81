//! What a case submits: the object of the manifest that it means, made into a Workflow with the case's arguments; and the
//! objects around it. Reads values; runs nothing.

use serde_json::{Value, json};
use windlass_lang::Diagnostic;
use windlass_lang::suggest::nearest;

use crate::case::Case;
use crate::fields::fault;

/// What a case is played with: the objects of the manifest, and those of the files that the case names.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The objects of the manifest under test.
    pub manifest: &'a [Value],
    /// The objects of the case's `with`.
    pub with: &'a [Value],
}

const RUNNABLE: [&str; 4] = ["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow"];

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn name(object: &Value) -> &str {
    let meta = &object["metadata"];
    meta["name"].as_str().or_else(|| meta["generateName"].as_str().map(|n| n.trim_end_matches('-'))).unwrap_or_default()
}

impl Subject<'_> {
    /// The Workflow that the case submits.
    pub(crate) fn workflow(&self, case: &Case) -> Result<Value, Box<Diagnostic>> {
        let mut workflow = as_workflow(self.chosen(case)?);
        if !workflow["spec"].is_object() {
            return Err(fault("case::no-workflow", "the object to submit has no spec", case.name.span, "").into());
        }
        let submit = &case.submit;
        if let Some(name) = &submit.name {
            workflow["metadata"]["name"] = json!(name);
        }
        if let Some(entrypoint) = &submit.entrypoint {
            workflow["spec"]["entrypoint"] = json!(entrypoint.value);
        }
        if !submit.parameters.is_empty() {
            let list = &mut workflow["spec"]["arguments"]["parameters"];
            if !list.is_array() {
                *list = json!([]);
            }
            for (name, value) in &submit.parameters {
                let given = json!({"name": name.value, "value": value.value});
                let Some(list) = list.as_array_mut() else { continue };
                match list.iter_mut().find(|p| p["name"] == name.value.as_str()) {
                    Some(old) => *old = given,
                    None => list.push(given),
                }
            }
        }
        Ok(workflow)
    }

    fn chosen(&self, case: &Case) -> Result<&Value, Box<Diagnostic>> {
        let runnable: Vec<&Value> = self.manifest.iter().filter(|o| RUNNABLE.contains(&kind(o))).collect();
        let listed = || runnable.iter().map(|o| format!("{}/{}", kind(o), name(o))).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = &case.submit.workflow {
            let (of_kind, called) = match wanted.value.split_once('/') {
                Some((k, n)) => (Some(k), n),
                None => (None, wanted.value.as_str()),
            };
            let fits = |o: &&&Value| name(o) == called && of_kind.is_none_or(|k| k.eq_ignore_ascii_case(kind(o)));
            return runnable.iter().find(fits).copied().ok_or_else(|| {
                let message = format!("the manifest has no `{}`", wanted.value);
                let fault = fault("case::no-workflow", message, wanted.span, "");
                Box::new(match nearest(called, runnable.iter().map(|o| name(o))) {
                    Some(meant) => fault.help(format!("did you mean `{meant}`?")),
                    None => fault.help(format!("it has {}", listed())),
                })
            });
        }
        let workflows: Vec<&&Value> = runnable.iter().filter(|o| kind(o) == "Workflow").collect();
        match (workflows.as_slice(), runnable.as_slice()) {
            ([one], _) => Ok(**one),
            ([], [one]) => Ok(*one),
            ([], []) => {
                let message = "the manifest has nothing that can be submitted: no Workflow, no template";
                Err(fault("case::no-workflow", message, case.name.span, "").into())
            }
            _ => {
                let message = "the manifest has several things that can be submitted";
                let help = format!("say which: `submit: {{workflow: KIND/NAME}}`, one of {}", listed());
                Err(fault("case::no-workflow", message, case.name.span, "").help(help).into())
            }
        }
    }

    /// Everything that the run can ask for.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.manifest.iter().chain(self.with).cloned().collect()
    }

    /// The names of every step, task and template that there is.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for object in self.manifest.iter().chain(self.with) {
            let spec = if kind(object) == "CronWorkflow" { &object["spec"]["workflowSpec"] } else { &object["spec"] };
            collect(&spec["templates"], &mut names);
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Names of templates, steps and tasks, inline ones too. A step group's members are one level deeper.
fn collect(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| collect(v, names)),
        Value::Object(map) => {
            names.extend(map.get("name").and_then(Value::as_str).map(str::to_owned));
            for key in ["steps", "tasks", "dag", "inline"] {
                if let Some(inner) = map.get(key) {
                    collect(inner, names);
                }
            }
        }
        _ => {}
    }
}

fn as_workflow(object: &Value) -> Value {
    let name = name(object);
    let of_template = |cluster: bool| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"generateName": format!("{name}-")},
            "spec": {"workflowTemplateRef": {"name": name, "clusterScope": cluster}},
        })
    };
    match kind(object) {
        "WorkflowTemplate" => of_template(false),
        "ClusterWorkflowTemplate" => of_template(true),
        "CronWorkflow" => {
            let meta = object["spec"]["workflowMetadata"].clone();
            let mut meta = if meta.is_object() { meta } else { json!({}) };
            meta["generateName"] = json!(format!("{name}-"));
            json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                "metadata": meta, "spec": object["spec"]["workflowSpec"],
            })
        }
        _ => {
            let mut workflow = object.clone();
            if let Some(map) = workflow.as_object_mut() {
                map.remove("status");
            }
            workflow
        }
    }
}
