//! The report of a step: one `WorkflowTaskResult`, named as the node's id, or none where there is nothing to say.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_model::labels;
use windlass_model::parameter::Outputs;
use windlass_model::task::Task;

/// The object to create; `None` where there is nothing to report.
pub fn task_result(task: &Task, outputs: &Outputs, message: Option<&str>, progress: Option<&str>) -> Option<Value> {
    // Whoever declares outputs is waited for: an optional one may not be there, a plugin may have nothing to give, and that
    // all is done is told all the same.
    let is_awaited = task.plugin.is_some() || task.archive_logs || !task.outputs.is_empty();
    if outputs.is_empty() && message.is_none() && progress.is_none() && !is_awaited {
        return None;
    }
    let mut object = blank(task);
    if !outputs.is_empty() {
        object["outputs"] = serde_json::to_value(outputs).unwrap_or(Value::Null);
    }
    if let Some(message) = message {
        object["message"] = json!(message);
    }
    if let Some(progress) = progress {
        object["progress"] = json!(progress);
    }
    Some(object)
}

fn blank(task: &Task) -> Value {
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
    if !task.garbage.is_empty() {
        // It is no node's, and its workflow may be gone.
        object["metadata"]["labels"] = json!({labels::REPORT_OUTPUTS_COMPLETED: "true"});
        object["metadata"]["ownerReferences"][0]["kind"] = json!("WorkflowArtifactGCTask");
        object["metadata"]["ownerReferences"][0]["name"] = json!(task.node_id);
    }
    object
}

fn results(client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "argoproj.io".into(),
        version: "v1alpha1".into(),
        api_version: "argoproj.io/v1alpha1".into(),
        kind: "WorkflowTaskResult".into(),
        plural: "workflowtaskresults".into(),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Tells how far a step that runs has come; an error is a text. The report itself follows: this one says that it does.
pub async fn send_progress(client: &kube::Client, namespace: &str, task: &Task, progress: &str) -> Result<(), String> {
    let api = results(client, namespace);
    let mut object = blank(task);
    object["metadata"]["labels"][labels::REPORT_OUTPUTS_COMPLETED] = json!("false");
    object["progress"] = json!(progress);
    let body: DynamicObject = serde_json::from_value(object).map_err(|e| e.to_string())?;
    let answer = match api.create(&PostParams::default(), &body).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = Patch::Merge(json!({"progress": progress}));
            api.patch(&task.node_id, &PatchParams::default(), &patch).await
        }
        created => created,
    };
    answer.map(drop).map_err(|e| e.to_string())
}

/// How often writing a report is tried, with pauses from 50 ms to 5 s.
const TRIES: u32 = 12;

/// Creates the report; an older one of the same node (an earlier attempt) is replaced. An error is a text that says why
/// it was not taken.
pub async fn send(client: &kube::Client, namespace: &str, name: &str, object: Value) -> Result<(), String> {
    let api = results(client, namespace);
    let body: DynamicObject = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    let mut pause = Duration::from_millis(50);
    let mut last = String::new();
    for _ in 0..TRIES {
        match api.create(&PostParams::default(), &body).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let mut patch = json!({
                    "metadata": {"labels": object["metadata"]["labels"]},
                    "outputs": object["outputs"],
                    "message": object["message"],
                });
                if let Some(progress) = object.get("progress") {
                    patch["progress"] = progress.clone();
                }
                match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
            }
            // The workflow's namespace is going, or the report can never be taken.
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                return Err(format!("the step's report was not taken: {}", status.message));
            }
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    Err(format!("the step's report could not be written: {last}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_report_is_no_object() {
        let task = Task { node_id: "wf-1".into(), workflow_name: "wf".into(), ..Task::default() };
        assert!(task_result(&task, &Outputs::default(), None, None).is_none());
        let outputs = Outputs { result: Some("hi".into()), ..Outputs::default() };
        let object = task_result(&task, &outputs, None, None).unwrap();
        assert_eq!(object.pointer("/outputs/result").unwrap(), "hi");
        assert_eq!(object.pointer("/metadata/name").unwrap(), "wf-1");
        let object = task_result(&task, &Outputs::default(), None, Some("1/2")).unwrap();
        let declared: Outputs =
            serde_json::from_value(json!({"artifacts": [{"name": "a", "path": "/a", "optional": true}]})).unwrap();
        let declares = Task { outputs: declared, ..task.clone() };
        let told = task_result(&declares, &Outputs::default(), None, None).unwrap();
        assert_eq!((told.get("outputs"), told.get("message")), (None, None));
        assert_eq!((&object["progress"], object.get("outputs")), (&json!("1/2"), None));
    }
}
