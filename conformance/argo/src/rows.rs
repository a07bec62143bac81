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
    /// A text in a message of the workflow or of a node in the end.
    Message(&'static str),
    /// A key of a node's row in the end, or within it.
    Row(&'static str),
    /// What somebody does.
    Verb(&'static str),
    /// The case's own name has this in it.
    Case(&'static str),
}

/// One row: id, what it is, and its signs (one of them is enough).
pub type Row = (&'static str, &'static str, &'static [Sign]);

use Sign::{Case, Key, Message, Node, Phase, Row as Cell, Spec, Template, Text, Verb};

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
    ("S29", "`executorPlugins`, `podResources`, `resourceClaims`", &[Key("podResources"), Key("resourceClaims")]),
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
    ("T13", "validation", &[]),
    ("P1", "which value of an input counts", &[Key("default")]),
    ("P2", "numbers and objects as texts", &[Text("asInt("), Case("loops-maps")]),
    ("P3", "`enum`", &[Key("enum")]),
    ("P4", "`valueFrom.configMapKeyRef`", &[Key("configMapKeyRef")]),
    ("P5", "`valueFrom.path`", &[Key("path")]),
    ("P6", "`valueFrom.parameter`, `expression`", &[Key("parameter")]),
    ("P7", "`jsonPath`, `jqFilter`", &[Key("jsonPath"), Key("jqFilter")]),
    ("P8", "`supplied`", &[Key("supplied")]),
    ("P9", "`event`", &[]),
    ("P10", "`globalName` of parameters", &[Key("globalName")]),
    ("P11", "an argument that is not given", &[Message("was not supplied")]),
    ("P12", "`{{inputs.parameters}}`", &[Text("{{inputs.parameters}}")]),
    ("A1", "`s3`", &[Key("s3")]),
    ("A2", "`gcs`, `azure`, `oss`, `artifactory`", &[]),
    ("A3", "`git`", &[Key("git")]),
    ("A4", "`http` artifacts", &[Key("http")]),
    ("A5", "`raw`", &[Key("raw")]),
    ("A6", "artifact plugins", &[]),
    ("A7", "`archive`", &[Key("archive")]),
    ("A8", "keys of artifacts that name none", &[Cell("artifacts")]),
    ("A9", "an artifact by its key alone", &[Case("key-only-artifact")]),
    ("A10", "`from`", &[Key("from")]),
    ("A11", "`fromExpression`", &[Key("fromExpression")]),
    ("A12", "`subPath`", &[Key("subPath"), Key("subpath")]),
    ("A13", "`optional`", &[Key("optional")]),
    ("A14", "`mode`, `recurseMode`", &[Key("mode"), Key("recurseMode")]),
    ("A15", "paths that lead out", &[]),
    ("A16", "artifacts on mounted volumes", &[Case("input-on-mount-workflow")]),
    ("A17", "`globalName` of artifacts", &[Case("global-outputs"), Case("global-outputs-dag")]),
    ("A18", "`artifactGC`", &[Key("artifactGC")]),
    ("A19", "logs as artifacts", &[Key("archiveLogs")]),
    ("N1", "ids of nodes", &[Node("Pod")]),
    ("N2", "names of nodes", &[Node("Pod")]),
    ("N3", "names of a loop's nodes", &[Key("withItems"), Key("withParam"), Key("withSequence")]),
    ("N4", "names of pods", &[Node("Pod")]),
    ("N5", "`displayName`", &[Node("Pod")]),
    ("N6", "node types", &[Node("TaskGroup"), Node("Retry"), Node("StepGroup")]),
    ("N7", "phases of nodes", &[Phase("Succeeded"), Phase("Failed"), Phase("Error")]),
    ("N8", "skipped and omitted nodes", &[Phase("Skipped"), Phase("Omitted")]),
    ("N9", "`children`, `outboundNodes`, `boundaryID`", &[Node("Steps"), Node("DAG")]),
    ("N10", "pods that cannot be made", &[Message("is forbidden"), Message("deemed errored")]),
    ("N11", "nodes that end when their report is there", &[Cell("outputs")]),
    ("N12", "pods that are gone", &[Message("pod deleted")]),
    ("N13", "the message of a failed pod", &[Message("(exit code ")]),
    ("N14", "the message of a pending pod", &[]),
    ("N15", "members of a `containerSet`", &[Node("Container")]),
    ("N16", "daemons that end", &[Template("daemon")]),
    ("N17", "templates that call themselves", &[Case("coinflip-recursive"), Case("recursive-for-loop")]),
    ("N18", "`progress`, `resourcesDuration`, `hostNodeName`", &[Cell("resourcesDuration")]),
    ("G1", "`withItems`, `withParam`, `withSequence`", &[Key("withItems"), Key("withParam"), Key("withSequence")]),
    ("G2", "empty loops", &[Message("Skipped, empty params")]),
    ("G3", "`{{item}}`", &[Text("{{item")]),
    (
        "G4",
        "what a loop gives",
        &[Case("param-aggregation"), Case("parameter-aggregation"), Case("loops-param-result")],
    ),
    ("G5", "artifacts of a loop", &[Case("data-transformations"), Case("data-transformation")]),
    ("G6", "`when`", &[Key("when")]),
    ("G7", "`when` before the rest of a step", &[Message("evaluated false")]),
    ("G8", "`depends`", &[Key("depends")]),
    ("G9", "phases of a dag", &[Node("DAG")]),
    ("G10", "`failFast`", &[Key("failFast")]),
    ("G11", "`continueOn`", &[Key("continueOn")]),
    ("G12", "`depends` on a task that is tried again", &[Case("dag-exhausted-retries"), Case("retry-nested-dag-test")]),
    ("G13", "references to tasks that come later", &[]),
    ("G14", "references that nobody gives", &[]),
    ("V1", "`{{tags}}`", &[Text("{{inputs.")]),
    ("V2", "the order in which texts are filled in", &[Text("{{inputs.parameters.{{")]),
    ("V3", "tags that nobody knows", &[Case("custom_template_variable")]),
    ("V4", "`{{=expressions}}`", &[Text("{{=")]),
    ("V5", "what an expression puts into a text", &[Text("{{=")]),
    ("V6", "functions of expressions", &[Text("sprig."), Text("asInt("), Text("jsonpath("), Text("toJson(")]),
    ("V7", "names with hyphens in expressions", &[Text("['")]),
    ("V8", "`outputs.result`", &[Text("outputs.result")]),
    ("V9", "the length of `outputs.result`", &[Case("handle-large-output-results")]),
    ("V10", "what a skipped step would have given", &[Case("skipped"), Case("conditional")]),
    ("V11", "parameters in the spec itself", &[Text("{{workflow.parameters.")]),
    ("L1", "`retryStrategy.limit`", &[Key("limit")]),
    ("L2", "`retryPolicy`", &[Key("retryPolicy")]),
    ("L3", "`retryStrategy.expression`", &[Text("lastRetry.")]),
    ("L4", "`backoff`", &[Key("backoff")]),
    ("L5", "`affinity.nodeAntiAffinity`", &[Key("nodeAntiAffinity")]),
    ("L6", "the end of a retry", &[Message("No more retries left"), Message("Max duration limit")]),
    ("L7", "pods that the node lost", &[Case("workflow-pod-restart")]),
    ("L8", "`timeout`", &[Template("timeout")]),
    ("L9", "`pendingTimeout`", &[Key("pendingTimeout")]),
    ("L10", "`activeDeadlineSeconds` of a template", &[Template("activeDeadlineSeconds")]),
    ("L11", "`daemon`", &[Template("daemon")]),
    ("L12", "`sidecars`, `initContainers`", &[Template("sidecars"), Template("initContainers")]),
    ("L13", "exit handlers", &[Spec("onExit"), Key("onExit")]),
    ("L14", "named hooks", &[Key("hooks")]),
    ("L15", "stop and terminate with handlers", &[Verb("stop"), Verb("terminate")]),
    ("Y1", "mutexes and semaphores", &[Key("mutexes"), Key("semaphores"), Key("mutex"), Key("semaphore")]),
    ("Y2", "`status.synchronization`", &[Key("synchronization")]),
    ("Y3", "locks in a database", &[]),
    ("Y4", "what waits for a lock", &[]),
    ("Y5", "a lock over all tries", &[]),
    ("Y6", "limits of the controller and of name spaces", &[]),
    ("Y7", "`resourceRateLimit`", &[]),
    ("M1", "`memoize`", &[Key("memoize")]),
    ("M2", "resubmission with what was made", &[]),
    ("R1", "resume", &[Verb("resume")]),
    ("R2", "`stop --node-field-selector`", &[]),
    ("R3", "retry", &[Verb("retry")]),
    ("R4", "resubmit", &[Verb("resubmit")]),
    ("R5", "`node set`", &[Case("node-suspend")]),
    ("R6", "delete", &[]),
    ("R7", "labels of a run", &[]),
    ("O1", "the archive", &[]),
    ("O2", "large node tables", &[]),
    ("O3", "the controller's ConfigMap", &[]),
    ("O4", "metrics", &[Key("metrics")]),
    ("O5", "tracing", &[]),
    ("O6", "CronWorkflow", &[]),
    ("O7", "WorkflowEventBinding", &[]),
    ("O8", "signed webhooks for events", &[]),
    ("O9", "who may do what", &[]),
    ("O10", "`templateReferencing`", &[]),
    ("O11", "executor plugins", &[]),
    ("O12", "several controllers", &[]),
    ("O13", "what is taken away later", &[Spec("ttlStrategy")]),
    ("O14", "the agent", &[]),
    ("O15", "definitions of the kinds", &[]),
];

/// Rows that no recording can show, or not alone, and the test that does: row, file from the top of the workspace, and the
/// test's name, or nothing for a file of cases.
pub const SHOWN: &[(&str, &str, &str)] = &[
    ("S7", "crates/windlass/tests/it/claims.rs", "claims_of_a_run"),
    ("S9", "crates/engine/tests/it/locks.rs", "a_suspended_run_takes_no_lock"),
    ("S16", "crates/control/tests/it/locks.rs", "no_more_workflows_run_than_the_configuration_says"),
    ("S25", "crates/control/tests/it/garbage.rs", "at_the_end_and_when_the_workflow_goes"),
    ("S26", "crates/control/tests/it/runs.rs", "a_budget_stands_while_its_run_goes_on"),
    ("T7", "crates/windlass/tests/it/kinds.rs", "requests"),
    ("T8", "crates/windlass/tests/it/plugins.rs", "plugins_carry_out_templates"),
    ("T9", "crates/windlass/tests/it/kinds.rs", "data"),
    ("T10", "crates/windlass/tests/it/kinds.rs", "container_sets"),
    ("T13", "crates/engine/tests/it/check.rs", "rules"),
    ("T13", "crates/engine/tests/it/lint.rs", "verdicts_are_argos"),
    ("P9", "crates/windlass/tests/it/events.rs", "an_event_runs_a_workflow"),
    ("A1", "crates/windlass/tests/it/stores.rs", "a_real_s3_server"),
    ("A2", "crates/artifacts/tests/it/clouds.rs", "gcs"),
    ("A3", "crates/artifacts/tests/it/checkouts.rs", "every_kind_of_revision"),
    ("A6", "crates/windlass/tests/it/artifact_plugins.rs", "artifacts_that_a_plugin_keeps"),
    ("A15", "crates/executor/src/inputs.rs", "impossible_paths_are_named"),
    ("A18", "crates/windlass/tests/it/garbage.rs", "artifacts_go_with_their_run"),
    ("N12", "crates/control/tests/it/runs.rs", "a_pod_that_is_deleted_while_it_runs_is_gone"),
    ("N14", "crates/windlass/tests/it/claims.rs", "a_run_says_what_its_claim_waits_for"),
    ("G13", "crates/engine/tests/it/lint.rs", "verdicts_are_argos"),
    ("V7", "crates/lang/tests/it/vectors.rs", ""),
    ("L5", "crates/engine/tests/cases/retry-elsewhere.yaml", ""),
    ("L9", "crates/engine/tests/it/pending.rs", "a_pod_that_stays_pending_is_deleted_and_its_node_failed"),
    ("Y2", "crates/control/tests/it/locks.rs", "a_controller_that_was_killed_knows_who_holds_what"),
    ("Y3", "crates/control/tests/it/locks.rs", "locks_in_a_database_have_their_limits_there_and_survive"),
    ("Y4", "crates/engine/tests/it/locks.rs", "the_status_tells_what_is_held_and_awaited"),
    ("Y5", "crates/engine/tests/cases/locks-retry.yaml", ""),
    ("Y6", "crates/control/tests/it/locks.rs", "no_more_workflows_run_than_the_configuration_says"),
    ("Y7", "crates/windlass/tests/it/steer.rs", "a_limit_of_the_controller_is_explained"),
    ("M2", "crates/windlass/tests/it/steer.rs", "a_run_is_retried_resumed_and_resubmitted"),
    ("R2", "crates/engine/tests/it/manual.rs", "cases_by_hand"),
    ("R5", "crates/engine/tests/it/manual.rs", "cases_by_hand"),
    ("R6", "crates/windlass/tests/it/claims.rs", "claims_of_a_run"),
    ("R7", "crates/control/tests/it/archive.rs", "what_ends_is_kept_and_says_so"),
    ("O1", "crates/windlass/tests/it/archive.rs", "a_run_is_found_after_it_is_gone"),
    ("O1", "crates/archive/tests/it/argo.rs", "rows_of_argo_are_read_and_ours_lie_beside_them"),
    ("O1", "crates/windlass/tests/it/database.rs", "what_ends_on_a_cluster_is_kept_in_a_database"),
    ("O2", "crates/control/tests/it/large.rs", "a_large_table_is_packed_and_read_again_by_the_next_who_starts"),
    ("O2", "crates/control/tests/it/large.rs", "a_table_that_does_not_fit_packed_lies_on_pages"),
    ("O2", "crates/control/tests/it/large.rs", "pages_that_nobody_names_go_after_a_while"),
    ("O2", "crates/windlass/tests/it/large.rs", "every_verb_reads_a_table_that_lies_on_pages"),
    ("O3", "crates/engine/tests/it/defaults.rs", "defaults_fill_in_what_a_workflow_leaves_out"),
    ("O4", "crates/engine/tests/it/metrics.rs", "metrics_are_told_when_nodes_and_the_run_begin_and_end"),
    ("O5", "crates/control/tests/it/traces.rs", "a_run_is_one_trace"),
    ("O6", "crates/control/tests/it/cron.rs", "every_tick_once"),
    ("O7", "crates/windlass/tests/it/events.rs", "an_event_runs_a_workflow"),
    ("O8", "crates/server/tests/it/event.rs", "a_forge_that_signs_needs_no_token"),
    ("O9", "crates/windlass/tests/it/rights.rs", "rbac_decides_for_the_tokens_of_pods"),
    ("O10", "crates/engine/tests/it/restrictions.rs", "workflows_refer_and_say_little_themselves"),
    ("O11", "crates/windlass/tests/it/plugins.rs", "plugins_carry_out_templates"),
    ("O12", "crates/control/tests/it/simulation/takeover.rs", "one_works_and_the_next_takes_over"),
    ("O12", "crates/control/tests/it/instances.rs", "each_runs_its_own"),
    ("O13", "crates/control/tests/it/archive.rs", "the_configuration_says_what_and_how_long"),
    ("O15", "crates/engine/tests/it/lint.rs", "cases"),
];

/// Rows that are shown nowhere, and why.
pub const NOT_SHOWN: &[(&str, &str)] = &[
    ("V2", "only within other cases"),
    ("O14", "there is none, on purpose: an `http` or `plugin` node is a pod of its own (docs/argo.md)"),
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
        Message(text) => {
            let says = |m: &Value| m.as_str().is_some_and(|m| m.contains(text));
            list("workflows").any(|w| says(&w["status"]["message"])) || rows().any(|(_, row)| says(&row["message"]))
        }
        Cell(key) => rows().any(|(_, row)| has_key(row, key)),
        Case(name) => recording["case"].as_str().is_some_and(|case| case.contains(name)),
        Verb(verb) => list("actions").any(|a| a["argo"][0] == verb),
    }
}
