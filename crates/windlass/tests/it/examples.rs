//! The folder `examples/`: every case passes without containers, and every workflow ends as it says with real ones.

use std::path::{Path, PathBuf};

use crate::house::House;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("examples")
}

fn example(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_cases_of_the_examples_pass() {
    let house = House::empty();
    let files = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter(|n| n.ends_with(".yaml") && !n.ends_with(".test.yaml")).collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let done = house.windlass(&["test", &example(&name)]).ok().says(&[" passed, 0 failed"]);
        assert!(!done.stdout.starts_with("0 passed"), "{name}: {done:?}");
        house.windlass(&["lint", "--offline", &example(&name)]).ok().says(&["no linting errors"]);
    }
}

#[test]
fn the_examples_run() {
    let house = House::empty();
    // As the folder's README says it.
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let made = readme.lines().find_map(|line| line.strip_prefix("windlass image from-host busybox ")).unwrap();
    let words: Vec<&str> = ["image", "from-host", "busybox"].into_iter().chain(made.split(' ')).collect();
    house.windlass(&words).ok();
    let run = |name: &str, more: &[&str]| {
        let file = example(name);
        let mut args = vec!["run", file.as_str()];
        args.extend(more);
        house.windlass(&args)
    };
    run("hello-world.yaml", &["--log"]).ok().says(&[": hello world", "Succeeded"]);
    run("hello-world.yaml", &["-p", "greeting=good day", "--log"]).ok().says(&[": good day"]);
    run("steps.yaml", &[]).ok().says(&["✔ kettle", "✔ tea", "✔ toast", "✔ breakfast"]);
    run("dag-diamond.yaml", &[]).ok().says(&["✔ fetch", "✔ unit", "✔ lint", "✔ publish"]);
    run("loops.yaml", &["--log"]).ok().says(&["✔ fruit(1:pear)", "✔ count(2:3)", ": tuesday: rice"]);
    run("coinflip.yaml", &["--log"]).ok().says(&[": it was heads"]);
    run("conditionals.yaml", &[]).ok().says(&["○ backup", "✔ deploy", "✔ balance"]);
    run("conditionals.yaml", &["-p", "env=production"]).ok().says(&["✔ backup", "✔ deploy", "✔ balance"]);
    run("exit-handlers.yaml", &[]).ok().says(&["✔ tidy", "○ alarm"]);
    run("exit-handlers.yaml", &["-p", "code=1"]).exits(1).says(&["exit code 1", "✔ tidy", "✔ alarm"]);
    run("retry.yaml", &[]).ok().says(&["(0)", "✔ retry-", "(2)"]);
    run("artifact-passing.yaml", &[]).ok().says(&["✔ write", "✔ read", "✔ look"]);
    run("output-parameters.yaml", &[]).ok().says(&["✔ scale", "✔ tell", "grams:", "1250"]);
    // What was run in the home is explained and shown again by the `up` of it.
    let up = house.up(&[]);
    let list = house.windlass(&["list", "-o", "name", "--prefix", "exit-handlers-", "--status", "Failed"]).ok().stdout;
    let failed = list.trim();
    house.windlass(&["explain", failed]).ok().says(&["Workflow exit-handlers-", "Failed", "exit code 1"]);
    house.windlass(&["replay", failed]).ok().says(&["AT", "ENDED", "alarm"]);
    let dry = house.windlass(&["retry", failed, "--dry-run"]).ok();
    dry.says(&["(dry-run)", "Pods deleted:"]);
    house.windlass(&["get", failed]).ok().says(&["Status:              Failed"]);
    // What was passed on can be had.
    let passed = house.windlass(&["list", "-o", "name", "--prefix", "artifact-passing-"]).ok().stdout;
    let out = house.path("out").to_str().unwrap().to_owned();
    let only = ["--artifact-name", "letter", "--path", "{templateName}"];
    let done = house.windlass(&["cp", passed.trim(), &out, only[0], only[1], only[2], only[3]]).ok().stdout;
    assert_eq!(done.lines().count(), 1, "{done}");
    assert!(done.starts_with(&format!("{out}/write/")) && std::fs::metadata(done.trim()).unwrap().len() > 0, "{done}");
    let away = ["--path", "../{artifactName}"];
    house.windlass(&["cp", passed.trim(), &out, away[0], away[1]]).exits(1).says(&["must stay within the directory"]);
    house.windlass(&["cp", failed, &out]).exits(1).says(&["has no such artifacts"]);
    up.end().exits(0);
}
