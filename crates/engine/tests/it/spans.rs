//! Spans of a run: one file of changes, what each tells.

use serde_json::{Value, json};
use windlass_engine::spans::{Ids, Span, Spans};

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Ids by name where they are known, so that a snapshot shows whose part what is.
fn told(spans: &[Span]) -> String {
    let ids = Ids::of("uid");
    let known = [("workflow", ids.workflow()), ("node a", ids.node("a")), ("node b", ids.node("b"))];
    let parent = |span: &Span| {
        let parent = span.parent?;
        known.iter().find(|(_, id)| *id == parent).map(|(name, _)| *name)
    };
    let line = |span: &Span| {
        let seconds = |t: jiff::Timestamp| t.as_second() - 1_800_000_000;
        let outcome = span.outcome.as_ref().map_or("-".to_owned(), |o| format!("{o:?}"));
        let (start, end) = (seconds(span.start), seconds(span.end));
        let (parent, pairs) = (parent(span).unwrap_or("nothing"), &span.attributes);
        format!("{} {start}..{end} of {parent}: {outcome} {pairs:?}\n", span.name)
    };
    spans.iter().map(line).collect()
}

fn row(kind: &str, phase: &str, message: &str) -> Value {
    json!({"type": kind, "phase": phase, "message": message, "displayName": "shown", "startedAt": "2027-01-15T08:00:00Z"})
}

#[test]
fn a_run_tells_what_took_how_long() {
    let mut spans = Spans::of(Ids::of("uid"), "ns", "wf", &json!({}));
    let mut out = String::new();
    for (second, change) in [
        (
            0,
            json!({"phase": "Running", "startedAt": "2027-01-15T08:00:00Z", "nodes": {
                "a": row("Steps", "Running", ""), "b": row("Pod", "Pending", "PodInitializing"),
            }}),
        ),
        (1, json!({"nodes": {"b": row("Pod", "Pending", "PodInitializing: still")}})),
        (2, json!({"nodes": {"b": row("Pod", "Pending", "ImagePullBackOff: no such image")}})),
        (3, json!({"nodes": {"b": row("Pod", "Running", "")}})),
        (5, json!({"nodes": {"b": row("Pod", "Failed", "oops"), "c": row("Skipped", "Skipped", "")}})),
        // A row that has ended is written again: nothing is told twice.
        (6, json!({"nodes": {"b": row("Pod", "Failed", "oops"), "c": row("Skipped", "Skipped", "")}})),
        (9, json!({"phase": "Failed", "nodes": {"d": row("Pod", "Pending", "")}})),
    ] {
        out += &format!("-- {second}\n{}", told(&spans.see(&change, at(second))));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn who_takes_a_run_over_tells_the_rest_in_the_same_trace() {
    let status = json!({"phase": "Running", "startedAt": "2027-01-15T07:59:00Z", "nodes": {
        "a": row("Pod", "Succeeded", ""), "b": row("Pod", "Running", ""),
    }});
    let mut spans = Spans::of(Ids::of("uid"), "ns", "wf", &status);
    let end =
        json!({"phase": "Succeeded", "nodes": {"a": row("Pod", "Succeeded", ""), "b": row("Pod", "Succeeded", "")}});
    let rest = spans.see(&end, at(7));
    insta::assert_snapshot!(told(&rest));
    let ids = Ids::of("uid");
    assert!(rest.iter().all(|span| span.trace == ids.trace()));
    let mut own: Vec<u64> = rest.iter().map(|span| span.id).collect();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), rest.len(), "each has its own id");
    assert_ne!(ids.trace(), Ids::of("another").trace());
    assert_eq!(ids.traceparent("b").len(), 55);
}
