//! A run whose node table fits into no object, as people see it: it looks like any other.

use crate::house::{House, LONG, until};

/// Nothing makes such texts shorter than base64 is: a xorshift's letters.
fn noise(bytes: usize, state: &mut u64) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
    let mut letter = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        char::from(LETTERS[usize::try_from(*state % 64).unwrap()])
    };
    (0..bytes).map(|_| letter()).collect()
}

#[test]
fn every_verb_reads_a_table_that_lies_on_pages() {
    let Some(house) = House::new("large") else { return };
    let up = house.up(&[]);
    let mut state = 0x2545_f491_4f6c_dd1d;
    // The spec has each text once and the table twice: 900,000 bytes, and 1.8 MB of which packing takes a quarter. An object
    // has no room for both.
    let steps: String = (0..30)
        .map(|i| {
            let text = noise(30_000, &mut state);
            format!(
                "  - - {{name: s{i}, template: {}, arguments: {{parameters: [{{name: t, value: \"{text}\"}}]}}}}\n",
                if i == 28 { "gate" } else { "pass" }
            )
        })
        .collect();
    let spec = format!(
        "entrypoint: main\ntemplates:\n- name: main\n  steps:\n{steps}- name: pass\n  inputs: {{parameters: [{{name: t}}]}}\n  \
         steps:\n  - - {{name: in, template: inner, arguments: {{parameters: [{{name: t, value: \"{{{{inputs.parameters.t}}}}\"}}]}}}}\n\
         - name: inner\n  inputs: {{parameters: [{{name: t}}]}}\n  suspend: {{duration: \"0\"}}\n\
         - name: gate\n  inputs: {{parameters: [{{name: t}}]}}\n  suspend: {{}}\n"
    );
    let file = house.workflow("large", &spec);
    house.windlass(&["submit", &file, "--name", "w"]).ok();
    let waits = || house.windlass(&["get", "w"]).ok().stdout.contains("s28").then_some(());
    until("the gate is reached", LONG, waits);
    let object = house.windlass(&["get", "w", "-o", "json"]).ok().json();
    let table = object["status"]["nodes"].as_object().unwrap();
    assert!(object["status"].get("offloadNodeStatusVersion").is_none());
    assert!(table.len() > 80 && serde_json::to_vec(table).unwrap().len() > 1_600_000, "{}", table.len());
    house.windlass(&["get", "w"]).ok().says(&["Status:              Running (Suspended)", "s0", "s27", "s28"]);
    house.windlass(&["explain", "w", "s28"]).ok().says(&["suspended until somebody resumes it"]);
    house.windlass(&["list", "-o", "wide"]).ok().says(&["w ", "Running"]);

    // It is what it was after a start, and goes on by hand.
    up.crash();
    let up = house.up(&[]);
    let chosen = ["--node-field-selector", "displayName=s28"];
    house.windlass(&["stop", "w", chosen[0], chosen[1], "--message", "no"]).ok();
    house.windlass(&["wait", "w"]).exits(1).says(&["w Failed"]);
    house.windlass(&["get", "w"]).ok().says(&["Status:              Failed", "s28", "no"]);
    house.windlass(&["retry", "w", "--dry-run"]).ok().says(&["s28"]);
    house.windlass(&["retry", "w"]).ok();
    let waits = || house.windlass(&["get", "w"]).ok().stdout.contains("Running (Suspended)").then_some(());
    until("the gate is reached again", LONG, waits);
    house.windlass(&["resume", "w"]).ok().says(&["workflow w resumed"]);
    house.windlass(&["wait", "w"]).ok().says(&["w Succeeded"]);
    house.windlass(&["replay", "w"]).ok().says(&["s0", "s28", "s29"]);

    // It is archived whole, and its table is still there when it is gone.
    let archived = || {
        let list = house.windlass(&["archive", "list", "-o", "json"]).ok().json();
        list.as_array().is_some_and(|all| all.iter().any(|wf| wf["status"]["phase"] == "Succeeded")).then_some(())
    };
    until("it is archived", LONG, archived);
    house.windlass(&["delete", "w"]).ok();
    let whole = house.windlass(&["archive", "get", "w", "-o", "json"]).ok().json();
    assert!(whole["status"]["nodes"].as_object().unwrap().len() > 80);
    up.end();
}
