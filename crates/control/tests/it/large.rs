//! Node tables beyond what fits into an object: packed, and on pages where that is not enough; read again after a restart,
//! written by other hands, and given up when they are lost.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_control::{Scope, tables, workflow};
use windlass_engine::manual::{self, Selector};
use windlass_model::{labels, packed, paged, table};

use crate::runs::House;

/// As many nodes that wait for somebody as there are texts, each with its text and one of all among its inputs.
async fn submit(house: &House, texts: Vec<String>, common: &str) {
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"},
        "spec": {"entrypoint": "main", "arguments": {"parameters": [{"name": "common", "value": common}]}, "templates": [
            {"name": "main", "steps": [[{"name": "s", "template": "gate", "withItems": texts,
                "arguments": {"parameters": [{"name": "text", "value": "{{item}} {{workflow.parameters.common}}"}]}}]]},
            {"name": "gate", "suspend": {}, "inputs": {"parameters": [{"name": "text"}]}},
        ]},
    });
    let workflow = serde_json::from_value(workflow).unwrap();
    house.workflows().create(&PostParams::default(), &workflow).await.unwrap();
}

async fn stored(house: &House) -> Value {
    serde_json::to_value(house.workflows().get("w").await.unwrap()).unwrap()
}

fn waiting(mut workflow: Value) -> usize {
    packed::expand(&mut workflow);
    let rows = workflow["status"]["nodes"].as_object().cloned().unwrap_or_default();
    rows.values().filter(|row| row["type"] == "Suspend" && row["phase"] == "Running").count()
}

#[tokio::test]
async fn a_large_table_is_packed_and_read_again_by_the_next_who_starts() {
    let house = House::new().await;
    let first = CancellationToken::new();
    let settings = workflow::Settings::default();
    let loops = tokio::spawn(workflow::run(house.client.clone(), settings.clone(), first.clone()));
    submit(&house, (0..60).map(|i| i.to_string()).collect(), &"text ".repeat(6_000)).await;
    house.until("all wait", async || waiting(stored(&house).await) == 60).await;
    let workflow = stored(&house).await;
    assert!(workflow["status"]["compressedNodes"].as_str().unwrap().len() < 100_000);
    assert!(workflow["status"]["nodes"].is_null());
    first.cancel();
    loops.await.unwrap();

    house.start(&house.client);
    // Somebody who has not read it whole must not write a part of it.
    let mut whole = workflow.clone();
    packed::expand(&mut whole);
    let mut patch = manual::resume(&whole, &Selector::parse("").unwrap(), Timestamp::now()).unwrap();
    table::fit(&workflow, &whole, &mut patch, &tables::stamp()).unwrap();
    house.workflows().patch("w", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let ended = async || stored(&house).await["status"]["phase"] == "Succeeded";
    house.until("it succeeds", ended).await;
    let mut workflow = stored(&house).await;
    packed::expand(&mut workflow);
    let rows = workflow["status"]["nodes"].as_object().unwrap();
    assert_eq!(rows.len(), 62);
    assert!(rows.values().all(|row| row["phase"] == "Succeeded"), "{rows:#?}");
}

/// Nothing makes such texts shorter than base64 is: a xorshift's letters.
fn noise(texts: usize, bytes: usize) -> Vec<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[usize::try_from(state % 64).unwrap()])
    };
    (0..texts).map(|_| (0..bytes).map(|_| letter()).collect()).collect()
}

/// The names of the pages that there are.
async fn pages(house: &House) -> BTreeSet<String> {
    let maps = Api::<ConfigMap>::namespaced(house.client.clone(), "default");
    let all = maps.list(&ListParams::default().labels(labels::NODE_TABLE)).await.unwrap().items;
    all.iter().map(ResourceExt::name_any).collect()
}

/// Those that the workflow names.
fn named(workflow: &Value) -> BTreeSet<String> {
    let version = workflow["status"]["offloadNodeStatusVersion"].as_str().unwrap_or_else(|| panic!("{workflow:#}"));
    paged::names(version).unwrap().into_iter().collect()
}

#[tokio::test]
async fn a_table_that_does_not_fit_packed_lies_on_pages() {
    let house = House::new().await;
    let first = CancellationToken::new();
    let loops = tokio::spawn(workflow::run(house.client.clone(), workflow::Settings::default(), first.clone()));
    submit(&house, noise(36, 25_000), "").await;
    let whole = async || tables::whole(&house.client, stored(&house).await).await.unwrap();
    house.until("all wait", async || waiting(whole().await) == 36).await;
    let workflow = stored(&house).await;
    assert!(workflow["status"]["compressedNodes"].is_null() && workflow["status"]["nodes"].is_null());
    assert_eq!(workflow["metadata"]["labels"][labels::NODE_TABLE], "true");
    assert!(named(&workflow).len() >= 3 && named(&workflow).is_subset(&pages(&house).await));
    first.cancel();
    loops.await.unwrap();

    // The next who starts reads it, after somebody has let two of the nodes go on.
    let chosen = Selector::parse("displayName=s(7:s7)").unwrap();
    let mut whole = whole().await;
    let ids = whole["status"]["nodes"].as_object().unwrap().len();
    assert_eq!(ids, 38);
    let rows = whole["status"]["nodes"].as_object_mut().unwrap();
    let seventh =
        rows.values_mut().find(|row| row["displayName"].as_str().is_some_and(|n| n.starts_with("s(7:"))).unwrap();
    seventh["displayName"] = json!("s(7:s7)");
    let mut patch = manual::resume(&whole, &chosen, Timestamp::now()).unwrap();
    let written = table::fit(&workflow, &whole, &mut patch, &tables::stamp()).unwrap();
    tables::write(&house.client, "default", &workflow["metadata"], written.pages).await.unwrap();
    house.workflows().patch("w", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    house.start(&house.client);
    let whole = async || tables::whole(&house.client, stored(&house).await).await.unwrap();
    house.until("one goes on", async || waiting(whole().await) == 35).await;
    // A change of one row takes one page, and at most those of two versions lie about.
    let before = named(&stored(&house).await);
    let mut patch = manual::resume(&whole().await, &Selector::parse("").unwrap(), Timestamp::now()).unwrap();
    let (now, all) = (stored(&house).await, whole().await);
    let written = table::fit(&now, &all, &mut patch, &tables::stamp()).unwrap();
    tables::write(&house.client, "default", &now["metadata"], written.pages).await.unwrap();
    house.workflows().patch("w", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    house.until("it succeeds", async || stored(&house).await["status"]["phase"] == "Succeeded").await;
    let rows = whole().await["status"]["nodes"].as_object().unwrap().clone();
    assert_eq!(rows.len(), 38);
    assert!(rows.values().all(|row| row["phase"] == "Succeeded"));
    assert_ne!(before, named(&stored(&house).await));
}

#[tokio::test]
async fn a_table_of_which_a_part_is_gone_ends_the_run_and_says_which() {
    let house = House::new().await;
    let first = CancellationToken::new();
    let settings = workflow::Settings { always_offload: true, ..workflow::Settings::default() };
    let loops = tokio::spawn(workflow::run(house.client.clone(), settings, first.clone()));
    submit(&house, vec!["a".to_owned()], "").await;
    let whole = async || tables::whole(&house.client, stored(&house).await).await;
    house.until("it waits", async || whole().await.is_ok_and(|wf| waiting(wf) == 1)).await;
    first.cancel();
    loops.await.unwrap();
    let page = named(&stored(&house).await).pop_first().unwrap();
    let maps = Api::<ConfigMap>::namespaced(house.client.clone(), "default");
    maps.delete(&page, &DeleteParams::default()).await.unwrap();
    let fault = whole().await.unwrap_err();
    assert!(matches!(&fault, tables::Fault::Gone(gone) if *gone == page), "{fault}");
    house.start(&house.client);
    house.until("it ends", async || stored(&house).await["status"]["phase"] == "Error").await;
    let message = stored(&house).await["status"]["message"].clone();
    let told = format!("a part of its node table is gone: ConfigMap {page}; resubmit the workflow");
    assert_eq!(message, told);
}

#[tokio::test]
async fn a_table_in_argos_database_is_not_taken_for_an_empty_one() {
    let house = House::new().await;
    let workflow = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"name": "w", "labels": {labels::PHASE: "Running"}},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": {"image": "i"}}]},
        "status": {"phase": "Running", "offloadNodeStatusVersion": "fnv:784592"},
    });
    let workflow = serde_json::from_value(workflow).unwrap();
    house.workflows().create(&PostParams::default(), &workflow).await.unwrap();
    house.start(&house.client);
    house.until("it ends", async || stored(&house).await["status"]["phase"] == "Error").await;
    let message = stored(&house).await["status"]["message"].clone();
    let told = "its node table (version fnv:784592) is in the database of another controller, which Windlass does not \
                read: let that controller end the workflow, or resubmit it";
    assert_eq!(message, told);
    assert!(house.pods().list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn pages_that_nobody_names_go_after_a_while() {
    let house = House::new().await;
    let settings = workflow::Settings { always_offload: true, ..workflow::Settings::default() };
    tokio::spawn(workflow::run(house.client.clone(), settings, house.stop.clone()));
    let mut unnamed = tables::Unnamed::default();
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut look = async |minute: i64| {
        let at = begin + SignedDuration::from_mins(minute);
        unnamed.look(&house.client, &Scope::default(), at).await.unwrap();
    };
    submit(&house, vec!["a".to_owned()], "").await;
    let whole = async || tables::whole(&house.client, stored(&house).await).await;
    house.until("it waits", async || whole().await.is_ok_and(|wf| waiting(wf) == 1)).await;
    // Somebody died between the pages and the status.
    let rows = json!({"status": {"nodes": {"a": {"message": noise(1, 3_000_000)[0]}}}});
    let mut lost = rows.clone();
    let of = json!({"name": "w"});
    assert!(table::shrink(&mut lost, &tables::stamp()).is_err(), "one row is no table that anybody could keep");
    let rows: serde_json::Map<String, Value> = noise(4, 600_000)
        .into_iter()
        .enumerate()
        .map(|(i, text)| (format!("n{i}"), json!({"message": text})))
        .collect();
    let written = table::shrink(&mut json!({"status": {"nodes": rows}}), &tables::stamp()).unwrap();
    tables::write(&house.client, "default", &of, written.pages).await.unwrap();
    let named = named(&stored(&house).await);
    let there = pages(&house).await;
    assert!(there.len() >= named.len() + 4 && named.is_subset(&there));
    look(0).await;
    look(4).await;
    assert_eq!(pages(&house).await, there, "too early");
    look(5).await;
    assert_eq!(pages(&house).await, named);
    // The workflow goes, and its pages after it: what is deleted can still be read for a while.
    let deleted = stored(&house).await;
    house.workflows().delete("w", &DeleteParams::default()).await.unwrap();
    look(30).await;
    look(34).await;
    assert!(tables::whole(&house.client, deleted).await.is_ok());
    look(35).await;
    assert_eq!(pages(&house).await, BTreeSet::new());
}
