//! The user's own metrics, counted over all runs, and their text for Prometheus. They live in memory: a controller that
//! starts anew counts from nothing, as Prometheus expects of counters. Names have Argo's prefix.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use windlass_engine::metrics::{Metric, Operation, Reading};

/// What is before each name.
const PREFIX: &str = "argo_workflows_";

type Labels = BTreeMap<String, String>;

#[derive(Debug)]
enum Series {
    Number(f64),
    Histogram { buckets: Vec<(f64, u64)>, sum: f64, count: u64 },
    Realtime { since: Timestamp, until: Option<Timestamp> },
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: &'static str,
    series: BTreeMap<Labels, Series>,
}

#[derive(Debug, Default)]
struct Counted {
    families: BTreeMap<String, Family>,
    /// Series that go with their run.
    realtime: HashMap<String, Vec<(String, Labels)>>,
}

/// A handle on what was counted.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Counted>>);

impl Metrics {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a run told; what does not fit to what was told under that name before is handed back in words.
    pub fn count(&self, run: &str, metric: Metric) -> Result<(), String> {
        let mut counted = self.counted();
        let Metric { name, help, labels, reading } = metric;
        let kind = match reading {
            Reading::Counter(_) => "counter",
            Reading::Gauge { .. } | Reading::Realtime { .. } => "gauge",
            Reading::Histogram { .. } => "histogram",
        };
        let family = counted.families.entry(name.clone()).or_insert_with(|| Family {
            help: help.clone(),
            kind,
            series: BTreeMap::new(),
        });
        if family.kind != kind {
            return Err(format!("metric {name} is a {} already, and cannot be a {kind} too", family.kind));
        }
        if family.help != help {
            return Err(format!("help for metric {name} is already set to {}, it cannot be changed", family.help));
        }
        match reading {
            Reading::Counter(by) if by < 0.0 => return Err(format!("the counter {name} cannot go down")),
            Reading::Counter(by) => family.add(labels, by),
            Reading::Gauge { value, operation: Operation::Set } => {
                _ = family.series.insert(labels, Series::Number(value))
            }
            Reading::Gauge { value, operation: Operation::Add } => family.add(labels, value),
            Reading::Gauge { value, operation: Operation::Sub } => family.add(labels, -value),
            Reading::Histogram { value, buckets } => family.observe(labels, value, &buckets),
            Reading::Realtime { since, until } => {
                family.series.insert(labels.clone(), Series::Realtime { since, until });
                counted.realtime.entry(run.to_owned()).or_default().push((name, labels));
            }
        }
        Ok(())
    }

    /// A run is over: its real time is told no more.
    pub fn forget(&self, run: &str) {
        let mut counted = self.counted();
        for (name, labels) in counted.realtime.remove(run).unwrap_or_default() {
            if let Some(family) = counted.families.get_mut(&name) {
                family.series.remove(&labels);
                if family.series.is_empty() {
                    counted.families.remove(&name);
                }
            }
        }
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self, now: Timestamp) -> String {
        let mut out = String::new();
        for (name, family) in &self.counted().families {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(out, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {}", family.kind);
            for (labels, series) in &family.series {
                series.write(&mut out, name, labels, now);
            }
        }
        out
    }
}

impl Family {
    fn add(&mut self, labels: Labels, by: f64) {
        if let Series::Number(value) = self.series.entry(labels).or_insert(Series::Number(0.0)) {
            *value += by;
        }
    }

    fn observe(&mut self, labels: Labels, value: f64, bounds: &[f64]) {
        let empty = || bounds.iter().map(|bound| (*bound, 0)).collect();
        let series =
            self.series.entry(labels).or_insert_with(|| Series::Histogram { buckets: empty(), sum: 0.0, count: 0 });
        if let Series::Histogram { buckets, sum, count } = series {
            buckets.iter_mut().filter(|(bound, _)| value <= *bound).for_each(|(_, n)| *n += 1);
            *sum += value;
            *count += 1;
        }
    }
}

impl Series {
    fn write(&self, out: &mut String, name: &str, labels: &Labels, now: Timestamp) {
        let mut line = |suffix: &str, bound: Option<&str>, value: String| {
            let own = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
            let all: Vec<String> = own.chain(bound.map(|b| format!("le=\"{b}\""))).collect();
            let all = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
            let _ = writeln!(out, "{PREFIX}{name}{suffix}{all} {value}");
        };
        match self {
            Self::Number(value) => line("", None, value.to_string()),
            Self::Realtime { since, until } => {
                let seconds = until.unwrap_or(now).duration_since(*since).as_secs_f64();
                line("", None, seconds.to_string());
            }
            Self::Histogram { buckets, sum, count } => {
                for (bound, n) in buckets {
                    line("_bucket", Some(&bound.to_string()), n.to_string());
                }
                line("_bucket", Some("+Inf"), count.to_string());
                line("_sum", None, sum.to_string());
                line("_count", None, count.to_string());
            }
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn metric(name: &str, label: &str, reading: Reading) -> Metric {
        let labels = [("l".to_owned(), label.to_owned())].into_iter().filter(|(_, v)| !v.is_empty()).collect();
        Metric { name: name.to_owned(), help: format!("help of {name}"), labels, reading }
    }

    #[test]
    fn what_was_counted_is_told_as_prometheus_reads_it() {
        let metrics = Metrics::default();
        let at = |s| Timestamp::from_second(s).unwrap();
        let told = [
            metric("c", "a\"b", Reading::Counter(1.0)),
            metric("c", "a\"b", Reading::Counter(2.0)),
            metric("g", "", Reading::Gauge { value: 5.0, operation: Operation::Set }),
            metric("g", "", Reading::Gauge { value: 1.5, operation: Operation::Add }),
            metric("g", "", Reading::Gauge { value: 3.0, operation: Operation::Sub }),
            metric("h", "x", Reading::Histogram { value: 2.5, buckets: vec![1.0, 3.0] }),
            metric("h", "x", Reading::Histogram { value: 0.5, buckets: vec![1.0, 3.0] }),
            metric("h", "x", Reading::Histogram { value: 9.0, buckets: vec![1.0, 3.0] }),
            metric("r", "", Reading::Realtime { since: at(10), until: None }),
        ];
        told.into_iter().for_each(|m| metrics.count("run-1", m).unwrap());
        insta::assert_snapshot!(metrics.text(at(14)));
        metrics.count("run-1", metric("r", "", Reading::Realtime { since: at(10), until: Some(at(12)) })).unwrap();
        assert!(metrics.text(at(99)).contains("argo_workflows_r 2\n"));
        metrics.forget("run-1");
        assert!(!metrics.text(at(99)).contains("argo_workflows_r"));
        assert!(metrics.text(at(99)).contains("argo_workflows_g 3.5"));
    }

    #[test]
    fn a_name_keeps_its_kind_and_its_help() {
        let metrics = Metrics::default();
        metrics.count("r", metric("m", "", Reading::Counter(1.0))).unwrap();
        let gauge = metric("m", "", Reading::Gauge { value: 1.0, operation: Operation::Set });
        assert!(metrics.count("r", gauge).unwrap_err().contains("is a counter already"));
        let other = Metric { help: "other".to_owned(), ..metric("m", "", Reading::Counter(1.0)) };
        assert!(metrics.count("r", other).unwrap_err().contains("cannot be changed"));
        assert!(metrics.count("r", metric("m", "", Reading::Counter(-1.0))).is_err());
    }
}
