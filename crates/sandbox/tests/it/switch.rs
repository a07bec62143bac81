//! Pods on a switch.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_sandbox::{
    Probe,
    net::{Cidr, Inspector, Netns, Outward, Switch},
};

use crate::{Bench, List};

const GATEWAY: Cidr = Cidr::new(Ipv4Addr::new(10, 42, 0, 1), 16);
const SERVICES: Cidr = Cidr::new(Ipv4Addr::new(10, 96, 0, 0), 16);

fn netns(probe: &Probe) -> Result<(), String> {
    if probe.netns { Ok(()) } else { Err("no network namespaces here".into()) }
}

pub(crate) fn list() -> List {
    vec![
        ("pods_reach_each_other_and_services", netns, |bench| Box::pin(pods(bench))),
        ("addresses_are_used_again", netns, |_| Box::pin(again())),
        ("use_of_a_namespace_is_seen", netns, |bench| Box::pin(touched(bench))),
        ("hundred_pods", netns, |_| Box::pin(hundred())),
        ("outward", netns, |bench| Box::pin(outward(bench))),
    ]
}

async fn echo_once(netns: &Netns, address: SocketAddr) -> tokio::task::JoinHandle<SocketAddr> {
    let listener = netns.tcp_listener(address).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, peer) = listener.accept().await.unwrap();
        let mut line = [0; 4];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(&line).await.unwrap();
        peer
    })
}

async fn ask(netns: &Netns, address: SocketAddr) {
    let mut stream = netns.tcp_connect(address).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut line = [0; 4];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"ping");
}

async fn pods(bench: Bench) {
    let switch = Switch::create(GATEWAY, &[SERVICES]).unwrap();
    let one = switch.attach([10, 42, 0, 10].into()).await.unwrap();
    let two = switch.attach([10, 42, 3, 20].into()).await.unwrap();
    // Pod to pod, its address seen.
    let peer = echo_once(&two, ([10, 42, 3, 20], 80).into()).await;
    ask(&one, ([10, 42, 3, 20], 80).into()).await;
    assert_eq!(peer.await.unwrap().ip(), Ipv4Addr::new(10, 42, 0, 10));
    // Pod to a service, answered in the switch.
    let peer = echo_once(switch.netns(), ([10, 96, 0, 10], 443).into()).await;
    ask(&two, ([10, 96, 0, 10], 443).into()).await;
    assert_eq!(peer.await.unwrap().ip(), Ipv4Addr::new(10, 42, 3, 20));
    // Host to pod.
    let peer = echo_once(&one, ([0, 0, 0, 0], 8080).into()).await;
    ask(switch.netns(), ([10, 42, 0, 10], 8080).into()).await;
    assert_eq!(peer.await.unwrap().ip(), Ipv4Addr::new(10, 42, 0, 1));
    // UDP, as names are asked.
    let server = switch.netns().udp_socket(([10, 96, 0, 53], 53).into()).await.unwrap();
    let client = one.udp_socket(([0, 0, 0, 0], 0).into()).await.unwrap();
    client.send_to(b"q", "10.96.0.53:53").await.unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).await.unwrap();
    server.send_to(b"a", from).await.unwrap();
    assert_eq!(client.recv_from(&mut [0; 8]).await.unwrap().1.to_string(), "10.96.0.53:53");
    // A container in the pod; the host's loopback is not there.
    let host_only = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host_only.local_addr().unwrap().port();
    let peer = echo_once(&two, ([0, 0, 0, 0], 81).into()).await;
    let script =
        format!("echo ping | nc 10.42.3.20 81; nc -w 1 127.0.0.1 {port} </dev/null || echo refused; ip -o -4 addr");
    let mut spec = bench.sh(&script);
    spec.network = one.network();
    let output = bench.output(spec).await;
    assert!(output.starts_with("ping") && output.contains("refused") && output.contains("10.42.0.10/32"), "{output}");
    peer.await.unwrap();
    let error = switch.attach([10, 43, 0, 1].into()).await.unwrap_err().to_string();
    assert_eq!(error, "10.43.0.1 is no pod address of 10.42.0.1/16");
    let taken = two.tcp_connect(([10, 42, 0, 10], 9).into()).await.unwrap_err().to_string();
    assert_eq!(taken, "connect to 10.42.0.10:9 in the network namespace: Connection refused");
}

async fn again() {
    let switch = Switch::create(GATEWAY, &[SERVICES]).unwrap();
    for _ in 0..10 {
        let pod = switch.attach([10, 42, 0, 10].into()).await.unwrap();
        let peer = echo_once(&pod, ([0, 0, 0, 0], 80).into()).await;
        ask(switch.netns(), ([10, 42, 0, 10], 80).into()).await;
        peer.await.unwrap();
    }
}

async fn untouched(inspector: &Inspector, netns: &Netns) -> bool {
    let (tell, told) = tokio::sync::oneshot::channel();
    inspector.untouched(netns.clone(), move |_, untouched| tell.send(untouched).unwrap());
    told.await.unwrap()
}

async fn touched(bench: Bench) {
    let switch = Switch::create(GATEWAY, &[SERVICES]).unwrap();
    let inspector = Inspector::new(switch.netns().clone());
    let address = |number| ([10, 42, 0, number], 80).into();
    // A program that does not talk leaves no trace, however often.
    let quiet = switch.attach([10, 42, 0, 10].into()).await.unwrap();
    for _ in 0..2 {
        let mut spec = bench.sh("echo quiet");
        spec.network = quiet.network();
        assert_eq!(bench.output(spec).await, "quiet");
        assert!(untouched(&inspector, &quiet).await);
    }
    // A socket is seen while it is open, though nothing was sent.
    let listener = quiet.tcp_listener(address(10)).await.unwrap();
    assert!(!untouched(&inspector, &quiet).await);
    drop(listener);
    assert!(untouched(&inspector, &quiet).await);
    // A packet that came is seen, though nobody listened; so is one that went, if only over loopback.
    assert!(switch.netns().tcp_connect(address(10)).await.is_err());
    assert!(!untouched(&inspector, &quiet).await);
    let inward = switch.attach([10, 42, 0, 11].into()).await.unwrap();
    let mut spec = bench.sh("nc -w 1 127.0.0.1 9 </dev/null || echo refused");
    spec.network = inward.network();
    assert!(bench.output(spec).await.ends_with("refused"));
    assert!(!untouched(&inspector, &inward).await);
    // The inspector's thread did not stay where it looked: a new namespace is as new as the first.
    let fresh = switch.attach([10, 42, 0, 12].into()).await.unwrap();
    assert!(untouched(&inspector, &fresh).await);
}

async fn hundred() {
    let switch = Switch::create(GATEWAY, &[SERVICES]).unwrap();
    let begin = std::time::Instant::now();
    let mut pods = Vec::new();
    for number in 0..100u8 {
        pods.push(switch.attach([10, 42, 1, number].into()).await.unwrap());
    }
    println!("   100 pods attached in {:?}", begin.elapsed());
    let peer = echo_once(&pods[99], ([0, 0, 0, 0], 80).into()).await;
    ask(&pods[0], ([10, 42, 1, 99], 80).into()).await;
    peer.await.unwrap();
}

async fn outward(bench: Bench) {
    let switch = Switch::create(GATEWAY, &[SERVICES]).unwrap();
    let pod = switch.attach([10, 42, 0, 10].into()).await.unwrap();
    match switch.connect_outward() {
        Outward::None(why) => {
            println!("NOT RUN outward: {why}");
            assert!(!why.is_empty());
        }
        Outward::Works(means) => {
            println!("   by {means}");
            let Some(address) = host_address() else {
                println!("NOT RUN outward: this machine has no address but loopback");
                return;
            };
            let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut spec = bench.sh(&format!("echo out | nc -w 2 {address} {port}"));
            spec.network = pod.network();
            let client = tokio::spawn(async move { bench.output(spec).await });
            let (mut stream, peer) = listener.accept().await.unwrap();
            let mut line = [0; 4];
            stream.read_exact(&mut line).await.unwrap();
            assert_eq!(&line, b"out\n");
            println!("   seen as {peer}");
            drop(stream);
            client.await.unwrap();
        }
    }
}

/// The address that this machine would use to reach others.
fn host_address() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}
