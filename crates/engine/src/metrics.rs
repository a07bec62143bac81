//! The user's own metrics (`metrics.prometheus`): what a node or the run tells when it begins and when it has ended. What
//! is told goes out with the decision; nothing is counted here. A metric that cannot be told is the condition
//! `MetricsError`, and never a failure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use windlass_lang::tags::{self, Options};
use windlass_model::scalar::AnyString;
use windlass_model::status::Condition;

use crate::calls::when_holds;
use crate::nodes::Ix;
use crate::run::Run;
use crate::scope::Scope;

/// One thing to be counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is.
    pub help: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What was read.
    pub reading: Reading,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Counted up by this.
    Counter(f64),
    /// Set, or changed by this.
    Gauge {
        /// The value.
        value: f64,
        /// What is done with it.
        operation: Operation,
    },
    /// One observation.
    Histogram {
        /// The value.
        value: f64,
        /// The upper bounds.
        buckets: Vec<f64>,
    },
    /// Seconds since a time, as long as the run goes on.
    Realtime {
        /// Since when.
        since: Timestamp,
        /// Until when, once it is over.
        until: Option<Timestamp>,
    },
}

/// What is done with a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It becomes the value.
    Set,
    /// The value is added.
    Add,
    /// The value is subtracted.
    Sub,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    name: String,
    help: String,
    labels: Vec<Label>,
    when: Option<String>,
    gauge: Option<Gauge>,
    histogram: Option<Histogram>,
    counter: Option<Counter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Label {
    key: String,
    value: AnyString,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gauge {
    value: AnyString,
    realtime: Option<bool>,
    operation: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Histogram {
    value: AnyString,
    buckets: Vec<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counter {
    value: AnyString,
}

/// For what is told: a node, or the run with its entrypoint's node.
struct Subject {
    node: Option<Ix>,
    is_run: bool,
    ended: bool,
}

impl Run {
    /// A node has begun: its real time runs.
    pub(crate) fn metrics_of_begin(&mut self, ix: Ix) {
        self.metrics_of_node(ix, false);
    }

    /// A node has ended.
    pub(crate) fn metrics_of_end(&mut self, ix: Ix) {
        self.metrics_of_node(ix, true);
    }

    fn metrics_of_node(&mut self, ix: Ix, ended: bool) {
        let Some(metrics) = self.nodes.list[ix].template.as_ref().and_then(|t| t.metrics.clone()) else { return };
        self.tell_metrics(&metrics.prometheus, &Subject { node: Some(ix), is_run: false, ended });
    }

    /// The run has begun, or ended.
    pub(crate) fn metrics_of_run(&mut self, ended: bool) {
        let Some(metrics) = self.spec.metrics.clone() else { return };
        self.tell_metrics(&metrics.prometheus, &Subject { node: self.root, is_run: true, ended });
    }

    fn tell_metrics(&mut self, written: &[Value], subject: &Subject) {
        for metric in written {
            match self.metric(metric, subject) {
                Ok(Some(metric)) => self.metrics.push(metric),
                Ok(None) => {}
                Err(message) => self.refuse_metric(message),
            }
        }
    }

    /// A metric that cannot be told, or counted, is a condition.
    pub(crate) fn refuse_metric(&mut self, message: String) {
        self.status.conditions.retain(|c| c.type_ != "MetricsError");
        let (type_, status) = ("MetricsError".to_owned(), "True".to_owned());
        self.status.conditions.push(Condition { type_, status, message: Some(message) });
        self.dirty = true;
    }

    fn metric(&self, written: &Value, subject: &Subject) -> Result<Option<Metric>, String> {
        let raw: Written = serde_json::from_value(written.clone()).map_err(|e| format!("it is no metric: {e}"))?;
        let realtime = raw.gauge.as_ref().is_some_and(|g| g.realtime == Some(true));
        if !subject.ended && !realtime {
            return Ok(None);
        }
        let name = &raw.name;
        if raw.help.is_empty() {
            return Err(format!("metric '{name}' must contain a help string under 'help: ' field"));
        }
        let row = subject.node.map(|ix| &self.nodes.list[ix].status);
        let locals = self.metric_locals(subject);
        let inputs = row.and_then(|row| row.inputs.as_ref());
        let scope = Scope { run: self, boundary: None, inputs, locals: &locals, globals: true, item: None };
        let text = |t: &str| {
            tags::substitute(t, &scope, &Options::default()).map_err(|faults| {
                let why = crate::inputs::first_message(&faults);
                format!("unable to substitute parameters for metric '{name}': {why}")
            })
        };
        if let Some(when) = raw.when.as_deref().filter(|w| !w.is_empty()) {
            let holds = when_holds(&text(when)?)
                .map_err(|why| format!("unable to compute 'when' clause for metric '{name}': {why}"))?;
            if !holds {
                return Ok(None);
            }
        }
        let name = text(&raw.name)?;
        let is_name = |n: &str| {
            n.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !is_name(&name) {
            return Err(format!("could not construct metric '{name}': its name is not one of Prometheus'"));
        }
        let mut labels = BTreeMap::new();
        for label in &raw.labels {
            if !is_name(&label.key) {
                return Err(format!("could not construct metric '{name}': '{}' is no label's name", label.key));
            }
            labels.insert(label.key.clone(), text(&label.value.0)?);
        }
        let number = |value: &AnyString| {
            let value = text(&value.0)?;
            value
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|v| v.is_finite())
                .ok_or_else(|| format!("could not construct metric '{name}': its value '{value}' is not a number"))
        };
        let reading = match (&raw.gauge, &raw.histogram, &raw.counter) {
            (Some(gauge), ..) if realtime => self.realtime(&gauge.value.0, subject)?,
            (Some(gauge), ..) => {
                let operation = match gauge.operation.as_deref().unwrap_or_default() {
                    "" | "Set" => Operation::Set,
                    "Add" => Operation::Add,
                    "Sub" => Operation::Sub,
                    other => return Err(format!("could not construct metric '{name}': '{other}' is no operation")),
                };
                Reading::Gauge { value: number(&gauge.value)?, operation }
            }
            (None, Some(histogram), _) => {
                let mut buckets = histogram.buckets.clone();
                buckets.sort_by(f64::total_cmp);
                Reading::Histogram { value: number(&histogram.value)?, buckets }
            }
            (None, None, Some(counter)) => Reading::Counter(number(&counter.value)?),
            (None, None, None) => return Err(format!("could not construct metric '{name}': it has no kind")),
        };
        Ok(Some(Metric { name, help: text(&raw.help)?, labels, reading }))
    }

    fn realtime(&self, value: &str, subject: &Subject) -> Result<Reading, String> {
        let name = value.strip_prefix("{{").and_then(|v| v.strip_suffix("}}"));
        let name = name.ok_or("real time metrics can only be used with metric variables")?.trim();
        let row = subject.node.map(|ix| &self.nodes.list[ix].status);
        let of_run = name == "workflow.duration";
        if !of_run && (name != "duration" || subject.is_run) {
            return Err(format!("'{name}' is not available as a real time metric"));
        }
        let since = if of_run { self.status.started_at } else { row.and_then(|r| r.started_at) };
        let until = (subject.ended && (subject.is_run || !of_run)).then_some(self.now);
        Ok(Reading::Realtime { since: since.map_or(self.now, |t| t.0), until })
    }

    /// What may be named beside inputs and globals.
    fn metric_locals(&self, subject: &Subject) -> Vec<(String, String)> {
        let mut locals = Vec::new();
        let mut put = |name: &str, text: String| locals.push((name.to_owned(), text));
        let seconds = |from: Timestamp| format!("{:.6}", self.now.duration_since(from).as_secs_f64());
        if let Some(started) = self.status.started_at {
            put("workflow.duration", seconds(started.0));
        }
        let Some(row) = subject.node.map(|ix| &self.nodes.list[ix].status) else { return locals };
        put("duration", seconds(row.started_at.map_or(self.now, |t| t.0)));
        put("status", row.phase.as_str().to_owned());
        let outputs = row.outputs.as_ref();
        put("exitCode", outputs.and_then(|o| o.exit_code.clone()).unwrap_or_else(|| "0".to_owned()));
        for (what, amount) in &row.resources_duration {
            put(&format!("resourcesDuration.{what}"), amount.to_string());
        }
        if let Some(result) = outputs.and_then(|o| o.result.clone()) {
            put("outputs.result", result);
        }
        for parameter in outputs.iter().flat_map(|o| &o.parameters) {
            if let Some(value) = &parameter.value {
                put(&format!("outputs.parameters.{}", parameter.name), value.0.clone());
            }
        }
        locals
    }
}
