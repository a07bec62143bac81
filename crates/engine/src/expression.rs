//! `{{=…}}`: the bridge from a [`Scope`] to the language's evaluator. Knows names; evaluates nothing by itself.
//!
//! Only the names that an expression takes are looked up. Artifacts travel through it as marked texts.

use std::collections::BTreeMap;

use windlass_lang::Fault;
use windlass_lang::expr::{Env, Expression, Value};
use windlass_lang::tags::{Evaluated, Lookup, Resolve};
use windlass_model::{Artifact, NodePhase};

use crate::scope::Scope;

/// What marks a text as the name of an artifact.
const ARTIFACT_MARK: &str = "\u{1}artifact:";

/// The value of an expression at a place.
pub(crate) fn evaluate(scope: &Scope<'_>, text: &str) -> Evaluated {
    match Expression::parse(text) {
        Ok(expression) => windlass_lang::expr::evaluate_tag(text, &environment(scope, &expression)),
        Err(fault) => Evaluated::Failed(fault),
    }
}

/// The text of an expression that must have a value. What goes wrong is said with its place, as expr-lang does.
pub(crate) fn value(scope: &Scope<'_>, text: &str) -> Result<String, String> {
    let placed = |fault: Fault| windlass_lang::expr::placed(text, &fault);
    let expression = Expression::parse(text).map_err(placed)?;
    let env = environment(scope, &expression);
    if let Some(name) = expression.stranger(&env) {
        return Err(placed(Fault::new(format!("unknown name {}", name.path[0]), name.range.clone())));
    }
    match expression.evaluate(&env).map_err(placed)? {
        Value::Null => Err(format!("failed to evaluate expression {text:?}")),
        value => Ok(value.go_text()),
    }
}

/// The artifact an expression gives; nothing when it gives nothing.
pub(crate) fn artifact(scope: &Scope<'_>, text: &str) -> Result<Option<Artifact>, String> {
    let wrong = |message: String| format!("failed to evaluate expression '{text}': {message}");
    let expression = Expression::parse(text).map_err(|fault| wrong(fault.message))?;
    let env = environment(scope, &expression);
    match expression.evaluate(&env).map_err(|fault| wrong(fault.message))? {
        Value::Null => Ok(None),
        Value::Text(found) => match found.strip_prefix(ARTIFACT_MARK) {
            Some(name) => scope.artifact(name).map_err(|()| wrong(format!("there is no {name}"))),
            None => Err(wrong("it does not give an artifact".to_owned())),
        },
        _ => Err(wrong("it does not give an artifact".to_owned())),
    }
}

/// The truth of an expression.
pub(crate) fn holds(scope: &Scope<'_>, text: &str) -> Result<bool, String> {
    let wrong = |message: String| format!("failed to evaluate expression '{text}': {message}");
    let expression = Expression::parse(text).map_err(|fault| wrong(fault.message))?;
    let env = environment(scope, &expression);
    match expression.evaluate(&env).map_err(|fault| wrong(fault.message))? {
        Value::Bool(truth) => Ok(truth),
        other => Err(wrong(format!("it comes out as {}, not as true or false", other.go_text()))),
    }
}

pub(crate) fn environment(scope: &Scope<'_>, expression: &Expression) -> Env {
    let mut env = Env::default().at(scope.run.now);
    // What is there at all, whatever is in it.
    let there = [
        ("workflow", scope.globals || !scope.locals.is_empty()),
        ("inputs", scope.inputs.is_some()),
        ("steps", scope.boundary.is_some()),
        ("tasks", scope.boundary.is_some()),
    ];
    for (root, _) in there.into_iter().filter(|(_, there)| *there) {
        env.set_path(&[root], Value::Map(BTreeMap::new()));
    }
    for name in expression.names() {
        let path: Vec<&str> = name.path.iter().map(String::as_str).collect();
        // The longest part that means something; what follows is a field of it.
        for length in (1..=path.len()).rev() {
            if let Some(value) = look_up(scope, &path[..length]) {
                put(&mut env, &path[..length], value);
                break;
            }
        }
    }
    env
}

/// Keys may hold dots themselves (`workflow.labels['a.b/c']`), so parts are set one by one.
fn put(env: &mut Env, path: &[&str], value: Value) {
    if env.get(path).is_none() {
        env.set_path(path, value);
    }
}

fn look_up(scope: &Scope<'_>, path: &[&str]) -> Option<Value> {
    let name = path.join(".");
    // An item with fields is a map of texts here, and JSON text in tags.
    if let (["item"], Some(item)) = (path, scope.item)
        && let Some(members) = item.members().filter(|members| !members.is_empty())
    {
        let text = |key: String| item.member(&key).map(|text| (key, Value::Text(text)));
        return Some(Value::Map(members.into_keys().filter_map(text).collect()));
    }
    match scope.name(&name) {
        Lookup::Text(text) => {
            // Parameters as a whole are a map in expressions, and JSON text in tags.
            if matches!(
                name.as_str(),
                "inputs.parameters" | "workflow.parameters" | "workflow.labels" | "workflow.annotations"
            ) && let Some(map) = whole(scope, &name)
            {
                return Some(map);
            }
            return Some(Value::Text(text.into_owned()));
        }
        Lookup::Absent => return Some(Value::Null),
        Lookup::Unknown => {}
    }
    if name.contains(".artifacts.")
        && let Ok(found) = scope.artifact(&name)
    {
        return Some(match found {
            Some(_) => Value::Text(format!("{ARTIFACT_MARK}{name}")),
            None => Value::Null,
        });
    }
    match path {
        ["inputs"] => {
            let parameters = whole(scope, "inputs.parameters")?;
            Some(Value::Map(BTreeMap::from([("parameters".to_owned(), parameters)])))
        }
        ["steps" | "tasks", member] => of_member(scope, path[0], member),
        ["steps" | "tasks", member, "outputs"] => match of_member(scope, path[0], member)? {
            Value::Map(mut map) => map.remove("outputs"),
            _ => None,
        },
        ["steps" | "tasks", member, "outputs", "parameters"] => match of_member(scope, path[0], member)? {
            Value::Map(mut map) => match map.remove("outputs") {
                Some(Value::Map(mut outputs)) => outputs.remove("parameters"),
                _ => None,
            },
            _ => None,
        },
        ["workflow", ..] if scope.globals => under(scope, &name),
        _ => None,
    }
}

/// A map of everything below a name.
fn whole(scope: &Scope<'_>, name: &str) -> Option<Value> {
    if name == "inputs.parameters" {
        let inputs = scope.inputs?;
        let map = inputs.parameters.iter().filter_map(|p| Some((p.name.clone(), Value::Text(p.value.clone()?.0))));
        return Some(Value::Map(map.collect()));
    }
    under(scope, name)
}

fn under(scope: &Scope<'_>, name: &str) -> Option<Value> {
    let prefix = format!("{name}.");
    let map: BTreeMap<String, Value> = scope
        .run
        .globals
        .texts
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix))
        .map(|(key, text)| (key[prefix.len()..].to_owned(), Value::Text(text.clone())))
        .collect();
    (!map.is_empty()).then_some(Value::Map(map))
}

/// A step or task as a map of what is known of it.
fn of_member(scope: &Scope<'_>, kind: &str, member: &str) -> Option<Value> {
    let status = scope.run.member_status(scope.boundary?, member)?;
    let text = |field: &str| match scope.name(&format!("{kind}.{member}.{field}")) {
        Lookup::Text(text) => Some((field.to_owned(), Value::Text(text.into_owned()))),
        Lookup::Absent | Lookup::Unknown => None,
    };
    let mut map: BTreeMap<String, Value> =
        ["id", "status", "ip", "exitCode", "startedAt", "finishedAt", "hostNodeName"]
            .into_iter()
            .filter_map(text)
            .collect();
    let mut outputs = BTreeMap::new();
    if matches!(status.phase, NodePhase::Skipped | NodePhase::Omitted) {
        outputs.insert("result".to_owned(), Value::Null);
    }
    if let Some(of_status) = &status.outputs {
        if let Some(result) = &of_status.result {
            outputs.insert("result".to_owned(), Value::Text(result.clone()));
        }
        let parameters =
            of_status.parameters.iter().filter_map(|p| Some((p.name.clone(), Value::Text(p.value.clone()?.0))));
        outputs.insert("parameters".to_owned(), Value::Map(parameters.collect()));
        let artifacts = of_status.artifacts.iter().map(|a| {
            let name = format!("{kind}.{member}.outputs.artifacts.{}", a.name);
            (a.name.clone(), Value::Text(format!("{ARTIFACT_MARK}{name}")))
        });
        outputs.insert("artifacts".to_owned(), Value::Map(artifacts.collect()));
    }
    map.insert("outputs".to_owned(), Value::Map(outputs));
    Some(Value::Map(map))
}
