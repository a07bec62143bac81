//! What is wrong is said: all of it, with the place, before anything runs, and never by waiting in silence.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::house::{House, Running, until};

const FAULTY: &str = include_str!("faulty.yaml");

#[test]
fn every_fault_is_told_with_its_place() {
    let house = House::empty();
    let file = house.file("faulty.yaml", FAULTY);
    let all = [
        "faulty.yaml:6:15",
        "there is no template `mian`",
        "did you mean `main`?",
        "entrypoint: mian",
        "faulty.yaml:13:23",
        "a → b → a",
        "faulty.yaml:16:19",
        "`mesage`",
        "did you mean `message`?",
        "faulty.yaml:22:19",
        "`helo`",
        "did you mean `hello`?",
        "faulty.yaml:28:7",
        "there is no field `imagee`",
        "imagee: busybox",
        "faulty.yaml:30:16",
        "this must be a list",
        "faulty.yaml:31:15",
        "`inputs.parameters.mssage` is not known here",
        "8 errors",
    ];
    house.windlass(&["lint", &file]).exits(1).says(&all);
    // `run` says so before it makes a home; `submit` before it asks for an `up`.
    house.windlass(&["run", &file]).exits(1).says(&all);
    house.windlass(&["submit", &file]).exits(1).says(&all);
    let json = house.windlass(&["lint", &file, "-o", "json"]).exits(1).json();
    assert!(json.as_array().is_some_and(|a| a.len() == 9), "{json:#}");
}

#[test]
fn files_that_are_no_manifests() {
    let house = House::empty();
    let empty = house.file("empty.yaml", "");
    let text = house.file("text.yaml", "just words\n");
    let torn = house.file("torn.yaml", "kind: Workflow\nmetadata: {name: x\nspec: [\n");
    let binary = house.path("binary.yaml").to_str().unwrap().to_owned();
    std::fs::write(&binary, b"kind: Workflow\nname: \xff\xfe\n").unwrap();
    let folder = house.path("folder").to_str().unwrap().to_owned();
    std::fs::create_dir(&folder).unwrap();
    let missing = house.path("missing.yaml").to_str().unwrap().to_owned();
    for verb in ["lint", "submit", "run"] {
        let says = |path: &str, wanted: &[&str]| drop(house.windlass(&[verb, path]).exits(1).says(wanted));
        says(&missing, &["missing.yaml", "No such file"]);
        says(&binary, &["binary.yaml", "line 2", "UTF-8"]);
        says(&empty, &["no "]);
        says(&folder, &["folder"]);
        says(&torn, &["torn.yaml:"]);
        says(&text, &["text.yaml"]);
    }
}

/// A workflow of one step that cannot start, and what must be told about it while it waits.
fn waiting(house: &House, step: &str, wanted: &[&str], patience: Duration) -> String {
    let file = house.workflow("waits", &format!("entrypoint: main\ntemplates:\n- name: main\n{step}"));
    let begun = Instant::now();
    let running = Running::begin(&mut house.command(&["run", &file]));
    while begun.elapsed() < patience && !wanted.iter().all(|w| running.said().contains(w)) {
        std::thread::sleep(Duration::from_millis(50));
    }
    running.signal(Signal::INT);
    let done = running.finish(Duration::from_secs(20));
    let code = done.code;
    let done = done.says(wanted);
    assert!(code == Some(130) || code == Some(1), "{done:?}");
    done.stderr
}

#[test]
fn what_a_step_lacks_is_named_at_once() {
    let Some(house) = House::new("missing things") else { return };
    let patience = Duration::from_secs(15);
    let image = "  container: {image: nosuch.invalid/image:v1, command: [x]}\n";
    let said = waiting(&house, image, &["nosuch.invalid/image:v1", "ErrImagePull", "windlass image"], patience);
    // The cause, and the way out: no more than that.
    let lines: Vec<&str> = said.lines().take_while(|l| !l.is_empty()).collect();
    assert!(lines.len() == 2 && lines.iter().all(|l| l.len() < 240), "{lines:#?}");
    let env = |source: &str| {
        format!(
            "  container:\n    image: busybox\n    command: [sh, -c, exit]\n    env:\n    - name: X\n      valueFrom: {source}\n"
        )
    };
    let secret = env("{secretKeyRef: {name: no-such-secret, key: k}}");
    waiting(&house, &secret, &["secret \"no-such-secret\" not found"], patience);
    let map = env("{configMapKeyRef: {name: no-such-map, key: k}}");
    waiting(&house, &map, &["configmap \"no-such-map\" not found"], patience);
    // They are there, and a key is not.
    let keys = house.file(
        "keys.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: some-map}\ndata: {a: b}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: some-secret}\nstringData: {a: b}\n",
    );
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["run", &keys, &hello]).ok();
    let key = env("{configMapKeyRef: {name: some-map, key: absent}}");
    waiting(&house, &key, &["couldn't find key absent in ConfigMap default/some-map"], patience);
    let key = env("{secretKeyRef: {name: some-secret, key: absent}}");
    waiting(&house, &key, &["couldn't find key absent in Secret default/some-secret"], patience);
    let volume = "  volumes:\n  - name: v\n    secret: {secretName: no-such-volume}\n  container:\n    image: busybox\n    \
                  command: [sh, -c, exit]\n    volumeMounts: [{name: v, mountPath: /v}]\n";
    waiting(&house, volume, &["secret \"no-such-volume\" not found"], patience);

    let file = house.workflow(
        "nobody",
        "entrypoint: main\nserviceAccountName: nobody-here\ntemplates:\n- name: main\n  container: {image: busybox, command: [sh, -c, exit]}\n",
    );
    house.windlass(&["run", &file]).exits(1).says(&["serviceaccount \"nobody-here\" not found"]);
    let file = house.workflow(
        "noprogram",
        "entrypoint: main\ntemplates:\n- name: main\n  container: {image: busybox, command: [no-such-program]}\n",
    );
    house.windlass(&["run", &file]).exits(1).says(&["no-such-program"]);
    let file = house.workflow(
        "noparameter",
        "entrypoint: main\narguments: {parameters: [{name: needed}]}\ntemplates:\n- name: main\n  container: {image: busybox, command: [echo, '{{workflow.parameters.needed}}']}\n",
    );
    house.windlass(&["run", &file]).exits(1).says(&["needed"]);
}

#[test]
fn what_waits_goes_on_when_it_is_there() {
    let Some(house) = House::new("waiting for a Secret") else { return };
    let _up = house.up(&[]);
    let file = house.workflow(
        "waits",
        "entrypoint: main\ntemplates:\n- name: main\n  container:\n    image: busybox\n    command: [sh, -c, 'echo got $X']\n    env:\n    - name: X\n      valueFrom: {secretKeyRef: {name: late, key: k}}\n",
    );
    let name = house.windlass(&["submit", &file, "-o", "name"]).ok().stdout.trim().to_owned();
    until("`get` names the Secret", Duration::from_secs(5), || {
        let shown = house.windlass(&["get", &name]).ok().stdout;
        shown.contains("CreateContainerConfigError: secret \"late\" not found").then_some(())
    });
    let secret =
        house.file("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: late}\nstringData: {k: something}\n");
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["run", &secret, &hello]).ok();
    house.windlass(&["wait", &name]).ok();
    house.windlass(&["logs", &name]).ok().says(&["got something"]);
}

#[test]
fn verbs_without_an_up_say_what_to_do() {
    let house = House::empty();
    for verb in [&["list"][..], &["get", "x"], &["logs", "x"], &["wait", "x"], &["delete", "x"]] {
        house.windlass(verb).exits(1).says(&["no `windlass up` runs on", "--kubeconfig"]);
    }
    let hello = house.workflow("hello", crate::run::HELLO);
    house.windlass(&["submit", &hello]).exits(1).says(&["no `windlass up` runs on"]);
    house.windlass(&["nosuchverb"]).exits(2);
    house.windlass(&["run"]).exits(2);
    house.windlass(&["run", &hello, "-p", "no-equals"]).exits(1).says(&["no-equals", "KEY=VALUE"]);
}
