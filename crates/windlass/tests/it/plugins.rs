//! Executor plugins as real containers: who takes a template is asked again as it says, what it gives goes on, and what nobody
//! takes fails.

use std::path::Path;

use crate::house::House;

#[test]
fn plugins_carry_out_templates() {
    let case = "executor plugins";
    let Some(house) = House::new(case) else { return };
    house.image("windlass.it/busybox:1", &["busybox", "sh", "echo", "cat", "mkdir"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/cluster/plugins.yaml");
    let file = file.to_str().unwrap();
    house.windlass(&["lint", file]).ok();
    let done = house.windlass(&["run", file, "-o", "json"]).ok().json();
    let nodes = done["status"]["nodes"].as_object().unwrap();
    let row = |name: &str| nodes.values().find(|n| n["displayName"] == name).unwrap();
    let told: Vec<String> = ["you", "nobody", "other", "show"]
        .into_iter()
        .map(|name| {
            let row = row(name);
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            let said = row["outputs"]["parameters"][0]["value"].as_str().unwrap_or_default();
            let given = row["inputs"]["parameters"][0]["value"].as_str().unwrap_or_default();
            format!("{name} {} {} [{}] {given} -> {said}", text("type"), text("phase"), text("message"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "you Plugin Succeeded [] you -> hello you",
            "nobody Plugin Failed [nobody is there] nobody -> ",
            "other Plugin Failed [no plugin executed the template]  -> ",
            "show Pod Succeeded [] hello you -> ",
        ]
    );
    assert_eq!(done["status"]["phase"], "Succeeded");
}
