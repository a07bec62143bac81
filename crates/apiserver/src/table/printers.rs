//! Columns and cells of the built-in kinds, in the order in which `kubectl get -o wide` shows them. Pure.

use super::{Column, age, pod};
use crate::kinds::Resource;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const NAME: &str = "Name of the object, unique within its namespace.";
pub(super) const AGE: &str = "How long ago the object was created.";

/// `name:type`, wide ones with a leading `+`.
fn spec(r: &Resource) -> &'static [&'static str] {
    match (r.group.as_str(), r.plural.as_str()) {
        ("", "pods") => {
            &["Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"]
        }
        ("apps", "deployments") => {
            &["Name", "Ready", "Up-to-date", "Available", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("apps", "replicasets") => &[
            "Name",
            "Desired:integer",
            "Current:integer",
            "Ready:integer",
            "Age",
            "+Containers",
            "+Images",
            "+Selector",
        ],
        ("batch", "jobs") => {
            &["Name", "Status", "Completions", "Duration", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("batch", "cronjobs") => &[
            "Name",
            "Schedule",
            "Timezone",
            "Suspend:boolean",
            "Active:integer",
            "Last Schedule",
            "Age",
            "+Containers",
            "+Images",
            "+Selector",
        ],
        ("", "services") => &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"],
        ("", "endpoints") => &["Name", "Endpoints", "Age"],
        ("", "nodes") => &[
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ],
        ("", "namespaces") => &["Name", "Status", "Age"],
        ("", "configmaps") => &["Name", "Data", "Age"],
        ("", "secrets") => &["Name", "Type", "Data", "Age"],
        ("", "serviceaccounts") => &["Name", "Secrets", "Age"],
        (_, "rolebindings" | "clusterrolebindings") => {
            &["Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts"]
        }
        (_, "events") => &[
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+Count",
            "+Name",
        ],
        (_, "leases") => &["Name", "Holder", "Age"],
        (_, "endpointslices") => &["Name", "AddressType", "Ports", "Endpoints", "Age"],
        ("", "persistentvolumeclaims") => &[
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "+VolumeMode",
        ],
        ("", "persistentvolumes") => &[
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            "+VolumeMode",
        ],
        ("policy", "poddisruptionbudgets") => {
            &["Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"]
        }
        (_, "storageclasses") => {
            &["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"]
        }
        _ => &["Name", "Created At:date"],
    }
}

/// The columns of a kind.
pub(super) fn columns(r: &Resource) -> Vec<Column> {
    let column = |text: &&str| {
        let (wide, text) = text.strip_prefix('+').map_or((false, *text), |t| (true, t));
        let (name, kind) = text.split_once(':').unwrap_or((text, "string"));
        let description = match name {
            "Name" => NAME.to_owned(),
            "Age" | "Created At" => AGE.to_owned(),
            other => format!("{other} of the {}.", r.kind),
        };
        if wide { Column::wide(name, kind, &description) } else { Column::new(name, kind, &description) }
    };
    spec(r).iter().map(column).collect()
}

/// The cells of an object, and the row's conditions.
pub(super) fn cells(r: &Resource, o: &Value, now: Timestamp) -> (Vec<Value>, Option<Value>) {
    let name = json!(text(o, "/metadata/name"));
    let age = || json!(age::since(o.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now));
    let cells = match (r.group.as_str(), r.plural.as_str()) {
        ("", "pods") => return (pod::cells(o, now), pod::conditions(o)),
        ("apps", "deployments") => {
            let ready = format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"));
            let (updated, available) = (number(o, "/status/updatedReplicas"), number(o, "/status/availableReplicas"));
            let (names, images) = containers(o);
            vec![name, json!(ready), json!(updated), json!(available), age(), names, images, selector(o)]
        }
        ("apps", "replicasets") => {
            let (names, images) = containers(o);
            let counts = ["/spec/replicas", "/status/replicas", "/status/readyReplicas"].map(|p| json!(number(o, p)));
            [vec![name], counts.to_vec(), vec![age(), names, images, selector(o)]].concat()
        }
        ("batch", "jobs") => {
            let (names, images) = containers(o);
            vec![
                name,
                json!(job_status(o)),
                json!(completions(o)),
                json!(job_duration(o, now)),
                age(),
                names,
                images,
                selector(o),
            ]
        }
        ("batch", "cronjobs") => {
            let inner = json!({"spec": o.pointer("/spec/jobTemplate/spec")});
            let (names, images) = containers(&inner);
            let last = o.pointer("/status/lastScheduleTime").and_then(Value::as_str);
            let last = last.map_or_else(|| "<none>".to_owned(), |at| age::since(Some(at), now));
            let suspend = if o["spec"]["suspend"] == true { "True" } else { "False" };
            vec![
                name,
                json!(text(o, "/spec/schedule")),
                or(text(o, "/spec/timeZone"), "<none>"),
                json!(suspend),
                json!(list(o, "/status/active").len()),
                json!(last),
                age(),
                names,
                images,
                selector(&inner),
            ]
        }
        ("", "services") => {
            let cluster_ip = or(text(o, "/spec/clusterIPs/0"), "<none>");
            let labels = o.pointer("/spec/selector").map_or_else(|| "<none>".to_owned(), labels);
            vec![
                name,
                json!(text(o, "/spec/type")),
                cluster_ip,
                json!(external_ip(o)),
                json!(ports(o)),
                age(),
                json!(labels),
            ]
        }
        ("", "endpoints") => vec![name, json!(endpoints(o)), age()],
        ("", "nodes") => node(o, &name, age()),
        ("", "namespaces") => vec![name, json!(text(o, "/status/phase")), age()],
        ("", "configmaps") => vec![name, json!(len(o, "/data") + len(o, "/binaryData")), age()],
        ("", "secrets") => vec![name, json!(text(o, "/type")), json!(len(o, "/data")), age()],
        ("", "serviceaccounts") => vec![name, json!(len(o, "/secrets")), age()],
        (_, "rolebindings" | "clusterrolebindings") => {
            let role = format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name"));
            let of = |kind: &str| {
                let named = list(o, "/subjects").iter().filter(|s| text(s, "/kind") == kind).map(|s| {
                    match text(s, "/namespace") {
                        ns if kind == "ServiceAccount" => format!("{ns}/{}", text(s, "/name")),
                        _ => text(s, "/name").to_owned(),
                    }
                });
                json!(named.collect::<Vec<_>>().join(", "))
            };
            vec![name, json!(role), age(), of("User"), of("Group"), of("ServiceAccount")]
        }
        (_, "events") => event(r, o, &name, now),
        (_, "leases") => vec![name, json!(text(o, "/spec/holderIdentity")), age()],
        (_, "endpointslices") => {
            let ports = list(o, "/ports").iter().map(|p| match p.get("port").and_then(Value::as_i64) {
                Some(port) => port.to_string(),
                None => or_text(text(p, "/name"), "*").to_owned(),
            });
            let addresses = list(o, "/endpoints")
                .iter()
                .flat_map(|e| list(e, "/addresses").iter().filter_map(Value::as_str).map(str::to_owned));
            let (ports, addresses) = (three(ports), three(addresses));
            vec![name, json!(text(o, "/addressType")), json!(ports), json!(addresses), age()]
        }
        ("", "persistentvolumeclaims") => claim(o, &name, age()),
        ("", "persistentvolumes") => volume(o, &name, age()),
        ("policy", "poddisruptionbudgets") => {
            let said = |field: &str| match o.pointer(field) {
                Some(Value::String(text)) => json!(text),
                Some(number @ Value::Number(_)) => json!(number.to_string()),
                _ => json!("N/A"),
            };
            let allowed = o.pointer("/status/disruptionsAllowed").cloned().unwrap_or(json!(0));
            vec![name, said("/spec/minAvailable"), said("/spec/maxUnavailable"), allowed, age()]
        }
        (_, "storageclasses") => {
            let default = text(o, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true";
            let name = if default { json!(format!("{} (default)", text(o, "/metadata/name"))) } else { name };
            let expands = o.get("allowVolumeExpansion") == Some(&Value::Bool(true));
            vec![
                name,
                json!(text(o, "/provisioner")),
                json!(text(o, "/reclaimPolicy")),
                json!(text(o, "/volumeBindingMode")),
                json!(expands),
                age(),
            ]
        }
        _ => vec![name, json!(text(o, "/metadata/creationTimestamp"))],
    };
    (cells, None)
}

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(v: &'a Value, pointer: &str) -> &'a [Value] {
    v.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(v: &Value, pointer: &str) -> i64 {
    v.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn len(v: &Value, pointer: &str) -> usize {
    match v.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

fn or_text<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn or(text: &str, otherwise: &str) -> Value {
    json!(or_text(text, otherwise))
}

fn labels(map: &Value) -> String {
    let pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    or_text(&pairs.join(","), "<none>").to_owned()
}

/// A label selector in its text form: `a=b,c in (d,e)`.
fn selector(o: &Value) -> Value {
    let mut parts: Vec<String> = o
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    for e in list(o, "/spec/selector/matchExpressions") {
        let (key, mut values): (&str, Vec<&str>) =
            (text(e, "/key"), list(e, "/values").iter().filter_map(Value::as_str).collect());
        values.sort_unstable();
        parts.push(match text(e, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.sort();
    or(&parts.join(","), "<none>")
}

fn job_status(o: &Value) -> &'static str {
    let has = |type_: &str| list(o, "/status/conditions").iter().any(|c| c["type"] == type_ && c["status"] == "True");
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if o.pointer("/metadata/deletionTimestamp").is_some() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () => "Running",
    }
}

fn completions(o: &Value) -> String {
    let succeeded = number(o, "/status/succeeded");
    match (o.pointer("/spec/completions").and_then(Value::as_i64), number(o, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(o: &Value, now: Timestamp) -> String {
    let at = |path: &str| o.pointer(path).and_then(Value::as_str).and_then(|t| t.parse::<Timestamp>().ok());
    let Some(from) = at("/status/startTime") else { return String::new() };
    age::human_duration(at("/status/completionTime").unwrap_or(now).duration_since(from).as_secs())
}

fn containers(o: &Value) -> (Value, Value) {
    let all = list(o, "/spec/template/spec/containers");
    let of = |field: &str| json!(all.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(","));
    (of("/name"), of("/image"))
}

fn ports(o: &Value) -> String {
    let port = |p: &Value| match number(p, "/nodePort") {
        0 => format!("{}/{}", number(p, "/port"), text(p, "/protocol")),
        node => format!("{}:{node}/{}", number(p, "/port"), text(p, "/protocol")),
    };
    or_text(&list(o, "/spec/ports").iter().map(port).collect::<Vec<_>>().join(","), "<none>").to_owned()
}

fn external_ip(o: &Value) -> String {
    let external: Vec<&str> = list(o, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(o, "/spec/type") {
        "ClusterIP" | "NodePort" => or_text(&external.join(","), "<none>").to_owned(),
        "LoadBalancer" => {
            let ingress = list(o, "/status/loadBalancer/ingress");
            let mut all: Vec<&str> = ingress.iter().map(|i| or_text(text(i, "/ip"), text(i, "/hostname"))).collect();
            all.sort_unstable();
            all.dedup();
            all.extend(external);
            or_text(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn three(items: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = items.collect();
    match all.len() {
        0 => "<unset>".to_owned(),
        n if n > 3 => format!("{} + {} more...", all[..3].join(","), n - 3),
        _ => all.join(","),
    }
}

fn endpoints(o: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(o, "/subsets") {
        let addresses = list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let port = number(port, "/port");
            all.extend(
                addresses
                    .clone()
                    .map(|a| if a.contains(':') { format!("[{a}]:{port}") } else { format!("{a}:{port}") }),
            );
        }
    }
    match (list(o, "/subsets").len(), all.len()) {
        (0, _) => "<none>".to_owned(),
        (_, n) if n > 3 => format!("{} + {} more...", all[..3].join(","), n - 3),
        _ => all.join(","),
    }
}

fn node(o: &Value, name: &Value, age: Value) -> Vec<Value> {
    let ready = list(o, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if o.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in o.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            None if key == "kubernetes.io/role" => roles.extend(value.as_str().filter(|v| !v.is_empty())),
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let found = list(o, "/status/addresses").iter().find(|a| text(a, "/type") == kind);
        or(found.map_or("", |a| text(a, "/address")), "<none>")
    };
    let info = |field: &str| or(text(o, &format!("/status/nodeInfo/{field}")), "<unknown>");
    vec![
        name.clone(),
        json!(status),
        or(&roles.join(","), "<none>"),
        age,
        json!(text(o, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn event(r: &Resource, o: &Value, name: &Value, now: Timestamp) -> Vec<Value> {
    // events.k8s.io spells the same fields differently.
    let new = !r.group.is_empty();
    let pick = |old: &str, modern: &str| text(o, if new { modern } else { old }).to_owned();
    let since = |t: &str| age::since(Some(t).filter(|t| !t.is_empty()), now);
    let event_time = text(o, "/eventTime");
    let first = pick("/firstTimestamp", "/deprecatedFirstTimestamp");
    let first = since(or_text(&first, event_time));
    let last = pick("/lastTimestamp", "/deprecatedLastTimestamp");
    let mut last = if last.is_empty() { first.clone() } else { since(&last) };
    let mut count = number(o, if new { "/deprecatedCount" } else { "/count" }).max(1);
    if let Some(series) = o.get("series").filter(|s| !s.is_null()) {
        last = since(text(series, "/lastObservedTime"));
        count = number(series, "/count");
    }
    let about = o.get(if new { "regarding" } else { "involvedObject" }).cloned().unwrap_or_default();
    let kind = text(&about, "/kind").to_lowercase();
    let object = match text(&about, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = pick("/source/component", "/deprecatedSource/component");
    let component = or_text(&component, text(o, if new { "/reportingController" } else { "/reportingComponent" }));
    let host = pick("/source/host", "/deprecatedSource/host");
    let host = or_text(&host, text(o, "/reportingInstance"));
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    let message = pick("/message", "/note");
    vec![
        json!(last),
        json!(text(o, "/type")),
        json!(text(o, "/reason")),
        json!(object),
        json!(text(&about, "/fieldPath")),
        json!(source),
        json!(message.trim()),
        json!(first),
        json!(count),
        name.clone(),
    ]
}

fn access_modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        _ => "RWOP",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",")
}

fn volume(o: &Value, name: &Value, age: Value) -> Vec<Value> {
    let deleted = o.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null());
    let (namespace, claim) = (text(o, "/spec/claimRef/namespace"), text(o, "/spec/claimRef/name"));
    vec![
        name.clone(),
        json!(text(o, "/spec/capacity/storage")),
        json!(access_modes(list(o, "/spec/accessModes"))),
        json!(text(o, "/spec/persistentVolumeReclaimPolicy")),
        json!(if deleted { "Terminating" } else { text(o, "/status/phase") }),
        json!(if claim.is_empty() { String::new() } else { format!("{namespace}/{claim}") }),
        json!(text(o, "/spec/storageClassName")),
        or(text(o, "/spec/volumeAttributesClassName"), "<unset>"),
        json!(text(o, "/status/reason")),
        age,
        or(text(o, "/spec/volumeMode"), "<unset>"),
    ]
}

fn claim(o: &Value, name: &Value, age: Value) -> Vec<Value> {
    let deleted = o.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null());
    let phase = if deleted { "Terminating" } else { text(o, "/status/phase") };
    let volume = text(o, "/spec/volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (text(o, "/status/capacity/storage").to_owned(), access_modes(list(o, "/status/accessModes")))
    };
    vec![
        name.clone(),
        json!(phase),
        json!(volume),
        json!(capacity),
        json!(modes),
        json!(text(o, "/spec/storageClassName")),
        or(text(o, "/spec/volumeAttributesClassName"), "<unset>"),
        age,
        or(text(o, "/spec/volumeMode"), "<unset>"),
    ]
}
