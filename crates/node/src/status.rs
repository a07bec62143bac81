//! The status of a Pod as the kubelet would write it, made from the containers' states. Pure; it never reads the Pod's
//! old status except for the times of conditions that did not change.

use crate::lifecycle::{self, End, Exit, Role, Run, Slot};
use crate::quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is known of the Pod beside its containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) host_ip: String,
    pub(crate) pod_ip: Option<String>,
    pub(crate) start: Option<Timestamp>,
    pub(crate) scheduled: Option<Timestamp>,
    pub(crate) end: Option<End>,
    /// The Pod is being stopped: it is not Ready whatever its probes say.
    pub(crate) stopping: bool,
    /// Something that keeps every container waiting (a volume, an input).
    pub(crate) obstacle: Option<String>,
}

/// The status of `pod`; `old` are the conditions that were told last.
pub(crate) fn summarize(pod: &Pod, old: &[PodCondition], slots: &[Slot], facts: &Facts, now: Timestamp) -> PodStatus {
    let init: Vec<&Slot> = slots.iter().filter(|s| matches!(s.role, Role::Init | Role::Sidecar)).collect();
    let main: Vec<&Slot> = slots.iter().filter(|s| matches!(s.role, Role::Main | Role::Companion)).collect();
    let initialized = init.iter().all(|s| match s.role {
        Role::Sidecar => s.started,
        _ => matches!(&s.run, Run::Exited(exit) if exit.code == 0),
    });
    let phase = match &facts.end {
        Some(end) if end.succeeded => "Succeeded",
        Some(_) => "Failed",
        None if initialized
            && main.iter().all(|s| {
                // Who waits for others in a container set does not keep its Pod from running.
                s.restarts > 0 || !s.after.is_empty() || !matches!(s.run, Run::Waiting { .. } | Run::Starting)
            }) =>
        {
            "Running"
        }
        None => "Pending",
    };
    let unready: Vec<&str> = main.iter().filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let over = facts.end.is_some();
    let completed = over.then_some("PodCompleted").filter(|_| phase == "Succeeded").or(over.then_some("PodFailed"));
    let not_ready = if facts.stopping && !over {
        Some(("PodTerminating", String::new()))
    } else if let Some(reason) = completed {
        Some((reason, String::new()))
    } else if unready.is_empty() {
        None
    } else {
        Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
    };
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|s| s.role == Role::Init && !matches!(&s.run, Run::Exited(exit) if exit.code == 0))
        .map(|s| s.name.as_str())
        .collect();
    let init_problem = (!initialized).then(|| {
        ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", incomplete.join(" ")))
    });
    let conditions = Conditions { old, now };
    let mut scheduled = conditions.of("PodScheduled", None);
    if let Some(at) = facts.scheduled {
        scheduled.last_transition_time.get_or_insert(Time(at));
    }
    PodStatus {
        phase: Some(phase.into()),
        conditions: Some(vec![
            scheduled,
            conditions.of("Initialized", init_problem),
            conditions.of("ContainersReady", not_ready.clone()),
            conditions.of("Ready", not_ready),
        ]),
        host_ip: Some(facts.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.clone() }]),
        pod_ip: facts.pod_ip.clone(),
        pod_ips: facts.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: facts.start.map(Time),
        qos_class: Some(qos(pod).into()),
        init_container_statuses: (!init.is_empty()).then(|| container_statuses(pod, &init, facts)),
        container_statuses: Some(container_statuses(pod, &main, facts)),
        reason: facts.end.as_ref().and_then(|e| e.reason.clone()),
        message: facts.end.as_ref().and_then(|e| e.message.clone()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn container_statuses(pod: &Pod, slots: &[&Slot], facts: &Facts) -> Vec<ContainerStatus> {
    slots
        .iter()
        .map(|slot| {
            let spec = lifecycle::containers(pod).find(|c| c.name == slot.name);
            let image = spec.and_then(|c| c.image.clone()).unwrap_or_default();
            ContainerStatus {
                name: slot.name.clone(),
                image,
                image_id: slot.image_id.clone(),
                container_id: slot.container_id.clone(),
                ready: match (slot.role, &slot.run) {
                    (Role::Init, Run::Exited(exit)) => exit.code == 0,
                    _ => slot.ready && !facts.stopping,
                },
                started: Some(slot.started),
                restart_count: slot.restarts,
                state: Some(state(&slot.run, facts)),
                last_state: slot
                    .previous
                    .as_ref()
                    .map(|exit| ContainerState { terminated: Some(terminated(exit)), ..ContainerState::default() }),
                ..ContainerStatus::default()
            }
        })
        .collect()
}

fn state(run: &Run, facts: &Facts) -> ContainerState {
    let mut state = ContainerState::default();
    match run {
        Run::Waiting { reason, message } => {
            let message = message.clone().or_else(|| facts.obstacle.clone());
            state.waiting = Some(ContainerStateWaiting { reason: Some(reason.clone()), message });
        }
        Run::Starting => {
            let message = facts.obstacle.clone();
            state.waiting = Some(ContainerStateWaiting { reason: Some("ContainerCreating".into()), message });
        }
        Run::Running { since, .. } => state.running = Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
        Run::Exited(exit) => state.terminated = Some(terminated(exit)),
    }
    state
}

fn terminated(exit: &Exit) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: exit.started.map(Time),
        finished_at: Some(Time(exit.finished)),
        container_id: exit.container_id.clone(),
    }
}

struct Conditions<'a> {
    old: &'a [PodCondition],
    now: Timestamp,
}

impl Conditions<'_> {
    /// A condition: true without a problem. Its time moves only when its status does.
    fn of(&self, kind: &str, problem: Option<(&str, String)>) -> PodCondition {
        let status = if problem.is_none() { "True" } else { "False" };
        let old = self.old.iter().find(|c| c.type_ == kind && c.status == status);
        let (reason, message) = match problem {
            Some((reason, message)) => (Some(reason.to_owned()), Some(message).filter(|m| !m.is_empty())),
            None => (None, None),
        };
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason,
            message,
            last_transition_time: old.and_then(|c| c.last_transition_time.clone()).or(Some(Time(self.now))),
            ..PodCondition::default()
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by Kubernetes' rules.
pub(crate) fn qos(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in lifecycle::containers(pod) {
        let get = |requests: bool, name: &str| {
            let resources = container.resources.as_ref()?;
            let map = if requests { resources.requests.as_ref() } else { resources.limits.as_ref() }?;
            map.get(name).and_then(|q| quantity::milli(&q.0)).filter(|v| *v > 0)
        };
        for name in ["cpu", "memory"] {
            let (request, limit) = (get(true, name), get(false, name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn conditions(status: &PodStatus) -> Vec<String> {
        status.conditions.iter().flatten().map(|c| format!("{}={}", c.type_, c.status)).collect()
    }

    #[test]
    fn phases_follow_the_containers() {
        let pod = pod(json!({"containers": [{"name": "a", "image": "i", "readinessProbe": {}}]}));
        let now = Timestamp::UNIX_EPOCH;
        let mut slots = lifecycle::slots(&pod, false);
        let facts = Facts::default();
        assert_eq!(summarize(&pod, &[], &slots, &facts, now).phase.as_deref(), Some("Pending"));
        slots[0].running(now, "windlass://1".into(), "sha256:0".into());
        let status = summarize(&pod, &[], &slots, &facts, now);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let want = ["PodScheduled=True", "Initialized=True", "ContainersReady=False", "Ready=False"];
        assert_eq!(conditions(&status), want);
        slots[0].ready = true;
        assert_eq!(conditions(&summarize(&pod, &[], &slots, &facts, now))[3], "Ready=True");
        let stopping = Facts { stopping: true, ..Facts::default() };
        assert_eq!(conditions(&summarize(&pod, &[], &slots, &stopping, now))[3], "Ready=False");
        let end = Facts { end: Some(End { succeeded: true, reason: None, message: None }), ..Facts::default() };
        slots[0].run = Run::Exited(Exit { reason: "Completed".into(), ..Exit::default() });
        let status = summarize(&pod, &[], &slots, &end, now);
        assert_eq!(status.phase.as_deref(), Some("Succeeded"));
        let ready = &status.conditions.unwrap()[3];
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("PodCompleted")));
    }

    #[test]
    fn an_obstacle_is_named_where_the_container_waits() {
        let pod = pod(json!({"containers": [{"name": "a"}]}));
        let slots = lifecycle::slots(&pod, false);
        let facts = Facts { obstacle: Some("secret \"x\" not found".into()), ..Facts::default() };
        let status = summarize(&pod, &[], &slots, &facts, Timestamp::UNIX_EPOCH);
        let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
        assert!(waiting.message.unwrap().contains("secret \"x\" not found"));
    }

    #[test]
    fn quality_of_service() {
        let of =
            |resources: serde_json::Value| qos(&pod(json!({"containers": [{"name": "a", "resources": resources}]})));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})), "Burstable");
    }
}
