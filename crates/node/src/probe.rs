//! Probes: startup, readiness and liveness of one running container, over the Pod's own network or by a command in it. Tells
//! only what changes. It never restarts anything itself.

use crate::lifecycle::Slot;
use crate::session::Left;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ContainerPort, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use windlass_sandbox::net::Netns;
use windlass_sandbox::{ExecSpec, Spec, Stdio};

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The startup probe passed.
    Started,
    /// The readiness probe's answer changed.
    Ready(bool),
    /// The liveness or startup probe failed too often: the container must go.
    Dead(String),
    /// One failure, for an Event.
    Unhealthy(String),
}

/// What a probe runs against.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) container: windlass_sandbox::Container,
    pub(crate) spec: Arc<Spec>,
    pub(crate) address: IpAddr,
    pub(crate) switch: Netns,
    pub(crate) ports: Vec<ContainerPort>,
}

/// Faults of a container's probes that this node refuses by name.
pub(crate) fn faults(container: &Container) -> Vec<String> {
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ];
    let mut faults = Vec::new();
    for (name, probe) in probes {
        let Some(probe) = probe else { continue };
        if probe.grpc.is_some() {
            faults.push(format!("{name}.grpc is not supported on this node yet; use tcpSocket, httpGet or exec"));
        } else if let Some(get) = &probe.http_get {
            if get.scheme.as_deref() == Some("HTTPS") {
                faults.push(format!("{name}.httpGet.scheme HTTPS is not supported on this node yet"));
            }
            if get.host.as_deref().is_some_and(|h| !h.is_empty()) {
                faults.push(format!("{name}.httpGet.host is not supported on this node"));
            }
        } else if probe.exec.is_none() && probe.tcp_socket.is_none() {
            faults.push(format!("{name} has no handler: give it exec, httpGet or tcpSocket"));
        }
    }
    faults
}

/// Runs the probes of `container` until the task is aborted. Readiness and liveness begin once startup has passed.
pub(crate) async fn run(container: Container, slot: Slot, subject: Subject, findings: mpsc::UnboundedSender<Finding>) {
    if let Some(probe) = &container.startup_probe {
        let mut failures = 0;
        pause(probe.initial_delay_seconds.unwrap_or(0)).await;
        loop {
            match try_once(probe, &subject).await {
                Ok(()) => break,
                Err(text) => {
                    failures += 1;
                    let _ = findings.send(Finding::Unhealthy(format!("Startup probe failed: {text}")));
                    if failures >= probe.failure_threshold.unwrap_or(3) {
                        let text = format!("Container {} failed startup probe, will be restarted", slot.name);
                        let _ = findings.send(Finding::Dead(text));
                        return;
                    }
                }
            }
            pause(probe.period_seconds.unwrap_or(10)).await;
        }
        let _ = findings.send(Finding::Started);
    }
    let readiness = async {
        let Some(probe) = &container.readiness_probe else { return };
        let mut ready = false;
        watch(probe, &subject, |streak| {
            match streak {
                Streak::Passed(times) if !ready && times >= probe.success_threshold.unwrap_or(1) => {
                    ready = true;
                    let _ = findings.send(Finding::Ready(true));
                }
                Streak::Passed(_) => {}
                Streak::Failed(times, text) => {
                    let _ = findings.send(Finding::Unhealthy(format!("Readiness probe failed: {text}")));
                    if ready && times >= probe.failure_threshold.unwrap_or(3) {
                        ready = false;
                        let _ = findings.send(Finding::Ready(false));
                    }
                }
            }
            // A first answer is looked for often: a rollout waits for it.
            if ready { None } else { Some(Duration::from_millis(250)) }
        })
        .await;
    };
    let liveness = async {
        let Some(probe) = &container.liveness_probe else { return };
        watch(probe, &subject, |streak| {
            if let Streak::Failed(times, text) = streak {
                let _ = findings.send(Finding::Unhealthy(format!("Liveness probe failed: {text}")));
                if times >= probe.failure_threshold.unwrap_or(3) {
                    let text = format!("Container {} failed liveness probe, will be restarted", slot.name);
                    let _ = findings.send(Finding::Dead(text));
                }
            }
            None
        })
        .await;
    };
    tokio::join!(readiness, liveness);
}

enum Streak<'a> {
    Passed(i32),
    Failed(i32, &'a str),
}

/// Probes for ever. `tell` may ask for the next try to come sooner than the period.
async fn watch(probe: &Probe, subject: &Subject, mut tell: impl FnMut(Streak<'_>) -> Option<Duration>) {
    pause(probe.initial_delay_seconds.unwrap_or(0)).await;
    let period = Duration::from_secs(u64::try_from(probe.period_seconds.unwrap_or(10).max(1)).unwrap_or(10));
    let (mut passed, mut failed) = (0, 0);
    let begun = tokio::time::Instant::now();
    loop {
        let sooner = match try_once(probe, subject).await {
            Ok(()) => {
                (passed, failed) = (passed + 1, 0);
                tell(Streak::Passed(passed))
            }
            Err(text) => {
                (passed, failed) = (0, failed + 1);
                tell(Streak::Failed(failed, &text))
            }
        };
        // Only at first, so that a container that never gets ready is not asked four times a second for ever.
        let sooner = sooner.filter(|_| begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(sooner.unwrap_or(period).min(period)).await;
    }
}

async fn pause(seconds: i32) {
    tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).await;
}

/// One try, within the probe's timeout.
async fn try_once(probe: &Probe, subject: &Subject) -> Result<(), String> {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1).max(1)).unwrap_or(1));
    let handler = async {
        if let Some(exec) = &probe.exec {
            run_command(subject, exec.command.clone().unwrap_or_default()).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let address = address(subject, &tcp.port)?;
            subject.switch.tcp_connect(address).await.map(|_| ()).map_err(|e| format!("dial tcp {address}: {e}"))
        } else if let Some(get) = &probe.http_get {
            http_get(subject, get).await
        } else {
            Err("no handler".to_owned())
        }
    };
    match tokio::time::timeout(timeout, handler).await {
        Ok(result) => result,
        Err(_) => Err(format!("timed out after {}s", timeout.as_secs())),
    }
}

fn address(subject: &Subject, port: &IntOrString) -> Result<SocketAddr, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = subject.ports.iter().find(|p| p.name.as_ref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok()).ok_or_else(|| format!("no port is named {name:?}"))?
        }
    };
    let number = u16::try_from(number).map_err(|_| format!("{number} is not a port"))?;
    Ok(SocketAddr::new(subject.address, number))
}

/// Runs a command in the container; its exit code decides.
pub(crate) async fn run_command(subject: &Subject, args: Vec<String>) -> Result<(), String> {
    if args.is_empty() {
        return Err("the command is empty".to_owned());
    }
    let process = subject
        .container
        .exec(ExecSpec::like(&subject.spec, args), Stdio::null())
        .await
        .map_err(|error| error.to_string())?;
    // A try that runs out of time must not leave its process behind.
    let _left = Left(process.clone());
    let exit = process.wait().await;
    if exit.code == 0 { Ok(()) } else { Err(format!("command exited with {}", exit.code)) }
}

/// GET; 200 to 399 passes.
pub(crate) async fn http_get(subject: &Subject, get: &HTTPGetAction) -> Result<(), String> {
    let address = address(subject, &get.port)?;
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let url = format!("http://{address}{path}");
    let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");
    let stream = subject.switch.tcp_connect(address).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "kube-probe/1.33")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    for given in get.http_headers.iter().flatten() {
        request = request.header(given.name.as_str(), given.value.as_str());
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await;
    driver.abort();
    let status = response.map_err(|e| failed(&e))?.status();
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
}
