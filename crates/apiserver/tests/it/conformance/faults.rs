//! What is filled in, and what is wrong.

use super::world::World;
use serde_json::json;

pub(super) async fn defaults_are_filled_in(w: &World) {
    let ns = w.namespace("defaults").await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
            "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "m", "configMap": {"name": "x"}}, {"name": "h", "hostPath": {"path": "/x"}}],
        }},
    }});
    let made = w.post(&format!("/apis/apps/v1/namespaces/{ns}/deployments"), deployment).await.ok();
    let want = json!({
        "replicas": 0, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "template": {"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}, "spec": {
            "containers": [{
                "name": "c", "image": "nginx", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
                "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            }],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
                {"name": "m", "configMap": {"name": "x", "defaultMode": 420}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler",
        }},
    });
    assert_eq!(made["spec"], want, "{:#}", made["spec"]);
    assert_eq!(made["status"], json!({}));
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hello"}});
    let secret = w.post(&format!("/api/v1/namespaces/{ns}/secrets"), secret).await.ok();
    assert_eq!((&secret["type"], &secret["data"]), (&json!("Opaque"), &json!({"a": "aGVsbG8="})));
    assert!(secret.get("stringData").is_none());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "x:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
    ]}});
    let pod = w.post(&format!("/api/v1/namespaces/{ns}/pods"), pod).await.ok();
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(
        (&pod["spec"]["serviceAccountName"], &pod["spec"]["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(pod["spec"]["enableServiceLinks"], true);
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "Guaranteed"}));
    let namespace = w.get(&format!("/api/v1/namespaces/{ns}")).await.ok();
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], ns.as_str());
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
}

pub(super) async fn every_fault_is_told(w: &World) {
    let ns = w.namespace("faults").await;
    let deployments = format!("/apis/apps/v1/namespaces/{ns}/deployments");
    let bad = json!({"metadata": {"name": "web"}, "spec": {"replicas": -1, "selector": {"matchLabels": {}}, "template": {
        "metadata": {"labels": {"app": "b"}},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "C_", "ports": [{"containerPort": 0, "name": "Hello There"}], "volumeMounts": [{"name": "v", "mountPath": ""}],
            "env": [{"name": "a=b"}], "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}, "readinessProbe": {},
        }]},
    }}});
    let answer = w.post(&deployments, bad).await;
    answer.refused(422, "Invalid");
    let causes = answer.body["details"]["causes"].as_array().unwrap();
    let told: Vec<String> = causes
        .iter()
        .map(|c| {
            format!(
                "{} {} {}",
                c["reason"].as_str().unwrap(),
                c["field"].as_str().unwrap(),
                c["message"].as_str().unwrap()
            )
        })
        .collect();
    let mut told: Vec<String> = told.into_iter().map(|t| t.split(" (e.g.").next().unwrap().to_owned()).collect();
    told.sort();
    let at = "spec.template.spec.containers[0]";
    let mut want = vec![
        "FieldValueInvalid spec.replicas Invalid value: -1: must be greater than or equal to 0".to_owned(),
        "FieldValueInvalid spec.selector Invalid value: v1.LabelSelector{MatchLabels:map[string]string{}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for deployment".to_owned(),
        format!("FieldValueInvalid {at}.name Invalid value: \"C_\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"),
        format!("FieldValueRequired {at}.image Required value"),
        format!("FieldValueInvalid {at}.ports[0].name Invalid value: \"Hello There\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
        format!("FieldValueRequired {at}.ports[0].containerPort Required value"),
        format!("FieldValueInvalid {at}.env[0].name Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='"),
        format!("FieldValueNotFound {at}.volumeMounts[0].name Not found: \"v\""),
        format!("FieldValueRequired {at}.volumeMounts[0].mountPath Required value"),
        format!("FieldValueInvalid {at}.resources.requests Invalid value: \"2\": must be less than or equal to cpu limit of 1"),
        format!("FieldValueRequired {at}.readinessProbe Required value: must specify a handler type"),
        "FieldValueNotSupported spec.template.spec.restartPolicy Unsupported value: \"Never\": supported values: \"Always\"".to_owned(),
    ];
    want.sort();
    assert_eq!(told, want);
    let selector = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let text = "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value: map[string]string{\"app\":\"b\"}: `selector` does not match template `labels`";
    assert_eq!(w.post(&deployments, selector).await.refused(422, "Invalid"), text);
    let core = format!("/api/v1/namespaces/{ns}");
    for (path, object, want) in [
        (
            format!("{core}/configmaps"),
            json!({"metadata": {"name": "x"}, "data": {"a b": "c"}}),
            "ConfigMap \"x\" is invalid: data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ),
        (
            format!("{core}/secrets"),
            json!({"metadata": {"name": "x"}, "type": "kubernetes.io/tls", "data": {"a": "YQ=="}}),
            "Secret \"x\" is invalid: [data[tls.crt]: Required value, data[tls.key]: Required value]",
        ),
        (
            format!("{core}/pods"),
            json!({"metadata": {"name": "x"}, "spec": {}}),
            "Pod \"x\" is invalid: spec.containers: Required value",
        ),
        (
            format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles"),
            json!({"metadata": {"name": "x"}, "rules": [{"verbs": []}]}),
            "Role.rbac.authorization.k8s.io \"x\" is invalid: [rules[0].verbs: Required value: verbs must contain at least one value, rules[0].apiGroups: Required value: resource rules must supply at least one api group, rules[0].resources: Required value: resource rules must supply at least one resource]",
        ),
        (
            format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings"),
            json!({"metadata": {"name": "x"}, "roleRef": {"kind": "Foo", "name": ""}, "subjects": [{"kind": "X", "name": ""}]}),
            "RoleBinding.rbac.authorization.k8s.io \"x\" is invalid: [roleRef.kind: Unsupported value: \"Foo\": supported values: \"Role\", \"ClusterRole\", roleRef.name: Required value, subjects[0].name: Required value, subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"]",
        ),
    ] {
        let answer = w.post(&path, object).await;
        assert_eq!(answer.refused(422, "Invalid"), want, "{path}");
    }
    let pod = json!({"metadata": {"name": "x"}, "spec": {"serviceAccountName": "none", "containers": [{"name": "c", "image": "i"}]}});
    let text = format!(
        "pods \"x\" is forbidden: error looking up service account {ns}/none: serviceaccount \"none\" not found"
    );
    assert_eq!(w.post(&format!("{core}/pods"), pod).await.refused(403, "Forbidden"), text);
    let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    w.post(&format!("{core}/pods"), pod).await.ok();
    let moved = w.patch(&format!("{core}/pods/x"), "merge", json!({"spec": {"hostNetwork": true}})).await;
    assert!(moved.refused(422, "Invalid").starts_with(
        "Pod \"x\" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}});
    w.patch(&format!("{core}/pods/x"), "strategic-merge", image).await.ok();
}

pub(super) async fn unknown_fields_are_refused_when_asked(w: &World) {
    let ns = w.namespace("strict").await;
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let headers = [("content-type", "application/json")];
    let body = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","foo":1},"dat":{"a":"b"},"data":{"a":"1","a":"2"}}"#;
    let post = |query: &str| {
        let path = format!("{all}?{query}");
        async move { super::world::call(&w.client, "POST", &path, &headers, body.to_vec()).await }
    };
    let mut strict = post("fieldValidation=Strict").await;
    strict.refused(400, "BadRequest");
    let text = strict.body["message"].take();
    let (start, list) = text.as_str().unwrap().split_once(": strict decoding error: ").unwrap();
    assert_eq!(start, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap");
    let mut told: Vec<&str> = list.split(", ").collect();
    told.sort_unstable();
    assert_eq!(told, ["duplicate field \"data.a\"", "unknown field \"dat\"", "unknown field \"metadata.foo\""]);
    let warned = post("fieldValidation=Warn&dryRun=All").await;
    let mut warnings = warned.warnings.clone();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "299 - \"duplicate field \\\"data.a\\\"\"",
            "299 - \"unknown field \\\"dat\\\"\"",
            "299 - \"unknown field \\\"metadata.foo\\\"\""
        ]
    );
    assert!(warned.ok().get("dat").is_none());
    assert!(post("fieldValidation=Ignore&dryRun=All").await.warnings.is_empty());
    let wrong = json!({"metadata": {"name": "x"}, "data": {"a": 5}});
    let text = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string";
    assert_eq!(w.post(&all, wrong).await.refused(400, "BadRequest"), text);
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"replicas": "abc"}});
    let text = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    let deployments = format!("/apis/apps/v1/namespaces/{ns}/deployments");
    assert_eq!(w.post(&deployments, wrong).await.refused(400, "BadRequest"), text);
}

/// JSON lets a field be there twice. The last one counts, and whoever asked is told.
pub(super) async fn fields_that_are_there_twice_are_told(w: &World) {
    let ns = w.namespace("twice").await;
    let one = format!("/api/v1/namespaces/{ns}/configmaps/m");
    let send = |method: &'static str, path: String, media: &'static str, body: &'static str| async move {
        super::world::call(&w.client, method, &path, &[("content-type", media)], body.into()).await
    };
    let json = "application/json";
    let all = format!("/api/v1/namespaces/{ns}/configmaps");
    let body = r#"{"metadata":{"name":"m","labels":{"x":"1","x":"2"}},"data":{"a":"1"}}"#;
    let made = send("POST", all, json, body).await;
    assert_eq!(made.warnings, [r#"299 - "duplicate field \"metadata.labels.x\"""#]);
    assert_eq!(made.ok()["metadata"]["labels"], json!({"x": "2"}));
    let put = send("PUT", one.clone(), json, r#"{"metadata":{"name":"m"},"data":{"a":"2","a":"3"}}"#).await;
    assert_eq!(put.warnings, [r#"299 - "duplicate field \"data.a\"""#]);
    assert_eq!(put.ok()["data"], json!({"a": "3"}));
    let (merge, strategic, patch) =
        ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json");
    let cases = [
        (merge, r#"{"data":{"a":"3","a":"4"},"foo":1}"#, "4", r#"duplicate field "data.a", unknown field "foo""#),
        (strategic, r#"{"data":{"a":"5","a":"6"}}"#, "6", r#"duplicate field "data.a""#),
        (
            patch,
            r#"[{"op":"replace","op":"replace","path":"/data/a","value":"7"}]"#,
            "7",
            r#"json patch duplicate field "[0].op""#,
        ),
    ];
    for (media, body, value, told) in cases {
        let strict = send("PATCH", format!("{one}?fieldValidation=Strict"), media, body).await;
        let text = strict.refused(422, "Invalid");
        assert!(text.starts_with(" \"\" is invalid: patch: Invalid value: "), "{text}");
        assert!(text.ends_with(&format!(": strict decoding error: {told}")), "{text}");
        let quiet = send("PATCH", format!("{one}?fieldValidation=Ignore&dryRun=All"), media, body).await;
        assert!(quiet.warnings.is_empty(), "{:?}", quiet.warnings);
        let warned = send("PATCH", one.clone(), media, body).await;
        let said: Vec<String> =
            told.split(", ").map(|line| format!("299 - \"{}\"", line.replace('"', "\\\""))).collect();
        assert_eq!(warned.warnings, said);
        assert_eq!(warned.ok()["data"]["a"], value);
    }
    let deployment = r#"{"metadata":{"name":"m"},"spec":{"replicas":1,"replicas":2,"selector":{"matchLabels":{"a":"b"}},
        "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","name":"b","image":"x"}]}}}}"#;
    let path = format!("/apis/apps/v1/namespaces/{ns}/deployments?fieldValidation=Strict");
    let text = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \"spec.replicas\", duplicate field \"spec.template.spec.containers[0].name\"";
    assert_eq!(send("POST", path, json, deployment).await.refused(400, "BadRequest"), text);
}
