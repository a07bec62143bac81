//! A retry node: the parent of attempts.
//!
//! | phase | seen | becomes | and |
//! |---|---|---|---|
//! | Running | no attempt | Running | attempt 0 begins |
//! | Running | last attempt succeeded (or was skipped) | Succeeded | its outputs are the node's |
//! | Running | last attempt failed, all rules allow another, wait is over | Running | the next attempt begins |
//! | Running | … the wait is not over | Running | message `Backoff for …` |
//! | Running | … policy, limit, condition, time or a stop forbid | that of the last attempt | and says why |
//! | Running | a try could not be made, the policy is not about errors | Running (in steps), Error | the parent is in error |

use jiff::{SignedDuration, Timestamp};
use windlass_model::parameter::Inputs;
use windlass_model::status::{NodeFlag, NodeStatus};
use windlass_model::template::RetryStrategy;
use windlass_model::{NodePhase, NodeType};

use crate::names;
use crate::nodes::{Call, Ix, Machine};
use crate::opening::Opened;
use crate::run::Run;
use crate::scope::Scope;

/// What a retry node knows of its attempts.
#[derive(Debug)]
pub(crate) struct RetryMachine {
    strategy: RetryStrategy,
    call: Call,
    last: Option<Ix>,
    attempts: usize,
    /// A try could not be made at all, and that was told to the parent: nothing becomes of the node any more.
    given_up: bool,
}

impl RetryMachine {
    /// Whether nothing becomes of the node any more, though it has not ended.
    pub(crate) fn given_up(&self) -> bool {
        self.given_up
    }
}

enum Verdict {
    Again,
    Later(Timestamp, String),
    Enough(String),
}

impl Run {
    pub(crate) fn open_retry(
        &mut self,
        existing: Option<Ix>,
        call: &Call,
        strategy: RetryStrategy,
        inputs: &Inputs,
    ) -> Opened {
        let new = existing.is_none();
        let ix = existing.unwrap_or_else(|| {
            let mut row = self.row(call, NodeType::Retry, NodePhase::Running);
            row.inputs = (!inputs.is_empty()).then(|| inputs.clone());
            share_flag(&mut row);
            self.nodes.insert(row)
        });
        if new {
            self.touch(ix);
        }
        self.attach(ix, call);
        let machine = RetryMachine { strategy, call: call.clone(), last: None, attempts: 0, given_up: false };
        self.nodes.list[ix].inner_scope = call.scope.clone();
        self.nodes.list[ix].machine = Machine::Retry(Box::new(machine));
        if self.nodes.list[ix].status.is_fulfilled() {
            // A daemon that was let go before the load.
            if !self.daemons.contains(&ix) {
                self.daemons.push(ix);
            }
            self.tell_parent(ix);
        }
        self.enqueue(ix);
        Opened::Node { ix, new }
    }

    pub(crate) fn look_at_retry(&mut self, ix: Ix, machine: &mut RetryMachine) {
        if machine.given_up {
            return;
        }
        // After a load: take up the attempts there are. Only the last one goes on; an earlier one that a retry by hand has
        // set to `Running` stays so, as in Argo.
        while let Some(there) = self.find_attempt(machine, machine.attempts) {
            let is_last = self.find_attempt(machine, machine.attempts + 1).is_none();
            if !is_last && !self.nodes.list[there].status.phase.is_fulfilled() {
                machine.last = Some(there);
                machine.attempts += 1;
            } else if !self.open_attempt(ix, machine) {
                return;
            }
        }
        loop {
            let Some(last) = machine.last else {
                if self.open_attempt(ix, machine) {
                    continue;
                }
                return;
            };
            let status = &self.nodes.list[last].status;
            if status.daemoned == Some(true) && self.nodes.list[ix].status.daemoned.is_none() {
                let ip = status.pod_ip.clone();
                self.nodes.list[ix].status.daemoned = Some(true);
                self.nodes.list[ix].status.pod_ip = ip;
                self.daemons.push(ix);
                self.touch(ix);
                self.tell_parent(ix);
                return;
            }
            if !status.phase.is_fulfilled() {
                return;
            }
            if !status.phase.is_fail_or_error() {
                let outputs = status.outputs.clone();
                self.nodes.list[ix].status.outputs = outputs;
                self.nodes.list[ix].status.daemoned = None;
                self.mark(ix, NodePhase::Succeeded, Some(""));
                return;
            }
            match self.verdict(ix, machine, last) {
                Verdict::Again => {
                    if self.nodes.list[ix].status.message.is_some() {
                        self.mark(ix, NodePhase::Running, Some(""));
                    }
                    if !self.open_attempt(ix, machine) {
                        return;
                    }
                }
                Verdict::Later(at, message) => {
                    self.mark(ix, NodePhase::Running, Some(&message));
                    self.wake_at(at, Some(ix));
                    return;
                }
                Verdict::Enough(message) => {
                    // A try that could not be made at all is the parent's matter, unless the policy is about such errors.
                    if std::mem::take(&mut self.nodes.list[last].refused) && !minds_errors(&machine.strategy) {
                        self.nodes.list[ix].refused = true;
                        if self.is_in_steps(ix) {
                            // Argo leaves the node as it is: the error is its step group's.
                            let message = self.nodes.list[last].status.message.clone().unwrap_or_default();
                            machine.given_up = true;
                            self.nodes.list[ix].fault = Some(message);
                            self.tell_parent(ix);
                            return;
                        }
                        if self.root == Some(ix) {
                            self.nodes.list[ix].fault = self.nodes.list[last].status.message.clone();
                            self.mark(ix, NodePhase::Error, Some(crate::node::hook::BROKEN_OFF));
                            return;
                        }
                    }
                    let status = &self.nodes.list[last].status;
                    let (phase, outputs) = (status.phase, status.outputs.clone());
                    self.nodes.list[ix].status.outputs = outputs;
                    let was_daemon = self.nodes.list[ix].status.daemoned.take() == Some(true);
                    self.mark(ix, phase, Some(&message));
                    if was_daemon {
                        self.lose_daemon(ix);
                    }
                    return;
                }
            }
        }
    }

    fn find_attempt(&self, machine: &RetryMachine, number: usize) -> Option<Ix> {
        let name = format!("{}({number})", machine.call.name);
        self.nodes.find(&names::node_id(self.workflow_name(), &name))
    }

    /// Begins the next attempt; false when it must wait.
    fn open_attempt(&mut self, ix: Ix, machine: &mut RetryMachine) -> bool {
        let call = Call {
            name: format!("{}({})", machine.call.name, machine.attempts),
            parent: Some(ix),
            slot: machine.attempts,
            flag: Some(NodeFlag { retried: true, hooked: machine.call.flag.as_ref().is_some_and(|f| f.hooked) }),
            depth: machine.call.depth,
            ..machine.call.clone()
        };
        let opened = self.open(&call);
        if let Opened::Failed { ix: child, .. } = opened {
            self.nodes.list[child].refused = true;
        }
        match opened {
            Opened::Node { ix: child, new } | Opened::Failed { ix: child, new, .. } => {
                if new {
                    let id = self.nodes.list[ix].status.id.clone();
                    self.connect(&id, child);
                }
                machine.last = Some(child);
                machine.attempts += 1;
                true
            }
            Opened::Blocked | Opened::Waiting => false,
        }
    }

    /// The parts of `{{lastRetry.*}}` for the attempt of that number, and `{{retries}}`.
    pub(crate) fn retry_locals(&self, ix: Ix) -> Vec<(String, String)> {
        let node = &self.nodes.list[ix];
        let mut locals = Vec::new();
        if !node.status.node_flag.as_ref().is_some_and(|f| f.retried) {
            return locals;
        }
        let number = node.slot;
        locals.push(("retries".to_owned(), number.to_string()));
        let before = node
            .status
            .name
            .rsplit_once('(')
            .and_then(|(base, _)| number.checked_sub(1).map(|n| format!("{base}({n})")))
            .and_then(|name| self.nodes.find(&names::node_id(self.workflow_name(), &name)));
        let (code, status, duration, message) = match before {
            Some(before) => {
                let row = &self.nodes.list[before].status;
                let code = row.outputs.as_ref().and_then(|o| o.exit_code.clone()).unwrap_or_else(|| "-1".to_owned());
                let duration = match (row.started_at, row.finished_at) {
                    (Some(from), Some(to)) => to.0.as_second() - from.0.as_second(),
                    _ => 0,
                };
                (code, row.phase.as_str().to_owned(), duration, row.message.clone().unwrap_or_default())
            }
            None => ("0".to_owned(), String::new(), 0, String::new()),
        };
        locals.push(("lastRetry.exitCode".to_owned(), code));
        locals.push(("lastRetry.status".to_owned(), status));
        locals.push(("lastRetry.duration".to_owned(), duration.to_string()));
        locals.push(("lastRetry.message".to_owned(), message));
        locals
    }

    fn verdict(&mut self, ix: Ix, machine: &RetryMachine, last: Ix) -> Verdict {
        let strategy = &machine.strategy;
        let row = self.nodes.list[last].status.clone();
        if let Some(how) = &self.shutdown
            && !(machine.call.on_exit && how == "Stop")
        {
            return Verdict::Enough(format!("Stopped with strategy '{how}'"));
        }
        if self.deadline_passed && !machine.call.on_exit {
            return Verdict::Enough(row.message.clone().unwrap_or_default());
        }
        let inputs = self.nodes.list[last].status.inputs.clone();
        let scope =
            Scope { run: self, boundary: None, inputs: inputs.as_ref(), locals: &[], globals: true, item: None };
        let text =
            |t: &str| windlass_lang::tags::substitute(t, &scope, &Default::default()).unwrap_or_else(|_| t.to_owned());
        let limit = match &strategy.limit {
            None => None,
            Some(limit) => match text(&limit.to_string()).trim().parse::<usize>() {
                Ok(limit) => Some(limit),
                Err(_) => return Verdict::Enough(format!("retryStrategy.limit '{limit}' is not a whole number")),
            },
        };
        let mut wait = None;
        if let Some(backoff) = &strategy.backoff {
            let duration = |t: &windlass_model::AnyString| crate::duration::parse_ms(&text(&t.0));
            let first = self.nodes.list[ix].status.started_at.map_or(self.now, |t| t.0);
            let max_at = backoff
                .max_duration
                .as_ref()
                .and_then(duration)
                .and_then(|ms| first.checked_add(SignedDuration::from_millis(ms)).ok());
            if max_at.is_some_and(|at| self.now > at) {
                return Verdict::Enough("Max duration limit exceeded".to_owned());
            }
            let Some(base) = backoff.duration.as_ref().and_then(duration) else {
                return Verdict::Enough("no base duration specified for retryStrategy".to_owned());
            };
            let factor = backoff.factor.as_ref().and_then(|f| text(&f.to_string()).trim().parse::<i64>().ok());
            let mut ms = base;
            if let Some(factor) = factor.filter(|f| *f > 0) {
                let exponent = u32::try_from(machine.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
                ms = base.saturating_mul(factor.saturating_pow(exponent));
            }
            if let Some(cap) = backoff.cap.as_ref().and_then(duration) {
                ms = ms.min(cap);
            }
            let ended = row.finished_at.map_or(self.now, |t| t.0);
            let until = ended.checked_add(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX);
            if max_at.is_some_and(|at| until > at) {
                return Verdict::Enough("Backoff would exceed max duration limit".to_owned());
            }
            if self.now < until && limit.is_some_and(|l| machine.attempts <= l) {
                wait = Some((until, format!("Backoff for {}", crate::duration::words(ms))));
            }
        }
        let policy = strategy.retry_policy.as_deref().map(text).filter(|p| !p.is_empty());
        let policy = policy.unwrap_or_else(|| {
            if strategy.expression.as_deref().is_some_and(|e| !e.is_empty()) { "Always" } else { "OnFailure" }
                .to_owned()
        });
        let message = row.message.clone().unwrap_or_default();
        let allowed = match policy.as_str() {
            "Always" => true,
            "OnFailure" => row.phase == NodePhase::Failed,
            "OnError" => row.phase == NodePhase::Error,
            "OnTransientError" => row.phase.is_fail_or_error() && is_transient(&message),
            other => return Verdict::Enough(format!("{other} is not a valid RetryPolicy")),
        };
        if !allowed {
            return Verdict::Enough(message);
        }
        if limit.is_some_and(|l| machine.attempts > l) {
            return Verdict::Enough("No more retries left".to_owned());
        }
        if let Some(expression) = strategy.expression.as_deref().filter(|e| !e.is_empty()) {
            let locals = self.last_retry(&row, machine.attempts);
            let scope = Scope {
                run: self,
                boundary: None,
                inputs: inputs.as_ref(),
                locals: &locals,
                globals: true,
                item: None,
            };
            match crate::expression::holds(&scope, expression) {
                Ok(true) => {}
                Ok(false) => return Verdict::Enough("retryStrategy.expression evaluated to false".to_owned()),
                Err(message) => return Verdict::Enough(message),
            }
        }
        match wait {
            Some((until, message)) => Verdict::Later(until, message),
            None => Verdict::Again,
        }
    }

    fn last_retry(&self, row: &windlass_model::NodeStatus, attempts: usize) -> Vec<(String, String)> {
        let code = row.outputs.as_ref().and_then(|o| o.exit_code.clone()).unwrap_or_else(|| "-1".to_owned());
        let duration = match (row.started_at, row.finished_at) {
            (Some(from), Some(to)) => to.0.as_second() - from.0.as_second(),
            _ => 0,
        };
        vec![
            ("retries".to_owned(), attempts.to_string()),
            ("lastRetry.exitCode".to_owned(), code),
            ("lastRetry.status".to_owned(), row.phase.as_str().to_owned()),
            ("lastRetry.duration".to_owned(), duration.to_string()),
            ("lastRetry.message".to_owned(), row.message.clone().unwrap_or_default()),
        ]
    }
}

/// A hook's flag is one and the same for the node and its tries in Argo, so both are marked as retried.
pub(crate) fn share_flag(row: &mut NodeStatus) {
    if let Some(flag) = row.node_flag.as_mut().filter(|flag| flag.hooked) {
        flag.retried = true;
    }
}

/// Whether the policy is about tries in error, and not only about those that failed.
fn minds_errors(strategy: &RetryStrategy) -> bool {
    match strategy.retry_policy.as_deref().filter(|policy| !policy.is_empty()) {
        Some(policy) => matches!(policy, "Always" | "OnError" | "OnTransientError"),
        None => strategy.expression.as_deref().is_some_and(|e| !e.is_empty()),
    }
}

/// Whether an error is of the kind that goes away by itself.
fn is_transient(message: &str) -> bool {
    [
        "exceeded quota",
        "connection refused",
        "connection reset by peer",
        "i/o timeout",
        "TLS handshake timeout",
        "no such host",
        "transport connection broken",
        "http2: client connection lost",
        "the object has been modified",
        "etcdserver",
        "TooManyRequests",
    ]
    .iter()
    .any(|part| message.contains(part))
}
