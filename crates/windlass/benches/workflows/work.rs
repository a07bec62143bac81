//! The workloads: names, the Workflows of each, and how many pods they make. No pod of theirs takes any time.

use serde_json::{Value, json};

/// One workload.
pub(crate) struct Work {
    /// As it is asked for: `dag:1000`.
    pub(crate) name: String,
    /// What is submitted, all at once.
    pub(crate) workflows: Vec<Value>,
    /// How many pods they make.
    pub(crate) pods: usize,
    /// How many bytes a step gives as its parameter; none where steps give nothing.
    pub(crate) output: usize,
}

/// What can be asked for, each with a number: `NAME:N`.
pub(crate) const WORDS: &str = "one:N one-pod workflows at once; five:N workflows of five steps at once; dag:N a flat DAG; \
    layers:N layers of 100 tasks, each after all of the layer above; chain:N steps one after another; items:N a loop; \
    items100:N the same with parallelism 100; deep:N a template within itself; status:N a status of N times 100 kB";

/// The workload of that name; nothing where there is none.
pub(crate) fn work(name: &str) -> Option<Work> {
    let (kind, number) = name.split_once(':')?;
    let n: usize = number.parse().ok()?;
    let pod = json!({"name": "pod", "container": {"image": "busybox", "command": ["true"]}});
    let steps = |groups: Vec<Value>| json!([pod, {"name": "main", "steps": groups}]);
    let step = |i: usize| json!([{"name": format!("s{i}"), "template": "pod"}]);
    let spec = |templates: Value| json!({"entrypoint": "main", "templates": templates});
    let mut output = 0;
    let mut pods = n;
    let (count, spec) = match kind {
        "one" => (n, spec(json!([{"name": "main", "container": pod["container"]}]))),
        "five" => {
            pods = 5 * n;
            (n, spec(steps((0..5).map(step).collect())))
        }
        "chain" => (1, spec(steps((0..n).map(step).collect()))),
        "dag" => {
            let tasks: Vec<Value> = (0..n).map(|i| json!({"name": format!("t{i}"), "template": "pod"})).collect();
            (1, spec(json!([pod, {"name": "main", "dag": {"tasks": tasks}}])))
        }
        "layers" => {
            pods = 100 * n;
            (1, spec(json!([pod, {"name": "main", "dag": {"tasks": layers(n, 100)}}])))
        }
        "items" | "items100" => {
            let group = json!([{"name": "s", "template": "pod", "withSequence": {"count": n.to_string()}}]);
            let mut spec = spec(steps(vec![group]));
            if kind == "items100" {
                spec["parallelism"] = json!(100);
            }
            (1, spec)
        }
        "deep" => {
            let again = json!({"name": "again", "template": "main", "when": "{{inputs.parameters.left}} > 1",
                "arguments": {"parameters": [{"name": "left", "value": "{{=asInt(inputs.parameters.left) - 1}}"}]}});
            let main = json!({"name": "main", "inputs": {"parameters": [{"name": "left"}]},
                "steps": [[{"name": "go", "template": "pod"}], [again]]});
            let mut spec = spec(json!([pod, main]));
            spec["arguments"] = json!({"parameters": [{"name": "left", "value": number}]});
            (1, spec)
        }
        "status" => {
            (output, pods) = (25_000, 4 * n);
            let pod = json!({"name": "pod", "container": pod["container"], "outputs": {"parameters":
                [{"name": "text", "valueFrom": {"path": "/tmp/text"}}]}});
            let group = json!([{"name": "s", "template": "pod", "withSequence": {"count": pods.to_string()}}]);
            (1, spec(json!([pod, {"name": "main", "steps": [group]}])))
        }
        _ => return None,
    };
    let workflow = |i: usize| {
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": format!("{kind}-{i}")},
            "spec": spec})
    };
    Some(Work { name: name.to_owned(), workflows: (0..count).map(workflow).collect(), pods, output })
}

fn layers(deep: usize, wide: usize) -> Vec<Value> {
    let task = |layer: usize, i: usize| {
        let above: Vec<String> = (0..wide).map(|j| format!("t{}-{j}", layer.wrapping_sub(1))).collect();
        let mut task = json!({"name": format!("t{layer}-{i}"), "template": "pod"});
        if layer > 0 {
            task["depends"] = json!(above.join(" && "));
        }
        task
    };
    (0..deep).flat_map(|layer| (0..wide).map(move |i| task(layer, i))).collect()
}
