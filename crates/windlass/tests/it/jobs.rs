//! Jobs and CronJobs with real pods, through the real kubectl.

use std::process::Command;
use std::time::Duration;

use crate::house::{House, not_run, run, until};

const JOBS: &str = "\
apiVersion: batch/v1
kind: Job
metadata: {name: indexed}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  ttlSecondsAfterFinished: 600
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}
---
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'exit 3']}
---
apiVersion: batch/v1
kind: Job
metadata: {name: shortlived}
spec:
  ttlSecondsAfterFinished: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'exit 0']}
---
apiVersion: batch/v1
kind: Job
metadata: {name: late}
spec:
  activeDeadlineSeconds: 1
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'exec busybox sleep 71010']}
";

#[test]
fn jobs_run_as_on_a_cluster() {
    let Some(house) = House::new("jobs") else { return };
    let Some(kubectl) = crate::kubectl::kubectl() else { return not_run("jobs", "there is no kubectl") };
    let up = house.up(&[]);
    let kubeconfig = house.home().join("run/kubeconfig");
    let k = |args: &[&str]| {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(&kubeconfig).args(args);
        run(command.env("HOME", house.path("")).env_remove("KUBECONFIG").current_dir(house.path("")))
    };
    k(&["create", "job", "hello", "--image=busybox", "--", "sh", "-c", "echo hello there"]).ok();
    k(&["wait", "--for=condition=complete", "job/hello", "--timeout=60s"])
        .ok()
        .says(&["job.batch/hello condition met"]);
    k(&["logs", "job/hello"]).ok().says(&["hello there"]);
    k(&["get", "job", "hello"]).ok().says(&["STATUS", "COMPLETIONS", "DURATION", "Complete", "1/1"]);
    k(&["describe", "job", "hello"]).ok().says(&[
        "Completion Mode:",
        "0 Active (0 Ready) / 1 Succeeded / 0 Failed",
        "SuccessfulCreate",
        "Created pod: hello-",
        "Completed",
        "Job completed",
    ]);
    let hello = k(&["get", "job", "hello", "-o", "json"]).ok().json();
    let conditions = hello["status"]["conditions"].as_array().unwrap();
    assert_eq!(
        conditions.iter().map(|c| c["type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["SuccessCriteriaMet", "Complete"]
    );
    // What may not change is refused in Kubernetes' words.
    k(&["create", "job", "bad", "--image=busybox", "--dry-run=server", "-o", "name"]).ok();
    let file = house.file("jobs.yaml", JOBS);
    k(&["apply", "-f", &file]).ok().says(&["job.batch/indexed created"]);
    k(&["wait", "--for=condition=complete", "job/indexed", "--timeout=60s"]).ok();
    let indexed = k(&["get", "job", "indexed", "-o", "json"]).ok().json();
    assert_eq!((&indexed["status"]["completedIndexes"], &indexed["status"]["succeeded"]), (&"0-2".into(), &3.into()));
    let said = k(&["logs", "-l", "job-name=indexed"]).ok().stdout;
    for index in 0..3 {
        assert!(said.contains(&format!("index {index}")), "{said}");
    }
    k(&["wait", "--for=condition=failed", "job/failing", "--timeout=60s"]).ok();
    k(&["get", "job", "failing"]).ok().says(&["Failed", "0/1"]);
    k(&["describe", "job", "failing"])
        .ok()
        .says(&["BackoffLimitExceeded", "Job has reached the specified backoff limit"]);
    k(&["wait", "--for=condition=failed", "job/late", "--timeout=60s"]).ok();
    let late = k(&["get", "job", "late", "-o", "jsonpath={.status.conditions[-1:].reason}"]).ok();
    assert_eq!(late.stdout, "DeadlineExceeded");
    k(&["wait", "--for=delete", "job/shortlived", "--timeout=60s"]).ok();
    // A changed template is refused; the Job and its pods go together.
    let patch = r#"{"spec":{"template":{"spec":{"restartPolicy":"OnFailure"}}}}"#;
    k(&["patch", "job", "hello", "-p", patch]).exits(1).says(&["field is immutable"]);
    k(&["delete", "job", "hello", "indexed"]).ok();
    until("their pods are gone", Duration::from_secs(30), || {
        let left = k(&["get", "pods", "-l", "job-name in (hello,indexed)", "-o", "name"]).ok().stdout;
        left.trim().is_empty().then_some(())
    });
    // A CronJob: by hand, by the clock, suspended.
    k(&["create", "cronjob", "tick", "--schedule=@every 2s", "--image=busybox", "--", "sh", "-c", "echo tick"]).ok();
    until("two ticks", Duration::from_secs(60), || {
        let done = k(&["get", "jobs", "-o", "name"]).ok().stdout;
        (done.matches("job.batch/tick-").count() >= 1).then_some(())
    });
    k(&["patch", "cronjob", "tick", "-p", r#"{"spec":{"suspend":true}}"#]).ok();
    k(&["create", "job", "byhand", "--from=cronjob/tick"]).ok();
    k(&["wait", "--for=condition=complete", "job/byhand", "--timeout=60s"]).ok();
    k(&["get", "cronjob", "tick"]).ok().says(&[
        "SCHEDULE",
        "TIMEZONE",
        "SUSPEND",
        "LAST SCHEDULE",
        "@every 2s",
        "True",
    ]);
    k(&["describe", "cronjob", "tick"]).ok().says(&["SuccessfulCreate", "Created job tick-"]);
    k(&["create", "cronjob", "wrong", "--schedule=* * *", "--image=busybox"])
        .exits(1)
        .says(&["expected exactly 5 fields"]);
    k(&["delete", "cronjob", "tick"]).ok();
    until("its jobs are gone", Duration::from_secs(30), || {
        let left = k(&["get", "jobs", "-o", "name"]).ok().stdout;
        (!left.contains("tick-")).then_some(())
    });
    up.end().exits(0);
}
