//! Artifact garbage collection: which artifacts get into which ledgers, and what the status tells afterwards.

use serde_json::{Value, json};
use windlass_engine::{Config, garbage};
use windlass_model::Workflow;
use windlass_model::garbage::WorkflowArtifactGcTask;

fn workflow() -> Workflow {
    let pod = |id: &str, artifacts: Value| json!({"id": id, "type": "Pod", "outputs": {"artifacts": artifacts}});
    serde_json::from_value(json!({
        "metadata": {"name": "wf", "namespace": "default", "uid": "u1", "resourceVersion": "7"},
        "spec": {
            "artifactGC": {
                "strategy": "OnWorkflowDeletion", "serviceAccountName": "cleaner",
                "podMetadata": {"labels": {"team": "a"}, "annotations": {"why": "gc"}},
                "podSpecPatch": "nodeSelector: {disk: fast}",
            },
            "templates": [],
        },
        "status": {
            "conditions": [{"type": "Completed", "status": "True"}],
            "nodes": {
                "wf-1": pod("wf-1", json!([
                    {"name": "later", "path": "/a", "archive": {"none": {}}, "local": {"key": "wf/1/later.tgz"}},
                    {"name": "soon", "s3": {"key": "wf/1/soon"}, "artifactGC": {"strategy": "OnWorkflowCompletion"}},
                    {"name": "kept", "s3": {"key": "wf/1/kept"}, "artifactGC": {"strategy": "Never"}},
                    {"name": "gone", "s3": {"key": "wf/1/gone"}, "deleted": true},
                ])),
                "wf-2": pod("wf-2", json!([
                    {"name": "other", "s3": {"key": "wf/2/other"}, "artifactGC": {
                        "strategy": "", "serviceAccountName": "second", "podMetadata": {"labels": {"team": "b"}},
                    }},
                ])),
                // Only pods make artifacts; a retry node only shows them again.
                "wf-3": {"id": "wf-3", "type": "Retry", "outputs": {"artifacts": [{"name": "x", "s3": {"key": "k"}}]}},
            },
        },
    }))
    .unwrap()
}

fn config() -> Config {
    let repository = json!({"s3": {"endpoint": "minio:9000", "bucket": "b", "insecure": true}, "archiveLogs": true});
    Config { artifact_repository: serde_json::from_value(repository).unwrap(), ..Config::default() }
}

fn stored(ledgers: Vec<WorkflowArtifactGcTask>) -> Vec<WorkflowArtifactGcTask> {
    let with_uid = |mut l: WorkflowArtifactGcTask| {
        l.metadata.uid = Some(format!("of {}", l.metadata.name.as_deref().unwrap()));
        l
    };
    ledgers.into_iter().map(with_uid).collect()
}

#[test]
fn ledgers_by_time_account_and_metadata() {
    let (ledgers, fault) = garbage::ledgers(&workflow(), &[], &config());
    assert_eq!(fault, None);
    insta::assert_yaml_snapshot!("ledgers", ledgers);
    // What is written is not written again.
    assert_eq!(garbage::ledgers(&workflow(), &ledgers, &config()), (vec![], None));
    // A later workflow of the same name has ledgers of its own.
    let mut later = workflow();
    later.metadata.uid = Some("u2".to_owned());
    let names = |all: &[WorkflowArtifactGcTask]| all.iter().map(|l| l.metadata.name.clone()).collect::<Vec<_>>();
    let (others, _) = garbage::ledgers(&later, &[], &config());
    assert!(names(&others).iter().all(|name| !names(&ledgers).contains(name)));
}

#[test]
fn a_ledger_fits_into_a_pod() {
    let mut workflow = workflow();
    let artifact = |n: usize| json!({"name": format!("a{n}"), "s3": {"key": "k".repeat(900)}});
    let rows: Vec<Value> = (0..400).map(artifact).collect();
    let node = json!({"id": "wf-1", "type": "Pod", "outputs": {"artifacts": rows}});
    workflow.status.as_mut().unwrap().nodes = [("wf-1".to_owned(), serde_json::from_value(node).unwrap())].into();
    let (ledgers, _) = garbage::ledgers(&workflow, &[], &config());
    let ledgers = stored(ledgers);
    let sizes: Vec<usize> = ledgers.iter().map(|l| l.spec.artifacts_by_node["wf-1"].artifacts.len()).collect();
    assert!(ledgers.len() > 3 && sizes.iter().sum::<usize>() == 400, "{sizes:?}");
    let names: std::collections::BTreeSet<_> = ledgers.iter().map(|l| &l.metadata.name).collect();
    assert_eq!(names.len(), ledgers.len());
    for ledger in &ledgers {
        let pod = garbage::pod(ledger, 0).unwrap();
        let annotations = pod["metadata"]["annotations"].to_string().len();
        assert!(annotations < 200_000, "{annotations}");
    }
    // One more of them later does not take the place of an older one.
    let (more, _) = garbage::ledgers(&workflow, &ledgers[1..], &config());
    assert_eq!(more.len(), 1);
}

#[test]
fn the_pod_and_what_it_answered() {
    let (ledgers, _) = garbage::ledgers(&workflow(), &[], &config());
    let ledgers = stored(ledgers);
    let ledger = ledgers.iter().find(|l| l.spec.artifacts_by_node.contains_key("wf-2")).unwrap();
    insta::assert_yaml_snapshot!("pod", garbage::pod(ledger, 1).unwrap());

    let done = garbage::removals(ledger, Ok("[null]"));
    assert_eq!(garbage::Leftover::of(&done), None);
    insta::assert_yaml_snapshot!("removed", garbage::removed_patch(&workflow(), ledger, "p", &done));

    let failed = garbage::removals(ledger, Ok(r#"["s3://b/wf/2/other: AccessDenied"]"#));
    assert_eq!(garbage::Leftover::of(&failed).unwrap().count, 1);
    let patch = garbage::removed_patch(&workflow(), ledger, "p", &failed);
    insta::assert_yaml_snapshot!("not removed", patch["status"]["conditions"]);
    assert_eq!(patch["status"]["nodes"]["wf-2"]["outputs"]["artifacts"][0].get("deleted"), None);
    let left = garbage::Leftover::of(&failed).unwrap();
    assert_eq!(
        garbage::failure(ledger, &left, None),
        "Artifact Garbage Collection failed for strategy OnWorkflowDeletion, err:s3://b/wf/2/other: AccessDenied"
    );
    assert_eq!(
        garbage::failure(ledger, &left, Some("p-r2")),
        "Artifact Garbage Collection failed for strategy OnWorkflowDeletion, \
         pod p-r2 exited with non-zero exit code: check pod logs for more information"
    );
    // Neither silence nor nonsense counts as removed.
    for report in [Err("pod p: Evicted"), Ok("[]"), Ok("{")] {
        assert_eq!(garbage::Leftover::of(&garbage::removals(ledger, report)).unwrap().count, 1);
    }
}

#[test]
fn the_end_is_seen_once() {
    let mut workflow = workflow();
    let patch = garbage::seen_patch(&workflow, None).unwrap();
    assert_eq!(patch["status"], json!({"artifactGCStatus": {"strategiesProcessed": {"OnWorkflowCompletion": true}}}));
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    workflow.status.as_mut().unwrap().artifact_gc_status = Some(patch["status"]["artifactGCStatus"].clone());
    assert_eq!(garbage::seen_patch(&workflow, None), None);
    workflow.spec.artifact_gc.as_mut().unwrap().pod_spec_patch = Some("just words".to_owned());
    let (ledgers, fault) = garbage::ledgers(&workflow, &[], &config());
    assert_eq!((ledgers.len(), fault.is_some()), (0, true));
    let patch = garbage::seen_patch(&workflow, fault.as_deref()).unwrap();
    assert_eq!(patch["status"]["conditions"][1]["type"], "ArtifactGCError");
}

#[test]
fn a_workflow_is_labelled_by_its_first_garbage() {
    let of = |strategy: &str| {
        let workflow: Workflow = serde_json::from_value(json!({
            "metadata": {"name": "wf", "namespace": "default", "uid": "u"},
            "spec": {"entrypoint": "main", "artifactGC": {"strategy": strategy}, "templates": [{
                "name": "main", "container": {"image": "i"}, "outputs": {"artifacts": [{"name": "a", "path": "/a"}]},
            }]},
        }))
        .unwrap();
        let mut run = windlass_engine::Run::load(&workflow, &Config::default());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        run.step(&[], now);
        let before = run.take_patch().unwrap()["metadata"]["labels"].clone();
        assert_eq!(before["windlass.dev/artifact-gc"], Value::Null);
        let result =
            json!({"metadata": {"name": "wf"}, "outputs": {"artifacts": [{"name": "a", "local": {"key": "k"}}]}});
        let pod = json!({
            "metadata": {"name": "wf", "uid": "p", "annotations": {"workflows.argoproj.io/node-id": "wf"}},
            "status": {"phase": "Succeeded"},
        });
        let result = serde_json::from_value(result).unwrap();
        run.step(&[windlass_engine::Observation::TaskResult(result), windlass_engine::Observation::Pod(pod)], now);
        assert!(run.is_completed());
        run.take_patch().unwrap()["metadata"]["labels"]["windlass.dev/artifact-gc"].clone()
    };
    assert_eq!(of("OnWorkflowDeletion"), "true");
    assert_eq!(of("Never"), Value::Null);
}

#[test]
fn the_same_pod_on_a_cluster() {
    use windlass_engine::pod_form::{PodForm, wrap};
    let form = PodForm { image: "ours:1".to_owned(), token_secret: "token".to_owned(), ..PodForm::default() };
    let of = |secret: bool, strategy: &str| {
        let mut config = config();
        if secret {
            let keys = json!({"name": "keys", "key": "k"});
            let s3 = config.artifact_repository.s3.as_mut().unwrap();
            s3.access_key_secret = serde_json::from_value(keys.clone()).unwrap();
            s3.secret_key_secret = serde_json::from_value(keys).unwrap();
        }
        let (ledgers, _) = garbage::ledgers(&workflow(), &[], &config);
        let ledger =
            stored(ledgers).into_iter().find(|l| l.metadata.name.as_ref().unwrap().contains(strategy)).unwrap();
        wrap(garbage::pod(&ledger, 0).unwrap(), &form, &Default::default())
    };
    let pod = of(true, "wfcomp").unwrap();
    let names = |list: &Value| list.as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&pod["spec"]["containers"]), ["supervisor", "main"]);
    assert_eq!(pod["spec"]["containers"][1]["image"], "ours:1");
    assert_eq!(pod["spec"]["serviceAccountName"], "cleaner");
    // The Secrets of the stores are where the artifacts are removed, and nowhere else.
    let holds = |c: &Value| c["volumeMounts"].to_string().contains("windlass-secrets");
    assert!(holds(&pod["spec"]["initContainers"][0]));
    assert!(pod["spec"]["containers"].as_array().unwrap().iter().all(|c| !holds(c)), "{pod:#}");
    assert!(of(false, "wfdel").unwrap_err().contains("built-in store"));
}

#[test]
fn a_plugin_removes_what_it_keeps() {
    use windlass_engine::artifact_plugins::ArtifactDriver;
    use windlass_engine::pod_form::{PodForm, wrap};
    let repository = json!({"plugin": {"name": "keeper", "configuration": "c"}});
    let mut config = Config { artifact_repository: serde_json::from_value(repository).unwrap(), ..Config::default() };
    let mut workflow = workflow();
    workflow.spec.artifact_gc.as_mut().unwrap().pod_spec_patch =
        Some("initContainers: [{name: artifact-plugin-keeper, env: [{name: A, value: b}]}]".to_owned());
    assert!(garbage::has_plugins(&workflow, &config));
    let fault = garbage::ledgers(&workflow, &[], &config).1.unwrap();
    assert!(fault.starts_with("artifact driver keeper not found"), "{fault}");
    config.artifact_drivers =
        vec![ArtifactDriver { name: "keeper".to_owned(), image: "keeper:1".to_owned(), timeout_seconds: Some(9) }];
    let (ledgers, fault) = garbage::ledgers(&workflow, &[], &config);
    assert_eq!(fault, None);
    let ledger = stored(ledgers).into_iter().find(|l| l.metadata.name.as_ref().unwrap().contains("wfcomp")).unwrap();
    let pod = garbage::pod(&ledger, 0).unwrap();
    // The patch completes the plugin's container.
    let plugin = &pod["spec"]["initContainers"][0];
    assert_eq!((&plugin["image"], &plugin["env"][0]["name"]), (&json!("keeper:1"), &json!("A")));
    let task: Value =
        serde_json::from_str(pod["metadata"]["annotations"]["windlass.dev/task"].as_str().unwrap()).unwrap();
    let told = json!({"name": "keeper", "configuration": "c", "connectionTimeoutSeconds": 9, "key": "wf/1/soon"});
    assert_eq!(task["garbage"][0]["plugin"], told);
    let form = PodForm { image: "ours:1".to_owned(), token_secret: "token".to_owned(), ..PodForm::default() };
    let pod = wrap(pod, &form, &Default::default()).unwrap();
    let inits = pod["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<&str> = inits.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["artifact-plugin-keeper", "init"]);
    assert!(inits[1]["volumeMounts"].to_string().contains("/tmp/artifact-plugins/keeper"));
}
