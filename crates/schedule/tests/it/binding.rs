//! WorkflowEventBindings: one file a case, with an event, a binding and its template.

use windlass_model::event_binding::WorkflowEventBinding;
use windlass_schedule::binding::{self, Event, Fault};

use crate::{cases, settings};

#[test]
fn bindings() {
    for (name, text) in cases("bindings", "yaml") {
        let case = windlass_lang::yaml::load_str(&text).documents.remove(0).value;
        let said = |field: &str| case["event"][field].as_str().unwrap_or_default().to_owned();
        let event = Event {
            namespace: said("namespace"),
            discriminator: said("discriminator"),
            headers: serde_json::from_value(case["event"]["headers"].clone()).unwrap_or_default(),
            payload: case["event"]["payload"].clone(),
        };
        let binding: WorkflowEventBinding = serde_json::from_value(case["binding"].clone()).unwrap();
        let env = event.environment();
        let decided = binding::meets(&binding, &env).and_then(|meets| match meets {
            false => Ok("nothing".to_owned()),
            true => {
                let made = binding::workflow(&binding, &env, &case["template"])?;
                Ok::<_, Fault>(serde_json::to_string_pretty(&made).unwrap())
            }
        });
        let shown = decided.unwrap_or_else(|fault| format!("fault at {fault}"));
        assert!(!shown.contains("hush"), "{name}: {shown}");
        settings(&name).bind(|| insta::assert_snapshot!("binding", shown));
    }
}
