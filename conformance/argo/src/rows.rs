//! The rows of the table of Argo's features, by their ids, and by what a manifest shows that it uses one. A row claims
//! nothing by itself: the support table counts the cases that pass. Reads nothing; finds keys in values.

use serde_json::Value;

/// How a case shows that it is about a row.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    /// A key of the workflow's spec.
    Spec(&'static str),
    /// A key of a template.
    Template(&'static str),
    /// A key anywhere in the manifests.
    Key(&'static str),
    /// A text anywhere in the manifests.
    Text(&'static str),
    /// A node of this type in the end.
    Node(&'static str),
    /// A phase of a node in the end.
    Phase(&'static str),
    /// What somebody does.
    Verb(&'static str),
}

/// One row: id, what it is, and its signs (one of them is enough).
pub type Row = (&'static str, &'static str, &'static [Sign]);

use Sign::{Key, Node, Phase, Spec, Template, Text, Verb};

/// The rows, in the table's order.
pub const ROWS: &[Row] = &[
    ("S1", "`entrypoint`, `templates`", &[Spec("entrypoint")]),
    ("S2", "`arguments`", &[Spec("arguments")]),
    ("S3", "`workflowTemplateRef`", &[Spec("workflowTemplateRef")]),
    (
        "S4",
        "`serviceAccountName`, `executor`, `automountServiceAccountToken`",
        &[Spec("serviceAccountName"), Spec("executor"), Key("automountServiceAccountToken")],
    ),
    ("S5", "`volumes`", &[Spec("volumes"), Template("volumes")]),
    ("S6", "`volumeClaimTemplates`", &[Spec("volumeClaimTemplates")]),
    ("S7", "`volumeClaimGC`", &[Spec("volumeClaimGC")]),
    ("S8", "`parallelism`", &[Spec("parallelism")]),
    ("S9", "`suspend`", &[Spec("suspend")]),
    ("S10", "`shutdown`", &[Verb("stop"), Verb("terminate"), Spec("shutdown")]),
    ("S11", "`activeDeadlineSeconds`", &[Spec("activeDeadlineSeconds")]),
    ("S12", "`onExit`, `hooks.exit`", &[Spec("onExit")]),
    ("S13", "`hooks`", &[Spec("hooks")]),
    ("S14", "`ttlStrategy`", &[Spec("ttlStrategy")]),
    ("S15", "`podGC`", &[Spec("podGC")]),
    ("S16", "`priority`", &[Spec("priority")]),
    (
        "S17",
        "`nodeSelector`, `affinity`, `tolerations` and the like",
        &[Key("nodeSelector"), Key("affinity"), Key("tolerations"), Key("hostAliases"), Key("dnsConfig")],
    ),
    ("S18", "`podSpecPatch`", &[Key("podSpecPatch")]),
    ("S19", "`podMetadata`", &[Spec("podMetadata")]),
    ("S20", "`workflowMetadata`", &[Spec("workflowMetadata")]),
    ("S21", "`templateDefaults`", &[Spec("templateDefaults")]),
    ("S22", "`retryStrategy` of the workflow", &[Spec("retryStrategy")]),
    ("S23", "`archiveLogs`", &[Key("archiveLogs")]),
    ("S24", "`artifactRepositoryRef`", &[Spec("artifactRepositoryRef")]),
    ("S25", "`artifactGC`", &[Spec("artifactGC")]),
    ("S26", "`podDisruptionBudget`", &[Spec("podDisruptionBudget")]),
    ("S27", "`metrics`", &[Key("metrics")]),
    ("S28", "`synchronization`", &[Key("synchronization")]),
    ("T1", "`container`", &[Template("container")]),
    ("T2", "`script`", &[Template("script")]),
    ("T3", "`steps`", &[Template("steps")]),
    ("T4", "`dag`", &[Template("dag")]),
    ("T5", "`suspend`", &[Template("suspend")]),
    ("T6", "`resource`", &[Template("resource")]),
    ("T7", "`http`", &[Template("http")]),
    ("T8", "`plugin`", &[Template("plugin")]),
    ("T9", "`data`", &[Template("data")]),
    ("T10", "`containerSet`", &[Template("containerSet")]),
    ("T11", "`inline`", &[Key("inline")]),
    ("T12", "`templateRef`", &[Key("templateRef")]),
    ("P3", "`enum`", &[Key("enum")]),
    ("P4", "`valueFrom.configMapKeyRef`", &[Key("configMapKeyRef")]),
    ("P5", "`valueFrom.path`", &[Key("path")]),
    ("P6", "`valueFrom.parameter`, `expression`", &[Key("parameter")]),
    ("P7", "`jsonPath`, `jqFilter`", &[Key("jsonPath"), Key("jqFilter")]),
    ("P8", "`supplied`", &[Key("supplied")]),
    ("P10", "`globalName` of parameters", &[Key("globalName")]),
    ("P12", "`{{inputs.parameters}}`", &[Text("{{inputs.parameters}}")]),
    ("A1", "`s3`", &[Key("s3")]),
    ("A3", "`git`", &[Key("git")]),
    ("A4", "`http` artifacts", &[Key("http")]),
    ("A5", "`raw`", &[Key("raw")]),
    ("A7", "`archive`", &[Key("archive")]),
    ("A10", "`from`", &[Key("from")]),
    ("A11", "`fromExpression`", &[Key("fromExpression")]),
    ("A12", "`subPath`", &[Key("subPath"), Key("subpath")]),
    ("A13", "`optional`", &[Key("optional")]),
    ("A14", "`mode`, `recurseMode`", &[Key("mode"), Key("recurseMode")]),
    ("N6", "node types", &[Node("TaskGroup"), Node("Retry"), Node("StepGroup")]),
    ("N8", "skipped and omitted nodes", &[Phase("Skipped"), Phase("Omitted")]),
    ("N15", "members of a `containerSet`", &[Node("Container")]),
    ("G1", "`withItems`, `withParam`, `withSequence`", &[Key("withItems"), Key("withParam"), Key("withSequence")]),
    ("G3", "`{{item}}`", &[Text("{{item")]),
    ("G6", "`when`", &[Key("when")]),
    ("G8", "`depends`", &[Key("depends")]),
    ("G9", "phases of a dag", &[Node("DAG")]),
    ("G10", "`failFast`", &[Key("failFast")]),
    ("G11", "`continueOn`", &[Key("continueOn")]),
    ("G14", "references that nobody gives", &[]),
    ("V1", "`{{tags}}`", &[Text("{{inputs.")]),
    ("V4", "`{{=expressions}}`", &[Text("{{=")]),
    ("V6", "functions of expressions", &[Text("sprig."), Text("asInt("), Text("jsonpath("), Text("toJson(")]),
    ("V8", "`outputs.result`", &[Text("outputs.result")]),
    ("L1", "`retryStrategy.limit`", &[Key("limit")]),
    ("L2", "`retryPolicy`", &[Key("retryPolicy")]),
    ("L3", "`retryStrategy.expression`", &[Text("lastRetry.")]),
    ("L4", "`backoff`", &[Key("backoff")]),
    ("L8", "`timeout`", &[Template("timeout")]),
    ("L9", "`pendingTimeout`", &[Key("pendingTimeout")]),
    ("L10", "`activeDeadlineSeconds` of a template", &[Template("activeDeadlineSeconds")]),
    ("L11", "`daemon`", &[Template("daemon")]),
    ("L12", "`sidecars`, `initContainers`", &[Template("sidecars"), Template("initContainers")]),
    ("L13", "exit handlers", &[Spec("onExit"), Key("onExit")]),
    ("L14", "named hooks", &[Key("hooks")]),
    ("L15", "stop and terminate with handlers", &[Verb("stop"), Verb("terminate")]),
    ("Y1", "mutexes and semaphores", &[Key("mutexes"), Key("semaphores"), Key("mutex"), Key("semaphore")]),
    ("M1", "`memoize`", &[Key("memoize")]),
    ("R1", "resume", &[Verb("resume")]),
    ("R3", "retry", &[Verb("retry")]),
    ("R4", "resubmit", &[Verb("resubmit")]),
];

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.contains_key(key) || map.values().any(|v| has_key(v, key)),
        Value::Array(list) => list.iter().any(|v| has_key(v, key)),
        _ => false,
    }
}

fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(t) => t.contains(text),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains(text) || has_text(v, text)),
        Value::Array(list) => list.iter().any(|v| has_text(v, text)),
        _ => false,
    }
}

/// Whether a recording shows a sign.
#[must_use]
pub fn shows(recording: &Value, sign: Sign) -> bool {
    let list = |key: &str| recording[key].as_array().into_iter().flatten();
    let spec = |o: &Value| o["spec"].clone();
    let rows = || list("workflows").flat_map(|w| w["status"]["nodes"].as_object().into_iter().flatten());
    match sign {
        Spec(key) => list("submitted").any(|o| !o["spec"][key].is_null()),
        Template(key) => list("submitted").any(|o| {
            let templates = o["spec"]["templates"].as_array().into_iter().flatten();
            templates.chain([&o["spec"]["templateDefaults"]]).any(|t| !t[key].is_null())
        }),
        Key(key) => list("submitted").any(|o| has_key(&spec(o), key)),
        Text(text) => list("submitted").any(|o| has_text(&spec(o), text)),
        Node(kind) => rows().any(|(_, row)| row["type"] == kind),
        Phase(phase) => rows().any(|(_, row)| row["phase"] == phase),
        Verb(verb) => list("actions").any(|a| a["argo"][0] == verb),
    }
}
