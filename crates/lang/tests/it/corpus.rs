//! Answers of the real libraries, recorded outside of this repository. Where they are not at hand the tests say so.

use std::path::{Path, PathBuf};

use serde_json::Value;
use windlass_lang::{expr, when};

fn recording(name: &str) -> Option<Vec<Value>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/argo").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()),
        Err(_) => {
            eprintln!("NOT RUN: no recording at {}", path.display());
            None
        }
    }
}

/// Compares answers and gives the share that agree. Prints the first that do not.
fn judge(name: &str, rows: &[Value], answer: impl Fn(&str) -> Option<Value>) -> (usize, usize) {
    let show = std::env::var("SHOW").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let (mut same, mut shown) = (0, 0);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let ours = answer(text);
        let theirs =
            if row.get("error").is_some() { None } else { Some(row.get("json").cloned().unwrap_or(Value::Null)) };
        if agree(&ours, &theirs) {
            same += 1;
        } else if shown < show {
            shown += 1;
            eprintln!("{name}: {text}\n  ours   {ours:?}\n  theirs {theirs:?} {}", row["why"]);
        }
    }
    eprintln!("{name}: {same} of {} agree", rows.len());
    (same, rows.len())
}

fn agree(ours: &Option<Value>, theirs: &Option<Value>) -> bool {
    match (ours, theirs) {
        (Some(a), Some(b)) => same_value(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same_value(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| same_value(v, w)))
        }
        _ => a == b,
    }
}

fn when_json(value: &when::Value) -> Value {
    match value {
        when::Value::Bool(b) => Value::Bool(*b),
        when::Value::Number(n) => serde_json::Number::from_f64(*n).map_or(Value::Null, Value::Number),
        when::Value::Text(t) => Value::String(t.clone()),
        when::Value::List(items) => Value::Array(items.iter().map(when_json).collect()),
        when::Value::Null => Value::Null,
    }
}

#[test]
fn when_answers_as_recorded() {
    let Some(rows) = recording("when.jsonl") else { return };
    let (same, all) =
        judge("when", &rows, |text| when::Condition::parse(text).and_then(|c| c.value()).ok().map(|v| when_json(&v)));
    assert_eq!(same, all);
}

/// The names that the recorded questions use.
fn env() -> expr::Env {
    let names = serde_json::json!({
        "s": "hello", "n": "3", "f": "2.5", "b": "true", "empty": "", "i": 5, "x": 2.5, "t": true, "nul": null,
        "list": [3, 1, 2], "strs": ["b", "a", "c", "a"], "obj": {"k": "v", "n": 1},
        "rows": [
            {"name": "x", "v": 1, "ok": true}, {"name": "y", "v": 2, "ok": false}, {"name": "z", "v": 3, "ok": true},
        ],
        "js": "{\"a\":{\"b\":[1,2,{\"c\":\"d\"}]},\"e\":null,\"name\":\"Ünï\"}",
        "inputs": {"parameters": {"msg": "hi", "count": "7", "my-name": "dash"}},
        "steps": {"flip": {"outputs": {"result": "heads"}}},
        "big": "{\"store\":{\"book\":[{\"cat\":\"ref\",\"price\":8.95,\"title\":\"A\",\"tags\":[\"x\",\"y\"]},\
            {\"cat\":\"fic\",\"price\":12.99,\"isbn\":\"1\",\"title\":\"B\"},\
            {\"cat\":\"fic\",\"price\":22.99,\"isbn\":\"2\",\"title\":\"C\"}],\
            \"bike\":{\"color\":\"red\",\"price\":19.95}}}",
    });
    let mut env = expr::Env::default();
    for (name, value) in names.as_object().unwrap() {
        env.set(name, expr::Value::from(value));
    }
    env
}

/// What cannot be had, each with its reason: `KIND<tab>TEXT<tab>WHY`. A listed one that agrees fails the test.
fn not_had(kind: &str) -> Vec<String> {
    let rows = include_str!("../vectors/not-had.tsv").lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [of, text, why] = parts.as_slice() else { panic!("not a row of three: {line}") };
        assert!(!why.is_empty(), "{line}");
        (*of == kind).then(|| (*text).to_owned())
    })
    .collect()
}

/// Judges expressions; those that are listed must not agree.
fn judge_expressions(name: &str, rows: Vec<Value>) {
    let listed = not_had(name);
    let answer = |text: &str| {
        let value = expr::Expression::parse(text).and_then(|e| e.evaluate(&env())).ok()?;
        Some(value.to_json().unwrap_or(Value::Null))
    };
    let is_listed = |row: &Value| listed.iter().any(|text| row["text"] == **text);
    let (missing, rows): (Vec<Value>, Vec<Value>) = rows.into_iter().partition(is_listed);
    let (same, all) = judge(name, &rows, answer);
    assert_eq!(same, all, "{name}");
    let (same, all) = judge(&format!("{name}, listed as not had"), &missing, answer);
    assert_eq!((same, all), (0, listed.len()), "{name}: a listed one agrees or is not asked");
}

#[test]
fn expressions_answer_as_recorded() {
    let Some(rows) = recording("expr.jsonl") else { return };
    judge_expressions("expr", rows);
}

/// Our own questions, with the answers of the same libraries.
#[test]
fn own_questions_are_answered_as_by_go() {
    let rows = include_str!("../vectors/go.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    judge_expressions("own", rows.collect());
    // For asking more: a file of the same form.
    if let Ok(path) = std::env::var("WINDLASS_MORE_EXPR") {
        let text = std::fs::read_to_string(path).unwrap();
        judge_expressions("more", text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
    }
}
