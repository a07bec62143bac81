//! What a Pod's containers do next. A pure state machine: the Pod's policy, what was observed of each container, and now
//! give actions, the time to look again, and the end. It never starts, stops or reads anything itself.
//!
//! | state of a container | leaves by | to |
//! |---|---|---|
//! | Waiting | `Action::Start` | Starting |
//! | Starting | [`Slot::running`] | Running |
//! | Starting | [`Slot::blocked`] (image, configuration) | Waiting, tried again after a backoff |
//! | Starting, Running | [`Slot::exited`] | Exited |
//! | Exited | restart policy | Waiting (`CrashLoopBackOff`), or stays |
//! | Waiting, in a container set | one that it needs failed | Exited, with the executor's code |

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use windlass_model::places::EXIT_EXECUTOR;
use windlass_model::task::{ContainerSetTask, dependency_failed};

const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long starts its backoff from the beginning.
const BACKOFF_RESET: SignedDuration = SignedDuration::from_secs(600);

/// What a container is in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next begins.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the main ones, ends after them.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// One of `spec.containers` in a step's Pod beside the step's own: stopped when the step's own has ended.
    Companion,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Timestamp,
    pub(crate) container_id: Option<String>,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Waiting { reason: String, message: Option<String> },
    Starting,
    Running { since: Timestamp, stopping: bool },
    Exited(Exit),
}

/// One container as last observed.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) run: Run,
    pub(crate) previous: Option<Exit>,
    pub(crate) restarts: i32,
    /// Not to be started before.
    pub(crate) retry_at: Option<Timestamp>,
    delay: SignedDuration,
    /// The startup probe has passed (or there is none).
    pub(crate) started: bool,
    /// The readiness probe passes (or there is none).
    pub(crate) ready: bool,
    pub(crate) container_id: Option<String>,
    pub(crate) image_id: String,
    pub(crate) has_startup: bool,
    pub(crate) has_readiness: bool,
    /// In a container set: those that must have ended well before it begins.
    pub(crate) after: Vec<usize>,
    /// In a container set: the code that those after it hear, where that is not its own.
    heard: Option<i32>,
}

/// When exited containers are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Never,
    OnFailure,
    Always,
}

/// What the Pod's spec says of its life.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) grace: SignedDuration,
    /// `activeDeadlineSeconds`, counted from the Pod's start.
    pub(crate) deadline: Option<Timestamp>,
    /// Sidecars go on until the step's outputs are taken, since they keep them.
    pub(crate) holds: bool,
}

/// Why the whole Pod must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Deleted with this grace.
    Deleted { grace: SignedDuration },
    /// `activeDeadlineSeconds` is over.
    DeadlineExceeded,
    /// Something around the containers failed: inputs, the node.
    Failed { reason: String, message: String },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    Stop { index: usize, grace: SignedDuration },
}

/// How the Pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) succeeded: bool,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// The answer: what to do, when to look again at the latest, and whether this was all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Timestamp>,
    /// All but the sidecars are over, which are held: the step's outputs are to be taken. It is how the Pod will end.
    pub(crate) collect: Option<End>,
    pub(crate) end: Option<End>,
}

impl Policy {
    /// The policy of `pod`, which began at `start`.
    pub(crate) fn of(pod: &Pod, start: Timestamp) -> Self {
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let restart = match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        let grace = SignedDuration::from_secs(spec.termination_grace_period_seconds.unwrap_or(30).max(0));
        let deadline = spec.active_deadline_seconds.map(|s| start.saturating_add(SignedDuration::from_secs(s)));
        Self { restart, grace, deadline: deadline.and_then(Result::ok), holds: false }
    }
}

/// The containers of `pod` in their order, none started. `step` says that the container named `main` is a step's own.
pub(crate) fn slots(pod: &Pod, step: bool) -> Vec<Slot> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let has_main = step && spec.containers.iter().any(|c| c.name == "main");
    let init = spec.init_containers.iter().flatten().map(|c| {
        let role = if c.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init };
        Slot::new(c, role, "PodInitializing")
    });
    let waiting = if spec.init_containers.iter().flatten().next().is_some() { "PodInitializing" } else { CREATING };
    let main = spec.containers.iter().map(|c| {
        let role = if has_main && c.name != "main" { Role::Companion } else { Role::Main };
        Slot::new(c, role, waiting)
    });
    init.chain(main).collect()
}

/// Puts the containers of a set in their order: all of them are the step's own, what is not in the set goes with them.
pub(crate) fn order(slots: &mut [Slot], set: &ContainerSetTask) {
    let names: Vec<String> = slots.iter().map(|s| s.name.clone()).collect();
    for slot in slots.iter_mut().filter(|s| matches!(s.role, Role::Main | Role::Companion)) {
        let Some(container) = set.container(&slot.name) else {
            slot.role = Role::Companion;
            continue;
        };
        slot.role = Role::Main;
        let place = |name: &String| names.iter().position(|n| n == name);
        slot.after = container.dependencies.iter().filter_map(place).collect();
    }
}

/// The container specs in the order of [`slots`].
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

const CREATING: &str = "ContainerCreating";

impl Slot {
    fn new(container: &Container, role: Role, reason: &str) -> Self {
        Self {
            name: container.name.clone(),
            role,
            run: Run::Waiting { reason: reason.into(), message: None },
            previous: None,
            restarts: 0,
            retry_at: None,
            delay: SignedDuration::ZERO,
            started: false,
            ready: false,
            container_id: None,
            image_id: String::new(),
            has_startup: container.startup_probe.is_some(),
            has_readiness: container.readiness_probe.is_some(),
            after: Vec::new(),
            heard: None,
        }
    }

    /// The container runs.
    pub(crate) fn running(&mut self, now: Timestamp, id: String, image_id: String) {
        self.run = Run::Running { since: now, stopping: false };
        self.retry_at = None;
        self.started = !self.has_startup;
        self.ready = self.started && !self.has_readiness;
        self.container_id = Some(id);
        self.image_id = image_id;
    }

    /// The startup probe passed.
    pub(crate) fn passed_startup(&mut self) {
        self.started = true;
        self.ready = self.ready || !self.has_readiness;
    }

    /// The container could not be made and will be tried again. Says for how long it waits.
    pub(crate) fn blocked(&mut self, now: Timestamp, reason: String, message: String, delay: SignedDuration) {
        self.retry_at = now.saturating_add(delay).ok();
        self.run = Run::Waiting { reason, message: Some(message) };
    }

    /// The container ended; the restart policy decides what follows.
    pub(crate) fn exited(&mut self, exit: Exit, policy: &Policy) {
        let restarts = restarts(self.role, &exit, policy);
        self.ready = false;
        self.started = false;
        if restarts {
            let ran = exit.started.map_or(SignedDuration::ZERO, |since| exit.finished.duration_since(since));
            // The kubelet starts the first time again at once, then waits 10 s, 20 s, ... 5 min.
            let delay = if ran >= BACKOFF_RESET { SignedDuration::ZERO } else { self.delay };
            self.delay = if delay.is_zero() { BACKOFF_FIRST } else { (delay * 2).min(BACKOFF_MAX) };
            self.retry_at = exit.finished.saturating_add(delay).ok();
        }
        self.run = Run::Exited(exit);
    }

    fn succeeded(&self) -> bool {
        matches!(&self.run, Run::Exited(exit) if exit.code == 0)
    }

    /// The code that those after it in a container set hear.
    fn code(&self) -> Option<i32> {
        match &self.run {
            Run::Exited(exit) => Some(self.heard.unwrap_or(exit.code)),
            _ => None,
        }
    }

    fn begun(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Running { .. })
    }
}

fn restarts(role: Role, exit: &Exit, policy: &Policy) -> bool {
    match (role, policy.restart) {
        (Role::Sidecar, _) => true,
        (_, Restart::Never) | (Role::Companion, _) => false,
        (Role::Init, _) | (_, Restart::OnFailure) => exit.code != 0,
        (Role::Main, Restart::Always) => true,
    }
}

/// What follows from what was observed. `stop` is set once the whole Pod must end.
pub(crate) fn decide(policy: &Policy, slots: &mut [Slot], stop: Option<&Stop>, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if let Some(stop) = stop {
        let grace = match stop {
            Stop::Deleted { grace } => *grace,
            Stop::DeadlineExceeded | Stop::Failed { .. } => policy.grace,
        };
        let hold = policy.holds && !matches!(stop, Stop::Deleted { .. });
        if !quiesce(slots, grace, hold, &mut decision.actions) {
            decision.over(ended(slots, Some(stop)), hold);
        }
        return decision;
    }
    while let Some(index) = give_up(slots, now) {
        tracing::debug!(container = %slots[index].name, "one that it needs has failed");
    }
    let mut mains = slots.iter().filter(|s| s.role == Role::Main);
    if mains.all(|s| matches!(&s.run, Run::Exited(exit) if !restarts(s.role, exit, policy))) {
        // Companions and sidecars follow; none of them is started again.
        if !quiesce(slots, policy.grace, policy.holds, &mut decision.actions) {
            decision.over(ended(slots, None), policy.holds);
        }
        return decision;
    }
    decision.wake = policy.deadline;
    // Init containers in their order; a sidecar only needs to have started.
    for index in 0..slots.len() {
        let slot = &mut slots[index];
        match slot.role {
            Role::Init => match &slot.run {
                Run::Exited(exit) if exit.code == 0 => continue,
                Run::Exited(exit) if !restarts(Role::Init, exit, policy) => {
                    if !quiesce(slots, policy.grace, false, &mut decision.actions) {
                        decision.end = Some(ended(slots, None));
                        decision.wake = None;
                    }
                    return decision;
                }
                _ => {
                    advance(slots, index, now, &mut decision);
                    // Sidecars before it are kept alive meanwhile.
                    (0..index)
                        .filter(|i| slots[*i].role == Role::Sidecar)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|i| advance(slots, i, now, &mut decision));
                    return decision;
                }
            },
            Role::Sidecar => {
                advance(slots, index, now, &mut decision);
                if !slots[index].started && slots[index].restarts == 0 {
                    return decision;
                }
            }
            Role::Main | Role::Companion => {}
        }
    }
    for index in 0..slots.len() {
        let due = slots[index].after.iter().all(|i| slots[*i].code() == Some(0));
        if due && matches!(slots[index].role, Role::Main | Role::Companion) {
            advance(slots, index, now, &mut decision);
        }
    }
    decision
}

/// Ends one container that will never begin, since one that it needs has failed; says which.
fn give_up(slots: &mut [Slot], now: Timestamp) -> Option<usize> {
    for index in 0..slots.len() {
        if !matches!(slots[index].run, Run::Waiting { .. }) {
            continue;
        }
        // In their order: the first that has not ended well decides.
        let first = slots[index].after.iter().find(|i| slots[**i].code() != Some(0));
        let Some((name, code)) = first.and_then(|i| Some((slots[*i].name.clone(), slots[*i].code()?))) else {
            continue;
        };
        slots[index].heard = Some(code);
        slots[index].run = Run::Exited(Exit {
            code: EXIT_EXECUTOR,
            reason: "Error".into(),
            message: Some(dependency_failed(&name, code)),
            finished: now,
            ..Exit::default()
        });
        return Some(index);
    }
    None
}

/// Starts what waits and may start; sets the time for what must wait.
fn advance(slots: &mut [Slot], index: usize, now: Timestamp, decision: &mut Decision) {
    let slot = &mut slots[index];
    let due = match slot.retry_at {
        Some(at) if at > now => {
            decision.wake = Some(decision.wake.map_or(at, |wake| wake.min(at)));
            false
        }
        _ => true,
    };
    match &slot.run {
        Run::Waiting { .. } if due => {
            slot.run = Run::Starting;
            decision.actions.push(Action::Start(index));
        }
        Run::Exited(exit) if slot.retry_at.is_some() => {
            if due {
                slot.previous = Some(exit.clone());
                slot.restarts += 1;
                slot.run = Run::Starting;
                decision.actions.push(Action::Start(index));
            } else {
                let message = format!(
                    "back-off {} restarting failed container={}",
                    backoff_text(exit.finished, slot.retry_at.unwrap_or(now)),
                    slot.name
                );
                slot.previous = Some(exit.clone());
                slot.run = Run::Waiting { reason: CRASH_LOOP.into(), message: Some(message) };
                slot.restarts += 1;
            }
        }
        _ => {}
    }
}

/// The reason of a container that waits for its next start.
pub(crate) const CRASH_LOOP: &str = "CrashLoopBackOff";

fn backoff_text(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs();
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

/// Asks everything that runs to stop, sidecars after the others, or not yet. Says whether something is still running that
/// was asked.
fn quiesce(slots: &mut [Slot], grace: SignedDuration, hold: bool, actions: &mut Vec<Action>) -> bool {
    let others_run = slots.iter().any(|s| s.role != Role::Sidecar && s.begun());
    for (index, slot) in slots.iter_mut().enumerate() {
        if slot.role == Role::Sidecar && (others_run || hold) {
            continue;
        }
        if let Run::Running { stopping, .. } = &mut slot.run
            && !*stopping
        {
            *stopping = true;
            actions.push(Action::Stop { index, grace });
        }
    }
    slots.iter().any(|s| s.begun() && !(hold && s.role == Role::Sidecar))
}

impl Decision {
    fn over(&mut self, end: End, hold: bool) {
        let place = if hold { &mut self.collect } else { &mut self.end };
        *place = Some(end);
    }
}

fn ended(slots: &[Slot], stop: Option<&Stop>) -> End {
    match stop {
        Some(Stop::DeadlineExceeded) => End {
            succeeded: false,
            reason: Some("DeadlineExceeded".into()),
            message: Some("Pod was active on the node longer than the specified deadline".into()),
        },
        Some(Stop::Failed { reason, message }) => {
            End { succeeded: false, reason: Some(reason.clone()), message: Some(message.clone()) }
        }
        Some(Stop::Deleted { .. }) | None => {
            let own = slots.iter().filter(|s| matches!(s.role, Role::Main | Role::Init));
            let succeeded = own.clone().count() > 0 && own.clone().all(Slot::succeeded);
            End { succeeded, reason: None, message: None }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    struct Rig {
        policy: Policy,
        slots: Vec<Slot>,
        stop: Option<Stop>,
    }

    impl Rig {
        fn new(spec: serde_json::Value) -> Self {
            let step = spec.get("step").is_some();
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            Self { policy: Policy::of(&pod, at(0)), slots: slots(&pod, step), stop: None }
        }
        /// A container set's Pod: what needs what.
        fn set(graph: &[(&str, &[&str])], sidecar: &str) -> Self {
            let names = graph.iter().map(|(name, _)| *name).chain([sidecar]);
            let containers: Vec<_> = names.map(|n| json!({"name": n})).collect();
            let mut rig = Self::new(json!({"step": true, "restartPolicy": "Never", "containers": containers}));
            let containers: Vec<_> = graph.iter().map(|(n, d)| json!({"name": n, "dependencies": d})).collect();
            order(&mut rig.slots, &serde_json::from_value(json!({"containers": containers})).unwrap());
            rig
        }
        fn decide(&mut self, now: i64) -> Decision {
            decide(&self.policy, &mut self.slots, self.stop.as_ref(), at(now))
        }
        fn runs(&mut self, index: usize, now: i64) {
            self.slots[index].running(at(now), format!("windlass://{index}"), String::new());
        }
        fn exits(&mut self, index: usize, code: i32, now: i64) {
            let started = match self.slots[index].run {
                Run::Running { since, .. } => Some(since),
                _ => None,
            };
            let exit = Exit { code, started, finished: at(now), ..Default::default() };
            let policy = self.policy.clone();
            self.slots[index].exited(exit, &policy);
        }
    }

    fn containers(names: &[&str]) -> serde_json::Value {
        names.iter().map(|n| json!({"name": n})).collect()
    }

    #[test]
    fn a_container_set_goes_in_its_order() {
        let mut rig = Rig::set(&[("main", &["b", "c"]), ("a", &[]), ("b", &["a"]), ("c", &["a"])], "side");
        assert_eq!(rig.decide(0).actions, [Action::Start(1), Action::Start(4)], "the sidecar waits for nobody");
        rig.runs(1, 1);
        rig.runs(4, 1);
        assert_eq!(rig.decide(2).actions, []);
        rig.exits(1, 0, 3);
        assert_eq!(rig.decide(3).actions, [Action::Start(2), Action::Start(3)]);
        rig.runs(2, 4);
        rig.runs(3, 4);
        rig.exits(3, 0, 5);
        assert_eq!(rig.decide(5).actions, []);
        rig.exits(2, 0, 6);
        assert_eq!(rig.decide(6).actions, [Action::Start(0)]);
        rig.runs(0, 7);
        rig.exits(0, 0, 8);
        assert_eq!(rig.decide(8).actions, [Action::Stop { index: 4, grace: SignedDuration::from_secs(30) }]);
        rig.exits(4, 143, 9);
        assert!(rig.decide(9).end.unwrap().succeeded);
    }

    #[test]
    fn what_needs_a_failed_container_never_begins() {
        let mut rig = Rig::set(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])], "side");
        assert_eq!(rig.decide(0).actions, [Action::Start(0), Action::Start(3), Action::Start(4)]);
        for index in [0, 3, 4] {
            rig.runs(index, 1);
        }
        rig.exits(0, 7, 2);
        assert_eq!(rig.decide(2), Decision::default(), "the others go on");
        let told = |slot: &Slot| match &slot.run {
            Run::Exited(exit) => (exit.code, exit.message.clone().unwrap()),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&rig.slots[1]), (64, "dependency \"a\" exited with non-zero code: 7".to_owned()));
        assert_eq!(told(&rig.slots[2]), (64, "dependency \"b\" exited with non-zero code: 7".to_owned()));
        rig.exits(3, 0, 3);
        assert_eq!(rig.decide(3).actions.len(), 1);
        rig.exits(4, 143, 4);
        assert!(!rig.decide(4).end.unwrap().succeeded);
    }

    #[test]
    fn a_step_runs_once_and_succeeds() {
        let mut rig = Rig::new(json!({"restartPolicy": "Never", "containers": containers(&["main"])}));
        assert_eq!(rig.decide(0).actions, [Action::Start(0)]);
        assert_eq!(rig.decide(0), Decision::default(), "starting: nothing to do");
        rig.runs(0, 1);
        assert_eq!(rig.decide(1), Decision::default());
        rig.exits(0, 0, 2);
        let end = rig.decide(2).end.unwrap();
        assert!(end.succeeded);
    }

    #[test]
    fn init_containers_run_in_order_and_a_failure_ends_the_pod() {
        let mut rig = Rig::new(json!({"restartPolicy": "Never", "containers": containers(&["main"]),
            "initContainers": containers(&["a", "b"])}));
        assert_eq!(rig.decide(0).actions, [Action::Start(0)]);
        rig.runs(0, 0);
        assert!(rig.decide(0).actions.is_empty());
        rig.exits(0, 0, 1);
        assert_eq!(rig.decide(1).actions, [Action::Start(1)]);
        rig.runs(1, 1);
        rig.exits(1, 3, 2);
        let decision = rig.decide(2);
        assert!(!decision.end.unwrap().succeeded);
        assert!(matches!(rig.slots[2].run, Run::Waiting { .. }), "main never started");
    }

    #[test]
    fn restarts_back_off_from_ten_seconds_to_five_minutes() {
        let mut rig = Rig::new(json!({"containers": containers(&["app"])}));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(rig.decide(now).actions, [Action::Start(0)]);
            rig.runs(0, now);
            rig.exits(0, 1, now + 1);
            now += 1;
            let decision = rig.decide(now);
            if decision.actions.is_empty() {
                let Run::Waiting { reason, .. } = &rig.slots[0].run else { panic!("waits") };
                assert_eq!(reason, CRASH_LOOP);
                let wake = decision.wake.unwrap();
                waits.push(wake.duration_since(at(now)).as_secs());
                now = wake.duration_since(at(0)).as_secs();
            } else {
                waits.push(0);
                rig.slots[0].run = Run::Waiting { reason: String::new(), message: None };
            }
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(rig.slots[0].restarts, 8);
    }

    #[test]
    fn on_failure_ends_on_success_only() {
        let mut rig = Rig::new(json!({"restartPolicy": "OnFailure", "containers": containers(&["job"])}));
        rig.decide(0);
        rig.runs(0, 0);
        rig.exits(0, 1, 1);
        assert_eq!(rig.decide(1).actions, [Action::Start(0)], "first restart is at once");
        rig.runs(0, 1);
        rig.exits(0, 0, 2);
        assert!(rig.decide(2).end.unwrap().succeeded);
    }

    #[test]
    fn delete_stops_with_grace_then_ends() {
        let mut rig = Rig::new(json!({"containers": containers(&["a", "b"])}));
        rig.decide(0);
        rig.runs(0, 0);
        rig.runs(1, 0);
        rig.stop = Some(Stop::Deleted { grace: SignedDuration::from_secs(5) });
        assert_eq!(rig.decide(1).actions.len(), 2);
        assert!(rig.decide(1).actions.is_empty(), "asked once");
        rig.exits(0, 143, 2);
        assert!(rig.decide(2).end.is_none());
        rig.exits(1, 143, 3);
        let decision = rig.decide(3);
        assert!(decision.end.is_some() && decision.actions.is_empty());
    }

    #[test]
    fn the_deadline_is_a_wake_and_its_text_is_the_kubelets() {
        let mut rig = Rig::new(
            json!({"restartPolicy": "Never", "activeDeadlineSeconds": 5, "containers": containers(&["main"])}),
        );
        assert_eq!(rig.decide(0).wake, Some(at(5)));
        rig.runs(0, 0);
        rig.stop = Some(Stop::DeadlineExceeded);
        assert_eq!(rig.decide(5).actions.len(), 1);
        rig.exits(0, 137, 6);
        let end = rig.decide(6).end.unwrap();
        assert_eq!(end.reason.as_deref(), Some("DeadlineExceeded"));
        assert!(end.message.unwrap().contains("longer than the specified deadline"));
    }

    #[test]
    fn companions_of_a_step_stop_when_main_ends_and_do_not_count() {
        let mut rig =
            Rig::new(json!({"step": true, "restartPolicy": "Never", "containers": containers(&["main", "db"])}));
        assert_eq!(rig.decide(0).actions.len(), 2);
        rig.runs(0, 0);
        rig.runs(1, 0);
        rig.exits(0, 0, 1);
        assert!(matches!(rig.decide(1).actions[..], [Action::Stop { index: 1, .. }]));
        rig.exits(1, 143, 2);
        assert!(rig.decide(2).end.unwrap().succeeded);
    }

    #[test]
    fn sidecars_that_keep_outputs_go_on_until_they_are_taken() {
        let mut rig = Rig::new(json!({"restartPolicy": "Never", "containers": containers(&["main"]),
            "initContainers": [{"name": "keeper", "restartPolicy": "Always"}]}));
        rig.policy.holds = true;
        rig.decide(0);
        rig.runs(0, 0);
        rig.decide(0);
        rig.runs(1, 0);
        rig.exits(1, 3, 1);
        let held = rig.decide(1);
        assert_eq!((held.actions.len(), held.end), (0, None));
        assert!(!held.collect.unwrap().succeeded);
        // Whoever deletes the Pod does not wait for outputs.
        rig.stop = Some(Stop::Deleted { grace: SignedDuration::ZERO });
        assert_eq!(rig.decide(1).actions, [Action::Stop { index: 0, grace: SignedDuration::ZERO }]);
        rig.stop = None;
        rig.policy.holds = false;
        assert_eq!(rig.decide(1).end, None);
        rig.exits(0, 143, 2);
        assert!(!rig.decide(2).end.unwrap().succeeded);
    }

    #[test]
    fn sidecars_start_before_and_stop_after() {
        let mut rig = Rig::new(json!({"restartPolicy": "Never", "containers": containers(&["main"]),
            "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "prep"}]}));
        assert_eq!(rig.decide(0).actions, [Action::Start(0)]);
        rig.runs(0, 0);
        assert_eq!(rig.decide(0).actions, [Action::Start(1)]);
        rig.runs(1, 0);
        rig.exits(1, 0, 1);
        assert_eq!(rig.decide(1).actions, [Action::Start(2)]);
        rig.runs(2, 1);
        rig.exits(2, 0, 2);
        assert!(matches!(rig.decide(2).actions[..], [Action::Stop { index: 0, .. }]));
        rig.exits(0, 143, 3);
        assert!(rig.decide(3).end.unwrap().succeeded);
    }

    #[test]
    fn a_blocked_container_is_tried_again() {
        let mut rig = Rig::new(json!({"containers": containers(&["a"])}));
        rig.decide(0);
        rig.slots[0].blocked(at(0), "ErrImagePull".into(), "no".into(), SignedDuration::from_secs(10));
        assert_eq!(rig.decide(1).wake, Some(at(10)));
        assert_eq!(rig.decide(10).actions, [Action::Start(0)]);
    }
}
