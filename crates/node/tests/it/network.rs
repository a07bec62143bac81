//! The Pods' network: what they reach, by which names, and what they do not.

use crate::bench::{Bench, IMAGE};
use crate::{List, cases};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub fn list() -> List {
    cases![
        containers_of_a_pod_meet,
        the_host_is_out_of_reach,
        pods_with_host_network_share_one,
        a_remapped_host_is_reached_by_its_name,
        services_and_names,
        only_ready_pods_are_asked,
        a_network_that_nobody_used_serves_again,
    ]
}

async fn containers_of_a_pod_meet(bench: Bench) {
    let serve = json!({"name": "serve", "command": ["sh", "-c", "nc -l -p 7000 -e echo hi"]});
    let ask = "for i in $(seq 50); do nc 127.0.0.1 7000 && exit 0; sleep 0.1; done; exit 1";
    bench.pod("p", json!({"containers": [{"name": "main", "command": ["sh", "-c", ask]}, serve]})).await;
    let pod = bench.succeeded("p").await;
    assert!(bench.logs(&pod, "main").await.contains("hi"));
}

async fn the_host_is_out_of_reach(bench: Bench) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "nc -w 1 127.0.0.1 {port} </dev/null && echo reached; nc -w 1 10.42.0.1 {port} </dev/null && echo reached; true"
    );
    bench.pod("p", json!({"containers": [{"name": "main", "command": ["sh", "-c", script]}]})).await;
    let pod = bench.succeeded("p").await;
    assert!(!bench.logs(&pod, "main").await.contains("reached"));
}

async fn pods_with_host_network_share_one(bench: Bench) {
    let script = |then: &str| json!([{"name": "main", "command": ["sh", "-c", then]}]);
    // `-e`: an `nc` that copies would end at the end of what it is asked, before it has said its word.
    let serve = "nc -l -p 7000 -e echo a word; cat /etc/resolv.conf; hostname";
    bench.pod("serve", json!({"hostNetwork": true, "containers": script(serve)})).await;
    let ask = "for i in $(seq 100); do nc 127.0.0.1 7000 </dev/null && exit 0; sleep 0.1; done; exit 1";
    bench.pod("ask", json!({"hostNetwork": true, "containers": script(ask)})).await;
    let (ask, serve) = (bench.succeeded("ask").await, bench.succeeded("serve").await);
    assert!(bench.logs(&ask, "main").await.contains("a word"));
    assert_eq!(bench.logs(&serve, "main").await, "nameserver 10.96.0.10\nnode\n");
    assert_eq!(ask["status"]["podIP"], serve["status"]["podIP"]);
    assert_ne!(ask["status"]["podIP"], "127.0.0.1");
}

async fn a_remapped_host_is_reached_by_its_name(bench: Bench) {
    // The bench's agent was told that images.corp.example is the server it has beside it.
    let script = "nc images.corp.example 80 </dev/null; nc images.corp.example 443 </dev/null";
    bench.pod("p", json!({"containers": [{"name": "main", "command": ["sh", "-c", script]}]})).await;
    let pod = bench.succeeded("p").await;
    assert_eq!(bench.logs(&pod, "main").await, "the stand-in\nthe stand-in\n");
}

fn web(ready: &str) -> Value {
    json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": IMAGE,
        "command": ["sh", "-c", format!("{ready}; hostname > /var/www/index.html; exec httpd -f -p 8080 -h /var/www")],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/index.html", "port": "http"}, "periodSeconds": 1}}]})
}

fn slice(service: &str, addresses: &[&Value]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|a| json!({"addresses": [a], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn services_and_names(bench: Bench) {
    bench.pod("web", web("true")).await;
    let pod = bench.until("web", is_ready).await;
    bench
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "NodePort",
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}))
        .await;
    bench.create(slice("web", &[&pod["status"]["podIP"]])).await;
    let namespace = &bench.namespace;
    let script = format!(
        "for i in $(seq 30); do wget -q -O - http://web/ && break; sleep 0.1; done; \
         wget -q -O - http://web.{namespace}.svc.cluster.local/; \
         nslookup kubernetes.default.svc.cluster.local; nslookup none.{namespace}.svc.cluster.local || echo no such"
    );
    bench.pod("ask", json!({"containers": [{"name": "main", "command": ["sh", "-c", script]}]})).await;
    let asked = bench.succeeded("ask").await;
    let log = bench.logs(&asked, "main").await;
    assert!(log.starts_with("web\nweb\n") && log.contains("10.96.0.1"), "{log}");
    let service = bench.kind("v1", "Service").get("web").await.unwrap();
    let port = service.data["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let answer = get(u16::try_from(port).unwrap()).await.unwrap();
    assert!(answer.ends_with("web\n"), "{answer}");
    bench.delete("web").await;
    bench.until("web", Value::is_null).await;
}

async fn get(port: u16) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.is_empty() {
        true => Err(std::io::ErrorKind::UnexpectedEof.into()),
        false => Ok(answer),
    }
}

async fn only_ready_pods_are_asked(bench: Bench) {
    bench.pod("one", web("true")).await;
    bench.pod("two", web("true")).await;
    let one = bench.until("one", is_ready).await;
    let two = bench.until("two", is_ready).await;
    bench
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "LoadBalancer",
            "ports": [{"port": 18080, "targetPort": 8080}]}}),
        )
        .await;
    bench.create(slice("web", &[&one["status"]["podIP"], &two["status"]["podIP"]])).await;
    let service = bench.kind("v1", "Service").get("web").await.unwrap();
    let port = u16::try_from(service.data["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    for _ in 0..50 {
        if get(port).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // One of the two goes while connections come: the slice still names it, and none may fail.
    let client = tokio::spawn(async move {
        let mut errors = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            match get(port).await {
                Ok(answer) => drop(seen.insert(answer.lines().last().unwrap_or_default().to_owned())),
                Err(error) => errors.push(error.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (seen, errors)
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.delete("one").await;
    let (seen, errors) = client.await.unwrap();
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    let service = bench.kind("v1", "Service").get("web").await.unwrap();
    assert_eq!(service.data["status"]["loadBalancer"]["ingress"][0]["ip"], "127.0.0.1");
    bench.delete("two").await;
}

async fn a_network_that_nobody_used_serves_again(bench: Bench) {
    let start = async |name: &str, script: &str| {
        bench.step(name, json!({}), json!({"command": ["sh", "-c", script]})).await;
    };
    let address = async |name: &str| bench.succeeded(name).await["status"]["podIP"].as_str().unwrap().to_owned();
    // One that talked, if only to itself, and one whose address was told to others.
    start("talks", "nc -w 1 127.0.0.1 9 </dev/null || true").await;
    start("stays", "sleep 0.8").await;
    bench.until("stays", |pod| pod["status"]["phase"] == "Running").await;
    let never = [address("talks").await, address("stays").await];
    // Two at a time never share.
    let together: Vec<String> = (0..12).map(|i| format!("together-{i}")).collect();
    for name in &together {
        start(name, "sleep 0.6").await;
    }
    let mut all = BTreeSet::new();
    for name in &together {
        assert!(all.insert(address(name).await), "{name} shares an address");
    }
    // Quiet ones, one after the other. An address of a namespace that was taken apart rests for much longer.
    let mut seen = BTreeSet::new();
    for index in 0..40 {
        let name = format!("quiet-{index}");
        start(&name, "true").await;
        seen.insert(address(&name).await);
    }
    assert!(seen.len() < 40, "no namespace was used again");
    assert!(never.iter().all(|address| !seen.contains(address)), "{never:?} {seen:?}");
}
