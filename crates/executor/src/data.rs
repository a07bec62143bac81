//! A `data` template's work: a list (the artifacts beneath a place), and expressions over it, one after the other. The list
//! is made by whoever holds the stores' Secrets; the expressions run in the step's own container.

use serde_json::Value;
use windlass_artifacts::Cancel;
use windlass_artifacts::location;
use windlass_lang::expr::{Env, Expression, Value as Data};
use windlass_model::parameter::Outputs;
use windlass_model::task::{DataTask, Task};

use crate::ExecutorError;
use crate::inputs::{Secrets, Stores, value};

/// What the task's `data` starts from; nothing where it is no such task. Blocks.
pub fn source(
    task: &Task,
    stores: &Stores,
    secrets: &Secrets,
    cancel: &Cancel,
) -> Result<Option<Value>, ExecutorError> {
    let Some(data) = &task.data else { return Ok(None) };
    let artifact = value(&data.source)?;
    let keys = location::list(&artifact, &|r| secrets.get(r).cloned(), &stores.local, &stores.outside, cancel);
    let keys = keys.map_err(|problem| ExecutorError::Output {
        kind: "data of artifact paths",
        name: data.source.name.clone(),
        problem,
    })?;
    Ok(Some(Value::from(keys)))
}

/// The result: `source` after every expression, as JSON.
pub fn transform(task: &DataTask, source: &Value) -> Result<Outputs, String> {
    let mut data = Data::from(source);
    for (at, expression) in task.transformation.iter().enumerate().filter(|(_, e)| !e.is_empty()) {
        let wrong = |fault: windlass_lang::Fault| format!("error processing data step {at}: {}", fault.message);
        let mut env = Env::default();
        env.set("data", data);
        data = Expression::parse(expression).map_err(wrong)?.evaluate(&env).map_err(wrong)?;
    }
    let json = data.to_json().ok_or("the data has a number that JSON cannot hold")?;
    Ok(Outputs { result: Some(json.to_string()), ..Outputs::default() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_follow_each_other() {
        let source = json!(["a/1/main.log", "a/2/side.log", "a/3/main.log"]);
        let of = |expressions: &[&str]| {
            let task =
                DataTask { transformation: expressions.iter().map(|e| (*e).into()).collect(), ..DataTask::default() };
            transform(&task, &source).map(|o| o.result.unwrap())
        };
        assert_eq!(of(&[]).unwrap(), r#"["a/1/main.log","a/2/side.log","a/3/main.log"]"#);
        let filter = "filter(data, {# endsWith \"main.log\"})";
        assert_eq!(of(&[filter]).unwrap(), r#"["a/1/main.log","a/3/main.log"]"#);
        assert_eq!(of(&[filter, "map(data, {split(#, '/')[1]})"]).unwrap(), r#"["1","3"]"#);
        assert_eq!(of(&[filter, "len(data)"]).unwrap(), "2");
        assert!(of(&["data +"]).unwrap_err().starts_with("error processing data step 0"));
        assert!(of(&[filter, "data.x.y"]).is_err());
    }
}
