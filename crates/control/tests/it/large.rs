//! Node tables beyond what fits into an object: packed, read again after a restart, and given up when even that is not
//! enough.

use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_control::workflow;
use windlass_engine::manual::{self, Selector};
use windlass_model::{labels, packed};

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
    let mut patch = manual::resume(&whole, &Selector::parse("").unwrap(), jiff::Timestamp::now()).unwrap();
    packed::fit(&workflow, &mut patch);
    house.workflows().patch("w", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let ended = async || stored(&house).await["status"]["phase"] == "Succeeded";
    house.until("it succeeds", ended).await;
    let mut workflow = stored(&house).await;
    packed::expand(&mut workflow);
    let rows = workflow["status"]["nodes"].as_object().unwrap();
    assert_eq!(rows.len(), 62);
    assert!(rows.values().all(|row| row["phase"] == "Succeeded"), "{rows:#?}");
}

#[tokio::test]
async fn a_table_that_cannot_be_kept_ends_the_run_and_says_so() {
    let house = House::new().await;
    house.start(&house.client);
    // Nothing makes such texts shorter than base64 is: a xorshift's letters.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[usize::try_from(state % 64).unwrap()],
        )
    };
    submit(&house, (0..36).map(|_| (0..25_000).map(|_| letter()).collect()).collect(), "").await;
    let ended = async || stored(&house).await["status"]["phase"] == "Error";
    house.until("it ends", ended).await;
    let workflow: DynamicObject = house.workflows().get("w").await.unwrap();
    assert_eq!(workflow.labels()[labels::COMPLETED], "true");
    let message = workflow.data["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("the node table is too large to be kept: "), "{message}");
}
