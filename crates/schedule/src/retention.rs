//! How long what has ended is kept: workflows by `ttlStrategy`, their pods by `podGC`, as Argo v4.1 has both. Pure: the
//! end's time is an argument, and the answer is a time.

use std::time::Duration;

use jiff::Timestamp;
use windlass_model::WorkflowPhase;
use windlass_model::workflow::{PodGc, TtlStrategy};

/// What Argo waits before it deletes a pod where `deleteDelayDuration` says nothing.
const POD_DELAY: Duration = Duration::from_secs(5);

/// When a workflow that has ended is deleted; nothing when it stays. Success and failure have their own number; where
/// theirs is missing, and for the phase Error, the one for any completion counts.
pub fn workflow_due(ttl: &TtlStrategy, phase: WorkflowPhase, finished_at: Timestamp) -> Option<Timestamp> {
    let own = match phase {
        WorkflowPhase::Succeeded => ttl.seconds_after_success,
        WorkflowPhase::Failed => ttl.seconds_after_failure,
        _ => None,
    };
    let seconds = own.or(ttl.seconds_after_completion)?;
    finished_at.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).ok()
}

/// Whether a pod goes once its own result is in the status.
pub fn pod_goes_with_itself(gc: &PodGc, pod_succeeded: bool) -> bool {
    match gc.strategy.as_deref() {
        Some("OnPodCompletion") => true,
        Some("OnPodSuccess") => pod_succeeded,
        _ => false,
    }
}

/// Whether a pod goes once its workflow has ended. The strategies by pod take along what they have missed.
pub fn pod_goes_with_workflow(gc: &PodGc, phase: WorkflowPhase, pod_succeeded: bool) -> bool {
    match gc.strategy.as_deref() {
        Some("OnWorkflowCompletion") => true,
        Some("OnWorkflowSuccess") => phase == WorkflowPhase::Succeeded,
        _ => pod_goes_with_itself(gc, pod_succeeded),
    }
}

/// How long a pod stays after the moment that lets it go.
pub fn pod_delay(gc: &PodGc) -> Duration {
    gc.delete_delay_duration.as_deref().and_then(duration).unwrap_or(POD_DELAY)
}

/// Go's durations in whole units (`1h30m`, `45s`), or plain seconds.
pub fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        total += match &rest[digits..unit] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_own_time() {
        let ttl = TtlStrategy {
            seconds_after_completion: Some(100),
            seconds_after_success: Some(10),
            seconds_after_failure: None,
        };
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |phase| workflow_due(&ttl, phase, at).map(|t| t.duration_since(at).as_secs());
        assert_eq!(after(WorkflowPhase::Succeeded), Some(10));
        assert_eq!(after(WorkflowPhase::Failed), Some(100));
        assert_eq!(after(WorkflowPhase::Error), Some(100));
        assert_eq!(workflow_due(&TtlStrategy::default(), WorkflowPhase::Succeeded, at), None);
    }

    #[test]
    fn pods_go_by_strategy() {
        let gc = |s: &str| PodGc { strategy: Some(s.into()), ..Default::default() };
        assert!(pod_goes_with_itself(&gc("OnPodCompletion"), false));
        assert!(!pod_goes_with_itself(&gc("OnPodSuccess"), false));
        assert!(!pod_goes_with_itself(&gc("OnWorkflowCompletion"), true));
        assert!(pod_goes_with_workflow(&gc("OnWorkflowSuccess"), WorkflowPhase::Succeeded, false));
        assert!(!pod_goes_with_workflow(&gc("OnWorkflowSuccess"), WorkflowPhase::Failed, true));
        assert!(!pod_goes_with_workflow(&PodGc::default(), WorkflowPhase::Succeeded, true));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("30"), Some(Duration::from_secs(30)));
        assert_eq!(duration("5x"), None);
        assert_eq!(pod_delay(&PodGc::default()), POD_DELAY);
    }
}
