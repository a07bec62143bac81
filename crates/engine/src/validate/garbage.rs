//! Rule: `artifactGC` with a strategy that is none, with a patch that cannot be read, or where nothing is ever removed: on an
//! input. Argo's kinds refuse the first when they are stored; the others it finds when the artifacts are to go.

use windlass_model::artifact::Artifact;
use windlass_model::workflow::WorkflowSpec;

use super::object::{Object, Placed};
use super::report::Report;

const WORDS: [&str; 4] = ["", "OnWorkflowCompletion", "OnWorkflowDeletion", "Never"];

pub(super) fn check_spec(object: &Object<'_>, spec: &WorkflowSpec, report: &mut Report<'_>) {
    let Some(gc) = &spec.artifact_gc else { return };
    let at = format!("{}/artifactGC", object.base);
    word(gc.strategy.as_deref(), &at, report);
    if gc.pod_spec_patch.as_deref().is_some_and(|p| !p.contains("{{") && !is_map(p)) {
        report.warning(
            "argo::bad-artifact-gc",
            &format!("{at}/podSpecPatch"),
            "it is neither YAML nor JSON of a pod's spec",
        );
    }
}

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let of = |artifacts: &[Artifact], side: &str, report: &mut Report<'_>| {
        for (i, artifact) in artifacts.iter().enumerate() {
            let Some(gc) = &artifact.artifact_gc else { continue };
            let at = format!("{}/{side}/artifacts/{i}/artifactGC", placed.pointer);
            word(gc.strategy.as_deref(), &at, report);
            if side == "inputs" {
                report.warning("argo::bad-artifact-gc", &at, "inputs are never removed");
                report.help("write it at the output that makes the artifact");
            }
        }
    };
    of(&placed.template.inputs.artifacts, "inputs", report);
    of(&placed.template.outputs.artifacts, "outputs", report);
}

fn is_map(text: &str) -> bool {
    crate::pod_spec::parse_text(text).is_some_and(|patch| patch.is_object())
}

fn word(strategy: Option<&str>, at: &str, report: &mut Report<'_>) {
    let Some(text) = strategy.filter(|s| !WORDS.contains(s) && !s.contains("{{")) else { return };
    report.warning(
        "argo::bad-artifact-gc",
        &format!("{at}/strategy"),
        format!("`{text}` is no strategy of artifact garbage collection"),
    );
    report.help("write `OnWorkflowCompletion`, `OnWorkflowDeletion` or `Never`");
}
