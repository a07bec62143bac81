//! Reasons in words: one sentence each, for people. Decides nothing.

use std::fmt;

use windlass_model::NodePhase;

use super::absent::is_telling;
use super::{Account, Other, Reason};

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            Some(phase) => write!(f, "`{}` is {phase}", self.name),
            None => write!(f, "`{}` has not begun", self.name),
        }
    }
}

fn joined(others: &[Other]) -> String {
    let each: Vec<String> = others.iter().map(ToString::to_string).collect();
    each.join(", ")
}

fn with_words(others: &[Other]) -> String {
    let each = others.iter().map(|o| match o.message.as_deref().filter(|m| !m.is_empty()) {
        Some(message) => format!("{o} ({message})"),
        None => o.to_string(),
    });
    each.collect::<Vec<_>>().join(", ")
}

impl Account {
    /// Whether there is something to tell of it: it did not simply succeed.
    pub fn is_telling(&self) -> bool {
        is_telling(self.phase) || !self.reasons.is_empty()
    }

    /// What became of it, in a word or two.
    pub fn state(&self) -> &'static str {
        match self.phase {
            None if self.reasons.iter().any(|r| matches!(r, Reason::AroundEnded { .. } | Reason::NoTarget { .. })) => {
                "never began"
            }
            None => "waits",
            Some(NodePhase::Unknown) => "has not begun",
            Some(phase) => phase.as_str(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DependsOpen { depends, open } => write!(f, "depends on `{depends}`: {}", joined(open)),
            Self::DependsFalse { depends, terms } => {
                write!(f, "`{depends}` can never be true:")?;
                for (i, term) in terms.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let phase = term.phase.map_or("never began", NodePhase::as_str);
                    write!(f, "{comma} `{}` is {} ({phase})", term.reference, term.holds)?;
                }
                Ok(())
            }
            Self::EarlierGroup { group, open } if open.is_empty() => write!(f, "step group [{group}] has not ended"),
            Self::EarlierGroup { group, open } => write!(f, "step group [{group}] comes first: {}", joined(open)),
            Self::WhenFalse { written: Some(written), evaluated } if written != evaluated => {
                write!(f, "when `{written}` came out as `{evaluated}`, which is false")
            }
            Self::WhenFalse { evaluated, .. } => write!(f, "when `{evaluated}` is false"),
            Self::EmptyLoop { written: Some(written) } => write!(f, "its loop over `{written}` has no items"),
            Self::EmptyLoop { written: None } => f.write_str("its loop has no items"),
            Self::NoTarget { target } => write!(f, "the dag's target is `{target}`, and this is not on the way there"),
            Self::Parallelism { template: None, limit, active } => {
                write!(f, "the workflow's parallelism is {limit}, and {active} pods run")
            }
            Self::Parallelism { template: Some(name), limit, active } => {
                write!(f, "the parallelism of template `{name}` is {limit}, and {active} run")
            }
            Self::Limit { namespace: None, limit, running } => {
                write!(f, "the controller runs at most {limit} workflows (`parallelism`), and {running} run")
            }
            Self::Limit { namespace: Some(namespace), limit, running } => {
                write!(f, "at most {limit} workflows run in the namespace {namespace}, and {running} do")
            }
            Self::RunSuspended => f.write_str("the workflow is suspended: `windlass resume` lets it go on"),
            Self::FailFast => f.write_str("a sibling failed, and failFast lets nothing new begin"),
            Self::Asks => f.write_str("a template or ConfigMap that it names has been asked for and is not here yet"),
            Self::Begins => f.write_str("nothing is in its way: it begins as soon as the controller looks"),
            Self::AroundEnded { around, phase } => write!(f, "`{around}` had ended ({phase}) before its turn came"),
            Self::Suspended { until, asks } => {
                match until {
                    Some(until) => write!(f, "suspended until {until}, or until somebody resumes it")?,
                    None => f.write_str("suspended until somebody resumes it")?,
                }
                if asks.is_empty() { Ok(()) } else { write!(f, "; it asks for {}", asks.join(", ")) }
            }
            Self::Lock { name } => write!(f, "waits for the lock {name}"),
            Self::PodPending { pod, created: false, message: None } => write!(f, "its pod {pod} is not there yet"),
            Self::PodPending { pod, message: None, .. } => write!(f, "its pod {pod} is pending"),
            Self::PodPending { pod, message: Some(message), .. } => write!(f, "its pod {pod} is pending: {message}"),
            Self::PodRuns { pod, host, since, daemon } => {
                write!(f, "its pod {pod} runs")?;
                if let Some(host) = host {
                    write!(f, " on {host}")?;
                }
                if let Some(since) = since {
                    write!(f, " since {since}")?;
                }
                if *daemon { f.write_str(", and others go on meanwhile") } else { Ok(()) }
            }
            Self::Open { members, count } => {
                let more = count.saturating_sub(members.len());
                write!(f, "{}", joined(members))?;
                if more > 0 { write!(f, ", and {more} more") } else { Ok(()) }
            }
            Self::MembersLeft { count: 1 } => f.write_str("one member has not begun"),
            Self::MembersLeft { count } => write!(f, "{count} members have not begun"),
            Self::Backoff { until: Some(until), attempts } => {
                write!(f, "is tried again at {until}; so far {}", with_words(attempts))
            }
            Self::Backoff { until: None, attempts } => write!(f, "is tried again; so far {}", with_words(attempts)),
            Self::Attempts { attempts, limit, policy, verdict } => {
                let limit = limit.as_deref().map_or_else(|| "no limit".to_owned(), |l| format!("limit {l}"));
                write!(f, "{} attempts ({limit}, retryPolicy {policy}): {}", attempts.len(), with_words(attempts))?;
                match verdict {
                    Some(verdict) => write!(f, "; no further one: {verdict}"),
                    None => Ok(()),
                }
            }
            Self::Failed { message: Some(message), .. } => f.write_str(message),
            Self::Failed { message: None, exit_code: Some(code) } => write!(f, "exit code {code}"),
            Self::Failed { .. } => f.write_str("it says no reason"),
            Self::FailedMembers { members } => write!(f, "{}", with_words(members)),
            Self::Lost { times: 1 } => f.write_str("its machine was lost under it, and its pod made anew"),
            Self::Lost { times } => write!(f, "its machine was lost under it {times} times, and its pod made anew"),
            Self::Remembered => f.write_str("its outputs were remembered from an earlier run"),
        }
    }
}
