//! What a cluster needs to run Windlass, as manifests: the kinds, the controller with as few rights as it can do its work
//! with, and in each namespace of workflows the executor's own ServiceAccount, which may write reports there and nothing
//! else. Only the list; whoever installs applies it.

use serde_json::{Value, json};
use windlass_control::election;

use crate::cli::{ControllerSettings, InstallArgs, KanikoBy};

/// The controller's ServiceAccount, Deployment and roles.
const CONTROLLER: &str = "windlass-controller";
/// The Service of the receiver of events.
const EVENTS: &str = "windlass-events";
/// The role of signed events.
const WEBHOOKS: &str = "windlass-webhooks";
/// The role of the archive's database.
const DATABASE: &str = "windlass-database";
/// The executor's ServiceAccount and role.
const EXECUTOR: &str = "windlass-executor";
/// The Secret with the executor's token.
pub(crate) const TOKEN_SECRET: &str = "windlass-executor-token";
/// Nobody's id; the image's own.
const USER: i64 = 65532;

/// All of it, in the order in which it can be applied.
pub(crate) fn manifests(args: &InstallArgs) -> Vec<Value> {
    let settings = &args.settings;
    let home = settings.controller_namespace.as_str();
    let mut all = Vec::new();
    let own = settings.managed_namespace.as_deref().unwrap_or(home);
    let given: Vec<&str> = args.workflow_namespace.iter().map(String::as_str).collect();
    let namespaces = if given.is_empty() { vec![own] } else { given };
    if !args.only_namespaces {
        all.extend(windlass_model::crds::manifests());
        all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}}));
        all.extend(windlass_model::roles::manifests());
        all.push(executor_role());
        if !args.no_controller {
            all.extend(controller(settings, args.replicas));
            if !args.database_secret.is_empty() {
                all.extend(database(home, &args.database_secret));
            }
        }
    }
    for namespace in namespaces {
        all.extend(executor(namespace));
        if !args.webhook_account.is_empty() {
            all.extend(webhooks(namespace, home, &args.webhook_account));
        }
    }
    all
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// What the loops do, and no more: no Secrets, no ServiceAccounts, no exec.
fn controller_rules() -> Vec<Value> {
    let argo = windlass_model::ARGO_GROUP;
    vec![
        rule("", &["pods"], &["create", "delete", "get", "list", "patch", "watch"]),
        // Settings and values are read, sizes of semaphores watched, remembered outputs and large node tables written.
        rule("", &["configmaps"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule("", &["persistentvolumeclaims"], &["create", "delete", "get", "patch"]),
        rule("policy", &["poddisruptionbudgets"], &["create", "delete"]),
        rule(argo, &["workflows"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule(argo, &["cronworkflows"], &["get", "list", "patch", "watch"]),
        // Owner references that block deletion need it.
        rule(argo, &["workflows/finalizers", "cronworkflows/finalizers"], &["update"]),
        rule(argo, &["workflowtemplates"], &["get"]),
        rule(argo, &["workflowtaskresults"], &["deletecollection", "get", "list", "watch"]),
        // Ledgers of artifacts to remove, and what became of them.
        rule(argo, &["workflowartifactgctasks"], &["create", "delete", "get", "list", "patch", "watch"]),
        rule(argo, &["workflowartifactgctasks/status"], &["patch"]),
        // Artifacts that stay; what is wrong with a binding of an event.
        rule("", &["events"], &["create", "get", "patch"]),
    ]
}

fn controller(settings: &ControllerSettings, replicas: u32) -> Vec<Value> {
    let home = settings.controller_namespace.as_str();
    let subject = json!([{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": home}]);
    let role = |kind: &str, name: &str| json!({"apiGroup": RBAC, "kind": kind, "name": name});
    let shared = vec![
        rule(windlass_model::ARGO_GROUP, &["clusterworkflowtemplates"], &["get"]),
        rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["get"]),
    ];
    let mut cluster_rules = shared;
    let mut all = vec![json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": CONTROLLER, "namespace": home},
    })];
    match &settings.managed_namespace {
        None => {
            cluster_rules.extend(controller_rules());
            // Their own limits of parallelism.
            cluster_rules.push(rule("", &["namespaces"], &["get", "list", "watch"]));
        }
        Some(namespace) => {
            all.push(json!({
                "apiVersion": RBAC_VERSION, "kind": "Role", "metadata": {"name": CONTROLLER, "namespace": namespace},
                "rules": controller_rules(),
            }));
            all.push(json!({
                "apiVersion": RBAC_VERSION, "kind": "RoleBinding",
                "metadata": {"name": CONTROLLER, "namespace": namespace},
                "roleRef": role("Role", CONTROLLER), "subjects": subject,
            }));
            if namespace != home {
                // Its own configuration.
                let name = format!("{CONTROLLER}-configuration");
                all.push(json!({
                    "apiVersion": RBAC_VERSION, "kind": "Role", "metadata": {"name": name, "namespace": home},
                    "rules": [rule("", &["configmaps"], &["get", "list", "watch"])],
                }));
                all.push(json!({
                    "apiVersion": RBAC_VERSION, "kind": "RoleBinding", "metadata": {"name": name, "namespace": home},
                    "roleRef": role("Role", &name), "subjects": subject,
                }));
            }
        }
    }
    // Two installations with a namespace or an instance each do not share one name.
    let own = [&settings.managed_namespace, &settings.instanceid].into_iter().flatten();
    let cluster_name = own.fold(CONTROLLER.to_owned(), |name, part| format!("{name}-{part}"));
    all.push(json!({
        "apiVersion": RBAC_VERSION, "kind": "ClusterRole", "metadata": {"name": cluster_name}, "rules": cluster_rules,
    }));
    all.push(json!({
        "apiVersion": RBAC_VERSION, "kind": "ClusterRoleBinding", "metadata": {"name": cluster_name},
        "roleRef": role("ClusterRole", &cluster_name), "subjects": subject,
    }));
    all.extend(election(settings, &subject));
    all.push(deployment(settings, replicas));
    all.extend(settings.events_listen.map(|address| event_service(home, address.port())));
    all
}

/// The lease of who works, beside the controller.
fn election(settings: &ControllerSettings, subject: &Value) -> [Value; 2] {
    let home = settings.controller_namespace.as_str();
    let lease = election::lease_name(home, &settings.scope(None));
    let at = json!({"name": format!("{CONTROLLER}-{lease}"), "namespace": home});
    let leases = |verbs: &[&str]| rule("coordination.k8s.io", &["leases"], verbs);
    let mut own = leases(&["get", "patch"]);
    own["resourceNames"] = json!([lease]);
    [
        json!({
            "apiVersion": RBAC_VERSION, "kind": "Role", "metadata": at,
            // What is to be made has no name yet that a rule could go by.
            "rules": [leases(&["create"]), own],
        }),
        json!({
            "apiVersion": RBAC_VERSION, "kind": "RoleBinding", "metadata": at,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": at["name"]}, "subjects": subject,
        }),
    ]
}

/// The flags of `windlass controller` that say the same.
fn flags(settings: &ControllerSettings) -> Vec<String> {
    let mut flags = vec![format!("--image={}", settings.image)];
    flags.extend(settings.image_pull_policy.map(|policy| format!("--image-pull-policy={}", policy.word())));
    flags.extend(settings.managed_namespace.iter().map(|ns| format!("--managed-namespace={ns}")));
    flags.extend(settings.instanceid.iter().map(|id| format!("--instanceid={id}")));
    flags.extend(settings.events_listen.iter().map(|address| format!("--events-listen={address}")));
    flags.extend((settings.kaniko == KanikoBy::Image).then(|| "--kaniko=image".to_owned()));
    flags.push(format!("--controller-namespace={}", settings.controller_namespace));
    let names = &settings.names;
    for (flag, values) in [
        ("--remap-registry", &names.remap_registry),
        ("--remap-git", &names.remap_git),
        ("--remap-endpoint", &names.remap_endpoint),
        ("--insecure-registry", &names.insecure_registry),
    ] {
        flags.extend(values.iter().map(|value| format!("{flag}={value}")));
    }
    flags
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "windlass", "app.kubernetes.io/component": "controller"})
}

/// Where an Ingress finds the receiver of events.
fn event_service(namespace: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": EVENTS, "namespace": namespace, "labels": labels()},
        "spec": {"selector": labels(), "ports": [{"name": "http", "port": port, "targetPort": port}]},
    })
}

fn deployment(settings: &ControllerSettings, replicas: u32) -> Value {
    let labels = labels();
    let mut container = json!({
        "name": "controller",
        "image": settings.image,
        "command": ["/windlass", "controller", "--home=/tmp/windlass", "-v"],
        "args": flags(settings),
        "env": [{
            "name": "LEADER_ELECTION_IDENTITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        }],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    if let Some(policy) = settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy.word());
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": CONTROLLER, "namespace": settings.controller_namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": CONTROLLER,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    })
}

fn executor_role() -> Value {
    json!({
        "apiVersion": RBAC_VERSION, "kind": "ClusterRole", "metadata": {"name": EXECUTOR},
        "rules": [rule(windlass_model::ARGO_GROUP, &["workflowtaskresults"], &["create", "patch"])],
    })
}

/// What one namespace of workflows needs: the executor's account, its right to report, its token for pods to mount.
fn executor(namespace: &str) -> [Value; 3] {
    let at = |name: &str| json!({"name": name, "namespace": namespace});
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": at(TOKEN_SECRET),
    });
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": EXECUTOR});
    [
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": at(EXECUTOR),
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": RBAC_VERSION, "kind": "RoleBinding", "metadata": at(EXECUTOR),
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": EXECUTOR},
            "subjects": [{"kind": "ServiceAccount", "name": EXECUTOR, "namespace": namespace}],
        }),
        secret,
    ]
}

/// What the receiver of events needs in a namespace where senders sign: the one Secret, and tokens of these accounts.
fn webhooks(namespace: &str, home: &str, accounts: &[String]) -> [Value; 2] {
    let at = json!({"name": WEBHOOKS, "namespace": namespace});
    let named = |mut rule: Value, names: &[&str]| {
        rule["resourceNames"] = json!(names);
        rule
    };
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    [
        json!({
            "apiVersion": RBAC_VERSION, "kind": "Role", "metadata": at,
            "rules": [
                named(rule("", &["secrets"], &["get"]), &["argo-workflows-webhook-clients"]),
                named(rule("", &["serviceaccounts/token"], &["create"]), &accounts),
            ],
        }),
        json!({
            "apiVersion": RBAC_VERSION, "kind": "RoleBinding", "metadata": at,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": WEBHOOKS},
            "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": home}],
        }),
    ]
}

/// What logs in to the archive's database: these Secrets beside the controller.
fn database(home: &str, secrets: &[String]) -> [Value; 2] {
    let at = json!({"name": DATABASE, "namespace": home});
    let mut own = rule("", &["secrets"], &["get"]);
    own["resourceNames"] = json!(secrets);
    [
        json!({"apiVersion": RBAC_VERSION, "kind": "Role", "metadata": at, "rules": [own]}),
        json!({
            "apiVersion": RBAC_VERSION, "kind": "RoleBinding", "metadata": at,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": DATABASE},
            "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": home}],
        }),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    fn made(flags: &[&str]) -> Vec<Value> {
        let words = ["windlass", "install", "--image", "registry.example/windlass:1"].iter().chain(flags);
        let cli = crate::cli::Cli::try_parse_from(words).unwrap();
        let crate::cli::Verb::Install(args) = cli.verb else { panic!("install") };
        manifests(&args).into_iter().filter(|o| o["kind"] != "CustomResourceDefinition").collect()
    }

    fn shown(objects: &[Value]) -> String {
        objects.iter().map(|o| crate::print::yaml(o).unwrap()).collect::<Vec<_>>().join("---\n")
    }

    #[test]
    fn a_whole_cluster() {
        let flags = ["--workflow-namespace", "ci", "--workflow-namespace", "team", "--remap-git", "a=b"];
        insta::assert_snapshot!(shown(&made(&flags)));
    }

    #[test]
    fn one_namespace() {
        insta::assert_snapshot!(shown(&made(&["--managed-namespace", "ci", "--image-pull-policy", "IfNotPresent"])));
        // Nothing of it may look at Secrets or at what others run.
        let all = made(&["--managed-namespace", "ci"]);
        let rules =
            all.iter().filter(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == "windlass-controller-ci");
        let text = serde_json::to_string(&rules.collect::<Vec<_>>()).unwrap();
        assert!(!text.contains("\"pods\"") && !text.contains("secrets"), "{text}");
    }

    #[test]
    fn beside_another_one() {
        let (one, other) = (made(&[]), made(&["--instanceid", "ci", "--controller-namespace", "ci-system"]));
        let place = |o: &Value| [o["kind"].clone(), o["metadata"]["namespace"].clone(), o["metadata"]["name"].clone()];
        let places: Vec<_> = one.iter().map(place).collect();
        let both: Vec<Value> = other.iter().filter(|o| places.contains(&place(o))).cloned().collect();
        // What both write is the same in both.
        assert!(both.iter().all(|o| one.contains(o)), "{}", shown(&both));
        let text = shown(&other);
        assert!(text.contains("--instanceid=ci") && text.contains("- workflow-controller-ci\n"), "{text}");
    }

    #[test]
    fn with_events() {
        let plain = made(&[]);
        let with: Vec<Value> =
            made(&["--events-listen", "0.0.0.0:2746", "--webhook-account", "github.com", "--webhook-account", "ci"])
                .into_iter()
                .filter(|o| !plain.contains(o))
                .collect();
        insta::assert_snapshot!(shown(&with));
    }

    #[test]
    fn with_a_database() {
        let plain = made(&[]);
        let flags = ["--database-secret", "db-user", "--database-secret", "db-password"];
        let with: Vec<Value> = made(&flags).into_iter().filter(|o| !plain.contains(o)).collect();
        insta::assert_snapshot!(shown(&with));
        assert_eq!(made(&[&flags[..], &["--no-controller"]].concat()), made(&["--no-controller"]));
    }

    #[test]
    fn parts_of_it() {
        let kinds =
            |flags: &[&str]| made(flags).iter().map(|o| o["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert!(!kinds(&["--no-controller"]).contains(&"Deployment".to_owned()));
        assert_eq!(kinds(&["--only-namespaces"]), ["ServiceAccount", "RoleBinding", "Secret"]);
    }
}
