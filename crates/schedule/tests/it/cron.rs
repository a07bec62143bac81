//! CronWorkflows: one file a case, each with what is seen at several times. What is decided is applied to the object, as
//! the loop applies it, before the next look.

use jiff::Timestamp;
use serde_json::{Value, json};
use windlass_schedule::cron::{self, Child};

use crate::{cases, settings};

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        match value.is_null() {
            true => drop(map.remove(key)),
            false => merge(map.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

#[test]
fn looks() {
    for (name, text) in cases("cron", "yaml") {
        let case = windlass_lang::yaml::load_str(&text).documents.remove(0).value;
        let mut object = case["cron"].clone();
        object["apiVersion"] = json!("argoproj.io/v1alpha1");
        object["kind"] = json!("CronWorkflow");
        merge(&mut object, &json!({"metadata": {"name": "c", "namespace": "ci", "uid": "u"}}));
        let mut children: Vec<Child> = Vec::new();
        let mut lines = Vec::new();
        for look in case["looks"].as_array().unwrap() {
            let now: Timestamp = look["at"].as_str().unwrap().parse().unwrap();
            if !look["change"].is_null() {
                merge(&mut object, &look["change"]);
            }
            for (index, phase) in look["ended"].as_object().into_iter().flatten() {
                let child = &mut children[index.parse::<usize>().unwrap()];
                child.phase = serde_json::from_value(phase.clone()).unwrap();
                child.finished_at = Some(now);
            }
            let decided = cron::decide(&object, &children, now);
            lines.push(format!("{now}"));
            lines.push(format!("  wake {}", decided.wake.map_or("never".to_owned(), |t| t.to_string())));
            if let Some(patch) = &decided.patch {
                lines.push(format!("  patch {patch}"));
                merge(&mut object, patch);
            }
            for name in &decided.terminate {
                lines.push(format!("  terminate {name}"));
            }
            for (name, _) in &decided.delete {
                lines.push(format!("  delete {name}"));
                children.retain(|c| c.name != *name);
            }
            if let Some((tick, workflow)) = &decided.submit {
                lines.push(format!("  submit {tick} {}", workflow["metadata"]["name"]));
                let made = match look["refused"].as_str() {
                    Some(why) => Err(why.to_owned()),
                    None => {
                        let name = workflow["metadata"]["name"].as_str().unwrap().to_owned();
                        let child = Child { uid: format!("uid-{name}"), name, ..Child::default() };
                        children.push(child.clone());
                        Ok(cron::reference("ci", &child))
                    }
                };
                let patch = cron::submitted(&object, *tick, made);
                lines.push(format!("  then {patch}"));
                merge(&mut object, &patch);
            }
            // Looking again at once changes nothing.
            let again = cron::decide(&object, &children, now);
            if look["refused"].is_null() && decided.terminate.is_empty() {
                assert_eq!((&again.patch, &again.submit, &again.delete), (&None, &None, &vec![]), "{name} at {now}");
            }
        }
        settings(&name).bind(|| insta::assert_snapshot!("cron", lines.join("\n")));
    }
}

#[test]
fn the_workflow_of_a_tick_is_argos() {
    let cron = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow",
        "metadata": {"name": "nightly", "namespace": "ci", "uid": "u-1",
            "labels": {"workflows.argoproj.io/creator": "ann", "team": "a"}},
        "spec": {"schedules": ["0 0 * * *"],
            "workflowMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.org/f"]},
            "workflowSpec": {"entrypoint": "main", "somethingNew": {"x": 1}}},
    });
    insta::assert_json_snapshot!("cron_workflow", cron::workflow(&cron, "2026-11-21T00:00:00Z".parse().unwrap()));
}
