//! What a step may ask of the API is its ServiceAccount's rights and nothing more.

use crate::house::{House, not_run, program};

const OBJECTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: poor}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: rich}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
subjects: [{kind: ServiceAccount, name: rich, namespace: default}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: known}
data: {k: v}
";

#[test]
fn rbac_decides_for_the_tokens_of_pods() {
    let Some(house) = House::new("rbac from a step") else { return };
    if program("curl").is_none() {
        return not_run("rbac from a step", "there is no curl");
    }
    house.image("curl", &["curl", "sh", "cat"]);
    let objects = house.file("objects.yaml", OBJECTS);
    let file = house.workflow(
        "asks",
        "entrypoint: main
templates:
- name: main
  steps:
  - - {name: poor, template: poor}
    - {name: rich, template: rich}
- name: poor
  serviceAccountName: poor
  script: &ask
    image: curl
    command: [sh]
    source: |
      dir=/var/run/secrets/kubernetes.io/serviceaccount
      ask() {
        curl -sS -m 10 --cacert $dir/ca.crt -H \"Authorization: Bearer $(cat $dir/token)\" -w ' code=%{http_code}' $1
      }
      ask https://kubernetes.default.svc/api/v1/namespaces/default/configmaps/known
      ask https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/default/secrets
      curl -sS -m 10 --cacert $dir/ca.crt -w ' anonymous=%{http_code}' https://kubernetes.default/api/v1/pods
- name: rich
  serviceAccountName: rich
  script: *ask
",
    );
    let done = house.windlass(&["run", &objects, &file, "--log"]).ok();
    let said = |name: &str| -> String {
        let lines = done.stdout.lines().filter(|l| l.starts_with("asks-") && l.contains(&format!("-{name}-")));
        lines.filter_map(|l| l.split_once(": ")).map(|(_, l)| format!("{l}\n")).collect()
    };
    let (poor, rich) = (said("poor"), said("rich"));
    assert!(
        poor.contains(
            "configmaps \\\"known\\\" is forbidden: User \\\"system:serviceaccount:default:poor\\\" cannot get"
        ),
        "{poor}"
    );
    assert_eq!(poor.matches("code=403").count(), 2, "{poor}");
    assert!(rich.contains("\"k\"") && rich.contains("code=200"), "{rich}");
    assert_eq!(rich.matches("code=403").count(), 1, "{rich}");
    for said in [poor, rich] {
        assert!(said.contains("anonymous=401") || said.contains("anonymous=403"), "{said}");
    }
}

#[test]
fn a_resource_step_acts_as_its_service_account() {
    let Some(house) = House::new("resource step") else { return };
    let mut objects = OBJECTS.replace("verbs: [get, list]", "verbs: [get, create]");
    objects.push('\n');
    let objects = house.file("objects.yaml", &objects);
    let with = |account: &str| {
        house.workflow(
            &format!("as-{account}"),
            &format!(
                "entrypoint: make
serviceAccountName: {account}
templates:
- name: make
  resource:
    action: create
    manifest: |
      apiVersion: v1
      kind: ConfigMap
      metadata: {{name: made-by-{account}}}
      data: {{k: v}}
"
            ),
        )
    };
    house.windlass(&["run", &objects, &with("rich")]).ok();
    let refused = house.windlass(&["run", &with("poor")]).exits(1);
    refused.says(&["is forbidden", "system:serviceaccount:default:poor", "configmaps"]);
}
