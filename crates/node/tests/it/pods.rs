//! What a Pod's spec asks for, container by container.

use crate::bench::Bench;
use crate::{List, cases};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use windlass_node::LogOptions;

pub fn list() -> List {
    cases![
        a_name_leads_where_it_led_last,
        mount_points_belong_to_the_root,
        a_pod_runs_and_its_log_stays,
        a_failure_tells_its_exit_code,
        files_env_and_downward_api,
        init_containers_share_volumes,
        the_service_account_is_there,
        what_is_missing_is_named_and_awaited,
        images_that_cannot_be_had,
        a_program_that_is_not_there,
        users_and_groups,
        what_is_not_allowed_is_refused,
        host_paths_only_where_allowed,
        claims_outlive_their_pods,
        long_logs_and_follow,
        a_pod_for_another_node_waits,
    ]
}

fn sh(script: &str) -> Value {
    json!({"name": "main", "command": ["sh", "-c", script]})
}

fn terminated(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

fn waiting(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["waiting"]
}

async fn a_pod_runs_and_its_log_stays(bench: Bench) {
    bench.pod("p", json!({"containers": [sh("echo out; echo err >&2; hostname")]})).await;
    let pod = bench.succeeded("p").await;
    assert_eq!(terminated(&pod)["reason"], "Completed");
    assert_eq!(terminated(&pod)["exitCode"], 0);
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.42."));
    assert_eq!(pod["spec"]["nodeName"], "node");
    let log = bench.logs(&pod, "main").await;
    assert!(log.contains("out\n") && log.contains("err\n") && log.contains("p\n"), "{log}");
    bench.delete("p").await;
    bench.until("p", Value::is_null).await;
}

async fn a_failure_tells_its_exit_code(bench: Bench) {
    let mut main = sh("echo the reason; exit 3");
    main["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    bench.pod("p", json!({"containers": [main]})).await;
    let pod = bench.ended("p").await;
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!((&terminated(&pod)["exitCode"], &terminated(&pod)["reason"]), (&json!(3), &json!("Error")));
    assert_eq!(terminated(&pod)["message"], "the reason\n");
    bench.pod("q", json!({"containers": [sh("echo written > /dev/termination-log; kill -9 $$")]})).await;
    let pod = bench.ended("q").await;
    assert_eq!(terminated(&pod)["message"], "written\n");
}

async fn files_env_and_downward_api(bench: Bench) {
    bench
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1", "b": "2"}}))
        .await;
    bench
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x.conf": "xx"}}))
        .await;
    let script = "cat /s/sub/a; stat -c %a /s/sub/a; cat /etc/x.conf; cat /d/labels; echo; \
        echo $A $NAME $LIMIT $PRE_a; echo no > /s/sub/a || echo read-only; cat /etc/hosts | tail -1";
    bench
        .pod(
            "p",
            json!({"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["far"]}],
                "volumes": [
                    {"name": "s", "secret": {"secretName": "s", "items": [{"key": "a", "path": "sub/a", "mode": 0o440}]}},
                    {"name": "c", "configMap": {"name": "c"}},
                    {"name": "d", "downwardAPI": {"items": [
                        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}],
                "containers": [{"name": "main", "command": ["sh", "-c", script],
                    "resources": {"limits": {"memory": "64Mi"}},
                    "envFrom": [{"prefix": "PRE_", "secretRef": {"name": "s"}}],
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
                        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
                    "volumeMounts": [{"name": "s", "mountPath": "/s", "readOnly": true},
                        {"name": "c", "mountPath": "/etc/x.conf", "subPath": "x.conf"},
                        {"name": "d", "mountPath": "/d"}]}]}),
        )
        .await;
    let pod = bench.succeeded("p").await;
    let log = bench.logs(&pod, "main").await;
    for line in ["1440\n", "xx", "app=\"p\"\n", "2 p 67108864 1\n", "read-only\n", "192.0.2.1\tfar\n"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
}

async fn init_containers_share_volumes(bench: Bench) {
    let mount = json!([{"name": "v", "mountPath": "/v"}]);
    let with = |mut container: Value, name: &str| {
        container["name"] = json!(name);
        container["volumeMounts"] = mount.clone();
        container
    };
    bench
        .pod(
            "p",
            json!({"volumes": [{"name": "v", "emptyDir": {}}],
                "initContainers": [with(sh("echo a >> /v/f"), "one"), with(sh("echo b >> /v/f"), "two")],
                "containers": [with(sh("cat /v/f"), "main")]}),
        )
        .await;
    let pod = bench.succeeded("p").await;
    assert_eq!(bench.logs(&pod, "main").await, "a\nb\n");
    assert_eq!(pod["status"]["initContainerStatuses"].as_array().unwrap().len(), 2);
    bench
        .pod(
            "q",
            json!({"initContainers": [with(sh("exit 7"), "one")], "containers": [sh("true")],
            "volumes": [{"name": "v", "emptyDir": {}}]}),
        )
        .await;
    let pod = bench.ended("q").await;
    assert_eq!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 7);
    assert_eq!(waiting(&pod)["reason"], "PodInitializing");
}

async fn the_service_account_is_there(bench: Bench) {
    let script = "cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; \
        head -c 27 ca.crt; echo; wc -c < token; echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT";
    let script = script.replace("head -c 27 ca.crt", "cat ca.crt");
    bench.pod("p", json!({"containers": [sh(&script)]})).await;
    let pod = bench.succeeded("p").await;
    let log = bench.logs(&pod, "main").await;
    assert!(log.starts_with(&format!("{}\n", bench.namespace)), "{log}");
    assert!(log.contains("BEGIN CERTIFICATE") && log.contains("10.96.0.1:443"), "{log}");
    let none = sh("ls /var/run/secrets/kubernetes.io 2>&1 || true");
    bench.pod("q", json!({"automountServiceAccountToken": false, "containers": [none]})).await;
    let pod = bench.succeeded("q").await;
    assert!(bench.logs(&pod, "main").await.contains("No such file"));
}

async fn what_is_missing_is_named_and_awaited(bench: Bench) {
    bench
        .pod(
            "volume",
            json!({"volumes": [{"name": "v", "secret": {"secretName": "late"}}],
                "containers": [{"name": "main", "command": ["cat", "/v/k"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
        )
        .await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k"}}}]);
    bench.pod("env", json!({"containers": [{"name": "main", "command": ["true"], "env": env}]})).await;
    let account = json!({"metadata": {"name": "account"}, "spec": {"serviceAccountName": "nobody",
        "containers": [{"name": "main", "image": crate::bench::IMAGE}]}});
    let account = serde_json::from_value(account).unwrap();
    let refused = bench.pods().create(&Default::default(), &account).await.unwrap_err().to_string();
    assert!(refused.contains("serviceaccount \"nobody\" not found"), "{refused}");
    let says =
        |word: &'static str| move |pod: &Value| waiting(pod)["message"].as_str().is_some_and(|m| m.contains(word));
    bench.until("volume", says("secret \"late\" not found")).await;
    let pod = bench.until("env", says("configmap \"gone\" not found")).await;
    assert_eq!(waiting(&pod)["reason"], "CreateContainerConfigError");
    let events = bench.events("volume").await.join("\n");
    assert!(events.contains("FailedMount: MountVolume.SetUp failed for volume \"v\""), "{events}");
    bench
        .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}, "stringData": {"k": "now"}}))
        .await;
    let pod = bench.succeeded("volume").await;
    assert_eq!(bench.logs(&pod, "main").await, "now");
}

async fn images_that_cannot_be_had(bench: Bench) {
    let with = |image: &str, policy: &str| json!({"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]});
    bench.pod("never", with("images.example/none:1", "Never")).await;
    bench.pod("far", with("127.0.0.1:1/none:1", "IfNotPresent")).await;
    bench.pod("here", with(crate::bench::IMAGE, "Always")).await;
    let reason = |reason: &'static str| move |pod: &Value| waiting(pod)["reason"] == reason;
    bench.until("never", reason("ErrImageNeverPull")).await;
    let pod = bench.until("far", reason("ErrImagePull")).await;
    assert!(waiting(&pod)["message"].as_str().unwrap().contains("127.0.0.1:1"), "{pod:#}");
    // Made on this machine: no registry is asked. It has no command, which is said.
    let pod = bench.until("here", reason("CreateContainerConfigError")).await;
    assert_eq!(waiting(&pod)["message"], "no command specified");
    bench.delete("far").await;
    bench.until("far", Value::is_null).await;
}

async fn a_program_that_is_not_there(bench: Bench) {
    bench.pod("p", json!({"containers": [{"name": "main", "command": ["/no/such"]}]})).await;
    let pod = bench.ended("p").await;
    assert_eq!(terminated(&pod)["reason"], "StartError");
    assert_eq!(terminated(&pod)["exitCode"], 127);
    assert!(terminated(&pod)["message"].as_str().unwrap().contains("/no/such"));
}

async fn users_and_groups(bench: Bench) {
    let single = bench.host.probe().uid_map == windlass_sandbox::UidMap::Single;
    if single {
        println!("NOT RUN users_and_groups: only one user id is mapped here");
        return;
    }
    let main = |security: Value| {
        json!({"name": "main", "command": ["sh", "-c", "id -u; id -g; id -G; echo $HOME; touch /v/f && stat -c %g /v/f"],
            "securityContext": security, "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    let spec = |security: Value| {
        json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [main(security)],
            "securityContext": {"fsGroup": 44, "supplementalGroups": [55]}})
    };
    bench.pod("p", spec(json!({"runAsUser": 33}))).await;
    let pod = bench.succeeded("p").await;
    let log = bench.logs(&pod, "main").await;
    assert!(log.starts_with("33\n33\n") && log.contains("44") && log.contains("55"), "{log}");
    assert!(log.ends_with("/var\n44\n"), "{log}");
    bench.pod("q", spec(json!({"runAsNonRoot": true}))).await;
    let refused = |pod: &Value| waiting(pod)["message"].as_str().is_some_and(|m| m.contains("runAsNonRoot"));
    bench.until("q", refused).await;
}

async fn what_is_not_allowed_is_refused(bench: Bench) {
    let mut main = sh("true");
    main["securityContext"] = json!({"privileged": true});
    bench.pod("p", json!({"hostPID": true, "containers": [main]})).await;
    let pod = bench.ended("p").await;
    let message = pod["status"]["message"].as_str().unwrap();
    let wanted = if bench.host.probe().root { "start windlass with --allow privileged" } else { "needs root" };
    assert!(message.contains("privileged") && message.contains(wanted), "{message}");
    assert!(message.contains("hostPID"), "{message}");
    assert_eq!(pod["status"]["phase"], "Failed");
}

async fn host_paths_only_where_allowed(bench: Bench) {
    let allowed = bench.home.join("allowed/data");
    std::fs::create_dir_all(&allowed).unwrap();
    std::fs::write(allowed.join("f"), "hello").unwrap();
    let spec = |path: &std::path::Path| {
        json!({"volumes": [{"name": "h", "hostPath": {"path": path}}],
            "containers": [{"name": "main", "command": ["cat", "/h/f"], "volumeMounts": [{"name": "h", "mountPath": "/h"}]}]})
    };
    bench.pod("p", spec(&allowed)).await;
    let pod = bench.succeeded("p").await;
    assert_eq!(bench.logs(&pod, "main").await, "hello");
    bench.pod("q", spec(std::path::Path::new("/etc"))).await;
    let pod = bench.ended("q").await;
    assert!(pod["status"]["message"].as_str().unwrap().contains("--allow-path"), "{:#}", pod["status"]);
}

async fn claims_outlive_their_pods(bench: Bench) {
    let spec = |script: &str| {
        json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
            "containers": [{"name": "main", "command": ["sh", "-c", script], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]})
    };
    bench.pod("p", spec("echo kept > /d/f")).await;
    let pod = bench.until("p", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    let message = pod["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("persistentvolumeclaim \"data\" not found"), "{message}");

    // Bound by hand, as the loops do it.
    let one = json!({"storage": "1Gi"});
    let modes = json!(["ReadWriteOnce"]);
    let meta = json!({"name": "data", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}});
    let spec_of_claim = json!({"accessModes": modes, "resources": {"requests": one}, "volumeName": "claims-data"});
    bench
        .create(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec_of_claim}))
        .await;
    let volumes: Api<PersistentVolume> = Api::all(bench.client.clone());
    let volume = json!({"metadata": {"name": "claims-data", "finalizers": ["local.windlass.dev/data"]}, "spec": {
        "accessModes": modes, "capacity": one, "persistentVolumeReclaimPolicy": "Delete",
        "csi": {"driver": "local.windlass.dev", "volumeHandle": "n_data"}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(bench.client.clone(), &bench.namespace);
    claims.patch_status("data", &PatchParams::default(), &bound).await.unwrap();
    bench.succeeded("p").await;
    let mut readonly = spec("cat /d/f; echo no > /d/f");
    readonly["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
    bench.pod("q", readonly).await;
    let pod = bench.ended("q").await;
    let log = bench.logs(&pod, "main").await;
    assert!(log.starts_with("kept\n") && log.contains("Read-only file system"), "{log}");

    // Its data goes when the volume is released, and not before.
    let data = bench.home.join("volumes/claims/n_data");
    assert!(data.join("f").exists());
    let released = Patch::Merge(json!({"status": {"phase": "Released"}}));
    volumes.patch_status("claims-data", &PatchParams::default(), &released).await.unwrap();
    let mut left = Vec::new();
    for _ in 0..200 {
        left = volumes.get("claims-data").await.unwrap().metadata.finalizers.unwrap();
        if left.len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(left, ["kubernetes.io/pv-protection"]);
    assert!(!data.exists());
}

async fn long_logs_and_follow(bench: Bench) {
    bench.pod("p", json!({"containers": [sh("for i in $(seq 5); do echo line $i; sleep 0.1; done")]})).await;
    let pod = bench.until("p", |pod| pod["status"]["phase"] == "Running").await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let log = bench.logs_with(&pod, "main", follow).await;
    assert_eq!(log.lines().count(), 5, "{log}");
    let tail = LogOptions { tail_lines: Some(1), ..LogOptions::default() };
    assert_eq!(bench.logs_with(&pod, "main", tail).await, "line 5\n");
    bench.succeeded("p").await;
}

async fn a_pod_for_another_node_waits(bench: Bench) {
    bench.pod("p", json!({"nodeSelector": {"disk": "hdd"}, "containers": [sh("true")]})).await;
    let pod = bench.until("p", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    bench.pod("q", json!({"nodeSelector": {"disk": "ssd"}, "containers": [sh("true")]})).await;
    bench.succeeded("q").await;
}

async fn a_name_leads_where_it_led_last(bench: Bench) {
    let name = "images.example/moving:1";
    let layer = bench.home.parent().unwrap().join("layer");
    for version in ["one", "two"] {
        let file = bench.home.join(version);
        std::fs::write(&file, version).unwrap();
        let spec = windlass_oci::host::HostSpec {
            add: vec![(layer.clone(), "/".into()), (file, "/version".into())],
            ..windlass_oci::host::HostSpec::default()
        };
        windlass_oci::host::build(&bench.store, &spec, &[name.parse().unwrap()]).unwrap();
        for again in ["first", "second"] {
            let pod = format!("{version}-{again}");
            let main = json!({"name": "main", "image": name, "command": ["cat", "/version"]});
            bench.pod(&pod, json!({"containers": [main]})).await;
            let pod = bench.succeeded(&pod).await;
            assert_eq!(bench.logs(&pod, "main").await, version);
        }
    }
}

async fn mount_points_belong_to_the_root(bench: Bench) {
    // What is below a container's root is the same for all: no container changes it for another.
    let script = "touch /etc/own /var/run/own && test -f /etc/hosts && \
        test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo fine";
    for name in ["one", "two"] {
        let main = json!({"name": "main", "command": ["sh", "-c", format!("ls /etc /var/run; {script}")]});
        bench.pod(name, json!({"containers": [main]})).await;
        let pod = bench.succeeded(name).await;
        let log = bench.logs(&pod, "main").await;
        assert!(log.ends_with("fine\n") && !log.contains("own"), "{log}");
    }
}
