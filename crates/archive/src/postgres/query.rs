//! Questions as SQL: conditions with their values beside them, never in the text. Holds no rows and asks nobody.

use tokio_postgres::types::{ToSql, Type};
use windlass_model::label_selector::{Requirement, Wanted as WantedLabel};

use super::PostgresOptions;
use crate::{Name, Wanted};

/// A value of a question.
#[derive(Debug)]
pub(super) enum Given {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
}

impl Given {
    fn value(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Number(number) => (number, Type::INT8),
        }
    }
}

/// Conditions, and their values.
#[derive(Debug, Default)]
pub(super) struct Asked {
    conditions: Vec<String>,
    values: Vec<Given>,
}

/// A time of ours as the tables have it: the clock of UTC, without saying so.
pub(super) fn time(mark: &str) -> String {
    format!("({mark}::timestamptz AT TIME ZONE 'UTC')")
}

impl Asked {
    /// The rows `w` that are ours.
    pub(super) fn ours(options: &PostgresOptions) -> Self {
        let mut asked = Self::default();
        asked.text("w.clustername = ?", &options.cluster);
        asked.text("w.instanceid = ?", &options.instance);
        if let Some(namespace) = &options.namespace {
            asked.text("w.namespace = ?", namespace);
        }
        asked
    }

    /// Those of ours that are wanted.
    pub(super) fn wanted(options: &PostgresOptions, wanted: &Wanted) -> Self {
        let mut asked = Self::ours(options);
        if let Some(namespace) = &wanted.namespace {
            asked.text("w.namespace = ?", namespace);
        }
        match &wanted.name {
            Name::Any => {}
            Name::Exact(name) => asked.text("w.name = ?", name),
            Name::Prefix(prefix) => asked.text("starts_with(w.name, ?)", prefix),
            Name::Contains(part) => asked.text("strpos(w.name, ?) > 0", part),
        }
        if let Some(at) = &wanted.started_after {
            asked.text(&format!("w.startedat > {}", time("?")), at);
        }
        if let Some(at) = &wanted.started_before {
            asked.text(&format!("w.startedat < {}", time("?")), at);
        }
        wanted.labels.requirements().iter().for_each(|requirement| asked.label(requirement));
        asked
    }

    fn label(&mut self, Requirement { key, wanted }: &Requirement) {
        let key = self.mark(Given::Text(key.clone()));
        let row = format!(
            "SELECT 1 FROM argo_archived_workflows_labels l \
             WHERE l.clustername = w.clustername AND l.uid = w.uid AND l.name = {key}"
        );
        // What is no number is neither larger nor smaller.
        let compared = |sign: &str, mark: String| {
            let number = "CASE WHEN l.value ~ '^-?[0-9]{1,18}$' THEN l.value::bigint END";
            format!("EXISTS ({row} AND {number} {sign} {mark})")
        };
        let condition = match wanted {
            WantedLabel::Exists => format!("EXISTS ({row})"),
            WantedLabel::Absent => format!("NOT EXISTS ({row})"),
            WantedLabel::In(list) => {
                format!("EXISTS ({row} AND l.value = ANY({}))", self.mark(Given::Texts(list.clone())))
            }
            WantedLabel::NotIn(list) => {
                format!("NOT EXISTS ({row} AND l.value = ANY({}))", self.mark(Given::Texts(list.clone())))
            }
            WantedLabel::Greater(n) => compared(">", self.mark(Given::Number(*n))),
            WantedLabel::Less(n) => compared("<", self.mark(Given::Number(*n))),
        };
        self.conditions.push(condition);
    }

    /// Adds a condition on one text, which is where its `?` is.
    pub(super) fn text(&mut self, condition: &str, text: &str) {
        let mark = self.mark(Given::Text(text.to_owned()));
        self.conditions.push(condition.replacen('?', &mark, 1));
    }

    /// Adds a value; what stands for it in the text.
    pub(super) fn mark(&mut self, value: Given) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// `WHERE …`
    pub(super) fn conditions(&self) -> String {
        match self.conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.conditions.join(" AND ")),
        }
    }

    /// The values, in their order.
    pub(super) fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(Given::value).collect()
    }
}
