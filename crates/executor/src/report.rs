//! The report of a step: one `WorkflowTaskResult`, named as the node's id, or none where there is nothing to say. Pure.

use serde_json::{Value, json};
use windlass_model::labels;
use windlass_model::parameter::Outputs;
use windlass_model::task::Task;

/// The object to create; `None` where there is nothing to report.
pub fn task_result(task: &Task, outputs: &Outputs, message: Option<&str>) -> Option<Value> {
    if outputs.is_empty() && message.is_none() {
        return None;
    }
    let mut object = json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTaskResult",
        "metadata": {
            "name": task.node_id,
            "labels": {labels::WORKFLOW: task.workflow_name, labels::REPORT_OUTPUTS_COMPLETED: "true"},
            "ownerReferences": [{
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "Workflow",
                "name": task.workflow_name,
                "uid": task.workflow_uid,
            }],
        },
    });
    if !outputs.is_empty() {
        object["outputs"] = serde_json::to_value(outputs).unwrap_or(Value::Null);
    }
    if let Some(message) = message {
        object["message"] = json!(message);
    }
    Some(object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_report_is_no_object() {
        let task = Task { node_id: "wf-1".into(), workflow_name: "wf".into(), ..Task::default() };
        assert!(task_result(&task, &Outputs::default(), None).is_none());
        let outputs = Outputs { result: Some("hi".into()), ..Outputs::default() };
        let object = task_result(&task, &outputs, None).unwrap();
        assert_eq!(object.pointer("/outputs/result").unwrap(), "hi");
        assert_eq!(object.pointer("/metadata/name").unwrap(), "wf-1");
    }
}
